"""The Detector: layers of material along the depth axis, each divided into cells by a readout.

Everything here is immutable, keyword-only and checked on construction. A `Detector` knows only what
its file says; what physics makes of it (radiation lengths, sampling fraction) is in `derived.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from types import MappingProxyType

import numpy as np
from numpy.typing import ArrayLike

from anycalo.geometry.fields import InvalidField, instances, integer, number, pair, text
from anycalo.geometry.readouts import Readout


def _read_only(values: ArrayLike) -> np.ndarray:
    array = np.array(values, dtype=np.float64)
    array.setflags(write=False)
    return array


@dataclass(frozen=True, kw_only=True)
class Slab:
    """One sheet of one material.

    Args:
        material: a Geant4 NIST name (`G4_W`) or a material defined in the detector.
        thickness_mm: along the depth axis, above 0.
        sensitive: whether energy deposited here is visible.
    """

    material: str
    thickness_mm: float
    sensitive: bool = False

    def __post_init__(self) -> None:
        text("material", self.material)
        object.__setattr__(self, "thickness_mm", number("thickness_mm", self.thickness_mm, positive=True))
        if not isinstance(self.sensitive, bool):
            raise InvalidField("sensitive", f"sensitive is {self.sensitive!r}; expected true or false")


@dataclass(frozen=True, kw_only=True)
class Layer:
    """What is read out together: a stack of slabs, repeated, and the cells that divide it.

    Args:
        stack: slabs from the front to the back.
        stack_repeat: how often the stack follows itself within this layer.
        readout: the cells.
    """

    stack: tuple[Slab, ...]
    stack_repeat: int = 1
    readout: Readout

    def __post_init__(self) -> None:
        object.__setattr__(self, "stack", instances("stack", self.stack, Slab))
        object.__setattr__(self, "stack_repeat", integer("stack_repeat", self.stack_repeat))
        if not isinstance(self.readout, Readout):
            raise InvalidField("readout", f"readout is {self.readout!r}; expected Rectangular, Edges, Polar or Hexagonal")
        if not any(slab.sensitive for slab in self.stack):
            raise InvalidField("stack", "stack has no sensitive slab; expected at least one with sensitive = true")

    @property
    def slabs(self) -> tuple[Slab, ...]:
        """The stack written out, `stack_repeat` times."""
        return self.stack * self.stack_repeat


@dataclass(frozen=True, kw_only=True)
class Section:
    """Layers that follow one another `repeat` times."""

    layers: tuple[Layer, ...]
    repeat: int = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "layers", instances("layer", self.layers, Layer))
        object.__setattr__(self, "repeat", integer("repeat", self.repeat))
        if not self.layers:
            raise InvalidField("layer", "section has no layer; expected at least one [[section.layer]]")


@dataclass(frozen=True, kw_only=True)
class CustomMaterial:
    """A material that Geant4's NIST table lacks.

    Args:
        density_g_cm3: mass density.
        mass_fractions: Geant4 NIST names to fractions by weight, which add up to 1 within 1e-3 and are normalised.
    """

    density_g_cm3: float
    mass_fractions: Mapping[str, float] = field(hash=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "density_g_cm3", number("density_g_cm3", self.density_g_cm3, positive=True))
        if not isinstance(self.mass_fractions, Mapping) or not self.mass_fractions:
            found = f"mass_fractions is {self.mass_fractions!r}"
            raise InvalidField("mass_fractions", f"{found}; expected {{ G4_X = fraction, ... }}")
        fractions = {k: number("mass_fractions", v, positive=True) for k, v in self.mass_fractions.items()}
        total = sum(fractions.values())
        if abs(total - 1) > 1e-3:
            raise InvalidField("mass_fractions", f"mass_fractions add up to {total:.4g}; expected 1")
        if abs(total - 1) > 1e-9:  # not below, so that what was normalised once reads back to the last digit
            fractions = {k: v / total for k, v in fractions.items()}
        object.__setattr__(self, "mass_fractions", MappingProxyType(fractions))


@dataclass(frozen=True, kw_only=True)
class Detector:
    """A sampling calorimeter: sections of layers behind a flat front face at z = 0.

    Args:
        name: for titles and file names.
        description: one sentence, with the source of the numbers.
        sections: from the front to the back.
        materials: materials that the Geant4 NIST table lacks, by name.
        size_mm: full width in x and y of every slab.
        field_tesla: strength of the uniform magnetic field along +x.
        threshold_mip: cells below this multiple of the layer's MIP deposit are suppressed by the readout.
        world_material: what surrounds the calorimeter.

    Raises:
        DetectorError: for any value that cannot be built.
    """

    name: str
    sections: tuple[Section, ...]
    description: str = ""
    materials: Mapping[str, CustomMaterial] = field(default_factory=dict)
    size_mm: tuple[float, float] = (1000.0, 1000.0)
    field_tesla: float = 0.0
    threshold_mip: float = 0.0
    world_material: str = "G4_Galactic"

    def __post_init__(self) -> None:
        set_ = object.__setattr__
        text("name", self.name)
        text("description", self.description, empty=True)
        text("world_material", self.world_material)
        set_(self, "sections", instances("section", self.sections, Section))
        if not self.sections:
            raise InvalidField("section", "the detector has no section; expected at least one [[section]]")
        set_(self, "materials", MappingProxyType(dict(self.materials)))
        set_(self, "size_mm", pair("size_mm", self.size_mm, positive=True))
        set_(self, "field_tesla", number("field_tesla", self.field_tesla, minimum=0.0))
        set_(self, "threshold_mip", number("threshold_mip", self.threshold_mip, minimum=0.0))
        if self.field_tesla > 50:
            raise InvalidField("field_tesla", f"field_tesla is {self.field_tesla}; expected tesla, at most 50")
        from anycalo.geometry.materials import check_materials

        check_materials(self)

    @cached_property
    def _canonical(self) -> str:
        from anycalo.geometry.file import write

        return write(self)

    def __hash__(self) -> int:
        return hash(self._canonical)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Detector) and self._canonical == other._canonical

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Detector.from_toml, (self._canonical,)

    @cached_property
    def layers(self) -> tuple[Layer, ...]:
        """Every readout layer from the front to the back, repeats written out."""
        return tuple(layer for section in self.sections for _ in range(section.repeat) for layer in section.layers)

    @property
    def n_layers(self) -> int:
        """Number of readout layers, L."""
        return len(self.layers)

    def between_sides(self, x_mm: np.ndarray, y_mm: np.ndarray) -> np.ndarray:
        """Whether positions (P,) lie between the sides of the slabs, (P,)."""
        half_x, half_y = (size / 2 for size in self.size_mm)
        inside: np.ndarray = (np.abs(x_mm) <= half_x) & (np.abs(y_mm) <= half_y)
        return inside

    def with_readout(self, readout: Readout) -> Detector:
        """The same detector with every layer divided into these cells."""
        sections = [
            replace(section, layers=tuple(replace(layer, readout=readout) for layer in section.layers))
            for section in self.sections
        ]
        return replace(self, sections=tuple(sections))

    @cached_property
    def layer_thickness_mm(self) -> np.ndarray:
        """Thickness of each layer, shape (L,)."""
        return _read_only([sum(s.thickness_mm for s in layer.slabs) for layer in self.layers])

    @cached_property
    def layer_front_mm(self) -> np.ndarray:
        """Depth of the front of each layer, shape (L,)."""
        return _read_only(np.concatenate([[0.0], np.cumsum(self.layer_thickness_mm)[:-1]]))

    @cached_property
    def layer_z_mm(self) -> np.ndarray:
        """Depth of the centre of gravity of each layer's sensitive slabs, shape (L,)."""
        centres = []
        for front, layer in zip(self.layer_front_mm, self.layers, strict=True):
            z, moment, total = front, 0.0, 0.0
            for slab in layer.slabs:
                if slab.sensitive:
                    moment += slab.thickness_mm * (z + slab.thickness_mm / 2)
                    total += slab.thickness_mm
                z += slab.thickness_mm
            centres.append(moment / total)
        return _read_only(centres)

    @property
    def depth_mm(self) -> float:
        """Total thickness."""
        return float(self.layer_thickness_mm.sum())

    @staticmethod
    def load(source: str | Path) -> Detector:
        """A preset by its name, or a detector file by its path.

        Raises:
            DetectorError: if there is neither, or the file is wrong.
        """
        from anycalo.geometry.file import load

        return load(source)

    @staticmethod
    def from_toml(text: str, *, source: str = "detector") -> Detector:
        """The detector that a TOML text describes; `source` names the text in error messages."""
        from anycalo.geometry.file import parse

        return parse(text, source=source)

    def to_toml(self) -> str:
        """The canonical TOML text: `Detector.from_toml(d.to_toml()) == d`."""
        return self._canonical

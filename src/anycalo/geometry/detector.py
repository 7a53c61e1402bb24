"""The Detector: layers of material along the depth axis, each divided into cells by a readout.

Everything here is immutable, keyword-only and checked on construction. A `Detector` knows only what
its file says; what physics makes of it (radiation lengths, sampling fraction) is in `derived.py`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike

from anycalo.errors import DetectorError


class InvalidField(DetectorError):  # noqa: N818 - it names what is invalid; nobody but the reader of files catches it
    """A value that its field cannot take.

    Args:
        key: the field, or the way to it from the top of the detector file (`("section", 0, "layer", 2)`),
            so that a reader can find its line.
        message: what was found, what is expected.
    """

    def __init__(self, key: str | tuple[str | int, ...], message: str) -> None:
        super().__init__(message)
        self.key = (key,) if isinstance(key, str) else key


def _number(key: str, value: float, *, positive: bool = False, minimum: float | None = None) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise InvalidField(key, f"{key} is {value!r}; expected a finite number (units are in the name of the key)")
    if positive and value <= 0:
        raise InvalidField(key, f"{key} is {value!r}; expected a number above 0")
    if minimum is not None and value < minimum:
        raise InvalidField(key, f"{key} is {value!r}; expected a number of at least {minimum}")
    return float(value)


def _integer(key: str, value: int, *, minimum: int = 1) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < minimum:
        raise InvalidField(key, f"{key} is {value!r}; expected a whole number of at least {minimum}")
    return value


def _pair(key: str, value: tuple[float, float], *, positive: bool = False, minimum: float | None = None) -> tuple[float, float]:
    if isinstance(value, (str, bytes)) or not hasattr(value, "__len__") or len(value) != 2:
        raise InvalidField(key, f"{key} is {value!r}; expected two numbers, for x and y")
    x, y = (_number(key, v, positive=positive, minimum=minimum) for v in value)
    return x, y


def _edges(key: str, value: tuple[float, ...]) -> tuple[float, ...]:
    if isinstance(value, (str, bytes)) or not hasattr(value, "__len__") or len(value) < 2:
        raise InvalidField(key, f"{key} is {value!r}; expected at least two edges")
    edges = tuple(_number(key, v) for v in value)
    for left, right in pairwise(edges):
        if right <= left:
            raise InvalidField(key, f"{key} overlaps: {right!r} follows {left!r}; expected strictly increasing edges")
    return edges


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
        if not isinstance(self.material, str) or not self.material:
            raise InvalidField("material", f"material is {self.material!r}; expected a name such as 'G4_W'")
        object.__setattr__(self, "thickness_mm", _number("thickness_mm", self.thickness_mm, positive=True))
        if not isinstance(self.sensitive, bool):
            raise InvalidField("sensitive", f"sensitive is {self.sensitive!r}; expected true or false")


@dataclass(frozen=True, kw_only=True)
class Rectangular:
    """Equal rectangular cells, a grid centred on the shower axis with a cell corner at the origin.

    Args:
        pitch_mm: distance between cell centres in x and y.
        offset_mm: shift of the whole grid in x and y (staggered layers).
        gap_mm: dead width between neighbouring cells in x and y; the cell is that much smaller than its pitch.
        wafer_cells: number of cells of a wafer in x and y, or none.
        wafer_gap_mm: dead width added between neighbouring wafers (guard rings).
    """

    kind: ClassVar[str] = "rectangular"
    pitch_mm: tuple[float, float]
    offset_mm: tuple[float, float] = (0.0, 0.0)
    gap_mm: tuple[float, float] = (0.0, 0.0)
    wafer_cells: tuple[int, int] | None = None
    wafer_gap_mm: tuple[float, float] = (0.0, 0.0)

    def __post_init__(self) -> None:
        set_ = object.__setattr__
        set_(self, "pitch_mm", _pair("pitch_mm", self.pitch_mm, positive=True))
        set_(self, "offset_mm", _pair("offset_mm", self.offset_mm))
        set_(self, "gap_mm", _pair("gap_mm", self.gap_mm, minimum=0.0))
        set_(self, "wafer_gap_mm", _pair("wafer_gap_mm", self.wafer_gap_mm, minimum=0.0))
        if any(g >= p for g, p in zip(self.gap_mm, self.pitch_mm, strict=True)):
            raise InvalidField("gap_mm", f"gap_mm is {list(self.gap_mm)}; expected less than pitch_mm = {list(self.pitch_mm)}")
        if self.wafer_cells is not None:
            _pair("wafer_cells", self.wafer_cells)
            set_(self, "wafer_cells", tuple(_integer("wafer_cells", n) for n in self.wafer_cells))
        elif any(self.wafer_gap_mm):
            raise InvalidField("wafer_gap_mm", "wafer_gap_mm is given without wafer_cells; expected both or neither")


@dataclass(frozen=True, kw_only=True)
class Edges:
    """Rectangular cells between explicit edges, which may be unequal.

    Args:
        x_edges_mm, y_edges_mm: strictly increasing edges; n edges make n - 1 columns (rows).
        offset_mm: shift of the whole grid in x and y.
        gap_mm: dead width centred on every inner edge.
    """

    kind: ClassVar[str] = "edges"
    x_edges_mm: tuple[float, ...]
    y_edges_mm: tuple[float, ...]
    offset_mm: tuple[float, float] = (0.0, 0.0)
    gap_mm: tuple[float, float] = (0.0, 0.0)

    def __post_init__(self) -> None:
        set_ = object.__setattr__
        set_(self, "x_edges_mm", _edges("x_edges_mm", self.x_edges_mm))
        set_(self, "y_edges_mm", _edges("y_edges_mm", self.y_edges_mm))
        set_(self, "offset_mm", _pair("offset_mm", self.offset_mm))
        set_(self, "gap_mm", _pair("gap_mm", self.gap_mm, minimum=0.0))
        for axis, edges, gap in (("x", self.x_edges_mm, self.gap_mm[0]), ("y", self.y_edges_mm, self.gap_mm[1])):
            smallest = float(np.min(np.diff(edges)))
            if gap >= smallest:
                raise InvalidField("gap_mm", f"gap_mm in {axis} is {gap}; expected less than the smallest cell, {smallest} mm")


@dataclass(frozen=True, kw_only=True)
class Polar:
    """Cells in rings and sectors around the shower axis.

    Args:
        r_edges_mm: strictly increasing ring edges, the first at least 0.
        n_phi: number of sectors; sector 0 starts at phi = 0, the +x axis.
        offset_mm: shift of the centre in x and y.
    """

    kind: ClassVar[str] = "polar"
    r_edges_mm: tuple[float, ...]
    n_phi: int
    offset_mm: tuple[float, float] = (0.0, 0.0)

    def __post_init__(self) -> None:
        edges = _edges("r_edges_mm", self.r_edges_mm)
        if edges[0] < 0:
            raise InvalidField("r_edges_mm", f"r_edges_mm starts at {edges[0]!r}; expected a radius of at least 0")
        object.__setattr__(self, "r_edges_mm", edges)
        _integer("n_phi", self.n_phi)
        object.__setattr__(self, "offset_mm", _pair("offset_mm", self.offset_mm))


@dataclass(frozen=True, kw_only=True)
class Hexagonal:
    """Regular hexagons with two sides parallel to y, one centred on the origin.

    Args:
        pitch_mm: distance between the centres of neighbours (flat to flat).
        offset_mm: shift of the grid in x and y.
        gap_mm: dead width between neighbouring cells.
    """

    kind: ClassVar[str] = "hexagonal"
    pitch_mm: float
    offset_mm: tuple[float, float] = (0.0, 0.0)
    gap_mm: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "pitch_mm", _number("pitch_mm", self.pitch_mm, positive=True))
        object.__setattr__(self, "offset_mm", _pair("offset_mm", self.offset_mm))
        object.__setattr__(self, "gap_mm", _number("gap_mm", self.gap_mm, minimum=0.0))
        if self.gap_mm >= self.pitch_mm:
            raise InvalidField("gap_mm", f"gap_mm is {self.gap_mm}; expected less than pitch_mm = {self.pitch_mm}")


Readout = Rectangular | Edges | Polar | Hexagonal
READOUTS: Mapping[str, type[Readout]] = MappingProxyType({c.kind: c for c in (Rectangular, Edges, Polar, Hexagonal)})


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
        object.__setattr__(self, "stack", tuple(self.stack))
        _integer("stack_repeat", self.stack_repeat)
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
        object.__setattr__(self, "layers", tuple(self.layers))
        _integer("repeat", self.repeat)
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
        object.__setattr__(self, "density_g_cm3", _number("density_g_cm3", self.density_g_cm3, positive=True))
        if not isinstance(self.mass_fractions, Mapping) or not self.mass_fractions:
            found = f"mass_fractions is {self.mass_fractions!r}"
            raise InvalidField("mass_fractions", f"{found}; expected {{ G4_X = fraction, ... }}")
        fractions = {k: _number("mass_fractions", v, positive=True) for k, v in self.mass_fractions.items()}
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
        if not isinstance(self.name, str) or not self.name:
            raise InvalidField("name", f"name is {self.name!r}; expected a name")
        set_(self, "sections", tuple(self.sections))
        if not self.sections:
            raise InvalidField("section", "the detector has no section; expected at least one [[section]]")
        set_(self, "materials", MappingProxyType(dict(self.materials)))
        set_(self, "size_mm", _pair("size_mm", self.size_mm, positive=True))
        set_(self, "field_tesla", _number("field_tesla", self.field_tesla, minimum=0.0))
        set_(self, "threshold_mip", _number("threshold_mip", self.threshold_mip, minimum=0.0))
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

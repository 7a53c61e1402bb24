"""What a conversion may be told; each format says which of it matters to it."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from pathlib import Path

from anycalo.errors import ConversionError
from anycalo.geometry import Detector
from anycalo.showers.incident import PARTICLE, pdg_code

ENERGY_UNIT_MEV = {"keV": 1e-3, "MeV": 1.0, "GeV": 1e3}


@dataclass(frozen=True, kw_only=True)
class Options:
    """How to read a file of another program, and how to write one. None leaves it to the format.

    Args:
        detector: where the showers happened, for formats that do not say.
        particle: a name (`gamma`, `electron`, `pi+`) or PDG code, for files that do not say.
        binning: the XML file with the voxels of a CaloChallenge file.
        seed: of the positions within voxels.
        threshold_mev: voxels below this energy, as it stands in the CaloChallenge file, are dropped.
        sampling_constant: visible energy = energy in the CaloChallenge file x this constant.
        incident_unit: of incident energies: keV, MeV or GeV.
        point_unit: of deposits: keV, MeV or GeV.
        depth: which axis of the file (x, y or z) runs along the layers' normal.
        face_mm: where the front face lies on that axis.
        origin_mm: where the particle enters, in the two other axes after rotation to the shower frame.
        rotation_rad: turn everything about the file's z axis first.
        collection: the hits of an EDM4hep file, several with commas.
        check_response: refuse a file whose visible energy is far from what the detector should see.

    Raises:
        ConversionError: for a value that cannot be.
    """

    detector: Detector | None = None
    particle: str | int | None = None
    binning: Path | None = None
    seed: int = 0
    threshold_mev: float | None = None
    sampling_constant: float | None = None
    incident_unit: str | None = None
    point_unit: str | None = None
    depth: str | None = None
    face_mm: float | None = None
    origin_mm: tuple[float, float] | None = None
    rotation_rad: float = 0.0
    collection: str | None = None
    check_response: bool = True

    def __post_init__(self) -> None:
        for name in ("incident_unit", "point_unit"):
            unit = getattr(self, name)
            if unit is not None and unit not in ENERGY_UNIT_MEV:
                raise ConversionError(f"{name} is {unit!r}; expected one of {', '.join(ENERGY_UNIT_MEV)}")
        if self.depth is not None and self.depth not in ("x", "y", "z"):
            raise ConversionError(f"depth is {self.depth!r}; expected the axis x, y or z")
        if self.threshold_mev is not None and not (math.isfinite(self.threshold_mev) and self.threshold_mev >= 0):
            raise ConversionError(f"threshold is {self.threshold_mev!r} MeV; expected at least 0")
        if self.sampling_constant is not None and not (math.isfinite(self.sampling_constant) and self.sampling_constant > 0):
            raise ConversionError(f"sampling constant is {self.sampling_constant!r}; expected a number above 0")
        if self.seed < 0:
            raise ConversionError(f"seed is {self.seed}; expected at least 0")
        if self.particle is not None:
            self.pdg(None)

    def given(self) -> set[str]:
        """The names of what was asked for, beyond what stands here by default."""
        return {f.name for f in fields(self) if getattr(self, f.name) != f.default}

    def pdg(self, default: int | None) -> int:
        """The PDG code asked for, or the default.

        Raises:
            ConversionError: for an unknown particle, or where there is neither.
        """
        if self.particle is None:
            if default is None:
                raise ConversionError("the file does not say which particle it holds; give the particle (gamma, electron, ...)")
            return default
        names = {name: code for code, name in PARTICLE.items()}
        text = str(self.particle)
        if text in names:
            return names[text]
        try:
            return pdg_code(int(text) if text.lstrip("+-").isdigit() else text)
        except ValueError as error:
            raise ConversionError(f"particle is {text!r}; expected one of {', '.join(names)}") from error

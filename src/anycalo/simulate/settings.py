"""What a production is asked for: the physics settings, recorded in every file."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from anycalo.errors import SimulationError

PHYSICS = {
    "opt0": "G4EmStandardPhysics",
    "opt1": "G4EmStandardPhysics_option1",
    "opt2": "G4EmStandardPhysics_option2",
    "opt3": "G4EmStandardPhysics_option3",
    "opt4": "G4EmStandardPhysics_option4",
    "gs": "G4EmStandardPhysicsGS",
}


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Physics settings of a Geant4 production.

    Args:
        physics: the electromagnetic constructor: opt0 (the standard one), opt1 to opt4, gs.
        cut_mm: production cut in range for photons, electrons and positrons.
        fluorescence: atomic de-excitation (needs Geant4's fluorescence tables).
        merge_mm: steps of a layer in one square of this side become one point at their energy-weighted
            position; the grid has a random offset for every shower. 0 keeps every step.
    """

    physics: str = "opt0"
    cut_mm: float = 0.1
    fluorescence: bool = False
    merge_mm: float = 1.0

    def __post_init__(self) -> None:
        if self.physics not in PHYSICS:
            raise SimulationError(f"physics is {self.physics!r}; expected one of {', '.join(PHYSICS)}")
        if not 0 < self.cut_mm < 1000:
            raise SimulationError(f"production cut is {self.cut_mm!r} mm; expected above 0 and below 1000")
        if not 0 <= self.merge_mm < 100:
            raise SimulationError(f"merge grid is {self.merge_mm!r} mm; expected 0 (keep every step) to below 100")

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)

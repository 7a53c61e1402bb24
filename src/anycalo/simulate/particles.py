"""Particles on their way into a Geant4 run, and at the face of the calorimeter."""

from __future__ import annotations

from dataclasses import dataclass

Vector = tuple[float, float, float]


@dataclass(frozen=True, kw_only=True)
class Primary:
    """A particle with which an event begins.

    Args:
        pdg: its code.
        energy_mev: kinetic energy.
        position_mm: in the shower frame; z is below 0 in front of the face.
        direction: unit vector.
    """

    pdg: int
    energy_mev: float
    position_mm: Vector
    direction: Vector


@dataclass(frozen=True, kw_only=True)
class Crossing:
    """A photon, electron or positron at the front face, on its way in.

    Args:
        pdg: its code.
        energy_mev: kinetic energy.
        position_mm: x and y on the face, in the shower frame.
        direction: unit vector with dz > 0.
        primary: which of the event's primaries it is, from 0; -1 if it was made on the way.
    """

    pdg: int
    energy_mev: float
    position_mm: tuple[float, float]
    direction: Vector
    primary: int

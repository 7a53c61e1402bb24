"""Incident particles: what hits the front face, and the beams they are drawn from."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from anycalo.errors import ShowersError

PDG = {"gamma": 22, "electron": 11, "positron": -11}
_ALIASES = {"photon": "gamma", "e-": "electron", "e+": "positron"}
# Pions may stand in files of other programs; by name, and so for a beam, they cannot be asked for.
PARTICLE = {code: name for name, code in PDG.items()} | {211: "pi+", -211: "pi-"}


def pdg_code(particle: str | int) -> int:
    """The PDG code of a particle name (`gamma`, `electron`, `positron`, `photon`, `e-`, `e+`) or code.

    Raises:
        ShowersError: for any other particle.
    """
    name = _ALIASES.get(str(particle), str(particle))
    if name in PDG:
        return PDG[name]
    if isinstance(particle, (int, np.integer)) and int(particle) in PARTICLE:
        return int(particle)
    raise ShowersError(f"particle {particle!r} is unknown; expected one of {', '.join([*PDG, *_ALIASES])}")


class Incident:
    """Incident particles at the front face.

    Args:
        particle: a name or PDG code for all, or an array of PDG codes, shape (B,).
        energy_mev: kinetic energy in MeV (total energy for photons), a number or shape (B,).
        direction: unit vectors (dx, dy, dz) with dz > 0, shape (3,) or (B, 3); the normal by default.
        n: number of showers, needed only when every other argument is for one particle.

    Raises:
        ShowersError: for shapes that differ, energies that are not positive, directions that leave the face.

    Example:
        >>> Incident("gamma", energy_mev=50_000, n=3).energy_mev
        array([50000., 50000., 50000.], dtype=float32)
    """

    def __init__(
        self,
        particle: str | int | ArrayLike = "gamma",
        *,
        energy_mev: ArrayLike,
        direction: ArrayLike = (0.0, 0.0, 1.0),
        n: int | None = None,
    ) -> None:
        energy = np.asarray(energy_mev, dtype=np.float32)
        pdg = np.asarray(pdg_code(particle) if isinstance(particle, (str, int)) else particle, dtype=np.int32)
        axis = np.asarray(direction, dtype=np.float32)
        lengths = {a.shape[0] for a, ndim in ((energy, 1), (pdg, 1), (axis, 2)) if a.ndim == ndim}
        if n is not None:
            lengths.add(n)
        if len(lengths) > 1:
            raise ShowersError(f"incident arrays are of lengths {sorted(lengths)}; expected one length")
        size = lengths.pop() if lengths else 1
        if energy.ndim > 1 or pdg.ndim > 1 or axis.shape not in ((3,), (size, 3)):
            raise ShowersError(f"direction is of shape {axis.shape}; expected (3,) or ({size}, 3)")
        self.energy_mev: np.ndarray = np.broadcast_to(energy, (size,)).copy()
        self.pdg: np.ndarray = np.broadcast_to(pdg, (size,)).copy()
        self.direction: np.ndarray = np.broadcast_to(axis, (size, 3)).copy()
        wrong = self.energy_mev[~(np.isfinite(self.energy_mev) & (self.energy_mev > 0))]
        if len(wrong):
            raise ShowersError(f"an incident energy is {wrong[0]} MeV; expected finite and above 0")
        for code in np.unique(self.pdg):
            pdg_code(int(code))
        norm = np.linalg.norm(self.direction, axis=1)
        if not (np.abs(norm - 1) < 1e-3).all() or not (self.direction[:, 2] > 0).all():
            raise ShowersError("directions must be unit vectors (dx, dy, dz) with dz > 0, pointing into the calorimeter")

    def __len__(self) -> int:
        return len(self.energy_mev)

    def __getitem__(self, index: slice | np.ndarray) -> Incident:
        return Incident(self.pdg[index], energy_mev=self.energy_mev[index], direction=self.direction[index])

    @property
    def theta_rad(self) -> np.ndarray:
        """Angle to the normal of the front face, shape (B,)."""
        transverse = np.hypot(self.direction[:, 0], self.direction[:, 1])
        return np.asarray(np.arctan2(transverse, self.direction[:, 2]))

    @property
    def charge(self) -> np.ndarray:
        """In units of the proton's, float32 (B,)."""
        return np.asarray(-np.sign(self.pdg) * (self.pdg != 22), dtype=np.float32)

    @property
    def particles(self) -> list[str]:
        """Names of the particles present."""
        return [PARTICLE[code] for code in sorted(set(self.pdg.tolist()))]


@dataclass(frozen=True, kw_only=True)
class Beam:
    """A recipe for incident particles.

    Args:
        particle: a name, or several names drawn with equal probability.
        energy_mev: lowest and highest energy (equal for a fixed one).
        spectrum: `uniform` or `log` (uniform in the logarithm).
        direction: the fixed direction, or the axis when `max_angle_rad` is above 0 (the normal then).
        max_angle_rad: directions uniform in solid angle up to this angle from the normal.
    """

    particle: str | tuple[str, ...] = "gamma"
    energy_mev: tuple[float, float]
    spectrum: str = "uniform"
    direction: tuple[float, float, float] = (0.0, 0.0, 1.0)
    max_angle_rad: float = 0.0

    def __post_init__(self) -> None:
        low, high = self.energy_mev
        if not (math.isfinite(high) and 0 < low <= high):
            raise ShowersError(f"energy range is {low!r} to {high!r} MeV; expected 0 < lowest <= highest")
        if self.spectrum not in ("uniform", "log"):
            raise ShowersError(f"spectrum is {self.spectrum!r}; expected 'uniform' or 'log'")
        if not 0 <= self.max_angle_rad < math.pi / 2:
            raise ShowersError(f"largest angle is {self.max_angle_rad!r} rad; expected from 0 to below pi/2")
        if self.max_angle_rad > 0 and tuple(self.direction) != (0.0, 0.0, 1.0):
            raise ShowersError("a fixed direction and a largest angle are both given; expected one of them")
        for name in self.particles:
            pdg_code(name)

    @property
    def particles(self) -> tuple[str, ...]:
        """The particle names, as a tuple."""
        return (self.particle,) if isinstance(self.particle, str) else tuple(self.particle)

    @property
    def mean_energy_mev(self) -> float:
        """Mean of the spectrum."""
        low, high = self.energy_mev
        if self.spectrum == "log" and high > low:
            return (high - low) / math.log(high / low)
        return (low + high) / 2

    def sample(self, n: int, seed: int) -> Incident:
        """Draw n particles; the first k of n are the same for every n >= k.

        Raises:
            ShowersError: if the seed is negative or the direction leaves the face.
        """
        if seed < 0:
            raise ShowersError(f"seed is {seed}; expected at least 0")
        u = np.random.default_rng([seed, 0xBEA3]).random((n, 4))
        low, high = self.energy_mev
        energy = low * (high / low) ** u[:, 0] if self.spectrum == "log" else low + (high - low) * u[:, 0]
        codes = np.array([pdg_code(p) for p in self.particles])
        pdg = codes[np.minimum((u[:, 1] * len(codes)).astype(int), len(codes) - 1)]
        if self.max_angle_rad > 0:
            cos = 1 - u[:, 2] * (1 - math.cos(self.max_angle_rad))
            sin, phi = np.sqrt(1 - cos**2), 2 * math.pi * u[:, 3]
            direction = np.stack([sin * np.cos(phi), sin * np.sin(phi), cos], axis=1)
        else:
            axis = np.asarray(self.direction, dtype=float)
            if axis.shape != (3,) or not np.isfinite(axis).all() or np.linalg.norm(axis) == 0 or axis[2] <= 0:
                raise ShowersError(f"direction is {self.direction!r}; expected (dx, dy, dz) with dz > 0")
            direction = np.broadcast_to(axis / np.linalg.norm(axis), (n, 3))
        return Incident(pdg, energy_mev=energy, direction=direction)

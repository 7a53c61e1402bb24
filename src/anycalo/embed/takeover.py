"""The model inside Geant4: which particles it takes at the face, and the deposits that it puts in their place."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
import torch

from anycalo.geometry import Detector
from anycalo.models import Model, Noise
from anycalo.showers import Incident
from anycalo.showers.incident import PDG
from anycalo.simulate.particles import Crossing


class Takeover:
    """Takes particles inside the model's domain at the face, and makes their showers at the end of each event.

    Shower k of a run follows from the seed and k, whatever else happens in its event.

    Args:
        model: which must accept the detector.
        detector: what is simulated.
        seed: of the model's noise.
        mirror: where the model knows electrons and not positrons, take a positron as an electron mirrored in y, which the
            field along x bends the same way.

    Raises:
        ModelError: if the model cannot make showers of the detector.
    """

    def __init__(self, model: Model, detector: Detector, seed: int, *, mirror: bool = True) -> None:
        model.check(detector)
        self.model = model.eval()
        self.detector = detector
        self.seed = seed
        self.seconds = 0.0
        self.lost_mev = 0.0
        particles = model.domain.particles
        self._mirror = mirror and "electron" in particles and "positron" not in particles
        self._made = 0
        self._waiting: list[Crossing] = []

    @torch.no_grad()
    def prepare(self) -> None:
        """Make a shower for nothing: the first one waits for what later ones find done."""
        domain = self.model.domain
        first = Incident(domain.particles[0], energy_mev=domain.energy_mev[0])
        self.model.sample(self.detector, first, Noise(self.seed, [0]))

    def take(self, crossing: Crossing) -> bool:
        """Whether the particle is the model's from here on: kind, energy and angle inside its domain."""
        domain = self.model.domain
        # Backscattered particles cross by the hundred: the cheap question first.
        if crossing.energy_mev < domain.energy_mev[0] * 0.999 or crossing.energy_mev > domain.energy_mev[1] * 1.001:
            return False
        if domain.particle_breaches(self._incident([crossing])[0]):
            return False
        self._waiting.append(crossing)
        return True

    @torch.no_grad()
    def finish_event(self) -> tuple[list[Crossing], np.ndarray, np.ndarray]:
        """The showers of the particles taken since the last call.

        Returns:
            The particles; their deposits, (N, 4): layer, x in mm, y in mm, energy in MeV; and for each deposit the number of
            its particle, (N,). Deposits beyond the sides of the detector are left out and summed in `lost_mev`.
        """
        taken, self._waiting = self._waiting, []
        if not taken:
            return [], np.zeros((0, 4)), np.zeros(0, dtype=np.int64)
        start = time.process_time()
        noise = Noise(self.seed, range(self._made, self._made + len(taken)))
        incident, turned = self._incident(taken)
        showers = self.model.sample(self.detector, incident, noise)
        self._made += len(taken)
        owner = showers.shower
        # The shower frame has its origin where the particle entered; its axes are those of the detector.
        at = np.array([crossing.position_mm for crossing in taken])[owner]
        x, y = showers.x_mm + at[:, 0], showers.y_mm * turned[owner] + at[:, 1]
        inside = self.detector.between_sides(x, y)
        self.lost_mev += float(showers.energy_mev[~inside].sum(dtype=np.float64))
        points = np.stack([showers.layer, x, y, showers.energy_mev], axis=1)[inside]
        self.seconds += time.process_time() - start
        return taken, points, owner[inside]

    def _incident(self, crossings: Sequence[Crossing]) -> tuple[Incident, np.ndarray]:
        """What the model is asked for, and -1 for particles that it is asked for mirrored in y, 1 for others (B,)."""
        pdg = np.array([c.pdg for c in crossings])
        direction = np.array([c.direction for c in crossings])
        turned = np.where(self._mirror & (pdg == PDG["positron"]), -1, 1)
        direction[:, 1] *= turned
        pdg = np.where(turned < 0, PDG["electron"], pdg)
        return Incident(pdg, energy_mev=np.array([c.energy_mev for c in crossings]), direction=direction), turned

"""What an export is asked for: one kind of particle, its range, one detector; checked before anything is written."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from anycalo.errors import ModelError
from anycalo.geometry import Detector
from anycalo.models import Model, Noise
from anycalo.showers import Incident

_SHOWERS = 100


@dataclass(frozen=True, kw_only=True)
class ExportRequest:
    """The particles that an exported model will be asked for.

    Args:
        particle: its name; runtimes that pass no kind of particle are bound to one.
        energy_mev: lowest and highest energy.
        max_angle_rad: largest angle to the normal.
    """

    particle: str
    energy_mev: tuple[float, float]
    max_angle_rad: float

    @staticmethod
    def of(
        model: Model,
        *,
        particle: str | None = None,
        energy_mev: tuple[float, float] | None = None,
        max_angle_rad: float | None = None,
    ) -> ExportRequest:
        """A request inside a model's domain; what is not given is the domain's, and of its particles the photon.

        Raises:
            ModelError: if the request reaches outside the domain, which no runtime would notice.
        """
        domain = model.domain
        usual = "gamma" if "gamma" in domain.particles else domain.particles[0]
        request = ExportRequest(
            particle=particle or usual,
            energy_mev=energy_mev or domain.energy_mev,
            max_angle_rad=domain.max_angle_rad if max_angle_rad is None else max_angle_rad,
        )
        for incident in request.corners():
            if breaches := domain.particle_breaches(incident):
                raise ModelError(f"{'; '.join(breaches)}. An export must stay inside the training domain: ask for less.")
        return request

    def corners(self) -> list[Incident]:
        """Single particles at the ends of the ranges."""
        slanted = (math.sin(self.max_angle_rad), 0.0, math.cos(self.max_angle_rad))
        return [
            Incident(self.particle, energy_mev=energy, direction=direction)
            for energy in self.energy_mev
            for direction in ((0.0, 0.0, 1.0), slanted)
        ]

    @property
    def charge(self) -> float:
        """Of the particle, in units of the proton's."""
        return {"gamma": 0.0, "electron": -1.0, "positron": 1.0}[self.particle]

    def most_points(self, model: Model, detector: Detector) -> int:
        """The largest number of points in 100 showers at the highest energy, half of them at the largest angle."""
        ends = self.corners()[-2:]
        half = _SHOWERS // 2
        incident = Incident(
            self.particle,
            energy_mev=self.energy_mev[1],
            direction=np.repeat(np.concatenate([end.direction for end in ends]), half, axis=0),
        )
        with torch.no_grad():
            made = [
                model.eval().sample(detector, incident[slice(k, k + 10)], Noise(0, range(k, k + 10)))
                for k in range(0, len(incident), 10)
            ]
        return max(int(showers.counts.max()) for showers in made)

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {"particle": self.particle, "energy_mev": list(self.energy_mev), "max_angle_rad": self.max_angle_rad}

"""Toy showers made in numpy: gamma-distributed depth, exponential radius, counts and energies that fluctuate."""

from __future__ import annotations

import numpy as np

from anycalo.geometry import Detector
from anycalo.showers import Beam, Incident, Showers


def toy_showers(
    detector: Detector, n: int, seed: int, *, incident: Incident | None = None, max_angle_rad: float = 0.0
) -> Showers:
    """n showers of 1 to 10 GeV photons with about 30 points a GeV; the outer layers are sometimes empty."""
    rng = np.random.default_rng([seed, 0x70])
    beam = Beam(energy_mev=(1e3, 1e4), spectrum="log", max_angle_rad=max_angle_rad)
    incident = beam.sample(n, seed) if incident is None else incident
    gev = incident.energy_mev / 1e3
    counts = np.maximum(rng.poisson(30 * gev**0.9 * np.exp(0.1 * rng.normal(size=n))), 1)
    shower = np.repeat(np.arange(n), counts)
    shape = (3 + 0.4 * np.log(gev)) * np.exp(0.15 * rng.normal(size=n))
    depth = rng.gamma(shape[shower], 0.28 * detector.n_layers / 3)
    layer = np.minimum(depth, detector.n_layers - 1e-3).astype(np.int64)
    order = np.lexsort((layer, shower))
    layer = layer[order]
    width = (1.5 + 1.5 * layer) * np.exp(0.2 * rng.normal(size=n))[shower]
    r, phi = width * rng.exponential(1.0, len(shower)), rng.uniform(0, 2 * np.pi, len(shower))
    axis = incident.direction[shower, :2] / incident.direction[shower, 2:] * detector.layer_z_mm[layer][:, None]
    energy = rng.lognormal(0, 0.7, len(shower)) * (0.3 - 0.02 * layer)
    # At most a fraction of the incident energy is visible, whatever the counts.
    visible = np.bincount(shower, energy, minlength=n)
    energy *= np.minimum(1, 0.2 * incident.energy_mev / visible)[shower]
    return Showers(
        detector=detector,
        incident=incident,
        offsets=np.concatenate([[0], np.cumsum(counts)]),
        x_mm=r * np.cos(phi) + axis[:, 0],
        y_mm=r * np.sin(phi) + axis[:, 1],
        layer=layer,
        energy_mev=energy,
        provenance={"generator": "toy", "seed": seed},
    )

"""Small detectors and random showers that tests share."""

from __future__ import annotations

import numpy as np

from anycalo.geometry import Detector
from anycalo.showers import Beam, Showers

SMALL = """
name = "small"
size_mm = [200.0, 200.0]
[readout]
kind = "rectangular"
pitch_mm = [5.0, 5.0]
[[section]]
repeat = 6
[[section.layer]]
stack = [
    { material = "G4_W", thickness_mm = 5.0 },
    { material = "G4_Si", thickness_mm = 0.5, sensitive = true },
]
"""


def random_showers(detector: Detector, n: int, seed: int, mean_points: float = 20.0) -> Showers:
    """Showers of random points, some of them empty."""
    rng = np.random.default_rng(seed)
    counts = rng.poisson(mean_points, n) * (rng.random(n) > 0.1)
    offsets = np.concatenate([[0], np.cumsum(counts)])
    points = int(offsets[-1])
    return Showers(
        detector=detector,
        incident=Beam(energy_mev=(1e3, 1e4), max_angle_rad=0.3).sample(n, seed),
        offsets=offsets,
        x_mm=rng.normal(0, 10, points),
        y_mm=rng.normal(0, 10, points),
        layer=rng.integers(0, detector.n_layers, points),
        energy_mev=rng.exponential(0.2, points),
        provenance={"generator": "random numbers", "seed": seed},
    )


def same(a: Showers, b: Showers) -> bool:
    arrays = ("offsets", "x_mm", "y_mm", "layer", "energy_mev")
    incident = ("energy_mev", "direction", "pdg")
    return all(np.array_equal(getattr(a, n), getattr(b, n)) for n in arrays) and all(
        np.array_equal(getattr(a.incident, n), getattr(b.incident, n)) for n in incident
    )

"""What every test may ask for: Geant4 when it is there, and small showers when it is not."""

from __future__ import annotations

import numpy as np
import pytest

from anycalo.errors import SimulationError
from anycalo.geometry import Detector
from anycalo.showers import Beam, Showers
from anycalo.simulate import find_data

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


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip the Geant4 tests, saying why, where Geant4 or its tables are missing."""
    marked = [item for item in items if item.get_closest_marker("geant4")]
    if not marked:
        return
    try:
        find_data()
    except SimulationError as error:
        for item in marked:
            item.add_marker(pytest.mark.skip(reason=str(error)))


@pytest.fixture(scope="session")
def small_detector() -> Detector:
    """Six layers of tungsten and silicon."""
    return Detector.from_toml(SMALL)


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

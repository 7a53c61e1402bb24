"""What every test may ask for: Geant4 when it is there, and a small detector."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings

from anycalo.errors import SimulationError
from anycalo.geometry import Detector
from anycalo.simulate import find_data
from samples import SMALL

# The same examples on every machine, and no verdict on how fast a busy one makes them.
settings.register_profile("anycalo", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("anycalo")


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

"""The axis of a shower: lines give their own direction, hot cells are those with the most energy."""

import numpy as np
import pytest

from anycalo.evaluate.angles import angle_errors, angle_metrics, shower_axis
from anycalo.geometry import Detector
from anycalo.readout import Cells
from anycalo.readout.view import View
from anycalo.showers import Incident


def _view(detector: Detector, incident: Incident, rows: list[tuple[int, int, float, float, float]]) -> View:
    """Of cells (shower, layer, x, y, energy) that need not lie on the grid."""
    shower, layer, x, y, energy = (np.array(column) for column in zip(*rows, strict=True))
    none = np.zeros(len(incident))
    cells = Cells(
        detector=detector,
        n_showers=len(incident),
        shower=shower,
        layer=layer,
        cell=np.arange(len(shower)),
        x_mm=x.astype(float),
        y_mm=y.astype(float),
        energy_mev=energy.astype(float),
        lost_gap_mev=none,
        lost_outside_mev=none,
        lost_threshold_mev=none,
    )
    return View(cells, incident)


def _line(detector: Detector, shower: int, direction: np.ndarray, energy: float = 1.0) -> list[tuple]:
    z = detector.layer_z_mm
    return [(shower, k, z[k] * direction[0] / direction[2], z[k] * direction[1] / direction[2], energy) for k in range(len(z))]


def _direction(theta: float, phi: float) -> np.ndarray:
    return np.array([np.sin(theta) * np.cos(phi), np.sin(theta) * np.sin(phi), np.cos(theta)])


def test_points_on_a_line_give_its_direction(detector: Detector) -> None:
    rng = np.random.default_rng(0)
    directions = np.array([_direction(*angles) for angles in rng.uniform((0.05, -np.pi), (0.6, np.pi), size=(20, 2))])
    view = _view(
        detector,
        Incident("gamma", energy_mev=np.full(20, 1e3), direction=directions),
        [row for k, d in enumerate(directions) for row in _line(detector, k, d, energy=1.0 + k)],
    )
    np.testing.assert_allclose(shower_axis(view), directions, atol=1e-9)
    # float32 directions of the incident particle limit the errors.
    np.testing.assert_allclose(angle_errors(view)[:, :3], 0, atol=1e-6)


def test_errors_are_signed_and_known(detector: Detector) -> None:
    true, axis = _direction(0.3, 3.1), _direction(0.35, -3.1)
    view = _view(detector, Incident("gamma", energy_mev=1e3, direction=true), _line(detector, 0, axis))
    theta, phi, opening = angle_errors(view)[0, :3]
    assert theta == pytest.approx(0.05, abs=1e-6)
    assert phi == pytest.approx(2 * (np.pi - 3.1), abs=1e-6)  # the short way round
    assert opening == pytest.approx(np.arccos(true @ axis), abs=1e-6)


def test_the_hot_cells_are_the_most_energetic(detector: Detector) -> None:
    straight, inclined = _direction(0.0, 0.0), _direction(0.4, 1.0)
    # 4% of 12 + 290 cells, rounded up, are 13: the twelve bright ones of an inclined line, and one of the others.
    others = [(0, k % 12, 0.0, 0.0, 0.01) for k in range(290)]
    view = _view(detector, Incident("gamma", energy_mev=1e3), _line(detector, 0, inclined, 5.0) + others)
    assert np.arccos(shower_axis(view, 0.04)[0] @ inclined) < 0.01
    dim = _view(detector, Incident("gamma", energy_mev=1e3), _line(detector, 0, inclined, 0.005) + others)
    np.testing.assert_allclose(shower_axis(dim, 0.04)[0], straight, atol=1e-6)


def test_what_has_no_axis_is_not_a_number(detector: Detector) -> None:
    incident = Incident("gamma", energy_mev=[1e3, 1e3, 1e3])
    view = _view(detector, incident, [(0, 3, 0, 0, 1), (0, 3, 5, 0, 1), *_line(detector, 2, _direction(0.0, 0.0))])
    errors = angle_errors(view)
    assert np.isnan(errors[:2]).all()  # one layer only, and no cell at all
    assert errors[2, 2] == pytest.approx(0, abs=1e-9)
    assert np.isnan(errors[2, :2]).all()  # along the normal there is no azimuth, and no error of theta to both sides


def test_a_worse_resolution_is_found_and_an_equal_one_is_not() -> None:
    rng = np.random.default_rng(1)
    truth, equal, worse = (np.abs(rng.normal(0, s, size=(2000, 6))) for s in (1.0, 1.0, 1.15))
    found = angle_metrics(truth, worse, matched=False, seed=0)
    name = "angle_all_opening_containment"
    assert len(found) == 12
    # 68% of a half-normal distribution lie below its standard deviation (0.994 of it).
    assert found[name].floor == pytest.approx(0.994, abs=0.06)
    assert found[name].value == pytest.approx(1.143, abs=0.07)
    assert found[name].ci[0] > found[name].floor_range[1] - 0.06
    assert found[name].ratio > 3
    assert angle_metrics(truth, equal, matched=False, seed=0)[name].ratio < 3
    truth[:, [1, 4]] = np.nan  # as along the normal
    assert not any("phi" in key for key in angle_metrics(truth, worse, matched=False, seed=0))

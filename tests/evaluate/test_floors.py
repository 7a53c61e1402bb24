"""Floors from one sample agree with what truly independent samples show.

The showers are abstract here: a pool of values with a ruler, so that thousands of samples are cheap.
"""

import numpy as np
import pytest

from anycalo.evaluate.floors import Distances, measure_floors
from anycalo.evaluate.observables import OBSERVABLES, Observable
from anycalo.evaluate.resampling import Divisions
from anycalo.evaluate.ruler import Ruler, range_edges
from anycalo.geometry import Detector
from anycalo.showers import Incident

SCALAR = OBSERVABLES["visible_energy"]
# Ten bins in which every shower puts 50 cells into one and the same bin: cells are wholly dependent.
LUMPS = Observable(
    name="lumps",
    title="",
    unit="",
    kind="spectrum",
    measure=lambda view: view.hits,
    coordinate=lambda detector: np.arange(10) + 0.5,
    edges=lambda detector: np.arange(11.0),
)


def _gaussian(n: int, rng: np.random.Generator) -> np.ndarray:
    return rng.normal(size=n)


def _lumps(n: int, rng: np.random.Generator) -> np.ndarray:
    return 50 * np.eye(10)[rng.integers(0, 10, n)]


def _incident(n: int, energy=None) -> Incident:
    return Incident("gamma", energy_mev=np.full(n, 10.0) if energy is None else energy)


def _floor(ruler: Ruler, values, n_fast: int, rng, *, incident=None, matched=False) -> tuple[float, float, float]:
    incident = _incident(len(values)) if incident is None else incident
    divisions = Divisions.of(incident, len(values), n_fast, matched=matched)
    floors = measure_floors({"it": ruler}, [{"it": values}], divisions, 100, rng, lambda n: None)
    d = floors.distances["it"]
    return d.w1.mean(), d.jsd.mean(), d.separation.mean()


def _between(ruler: Ruler, truth, fast) -> tuple[float, float, float]:
    whole = (np.arange(len(truth) + len(fast)) < len(truth))[None].astype(np.float32)
    d = Distances.of(ruler.pool(truth, fast), whole, 1 - whole)
    return d.w1[0, 0], d.jsd[0, 0], d.separation[0, 0]


@pytest.mark.parametrize(("n_truth", "n_fast"), [(400, 400), (400, 100), (400, 1500)])
@pytest.mark.parametrize(("observable", "draw"), [(SCALAR, _gaussian), (LUMPS, _lumps)], ids=["scalar", "spectrum"])
def test_half_split_floor_is_the_distance_of_independent_samples(observable, draw, n_truth, n_fast, detector: Detector) -> None:
    # 300 pairs of independent samples; the spread of W1 is 0.4 of its mean, so the mean is good to 2.5% and five
    # standard errors are 12%. Divergences lose counts in sparse tail bins in halves: 15%.
    rng = np.random.default_rng([n_truth, n_fast])
    floors, independent = [], []
    for _ in range(300):
        truth, fast = draw(n_truth, rng), draw(n_fast, rng)
        ruler = Ruler(observable, detector, truth)
        independent.append(_between(ruler, truth, fast))
        if len(floors) < 30:
            floors.append(_floor(ruler, truth, n_fast, rng))
    ratio = np.mean(floors, axis=0) / np.mean(independent, axis=0)
    np.testing.assert_allclose(ratio[0], 1, atol=0.12)
    np.testing.assert_allclose(ratio[1:], 1, atol=0.15)


def test_counting_cells_as_independent_would_miss_the_floor(detector: Detector) -> None:
    # The twin that must fail: 50 cells a shower taken as 50 showers make the floor sqrt(50) = 7.1 too small.
    rng = np.random.default_rng(3)
    showers = _lumps(300, rng)
    cells = np.eye(10)[np.repeat(showers.argmax(axis=1), 50)]
    by_shower = _floor(Ruler(LUMPS, detector, showers), showers, 300, rng)[0]
    by_cell = _floor(Ruler(LUMPS, detector, cells), cells, len(cells), rng)[0]
    assert by_shower / by_cell == pytest.approx(np.sqrt(50), rel=0.15)


def test_matched_floor_leaves_the_beam_out(detector: Detector) -> None:
    # Visible energy is a broad beam times a resolution of 5%. Samples of the same particles differ by the resolution
    # alone; a floor that ignores it would be several times too large, and flatter every model.
    rng = np.random.default_rng(4)

    def visible(energy):
        return energy * (1 + 0.05 * rng.normal(size=len(energy)))

    matched, free, true = [], [], []
    for _ in range(100):
        energy = rng.uniform(10, 90, 500)
        truth, fast = visible(energy), visible(energy)
        ruler = Ruler(SCALAR, detector, truth)
        true.append(_between(ruler, truth, fast)[0])
        if len(matched) < 25:
            matched.append(_floor(ruler, truth, 500, rng, incident=_incident(500, energy), matched=True)[0])
            free.append(_floor(ruler, truth, 500, rng, incident=_incident(500, energy))[0])
    assert np.mean(matched) / np.mean(true) == pytest.approx(1, abs=0.1)
    assert np.mean(free) / np.mean(true) > 2.5


def test_bins_come_from_the_truth_alone(detector: Detector) -> None:
    rng = np.random.default_rng(5)
    truth = _gaussian(1000, rng)
    ruler = Ruler(SCALAR, detector, truth)
    far = _between(ruler, truth, truth + 100)
    assert far[1] == pytest.approx(1, abs=0.02)  # all in the overflow bin: nearly disjoint, not lost
    density, error = ruler.density(truth)
    assert (density * np.diff(ruler.edges)).sum() == pytest.approx(0.998, abs=1e-3)
    expected = np.histogram(truth, ruler.edges)[0] / 1000
    np.testing.assert_allclose(error * np.diff(ruler.edges), np.sqrt(expected * (1 - expected) / 1000), atol=2e-4)
    assert not ruler.density(truth + 100)[0].any()


def test_whole_numbers_get_whole_bins() -> None:
    edges = range_edges(np.arange(0, 7, dtype=float))
    np.testing.assert_allclose(edges, np.arange(-0.5, 7))
    wide = range_edges(np.arange(0, 1000, dtype=float))
    assert set(np.diff(wide)) == {20.0}
    assert len(range_edges(np.full(9, 2.5))) == 2
    assert len(range_edges(np.full(3, np.nan))) == 2


def test_error_of_a_spectrum_counts_showers(detector: Detector) -> None:
    values = _lumps(400, np.random.default_rng(6))
    density, error = Ruler(LUMPS, detector, values).density(values)
    np.testing.assert_allclose(error, np.sqrt(density * (1 - density) / 400), rtol=1e-6)

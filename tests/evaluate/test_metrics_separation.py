"""Two photons: CLUE against its definition, pairs that keep every MeV, exact intervals."""

import json

import numpy as np
import pytest
from scipy.stats import binomtest

from anycalo.errors import EvaluationError
from anycalo.evaluate.clue import OUTLIER, ClueSettings, clue
from anycalo.evaluate.separation import (
    PairSettings,
    Separation,
    both_found,
    clopper_pearson,
    find_both,
    overlay,
    project,
    separate,
)
from anycalo.readout import read_out
from anycalo.showers import Incident, Showers

SETTINGS = ClueSettings(density_radius=1.0, min_density=1.5, seed_distance=1.4, outlier_distance=2.0)
QUICK = PairSettings(n_pairs=120, n_bins=6)


def _by_hand(x: np.ndarray, w: np.ndarray, s: ClueSettings) -> np.ndarray:
    """As the paper writes it, point by point."""
    n = len(w)
    d = np.linalg.norm(x[:, None] - x[None], axis=2)
    rho = np.array([sum(w[j] * (1.0 if i == j else 0.5) for j in range(n) if d[i, j] <= s.density_radius) for i in range(n)])
    order = sorted(range(n), key=lambda i: (-rho[i], i))
    cluster, seeds = np.full(n, OUTLIER), 0
    for place, i in enumerate(order):
        near = [(d[i, j], k, j) for k, j in enumerate(order[:place]) if d[i, j] <= max(s.seed_distance, s.outlier_distance)]
        delta, _, nearest = min(near) if near else (np.inf, 0, -1)
        if rho[i] >= s.min_density and delta > s.seed_distance:
            cluster[i], seeds = seeds, seeds + 1
        elif not (rho[i] < s.min_density and delta > s.outlier_distance) and nearest >= 0:
            cluster[i] = cluster[nearest]
    return cluster


@pytest.mark.parametrize("seed", range(5))
def test_clusters_are_those_of_the_definition(seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, w = rng.uniform(0, 10, size=(60, 2 + seed % 2)), rng.exponential(1.0, 60)
    expected = _by_hand(x, w, SETTINGS)
    assert expected.max() > 2
    np.testing.assert_array_equal(clue(x, w, SETTINGS), expected)


def test_two_blobs_and_a_stray_point() -> None:
    rng = np.random.default_rng(0)
    blobs = np.concatenate([rng.normal(0, 0.3, size=(50, 2)), rng.normal(8, 0.3, size=(60, 2)), [[100.0, 100.0]]])
    cluster = clue(blobs, np.full(111, 0.5), SETTINGS)
    assert set(cluster[:50]) == {1}  # the other holds more points, and so the densest
    assert set(cluster[50:110]) == {0}
    assert cluster[110] == OUTLIER
    assert len(clue(np.empty((0, 2)), np.empty(0), SETTINGS)) == 0


def test_a_pair_keeps_every_point_of_both(toy) -> None:
    showers = toy(20, 1)
    half = np.array([[3.0, 4.0], [-5.0, 0.0]])
    both = overlay(showers, np.array([2, 5]), np.array([7, 2]), half)
    assert both.counts.tolist() == [120, 120]
    one, other = showers[2], showers[7]
    np.testing.assert_allclose(both[0].x_mm, np.concatenate([one.x_mm + 3, other.x_mm - 3]), rtol=1e-5)
    np.testing.assert_allclose(both[0].y_mm, np.concatenate([one.y_mm + 4, other.y_mm - 4]), rtol=1e-5)
    np.testing.assert_array_equal(both[1].layer, np.concatenate([showers[5].layer, showers[2].layer]))
    np.testing.assert_allclose(both.visible_mev()[0], one.visible_mev()[0] + other.visible_mev()[0], rtol=1e-6)
    assert both.incident.energy_mev[0] == pytest.approx(one.incident.energy_mev[0] + other.incident.energy_mev[0])


def test_a_pair_is_found_wherever_its_middle_lies(toy) -> None:
    """Moved by whole cells, pairs are found as before; with the wrong middle the two photons lie on one side of it."""
    showers = toy(20, 1)
    half = np.tile([[20.0, 0.0]], (10, 1))
    pairs = overlay(showers, np.arange(10), np.arange(10, 20), half)
    found = both_found(pairs, half, QUICK)
    assert found.any()
    pairs.x_mm = pairs.x_mm + 40.0  # eight cells
    np.testing.assert_array_equal(both_found(pairs, half, QUICK, middle_mm=np.tile([[40.0, 0.0]], (10, 1))), found)
    assert not both_found(pairs, half, QUICK).any()


def test_efficiencies_follow_from_distances_and_what_was_found() -> None:
    distance = np.array([5.0, 15, 15, 25, 35, 35])
    found = np.array([False, False, True, True, True, True])
    settings = PairSettings(n_pairs=6, n_bins=4, max_distance_mm=40)
    same = Separation.of((distance, found), (distance, found), settings, provenance={})
    assert same.n_truth.tolist() == [1, 2, 1, 2]
    assert same.efficiency("truth")[0].tolist() == [0, 0.5, 1, 1]
    assert same.half_mm("fast") == pytest.approx(15)
    assert same.chi2 == 0
    assert Separation.of((distance, found), (distance, ~found), settings, provenance={}).p_value < 0.2


def test_cells_are_projected_along_the_particle(toy) -> None:
    direction = (0.3, 0.0, np.sqrt(1 - 0.09))
    showers = toy(200, 1, incident=Incident("gamma", energy_mev=np.full(200, 3000.0), direction=direction))
    cells = read_out(showers)
    x, _ = project(cells, showers.incident)
    assert abs(np.average(x, weights=cells.energy_mev)) < 0.5
    assert np.average(cells.x_mm, weights=cells.energy_mev) > 5


def _narrow(toy, n: int, seed: int, factor: float) -> Showers:
    showers = toy(n, seed)
    showers.x_mm *= np.float32(factor)
    showers.y_mm *= np.float32(factor)
    return showers


def test_two_narrow_showers_far_apart_are_found_and_one_place_is_one_photon(toy) -> None:
    showers = _narrow(toy, 40, 1, 0.1)
    first, second, rng = np.arange(40), (np.arange(40) + 1) % 40, np.random.default_rng(0)
    far = find_both(showers, first, second, np.full(40, 60.0), rng, QUICK)
    near = find_both(showers, first, second, np.full(40, 0.5), rng, QUICK)
    assert far.mean() > 0.95
    assert near.mean() < 0.2


def test_the_same_showers_are_found_alike_and_wider_ones_are_not(toy) -> None:
    truth = _narrow(toy, 100, 1, 0.2)
    same = separate(truth, truth, settings=QUICK)
    assert same.chi2 == 0
    assert (same.found_truth == same.found_fast).all()
    assert (same.n_truth == same.n_fast).all()
    assert same.n_truth.sum() == 120
    wide = separate(truth, _narrow(toy, 100, 1, 3.0), settings=PairSettings(n_pairs=300, n_bins=6))
    assert wide.p_value < 1e-3
    assert wide.found_fast[2:].sum() < wide.found_truth[2:].sum()  # lost in the tails
    assert wide.found_fast[0] > wide.found_truth[0]  # one photon taken for two
    seen = json.loads(json.dumps(same.to_dict()))
    assert seen["truth"]["pairs"] == same.n_truth.tolist()
    assert 0 < same.half_mm("truth") < 60


def test_samples_of_one_kind_have_a_flat_p_value(toy) -> None:
    # Five independent pairs of samples: one p below 1e-4 with a probability of 5e-4, all below 0.05 with 3e-7.
    values = [
        separate(_narrow(toy, 60, k, 0.3), _narrow(toy, 60, 100 + k, 0.3), settings=QUICK, seed=k).p_value for k in range(5)
    ]
    assert min(values) > 1e-4
    assert max(values) > 0.05


def test_intervals_are_exact() -> None:
    found, n = np.array([0, 3, 10, 10]), np.array([10, 10, 10, 200])
    low, high = clopper_pearson(found, n)
    for k in range(4):
        exact = binomtest(int(found[k]), int(n[k])).proportion_ci(0.95, method="exact")
        assert (low[k], high[k]) == pytest.approx((exact.low, exact.high))


def test_what_cannot_be_paired_is_refused(toy) -> None:
    rng = np.random.default_rng(0)
    theta = rng.uniform(0, 0.3, 50)
    directions = np.column_stack([np.sin(theta), np.zeros(50), np.cos(theta)])
    inclined = toy(50, 1, incident=Incident("gamma", energy_mev=np.full(50, 2e3), direction=directions))
    with pytest.raises(EvaluationError, match=r"directions of the truth showers lie up to .* of a fixed direction"):
        separate(inclined, inclined)
    with pytest.raises(EvaluationError, match="3 pairs in 24 bins"):
        PairSettings(n_pairs=3)
    with pytest.raises(EvaluationError, match="expected distances above 0"):
        ClueSettings(density_radius=0.0, min_density=1.0, seed_distance=1.0, outlier_distance=1.0)
    with pytest.raises(EvaluationError, match="seed is -1"):
        separate(toy(50, 1), toy(50, 2), seed=-1)

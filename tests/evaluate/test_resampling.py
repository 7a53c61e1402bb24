"""Who is compared with whom: matching, divisions, bootstrap, and whether the intervals cover."""

import numpy as np
import pytest
from scipy.stats import binom

from anycalo.evaluate.distances import signed_w1
from anycalo.evaluate.resampling import Divisions, bootstrap, centred_interval, match
from anycalo.showers import Incident


def _incident(n: int, seed: int) -> Incident:
    rng = np.random.default_rng(seed)
    return Incident("gamma", energy_mev=rng.uniform(1e3, 9e3, n))


def test_same_particles_in_another_order_are_matched() -> None:
    truth = _incident(50, 1)
    order = np.random.default_rng(2).permutation(50)
    pairs = match(truth, truth[order])
    assert pairs is not None
    np.testing.assert_array_equal(truth.energy_mev[pairs[0]], truth[order].energy_mev[pairs[1]])
    assert sorted(pairs[0]) == list(range(50))


def test_a_sample_contained_in_the_other_is_matched_to_its_partners() -> None:
    truth = _incident(50, 1)
    for pairs in (match(truth, truth[10:30]), match(truth[10:30], truth)):
        assert pairs is not None
        assert len(pairs[0]) == len(pairs[1]) == 20


def test_repeated_particles_are_paired_one_to_one() -> None:
    truth = Incident("gamma", energy_mev=[10, 20, 20, 30])
    pairs = match(truth, Incident("gamma", energy_mev=[20, 30, 20, 10]))
    assert pairs is not None
    assert len(set(pairs[0])) == len(set(pairs[1])) == 4
    assert match(truth, Incident("gamma", energy_mev=[20, 20, 20, 10])) is None


def test_other_particles_energies_or_directions_are_not_matched() -> None:
    truth = _incident(50, 1)
    assert match(truth, _incident(50, 2)) is None
    assert match(truth, Incident("electron", energy_mev=truth.energy_mev)) is None
    assert match(truth, Incident("gamma", energy_mev=truth.energy_mev, direction=(0.6, 0.0, 0.8))) is None


def test_one_fixed_beam_needs_no_matching() -> None:
    assert match(Incident("gamma", energy_mev=50.0, n=30), Incident("gamma", energy_mev=50.0, n=20)) is None


@pytest.mark.parametrize("matched", [False, True])
def test_parts_are_disjoint_halves_and_scale_as_the_inverse_sizes(matched: bool) -> None:
    divisions = Divisions.of(_incident(41, 3), 41, 20, matched=matched)
    assert divisions.factor == pytest.approx(np.sqrt((1 / 41 + 1 / 20) / (1 / 20 + 1 / 20)))
    blocks = list(divisions.draw(30, np.random.default_rng(0)))
    a, b = (np.concatenate(x) for x in zip(*blocks, strict=True))
    assert a.shape == (30, 41)
    assert set(np.unique(a + b)) <= {0, 1}
    assert (a.sum(axis=1) == 20).all()
    assert (b.sum(axis=1) == 20).all()
    assert len(np.unique(a, axis=0)) == 30


def test_a_large_pool_gives_parts_of_the_very_sizes() -> None:
    divisions = Divisions.of(_incident(90, 3), 40, 30, matched=False)
    assert divisions.factor == pytest.approx(1)
    a, b = next(divisions.draw(5, np.random.default_rng(0)))
    assert (a.sum(axis=1) == 40).all()
    assert (b.sum(axis=1) == 30).all()
    assert (a * b == 0).all()


def test_matched_parts_hold_neighbours_in_energy() -> None:
    incident = _incident(200, 4)
    matched = next(Divisions.of(incident, 200, 200, matched=True).draw(50, np.random.default_rng(0)))
    free = next(Divisions.of(incident, 200, 200, matched=False).draw(50, np.random.default_rng(0)))
    spread = [np.std((a - b) @ incident.energy_mev / 100) for a, b in (matched, free)]
    assert spread[0] < spread[1] / 20


def test_bootstrap_keeps_sizes_and_in_a_matched_design_the_pairs() -> None:
    for matched in (False, True):
        a, b = next(bootstrap(30, 30, 10, np.random.default_rng(0), matched=matched))
        assert (a[:, :30].sum(axis=1) == 30).all()
        assert not a[:, 30:].any()
        assert (b[:, 30:].sum(axis=1) == 30).all()
        assert not b[:, :30].any()
        assert np.array_equal(a[:, :30], b[:, 30:]) == matched


def _coverage(shift: float, width: float, trials: int) -> tuple[float, float]:
    """Share of 95% intervals that hold the expected distance: centred, and of the plain reflected bootstrap."""
    rng = np.random.default_rng([int(100 * shift), int(100 * width)])
    n, values, intervals, reflected = 300, [], [], []
    whole = (np.arange(2 * n) < n)[None].astype(float)
    for _ in range(trials):
        z = np.concatenate([rng.normal(size=n), rng.normal(shift, width, size=n)])
        order = np.argsort(z)
        values.append(signed_w1(z[order], (2 * whole - 1)[:, order] / n)[0])
        blocks = bootstrap(n, n, 200, rng, matched=False)
        draws = np.concatenate([signed_w1(z[order], (a - b)[:, order] / n) for a, b in blocks])
        intervals.append(centred_interval(values[-1], draws))
        reflected.append(2 * values[-1] - np.quantile(draws, [0.975, 0.025]))
    expected = np.mean(values)
    return tuple(float(np.mean([low <= expected <= high for low, high in x])) for x in (intervals, reflected))


@pytest.mark.parametrize(("shift", "width"), [(0.0, 1.0), (0.1, 1.0), (0.2, 1.0), (0.5, 1.0), (0.0, 1.2)])
def test_intervals_cover_the_expected_distance(shift: float, width: float) -> None:
    # Measured with 2,000 trials: 0.90 to 0.99 (docs/observables.md). A coverage of 0.90 falls below the limit
    # for 150 trials with probability 1e-4.
    trials = 150
    centred, reflected = _coverage(shift, width, trials)
    assert centred > binom.ppf(1e-4, trials, 0.90) / trials
    if (shift, width) == (0.0, 1.0):
        # The twin that must fail: bootstrap draws of a distance are biased upwards, and reflecting them doubles it.
        assert reflected < 0.75

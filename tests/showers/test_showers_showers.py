"""Laws of the Showers class and of incident particles."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anycalo.errors import ShowersError
from anycalo.geometry import Detector
from anycalo.showers import Beam, Incident, Showers
from samples import SMALL, random_showers, same

DETECTOR = Detector.from_toml(SMALL)


@given(st.integers(1, 30), st.integers(0, 10**6))
def test_concatenating_slices_gives_the_whole(n: int, seed: int) -> None:
    showers = random_showers(DETECTOR, n, seed)
    cuts = sorted({0, n, *np.random.default_rng(seed).integers(0, n + 1, 3).tolist()})
    parts = [showers[a:b] for a, b in pairwise(cuts)]
    assert same(Showers.concatenate(parts), showers)


@given(st.integers(1, 30), st.integers(0, 10**6))
def test_selecting_by_a_permutation_and_its_inverse_is_the_identity(n: int, seed: int) -> None:
    showers = random_showers(DETECTOR, n, seed)
    order = np.random.default_rng(seed).permutation(n)
    shuffled = showers[order]
    assert np.allclose(shuffled.visible_mev(), showers.visible_mev()[order])
    assert same(shuffled[np.argsort(order)], showers)


def test_index_mask_and_negative_index_agree() -> None:
    showers = random_showers(DETECTOR, 5, 1)
    mask = np.array([False, False, False, False, True])
    assert same(showers[4], showers[mask])
    assert same(showers[-1], showers[4])
    assert same(showers[[4]], showers[4:])


def test_energies_add_up() -> None:
    showers = random_showers(DETECTOR, 40, 2)
    np.testing.assert_allclose(showers.layer_energy_mev().sum(axis=1), showers.visible_mev(), rtol=1e-12)
    assert np.array_equal(showers.layer_counts().sum(axis=1), showers.counts)
    assert np.bincount(showers.shower, minlength=40).tolist() == showers.counts.tolist()


def test_a_split_is_disjoint_complete_recorded_and_repeatable() -> None:
    showers = random_showers(DETECTOR, 100, 3)
    first, second, third = showers.split([0.8, 0.1, 0.1], seed=4)
    energies = [set(p.incident.energy_mev.tolist()) for p in (first, second, third)]
    assert [len(p) for p in (first, second, third)] == [80, 10, 10]
    assert len(set.union(*energies)) == 100
    assert first.provenance["split"] == {"seed": 4, "fractions": [0.8, 0.1, 0.1], "part": 0}
    assert same(showers.split([0.8, 0.1, 0.1], seed=4)[1], second)
    assert not same(showers.split([0.8, 0.1, 0.1], seed=5)[1], second)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x_mm": np.zeros(3)}, "x_mm holds 3 points and energy_mev 4"),
        ({"offsets": [0, 4]}, "2 offsets for 2 showers; expected one more"),
        ({"offsets": [0, 3, 2]}, "offsets must rise from 0 to the number of points, 4"),
        ({"layer": [0, 1, 2, 6]}, "layers 0 to 6; expected 0 to 5, the layers of small"),
        ({"energy_mev": [1, 1, 1, -1]}, "a point has -1.0 MeV; expected at least 0"),
        ({"y_mm": [0, 0, 0, np.nan]}, "not finite"),
    ],
)
def test_contradictions_are_refused(change: dict[str, object], message: str) -> None:
    values = {"offsets": [0, 1, 4], "x_mm": np.zeros(4), "y_mm": np.zeros(4), "layer": np.zeros(4), "energy_mev": np.ones(4)}
    incident = Incident("gamma", energy_mev=[1.0, 2.0])
    Showers(detector=DETECTOR, incident=incident, **values)  # type: ignore[arg-type]
    with pytest.raises(ShowersError, match=message):
        Showers(detector=DETECTOR, incident=incident, **(values | change))  # type: ignore[arg-type]


def test_empty_and_impossible_selections_are_refused() -> None:
    showers = random_showers(DETECTOR, 5, 1)
    with pytest.raises(ShowersError, match="selection is empty: none of the 5"):
        showers[5:]
    with pytest.raises(ShowersError, match="shower 7 asked for; there are 5"):
        showers[[7]]
    with pytest.raises(ShowersError, match=r"a mask of shape \(4,\) for 5 showers"):
        showers[np.ones(4, dtype=bool)]
    with pytest.raises(ShowersError, match="adding up to at most 1"):
        showers.split([0.9, 0.2], seed=1)
    with pytest.raises(ShowersError, match="nothing to concatenate"):
        Showers.concatenate([])


def test_showers_of_two_detectors_cannot_be_joined() -> None:
    other = Detector.from_toml(SMALL.replace('"small"', '"other"'))
    with pytest.raises(ShowersError, match="'small' and of another 'other'"):
        Showers.concatenate([random_showers(DETECTOR, 2, 1), random_showers(other, 2, 1)])


def test_one_particle_is_broadcast() -> None:
    incident = Incident("electron", energy_mev=[1.0, 2.0, 3.0])
    assert incident.pdg.tolist() == [11, 11, 11]
    assert incident.direction.shape == (3, 3)
    assert len(Incident("gamma", energy_mev=5.0, n=4)) == 4
    assert len(Incident("gamma", energy_mev=5.0)) == 1
    assert Incident("e+", energy_mev=1.0).particles == ["positron"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"energy_mev": [1.0, 2.0], "n": 3}, r"lengths \[2, 3\]; expected one length"),
        ({"energy_mev": 0.0}, "expected finite and above 0"),
        ({"energy_mev": float("nan")}, "expected finite and above 0"),
        ({"energy_mev": 1.0, "direction": (0, 0, -1)}, "dz > 0"),
        ({"energy_mev": 1.0, "direction": (0, 0, 2)}, "unit vectors"),
        ({"energy_mev": 1.0, "particle": "muon"}, "particle 'muon' is unknown; expected one of gamma"),
    ],
)
def test_bad_particles_are_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ShowersError, match=message):
        Incident(**arguments)  # type: ignore[arg-type]


@given(st.integers(1, 50), st.integers(0, 1000), st.sampled_from(["uniform", "log"]))
def test_fewer_particles_are_a_prefix_of_more(n: int, seed: int, spectrum: str) -> None:
    beam = Beam(particle=("gamma", "electron"), energy_mev=(1.0, 100.0), spectrum=spectrum, max_angle_rad=0.7)
    few, many = beam.sample(n, seed), beam.sample(n + 10, seed)
    assert np.array_equal(few.energy_mev, many.energy_mev[:n])
    assert np.array_equal(few.direction, many.direction[:n])
    assert np.array_equal(few.pdg, many.pdg[:n])


def test_beams_have_the_distributions_they_state() -> None:
    """Kolmogorov-Smirnov against the closed forms, 4,000 draws: false alarms once in 10,000; the twin must fail."""
    from scipy.stats import kstest

    n = 4000
    log = Beam(energy_mev=(1.0, 100.0), spectrum="log").sample(n, 1)
    cone = Beam(energy_mev=(1.0, 1.0), max_angle_rad=1.0).sample(n, 2)
    assert kstest(np.log(log.energy_mev) / np.log(100), "uniform").pvalue > 1e-4
    assert kstest((1 - cone.direction[:, 2]) / (1 - math.cos(1.0)), "uniform").pvalue > 1e-4
    assert kstest(cone.theta_rad, "uniform").pvalue < 1e-4
    assert Beam(energy_mev=(1.0, 100.0), spectrum="log").mean_energy_mev == pytest.approx(99 / math.log(100))
    assert log.energy_mev.mean() == pytest.approx(99 / math.log(100), rel=0.1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"energy_mev": (0.0, 1.0)}, "expected 0 < lowest <= highest"),
        ({"energy_mev": (2.0, 1.0)}, "expected 0 < lowest <= highest"),
        ({"energy_mev": (1.0, 1.0), "spectrum": "power"}, "expected 'uniform' or 'log'"),
        ({"energy_mev": (1.0, 1.0), "max_angle_rad": 1.6}, "below pi/2"),
        ({"energy_mev": (1.0, 1.0), "particle": "pion"}, "particle 'pion' is unknown"),
        ({"energy_mev": (1.0, 1.0), "max_angle_rad": 0.1, "direction": (0.6, 0.0, 0.8)}, "expected one of them"),
    ],
)
def test_bad_beams_are_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ShowersError, match=message):
        Beam(**arguments)  # type: ignore[arg-type]


@given(st.integers(1, 20), st.integers(0, 10**6), st.floats(5.0, 60.0))
def test_contained_is_what_lies_between_the_sides(n: int, seed: int, width: float) -> None:
    showers = random_showers(replace(DETECTOR, size_mm=(width, 200.0)), n, seed)
    kept = showers.contained()
    inside = np.abs(showers.x_mm) <= width / 2
    assert np.array_equal(kept.x_mm, showers.x_mm[inside])
    np.testing.assert_allclose(
        kept.visible_mev(), np.bincount(showers.shower[inside], showers.energy_mev[inside], minlength=n), rtol=1e-6
    )
    assert np.array_equal(kept.incident.energy_mev, showers.incident.energy_mev)
    assert same(kept.contained(), kept)

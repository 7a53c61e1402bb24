"""Laws of turning steps into points, which need no Geant4."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from anycalo.geometry import Detector
from anycalo.simulate.points import merge_steps, shower_seed
from samples import SMALL

DETECTOR = Detector.from_toml(SMALL)
NORMAL = np.array([0.0, 0.0, 1.0])


def steps_of(seed: int, n: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.stack([rng.integers(0, 6, n), rng.normal(0, 5, n), rng.normal(0, 5, n), rng.exponential(0.1, n) + 1e-6], axis=1)


def merged(steps: np.ndarray, neutral: np.ndarray, merge_mm: float = 1.0, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return merge_steps(steps, neutral, detector=DETECTOR, direction=NORMAL, merge_mm=merge_mm, rng=rng)


@given(st.integers(0, 10**6), st.integers(0, 300), st.sampled_from([0.0, 0.3, 1.0, 7.0]))
def test_every_layer_keeps_its_energy_and_its_centre(seed: int, n: int, merge_mm: float) -> None:
    steps = steps_of(seed, n)
    neutral = np.random.default_rng(seed).exponential(1e-3, 6)
    points = merged(steps, neutral, merge_mm, seed)
    for layer in range(6):
        before, after = steps[steps[:, 0] == layer], points[points[:, 0] == layer]
        np.testing.assert_allclose(after[:, 3].sum(), before[:, 3].sum() + neutral[layer], rtol=1e-12)
        if len(before):
            for axis in (1, 2):
                centre = np.average(before[:, axis], weights=before[:, 3])
                np.testing.assert_allclose(np.average(after[:, axis], weights=after[:, 3]), centre, rtol=1e-9, atol=1e-9)


@given(st.integers(0, 10**6), st.integers(1, 300))
def test_merging_leaves_at_most_one_point_a_square(seed: int, n: int) -> None:
    steps = steps_of(seed, n)
    points = merged(steps, np.zeros(6), 2.0, seed)
    offset = np.random.default_rng(seed).random(2) * 2.0
    squares = np.column_stack([points[:, 0], np.floor((points[:, 1:3] + offset) / 2.0 + 1e-9)])
    assert len(points) <= n
    assert len(np.unique(squares, axis=0)) >= len(points) - 2  # a centre can fall on a line within rounding
    assert (np.diff(points[:, 0]) >= 0).all()


def test_the_grid_leaves_no_pattern() -> None:
    """Fractional positions of lonely steps are uniform; on a grid without the offset's twin they pile up."""
    positions = [merged(np.array([[0, 0.25, 0.0, 1.0], [0, 0.35, 0.0, 1.0]]), np.zeros(6), 1.0, s) for s in range(400)]
    together = np.mean([len(p) == 1 for p in positions])
    # Two steps 0.1 mm apart share a 1 mm square with probability 0.9; 400 trials: 4 sigma is 0.06.
    assert abs(together - 0.9) < 0.06


def test_what_neutral_particles_leave_in_an_empty_layer_lies_on_the_axis() -> None:
    neutral = np.array([0, 0, 0, 0.5, 0, 0.0])
    direction = np.array([0.6, 0.0, 0.8])
    rng = np.random.default_rng(0)
    points = merge_steps(np.zeros((0, 4)), neutral, detector=DETECTOR, direction=direction, merge_mm=1.0, rng=rng)
    np.testing.assert_allclose(points, [[3, DETECTOR.layer_z_mm[3] * 0.75, 0.0, 0.5]])


def test_an_empty_event_gives_no_points() -> None:
    assert merged(np.zeros((0, 4)), np.zeros(6)).shape == (0, 4)


def test_seeds_of_showers_differ_and_repeat() -> None:
    seeds = {shower_seed(s, i) for s in range(20) for i in range(500)}
    assert len(seeds) == 10_000
    assert all(0 < s < 2**63 for s in seeds)
    assert shower_seed(3, 7) == shower_seed(3, 7)

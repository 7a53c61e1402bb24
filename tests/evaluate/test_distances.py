"""Distances against closed forms, against scipy, and their laws."""

import numpy as np
import pytest
from scipy.spatial.distance import jensenshannon
from scipy.stats import norm, wasserstein_distance

from anycalo.evaluate import jensen_shannon, separation_power, w1, wasserstein

QUANTILES = norm.ppf((np.arange(4000) + 0.5) / 4000)


def test_gaussians_apart_by_d() -> None:
    for d in (0.0, 0.3, -2.0):
        assert wasserstein(QUANTILES, QUANTILES + d) == pytest.approx(abs(d), abs=1e-12)


def test_gaussians_of_two_widths() -> None:
    # W1 between N(0, 1) and N(0, s) is |s - 1| E|x| = |s - 1| sqrt(2 / pi); 4,000 quantiles reach it to 1e-3.
    assert wasserstein(QUANTILES, 1.5 * QUANTILES) == pytest.approx(0.5 * np.sqrt(2 / np.pi), rel=1e-3)


@pytest.mark.parametrize("seed", range(20))
def test_agrees_with_scipy(seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=rng.integers(1, 50)), np.round(rng.gamma(2, size=rng.integers(1, 50)), 1)
    u, v = rng.random(len(x)) + 0.01, rng.random(len(y)) + 0.01
    assert wasserstein(x, y) == pytest.approx(wasserstein_distance(x, y), rel=1e-9)
    assert wasserstein(x, y, u, v) == pytest.approx(wasserstein_distance(x, y, u, v), rel=1e-9)


def test_weights_over_a_coordinate_agree_with_scipy_for_many_at_once() -> None:
    rng = np.random.default_rng(1)
    x, p, q = np.sort(rng.normal(size=30)), rng.random((5, 30)), rng.random((5, 30))
    expected = [wasserstein_distance(x, x, a, b) for a, b in zip(p, q, strict=True)]
    np.testing.assert_allclose(w1(x, p, q), expected, rtol=1e-9)


def test_divergences_agree_with_scipy_and_the_formula() -> None:
    rng = np.random.default_rng(2)
    p, q = rng.random((4, 20)), rng.random((4, 20))
    p[:, :3] = 0
    p, q = p / p.sum(axis=1, keepdims=True), q / q.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(jensen_shannon(p, 3 * q), jensenshannon(p, q, base=2, axis=1) ** 2, rtol=1e-9)
    np.testing.assert_allclose(separation_power(p, 3 * q), ((p - q) ** 2 / (p + q)).sum(axis=1) / 2, rtol=1e-9)


@pytest.mark.parametrize("distance", [jensen_shannon, separation_power])
def test_divergences_are_symmetric_from_0_to_1(distance) -> None:
    p, q = np.array([0.2, 0.8, 0.0, 0.0]), np.array([0.0, 0.0, 0.5, 0.5])
    assert distance(p, p) == pytest.approx(0, abs=1e-12)
    assert distance(p, q) == pytest.approx(1)
    mixed = p + q
    assert distance(p, mixed) == pytest.approx(distance(mixed, p))
    assert 0 < distance(p, mixed) < 1

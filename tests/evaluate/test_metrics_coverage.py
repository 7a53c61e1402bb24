"""Precision, recall, density and coverage against brute force and closed forms."""

import numpy as np
import pytest

from anycalo.errors import EvaluationError
from anycalo.evaluate.coverage import measure_coverage


def _by_hand(truth: np.ndarray, fast: np.ndarray, k: int) -> tuple[float, float, float, float]:
    """As the papers write it, shower by shower."""

    def radius(sample: np.ndarray, i: int) -> float:
        return sorted(float(np.linalg.norm(sample[i] - sample[j])) for j in range(len(sample)) if j != i)[k - 1]

    in_truth = [[np.linalg.norm(t - f) < radius(truth, i) for f in fast] for i, t in enumerate(truth)]
    in_fast = [[np.linalg.norm(t - f) < radius(fast, j) for j, f in enumerate(fast)] for t in truth]
    balls = np.array(in_truth)
    return (
        float(balls.any(axis=0).mean()),
        float(np.array(in_fast).any(axis=1).mean()),
        float(balls.sum() / (k * len(fast))),
        float(balls.any(axis=1).mean()),
    )


@pytest.mark.parametrize(("n", "m", "k"), [(30, 30, 5), (25, 40, 3), (40, 20, 1)])
def test_the_four_numbers_are_those_of_their_definition(n: int, m: int, k: int) -> None:
    rng = np.random.default_rng([n, m])
    truth, fast = rng.normal(size=(n, 3)), rng.normal(0.5, 1.2, size=(m, 3))
    assert tuple(vars(measure_coverage(truth, fast, k)).values()) == pytest.approx(_by_hand(truth, fast, k))


def test_equal_distributions_have_the_expected_coverage_and_density() -> None:
    # Of the k nearest of the 2N - 1 others of a truth shower none is fast with probability prod (N - 1 - i) / (2N - 1 - i),
    # whatever the distribution (arXiv 2002.09797); the density is 1.
    rng = np.random.default_rng(1)
    n, k, trials = 200, 5, 40
    found = [measure_coverage(*rng.normal(size=(2, n, 4)), k) for _ in range(trials)]
    expected = 1 - np.prod([(n - 1 - i) / (2 * n - 1 - i) for i in range(k)])
    coverage, density = (np.array([getattr(f, name) for f in found]) for name in ("coverage", "density"))
    assert coverage.mean() == pytest.approx(expected, abs=4 * coverage.std() / np.sqrt(trials))
    assert density.mean() == pytest.approx(1, abs=4 * density.std() / np.sqrt(trials))


def test_each_number_finds_its_own_defect() -> None:
    rng = np.random.default_rng(2)
    truth = rng.normal(size=(400, 3))
    perfect = measure_coverage(truth, rng.normal(size=(400, 3)))
    narrow = measure_coverage(truth, rng.normal(0, 0.3, size=(400, 3)))
    wide = measure_coverage(truth, rng.normal(0, 3.0, size=(400, 3)))
    half = rng.normal(size=(400, 3))
    half[:, 0] = np.abs(half[:, 0])
    half_found = measure_coverage(truth, half)
    assert narrow.recall < 0.6 * perfect.recall
    assert narrow.density > 1.1 * perfect.density
    assert wide.precision < 0.6 * perfect.precision
    assert half_found.coverage < 0.75 * perfect.coverage
    # Showers that are missing altogether leave the others as precise as they were: precision is blind to them.
    assert half_found.precision == pytest.approx(perfect.precision, abs=0.05)


def test_too_few_showers_are_refused() -> None:
    with pytest.raises(EvaluationError, match="for 5 neighbours; expected two tables of as many columns and at least 6 rows"):
        measure_coverage(np.zeros((5, 2)), np.zeros((9, 2)))

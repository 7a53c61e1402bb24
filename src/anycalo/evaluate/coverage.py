"""Precision, recall, density and coverage: fidelity and diversity from nearest neighbours.

Around every shower of a sample lies a ball that reaches to its k-th nearest neighbour in the same
sample. Precision and density ask whether fast showers fall into the balls of the truth; recall whether
truth falls into the balls of the fast sample; coverage how many balls of the truth hold a fast shower.

References:
    Kynkäänniemi et al., arXiv 1904.06991 (precision, recall).
    Naeem et al., arXiv 2002.09797 (density, coverage).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from anycalo.errors import EvaluationError

NEIGHBOURS = 5
"""The k of the k-th neighbour."""


@dataclass(frozen=True, kw_only=True)
class Coverage:
    """The four numbers.

    Args:
        precision: share of the fast showers in at least one ball of the truth.
        recall: share of the truth showers in at least one ball of the fast sample.
        density: balls of the truth that a fast shower lies in, over k, on average; may be above 1.
        coverage: share of the balls of the truth that hold at least one fast shower.
    """

    precision: float
    recall: float
    density: float
    coverage: float


def measure_coverage(truth: np.ndarray, fast: np.ndarray, k: int = NEIGHBOURS) -> Coverage:
    """Precision, recall, density and coverage of two tables of standardised features.

    Args:
        truth: features, shape (N, F); in float32 twice as fast, and precise enough.
        fast: features, shape (M, F).
        k: a ball reaches to the k-th nearest other shower of its own sample.

    Raises:
        EvaluationError: for features that do not fit together, or too few showers for k neighbours.
    """
    if truth.ndim != 2 or fast.ndim != 2 or truth.shape[1] != fast.shape[1] or min(len(truth), len(fast)) <= k:
        raise EvaluationError(
            f"features are of shapes {truth.shape} and {fast.shape} for {k} neighbours; expected two tables of as many"
            f" columns and at least {k + 1} rows"
        )
    truth_radius, fast_radius = (_radii(x, k) for x in (truth, fast))
    between = _squared_distances(truth, fast)
    in_truth_ball = between < truth_radius[:, None]
    return Coverage(
        precision=float(in_truth_ball.any(axis=0).mean()),
        recall=float((between < fast_radius[None]).any(axis=1).mean()),
        density=float(in_truth_ball.sum(axis=0).mean() / k),
        coverage=float((between.min(axis=1) < truth_radius).mean()),
    )


def _radii(x: np.ndarray, k: int) -> np.ndarray:
    """Squared distance of each row to its k-th nearest other row, shape (N,)."""
    distances = _squared_distances(x, x)
    np.fill_diagonal(distances, np.inf)
    return np.asarray(np.partition(distances, k - 1, axis=1)[:, k - 1])


def _squared_distances(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    squares = (x**2).sum(axis=1)[:, None] + (y**2).sum(axis=1)
    squares -= 2 * (x @ y.T)
    np.maximum(squares, 0.0, out=squares)
    return np.asarray(squares)

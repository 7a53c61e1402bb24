"""Fréchet and kernel physics distances between two tables of features.

Both are zero in expectation for two samples of one distribution and grow with any difference that
shows in means and covariances (FPD) or in moments up to the fourth (KPD).

References:
    Kansal et al., Phys. Rev. D 107 (2023) 076017, arXiv 2211.10295.
    Chong and Forsyth, arXiv 1911.07023 (extrapolation to infinitely many samples).
    Binkowski et al., arXiv 1801.01401 (unbiased polynomial MMD).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from anycalo.errors import EvaluationError

DEGREE = 4
"""Degree of the polynomial kernel of KPD."""


def frechet_distance(x: np.ndarray, y: np.ndarray) -> float:
    """Squared Fréchet (Wasserstein-2) distance of the normal distributions with the samples' means and covariances.

    d² = |mu_x - mu_y|² + tr(C_x + C_y - 2 (C_x C_y)^(1/2))

    Args:
        x: features, shape (N, F) with N at least 2.
        y: features, shape (M, F) with M at least 2.
    """
    mean = x.mean(axis=0) - y.mean(axis=0)
    c_x, c_y = (np.atleast_2d(np.cov(z, rowvar=False)) for z in (x, y))
    # C_x C_y has the eigenvalues of the symmetric C_x^(1/2) C_y C_x^(1/2), whose root is stable where C_x C_y is singular.
    values, vectors = np.linalg.eigh(c_x)
    root = vectors * np.sqrt(np.maximum(values, 0.0)) @ vectors.T
    cross = np.sqrt(np.maximum(np.linalg.eigvalsh(root @ c_y @ root), 0.0)).sum()
    return float(mean @ mean + np.trace(c_x) + np.trace(c_y) - 2 * cross)


def fpd_sizes(smallest: int, largest: int, points: int) -> np.ndarray:
    """Sample sizes at equal steps of 1 / N, from the smallest to the largest, shape (points,)."""
    return (1 / np.linspace(1 / smallest, 1 / largest, points)).astype(np.int64)


def fpd(
    x: np.ndarray,
    y: np.ndarray,
    *,
    rng: np.random.Generator,
    sizes: Sequence[int] | np.ndarray | None = None,
    draws: int = 4,
    replace: bool = False,
) -> float:
    """Fréchet physics distance: `frechet_distance` extrapolated to infinitely many samples.

    The distance between finite samples is too large by about a constant over N. So it is measured at
    several N, averaged over random draws, and the intercept of a straight line in 1 / N is the result. It may
    be negative for equal distributions, as an unbiased estimate must (jetnet cuts it at 0).

    Args:
        x: features, shape (N, F).
        y: features, shape (M, F).
        rng: draws the samples.
        sizes: how many showers of each to draw; four from 0.4 to all of the smaller sample by default.
        draws: how often at each size (once where both samples are drawn whole without replacement).
        replace: draw with replacement, as jetnet does; then the result is extrapolated to the distance between
            the two samples themselves, not to that between their distributions.

    Raises:
        EvaluationError: for features that do not fit together or sizes that cannot be drawn.
    """
    _check(x, y)
    smaller = min(len(x), len(y))
    sizes = fpd_sizes(max(2, int(0.4 * smaller)), smaller, 4) if sizes is None else np.asarray(sizes, dtype=np.int64)
    if len(sizes) < 2 or sizes.min() < 2 or (not replace and sizes.max() > smaller):
        raise EvaluationError(
            f"sizes for the extrapolation are {sizes.tolist()}; expected at least two, from 2 to {smaller}, the smaller sample"
        )
    means = []
    for size in sizes:
        whole = not replace and size == len(x) == len(y)
        values = []
        for _ in range(1 if whole else draws):
            i, j = (rng.choice(n, size=size, replace=replace) for n in (len(x), len(y)))
            values.append(frechet_distance(x[i], y[j]))
        means.append(np.mean(values))
    slope, intercept = np.polyfit(1 / sizes, means, 1)
    # Finite samples are always farther apart: a falling line is a fluctuation, and the best rising one is flat.
    return float(intercept) if slope >= 0 else float(np.mean(means))


def kernel_mmd(x: np.ndarray, y: np.ndarray, degree: int = DEGREE) -> float:
    """Unbiased squared maximum mean discrepancy with the kernel k(a, b) = (a.b / F + 1)^degree.

    MMD² = mean_{i != j} k(x_i, x_j) + mean_{i != j} k(y_i, y_j) - 2 mean_ij k(x_i, y_j)

    Args:
        x: features, shape (N, F); in float32 twice as fast, and precise enough.
        y: features, shape (M, F).
        degree: of the polynomial.
    """
    within = []
    for z in (x, y):
        kernel = _kernel(z, z, degree)
        diagonal = np.trace(kernel, dtype=np.float64)
        within.append((kernel.sum(dtype=np.float64) - diagonal) / (len(z) * (len(z) - 1)))
    return float(within[0] + within[1] - 2 * _kernel(x, y, degree).mean(dtype=np.float64))


def kpd(
    x: np.ndarray,
    y: np.ndarray,
    *,
    rng: np.random.Generator,
    batch: int | None = None,
    draws: int = 10,
    replace: bool = False,
) -> float:
    """Kernel physics distance: the median of `kernel_mmd` over random batches.

    Args:
        x: features, shape (N, F).
        y: features, shape (M, F).
        rng: draws the batches.
        batch: showers of each sample in a batch; half of the smaller sample, but at most 1,000, by default.
        draws: number of batches.
        replace: draw with replacement, as jetnet does; a shower drawn twice then adds a little to the distance.

    Raises:
        EvaluationError: for features that do not fit together or batches that cannot be drawn.
    """
    _check(x, y)
    smaller = min(len(x), len(y))
    batch = min(1000, smaller // 2) if batch is None else batch
    if batch < 2 or (not replace and batch > smaller):
        raise EvaluationError(f"a batch of {batch} showers is asked for; expected 2 to {smaller}, the smaller sample")
    values = []
    for _ in range(draws):
        i, j = (rng.choice(n, size=batch, replace=replace) for n in (len(x), len(y)))
        values.append(kernel_mmd(x[i], y[j]))
    return float(np.median(values))


def _kernel(x: np.ndarray, y: np.ndarray, degree: int) -> np.ndarray:
    base = x @ y.T
    base /= x.shape[1]
    base += 1.0
    power = base.copy()
    for _ in range(degree - 1):  # many times faster than raising to a power
        power *= base
    return np.asarray(power)


def _check(x: np.ndarray, y: np.ndarray) -> None:
    if x.ndim != 2 or y.ndim != 2 or x.shape[1] != y.shape[1] or min(len(x), len(y)) < 4:
        raise EvaluationError(
            f"features are of shapes {x.shape} and {y.shape}; expected two tables of as many columns and at least 4 rows"
        )

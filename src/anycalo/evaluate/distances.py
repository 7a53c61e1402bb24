"""Distances between two distributions in one dimension.

Each takes weights over common values or bins, along the last axis, so that many resamples are
compared in one call; every distance is symmetric, and 0 for equal distributions.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike


def w1(coordinate: np.ndarray, p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """Wasserstein-1 distance between weights over ascending values: the integral of |F_p - F_q|.

    W1 = sum_k |F_p(x_k) - F_q(x_k)| (x_{k+1} - x_k), exact for distributions that live on these values.

    Args:
        coordinate: ascending values x, shape (K,).
        p: weights at least 0, normalised here, shape (..., K).
        q: the other weights, likewise.

    Returns:
        In the unit of the coordinate, shape (...).
    """
    return signed_w1(coordinate, p / p.sum(axis=-1, keepdims=True) - q / q.sum(axis=-1, keepdims=True))


def signed_w1(coordinate: np.ndarray, difference: np.ndarray) -> np.ndarray:
    """`w1` of the difference of two normalised weights, shape (..., K)."""
    return np.asarray(np.abs(np.cumsum(difference, axis=-1, dtype=np.float64)[..., :-1]) @ np.diff(coordinate))


def wasserstein(x: ArrayLike, y: ArrayLike, x_weights: ArrayLike | None = None, y_weights: ArrayLike | None = None) -> float:
    """Wasserstein-1 distance between two samples, weighted or not.

    Example:
        >>> wasserstein([0.0, 1.0], [2.0, 3.0])
        2.0
    """
    a, b = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    p = np.ones(len(a)) if x_weights is None else np.asarray(x_weights, dtype=np.float64)
    q = np.ones(len(b)) if y_weights is None else np.asarray(y_weights, dtype=np.float64)
    values = np.concatenate([a, b])
    order = np.argsort(values, kind="stable")
    difference = np.concatenate([p / p.sum(), -q / q.sum()])
    return float(signed_w1(values[order], difference[order]))


def jensen_shannon(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """Jensen-Shannon divergence in bits, from 0 to 1 (disjoint), of weights over bins, shape (..., K) to (...).

    JSD = (KL(p || m) + KL(q || m)) / 2 with m = (p + q) / 2.

    References:
        J. Lin, IEEE Trans. Inf. Theory 37 (1991) 145.
    """
    p, q = _normalised(p), _normalised(q)
    m = (p + q) / 2
    return np.asarray((_kl(p, m) + _kl(q, m)) / 2)


def separation_power(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """Separation power <S^2> = 1/2 sum_k (p_k - q_k)^2 / (p_k + q_k), from 0 to 1, shape (..., K) to (...).

    References:
        CaloChallenge 2022, arXiv 2410.21611, there called separation power of the histograms.
    """
    p, q = _normalised(p), _normalised(q)
    total = p + q
    terms = np.divide((p - q) ** 2, total, out=np.zeros_like(total), where=total > 0)
    return np.asarray(terms.sum(axis=-1) / 2)


def _normalised(p: np.ndarray) -> np.ndarray:
    p = np.asarray(p, dtype=np.float64)
    return np.asarray(p / p.sum(axis=-1, keepdims=True))


def _kl(p: np.ndarray, m: np.ndarray) -> np.ndarray:
    ratio = np.divide(p, m, out=np.ones_like(m), where=p > 0)
    return np.asarray((p * np.log2(ratio)).sum(axis=-1))

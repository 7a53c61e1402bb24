"""Draws through monotone rational-quadratic splines (arXiv 1906.04032), the same as zuko's, in numpy.

Generation draws thousands of points through splines of a few layers. Here the knots of a layer are worked out once and
shared by its points, and nothing is kept for a gradient; a test compares with `zuko.transforms.MonotonicRQSTransform`.
"""

from __future__ import annotations

import math

import numpy as np

_CAP = abs(2 / math.log(1e-3))


class Splines:
    """R splines of K bins between -bound and bound, the identity beyond.

    Args:
        knots: unnormalised widths (K), heights (K) and slopes (K - 1) of each, (R, 3 K - 1).
        bound: see above.
    """

    def __init__(self, knots: np.ndarray, bound: float) -> None:
        bins = (knots.shape[1] + 1) // 3
        self.horizontal = _edges(knots[:, :bins], bound)
        self.vertical = _edges(knots[:, bins : 2 * bins], bound)
        slopes = knots[:, 2 * bins :]
        self.slopes = np.ones_like(self.horizontal)
        self.slopes[:, 1:-1] = np.exp(slopes / (1 + np.abs(slopes) * (_CAP / 2)))

    def inverse(self, y: np.ndarray, row: np.ndarray | None = None) -> np.ndarray:
        """What the splines `row` (P,) map to y (P,); by default one spline for each y."""
        row = np.arange(len(y)) if row is None else row
        bins = self.vertical.shape[1] - 1
        k = (self.vertical[row] < y[:, None]).sum(axis=1) - 1
        inside = (k >= 0) & (k < bins)
        at = row * (bins + 1) + np.clip(k, 0, bins - 1)
        flat = [table.ravel() for table in (self.horizontal, self.vertical, self.slopes)]
        (x0, y0, d0), (x1, y1, d1) = ([f[at] for f in flat], [f[at + 1] for f in flat])
        rise = y1 - y0
        slope = rise / (x1 - x0)
        above = np.where(inside, y - y0, 0)
        curve = above * (d0 + d1 - 2 * slope)
        a, b, c = rise * (slope - d0) + curve, rise * d0 - curve, -slope * above
        z = 2 * c / (-b - np.sqrt(np.maximum(b * b - 4 * a * c, 0)))
        return np.asarray(np.where(inside, x0 + z * (x1 - x0), y))


def _edges(parameters: np.ndarray, bound: float) -> np.ndarray:
    """Edges of the bins, (R, K + 1)."""
    share = np.exp(parameters / (1 + np.abs(parameters) * _CAP))
    edges = np.zeros((len(share), share.shape[1] + 1), dtype=share.dtype)
    np.cumsum(share, axis=1, out=edges[:, 1:])
    return np.asarray(bound * (2 * edges / edges[:, -1:] - 1))

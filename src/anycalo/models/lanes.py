"""Points in compiled loops, `LANES` at a time, one a column, so that every loop runs on vector registers."""

from __future__ import annotations

import math

import numpy as np

from anycalo.models.arithmetic import Array, compiled, cos_pi, sin_pi

LANES = 128
THREE, TWO_OVER_PI = np.float32(3), np.float32(2 / math.pi)


@compiled
def spread(parts: Array, n: Array, layer: int, left: int, used: int, out: Array) -> tuple[int, int]:
    """What layers give, to each of their points: the first `used` columns of `out` (F, LANES).

    Args:
        parts: what the layers give, (L, F).
        n: points of the layers, (L,).
        layer: of the first of these points.
        left: points of it that are left.
        used: how many points there are.
        out: for the result.

    Returns:
        The layer of the last point, and points of it that are left: `layer` and `left` of the next points.
    """
    filled = 0
    while filled < used:
        while left == 0:
            layer += 1
            left = n[layer]
        end = min(filled + left, used)
        for k in range(out.shape[0]):
            for p in range(filled, end):
                out[k, p] = parts[layer, k]
        left, filled = left - (end - filled), end
    return layer, left


@compiled
def radius_basis(radius: Array, out: Array) -> None:
    """`point_flow.radius_basis` of up to `LANES` radii, into the first four rows of `out`."""
    for p in range(radius.shape[0]):
        turn = radius[p] * TWO_OVER_PI
        out[0, p], out[1, p], out[2, p], out[3, p] = radius[p], radius[p] * radius[p] / THREE, sin_pi(turn), cos_pi(turn)

"""Monotone rational-quadratic splines in compiled loops, one a lane: what `point_flow` asks of zuko."""

from __future__ import annotations

import math

import numpy as np

from anycalo.models.arithmetic import HALF, ONE, TWO, ZERO, Array, Number, compiled, exp
from anycalo.models.lanes import LANES

CAP, FOUR = np.float32(abs(2 / math.log(1e-3))), np.float32(4)  # the first bounds the slopes of splines, as zuko does


@compiled
def edges(knots: Array, bins: int) -> None:
    """Unnormalised widths and heights of splines, the first 2 K rows, become upper edges of the bins, not yet normalised."""
    for j in range(2 * bins):
        for p in range(knots.shape[1]):
            knots[j, p] = exp(knots[j, p] / (ONE + abs(knots[j, p]) * CAP))
    for j in range(1, bins):
        for p in range(knots.shape[1]):
            knots[j, p] += knots[j - 1, p]
            knots[bins + j, p] += knots[bins + j - 1, p]


@compiled
def inverse_spline(knots: Array, bins: int, bound: Number, y: Array, x: Array, work: Array, index: Array) -> None:
    """What monotone rational-quadratic splines (arXiv 1906.04032), one a lane, map to y; the same as zuko's.

    Args:
        knots: widths and heights as `edges` leaves them, and unnormalised slopes, (3 K - 1, LANES).
        bins: K.
        bound: the identity beyond.
        y: (LANES,).
        x: for the result, (LANES,).
        work: for numbers on the way, (6, LANES).
        index: the same, whole numbers, (LANES,).
    """
    level, whole_y = work[0], knots[2 * bins - 1]
    for p in range(LANES):
        level[p] = (y[p] / bound + ONE) * HALF * whole_y[p]
        index[p] = 0
    for j in range(bins, 2 * bins - 1):
        for p in range(LANES):
            index[p] += knots[j, p] < level[p]
    x0, y0, wide, tall, before, behind = work[0], work[1], work[2], work[3], work[4], work[5]
    for p in range(LANES):
        k = index[p]
        x0[p] = knots[k - 1, p] if k > 0 else ZERO
        y0[p] = knots[bins + k - 1, p] if k > 0 else ZERO
        wide[p], tall[p] = knots[k, p] - x0[p], knots[bins + k, p] - y0[p]
        before[p] = knots[2 * bins + k - 1, p] if k > 0 else ZERO
        behind[p] = knots[2 * bins + k, p] if k < bins - 1 else ZERO
    for p in range(LANES):
        to_x, to_y = TWO * bound / knots[bins - 1, p], TWO * bound / whole_y[p]
        rise, run = tall[p] * to_y, wide[p] * to_x
        inside = abs(y[p]) < bound
        above = y[p] - (y0[p] * to_y - bound) if inside else ZERO
        slope = rise / run
        d0 = exp(before[p] / (ONE + abs(before[p]) * (HALF * CAP)))
        d1 = exp(behind[p] / (ONE + abs(behind[p]) * (HALF * CAP)))
        curve = above * (d0 + d1 - TWO * slope)
        a, b, c = rise * (slope - d0) + curve, rise * d0 - curve, -slope * above
        z = TWO * c / (-b - np.sqrt(max(b * b - FOUR * a * c, ZERO)))
        x[p] = x0[p] * to_x - bound + z * run if inside else y[p]

"""One shower's points divided into the ends of their tracks, compiled: what `tracks.Tracks.draw` does, point after point."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from anycalo.models.arithmetic import (
    HALF,
    ONE,
    TWO,
    ZERO,
    Array,
    Number,
    Perceptron,
    atan,
    compiled,
    cos_pi,
    exp,
    from_normal,
    inlined,
    log,
    ndtr,
    sigmoid,
    sin_pi,
)
from anycalo.models.clusters import CLOSEST as _CLOSEST
from anycalo.models.layer_features import EDGE
from anycalo.models.tracks import BASIS, INCLINED, MOST_SPREAD, NUMBERS, OF_TRACK

CLOSEST, SPREAD, INCLINATION, LAST, SMALLEST = map(np.float32, (_CLOSEST, MOST_SPREAD, INCLINED, EDGE, 1e-7))
LEAST_SHARE, PER_PI = np.float32(1e-4), np.float32(1 / math.pi)


class Tracks(NamedTuple):
    """Weights of `tracks.Tracks`.

    Args:
        trunk: what is made of a layer.
        head: of the coefficients, (hidden, NUMBERS), and `head_bias`.
        share_knots, length_knots: of the maps to normal numbers, at equal steps from -EDGE to EDGE.
    """

    trunk: Perceptron
    head: Array
    head_bias: Array
    share_knots: Array
    length_knots: Array


@inlined
def parabola(own: Array, which: int, r: Number, r2: Number, e: Number, e2: Number) -> Number:
    """Parameter `which` of `tracks.Tracks.line`."""
    k = which * BASIS
    return own[k] + own[k + 1] * e + own[k + 2] * e2 + own[k + 3] * r + own[k + 4] * r2


@inlined
def bounded(x: Number, most: Number) -> Number:
    """At most so far from 0."""
    return min(max(x, -most), most)


@compiled
def divide(
    coefficients: Array,
    seen: Array,
    normal: Array,
    direction: Array,
    z_mm: Array,
    radius_mm: Number,
    net: Tracks,
    x: Array,
    y: Array,
    energy: Array,
    layer: Array,
) -> tuple[Array, Array, Array, Array]:
    """Positions x and y [mm], energies [MeV] and layers (Q,) of the ends of P points, each followed by its weaker end.

    Args:
        coefficients: of the layers, (L, NUMBERS).
        seen: radius and energy of the points as the point flow sees them, (2, P).
        normal: standard normal numbers, (P, at least OF_TRACK); the last are used.
        direction: of the axis of the shower, a unit vector, (3,).
        z_mm: of the layers, (L,).
        radius_mm: distance within which deposits are joined.
        net: weights.
        x: of the points in the detector [mm], (P,).
        y: the same, (P,).
        energy: of the points [MeV], (P,).
        layer: of the points, (P,).
    """
    points, first = x.shape[0], normal.shape[1] - OF_TRACK
    of_x, of_y = direction[0] / direction[2], direction[1] / direction[2]
    share, way_x, way_y = np.zeros(points, np.float32), np.zeros(points, np.float32), np.zeros(points, np.float32)
    ends = points
    for p in range(points):
        k = layer[p]
        own = coefficients[k]
        r, e = seen[0, p], seen[1, p]
        r2, e2 = (r * r - ONE) * HALF, (e * e - ONE) * HALF
        chance, level = sigmoid(parabola(own, 0, r, r2, e, e2)), ndtr(normal[p, first])
        if level >= chance:
            continue
        spread = exp(bounded(parabola(own, 2, r, r2, e, e2), SPREAD))
        z = parabola(own, 1, r, r2, e, e2) + spread * normal[p, first + 1]
        heading = exp(min(max(parabola(own, 5, r, r2, e, e2), -TWO * SPREAD), SPREAD))
        out_x, out_y = x[p] - of_x * z_mm[k], y[p] - of_y * z_mm[k]
        out = max(np.sqrt(out_x * out_x + out_y * out_y), SMALLEST)
        v_x, v_y = of_x + heading * out_x / out, of_y + heading * out_y / out
        v = np.sqrt(v_x * v_x + v_y * v_y)
        spread = exp(bounded(parabola(own, 4, r, r2, e, e2), SPREAD))
        mean = parabola(own, 3, r, r2, e, e2) + own[NUMBERS - 2] * z + own[NUMBERS - 1] * log(v + INCLINATION)
        length = radius_mm * exp(from_normal(bounded(mean + spread * normal[p, first + 2], LAST), net.length_knots, LAST))
        turn = ndtr(normal[p, first + 3])
        kappa = CLOSEST * sigmoid(parabola(own, 6, r, r2, e, e2))
        step = atan((ONE - kappa) / (ONE + kappa) * -cos_pi(turn) / max(sin_pi(turn), SMALLEST)) * PER_PI
        cos, sin = cos_pi(step), sin_pi(step)
        v = max(v, SMALLEST)
        length = -length if level < chance * HALF else length
        way_x[p], way_y[p] = length * (v_x * cos - v_y * sin) / v, length * (v_x * sin + v_y * cos) / v
        share[p] = min(max(from_normal(bounded(z, LAST), net.share_knots, LAST), LEAST_SHARE), HALF)
        ends += 1
    all_x, all_y = np.empty(ends, np.float32), np.empty(ends, np.float32)
    all_energy, all_layer = np.empty(ends, np.float32), np.empty(ends, np.int16)
    at = 0
    for p in range(points):
        f = share[p]
        all_x[at], all_y[at] = x[p] - f * way_x[p], y[p] - f * way_y[p]
        all_energy[at], all_layer[at] = (ONE - f) * energy[p], layer[p]
        at += 1
        if f > ZERO:
            all_x[at], all_y[at] = x[p] + (ONE - f) * way_x[p], y[p] + (ONE - f) * way_y[p]
            all_energy[at], all_layer[at] = f * energy[p], layer[p]
            at += 1
    return all_x, all_y, all_energy, all_layer

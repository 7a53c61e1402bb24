"""One shower's clusters, compiled: what `clusters.draw_scores` does, point after point."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from anycalo.models.arithmetic import (
    HALF,
    ONE,
    TWO,
    Array,
    Number,
    Perceptron,
    affine,
    atan,
    compiled,
    cos_pi,
    exp,
    inlined,
    ndtr,
    perceptron,
    sigmoid,
    sin_pi,
)
from anycalo.models.clusters import CLOSEST as _CLOSEST
from anycalo.models.clusters import PER_KIND
from anycalo.models.clusters import STRONGEST as _STRONGEST

CLOSEST, STRONGEST, SMALLEST, HALF_TURNS = map(np.float32, (_CLOSEST, _STRONGEST, 1e-7, 2 / math.pi))


class Kinds(NamedTuple):
    """Weights of `clusters.Clusters`.

    Args:
        trunk: what is made of a layer.
        head: of the kinds of children, (hidden, PER_KIND K), and `head_bias`.
        same: how many of them are children of points of the same layer.
    """

    trunk: Perceptron
    head: Array
    head_bias: Array
    same: int


@inlined
def parabola(linear: Number, square: Number, z: Number) -> Number:
    """`clusters.by_energy` of one number."""
    return linear * z + square * (z * z - ONE) * HALF


@compiled
def add_odds(own: Array, kinds: int, first: int, last: int, z: Array, odds: Array, sums: Array) -> None:
    """Running sums (K, P + 1) of the odds of points with energy scores z (P,) as parents, kinds `first` to `last`."""
    for j in range(first, last):
        linear, square = own[6 * kinds + j], own[7 * kinds + j]
        for p in range(z.shape[0]):
            odds[p] = exp(min(max(parabola(linear, square, z[p]), -STRONGEST), STRONGEST))
        total = 0.0
        sums[j, 0] = total
        for p in range(z.shape[0]):
            total += odds[p]
            sums[j, p + 1] = total


@compiled
def draw_scores(own: Array, shared: Array, n: Array, normal: Array, net: Kinds) -> Array:
    """Scores of the P points of a shower, radius, angle in [-1, 1] and energy: (3, P).

    Args:
        own: what each layer is told, (L, C).
        shared: what all are told.
        n: points of the layers, (L,).
        normal: standard normal numbers, (P, OF_POINT).
        net: weights.
    """
    raw = affine(perceptron(own, shared, net.trunk), net.head, net.head_bias)
    kinds, points, most = raw.shape[1] // PER_KIND, normal.shape[0], n.max()
    out = np.empty((3, points), np.float32)
    kind_level, parent_level, step = np.empty(points, np.float32), np.empty(points, np.float32), np.empty(points, np.float32)
    for p in range(points):
        turn = ndtr(normal[p, 1])
        # As independent points have them.
        out[0, p], out[1, p], out[2, p] = normal[p, 0], TWO * turn - ONE, normal[p, 2]
        step[p] = -cos_pi(turn) / max(sin_pi(turn), SMALLEST)
        kind_level[p], parent_level[p] = ndtr(normal[p, 3]), ndtr(normal[p, 4])
    weight, odds = np.empty((kinds, most), np.float32), np.empty(most, np.float32)
    total, near, spread = np.empty(most, np.float32), np.empty(kinds, np.float32), np.empty(kinds, np.float32)
    sums = np.empty((kinds, most + 1), np.float64)
    parent, close = np.full(points, -1, np.int64), np.zeros(points, np.float32)
    start, before = 0, 0
    for k in range(n.shape[0]):
        z = out[2, start : start + n[k]]
        add_odds(raw[k], kinds, 0, net.same, z, odds, sums)
        add_odds(raw[k], kinds, net.same, kinds, out[2, start - before : start], odds, sums)
        for p in range(n[k]):
            total[p] = ONE
        for j in range(kinds):
            constant, linear, square = raw[k, j], raw[k, kinds + j], raw[k, 2 * kinds + j]
            for p in range(n[k]):
                weight[j, p] = exp(constant + parabola(linear, square, z[p]))
                total[p] += weight[j, p]
            near[j] = CLOSEST * sigmoid(raw[k, 3 * kinds + j])
            spread[j] = np.sqrt(ONE - near[j] * near[j])
        for p in range(n[k]):
            at = start + p
            chosen, reached, kind = kind_level[at] * total[p], ONE, 0
            while kind < kinds and chosen > reached:
                reached += weight[kind, p]
                kind += 1
            first, possible = (start, p) if kind <= net.same else (start - before, before)
            if kind == 0 or possible == 0:
                continue
            j = kind - 1
            level = np.float64(parent_level[at]) * sums[j, possible]
            low, high = 0, possible - 1
            while low < high:
                middle = (low + high) // 2
                if sums[j, middle + 1] > level:
                    high = middle
                else:
                    low = middle + 1
            parent[at] = first + low
            close[at] = raw[k, 4 * kinds + j] + raw[k, 5 * kinds + j] * out[0, parent[at]]
            out[0, at] = near[j] * out[0, parent[at]] + spread[j] * normal[at, 0]
        start, before = start + n[k], n[k]
    for p in range(points):
        kappa = CLOSEST * sigmoid(close[p])
        step[p] = HALF_TURNS * atan((ONE - kappa) / (ONE + kappa) * step[p])
    for p in range(points):
        if parent[p] >= 0:
            angle = out[1, parent[p]] + step[p]
            out[1, p] = angle - TWO * np.floor(angle * HALF + HALF)
    return out

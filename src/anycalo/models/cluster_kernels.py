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
    compiled,
    exp,
    inlined,
    ndtr,
    perceptron,
    sigmoid,
)
from anycalo.models.clusters import CLOSEST as _CLOSEST
from anycalo.models.clusters import PER_KIND
from anycalo.models.clusters import STRONGEST as _STRONGEST

CLOSEST, STRONGEST, PI, HALF_TURNS = map(np.float32, (_CLOSEST, _STRONGEST, math.pi, 2 / math.pi))


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
def add_odds(own: Array, first: int, last: int, kinds: int, start: int, stop: int, normal: Array, sums: Array) -> None:
    """Running sums (stop - start + 1, K) of the odds of points `start` to `stop` as parents, kinds `first` to `last`."""
    for j in range(first, last):
        sums[0, j] = 0.0
        linear, square = own[6 * kinds + j], own[7 * kinds + j]
        for p in range(start, stop):
            odds = exp(min(max(parabola(linear, square, normal[p, 2]), -STRONGEST), STRONGEST))
            sums[p - start + 1, j] = sums[p - start, j] + np.float64(odds)


@compiled
def draw_scores(own: Array, shared: Array, n: Array, normal: Array, net: Kinds) -> Array:
    """Scores of the P points of a shower, radius, angle in [-1, 1] and energy: (P, 3).

    Args:
        own: what each layer is told, (L, C).
        shared: what all are told.
        n: points of the layers, (L,).
        normal: standard normal numbers, (P, OF_POINT).
        net: weights.
    """
    raw = affine(perceptron(own, shared, net.trunk), net.head, net.head_bias)
    kinds = raw.shape[1] // PER_KIND
    out = np.empty((normal.shape[0], 3), np.float32)
    weight = np.empty(kinds, np.float32)
    sums = np.empty((n.max() + 1, kinds), np.float64)
    start, before = 0, 0
    for k in range(n.shape[0]):
        add_odds(raw[k], 0, net.same, kinds, start, start + n[k], normal, sums)
        add_odds(raw[k], net.same, kinds, kinds, start - before, start, normal, sums)
        for p in range(start, start + n[k]):
            z = normal[p, 2]
            total = ONE
            for j in range(kinds):
                weight[j] = exp(raw[k, j] + parabola(raw[k, kinds + j], raw[k, 2 * kinds + j], z))
                total += weight[j]
            chosen, reached = ndtr(normal[p, 3]) * total, ONE
            kind = 0
            while kind < kinds and chosen > reached:
                reached += weight[kind]
                kind += 1
            first, possible = (start, p - start) if kind <= net.same else (start - before, before)
            turn = ndtr(normal[p, 1])
            out[p, 2] = z
            if kind == 0 or possible == 0:
                out[p, 0], out[p, 1] = normal[p, 0], TWO * turn - ONE
                continue
            j = kind - 1
            level = np.float64(ndtr(normal[p, 4])) * sums[possible, j]
            low, high = 0, possible - 1
            while low < high:
                middle = (low + high) // 2
                if sums[middle + 1, j] > level:
                    high = middle
                else:
                    low = middle + 1
            parent = first + low
            near = CLOSEST * sigmoid(raw[k, 3 * kinds + j])
            close = CLOSEST * sigmoid(raw[k, 4 * kinds + j] + raw[k, 5 * kinds + j] * out[parent, 0])
            out[p, 0] = near * out[parent, 0] + np.sqrt(ONE - near * near) * normal[p, 0]
            step = np.tan(PI * (turn - HALF))
            angle = out[parent, 1] + HALF_TURNS * np.arctan((ONE - close) / (ONE + close) * step)
            out[p, 1] = angle - TWO * np.floor(angle * HALF + HALF)
        start, before = start + n[k], n[k]
    return out

"""Energy scores of one shower made standard normal at every radius, compiled: what `balance.Balance` does."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from anycalo.models.arithmetic import Array, Perceptron, affine, compiled, gelu, perceptron
from anycalo.models.lanes import LANES, radius_basis, spread
from anycalo.models.point_flow import BOUND as _BOUND
from anycalo.models.point_flow import OF_RADIUS
from anycalo.models.spline_kernels import edges, inverse_spline

BOUND = np.float32(_BOUND)


class Level(NamedTuple):
    """Weights of `balance.Balance`.

    Args:
        trunk: what is made of a layer.
        of_context, of_context_bias: the part of the second layer that a layer gives, (hidden, F).
        of_radius: the part that a radius gives, (F, OF_RADIUS).
        head: of the knots, transposed, (3 K - 1, F), and `head_bias`.
    """

    trunk: Perceptron
    of_context: Array
    of_context_bias: Array
    of_radius: Array
    head: Array
    head_bias: Array


@compiled
def balance(own: Array, shared: Array, n: Array, radius: Array, net: Level, score: Array) -> None:
    """Scores (P,) of the energies of one shower, in place.

    Args:
        own: what each layer is told, (L, C).
        shared: what all are told.
        n: points of the layers, (L,).
        radius: as the flow sees it, (P,).
        net: weights.
        score: see above.
    """
    points, features, numbers = score.shape[0], net.of_radius.shape[0], net.head.shape[0]
    bins = (numbers + 1) // 3
    of_layer = affine(perceptron(own, shared, net.trunk), net.of_context, net.of_context_bias)
    known, state = np.zeros((OF_RADIUS, LANES), np.float32), np.zeros((features, LANES), np.float32)
    seen, knots = np.zeros((features, LANES), np.float32), np.zeros((numbers, LANES), np.float32)
    z, normal, work = np.zeros(LANES, np.float32), np.zeros(LANES, np.float32), np.zeros((6, LANES), np.float32)
    index = np.zeros(LANES, np.int64)
    layer, left = 0, n[0]
    for start in range(0, points, LANES):
        used = min(LANES, points - start)
        radius_basis(radius[start : start + used], known)
        np.dot(net.of_radius, known, seen)
        layer, left = spread(of_layer, n, layer, left, used, state)
        for k in range(features):
            for p in range(LANES):
                state[k, p] = gelu(state[k, p] + seen[k, p])
        np.dot(net.head, state, knots)
        for j in range(numbers):
            for p in range(LANES):
                knots[j, p] += net.head_bias[j]
        edges(knots, bins)
        for p in range(used):
            z[p] = score[start + p]
        inverse_spline(knots, bins, BOUND, z, normal, work, index)
        for p in range(used):
            score[start + p] = normal[p]

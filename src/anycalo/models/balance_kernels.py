"""Energy scores of one shower made standard normal at every radius, compiled: what `balance.Balance` does."""

from __future__ import annotations

import numpy as np

from anycalo.models.arithmetic import Array, affine, compiled, perceptron
from anycalo.models.lanes import LANES, radius_basis
from anycalo.models.per_point_kernels import PerPoint, numbers
from anycalo.models.point_flow import BOUND as _BOUND
from anycalo.models.point_flow import OF_RADIUS
from anycalo.models.spline_kernels import edges, inverse_spline

BOUND = np.float32(_BOUND)


@compiled
def balance(own: Array, shared: Array, n: Array, radius: Array, net: PerPoint, score: Array) -> None:
    """Scores (P,) of the energies of one shower, in place.

    Args:
        own: what each layer is told, (L, C).
        shared: what all are told.
        n: points of the layers, (L,).
        radius: as the flow sees it, (P,).
        net: weights.
        score: see above.
    """
    points, features, of_spline = score.shape[0], net.of_point.shape[0], net.head.shape[0]
    bins = (of_spline + 1) // 3
    of_layer = affine(perceptron(own, shared, net.trunk), net.of_context, net.of_context_bias)
    known, knots = np.zeros((OF_RADIUS, LANES), np.float32), np.zeros((of_spline, LANES), np.float32)
    on_the_way, work = np.zeros((2, features, LANES), np.float32), np.zeros((6, LANES), np.float32)
    z, normal = np.zeros(LANES, np.float32), np.zeros(LANES, np.float32)
    index = np.zeros(LANES, np.int64)
    layer, left = 0, n[0]
    for start in range(0, points, LANES):
        used = min(LANES, points - start)
        radius_basis(radius[start : start + used], known)
        layer, left = numbers(of_layer, n, layer, left, used, known, net, on_the_way, knots)
        for j in range(of_spline):
            for p in range(LANES):
                knots[j, p] += net.head_bias[j]
        edges(knots, bins)
        for p in range(used):
            z[p] = score[start + p]
        inverse_spline(knots, bins, BOUND, z, normal, work, index)
        for p in range(used):
            score[start + p] = normal[p]

"""What `per_point.PerPoint` does, compiled, `lanes.LANES` points at a time."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from anycalo.models.arithmetic import Array, Perceptron, compiled, gelu
from anycalo.models.lanes import LANES, spread


class PerPoint(NamedTuple):
    """Weights.

    Args:
        trunk: what is made of a layer.
        of_context, of_context_bias: the part of the second layer that a layer gives, (hidden, F).
        of_point: the part that a point gives, (F, features of its own).
        head: of the numbers, transposed, (numbers, F), and `head_bias`.
    """

    trunk: Perceptron
    of_context: Array
    of_context_bias: Array
    of_point: Array
    head: Array
    head_bias: Array


@compiled
def numbers(
    of_layer: Array, n: Array, layer: int, left: int, used: int, known: Array, net: PerPoint, work: Array, out: Array
) -> tuple[int, int]:
    """The numbers of the next `used` points, without `head_bias`; returns what `spread` does.

    Args:
        of_layer: what the layers give, (L, F).
        n: points of the layers, (L,).
        layer: as for `spread`.
        left: the same.
        used: the same.
        known: features of the points' own, (features, LANES).
        net: weights.
        work: for numbers on the way, (2, F, LANES).
        out: for the result, (numbers, LANES).
    """
    state, seen = work[0], work[1]
    np.dot(net.of_point, known, seen)
    layer, left = spread(of_layer, n, layer, left, used, state)
    for k in range(state.shape[0]):
        for p in range(LANES):
            state[k, p] = gelu(state[k, p] + seen[k, p])
    np.dot(net.head, state, out)
    return layer, left

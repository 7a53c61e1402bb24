"""One shower's energies given its points, compiled: what `surroundings.densities` and `surroundings.Surroundings` do."""

from __future__ import annotations

import numpy as np

from anycalo.models.arithmetic import (
    HALF,
    ONE,
    ZERO,
    Array,
    affine,
    compiled,
    exp,
    log,
    ndtr,
    perceptron,
)
from anycalo.models.lanes import LANES, radius_basis
from anycalo.models.per_point_kernels import PerPoint, numbers
from anycalo.models.point_flow import OF_RADIUS
from anycalo.models.surroundings import ACROSS, DENSITIES, PER_NORMAL, SCALES
from anycalo.models.surroundings import WIDEST as _WIDEST

WIDEST, MIDDLE = map(np.float32, (_WIDEST, ACROSS / 2))
STEPS = np.array(SCALES, np.float32)
LAST = ACROSS - 2


@compiled
def densities(x: Array, y: Array, n: Array, out: Array) -> None:
    """`surroundings.densities` of the points of one shower, layer after layer.

    Args:
        x: from the shower axis over the distance within which deposits are joined, (P,).
        y: the same, (P,).
        n: points of the layers, (L,).
        out: for the result, (DENSITIES, P).
    """
    points, layers = x.shape[0], n.shape[0]
    end = np.cumsum(n)
    node, weight = np.empty(points, np.int64), np.empty((4, points), np.float32)
    # Of three layers in turn: as many are looked at, at any time.
    grid = np.zeros((3, ACROSS * ACROSS), np.float32)
    for s in range(STEPS.shape[0]):
        for p in range(points):
            u, v = x[p] / STEPS[s] + MIDDLE, y[p] / STEPS[s] + MIDDLE
            i, j = np.floor(u), np.floor(v)
            a, b = u - i, v - j
            inside = i >= 0 and i <= LAST and j >= 0 and j <= LAST
            node[p] = np.int64(i) * ACROSS + np.int64(j) if inside else 0
            part = ONE if inside else ZERO
            weight[0, p], weight[1, p] = (ONE - a) * (ONE - b) * part, (ONE - a) * b * part
            weight[2, p], weight[3, p] = a * (ONE - b) * part, a * b * part
        for k in range(-1, layers):
            if k + 1 < layers:
                add(grid[(k + 1) % 3], node, weight, end[k + 1] - n[k + 1], end[k + 1], ONE)
            if k < 0:
                continue
            first = end[k] - n[k]
            look(grid[k % 3], node, weight, first, end[k], out[3 * s])
            look(grid[(k + 2) % 3], node, weight, first, end[k], out[3 * s + 1])
            look(grid[(k + 1) % 3], node, weight, first, end[k], out[3 * s + 2])
            for p in range(first, end[k]):
                itself = weight[0, p] ** 2 + weight[1, p] ** 2 + weight[2, p] ** 2 + weight[3, p] ** 2
                out[3 * s, p] = max(out[3 * s, p] - itself, ZERO)
            if k > 0:
                add(grid[(k + 2) % 3], node, weight, end[k - 1] - n[k - 1], end[k - 1], ZERO)
        if layers > 0:
            add(grid[(layers - 1) % 3], node, weight, end[layers - 1] - n[layers - 1], end[layers - 1], ZERO)


@compiled
def add(grid: Array, node: Array, weight: Array, first: int, last: int, factor: np.float32) -> None:
    """Points `first` up to below `last` onto a grid; with a factor of 0, the nodes about them are emptied."""
    for p in range(first, last):
        k = node[p]
        grid[k] = (grid[k] + weight[0, p]) * factor
        grid[k + 1] = (grid[k + 1] + weight[1, p]) * factor
        grid[k + ACROSS] = (grid[k + ACROSS] + weight[2, p]) * factor
        grid[k + ACROSS + 1] = (grid[k + ACROSS + 1] + weight[3, p]) * factor


@compiled
def look(grid: Array, node: Array, weight: Array, first: int, last: int, out: Array) -> None:
    """What a grid holds about the points `first` up to below `last`."""
    for p in range(first, last):
        k = node[p]
        low = weight[0, p] * grid[k] + weight[1, p] * grid[k + 1]
        out[p] = low + (weight[2, p] * grid[k + ACROSS] + weight[3, p] * grid[k + ACROSS + 1])


@compiled
def draw_energies(
    own: Array, shared: Array, n: Array, x: Array, y: Array, radius: Array, normal: Array, net: PerPoint, out: Array
) -> None:
    """`surroundings.Surroundings.draw` of the points of one shower.

    Args:
        own: what each layer is told, (L, C).
        shared: what all are told.
        n: points of the layers, (L,).
        x: as for `densities`.
        y: the same.
        radius: as the flow sees it, (P,).
        normal: standard normal numbers, (P, OF_ENERGY).
        net: weights.
        out: for the energy scores, (P,).
    """
    points, features = x.shape[0], net.of_point.shape[0]
    normals = net.head.shape[0] // PER_NORMAL
    of_layer = affine(perceptron(own, shared, net.trunk), net.of_context, net.of_context_bias)
    around = np.empty((DENSITIES, points), np.float32)
    densities(x, y, n, around)
    known = np.zeros((OF_RADIUS + DENSITIES, LANES), np.float32)
    work = np.zeros((2, features, LANES), np.float32)
    mixture = np.zeros((PER_NORMAL * normals, LANES), np.float32)
    layer, left = 0, n[0]
    for start in range(0, points, LANES):
        used = min(LANES, points - start)
        radius_basis(radius[start : start + used], known)
        for d in range(DENSITIES):
            for p in range(used):
                known[OF_RADIUS + d, p] = log(ONE + around[d, start + p]) * HALF
        layer, left = numbers(of_layer, n, layer, left, used, known, net, work, mixture)
        for j in range(normals):
            for p in range(LANES):
                mixture[j, p] = exp(mixture[j, p] + net.head_bias[j])
        for p in range(used):
            whole = ZERO
            for j in range(normals):
                whole += mixture[j, p]
            level, reached, which = ndtr(normal[start + p, 0]) * whole, mixture[0, p], 0
            while which < normals - 1 and level > reached:
                which += 1
                reached += mixture[which, p]
            mean = mixture[normals + which, p] + net.head_bias[normals + which]
            log_width = mixture[2 * normals + which, p] + net.head_bias[2 * normals + which]
            out[start + p] = mean + exp(min(max(log_width, -WIDEST), WIDEST)) * normal[start + p, 1]

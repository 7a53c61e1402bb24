"""The points of one shower of a `caloclouds` model, compiled: `conditions`, `pointwise`, `edm` and `point_features`.

Weights are arrays that `caloclouds_engine` lays out, weights (inputs, outputs). Tests hold each function to the modules.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from anycalo.models.arithmetic import (
    ONE,
    ZERO,
    Array,
    Number,
    affine,
    asinh,
    compiled,
    exp,
    from_normal,
    log,
    product,
    sigmoid,
    sinh,
)
from anycalo.models.flow_kernels import SMALL, TINY, Maps, bias_of, weight_of
from anycalo.models.point_kernels import impose

CONDITIONS = (
    *("log_energy", "dx", "dy", "dz", "charge", "log_points", "log_width"),
    *("depth", "spacing", "log_layer_points", "log_mean_energy"),
)
"""The columns of `quantities`."""
ROWS = 32
"""Points that go through the network at once: what is made of them stays next to the processor."""
_f = np.float32


class Student(NamedTuple):
    """Weights of a `pointwise.Pointwise` that is evaluated once, at the largest noise, and what is made of its points.

    Args:
        chosen: columns of `quantities`, (C,).
        condition_mean, condition_std: of those, (C,).
        of_condition, constant: gates, then shifts of all maps, (C, 2 H) and (2 H,), the time's share in the second.
        maps: from standard normal numbers on.
        negative_slope: of the leaky rectifier.
        skip, share, mean: a point is skip times the normal numbers, share times the network's result, and mean, (3,) each.
        energy_knots: of `layer_features.Gaussianise`, at equal steps from -edge to edge.
        edge: see above.
        radial: scale of the compression of positions [mm].
        core, wide: scales at which centre and width are measured [mm].
        moments: whether they are imposed.
        log_width: from which the flow's ln width counts.
        largest: no point lies farther from the axis [mm].
        z_mm: of the layers, (L,).
    """

    chosen: Array
    condition_mean: Array
    condition_std: Array
    of_condition: Array
    constant: Array
    maps: Maps
    negative_slope: Number
    skip: Array
    share: Array
    mean: Array
    energy_knots: Array
    edge: Number
    radial: Number
    core: Number
    wide: Number
    moments: bool
    log_width: Number
    largest: Number
    z_mm: Array


@compiled
def quantities(
    energy_mev: Number, direction: Array, charge: Number, n: Array, e: Array, log_width: Number, z_mm: Array
) -> Array:
    """Everything that the layers of a shower can be told, (L, len(CONDITIONS)); see `conditions.Event`."""
    out = np.empty((n.shape[0], len(CONDITIONS)), np.float32)
    of_energy, of_points = log(_f(energy_mev)), log(_f(max(n.sum(), 1)))
    for k in range(n.shape[0]):
        count = _f(max(n[k], 1))
        out[k, 0], out[k, 4], out[k, 5], out[k, 6] = of_energy, charge, of_points, log_width
        out[k, 1], out[k, 2], out[k, 3] = direction[0], direction[1], direction[2]
        out[k, 7], out[k, 8] = z_mm[k], z_mm[k] - z_mm[k - 1] if k > 0 else z_mm[k]
        out[k, 9], out[k, 10] = log(count), log(max(e[k] / count, SMALL))
    return out


@compiled
def modulations(told: Array, net: Student) -> tuple[Array, Array]:
    """Gates and shifts of all maps for each layer, (L, H) each, of what can be told (L, len(CONDITIONS)).

    The bias of a map is in the shift: (W x + b) g + s = W x g + (b g + s).
    """
    table = np.empty((told.shape[0], net.chosen.shape[0]), np.float32)
    for k in range(table.shape[0]):
        for c in range(table.shape[1]):
            table[k, c] = (told[k, net.chosen[c]] - net.condition_mean[c]) / net.condition_std[c]
    both = affine(table, net.of_condition, net.constant)
    width = both.shape[1] // 2
    gates, shifts = np.empty((both.shape[0], width), np.float32), np.empty((both.shape[0], width), np.float32)
    start = 0
    for m in range(net.maps.table.shape[0]):
        bias = bias_of(net.maps, m)
        for k in range(both.shape[0]):
            for j in range(bias.shape[0]):
                gate = sigmoid(both[k, start + j])
                gates[k, start + j], shifts[k, start + j] = gate, both[k, width + start + j] + bias[j] * gate
        start += bias.shape[0]
    return gates, shifts


@compiled
def modulate(h: Array, row: Array, gates: Array, shifts: Array, first: int, slope: Number) -> None:
    """Gate, shift and leaky rectifier of points (P, H) in place, from column `first` of those of their layers `row` (P,)."""
    for p in range(h.shape[0]):
        gate, shift = gates[row[p], first : first + h.shape[1]], shifts[row[p], first : first + h.shape[1]]
        for j in range(h.shape[1]):
            value = shift[j] + h[p, j] * gate[j]
            h[p, j] = value if value > ZERO else slope * value


@compiled
def jump(normal: Array, row: Array, gates: Array, shifts: Array, net: Student, out: Array) -> None:
    """Points as features, (3, P), of standard normal numbers (P, 3) and the layer of each (P,)."""
    maps, last = net.maps, net.maps.table.shape[0] - 1
    widest = 0
    for m in range(last):
        widest = max(widest, maps.table[m, 1])
    here, there = np.empty(ROWS * widest, np.float32), np.empty(ROWS * widest, np.float32)
    entry = weight_of(maps, 0)
    width, inner = entry.shape[1], maps.table[last, 0]
    leave = weight_of(maps, last).T.copy()
    for start in range(0, normal.shape[0], ROWS):
        rows = min(ROWS, normal.shape[0] - start)
        z, own = normal[start : start + rows], row[start : start + rows]
        h = here[: rows * width].reshape((rows, width))
        for p in range(rows):
            for j in range(width):
                h[p, j] = z[p, 0] * entry[0, j] + z[p, 1] * entry[1, j] + z[p, 2] * entry[2, j]
        modulate(h, own, gates, shifts, 0, net.negative_slope)
        first = width
        for m in range(1, last):
            outputs = maps.table[m, 1]
            following = there[: rows * outputs].reshape((rows, outputs))
            product(h, weight_of(maps, m), following)
            modulate(following, own, gates, shifts, first, net.negative_slope)
            h, here, there, first = following, there, here, first + outputs
        for p in range(rows):
            for f in range(3):
                total = ZERO
                for j in range(inner):
                    total += h[p, j] * leave[f, j]
                made = shifts[own[p], first + f] + total * gates[own[p], first + f]
                out[f, start + p] = net.skip[f] * z[p, f] + net.share[f] * made + net.mean[f]


@compiled
def draw_points(
    energy_mev: Number,
    direction: Array,
    charge: Number,
    n: Array,
    e: Array,
    extras: Array,
    normal: Array,
    net: Student,
    x: Array,
    y: Array,
    energy: Array,
) -> None:
    """The P points of a shower, relative to its axis.

    Args:
        energy_mev: of the particle.
        direction: unit vector, (3,).
        charge: in units of the proton's.
        n: points of the layers, (L,).
        e: their energy [MeV], (L,).
        extras: centre and ln width, (3,), or nothing.
        normal: standard normal numbers, (P, 3).
        net: weights.
        x: for the result [mm], (P,).
        y: for the result [mm], (P,).
        energy: for the result [MeV], (P,).
    """
    points = normal.shape[0]
    row, made = np.empty(points, np.int64), np.empty((3, points), np.float32)
    start = 0
    for k in range(n.shape[0]):
        for p in range(start, start + n[k]):
            row[p] = k
        start += n[k]
    log_width = extras[2] if net.moments else ZERO
    gates, shifts = modulations(quantities(energy_mev, direction, charge, n, e, log_width, net.z_mm), net)
    jump(normal, row, gates, shifts, net, made)
    farthest = asinh(net.largest / net.radial)
    for p in range(points):
        u, v = made[0, p], made[1, p]
        rho = np.sqrt(u * u + v * v)
        radius = net.radial * sinh(min(rho, farthest))
        # Where moments are imposed, that begins with positions compressed at the scale of the centre.
        radius = asinh(radius / net.core) if net.moments else radius
        x[p], y[p] = u * (radius / max(rho, TINY)), v * (radius / max(rho, TINY))
        energy[p] = exp(from_normal(made[2, p], net.energy_knots, net.edge))
    scale_layers(energy, n, e)
    if net.moments:
        impose(x, y, energy, extras[0], extras[1], exp(extras[2] + net.log_width), net.core, net.wide)
    for p in range(points):
        inwards = min(net.largest / max(np.sqrt(x[p] * x[p] + y[p] * y[p]), SMALL), ONE)
        x[p] *= inwards
        y[p] *= inwards


@compiled
def scale_layers(energy: Array, n: Array, visible_mev: Array) -> None:
    """`point_features.impose_energy` of one shower, in place."""
    start = 0
    for k in range(n.shape[0]):
        total = 0.0
        for p in range(start, start + n[k]):
            total += energy[p]
        scale = _f(visible_mev[k] / max(total, 1e-30))
        for p in range(start, start + n[k]):
            energy[p] *= scale
        start += n[k]

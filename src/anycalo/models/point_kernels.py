"""One shower's points, compiled: what `point_flow` and `point_features` do, on arrays that `engine` lays out.

Tests hold each function to the networks' modules.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from anycalo.models.arithmetic import (
    ONE,
    TWO,
    ZERO,
    Array,
    Number,
    Perceptron,
    affine,
    asinh,
    compiled,
    cos_pi,
    exp,
    from_normal,
    gelu,
    log,
    perceptron,
    sin_pi,
    sinh,
)
from anycalo.models.balance_kernels import balance
from anycalo.models.cluster_kernels import Kinds, draw_scores
from anycalo.models.clusters import OF_POINT
from anycalo.models.lanes import LANES, radius_basis, spread
from anycalo.models.layer_kernels import Told, bent, beside, depths, with_totals
from anycalo.models.per_point_kernels import PerPoint
from anycalo.models.point_features import LEAST, SETTLED
from anycalo.models.point_flow import BOUND as _BOUND
from anycalo.models.spline_kernels import edges, inverse_spline
from anycalo.models.surroundings import OF_ENERGY
from anycalo.models.surroundings_kernels import draw_energies
from anycalo.models.track_kernels import Tracks

_f = np.float32
BOUND = _f(_BOUND)
THREE, FOUR, EIGHT, TINY, HUGE, SLANTED = map(_f, (3, 4, 8, 1e-12, 1e5, 1e-10))


class Points(NamedTuple):
    """Weights of `point_flow.PointFlow`, `clusters.Clusters`, `surroundings.Surroundings` and `tracks.Tracks`.

    Args:
        kinds, around, level, tracks: of the last four.
        trunk: what is made of a layer.
        radius: knots of the radius, (hidden, 3 K - 1), and `radius_bias`.
        of_context, of_context_bias: the part of the second layer that a layer gives, (hidden, R).
        of_radius: the part that the radius gives, (R, 4).
        knots: of angle and energy, (R, 3 A - 1 + 3 K - 1) transposed, (3 A - 1 + 3 K - 1, R), and `knots_bias`.
        angle_bins: A.
        mean, std: of the totals, (D,).
        radius_knots, energy_knots: of `layer_features.Gaussianise`, at equal steps from -edge to edge.
        edge: see above.
        core, wide: scales at which centre and width are measured, see `point_features.Lateral`.
        log_width: from which ln width counts.
    """

    kinds: Kinds
    around: PerPoint
    level: PerPoint
    tracks: Tracks
    trunk: Perceptron
    radius: Array
    radius_bias: Array
    of_context: Array
    of_context_bias: Array
    of_radius: Array
    knots: Array
    knots_bias: Array
    angle_bins: int
    mean: Array
    std: Array
    radius_knots: Array
    energy_knots: Array
    edge: Number
    core: Number
    wide: Number
    log_width: Number


@compiled
def layer_context(told: Told, factors: Array, n: Array, visible_mev: Array) -> Array:
    """What the points of each layer are told of it, (L, F + 3); `AnyCalo.layer_context`, without what all layers share."""
    layers = told.points.shape[0]
    own = np.empty((layers, 3), np.float32)
    scale = _f(max(n.sum(), 1)) / (told.points * factors).sum()
    for k in range(layers):
        count = _f(n[k])
        mean = max(visible_mev[k] / max(count, ONE), _f(1e-9))
        own[k, 0] = log(count + ONE) / THREE
        own[k, 1] = log((count + TWO) / (told.points[k] * factors[k] * scale + TWO))
        own[k, 2] = min(max(log(mean / max(told.mip_mev[k], _f(1e-6))), -EIGHT), EIGHT)
    return beside(told.layer, own)


@compiled
def draw_points(
    told: Told,
    scaled: Array,
    n: Array,
    e: Array,
    normal: Array,
    joining: Number,
    net: Points,
    x: Array,
    y: Array,
    energy: Array,
    seen: Array,
) -> Array:
    """The P points of a shower, in the frame and the units that the networks see; returns what decides their ends.

    That is the coefficients of the layers, (L, tracks.NUMBERS).

    Args:
        told: of the shower.
        scaled: totals, (D,).
        n: points of the layers, (L,).
        e: their calibrated energy [MeV], (L,).
        normal: standard normal numbers, (P, at least clusters.OF_POINT + surroundings.OF_ENERGY); the first are used.
        joining: distance within which deposits are joined.
        net: weights.
        x: for the result, (P,).
        y: for the result, (P,).
        energy: for the result [MeV], (P,).
        seen: for radius and energy as the flow sees them, (2, P).
    """
    visible_mev = e / told.calibration
    factors, _ = bent(told.phi, told.energy_mev, *depths(scaled, net.mean, net.std))
    own, shared = layer_context(told, factors, n, visible_mev), with_totals(told.shower, scaled)
    widen = exp(scaled[4] * net.std[4] + net.mean[4])
    points, features = normal.shape[0], net.of_radius.shape[0]
    scores = draw_scores(own, shared, n, normal, net.kinds)
    h = perceptron(own, shared, net.trunk)
    of_layer, knots_of_layer = affine(h, net.of_context, net.of_context_bias), affine(h, net.radius, net.radius_bias)
    # Radii are drawn from splines that the layer alone decides.
    knots_of_layer = knots_of_layer.T.copy()
    radii, angles, energies = net.radius.shape[1], 3 * net.angle_bins - 1, net.knots.shape[0]
    bins = (radii + 1) // 3
    edges(knots_of_layer, bins)
    knots_of_layer = knots_of_layer.T.copy()
    radius_knots, knots = np.zeros((radii, LANES), np.float32), np.zeros((energies, LANES), np.float32)
    state, drawn, z = (
        np.zeros((features, LANES), np.float32),
        np.zeros((2, LANES), np.float32),
        np.zeros((2, LANES), np.float32),
    )
    work, index = np.zeros((6, LANES), np.float32), np.zeros(LANES, np.int64)
    # Energies are drawn when all points have their places.
    kept = np.empty(((points + LANES - 1) // LANES, energies - angles, LANES), np.float32)
    place_x, place_y = np.empty(points, np.float32), np.empty(points, np.float32)
    layer, left = 0, n[0]
    for start in range(0, points, LANES):
        used = min(LANES, points - start)
        for p in range(used):
            z[0, p], z[1, p] = scores[0, start + p], scores[1, start + p]
        spread(knots_of_layer, n, layer, left, used, radius_knots)
        layer, left = spread(of_layer, n, layer, left, used, state)
        inverse_spline(radius_knots, bins, BOUND, z[0], drawn[0], work, index)
        radius_basis(drawn[0], work)
        for k in range(features):
            for p in range(LANES):
                squared = net.of_radius[k, 0] * work[0, p] + net.of_radius[k, 1] * work[1, p]
                turned = net.of_radius[k, 2] * work[2, p] + net.of_radius[k, 3] * work[3, p]
                state[k, p] = gelu(state[k, p] + squared + turned)
        np.dot(net.knots, state, knots)
        for j in range(energies):
            for p in range(LANES):
                knots[j, p] += net.knots_bias[j]
        edges(knots[:angles], net.angle_bins)
        inverse_spline(knots[:angles], net.angle_bins, ONE, z[1], drawn[1], work, index)
        edges(knots[angles:], bins)
        kept[start // LANES] = knots[angles:]
        for p in range(used):
            seen[0, start + p] = drawn[0, p]
        for p in range(LANES):
            radius = net.core * sinh(min(max(from_normal(drawn[0, p], net.radius_knots, net.edge), ZERO), _f(12)))
            radius = net.wide * sinh(min(widen * asinh(radius / net.wide), asinh(HUGE / net.wide)))
            work[0, p], work[1, p], work[2, p] = radius / joining, cos_pi(drawn[1, p]), sin_pi(drawn[1, p])
            work[3, p] = asinh(radius / net.core)
        for p in range(used):
            place_x[start + p], place_y[start + p] = work[0, p] * work[1, p], work[0, p] * work[2, p]
            x[start + p], y[start + p] = work[3, p] * work[1, p], work[3, p] * work[2, p]
    of_energy = normal[:, OF_POINT : OF_POINT + OF_ENERGY]
    draw_energies(own, shared, n, place_x, place_y, seen[0], of_energy, net.around, scores[2])
    balance(own, shared, n, seen[0], net.level, scores[2])
    for start in range(0, points, LANES):
        used = min(LANES, points - start)
        for p in range(used):
            z[0, p] = scores[2, start + p]
        inverse_spline(kept[start // LANES], bins, BOUND, z[0], drawn[0], work, index)
        for p in range(LANES):
            log_mips = from_normal(drawn[0, p], net.energy_knots, net.edge)
            work[0, p] = exp(min(max(log_mips, _f(-20)), _f(20)))
        for p in range(used):
            seen[1, start + p], energy[start + p] = drawn[0, p], work[0, p]
    settle_layers(energy, n, visible_mev, told.mip_mev)
    centre_x, centre_y = scaled[2] * net.std[2] + net.mean[2], scaled[3] * net.std[3] + net.mean[3]
    impose(x, y, energy, centre_x, centre_y, widen * exp(net.log_width), net.core, net.wide)
    return affine(perceptron(own, shared, net.tracks.trunk), net.tracks.head, net.tracks.head_bias)


@compiled
def settle_layers(energy: Array, n: Array, visible_mev: Array, mip_mev: Array) -> None:
    """`point_features.settle` of the points of each layer, energies in MIPs, which become MeV."""
    start = 0
    for k in range(n.shape[0]):
        part, mip = energy[start : start + n[k]], max(mip_mev[k], _f(1e-6))
        settle(part, np.float64(visible_mev[k] / mip))
        for p in range(n[k]):
            part[p] *= mip
        start += n[k]


@compiled
def settle(values: Array, target: float) -> None:
    """`point_features.settle` of one group, in place."""
    largest = 0.0
    for p in range(values.shape[0]):
        largest = max(largest, np.float64(values[p]))
    if target <= 0.0 or largest <= 0.0:
        values[:] = ZERO
        return
    shift = 1.0 / largest - 1.0 / target
    for _ in range(SETTLED):
        total, slope = 0.0, 0.0
        for p in range(values.shape[0]):
            part = 1.0 / (1.0 / max(np.float64(values[p]), LEAST) - shift)
            total += part
            slope += part * part
        if abs(total - target) < 1e-5 * target:
            break
        shift += total * (1.0 - total / target) / slope
    total = 0.0
    for p in range(values.shape[0]):
        values[p] = 1.0 / (1.0 / max(np.float64(values[p]), LEAST) - shift)
        total += values[p]
    for p in range(values.shape[0]):
        values[p] *= target / total


@compiled
def centre(x: Array, y: Array, weight: Array) -> tuple[Number, Number]:
    """Weighted means."""
    of_x, of_y, whole = 0.0, 0.0, 0.0
    for p in range(x.shape[0]):
        of_x += weight[p] * x[p]
        of_y += weight[p] * y[p]
        whole += weight[p]
    return _f(of_x / max(whole, 1e-30)), _f(of_y / max(whole, 1e-30))


@compiled
def impose(
    x: Array, y: Array, weight: Array, centre_x: Number, centre_y: Number, width: Number, core: Number, wide: Number
) -> None:
    """`point_features.Lateral.impose` of one shower, in place, from positions compressed at `core`, the scale of the centre."""
    most_core, most_wide = asinh(HUGE / core), asinh(HUGE / wide)
    points = x.shape[0]
    by_x, by_y = centre(x, y, weight)
    radius = np.empty(points, np.float32)
    squares, whole = 0.0, 0.0
    for p in range(points):
        u, v = x[p] - by_x, y[p] - by_y
        rho = np.sqrt(u * u + v * v)
        radius[p] = asinh(core * sinh(min(rho, most_core)) / wide)
        x[p], y[p] = u / max(rho, TINY), v / max(rho, TINY)
        squares += weight[p] * radius[p] * radius[p]
        whole += weight[p]
    variance = squares / max(whole, 1e-30)
    factor = width / _f(math.sqrt(variance)) if variance > 0 else width
    for p in range(points):
        radius[p] = asinh(wide * sinh(min(radius[p] * factor, most_wide)) / core)
        x[p] *= radius[p]
        y[p] *= radius[p]
    by_x, by_y = centre(x, y, weight)
    by_x, by_y = centre_x - by_x, centre_y - by_y
    for p in range(points):
        u, v = x[p] + by_x, y[p] + by_y
        rho = np.sqrt(u * u + v * v)
        expanded = core * sinh(min(rho, most_core)) / max(rho, TINY)
        x[p], y[p] = u * expanded, v * expanded


@compiled
def place(n: Array, direction: Array, z_mm: Array, unit_mm: Number, across: bool, x: Array, y: Array, layer: Array) -> None:
    """Positions of P points put into the detector [mm], in place, and the layer of each.

    Args:
        n: points of the layers, (L,).
        direction: of the axis of the shower, a unit vector, (3,).
        z_mm: of the layers, (L,).
        unit_mm: of the positions [mm].
        across: whether they are seen across the axis (`universal.Coordinates.across_axis`).
        x: (P,).
        y: (P,).
        layer: for the result, (P,).
    """
    of_x, of_y = direction[0] / direction[2], direction[1] / direction[2]
    squared = of_x * of_x + of_y * of_y
    longer = (np.sqrt(ONE + squared) - ONE) / squared if across and squared > SLANTED else ZERO
    xx, xy, yy = unit_mm * (ONE + longer * of_x * of_x), unit_mm * longer * of_x * of_y, unit_mm * (ONE + longer * of_y * of_y)
    start = 0
    for k in range(n.shape[0]):
        axis_x, axis_y = of_x * z_mm[k], of_y * z_mm[k]
        for p in range(start, start + n[k]):
            u, v = x[p], y[p]
            x[p] = xx * u + xy * v + axis_x
            y[p] = xy * u + yy * v + axis_y
            layer[p] = k
        start += n[k]

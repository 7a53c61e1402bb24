"""What the flow of a `caloclouds` model draws for one shower, compiled: `flow` and `layer_features`.

Weights are arrays that `caloclouds_engine` lays out, weights (inputs, outputs). Tests hold each function to the modules.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from anycalo.models.arithmetic import ONE, TWO, ZERO, Array, Number, affine_row, compiled, exp, from_normal, log, tanh
from anycalo.models.lanes import LANES
from anycalo.models.layer_features import COUNT_OFFSET as _COUNT_OFFSET
from anycalo.models.layer_kernels import finite
from anycalo.models.spline_kernels import edges, inverse_spline

_f = np.float32
COUNT_OFFSET, THREE, TEN, TWENTY, TINY, SMALL, MANY = map(_f, (_COUNT_OFFSET, 3, 10, 20, 1e-12, 1e-6, 1e9))


class Maps(NamedTuple):
    """Affine maps of various sizes.

    Args:
        numbers: of each map the weight (inputs, outputs), then the bias (outputs,), all in one array.
        table: of each map the inputs, the outputs, and where its numbers begin, (M, 3).
    """

    numbers: Array
    table: Array


class Flow(NamedTuple):
    """Weights of `flow.ShowerFlow`.

    Args:
        maps: those of the first coupling, then those of the second, and so on. What the last of each makes is sorted by kind
            (shifts, scales; widths, heights, slopes) and not by column.
        orders: the column of the data that becomes a column of a coupling, (couplings, D).
        bound: of the splines.
        bins: of the splines.
        affine_slope: of the affine couplings, see there.
    """

    maps: Maps
    orders: Array
    bound: Number
    bins: int
    affine_slope: Number


class Scales(NamedTuple):
    """Constants of `layer_features.LayerFeatures`, and of the logarithm of the energy, which its basis is made of.

    Args:
        middle, half_width: of the logarithm of the energy.
        unrotation: (D, D).
        knots: (D, K), at equal steps from -edge to edge.
        edge: see above.
        plain, plain_spread: (basis, 2 + L + X).
        mean, mean_spread: (L, basis + 2).
        largest: points, (L,).
    """

    middle: float
    half_width: float
    unrotation: Array
    knots: Array
    edge: Number
    plain: Array
    plain_spread: Array
    mean: Array
    mean_spread: Array
    largest: Array


@compiled
def weight_of(maps: Maps, k: int) -> Array:
    """Weight (inputs, outputs) of map k."""
    inputs, outputs, first = maps.table[k]
    return maps.numbers[first : first + inputs * outputs].reshape((inputs, outputs))


@compiled
def bias_of(maps: Maps, k: int) -> Array:
    """Bias (outputs,) of map k."""
    inputs, outputs, first = maps.table[k]
    return maps.numbers[first + inputs * outputs : first + (inputs + 1) * outputs]


@compiled
def flow_inverse(z: Array, condition: Array, net: Flow) -> Array:
    """`flow.ShowerFlow.inverse` of one row: normal numbers (D,) and a condition (C,) to data (D,)."""
    d, told = z.shape[0], condition.shape[0]
    half, couplings = d // 2, net.orders.shape[0]
    deep = net.maps.table.shape[0] // couplings
    x, data = z.copy(), np.empty(d, np.float32)
    for c in range(couplings - 1, -1, -1):
        h = np.empty(half + told, np.float32)
        for j in range(half):
            h[j] = x[j]
        for j in range(told):
            h[half + j] = condition[j]
        for k in range(c * deep, (c + 1) * deep):
            out = np.empty(net.maps.table[k, 1], np.float32)
            affine_row(h, weight_of(net.maps, k), bias_of(net.maps, k), out)
            if k < (c + 1) * deep - 1:
                for j in range(out.shape[0]):
                    out[j] = tanh(out[j])
            h = out
        if h.shape[0] == 2 * (d - half):
            for j in range(d - half):
                scale = h[d - half + j]
                x[half + j] = (x[half + j] - h[j]) * exp(scale / (abs(scale) / net.affine_slope - ONE))
        else:
            unspline(h.reshape((3 * net.bins - 1, d - half)), x[half:], net.bins, net.bound)
        for j in range(d):
            data[net.orders[c, j]] = x[j]
        x, data = data, x
    return x


@compiled
def unspline(knots: Array, x: Array, bins: int, bound: Number) -> None:
    """The inverse of a spline for each column, in place: knots (3 K - 1, N), columns (N,)."""
    lanes, work = np.zeros((knots.shape[0], LANES), np.float32), np.zeros((6, LANES), np.float32)
    y, found, index = np.zeros(LANES, np.float32), np.zeros(LANES, np.float32), np.zeros(LANES, np.int64)
    for start in range(0, x.shape[0], LANES):
        used = min(LANES, x.shape[0] - start)
        for p in range(used):
            y[p] = x[start + p]
            for j in range(knots.shape[0]):
                lanes[j, p] = knots[j, start + p]
        edges(lanes, bins)
        inverse_spline(lanes, bins, bound, y, found, work, index)
        for p in range(used):
            x[start + p] = found[p]


@compiled
def decode(z: Array, energy_mev: Number, basis: Array, net: Scales) -> tuple[bool, Array, Array, Array]:
    """`layer_features.LayerFeatures.decode` of one row (D,), its energy and its basis (K,).

    Returns:
        whether the shower is physical, points (L,) and energies [MeV] (L,) of the layers, and extras (X,).
    """
    layers, known, d, columns = net.largest.shape[0], basis.shape[0], z.shape[0], net.plain.shape[1]
    residuals, mean, spread = np.zeros(d, np.float32), np.empty(columns, np.float32), np.empty(columns, np.float32)
    affine_row(z, net.unrotation, residuals.copy(), residuals)
    for k in range(d):
        residuals[k] = from_normal(residuals[k], net.knots[k], net.edge)
    none = np.zeros(columns, np.float32)
    affine_row(basis, net.plain, none, mean)
    affine_row(basis, net.plain_spread, none, spread)
    for k in range(columns):
        mean[k] += residuals[k] * exp(spread[k])
    n, e, extras = np.zeros(layers, np.int64), np.zeros(layers, np.float32), mean[2 + layers :].copy()
    if not (finite(residuals) and finite(mean) and mean[0] <= ZERO):
        return False, n, e, extras
    visible = exp(mean[0]) * energy_mev
    total = visible / exp(mean[1])
    blurred, whole = np.empty(layers, np.float32), ZERO
    for k in range(layers):
        blurred[k] = max(exp(mean[2 + k]) - COUNT_OFFSET, ZERO)
        whole += blurred[k]
    factor = (total + _f(layers) / TWO) / max(whole, SMALL)
    points, shares, physical = ZERO, ZERO, True
    for k in range(layers):
        count = np.floor(blurred[k] * factor)
        physical &= count <= TWO * net.largest[k] + TEN
        n[k] = int(min(count, MANY))
        points += count
        log_n = log(ONE + count) / THREE
        m = net.mean[k, known] * log_n + net.mean[k, known + 1] * log_n * log_n
        log_spread = net.mean_spread[k, known] * log_n + net.mean_spread[k, known + 1] * log_n * log_n
        for j in range(known):
            m += net.mean[k, j] * basis[j]
            log_spread += net.mean_spread[k, j] * basis[j]
        e[k] = count * exp(min(max(residuals[d - layers + k] * exp(log_spread) + m, -TWENTY), TWENTY))
        shares += e[k]
    for k in range(layers):
        e[k] *= visible / max(shares, TINY)
    return bool(physical and points >= ONE and finite(e)), n, e, extras


@compiled
def draw_layers(
    energy_mev: Number, direction: Array, charge: Number, normal: Array, flow: Flow, scales: Scales
) -> tuple[bool, Array, Array, Array]:
    """One attempt at a shower; results as those of `decode`.

    Args:
        energy_mev: of the particle.
        direction: unit vector, (3,).
        charge: in units of the proton's.
        normal: standard normal numbers, (D,).
        flow: weights.
        scales: constants.
    """
    scaled = (math.log(np.float64(energy_mev)) - scales.middle) / scales.half_width
    condition, basis = np.empty(4, np.float32), np.empty(scales.plain.shape[0], np.float32)
    condition[0], condition[1], condition[2], condition[3] = scaled, direction[0], direction[1], charge
    for k in range(basis.shape[0] - 1):
        basis[k] = scaled**k
    basis[-1] = 1 / np.float64(direction[2]) - 1
    return decode(flow_inverse(normal, condition, flow), energy_mev, basis, scales)

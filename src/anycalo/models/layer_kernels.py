"""One shower's totals and layers, compiled: what `totals`, `profile`, `recurrent` and `layer_tokens` do.

Weights and descriptions are arrays that `engine` lays out, weights (inputs, outputs). Tests hold each function to the networks'
modules.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from anycalo.models.arithmetic import (
    HALF,
    ONE,
    ZERO,
    Array,
    Number,
    Perceptron,
    affine,
    affine_row,
    compiled,
    exp,
    gelu,
    log,
    ndtr,
    perceptron,
    sigmoid,
    tanh,
)
from anycalo.models.layer_tokens import FEW as _FEW
from anycalo.models.layer_tokens import GAUGE as _GAUGE
from anycalo.models.layer_tokens import LEAST as _LEAST
from anycalo.models.layer_tokens import OFFSET as _OFFSET
from anycalo.models.layer_tokens import ROUNDS
from anycalo.models.layer_tokens import SHARE_OFFSET as _SHARE_OFFSET
from anycalo.models.mixture import WIDEST as _WIDEST
from anycalo.models.profile import FARTHEST as _FARTHEST
from anycalo.models.profile import HALVINGS, STEPS
from anycalo.models.profile import NEAR as _NEAR
from anycalo.models.profile import PRIOR as _PRIOR
from anycalo.models.profile import STEEPEST as _STEEPEST
from anycalo.models.recurrent import NOISE, OF_COUNT, PAST
from anycalo.models.totals import DEPTHS

_f = np.float32
_FIRST, _SECOND = DEPTHS.start, DEPTHS.start + 1
PRIOR, STEEPEST, FARTHEST, NEAR, FLAT, LOWER, HUGE = map(_f, (_PRIOR, _STEEPEST, _FARTHEST, _NEAR, 1e-12, 0.1, 1e30))
OFFSET, SHARE_OFFSET, WIDEST, GAUGE, FEW, LEAST = map(_f, (_OFFSET, _SHARE_OFFSET, _WIDEST, _GAUGE, _FEW, _LEAST))
TWO, THREE, FIVE, THREE_HALVES, TINY = map(_f, (2, 3, 5, 1.5, 1e-12))


class Told(NamedTuple):
    """`universal.Told` of one shower, (S,), (L, F), (L,) each and (L, 2), and its `universal.layer_mip_mev`, (L,)."""

    shower: Array
    layer: Array
    points: Array
    energy_mev: Array
    calibration: Array
    phi: Array
    mip_mev: Array


class Totals(NamedTuple):
    """Weights of one member of `totals.Totals`, and the scales (D,)."""

    layer: Perceptron
    shower: Perceptron
    mixture: Array
    mixture_bias: Array
    mean: Array
    std: Array


class Walk(NamedTuple):
    """Weights of `recurrent.RecurrentLayers`, with what is multiplied by the same numbers side by side.

    Args:
        embed: the embedding of the layers.
        of_embedding: gates, head of counts and head of energies, (embedding, 3 H + 2 heads), and `of_embedding_bias`.
        of_memory: heads and gates again, (H, 2 heads + 3 H), and `of_memory_bias`.
        of_past: gates, (PAST, 3 H).
        of_count: head of energies, (OF_COUNT, head).
        count, energy: mixtures, (head, 3 K), and their biases.
    """

    embed: Perceptron
    of_embedding: Array
    of_embedding_bias: Array
    of_memory: Array
    of_memory_bias: Array
    of_past: Array
    of_count: Array
    count: Array  # type: ignore[assignment]
    count_bias: Array
    energy: Array
    energy_bias: Array


@compiled
def draw_totals(told: Told, normal: Array, net: Totals) -> Array:
    """Scaled totals (D,) from standard normal numbers (D + 1,)."""
    d = net.mean.shape[0]
    h = perceptron(told.layer, told.shower, net.layer)
    width = h.shape[1]
    pooled = np.zeros((1, 2 * width), np.float32)
    layers = h.shape[0]
    whole = told.energy_mev.sum()
    for k in range(layers):
        expected, even = told.energy_mev[k] / whole, ONE / _f(layers)
        for j in range(width):
            pooled[0, j] += expected * h[k, j]
            pooled[0, width + j] += even * h[k, j]
    features = perceptron(pooled, told.shower, net.shower)
    parameters = affine(features, net.mixture, net.mixture_bias)[0]
    below = d * (d - 1) // 2
    components = parameters.shape[0] // (1 + 2 * d + below)
    k = choose(parameters[:components], ndtr(normal[d]))
    mean = parameters[components + k * d :]
    diagonal = parameters[components * (1 + d) + k * d :]
    under = parameters[components * (1 + 2 * d) + k * below :]
    residual = np.empty(d, np.float32)
    out = np.empty(d, np.float32)
    first = 0
    for row in range(d):
        rest = normal[row]
        for c in range(row):
            rest -= under[first + c] * residual[c]
        residual[row] = rest * exp(-WIDEST * tanh(diagonal[row] / WIDEST))
        out[row] = mean[row] + residual[row]
        first += row
    return out


@compiled
def beside(left: Array, right: Array) -> Array:
    """Columns of two tables with as many rows."""
    out = np.empty((left.shape[0], left.shape[1] + right.shape[1]), np.float32)
    for k in range(out.shape[0]):
        for j in range(left.shape[1]):
            out[k, j] = left[k, j]
        for j in range(right.shape[1]):
            out[k, left.shape[1] + j] = right[k, j]
    return out


@compiled
def with_totals(shower: Array, scaled: Array) -> Array:
    """What all layers are told: of the shower, and its totals, clipped as by `totals.Totals.scaled`."""
    out = np.empty(shower.shape[0] + scaled.shape[0], np.float32)
    for k in range(shower.shape[0]):
        out[k] = shower[k]
    for k in range(scaled.shape[0]):
        out[shower.shape[0] + k] = min(max(scaled[k], -FIVE), FIVE)
    return out


@compiled
def finite(x: Array) -> bool:
    """Whether all numbers are, whatever liberties are taken with arithmetic."""
    found = True
    for k in range(x.shape[0]):
        found &= np.isfinite(x[k])
    return found


@compiled
def choose(log_weight: Array, u: Number) -> int:
    """The component of a mixture (K,) at level u."""
    largest, total = log_weight[0], ZERO
    for k in range(log_weight.shape[0]):
        largest = max(largest, log_weight[k])
    for k in range(log_weight.shape[0]):
        total += exp(log_weight[k] - largest)
    passed, chosen = ZERO, 0
    for k in range(log_weight.shape[0] - 1):
        passed += exp(log_weight[k] - largest)
        chosen += passed < u * total
    return chosen


@compiled
def draw_one(h: Array, weight: Array, bias: Array, normal: Number, level: Number) -> Number:
    """A draw from a mixture of one dimension."""
    parameters = np.empty(weight.shape[1], np.float32)
    affine_row(h, weight, bias, parameters)
    components = parameters.shape[0] // 3
    k = choose(parameters[:components], ndtr(level))
    return parameters[components + k] + normal * exp(-WIDEST * tanh(parameters[2 * components + k] / WIDEST))


@compiled
def walk(
    own: Array, shared: Array, count: Array, mean_mev: Array, crossing: Number, e_total: Number, normal: Array, net: Walk
) -> tuple[Array, Array]:
    """Points and energies [MeV] of the layers, (L,) each, from the front to the back, before they are made to agree.

    Args:
        own: features of the layers for the embedding, (L, F).
        shared: those that all share, (S,).
        count: expected points, (L,).
        mean_mev: expected energy of a point, (L,).
        crossing: expected energy of a point over what is expected of a crossing.
        e_total: energy of the shower [MeV].
        normal: standard normal numbers, (1 + NOISE L,).
        net: the weights.
    """
    layers, hidden, head = count.shape[0], net.of_past.shape[1] // 3, net.of_count.shape[1]
    given = affine(perceptron(own, shared, net.embed), net.of_embedding, net.of_embedding_bias)
    n, e = np.zeros(layers, np.float32), np.zeros(layers, np.float32)
    blur = exp(GAUGE * normal[0])
    past, memory = np.zeros(PAST, np.float32), np.zeros(hidden, np.float32)
    after = np.zeros(2 * head + 3 * hidden, np.float32)
    affine_row(memory, net.of_memory, net.of_memory_bias, after)
    gates, state = np.empty(3 * hidden, np.float32), np.empty(head, np.float32)
    of_count = np.empty(OF_COUNT, np.float32)
    of_count[3] = log(crossing)
    points_total, energy_total = ZERO, ZERO
    for k in range(layers):
        points_total, energy_total = points_total + count[k], energy_total + count[k] * mean_mev[k]
    points, points_expected, share, share_expected = ZERO, ZERO, ZERO, ZERO
    for k in range(layers):
        past[3] = log((points + OFFSET) / (points_expected + OFFSET))
        past[4] = log((max(points_total - points, ZERO) + OFFSET) / (max(points_total - points_expected, ZERO) + OFFSET))
        past[5] = log((share + SHARE_OFFSET) / (share_expected + SHARE_OFFSET))
        past[6] = log((max(ONE - share, ZERO) + SHARE_OFFSET) / (max(ONE - share_expected, ZERO) + SHARE_OFFSET))
        affine_row(past, net.of_past, given[k], gates)
        remembered = after[2 * head :]
        for j in range(hidden):
            reset = sigmoid(gates[j] + remembered[j])
            keep = sigmoid(gates[hidden + j] + remembered[hidden + j])
            new = tanh(gates[2 * hidden + j] + reset * remembered[2 * hidden + j])
            memory[j] = new + keep * (memory[j] - new)
        affine_row(memory, net.of_memory, net.of_memory_bias, after)
        heads = given[k, 3 * hidden :]
        for j in range(head):
            state[j] = gelu(heads[j] + after[j])
        of_layer = normal[1 + NOISE * k :]
        a = draw_one(state, net.count, net.count_bias, of_layer[0], of_layer[1])
        log_expected = log(count[k] + OFFSET)
        found = np.floor(max(exp(min(a + log_expected, _f(20))) - OFFSET, ZERO))
        log_count = log(found + HALF + OFFSET)
        of_count[0], of_count[1], of_count[2] = log_count - log_expected, log_count / THREE, ONE / np.sqrt(found + THREE_HALVES)
        affine_row(of_count, net.of_count, after[head : 2 * head], state)
        for j in range(head):
            state[j] = gelu(heads[head + j] + state[j])
        m = draw_one(state, net.energy, net.energy_bias, of_layer[2], of_layer[3]) - TWO / (found + ONE) * of_count[3]
        n[k] = found
        e[k] = found * exp(min(max(m, _f(-12)), _f(12))) * mean_mev[k]
        nu = (found + HALF) * blur
        log_seen = log(nu + OFFSET)
        past[0], past[1], past[2] = log_seen - log_expected, m if found > 0 else ZERO, log_seen / THREE
        points, share = points + nu, share + e[k] / e_total
        points_expected, share_expected = points_expected + count[k], share_expected + count[k] * mean_mev[k] / energy_total
    return n, e


@compiled
def depths(scaled: Array, mean: Array, std: Array) -> tuple[Number, Number]:
    """The depths D of scaled totals (D,)."""
    return scaled[_FIRST] * std[_FIRST] + mean[_FIRST], scaled[_SECOND] * std[_SECOND] + mean[_SECOND]


@compiled
def bent(phi: Array, energy: Array, first: Number, second: Number) -> tuple[Array, Number]:
    """`profile.bent` of one shower: factors (L,) on a profile (L,) for given depths, and how far it was bent."""
    layers = energy.shape[0]
    weight, factors = np.empty(layers, np.float32), np.ones(layers, np.float32)
    one, two = ZERO, ZERO
    dual = bend(phi, energy, one, two, weight)
    for _ in range(STEPS):
        mean_1, mean_2, xx, yy, xy = ZERO, ZERO, ZERO, ZERO, ZERO
        for k in range(layers):
            w = weight[k]
            mean_1 += w * phi[k, 0]
            mean_2 += w * phi[k, 1]
            xx += w * phi[k, 0] * phi[k, 0]
            yy += w * phi[k, 1] * phi[k, 1]
            xy += w * phi[k, 0] * phi[k, 1]
        xx += PRIOR - mean_1 * mean_1
        yy += PRIOR - mean_2 * mean_2
        xy -= mean_1 * mean_2
        slope_1, slope_2 = first - mean_1 - PRIOR * one, second - mean_2 - PRIOR * two
        determinant = max(xx * yy - xy * xy, FLAT)
        step_1 = (yy * slope_1 - xy * slope_2) / determinant
        step_2 = (xx * slope_2 - xy * slope_1) / determinant
        decrement = slope_1 * step_1 + slope_2 * step_2
        if decrement < NEAR:
            one, two = one + step_1, two + step_2
            break
        length = ONE
        for halving in range(HALVINGS + 1):
            a, b = one + length * step_1, two + length * step_2
            tried = bend(phi, energy, a, b, weight) - a * first - b * second + HALF * PRIOR * (a * a + b * b)
            if tried < dual - LOWER * length * decrement or halving == HALVINGS:
                break
            length *= HALF
        one, two, dual = a, b, tried
    whole = max(energy.sum(), TINY)
    change = log(whole) - bend(phi, energy, one, two, weight)
    mean, square = ZERO, ZERO
    for k in range(layers):
        if energy[k] > 0:
            by = one * phi[k, 0] + two * phi[k, 1]
            mean += energy[k] / whole * by
            square += energy[k] / whole * by * by
            factors[k] = exp(min(max(by + change, -FARTHEST), FARTHEST))
    return factors, np.sqrt(max(square - mean * mean, ZERO))


@compiled
def bend(phi: Array, energy: Array, one: Number, two: Number, weight: Array) -> Number:
    """Put the shares of the bent profile into `weight`; the logarithm of its sum."""
    largest, total = -HUGE, ZERO
    for k in range(energy.shape[0]):
        if energy[k] > 0:
            largest = max(largest, one * phi[k, 0] + two * phi[k, 1])
    for k in range(energy.shape[0]):
        weight[k] = energy[k] * exp(one * phi[k, 0] + two * phi[k, 1] - largest) if energy[k] > 0 else ZERO
        total += weight[k]
    total = max(total, TINY)
    for k in range(energy.shape[0]):
        weight[k] /= total
    return log(total) + largest


@compiled
def whole_layers(
    n: Array, e: Array, n_total: Number, e_total: Number, phi: Array, first: Number, second: Number
) -> tuple[Array, Array]:
    """`layer_tokens.decode_layers` of one shower, of which `e` is changed."""
    layers = n.shape[0]
    firm, points = n / (n + FEW), n.copy()
    for _ in range(ROUNDS):
        factors, _ = bent(phi, e, first, second)
        for k in range(layers):
            factor = exp(firm[k] * log(factors[k]))
            points[k] *= factor
            e[k] *= factor
    stretch(points, firm, n_total)
    stretch(e, firm, e_total)
    whole = np.zeros(layers, np.int64)
    for k in range(layers):
        if n[k] > 0:
            whole[k] = max(int(np.floor(points[k] + HALF)), 1)
    return whole, e


@compiled
def stretch(x: Array, firm: Array, total: Number) -> None:
    """`layer_tokens._stretched`, in place."""
    missing = (total - x.sum()) / max((firm * x).sum(), TINY)
    for k in range(x.shape[0]):
        x[k] *= max(ONE + firm[k] * missing, LEAST)
    factor = total / max(x.sum(), TINY)
    for k in range(x.shape[0]):
        x[k] *= factor


@compiled
def draw_layers(told: Told, energy_mev: Number, normal: Array, totals: Totals, net: Walk) -> Any:
    """One attempt at a shower: whether it is physical, scaled totals (D,), points and calibrated energies [MeV] of the layers.

    Args:
        told: of the shower.
        energy_mev: of the particle.
        normal: standard normal numbers, (D + 2 + 1 + NOISE L,).
        totals: weights of the member that the last of the first D + 2 numbers chooses, evenly.
        net: weights.
    """
    layers, d = told.points.shape[0], totals.mean.shape[0]
    scaled = draw_totals(told, normal, totals)
    n, e = np.zeros(layers, np.int64), np.zeros(layers, np.float32)
    of_points, of_energy = told.points.sum(), told.energy_mev.sum()
    e_total = exp(scaled[0] * totals.std[0] + totals.mean[0]) * of_energy
    n_total = e_total * exp(-scaled[1] * totals.std[1] - totals.mean[1]) * of_points / of_energy
    if not (finite(scaled) and e_total < 10 * energy_mev and HALF <= n_total < _f(1e7)):
        return False, scaled, n, e
    first, second = depths(scaled, totals.mean, totals.std)
    factors, steepness = bent(told.phi, told.energy_mev, first, second)
    if steepness > STEEPEST:
        return False, scaled, n, e
    of_points, of_energy = (told.points * factors).sum(), (told.energy_mev * factors).sum()
    count, mean, expected = np.empty(layers, np.float32), np.empty(layers, np.float32), np.empty((layers, 2), np.float32)
    crossing = e_total / n_total * of_points / of_energy
    for k in range(layers):
        count[k] = n_total * told.points[k] * factors[k] / of_points
        mean[k] = told.energy_mev[k] / max(told.points[k], TINY) * crossing
        expected[k, 0], expected[k, 1] = log(count[k] + OFFSET) / THREE, log(mean[k])
    shared = with_totals(told.shower, scaled)
    own = beside(told.layer, expected)
    drawn, raw = walk(own, shared, count, mean, crossing, e_total, normal[d + 2 :], net)
    n, e = whole_layers(drawn, raw, n_total, e_total, told.phi, first, second)
    visible = ZERO
    for k in range(layers):
        visible += e[k] / told.calibration[k]
    return n.sum() >= 1 and finite(e) and visible < energy_mev, scaled, n, e

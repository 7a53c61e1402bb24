"""What one shower's networks are told, compiled: the twin of `universal.UniversalCoordinates.told`, which tests hold it to."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from scipy import special

from anycalo.geometry import Detector
from anycalo.geometry.descriptors import LAYER, WHOLE, sensor_mip_mev
from anycalo.models.arithmetic import ONE, TWO, ZERO, Array, Number, compiled, exp, log
from anycalo.models.gamma import EARLIEST, B
from anycalo.models.layer_kernels import Told
from anycalo.models.profile import LEAST_SPREAD as _LEAST_SPREAD
from anycalo.models.universal import SMALLEST_FLUX as _SMALLEST_FLUX
from anycalo.models.universal import THINNEST_X0 as _THINNEST_X0
from anycalo.models.universal import Coordinates, Geometry, UniversalCoordinates, layer_mip_mev, particle_table
from anycalo.showers import Incident

_f = np.float32
THINNEST_X0, SMALLEST_FLUX, LEAST_SPREAD = map(_f, (_THINNEST_X0, _SMALLEST_FLUX, _LEAST_SPREAD))
LITTLE, LEAST, THIN, RARE, PERCENT = map(_f, (1e-9, 1e-4, 1e-3, 1e-6, 1e-2))
THREE, FIVE, TEN = map(_f, (3, 5, 10))
FRONT, BACK, SPACING, BEHIND, SENSORS, MM, X0, MIP = map(
    LAYER.index,
    ("sensor_front_x0", "sensor_back_x0", "spacing_x0", "behind_x0", "sensors", "sensor_mm", "sensor_x0", "mip_mev"),
)
CRITICAL, DEPTH = WHOLE.index("critical_energy_mev"), WHOLE.index("depth_x0")


class Described(NamedTuple):
    """One detector as the coordinates see it, whatever the particle.

    Args:
        layer: `layer_descriptors`, (L, len(LAYER)).
        whole: `whole_descriptors`, (len(WHOLE),).
        thickness, of_layer, of_shower: `UniversalCoordinates.fixed`, (L,), (L, 22), (5,).
        mip_mev: of one sensor of each layer, straight through, (L,).
        cell: ln of the size of the cells in 10 mm.
    """

    layer: Array
    whole: Array
    thickness: Array
    of_layer: Array
    of_shower: Array
    mip_mev: Array
    cell: Number


def describe(detector: Detector) -> Described:
    """A detector."""
    geometry = Geometry([detector])
    _, thickness, of_layer, of_shower = (np.ascontiguousarray(t[0]) for t in UniversalCoordinates().fixed(geometry))
    return Described(
        layer=geometry.layer[0].numpy(),
        whole=geometry.whole[0].numpy(),
        thickness=thickness,
        of_layer=of_layer,
        of_shower=of_shower,
        mip_mev=sensor_mip_mev(detector).astype(np.float32),
        cell=_f(geometry.cell[0]),
    )


def tell(detector: Described, energy_mev: Number, direction: Array, charge: Number) -> Told:
    """What the networks are told of a shower.

    Args:
        detector: from `describe`.
        energy_mev: of the particle.
        direction: unit vector, (3,).
        charge: in units of the proton's.
    """
    shape, at = depths_of(detector, energy_mev, direction, charge)
    told: Told = tell_with(detector, energy_mev, direction, charge, special.gammainc(shape, at))
    return told


def tell_of_tensors(coordinates: Coordinates, detector: Detector, incident: Incident) -> list[Told]:
    """The same of all particles for any coordinates, by way of tensors, which takes several times as long for one."""
    told = coordinates.told(Geometry([detector]), torch.zeros(len(incident), dtype=torch.long), particle_table(incident))
    columns = {name: getattr(told, name).contiguous().numpy() for name in Told._fields if name != "mip_mev"}
    columns["mip_mev"] = layer_mip_mev(detector, incident).numpy()
    return [Told(**{name: column[b] for name, column in columns.items()}) for b in range(len(incident))]


@compiled
def maximum(detector: Described, energy_mev: Number, charge: Number) -> tuple[Number, Number]:
    """Logarithm of the energy over the critical energy, and the depth of the maximum [X0]."""
    log_y = _f(np.log(np.float64(energy_mev))) - log(detector.whole[CRITICAL])
    return log_y, log_y - _f(0.5) + (ONE - charge * charge)


@compiled
def depths_of(detector: Described, energy_mev: Number, direction: Array, charge: Number) -> tuple[float, Array]:
    """Arguments of the incomplete gamma function: one shape, and of each layer front, back and middle, last the whole depth."""
    layers = detector.layer.shape[0]
    path = ONE / direction[2]
    _, t_max = maximum(detector, energy_mev, charge)
    at = np.empty(3 * layers + 1, np.float64)
    for k in range(layers):
        front, back = sensor(detector.layer[k], path)
        at[3 * k], at[3 * k + 1], at[3 * k + 2] = B * front, B * back, B * ((front + back) / TWO)
    at[3 * layers] = B * (detector.whole[DEPTH] * path)
    return B * max(np.float64(t_max), EARLIEST) + 1, at


@compiled
def sensor(layer: Array, path: Number) -> tuple[Number, Number]:
    """Over which depths along the axis [X0] the flux through a layer's sensors is averaged; not over too thin a stretch."""
    front, back = layer[FRONT] * path, layer[BACK] * path
    thin = max(THINNEST_X0 - (back - front), ZERO) / TWO
    return max(front - thin, ZERO), back + thin


@compiled
def log_of(x: Number, low: Number) -> Number:
    """`gamma.log`."""
    return log(max(x, low))


@compiled
def tell_with(detector: Described, energy_mev: Number, direction: Array, charge: Number, share: Array) -> Told:
    """See `tell`, given the incomplete gamma function at `depths_of`."""
    layers, fixed = detector.layer.shape[0], detector.of_layer.shape[1]
    path = ONE / direction[2]
    log_e = _f(np.log(np.float64(energy_mev)))
    log_y, t_max = maximum(detector, energy_mev, charge)
    depth = detector.whole[DEPTH] * path
    rows = np.empty((layers, 10 + fixed), np.float32)
    points, energy, calibration = np.empty(layers, np.float32), np.empty(layers, np.float32), np.empty(layers, np.float32)
    middles, mips = np.empty(layers, np.float32), np.empty(layers, np.float32)
    whole, calibrated = ZERO, ZERO
    for k in range(layers):
        layer = detector.layer[k]
        front, back = sensor(layer, path)
        density = _f(share[3 * k + 1] - share[3 * k]) / max(back - front, THIN)
        flux = exp(log_y) * max(density, ZERO) + SMALLEST_FLUX
        mip, middle, sensors = layer[MIP] * path, (front + back) / TWO, max(layer[SENSORS], ONE)
        points[k], energy[k] = flux * layer[SENSORS], flux * mip
        calibration[k] = detector.thickness[k] / max(mip, LITTLE)
        whole, calibrated = whole + energy[k], calibrated + energy[k] * calibration[k]
        middles[k], mips[k] = middle, detector.mip_mev[k] * path
        row = rows[k]
        row[0], row[1], row[2] = (middle - t_max) / FIVE, middle / TEN, (depth - middle) / TEN
        row[3], row[4] = log_of(flux, LEAST) / THREE, (_f(share[3 * k + 2]) - _f(0.5)) * TWO
        row[5], row[6] = log_of(layer[SPACING] * path, PERCENT), log_of(layer[BEHIND] * path, PERCENT)
        row[7], row[8] = detector.of_layer[k, 0], log_of(layer[MM] / sensors * path, LEAST)
        row[9], row[10] = log_of(layer[X0] / sensors * path, LEAST) / TWO, log_of(mip / sensors, LEAST)
        for j in range(1, fixed):
            row[10 + j] = detector.of_layer[k, j]
    for k in range(layers):
        calibration[k] *= whole / calibrated
        energy[k] *= calibration[k]
    field, field_radius, moliere = detector.of_shower[0], detector.of_shower[1], detector.of_shower[2]
    shower = np.empty(16, np.float32)
    shower[0], shower[1], shower[2] = (log_e - _f(9)) / _f(1.5), (log_y - _f(6.5)) / _f(1.5), path - ONE
    shower[3], shower[4], shower[5], shower[6] = direction[0], direction[1], ONE - charge * charge, charge
    shower[7], shower[8], shower[9] = field / THREE, field_radius, field * charge / THREE
    shower[10], shower[11], shower[12] = moliere, detector.of_shower[3], detector.of_shower[4]
    shower[13], shower[14] = (depth - t_max) / TEN - ONE, log_of(ONE - _f(share[3 * layers]), RARE) / _f(4)
    shower[15] = detector.cell
    phi = directions(middles, energy)
    return Told(shower, rows, points, energy, calibration, phi, mips)


@compiled
def directions(depth: Array, energy: Array) -> Array:
    """`profile.directions` of one shower, (L, 2)."""
    layers = depth.shape[0]
    phi, weight = np.empty((layers, 2), np.float32), np.empty(layers, np.float32)
    whole = energy.sum()
    for k in range(layers):
        weight[k] = energy[k] / whole
        phi[k, 0], phi[k, 1] = depth[k], log(ONE + max(depth[k], ZERO))
    standard(phi[:, 0], weight)
    standard(phi[:, 1], weight)
    both = ZERO
    for k in range(layers):
        both += weight[k] * phi[k, 0] * phi[k, 1]
    for k in range(layers):
        phi[k, 1] -= both * phi[k, 0]
    standard(phi[:, 1], weight)
    for k in range(layers):
        if energy[k] <= 0:
            phi[k, 0], phi[k, 1] = ZERO, ZERO
    return phi


@compiled
def standard(x: Array, weight: Array) -> None:
    """Put to mean 0 and spread 1 under weights, in place."""
    mean, square = ZERO, ZERO
    for k in range(x.shape[0]):
        mean += weight[k] * x[k]
    for k in range(x.shape[0]):
        x[k] -= mean
        square += weight[k] * x[k] * x[k]
    spread = max(np.sqrt(square), LEAST_SPREAD)
    for k in range(x.shape[0]):
        x[k] /= spread

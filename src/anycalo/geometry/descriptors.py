"""What a geometry-aware model is told of a detector: physics of every layer, never its number or its name.

A layer is seen through its sensors. Its flux of shower particles is sampled where they stand, so depths are
those of the sensors, and distances those from sensor to sensor, in radiation lengths and in millimetres.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType

import numpy as np

from anycalo.geometry.derived import (
    critical_energy_mev,
    depth_x0,
    effective_z,
    layer_critical_energy_mev,
    layer_moliere_mm,
    layer_sampling_fraction,
    layer_thickness_x0,
    mip_mev,
    moliere_radius_mm,
    sampling_fraction,
    sensitive_thickness_mm,
)
from anycalo.geometry.detector import Detector
from anycalo.geometry.materials import material

LAYER = (
    "sensor_front_x0",
    "sensor_back_x0",
    "spacing_x0",
    "behind_x0",
    "spacing_mm",
    "z_mm",
    "thickness_x0",
    "thickness_mm",
    "sensors",
    "sensor_mm",
    "sensor_x0",
    "sensor_z",
    "mip_mev",
    "sampling_fraction",
    "moliere_mm",
    "critical_energy_mev",
    "effective_z",
    "facing_front_z",
    "facing_back_z",
    "gap_front_mm",
    "gap_back_mm",
)
"""Columns of `layer_descriptors`."""
WHOLE = ("depth_x0", "moliere_mm", "critical_energy_mev", "sampling_fraction", "effective_z", "field_tesla")
"""Columns of `whole_descriptors`."""


@lru_cache(maxsize=4096)
def layer_descriptors(detector: Detector) -> np.ndarray:
    """The L layers in numbers, float64 (L, len(LAYER)), not to be written to.

    Columns: depth of the front of the first and of the back of the last sensor of the layer [X0]; distance between the
    middle of these and that of the layer before (the front face before the first) [X0], and to the next (the back
    of the detector) [X0]; the distance to the layer before and the depth of the middle [mm]; thickness of the layer [X0]
    and [mm]; number of its sensors, their total thickness [mm] and [X0], mean atomic number, and the loss of a minimum
    ionising particle in them [MeV]; sampling fraction; Moliere radius [mm], critical energy [MeV] and effective atomic
    number of the layer; mean atomic number of what faces its sensors from the front and from the back, as far as slow
    electrons reach (`facing_z`); thickness of the gas that touches its sensors from the front and from the back [mm].
    """
    rows = []
    depth, depth_mm = 0.0, 0.0
    for layer in detector.layers:
        front = back = None
        sensors, sensor_x0, sensor_z = 0, 0.0, 0.0
        before_sensitive = False
        for slab in layer.slabs:
            m = material(detector, slab.material)
            x0 = slab.thickness_mm / m.x0_mm
            if slab.sensitive:
                front = (depth, depth_mm) if front is None else front
                back = (depth + x0, depth_mm + slab.thickness_mm)
                sensors += not before_sensitive
                sensor_x0 += x0
                sensor_z += x0 * m.effective_z
            before_sensitive = slab.sensitive
            depth, depth_mm = depth + x0, depth_mm + slab.thickness_mm
        assert front is not None  # a layer without a sensor cannot be built
        assert back is not None
        rows.append((front[0], back[0], (front[1] + back[1]) / 2, sensors, sensor_x0, sensor_z / sensor_x0))
    front_x0, back_x0, z_mm, sensors_, sensor_x0_, sensor_z_ = np.array(rows).T
    middle = (front_x0 + back_x0) / 2
    columns = {
        "sensor_front_x0": front_x0,
        "sensor_back_x0": back_x0,
        "spacing_x0": np.diff(middle, prepend=0.0),
        "behind_x0": np.diff(middle, append=depth),
        "spacing_mm": np.diff(z_mm, prepend=0.0),
        "z_mm": z_mm,
        "thickness_x0": layer_thickness_x0(detector),
        "thickness_mm": detector.layer_thickness_mm,
        "sensors": sensors_,
        "sensor_mm": sensitive_thickness_mm(detector),
        "sensor_x0": sensor_x0_,
        "sensor_z": sensor_z_,
        "mip_mev": mip_mev(detector),
        "sampling_fraction": layer_sampling_fraction(detector),
        "moliere_mm": layer_moliere_mm(detector),
        "critical_energy_mev": layer_critical_energy_mev(detector),
        "effective_z": effective_z(detector),
        **dict(zip(("facing_front_z", "facing_back_z"), facing_z(detector), strict=True)),
        **dict(zip(("gap_front_mm", "gap_back_mm"), _gaps_mm(detector), strict=True)),
    }
    table = np.stack([columns[name] for name in LAYER], axis=1)
    table.setflags(write=False)
    return table


SLOW_G_CM2 = 0.2
"""Mass per area over which what faces a sensor is averaged: a tenth and a half of it are the ranges of electrons of
0.1 and 0.4 MeV, which leave a heavy absorber in numbers and stop before the sensor (e / mip, transition effect)."""


REACHES_G_CM2 = (0.02, 0.07, 0.6, 2.0)
"""More masses per area, those of slower and faster electrons, for `facing_table`."""


@lru_cache(maxsize=4096)
def facing_table(detector: Detector) -> np.ndarray:
    """`facing_z` at each of `REACHES_G_CM2`, front and back in turn, float64 (L, 8), not to be written to."""
    table = np.stack([column for reach in REACHES_G_CM2 for column in facing_z(detector, reach)], axis=1)
    table.setflags(write=False)
    return table


def _gaps_mm(detector: Detector) -> tuple[np.ndarray, np.ndarray]:
    """Thickness of gas that touches the sensors of each layer from the front and from the back [mm], averaged, (L,) each."""
    slabs = [(layer, slab) for layer, stack in enumerate(detector.layers) for slab in stack.slabs]
    gas = [material(detector, slab.material).is_gas for _, slab in slabs]

    def beside(k: int, step: int) -> float:
        total, k = 0.0, k + step
        while 0 <= k < len(slabs) and gas[k]:
            total, k = total + slabs[k][1].thickness_mm, k + step
        return total

    sums, count = np.zeros((2, detector.n_layers)), np.zeros(detector.n_layers)
    for k, (layer, slab) in enumerate(slabs):
        if slab.sensitive:
            sums[:, layer] += beside(k, -1), beside(k, 1)
            count[layer] += 1
    return sums[0] / count, sums[1] / count


def facing_z(detector: Detector, reach_g_cm2: float = SLOW_G_CM2) -> tuple[np.ndarray, np.ndarray]:
    """Mean atomic number before and behind the sensors of each layer, (L,) each; nothing, outside the detector, counts as 0.

    The weight of matter at mass per area s from the sensor's surface is exp(-s / reach) / reach; sensors of a layer are
    averaged.
    """
    slabs = [(layer, slab) for layer, stack in enumerate(detector.layers) for slab in stack.slabs]
    matter = [material(detector, slab.material) for _, slab in slabs]
    areal = [slab.thickness_mm / 10 * m.density_g_cm3 / reach_g_cm2 for (_, slab), m in zip(slabs, matter, strict=True)]

    def seen(start: int, step: int) -> float:
        total, passed, k = 0.0, 0.0, start
        while 0 <= k < len(slabs) and passed < 20:
            total += matter[k].effective_z * (np.exp(-passed) - np.exp(-passed - areal[k]))
            passed, k = passed + areal[k], k + step
        return total

    sums = np.zeros((2, detector.n_layers))
    count = np.zeros(detector.n_layers)
    for k, (layer, slab) in enumerate(slabs):
        if slab.sensitive:
            sums[:, layer] += seen(k - 1, -1), seen(k + 1, 1)
            count[layer] += 1
    return sums[0] / count, sums[1] / count


@lru_cache(maxsize=4096)
def whole_descriptors(detector: Detector) -> np.ndarray:
    """The detector in numbers, float64 (len(WHOLE),), not to be written to.

    Depth [X0], Moliere radius [mm], critical energy [MeV], sampling fraction, effective atomic number (weighted by
    radiation lengths), field [T].
    """
    thickness = layer_thickness_x0(detector)
    z = float((effective_z(detector) * thickness).sum() / thickness.sum())
    values = (
        depth_x0(detector),
        moliere_radius_mm(detector),
        critical_energy_mev(detector),
        sampling_fraction(detector),
        z,
        detector.field_tesla,
    )
    row = np.array(values)
    row.setflags(write=False)
    return row


RANGED = (
    "spacing_x0",
    "sensor_mm",
    "sensor_z",
    "sampling_fraction",
    "moliere_mm",
    "effective_z",
    "facing_front_z",
    "facing_back_z",
)
"""Columns of `layer_descriptors` whose ranges belong to a model's domain; of the whole detector, all of `WHOLE` do."""


def sensor_mip_mev(detector: Detector) -> np.ndarray:
    """What a minimum ionising particle loses in one sensor of each layer, straight through [MeV], (L,)."""
    table = layer_descriptors(detector)
    return np.asarray(table[:, LAYER.index("mip_mev")] / table[:, LAYER.index("sensors")])


def cell_mm(detector: Detector) -> float:
    """Side of a square of the area of a cell [mm], of the median layer."""
    return float(np.median([layer.readout.cell_mm for layer in detector.layers]))


@lru_cache(maxsize=4096)
def descriptor_ranges(detector: Detector) -> Mapping[str, tuple[float, float]]:
    """Lowest and highest value of what belongs to a domain: `layer <name>` over the layers, `detector <name>` of the whole.

    The first layer is left out where there are more: its distance to the front face is not one between sensors.
    """
    table = layer_descriptors(detector)[1:] if detector.n_layers > 1 else layer_descriptors(detector)
    found = {}
    for name in RANGED:
        column = table[:, LAYER.index(name)]
        found[f"layer {name}"] = (float(column.min()), float(column.max()))
    for name, value in zip(WHOLE, whole_descriptors(detector), strict=True):
        found[f"detector {name}"] = (float(value), float(value))
    return MappingProxyType(found)

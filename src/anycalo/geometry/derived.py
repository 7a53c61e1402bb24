"""What physics makes of a Detector: the universal coordinates of electromagnetic showers.

Every function takes a Detector and is cheap to call again. Arrays have shape (L,), one entry a layer,
and cannot be written to. A layer, and the whole detector, is treated as the mixture of its slabs:

    thickness in X0     t = sum_j l_j / X_j
    Moliere radius      1 / R_M = sum_j (l_j / l) / R_Mj
    critical energy     E_c = sum_j t_j E_cj / t          (so that R_M = E_s (l / t) / E_c again)
    effective Z         <Z> = sum_j t_j Z_j / t
    sampling fraction   MIP loss in the sensitive slabs / MIP loss in all slabs

with thickness l_j, radiation length X_j and so on of slab j. The rule for R_M is PDG's for mixtures
(Review of Particle Physics, "Electromagnetic cascades": 1 / R_M = (1 / E_s) sum_j w_j E_cj / X_j) with thicknesses in
place of weights: w_j is proportional to density times l_j. The sampling fraction is that of minimum
ionising particles; of a shower's energy a sensitive slab sees less behind a heavy absorber (e/mip < 1).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from anycalo.geometry.detector import Detector, Layer
from anycalo.geometry.materials import material


@dataclass(frozen=True, kw_only=True)
class _Sums:
    """Sums over the slabs of each layer, shape (L,)."""

    x0: np.ndarray
    over_moliere: np.ndarray
    x0_energy_mev: np.ndarray
    x0_z: np.ndarray
    sensitive_mm: np.ndarray
    sensitive_mip_mev: np.ndarray
    mip_mev: np.ndarray


def _layer_sums(detector: Detector, layer: Layer) -> list[float]:
    sums = np.zeros(7)
    for slab in layer.stack:
        m = material(detector, slab.material)
        t = slab.thickness_mm / m.x0_mm
        mip = slab.thickness_mm / 10 * m.mip_mev_per_cm
        seen = float(slab.sensitive)
        over_moliere = slab.thickness_mm / m.moliere_mm
        sums += (t, over_moliere, t * m.critical_energy_mev, t * m.effective_z, seen * slab.thickness_mm, seen * mip, mip)
    return list(sums * layer.stack_repeat)


@lru_cache(maxsize=256)
def _sums(detector: Detector) -> _Sums:
    kinds = {layer: _layer_sums(detector, layer) for layer in dict.fromkeys(detector.layers)}
    columns = np.array([kinds[layer] for layer in detector.layers]).T.copy()
    columns.setflags(write=False)
    return _Sums(**dict(zip(_Sums.__dataclass_fields__, columns, strict=True)))


def _fixed(values: Any) -> np.ndarray:
    array = np.asarray(values)
    array.setflags(write=False)
    return array


def layer_thickness_x0(detector: Detector) -> np.ndarray:
    """Thickness of each layer in radiation lengths."""
    return _sums(detector).x0


def layer_front_x0(detector: Detector) -> np.ndarray:
    """Depth of the front of each layer in radiation lengths."""
    return _fixed(np.concatenate([[0.0], np.cumsum(_sums(detector).x0)[:-1]]))


def depth_x0(detector: Detector) -> float:
    """Thickness of the whole detector in radiation lengths."""
    return float(_sums(detector).x0.sum())


def sensitive_thickness_mm(detector: Detector) -> np.ndarray:
    """Thickness of each layer's sensitive slabs [mm]."""
    return _sums(detector).sensitive_mm


def mip_mev(detector: Detector) -> np.ndarray:
    """What a minimum ionising particle along z loses in each layer's sensitive slabs [MeV]."""
    return _sums(detector).sensitive_mip_mev


def layer_sampling_fraction(detector: Detector) -> np.ndarray:
    """Share of a minimum ionising particle's loss in each layer that is visible."""
    return _fixed(_sums(detector).sensitive_mip_mev / _sums(detector).mip_mev)


def sampling_fraction(detector: Detector) -> float:
    """Share of a minimum ionising particle's loss in the whole detector that is visible."""
    return float(_sums(detector).sensitive_mip_mev.sum() / _sums(detector).mip_mev.sum())


def layer_moliere_mm(detector: Detector) -> np.ndarray:
    """Moliere radius of each layer [mm]."""
    return _fixed(detector.layer_thickness_mm / _sums(detector).over_moliere)


def moliere_radius_mm(detector: Detector) -> float:
    """Moliere radius of the whole detector [mm]."""
    return float(detector.depth_mm / _sums(detector).over_moliere.sum())


def layer_critical_energy_mev(detector: Detector) -> np.ndarray:
    """Critical energy of each layer [MeV]."""
    return _fixed(_sums(detector).x0_energy_mev / _sums(detector).x0)


def critical_energy_mev(detector: Detector) -> float:
    """Critical energy of the whole detector [MeV]."""
    return float(_sums(detector).x0_energy_mev.sum() / _sums(detector).x0.sum())


def effective_z(detector: Detector) -> np.ndarray:
    """Atomic number of each layer, every element weighted by its share of the radiation lengths."""
    return _fixed(_sums(detector).x0_z / _sums(detector).x0)


def describe(detector: Detector) -> dict[str, Any]:
    """The detector in numbers, ready for a table or JSON.

    Returns:
        name, description, n_layers, depth_mm, depth_x0, sampling_fraction, moliere_radius_mm,
        critical_energy_mev, field_tesla, size_mm, threshold_mip, and `groups`: one entry for each run of
        equal layers with first, last (1-based), thickness_mm and thickness_x0 of one layer, sensitive_mm,
        mip_mev, sampling_fraction and readout (words).
    """
    groups: list[dict[str, Any]] = []
    previous = None
    thickness_x0, fractions = layer_thickness_x0(detector), layer_sampling_fraction(detector)
    # Layers that differ only in the order of their slabs (sensors facing either way) count as equal.
    keys = [(tuple(sorted(map(repr, layer.slabs))), layer.readout) for layer in detector.layers]
    for i, (layer, key) in enumerate(zip(detector.layers, keys, strict=True)):
        if key == previous:
            groups[-1]["last"] = i + 1
            continue
        previous = key
        groups.append(
            {
                "first": i + 1,
                "last": i + 1,
                "thickness_mm": float(detector.layer_thickness_mm[i]),
                "thickness_x0": float(thickness_x0[i]),
                "sensitive_mm": float(sensitive_thickness_mm(detector)[i]),
                "mip_mev": float(mip_mev(detector)[i]),
                "sampling_fraction": float(fractions[i]),
                "readout": layer.readout.describe(),
            }
        )
    return {
        "name": detector.name,
        "description": detector.description,
        "n_layers": detector.n_layers,
        "depth_mm": detector.depth_mm,
        "depth_x0": depth_x0(detector),
        "sampling_fraction": sampling_fraction(detector),
        "moliere_radius_mm": moliere_radius_mm(detector),
        "critical_energy_mev": critical_energy_mev(detector),
        "field_tesla": detector.field_tesla,
        "size_mm": list(detector.size_mm),
        "threshold_mip": detector.threshold_mip,
        "groups": groups,
    }

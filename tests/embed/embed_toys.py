"""A small model, its scales set from toy showers and its networks untrained; and exported showers against a model's."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np

from anycalo.embed import DdmlLayout
from anycalo.geometry import Detector
from anycalo.models import Domain
from anycalo.models.caloclouds import CaloClouds, CaloCloudsConfig
from anycalo.models.flow import FlowConfig
from anycalo.models.pointwise import PointwiseConfig
from anycalo.showers import Showers
from toyshowers import toy_showers


def toy_model(detector: Detector, **config: object) -> CaloClouds:
    showers = toy_showers(detector, 120, 1, max_angle_rad=0.3)
    small = CaloCloudsConfig(
        flow=FlowConfig(blocks=1, affine=1, hidden=(16,)), network=PointwiseConfig(hidden=(8, 8)), **{"steps": 2, **config}
    )
    model = CaloClouds(small, Domain.of([showers]))
    model.stages([showers[:100]], [showers[100:]], seed=1)
    return model.eval()


def summary(energy: np.ndarray, count: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.stack([energy, count, y], axis=1)


def of_showers(showers: Showers) -> np.ndarray:
    """Energy, points and centre in y of each shower, (B, 3)."""
    total = showers.visible_mev()
    y = np.bincount(showers.shower, weights=showers.energy_mev * showers.y_mm, minlength=len(showers)) / total
    return summary(total, showers.counts, y)


def assert_alike(found: np.ndarray, expected: np.ndarray) -> None:
    """Means within 4.5 standard errors and spreads within 40 %: false alarms once in 10,000 runs.

    Spread is the width that holds two thirds of the showers: untrained networks have tails, one draw of which moves a standard
    deviation. The must-fail twin: shifted by a spread, the means differ.
    """
    error = np.sqrt(found.var(0) / len(found) + expected.var(0) / len(expected))
    assert (np.abs(found.mean(0) - expected.mean(0)) < 4.5 * error).all()
    assert (np.abs(found.mean(0) + found.std(0) - expected.mean(0)) > 4.5 * error).all()
    widths = [np.subtract(*np.quantile(sample, [5 / 6, 1 / 6], axis=0)) for sample in (found, expected)]
    assert (np.abs(np.log(widths[0] / widths[1])) < 0.4).all()


def as_shower(layout: DdmlLayout, numbers: np.ndarray) -> tuple[float, float, float]:
    counts, points = layout.unpack(numbers)
    assert (np.bincount(points[:, 2].astype(int), minlength=layout.layers) == counts).all()
    assert (points[:, 3] > 0).all()
    end = layout.layers * layout.count_stride + points.size
    assert not numbers[end:].any()
    return points[:, 3].sum(), len(points), np.average(points[:, 1], weights=points[:, 3])


def voxels(showers: Showers) -> np.ndarray:
    """The mesh of Par04, filled in numpy from showers in the x-z plane: (B, 9, 16, 45) in GeV."""
    (dx, _, dz), d = showers.incident.direction[0].astype(float), showers.detector
    z = d.layer_z_mm[showers.layer]
    u, v, w = dx * z - dz * showers.x_mm, -showers.y_mm, dx * showers.x_mm + dz * z
    i, k = np.floor(np.hypot(u, v) / 4.65).astype(int), np.floor(w / 3.4).astype(int)
    j = np.floor((np.arctan2(v, u) + np.pi) / (2 * np.pi) * 16).astype(int) % 16
    mesh = np.zeros((len(showers), 9, 16, 45))
    inside = (i < 9) & (k >= 0) & (k < 45)
    np.add.at(mesh, (showers.shower[inside], i[inside], j[inside], k[inside]), showers.energy_mev[inside] / 1000)
    return mesh


def imported(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module

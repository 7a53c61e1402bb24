"""Showers of many detectors as the tensors that the `anycalo` family is trained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from anycalo.geometry import Detector
from anycalo.geometry.descriptors import LAYER, cell_mm, layer_descriptors, sensor_mip_mev
from anycalo.models.grouping import grouped, with_cells
from anycalo.models.layer_tokens import encode_totals
from anycalo.models.merging import Joined, join_tracks, split_hot
from anycalo.models.model import axis_slopes
from anycalo.models.profile import measure
from anycalo.models.universal import CELLS_MM, Geometry, Told, layer_mip_mev, particle_table
from anycalo.showers import Showers

if TYPE_CHECKING:
    from anycalo.models.anycalo import AnyCalo, AnyCaloConfig

_SMALLEST_MIP = 1e-6
_JITTER_MM = 0.3
_THICKEST_MM = 2.5
TYPICAL_LOG_WIDTH = -1.0
"""Widths count from here, so that points with the width taken out keep about their own."""
_OF_LAYERS = tuple(f.name for f in fields(Told) if f.name != "shower")


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """Training showers first, then validation showers; points likewise.

    Args:
        showers, n_points: how many are for training.
        told: of all showers.
        totals: (B, 7).
        n, e: points and calibrated energy [MeV] of the layers, (B, L).
        points: compressed radius, angle / pi and ln energy in MIPs, (P, 3).
        ends: what the points were joined from: share, length and the two angles of `tracks.Ends`, (P, 4).
        row: row of `context` of each point, int32 (P,).
        context: of the layers that hold points, (R, C).
        slope: of the shower axis in them, (R, 2).
        place: of them among all layers, shower * L + layer, int64 (R,).
        joining: distance within which deposits of a shower were joined, in units of the coordinates' scale, (B,).
    """

    showers: int
    n_points: int
    told: Told
    totals: Tensor
    n: Tensor
    e: Tensor
    points: Tensor
    ends: Tensor
    row: Tensor
    context: Tensor
    slope: Tensor
    place: Tensor
    joining: Tensor

    def batch(self, index: Tensor) -> tuple[Tensor, ...]:
        """The chosen showers as tensors, for `unpack`, without layers that none of them has."""
        told = self.told[index]
        layers = int(told.valid.sum(1).max())
        of_told = [told.shower, *(getattr(told, name)[:, :layers] for name in _OF_LAYERS)]
        return (self.totals[index], self.n[index][:, :layers], self.e[index][:, :layers], *of_told)

    @staticmethod
    def unpack(batch: tuple[Tensor, ...]) -> tuple[Told, Tensor, Tensor, Tensor]:
        """What the showers of a batch are told, their totals, points and energies of the layers."""
        totals, n, e, shower, *of_layers = batch
        return Told(shower=shower, **dict(zip(_OF_LAYERS, of_layers, strict=True))), totals, n, e


@torch.no_grad()
def prepare(model: AnyCalo, batches: Sequence[Showers], *, n_training: int, seed: int, fit: bool) -> Prepared:
    """Join and divide deposits, change cells, group layers, and put everything into universal coordinates.

    Cells and groups are changed where there are several detectors: a model of one is to know it as it is.

    Args:
        model: whose coordinates and configuration are used.
        batches: showers, one batch a detector, training before validation.
        n_training: how many batches are for training.
        seed: of the choice of other cells and of grouped detectors, and of divided deposits.
        fit: set the model's scale of totals from the training showers, before layers are told of them.
    """
    rng = np.random.default_rng([seed, 0x6A0])
    chosen: list[tuple[Showers, bool]] = []
    for k, batch in enumerate(batches):
        shown = k < n_training and n_training > 1
        for view in range(model.config.views if shown else 1):
            seen = batch
            if shown and (view > 0 or rng.random() < model.config.other_cells):
                seen = with_cells(batch, float(np.exp(rng.uniform(*np.log(CELLS_MM)))))
            chosen.append((seen, k < n_training))
            if shown and rng.random() < model.config.grouped:
                chosen.append((grouped(seen, int(rng.integers(2, 4))), True))
    chosen.sort(key=lambda entry: not entry[1])
    joined = [joined_points(model, batch, seed + k) for k, (batch, _) in enumerate(chosen)]
    parts = [one.showers for one in joined]
    detectors = [part.detector for part in parts]
    geometry = Geometry(detectors)
    which = torch.repeat_interleave(torch.arange(len(parts)), torch.tensor([len(p) for p in parts]))
    told = model.coordinates.told(geometry, which, torch.cat([particle_table(p.incident) for p in parts]))
    layers = told.valid.shape[1]
    n, e = torch.zeros(len(which), layers), torch.zeros(len(which), layers)
    moments, points, ends, rows = [], [], [], []
    start = 0
    for one, part in zip(joined, parts, strict=True):
        stop, width = start + len(part), part.detector.n_layers
        n[start:stop, :width] = torch.from_numpy(part.layer_counts()).float()
        e[start:stop, :width] = torch.from_numpy(part.layer_energy_mev()).float()
        moment, x = _lateral(model, part)
        moments.append(moment)
        points.append(x)
        ends.append(_ends(model, one))
        rows.append(torch.from_numpy((start + part.shower) * layers + part.layer).to(torch.int32))
        start = stop
    e *= told.calibration
    totals = torch.cat([encode_totals(told, n.sum(1), e.sum(1)), torch.cat(moments), measure(told.phi, e)], dim=1)
    training = sum(len(p) for p, (_, used) in zip(parts, chosen, strict=True) if used)
    if fit:
        model.totals.fit(totals[:training])
    mip = _mips(parts, layers)
    context = torch.cat(
        [
            model.layer_context(told[part], totals[part], n[part], e[part], mip[part]).flatten(0, 1)
            for part in (slice(k, k + 500) for k in range(0, len(which), 500))
        ]
    )
    apart = [joining_distance(joining_radius_mm(model.config, d), model.coordinates.scale_mm(d)) for d in detectors]
    # Only layers with points are kept.
    row = torch.cat(rows)
    held = (n > 0).flatten()
    slope = np.concatenate([axis_slopes(part.incident) for part in parts])
    place = torch.cumsum(held, 0).to(torch.int32) - 1
    in_training = sum(p.n_points for p, (_, used) in zip(parts, chosen, strict=True) if used)
    return Prepared(
        showers=training,
        n_points=in_training,
        told=told,
        totals=totals,
        n=n,
        e=e,
        points=torch.cat(points),
        ends=torch.cat(ends),
        row=place[row.long()],
        context=context[held],
        slope=torch.from_numpy(slope).float().repeat_interleave(layers, 0)[held],
        place=torch.nonzero(held)[:, 0],
        joining=torch.tensor(apart)[which],
    )


def joining_radius_mm(config: AnyCaloConfig, detector: Detector) -> float:
    """Distance within which deposits are joined, from the median thickness of the sensors and the size of the cells.

    A slanted track leaves deposits along a path as long as the sensor is thick. Deposits that stand together for another
    reason, such as two electrons of one photon, are better joined the coarser the cells are.
    """
    table = layer_descriptors(detector)
    thickness = float(np.median(table[:, LAYER.index("sensor_mm")] / table[:, LAYER.index("sensors")]))
    radius = config.merge_radius_mm + config.merge_radius_slope * min(thickness, _THICKEST_MM)
    return float(radius * (min(max(cell_mm(detector), CELLS_MM[0]), CELLS_MM[1]) / 10) ** config.merge_cell_power)


def joining_distance(radius_mm: float, scale_mm: float) -> float:
    """A `joining_radius_mm` in units of the coordinates' scale, or a thousandth where nothing is joined."""
    return max(radius_mm / scale_mm, 1e-3)


def joined_points(model: AnyCalo, showers: Showers, seed: int) -> Joined:
    """Deposits joined and divided as the model learns them, energies in terms of the median MIP of the detector's sensors."""
    config, mip = model.config, float(np.median(sensor_mip_mev(showers.detector)))
    radius = joining_radius_mm(config, showers.detector)
    joined = join_tracks(showers, radius_mm=radius, energy_mev=config.merge_mips * mip)
    above, quantum = config.split_mips * mip, config.quantum_mips * mip
    return split_hot(joined, above_mev=above, quantum_mev=quantum, jitter_mm=_JITTER_MM, seed=seed)


def _ends(model: AnyCalo, joined: Joined) -> Tensor:
    """Of points: share, length, and the angles of the line and of the way from the shower axis, (P, 4)."""
    showers, (way_x, way_y) = joined.showers, joined.way_mm.T
    radius = max(joining_radius_mm(model.config, showers.detector), 1e-6)
    slope = axis_slopes(showers.incident)[showers.shower] * showers.detector.layer_z_mm[showers.layer][:, None]
    outwards = np.arctan2(showers.y_mm - slope[:, 1], showers.x_mm - slope[:, 0])
    columns = [joined.share, np.hypot(way_x, way_y) / radius, np.arctan2(way_y, way_x), outwards]
    return torch.from_numpy(np.stack(columns, axis=1).astype(np.float32))


def _lateral(model: AnyCalo, showers: Showers) -> tuple[Tensor, Tensor]:
    """Centre and ln width of the showers (B, 3), and their points (P, 3) with both taken out."""
    slope = axis_slopes(showers.incident)[showers.shower]
    xy = np.stack([showers.x_mm, showers.y_mm], axis=1) - slope * showers.detector.layer_z_mm[showers.layer][:, None]
    seen = model.coordinates.squeeze(torch.from_numpy(xy).float(), torch.from_numpy(slope).float())
    seen = seen / model.coordinates.scale_mm(showers.detector)
    shower, energy = torch.from_numpy(showers.shower), torch.from_numpy(showers.energy_mev)
    moments = model.lateral.measure(seen, energy, shower, len(showers))
    moments[:, 2] -= TYPICAL_LOG_WIDTH
    centred = model.lateral.remove(seen, moments, shower)
    along = layer_mip_mev(showers.detector, showers.incident)[shower, torch.from_numpy(showers.layer.astype(np.int64))]
    log_e = (energy / along).clamp_min(_SMALLEST_MIP).log()
    radius = torch.asinh(torch.linalg.vector_norm(centred, dim=1) / model.config.core_scale)
    angle = torch.atan2(centred[:, 1], centred[:, 0]) / torch.pi
    return moments, torch.stack([radius, angle, log_e], dim=1)


def _mips(parts: Sequence[Showers], layers: int) -> Tensor:
    """MIP of a sensor of each layer along the axis [MeV], 1 beyond a detector's layers, (B, L)."""
    out = torch.ones(sum(len(p) for p in parts), layers)
    start = 0
    for part in parts:
        out[start : start + len(part), : part.detector.n_layers] = layer_mip_mev(part.detector, part.incident)
        start += len(part)
    return out

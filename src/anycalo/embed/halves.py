"""A model as two halves of pure tensor arithmetic, which other programs' runtimes can hold.

Generation has one step whose size is random: how many points there are. So a graph has two halves, one before it
(`Layers`: points and energy of every layer) and one after it (`Points`), both made of the model's own modules. What
lies between, drawing again what is not physical and numbering the points, is left to each runtime.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import torch
from torch import Tensor, nn

from anycalo.embed.halves_anycalo import AnyCaloLayers, AnyCaloPoints
from anycalo.errors import ModelError
from anycalo.geometry import Detector
from anycalo.models import Model, Noise
from anycalo.models.anycalo import AnyCalo
from anycalo.models.caloclouds import CaloClouds
from anycalo.models.clusters import OF_POINT
from anycalo.models.conditions import Event, condition_table
from anycalo.models.layer_features import energy_basis
from anycalo.models.point_features import expand, impose_energy
from anycalo.models.pointwise import Rows
from anycalo.models.surroundings import OF_ENERGY
from anycalo.models.tracks import OF_TRACK
from anycalo.showers import Incident, Showers

ATTEMPTS = 50


@dataclass(frozen=True, kw_only=True)
class Halves:
    """Both halves of a model in one detector.

    Args:
        layers: from standard normal numbers (B, D), energy in MeV (B,), direction (B, 3) and charge (B,) to points (B, L)
            and visible energy in MeV (B, L) of each layer, extras (B, X), and whether the shower is physical (B,).
        points: from standard normal numbers (P, F), the row `shower * L + layer` of each point (P,), and points, energy,
            extras, incident energy, direction and charge of the showers to rows, x and y in mm and energy in MeV, (Q,) each,
            where one point may become several. Those of row B * L are padding and get no energy.
        n_layers: L.
        layer_normals: D.
        point_normals: F.
        layer_z_mm: depth of each layer.
    """

    layers: nn.Module
    points: nn.Module
    n_layers: int
    layer_normals: int
    point_normals: int
    layer_z_mm: tuple[float, ...]


class _CaloCloudsLayers(nn.Module):
    def __init__(self, model: CaloClouds) -> None:
        super().__init__()
        self.model = model
        low, high = (math.log(v) for v in model.domain.energy_mev)
        self.middle, self.half_width = (low + high) / 2, max((high - low) / 2, 0.1)

    def forward(
        self, normal: Tensor, energy_mev: Tensor, direction: Tensor, charge: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        scaled = (energy_mev.double().log() - self.middle) / self.half_width
        told = torch.stack([scaled, direction[:, 0].double(), direction[:, 1].double(), charge.double()], dim=1).float()
        basis = energy_basis(scaled, 1 / direction[:, 2].double() - 1).float()
        out: tuple[Tensor, Tensor, Tensor, Tensor] = self.model.features.decode(
            self.model.flow.inverse(normal, told), energy_mev, basis
        )
        return out


class _CaloCloudsPoints(nn.Module):
    def __init__(self, model: CaloClouds) -> None:
        super().__init__()
        self.model = model

    def forward(
        self,
        normal: Tensor,
        row: Tensor,
        n: Tensor,
        e: Tensor,
        extras: Tensor,
        energy_mev: Tensor,
        direction: Tensor,
        charge: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        m, layers = self.model, self.model.layers
        lateral = m.config.lateral_moments
        width = extras[:, 2] if lateral else torch.zeros_like(energy_mev)
        event = Event(energy_mev=energy_mev, direction=direction, charge=charge, n=n, e=e, log_width=width, z_mm=m.z_mm.to(n))
        table = m.condition_scale(condition_table(m.config.conditions, event))
        table = torch.cat([table, table[-1:]])
        padding = row == n.shape[0] * layers
        shower = torch.where(padding, n.shape[0] - 1, torch.div(row, layers, rounding_mode="floor"))
        x = m.point_scale.inverse(m._draw(Rows(table, row), normal))
        if m.generates_depth:
            # Points of a shower in the order of their depth fill its layers from the front; padding stays last.
            order = torch.argsort(torch.where(padding, torch.full_like(x[:, 2], 1e30), x[:, 2]), stable=True)
            x = x[order[torch.argsort(torch.where(padding, shower + 1, shower)[order], stable=True)]]
        xy = expand(x[:, :2], m.config.radial_scale_mm, m.largest_radius_mm)
        energy = m.energy_shape.inverse(x[:, -1:])[:, 0].exp()
        energy = impose_energy(energy, row, torch.cat([e.flatten(), e.new_zeros(1)]))
        if lateral:
            moments = torch.cat([extras[:, :2], extras[:, 2:] + m.typical_log_width], dim=1)
            xy = m.lateral.impose(xy, moments, energy, shower)
        xy = xy * (m.largest_radius_mm / torch.linalg.vector_norm(xy, dim=1, keepdim=True).clamp_min(1e-6)).clamp_max(1)
        layer = torch.where(padding, 0, row - shower * layers)
        xy = xy + (direction[:, :2] / direction[:, 2:])[shower] * m.z_mm[layer][:, None]
        return row.clone(), xy[:, 0], xy[:, 1], energy  # a graph has its inputs and its outputs apart


def _caloclouds(model: Model, detector: Detector) -> Halves:
    if not isinstance(model, CaloClouds):
        raise ModelError(f"expected a model of the family caloclouds; got {model.family}")
    return Halves(
        layers=_CaloCloudsLayers(model).eval(),
        points=_CaloCloudsPoints(model).eval(),
        n_layers=model.layers,
        layer_normals=model.features.dimension,
        point_normals=model._normals(),
        layer_z_mm=tuple(float(z) for z in detector.layer_z_mm),
    )


def _anycalo(model: Model, detector: Detector) -> Halves:
    if not isinstance(model, AnyCalo):
        raise ModelError(f"expected a model of the family anycalo; got {model.family}")
    layers = AnyCaloLayers(model, detector).eval()
    return Halves(
        layers=layers,
        points=AnyCaloPoints(model, detector).eval(),
        n_layers=detector.n_layers,
        layer_normals=layers.normals,
        point_normals=OF_POINT + OF_ENERGY + OF_TRACK,
        layer_z_mm=tuple(float(z) for z in detector.layer_z_mm),
    )


HALVES: Mapping[str, Callable[[Model, Detector], Halves]] = MappingProxyType(
    {CaloClouds.family: _caloclouds, AnyCalo.family: _anycalo}
)
"""How to take the models of a family apart."""


def take_apart(model: Model, detector: Detector) -> Halves:
    """The halves of a model in a detector.

    Raises:
        ModelError: if the family cannot be taken apart, or the model cannot make showers of the detector.
    """
    model.check(detector)
    if model.family not in HALVES:
        raise ModelError(
            f"models of the family {model.family} have no form that TorchScript or ONNX can hold (those that have:"
            f" {', '.join(HALVES)}); export it to ddml-python, which runs any model"
        )
    return HALVES[model.family](copy.deepcopy(model).cpu().eval().requires_grad_(False), detector)


def in_layers(row: Tensor, rows: int) -> Tensor:
    """The order of points row by row, ends of one point one after the other, without padding, which has the row `rows`."""
    return torch.argsort(row, stable=True)[: int((row < rows).sum())]


LayersCall = Callable[[Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor, Tensor, Tensor]]
PointsCall = Callable[..., tuple[Tensor, Tensor, Tensor, Tensor]]


@torch.no_grad()
def sample_halves(
    halves: Halves, detector: Detector, incident: Incident, noise: Noise, layers: LayersCall, points: PointsCall
) -> Showers:
    """One batch of showers through both halves: the same numbers, in the same order, as the model's own `sample`.

    Args:
        halves: for their sizes.
        detector: where.
        incident: B particles.
        noise: B streams.
        layers: runs the first half.
        points: runs the second.

    Raises:
        ModelError: if a shower stays unphysical however often it is drawn.
    """
    size, n_layers = len(incident), halves.n_layers
    told = (
        torch.from_numpy(incident.energy_mev),
        torch.from_numpy(incident.direction),
        torch.from_numpy(incident.charge),
    )
    n, e = torch.zeros(size, n_layers), torch.zeros(size, n_layers)
    extras = torch.zeros(size, 0)
    open_ = np.arange(size)
    rejected = 0
    for _ in range(ATTEMPTS):
        found = layers(noise.normal(halves.layer_normals, only=open_), *(t[open_] for t in told))
        good = found[3].numpy().astype(bool)
        done = torch.from_numpy(open_[good])
        if extras.shape[1] != found[2].shape[1]:
            extras = torch.zeros(size, found[2].shape[1])
        n[done], e[done], extras[done] = (part[torch.from_numpy(good)].float() for part in found[:3])
        open_ = open_[~good]
        rejected += len(open_)
        if len(open_) == 0:
            break
    else:
        raise ModelError(f"no physical shower in {ATTEMPTS} draws for {len(open_)} of {size} particles; train the model longer")
    counts = n.sum(1).long().numpy()
    row = torch.repeat_interleave(torch.arange(n.numel()), n.flatten().long())
    row, x, y, energy = points(noise.normal_points(counts, halves.point_normals), row, n, e, extras, *told)
    order = in_layers(row, n.numel())
    row, x, y, energy = (t[order] for t in (row, x, y, energy))
    counts = torch.bincount(torch.div(row, n_layers, rounding_mode="floor"), minlength=size).numpy()
    return Showers(
        detector=detector,
        incident=incident,
        offsets=np.concatenate([[0], np.cumsum(counts)]),
        x_mm=x.numpy(),
        y_mm=y.numpy(),
        layer=(row % n_layers).numpy(),
        energy_mev=energy.numpy(),
        provenance={"flow_draws": size + rejected, "flow_draws_rejected": rejected},
    )

"""A physics-informed loss: observables of generated showers, differentiable, pulled to the truth for their condition.

After CaloTrilogy (arXiv 2606.04165). An observable is a function of a `PointSet`; to add one, write it and list it in
`PHYSICS`. Energies are as the network makes them: nothing is scaled to a sum before it is observed.

A squared distance between the observables of a generated and of a true shower is least when all generated showers show the
mean. The loss is therefore the continuous ranked probability score: for two showers a, b generated for the particle of
a true shower, with values o,

    (|o_a - o_true| + |o_b - o_true| - |o_a - o_b|) / 2.

Its expectation is least where the generated distribution, given the condition, is the true one (Gneiting and Raftery,
J. Am. Stat. Assoc. 102 (2007) 359), spread included. For observables of several numbers |.| is the Euclidean norm
(the energy score), which also feels how they vary together.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor

from anycalo.errors import ModelError
from anycalo.geometry.file import suggest

RING_EDGES_MM = (4.0, 8.0, 16.0, 32.0)
"""Radii between the rings of `radial_profile`."""
_SOFTNESS = 0.25


@dataclass(frozen=True, kw_only=True)
class PointSet:
    """The points of B showers.

    Args:
        x_mm, y_mm: relative to the shower axis, (P,).
        energy_mev: (P,).
        layer: 0-based, (P,).
        shower: from 0 to B - 1, (P,).
        showers: B.
        z_mm: depth of each layer, (L,).
    """

    x_mm: Tensor
    y_mm: Tensor
    energy_mev: Tensor
    layer: Tensor
    shower: Tensor
    showers: int
    z_mm: Tensor

    def sum(self, values: Tensor) -> Tensor:
        """Sum of values (P,) over the points of each shower, (B,)."""
        return values.new_zeros(self.showers).index_add(0, self.shower, values)

    def mean(self, values: Tensor) -> Tensor:
        """Energy-weighted mean of values (P,) over each shower, (B,)."""
        return self.sum(values * self.energy_mev) / self.sum(self.energy_mev).clamp_min(1e-12)

    def spread(self, values: Tensor) -> Tensor:
        """Energy-weighted rms about the energy-weighted mean, (B,)."""
        centred = values - self.mean(values)[self.shower]
        return (self.mean(centred**2) + 1e-12).sqrt()


def layer_energies(points: PointSet) -> Tensor:
    """Energy in each layer [MeV], (B, L)."""
    layers = len(points.z_mm)
    index = points.shower * layers + points.layer
    flat = points.energy_mev.new_zeros(points.showers * layers).index_add(0, index, points.energy_mev)
    return flat.view(points.showers, layers)


def total_energy(points: PointSet) -> Tensor:
    """Energy of all points [MeV], (B,)."""
    return points.sum(points.energy_mev)


def longitudinal_profile(points: PointSet) -> Tensor:
    """Share of the energy in each layer, (B, L)."""
    return layer_energies(points) / total_energy(points).clamp_min(1e-12)[:, None]


def radial_profile(points: PointSet) -> Tensor:
    """Share of the energy beyond each of `RING_EDGES_MM`, (B, R); edges are soft, a quarter of a radius wide."""
    radius = torch.sqrt(points.x_mm**2 + points.y_mm**2 + 1e-6).log()
    beyond = [points.mean(torch.sigmoid((radius - radius.new_tensor(edge).log()) / _SOFTNESS)) for edge in RING_EDGES_MM]
    return torch.stack(beyond, dim=1)


def centre(points: PointSet) -> Tensor:
    """Centre of gravity in x, y and depth [mm], (B, 3)."""
    return torch.stack([points.mean(v) for v in (points.x_mm, points.y_mm, points.z_mm[points.layer])], dim=1)


def widths(points: PointSet) -> Tensor:
    """Energy-weighted widths in x, y and depth [mm], (B, 3)."""
    return torch.stack([points.spread(v) for v in (points.x_mm, points.y_mm, points.z_mm[points.layer])], dim=1)


def log_energy_moments(points: PointSet) -> Tensor:
    """Mean and mean square of ln(energy / 1 MeV) over the points of each shower, (B, 2): the spectrum of deposits."""
    log_energy = points.energy_mev.clamp_min(1e-9).log()
    count = points.sum(torch.ones_like(log_energy)).clamp_min(1)
    return torch.stack([points.sum(log_energy) / count, points.sum(log_energy**2) / count], dim=1)


PHYSICS: Mapping[str, Callable[[PointSet], Tensor]] = MappingProxyType(
    {
        f.__name__: f
        for f in (
            layer_energies,
            total_energy,
            longitudinal_profile,
            radial_profile,
            centre,
            widths,
            log_energy_moments,
        )
    }
)
"""Observables by name: (B,) or (B, M) numbers of a `PointSet`."""


def check_observables(names: Sequence[str]) -> None:
    """Refuse unknown names.

    Raises:
        ModelError: naming what there is.
    """
    for name in names:
        if name not in PHYSICS:
            raise ModelError(f"observable '{name}' is unknown.{suggest(name, PHYSICS)} Known: {', '.join(PHYSICS)}.")


def observe(points: PointSet, names: Sequence[str] = tuple(PHYSICS)) -> dict[str, Tensor]:
    """The named observables, each (B, M)."""
    return {name: PHYSICS[name](points).reshape(points.showers, -1) for name in names}


def scales(truth: PointSet, names: Sequence[str] = tuple(PHYSICS)) -> dict[str, Tensor]:
    """Standard deviation of each observable over true showers, (M,); what does not vary is taken as it is."""
    found = {}
    for name, values in observe(truth, names).items():
        spread = values.std(dim=0)
        found[name] = torch.where(spread > 1e-9, spread, torch.ones_like(spread))
    return found


def physics_loss(first: PointSet, second: PointSet, truth: PointSet, scale: Mapping[str, Tensor]) -> Tensor:
    """The score of the module's text, averaged over showers and observables.

    Args:
        first: showers generated for the particles of `truth`, shower by shower.
        second: others, generated independently.
        truth: true showers.
        scale: units of the observables to use, from `scales`.
    """
    names = tuple(scale)
    a, b, t = (observe(points, names) for points in (first, second, truth))
    return torch.stack([energy_score(a[k] / scale[k], b[k] / scale[k], t[k] / scale[k]) for k in names]).mean()


def energy_score(first: Tensor, second: Tensor, truth: Tensor) -> Tensor:
    """(|a - t| + |b - t| - |a - b|) / 2 over the root of M, averaged over showers: (B, M) each."""

    def norm(difference: Tensor) -> Tensor:
        return (difference.square().mean(dim=1) + 1e-12).sqrt()

    return (norm(first - truth) + norm(second - truth) - norm(first - second)).mean() / 2

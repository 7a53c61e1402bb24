"""The totals of a shower: visible energy, energy of a point, centre, width and depth, jointly, for any detector."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from anycalo.errors import ModelError
from anycalo.models.mixture import GaussianMixture, perceptron
from anycalo.models.universal import Told

QUANTITIES = 7
"""T, M (`layer_tokens`), the centre in x and y and ln width (`point_features.Lateral`), the depths D (`profile`)."""
DEPTHS = slice(5, 7)
"""Where among them the depths stand."""
NOISE = QUANTITIES + 2
"""Standard normal numbers that a shower takes: for the quantities, for the component of the mixture, and for the member."""


@dataclass(frozen=True, kw_only=True)
class TotalsConfig:
    """Sizes of the network of the totals.

    Args:
        layer_hidden: of the part that sees one layer.
        hidden: of the part that sees the shower.
        components: Gaussians of the mixture.
        members: networks, trained from different beginnings. Each shower is drawn from one of them: what they disagree on
            between detectors averages out (deep ensembles, arXiv 1612.01474).
        response_weight: in training, of the likelihood of the visible energy alone, beside that of all quantities together: the
            resolution of showers of high energy is worth little to the latter, and would be learnt last.
    """

    layer_hidden: int = 48
    hidden: int = 96
    components: int = 6
    members: int = 4
    response_weight: float = 4.0

    def __post_init__(self) -> None:
        for name in ("layer_hidden", "hidden", "components", "members"):
            if getattr(self, name) < 1:
                raise ModelError(f"{name} is {getattr(self, name)!r}; expected at least 1")
        if not self.response_weight >= 0:
            raise ModelError(f"response_weight is {self.response_weight!r}; expected a number of at least 0")


class Member(nn.Module):
    """One network: layers are pooled by the energy that is expected of them, and evenly.

    Args:
        shower_features: of `universal.Told.shower`.
        layer_features: of its `layer`.
        config: sizes.
    """

    def __init__(self, shower_features: int, layer_features: int, config: TotalsConfig) -> None:
        super().__init__()
        self.layer = perceptron(layer_features + shower_features, config.layer_hidden, config.layer_hidden)
        self.shower = perceptron(2 * config.layer_hidden + shower_features, config.hidden, config.hidden)
        self.mixture = GaussianMixture(config.hidden, QUANTITIES, config.components)

    def forward(self, told: Told) -> Tensor:
        """Features that the mixture is made from, (B, hidden)."""
        wide = told.shower[:, None].expand(-1, told.layer.shape[1], -1)
        h = self.layer(torch.cat([told.layer, wide], dim=-1))
        expected = told.energy_mev / told.energy_mev.sum(1, keepdim=True)
        even = told.valid.to(h.dtype) / told.valid.sum(1, keepdim=True)
        pooled = [(weight[..., None] * h).sum(1) for weight in (expected, even)]
        out: Tensor = self.shower(torch.cat([*pooled, told.shower], dim=-1))
        return out


class Totals(nn.Module):
    """p(T, M, centre, width, depth | particle, detector), an ensemble of mixtures.

    Args:
        shower_features: of `universal.Told.shower`.
        layer_features: of its `layer`.
        config: sizes.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, shower_features: int, layer_features: int, config: TotalsConfig) -> None:
        super().__init__()
        self.response_weight = config.response_weight
        self.members = nn.ModuleList(Member(shower_features, layer_features, config) for _ in range(config.members))
        self.register_buffer("mean", torch.zeros(QUANTITIES))
        self.register_buffer("std", torch.ones(QUANTITIES))

    @torch.no_grad()
    def fit(self, totals: Tensor) -> None:
        """Set the scales from totals (B, 7)."""
        self.mean.copy_(totals.double().mean(0))
        self.mean[2:4] = 0  # centres are even, by symmetry
        self.std.copy_(totals.double().std(0).clamp_min(1e-3))

    def negative_log_likelihood(self, told: Told, totals: Tensor) -> Tensor:
        """Per quantity, of totals (B, 7), averaged over the members, each of which learns on its own: (B,).

        That of T alone is added with `TotalsConfig.response_weight`.
        """
        scaled = (totals - self.mean) / self.std
        each = [member.mixture.log_probs(member(told), scaled) for member in self.members]  # type: ignore[operator, union-attr]
        of_all, of_response = (torch.stack(column).mean(0) for column in zip(*each, strict=True))
        return -(of_all + self.response_weight * of_response) / QUANTITIES

    @torch.no_grad()
    def moments(self, told: Told) -> tuple[Tensor, Tensor]:
        """Mean and variance of the totals of showers, over the mixtures of all members, (B, 7) each."""
        firsts, seconds = [], []
        for member in cast(Iterable[Member], self.members):
            weight, mean, diagonal, below = member.mixture.parameters_of(member(told))
            precision = torch.diag_embed(diagonal.exp())
            precision[..., member.mixture.rows, member.mixture.columns] = below
            spread = torch.linalg.inv(precision).square().sum(-1)
            firsts.append((weight.exp()[..., None] * mean).sum(1))
            seconds.append((weight.exp()[..., None] * (mean**2 + spread)).sum(1))
        first, second = torch.stack(firsts).mean(0), torch.stack(seconds).mean(0)
        return first * self.std + self.mean, (second - first**2) * self.std**2

    @torch.no_grad()
    def move(self, by: Tensor) -> None:
        """Add numbers (7,) to the totals that are drawn, whatever they are: to the means of all Gaussians."""
        for member in cast(Iterable[Member], self.members):
            K, D = member.mixture.components, member.mixture.dimension
            member.mixture.linear.bias[K : K * (1 + D)] += (by / self.std).repeat(K)

    def scaled(self, totals: Tensor) -> Tensor:
        """Totals as inputs of other networks, (B, 7)."""
        return ((totals - self.mean) / self.std).clamp(-5, 5)

"""The totals of a shower: visible energy, energy of a point, centre and width, jointly, for any detector."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from anycalo.errors import ModelError
from anycalo.models.mixture import GaussianMixture, perceptron
from anycalo.models.universal import Told

QUANTITIES = 5
"""T, M (`layer_tokens`), the centre in x and y and ln width (`point_features.Lateral`)."""


@dataclass(frozen=True, kw_only=True)
class TotalsConfig:
    """Sizes of the network of the totals.

    Args:
        layer_hidden: of the part that sees one layer.
        hidden: of the part that sees the shower.
        components: Gaussians of the mixture.
    """

    layer_hidden: int = 48
    hidden: int = 96
    components: int = 6

    def __post_init__(self) -> None:
        for name in ("layer_hidden", "hidden", "components"):
            if getattr(self, name) < 1:
                raise ModelError(f"{name} is {getattr(self, name)!r}; expected at least 1")


class Totals(nn.Module):
    """p(T, M, centre, width | particle, detector): layers are pooled by the energy that is expected of them, and evenly.

    Args:
        shower_features, layer_features: of `universal.Told`.
        config: sizes.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, shower_features: int, layer_features: int, config: TotalsConfig) -> None:
        super().__init__()
        self.layer = perceptron(layer_features + shower_features, config.layer_hidden, config.layer_hidden)
        self.shower = perceptron(2 * config.layer_hidden + shower_features, config.hidden, config.hidden)
        self.mixture = GaussianMixture(config.hidden, QUANTITIES, config.components)
        self.register_buffer("mean", torch.zeros(QUANTITIES))
        self.register_buffer("std", torch.ones(QUANTITIES))

    @torch.no_grad()
    def fit(self, totals: Tensor) -> None:
        """Set the scales from totals (B, 5)."""
        self.mean.copy_(totals.double().mean(0))
        self.mean[2:4] = 0  # centres are even, by symmetry
        self.std.copy_(totals.double().std(0).clamp_min(1e-3))

    def _features(self, told: Told) -> Tensor:
        wide = told.shower[:, None].expand(-1, told.layer.shape[1], -1)
        h = self.layer(torch.cat([told.layer, wide], dim=-1))
        expected = told.energy_mev / told.energy_mev.sum(1, keepdim=True)
        even = told.valid.to(h.dtype) / told.valid.sum(1, keepdim=True)
        pooled = [(weight[..., None] * h).sum(1) for weight in (expected, even)]
        out: Tensor = self.shower(torch.cat([*pooled, told.shower], dim=-1))
        return out

    def negative_log_likelihood(self, told: Told, totals: Tensor) -> Tensor:
        """Per quantity, of totals (B, 5): (B,)."""
        scaled = (totals - self.mean) / self.std
        return -self.mixture.log_prob(self._features(told), scaled) / QUANTITIES

    def sample(self, told: Told, normal: Tensor) -> Tensor:
        """Totals (B, 5) from standard normal numbers (B, 6)."""
        return self.mixture.sample(self._features(told), normal) * self.std + self.mean

    def scaled(self, totals: Tensor) -> Tensor:
        """Totals as inputs of other networks, (B, 5)."""
        return ((totals - self.mean) / self.std).clamp(-5, 5)

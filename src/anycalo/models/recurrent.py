"""Counts and energies of the layers, one layer after the other from the front, for any number of layers."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from anycalo.errors import ModelError
from anycalo.models.layer_tokens import OFFSET, Shares, progress_features
from anycalo.models.mixture import GaussianMixture, perceptron
from anycalo.models.universal import Told

PAST = 7
"""What a layer is told of the one before: a, m, ln count, and the four numbers of `layer_tokens.progress_features`."""
NOISE = 4
"""Standard normal numbers that a layer takes: its count and the component for it, the same for its energy."""


@dataclass(frozen=True, kw_only=True)
class RecurrentConfig:
    """Sizes of the recurrent layer model.

    Args:
        embedding: size of what describes a layer.
        hidden: size of the memory.
        head: size of the layer before each mixture.
        components: Gaussians of each mixture.
    """

    embedding: int = 64
    hidden: int = 96
    head: int = 48
    components: int = 6

    def __post_init__(self) -> None:
        for name in ("embedding", "hidden", "head", "components"):
            if getattr(self, name) < 1:
                raise ModelError(f"{name} is {getattr(self, name)!r}; expected at least 1")


class RecurrentLayers(nn.Module):
    """p(a_l, m_l | layers before l, totals, particle, detector): a gated recurrent unit (arXiv 1406.1078) with mixture heads.

    Args:
        shower_features: of `universal.Told.shower`.
        layer_features: of its `layer` and `detail` together.
        totals: how many numbers describe the totals.
        config: sizes.
    """

    def __init__(self, shower_features: int, layer_features: int, totals: int, config: RecurrentConfig) -> None:
        super().__init__()
        size = config.embedding
        self.embed = perceptron(shower_features + layer_features + totals + 2, size, size)
        self.memory = nn.GRU(size + PAST, config.hidden, batch_first=True)
        self.count = perceptron(config.hidden + size, config.head)
        self.count_mixture = GaussianMixture(config.head, 1, config.components)
        self.energy = perceptron(config.hidden + size + 3, config.head)
        self.energy_mixture = GaussianMixture(config.head, 1, config.components)

    def _embedding(self, told: Told, totals: Tensor, shares: Shares) -> Tensor:
        layers = told.layer.shape[1]
        wide = torch.cat([told.shower, totals], dim=-1)[:, None].expand(-1, layers, -1)
        expected = torch.stack([(shares.count + OFFSET).log() / 3, shares.mean_mev.log()], dim=-1)
        out: Tensor = self.embed(torch.cat([wide, told.layer, told.detail, expected], dim=-1))
        return out

    def negative_log_likelihood(
        self, told: Told, totals: Tensor, shares: Shares, nu: Tensor, a: Tensor, m: Tensor, e: Tensor, e_total: Tensor
    ) -> Tensor:
        """Of tokens a and m (B, L), per layer: (B,); m counts where a layer holds a point.

        Args:
            told: of the showers.
            totals: of the showers, scaled, (B, T).
            shares: of the showers.
            nu: of `encode_layers`, as are a and m.
            a: (B, L).
            m: (B, L).
            e: energies of the layers [MeV], (B, L).
            e_total: (B,).
        """
        embedding = self._embedding(told, totals, shares)
        past = torch.stack([a, m, (nu + OFFSET).log() / 3], dim=-1)
        past = torch.cat([torch.zeros_like(past[:, :1]), past[:, :-1]], dim=1)
        memory, _ = self.memory(torch.cat([embedding, past, progress_features(shares, nu, e, e_total)], dim=-1))
        h = torch.cat([memory, embedding], dim=-1)
        of_count = self.count_mixture.log_prob(self.count(h), a[..., None])
        of_energy = self.energy_mixture.log_prob(self.energy(torch.cat([h, _of_count(a, nu)], dim=-1)), m[..., None])
        total = torch.where(told.valid, of_count, 0.0) + torch.where(told.valid & (e > 0), of_energy, 0.0)
        return -total.sum(1) / told.valid.sum(1)


def _of_count(a: Tensor, nu: Tensor) -> Tensor:
    return torch.stack([a, (nu + OFFSET).log() / 3, (nu + 1).rsqrt()], dim=-1)

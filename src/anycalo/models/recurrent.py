"""Counts and energies of the layers, one layer after the other from the front, for any number of layers."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from anycalo.errors import ModelError
from anycalo.models.layer_tokens import OFFSET, Shares, blurred, encode_layers, interval, progress_features
from anycalo.models.mixture import GaussianMixture, perceptron
from anycalo.models.universal import Told

PAST = 7
"""What a layer is told of the one before: a, m, ln count, and the four numbers of `layer_tokens.progress_features`."""
OF_COUNT = 4
"""What the energy of a layer is told of its points: a, ln N, N^-1/2, and the energy of a point in terms of a crossing's."""
NOISE = 4
"""Standard normal numbers that a layer takes: its count and the component for it, the same for its energy."""


def of_walk(layers: int) -> int:
    """Standard normal numbers that a shower takes in so many layers: the blur of counts, and `NOISE` a layer."""
    return 1 + NOISE * layers


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
    """p(N_l, m_l | layers before l, totals, particle, detector): a gated recurrent unit (arXiv 1406.1078) with mixture heads.

    Args:
        shower_features: of `universal.Told.shower`.
        layer_features: of its `layer`.
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
        self.energy = perceptron(config.hidden + size + OF_COUNT, config.head)
        self.energy_mixture = GaussianMixture(config.head, 1, config.components)

    def _embedding(self, told: Told, totals: Tensor, shares: Shares) -> Tensor:
        layers = told.layer.shape[1]
        wide = torch.cat([told.shower, totals], dim=-1)[:, None].expand(-1, layers, -1)
        expected = torch.stack([(shares.count + OFFSET).log() / 3, shares.mean_mev.log()], dim=-1)
        out: Tensor = self.embed(torch.cat([wide, told.layer, expected], dim=-1))
        return out

    def negative_log_likelihood(
        self, told: Told, totals: Tensor, shares: Shares, n: Tensor, e: Tensor, e_total: Tensor, normal: Tensor
    ) -> Tensor:
        """Of the layers of showers, per layer: (B,); the energy counts where a layer holds a point.

        Args:
            told: of the showers.
            totals: of the showers, scaled, (B, T).
            shares: of the showers.
            n: points of the layers, (B, L).
            e: their energies [MeV], (B, L).
            e_total: (B,).
            normal: a standard normal number for each shower, of the blur, (B,).
        """
        embedding = self._embedding(told, totals, shares)
        a, m = encode_layers(shares, n, e)
        nu, seen = blurred(shares, n, normal)
        past = torch.stack([seen, m, (nu + OFFSET).log() / 3], dim=-1)
        past = torch.cat([torch.zeros_like(past[:, :1]), past[:, :-1]], dim=1)
        memory, _ = self.memory(torch.cat([embedding, past, progress_features(shares, nu, e, e_total)], dim=-1))
        h = torch.cat([memory, embedding], dim=-1)
        of_count = self.count_mixture.log_interval(self.count(h), *interval(shares, n))
        crossing = shares.crossing[:, None].log().expand_as(n)
        given = self.energy(torch.cat([h, _of_count(a, n, crossing)], dim=-1))
        of_energy = self.energy_mixture.log_prob(given, (m + of_few(n) * crossing)[..., None])
        total = torch.where(told.valid, of_count, 0.0) + torch.where(told.valid & (e > 0), of_energy, 0.0)
        return -total.sum(1) / told.valid.sum(1)


def _of_count(a: Tensor, n: Tensor, crossing: Tensor) -> Tensor:
    return torch.stack([a, (n + 0.5 + OFFSET).log() / 3, (n + 1.5).rsqrt(), crossing], dim=-1)


def of_few(n: Tensor) -> Tensor:
    """How far the energy of a layer of n points is learnt relative to crossings, and not to the mean of the shower's points.

    One point is what one particle leaves, whatever the shower; a thousand are a sample of the shower.
    """
    return 2 / (n + 1)

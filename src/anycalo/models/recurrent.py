"""Counts and energies of the layers, one layer after the other from the front, for any number of layers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from scipy.special import erf, expit, ndtr
from torch import Tensor, nn

from anycalo.errors import ModelError
from anycalo.models.layer_tokens import OFFSET, SHARE_OFFSET, Shares, progress_features
from anycalo.models.mixture import WIDEST, GaussianMixture, perceptron
from anycalo.models.universal import Told

_MEMORY = 7
NOISE = 4
"""Standard normal numbers that a layer takes."""


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
        self.memory = nn.GRU(size + _MEMORY, config.hidden, batch_first=True)
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

    @torch.no_grad()
    def sample(self, told: Told, totals: Tensor, shares: Shares, e_total: Tensor, normal: Tensor) -> tuple[Tensor, Tensor]:
        """Blurred counts and energies [MeV] of the layers, (B, L) each, from standard normal numbers (B, L, 4).

        What does not depend on earlier layers is evaluated for all layers at once; the walk through the layers is in numpy,
        whose calls on small arrays cost a fraction of PyTorch's.
        """
        embedding = self._embedding(told, totals, shares)
        size, hidden = embedding.shape[-1], self.memory.hidden_size
        of_input, of_memory = (cast(Tensor, w) for w in (self.memory.weight_ih_l0, self.memory.weight_hh_l0))
        first = [cast(nn.Linear, head[0]) for head in (self.count, self.energy)]
        input_bias, memory_bias = (cast(Tensor, b) for b in (self.memory.bias_ih_l0, self.memory.bias_hh_l0))
        gates = embedding @ of_input[:, :size].T + input_bias
        of_layer = [gates, *(embedding @ f.weight[:, hidden : hidden + size].T + f.bias for f in first)]
        gates_of, *heads = (np.ascontiguousarray(t.transpose(0, 1).numpy()) for t in of_layer)
        past_weight, memory_weight = (t.T.contiguous().numpy() for t in (of_input[:, size:], of_memory))
        memory_offset = memory_bias.numpy()
        head_weights = [f.weight[:, :hidden].T.contiguous().numpy() for f in first]
        count_weight = first[1].weight[:, hidden + size :].T.contiguous().numpy()
        mixtures = [
            (m.linear.weight.T.contiguous().numpy(), m.linear.bias.numpy()) for m in (self.count_mixture, self.energy_mixture)
        ]
        z = np.ascontiguousarray(normal.permute(1, 2, 0).numpy())
        uniform = ndtr(z[:, 1::2])
        count_expected, mean = shares.count.T.contiguous().numpy(), shares.mean_mev.T.contiguous().numpy()
        log_expected, log_mean = np.log(count_expected + OFFSET), np.log(mean)
        layers, batch = count_expected.shape
        progress = Progress(count_expected, mean, e_total.numpy())
        h = np.zeros((batch, hidden), np.float32)
        past = np.zeros((batch, _MEMORY), np.float32)
        nu, e = np.zeros((layers, batch), np.float32), np.zeros((layers, batch), np.float32)
        for k in range(layers):
            past[:, 3:] = progress.features()
            given = gates_of[k] + past @ past_weight
            remembered = h @ memory_weight + memory_offset
            both = expit(given[:, : 2 * hidden] + remembered[:, : 2 * hidden])
            new = np.tanh(given[:, 2 * hidden :] + both[:, :hidden] * remembered[:, 2 * hidden :])
            h = new + both[:, hidden:] * (h - new)
            a = _draw(_gelu(heads[0][k] + h @ head_weights[0]), mixtures[0], z[k, 0], uniform[k, 0])
            count = np.maximum(np.exp(np.minimum(a + log_expected[k], 20)) - OFFSET, 0)
            past[:, 2] = np.log(count + OFFSET) / 3
            of_count = np.stack([a, past[:, 2], 1 / np.sqrt(count + 1)], axis=1)
            m = _draw(_gelu(heads[1][k] + h @ head_weights[1] + of_count @ count_weight), mixtures[1], z[k, 2], uniform[k, 1])
            m[count < 1] = 0
            energy = count * np.exp(np.clip(m, -12, 12) + log_mean[k])
            energy[count < 1] = 0
            past[:, 0], past[:, 1] = a, m
            nu[k], e[k] = count, energy
            progress.add(k, count, energy)
        return torch.from_numpy(nu.T.copy()), torch.from_numpy(e.T.copy())


class Progress:
    """`progress_features` of one layer after the other.

    Args:
        count: expected points, (L, B).
        mean_mev: expected energy of a point, (L, B).
        e_total: (B,).
    """

    def __init__(self, count: np.ndarray, mean_mev: np.ndarray, e_total: np.ndarray) -> None:
        share = count * mean_mev
        share = share / share.sum(axis=0)
        total = count.sum(axis=0)
        before, share_before = np.cumsum(count, axis=0) - count, np.cumsum(share, axis=0) - share
        self._log_expected = np.log(
            np.stack(
                [
                    before + OFFSET,
                    np.maximum(total - before, 0) + OFFSET,
                    share_before + SHARE_OFFSET,
                    np.maximum(1 - share_before, 0) + SHARE_OFFSET,
                ],
                axis=2,
            )
        )
        self._total, self._e_total = total, e_total
        self._layer = 0
        self._points, self._share = np.zeros_like(total), np.zeros_like(total)

    def features(self) -> np.ndarray:
        """Of the next layer, (B, 4)."""
        found = np.stack(
            [
                self._points + OFFSET,
                np.maximum(self._total - self._points, 0) + OFFSET,
                self._share + SHARE_OFFSET,
                np.maximum(1 - self._share, 0) + SHARE_OFFSET,
            ],
            axis=1,
        )
        return np.asarray(np.log(found) - self._log_expected[self._layer])

    def add(self, layer: int, points: np.ndarray, energy_mev: np.ndarray) -> None:
        """Count a layer, (B,) each."""
        self._points = self._points + points
        self._share = self._share + energy_mev / self._e_total
        self._layer = layer + 1


def _gelu(x: np.ndarray) -> np.ndarray:
    return np.asarray(0.5 * x * (1 + erf(x * np.float32(math.sqrt(0.5)))))


def _draw(h: np.ndarray, linear: tuple[np.ndarray, np.ndarray], normal: np.ndarray, uniform: np.ndarray) -> np.ndarray:
    """One draw (B,) from each of B mixtures of one dimension; see `GaussianMixture.sample`."""
    parameters = h @ linear[0] + linear[1]
    components = parameters.shape[1] // 3
    weight = np.exp(parameters[:, :components] - parameters[:, :components].max(axis=1, keepdims=True)).cumsum(axis=1)
    chosen = (weight < uniform[:, None] * weight[:, -1:]).sum(axis=1).clip(max=components - 1)
    row = np.arange(len(h))
    mean, log_precision = parameters[row, components + chosen], parameters[row, 2 * components + chosen]
    return np.asarray(mean + normal * np.exp(-WIDEST * np.tanh(log_precision / WIDEST)))


def _of_count(a: Tensor, nu: Tensor) -> Tensor:
    return torch.stack([a, (nu + OFFSET).log() / 3, (nu + 1).rsqrt()], dim=-1)

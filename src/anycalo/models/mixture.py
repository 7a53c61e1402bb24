"""Gaussian mixtures whose parameters a network gives: likelihood and draws (Bishop, NCRG/94/004: mixture density networks)."""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor, nn

WIDEST = 4.0
NARROW = 0.02
"""Spreads across which a density is as good as constant."""


class GaussianMixture(nn.Module):
    """Mixtures of K Gaussians with full covariances in D dimensions, from features.

    The precision of each component is L^T L with L lower triangular, so that a density needs no solution of equations.

    Args:
        features: of the input.
        dimension: D.
        components: K.
    """

    rows: Tensor
    columns: Tensor

    def __init__(self, features: int, dimension: int, components: int) -> None:
        super().__init__()
        self.dimension, self.components = dimension, components
        self.below = dimension * (dimension - 1) // 2
        self.linear = nn.Linear(features, components * (1 + 2 * dimension + self.below))
        rows, columns = torch.tril_indices(dimension, dimension, -1)
        # Copies: TorchScript cannot load back a view into nothing, which these are in one dimension.
        self.register_buffer("rows", rows.clone(), persistent=False)
        self.register_buffer("columns", columns.clone(), persistent=False)
        # Components start apart, so that they learn different things.
        with torch.no_grad():
            self.linear.weight.mul_(0.1)
            self.linear.bias.zero_()
            means = self.linear.bias[components : components * (1 + dimension)]
            means.copy_(torch.randn(len(means)) * 0.5)

    def parameters_of(self, h: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Log weights (..., K), means (..., K, D), logarithms of L's diagonal (..., K, D), L below (..., K, below)."""
        K, D = self.components, self.dimension
        weight, mean, diagonal, below = self.linear(h).split([K, K * D, K * D, K * self.below], dim=-1)
        shape = h.shape[:-1]
        # Widths from exp(-4) to exp(4) of what the targets are scaled to.
        diagonal = WIDEST * torch.tanh(diagonal.reshape(*shape, K, D) / WIDEST)
        return weight.log_softmax(-1), mean.reshape(*shape, K, D), diagonal, below.reshape(*shape, K, self.below)

    def log_prob(self, h: Tensor, x: Tensor) -> Tensor:
        """Logarithm of the density of x (..., D) given features (..., F): (...)."""
        return self.log_probs(h, x)[0]

    def log_probs(self, h: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """The same, and of the density of the first column of x alone: of a component, its precision is the first of L."""
        weight, mean, diagonal, below = self.parameters_of(h)
        residual = x[..., None, :] - mean
        z = residual * diagonal.exp()
        if self.below:
            z = z.index_add(-1, self.rows, below * residual[..., self.columns])
        each = diagonal - 0.5 * z**2 - 0.5 * math.log(2 * math.pi)
        return torch.logsumexp(weight + each.sum(-1), dim=-1), torch.logsumexp(weight + each[..., 0], dim=-1)

    def log_interval(self, h: Tensor, below: Tensor, above: Tensor) -> Tensor:
        """Logarithm of the probability of one dimension between two numbers (...), of which the lower may be -infinity."""
        weight, mean, diagonal, _ = self.parameters_of(h)
        bounded = torch.isfinite(below)[..., None]
        # Gradients of what is not chosen in the end must be numbers, too.
        numbers = (torch.where(bounded[..., 0], below, above - 1), above)
        lower, upper = ((x[..., None] - mean[..., 0]) * diagonal[..., 0].exp() for x in numbers)
        # Beyond the mean both are nearly one: the same from the other side.
        flip = bounded & (lower > 0)
        lower, upper = torch.where(flip, -upper, lower), torch.where(flip, -lower, upper)
        width = upper - lower
        narrow = -0.5 * (upper - width / 2) ** 2 - 0.5 * math.log(2 * math.pi) + width.clamp_min(1e-30).log()
        high = torch.special.log_ndtr(upper)
        fall = (torch.special.log_ndtr(lower) - high).clamp_max(-1e-6)
        each = torch.where(width < NARROW, narrow, high + torch.log1p(-fall.exp()))
        return torch.logsumexp(weight + torch.where(bounded, each, high), dim=-1)

    def sample(self, h: Tensor, normal: Tensor) -> Tensor:
        """Draws (..., D) from features (..., F) and standard normal numbers (..., D + 1); the last chooses the component."""
        weight, mean, diagonal, below = self.parameters_of(h)
        u = torch.special.ndtr(normal[..., -1:])
        k = (weight.exp().cumsum(-1) < u).sum(-1, keepdim=True).clamp_max(self.components - 1)[..., None]
        mean, diagonal = (t.gather(-2, k.expand(*k.shape[:-1], self.dimension))[..., 0, :] for t in (mean, diagonal))
        z = normal[..., :-1]
        if not self.below:
            return mean + z * (-diagonal).exp()
        below = below.gather(-2, k.expand(*k.shape[:-1], self.below))[..., 0, :]
        # Solve L r = z row by row.
        columns: list[Tensor] = []
        first = 0
        for row in range(self.dimension):
            rest = sum((below[..., first + c] * columns[c] for c in range(row)), start=torch.zeros_like(z[..., 0]))
            columns.append((z[..., row] - rest) * (-diagonal[..., row]).exp())
            first += row
        return mean + torch.stack(columns, dim=-1)


def perceptron(*sizes: int) -> nn.Sequential:
    """Linear maps of these sizes with GELU after each."""
    layers: list[nn.Module] = []
    for a, b in pairwise(sizes):
        layers += [nn.Linear(a, b), nn.GELU()]
    return nn.Sequential(*layers)

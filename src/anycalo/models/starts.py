"""A learned start: a Gaussian mixture near the data, given the condition, in place of the standard normal.

After the learned prior of CaloTrilogy (arXiv 2606.04165). A flow that starts near the data has a shorter way to go. The
mixture sum_k w_k(c) N(e; m_k(c), S_k(c)) is fitted by maximum likelihood.

Coupling. In training a datum x is given the component k with probability p(k | x, c), its share in the likelihood, and a
start e ~ N(m_k(c), S_k(c)) independent of x beyond that. The starts so drawn have the density
sum_k E[p(k | x, c) | c] N(e; m_k, S_k). Flow matching transports whatever joint law it is given from its marginal of e to
its marginal of x, and the marginal of x is that of the data by construction; so the target is unchanged as soon as
generation draws from the same marginal of e, that is if w_k(c) = E[p(k | x, c) | c]. This holds where the likelihood is
stationary in the weights, whether or not the means and covariances fit: d ln p / d logit_k = p(k | x, c) - w_k(c).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from anycalo.errors import ModelError


@dataclass(frozen=True, kw_only=True)
class StartConfig:
    """Sizes of the learned start.

    Args:
        components: of the mixture.
        hidden: sizes of the hidden layers of the network that makes the mixture of a condition.
    """

    components: int = 8
    hidden: tuple[int, ...] = (64, 64)

    def __post_init__(self) -> None:
        if self.components < 1:
            raise ModelError(f"components is {self.components!r}; expected at least 1")
        if not self.hidden or min(self.hidden) < 1:
            raise ModelError(f"hidden is {list(self.hidden)}; expected at least one size, each at least 1")


class ConditionalMixture(nn.Module):
    """A mixture of K Gaussians over F features, all of whose parameters are functions of the condition.

    Args:
        features: F.
        conditions: C.
        config: sizes.
        spread: of the data, where the means and standard deviations begin.
        seed: of the means that the components begin with.
    """

    def __init__(self, features: int, conditions: int, config: StartConfig, *, spread: float = 1.0, seed: int = 0) -> None:
        super().__init__()
        self.features, self.components, self.spread = features, config.components, spread
        self.sizes = (1, features, features, features * (features - 1) // 2)
        layers: list[nn.Module] = []
        size = conditions
        for hidden in config.hidden:
            layers += [nn.Linear(size, hidden), nn.SiLU()]
            size = hidden
        last = nn.Linear(size, self.components * sum(self.sizes))
        nn.init.zeros_(last.weight)
        generator = torch.Generator().manual_seed(seed)
        means = torch.randn(self.components, features, generator=generator)
        with torch.no_grad():
            rows = last.bias.view(self.components, -1)
            rows.zero_()
            rows[:, 1 : 1 + features] = means
        self.network = nn.Sequential(*layers, last)
        below = torch.tril_indices(features, features, -1)
        self._below = (below[0], below[1])

    def parts(self, condition: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Logarithms of the weights (P, K), means (P, K, F) and lower Cholesky factors (P, K, F, F), of conditions (P, C)."""
        raw = self.network(condition).unflatten(-1, (self.components, sum(self.sizes)))
        logit, mean, log_scale, off = raw.split(self.sizes, dim=-1)
        # Bounded, so that no component can shrink onto a single point.
        scale = self.spread * torch.exp(4 * torch.tanh(log_scale / 4))
        factor = torch.diag_embed(scale)
        if off.shape[-1]:
            # Rows of a unit lower triangle times the scale of the row.
            lower = torch.zeros_like(factor)
            lower[..., self._below[0], self._below[1]] = off
            factor = factor + lower * scale[..., None]
        return logit.squeeze(-1).log_softmax(-1), self.spread * mean, factor

    def _joint(self, x: Tensor, condition: Tensor) -> Tensor:
        """Logarithms ln w_k + ln N(x; m_k, S_k), (P, K)."""
        log_weight, mean, factor = self.parts(condition)
        z = torch.linalg.solve_triangular(factor, (x[:, None, :] - mean)[..., None], upper=False).squeeze(-1)
        log_det = torch.diagonal(factor, dim1=-2, dim2=-1).log().sum(-1)
        joint: Tensor = log_weight - 0.5 * (z**2).sum(-1) - log_det - 0.5 * self.features * math.log(2 * math.pi)
        return joint

    def log_density(self, x: Tensor, condition: Tensor) -> Tensor:
        """Logarithm of p(x | condition), (P,), of x (P, F)."""
        return self._joint(x, condition).logsumexp(-1)

    def responsibilities(self, x: Tensor, condition: Tensor) -> Tensor:
        """p(k | x, condition), (P, K)."""
        return self._joint(x, condition).softmax(-1)

    def loss(self, x: Tensor, condition: Tensor) -> Tensor:
        """-ln p a feature; the batch mean."""
        return -self.log_density(x, condition).mean() / self.features

    def sample(self, condition: Tensor, normal: Tensor, row: Tensor | None = None) -> Tensor:
        """Starts (P, F) for generation.

        Args:
            condition: (P, C), or (R, C) with `row`.
            normal: standard normal numbers, (P, F + 1); the last chooses the component.
            row: row of `condition` for each point, (P,).
        """
        log_weight, mean, factor = self.parts(condition)
        row = torch.arange(len(normal), device=normal.device) if row is None else row
        return _draw(log_weight.exp()[row], mean, factor, row, normal)

    @torch.no_grad()
    def coupled(self, x: Tensor, condition: Tensor, normal: Tensor) -> Tensor:
        """Starts (P, F) for training, each from a component that its datum x (P, F) belongs to; `normal` as for `sample`."""
        _, mean, factor = self.parts(condition)
        return _draw(self.responsibilities(x, condition), mean, factor, torch.arange(len(x), device=x.device), normal)


def _draw(weight: Tensor, mean: Tensor, factor: Tensor, row: Tensor, normal: Tensor) -> Tensor:
    uniform = torch.special.ndtr(normal[:, -1:])
    k = (weight.cumsum(-1) < uniform).sum(-1).clamp_max(weight.shape[-1] - 1)
    return mean[row, k] + (factor[row, k] @ normal[:, :-1, None]).squeeze(-1)

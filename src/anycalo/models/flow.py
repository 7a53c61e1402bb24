"""ShowerFlow: a conditional normalising flow of coupling blocks over a few numbers a shower.

The layout is that of CaloClouds' ShowerFlow (arXiv 2309.05704, 2511.01460): blocks of affine couplings closed
by one rational-quadratic spline coupling (arXiv 1906.04032). Permutations between couplings are
buffers, saved with the weights. Every coupling starts as the identity.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from zuko.flows.coupling import GeneralCouplingTransform
from zuko.transforms import MonotonicAffineTransform, MonotonicRQSTransform

from anycalo.errors import ModelError

# The data come standardised: one coupling need not stretch by more than this, and what cannot explode on a
# shower unlike the others need not be tamed. Bounded activations serve the same end.
_SLOPE = 0.3


@dataclass(frozen=True, kw_only=True)
class FlowConfig:
    """Sizes of the flow.

    Args:
        blocks: of `affine` affine couplings and one spline coupling.
        affine: affine couplings of a block.
        bins: of the splines.
        bound: the splines act between -bound and bound, in standard deviations.
        hidden: sizes of the hidden layers of each coupling's network; in multiples of the flow's
            dimension where `hidden_per_dimension` is true.
        hidden_per_dimension: see `hidden`; the published flow has (10, 10) and true.
        seed: of the permutations.
    """

    blocks: int = 2
    affine: int = 6
    bins: int = 8
    bound: float = 6.0
    hidden: tuple[int, ...] = (128, 128)
    hidden_per_dimension: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("blocks", "bins"):
            if getattr(self, name) < 1:
                raise ModelError(f"{name} is {getattr(self, name)!r}; expected at least 1")
        if self.affine < 0 or not self.bound > 0:
            raise ModelError(f"affine is {self.affine!r} and bound {self.bound!r}; expected at least 0 and above 0")
        if not self.hidden or min(self.hidden) < 1:
            raise ModelError(f"hidden is {list(self.hidden)}; expected at least one size, each at least 1")


class ShowerFlow(nn.Module):
    """An invertible map between data (B, D) and standard normal numbers, given a condition (B, C).

    Args:
        dimension: D, at least 2.
        conditions: C.
        config: sizes.
    """

    permutations: Tensor

    def __init__(self, dimension: int, conditions: int, config: FlowConfig) -> None:
        super().__init__()
        if dimension < 2:
            raise ModelError(f"a coupling flow needs at least 2 dimensions; got {dimension}")
        hidden = [h * dimension if config.hidden_per_dimension else h for h in config.hidden]
        common = {
            "features": dimension,
            "context": conditions,
            "mask": torch.arange(dimension) < dimension // 2,
            "hidden_features": hidden,
            "activation": nn.Tanh,
        }
        affine = {"univariate": partial(MonotonicAffineTransform, slope=_SLOPE)}
        spline = {
            "univariate": partial(MonotonicRQSTransform, bound=config.bound),
            "shapes": ((config.bins,), (config.bins,), (config.bins - 1,)),
        }
        couplings = []
        for _ in range(config.blocks):
            couplings += [GeneralCouplingTransform(**common, **affine) for _ in range(config.affine)]
            couplings += [GeneralCouplingTransform(**common, **spline)]
        for coupling in couplings:
            nn.init.zeros_(coupling.hyper[-1].weight)
            nn.init.zeros_(coupling.hyper[-1].bias)
        self.couplings = nn.ModuleList(couplings)
        generator = torch.Generator().manual_seed(config.seed)
        orders = [torch.randperm(dimension, generator=generator) for _ in couplings]
        self.register_buffer("permutations", torch.stack(orders))
        self.dimension = dimension
        self.affine_slope = math.log(_SLOPE)

    def forward(self, x: Tensor, condition: Tensor) -> tuple[Tensor, Tensor]:
        """Data to normal numbers, and the logarithm of the determinant of the Jacobian: (B, D), (B,)."""
        log_det = x.new_zeros(len(x))
        for coupling, order in zip(self.couplings, self.permutations, strict=True):
            x, step = coupling(condition).call_and_ladj(x[:, order])
            log_det = log_det + step
        return x, log_det

    def inverse(self, z: Tensor, condition: Tensor) -> Tensor:
        """Normal numbers (B, D) to data (B, D)."""
        half = self.dimension // 2  # the first half of the columns is what a coupling leaves as it is
        couplings: list[Any] = list(reversed(self.couplings))
        for coupling, back in zip(couplings, reversed(self.permutations.argsort(dim=1)), strict=True):
            kept, changed = z[:, :half], z[:, half:]
            raw = coupling.hyper(torch.cat([kept, condition], dim=1)).unflatten(1, (self.dimension - half, -1))
            if raw.shape[-1] == 2:
                # What zuko's affine transform does, in a third of the time: a shower alone takes 12 of these.
                shift, scale = raw.unbind(-1)
                changed = (changed - shift) * torch.exp(scale / (scale.abs() / self.affine_slope - 1))
            else:
                changed = coupling.univariate(*raw.split([math.prod(s) for s in coupling.shapes], dim=-1)).inv(changed)
            z = torch.cat([kept, changed], dim=1).index_select(1, back)
        return z

    def negative_log_likelihood(self, x: Tensor, condition: Tensor) -> Tensor:
        """-ln p(x | condition) per dimension, (B,)."""
        z, log_det = self(x, condition)
        normal = -0.5 * (z**2).sum(dim=1) - 0.5 * self.dimension * math.log(2 * math.pi)
        out: Tensor = -(normal + log_det) / self.dimension
        return out

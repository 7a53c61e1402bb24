"""The pointwise network: every point on its own, squashed and shifted by its context at every layer.

The architecture of CaloClouds II and 3 (arXiv 2309.05704, 2511.01460), after the point-cloud diffusion
of Luo and Hu (arXiv 2103.01458).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from anycalo.errors import ModelError


class ContextSquash(nn.Module):
    """h = (W x + b) * sigmoid(G c + g) + B c.

    Args:
        inputs, outputs: feature sizes.
        context: size of c.
    """

    def __init__(self, inputs: int, outputs: int, context: int) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, outputs)
        self.gate = nn.Linear(context, outputs)
        self.shift = nn.Linear(context, outputs, bias=False)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        """(..., inputs), (..., context) -> (..., outputs)."""
        return torch.addcmul(self.shift(context), self.linear(x), torch.sigmoid(self.gate(context)))


class FourierTime(nn.Module):
    """Fixed random Fourier features of a scalar and a linear map of them (EDM's noise embedding).

    Args:
        size: number of features, even.
        scale: spread of the frequencies, in radians per unit.
        seed: of the frequencies, which are saved with the weights.
    """

    frequencies: Tensor

    def __init__(self, size: int = 64, *, scale: float = 16.0, seed: int = 0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.register_buffer("frequencies", scale * torch.randn(size // 2, generator=generator))
        self.linear = nn.Linear(size, size)

    def forward(self, time: Tensor) -> Tensor:
        """(...,) -> (..., size)."""
        angle = time[..., None] * self.frequencies
        out: Tensor = self.linear(torch.cat([angle.cos(), angle.sin()], dim=-1))
        return out


@dataclass(frozen=True, kw_only=True)
class PointwiseConfig:
    """Sizes of the pointwise network.

    Args:
        hidden: sizes of the hidden layers; (32, 64, 128, 64, 32) in CaloClouds3, (128, 256, 512, 256, 128) in CaloClouds II.
        time_features: size of the time embedding, even.
        time_scale: spread of its frequencies.
        negative_slope: of the leaky rectifier.
    """

    hidden: tuple[int, ...] = (32, 64, 128, 64, 32)
    time_features: int = 64
    time_scale: float = 2 * math.pi
    negative_slope: float = 0.02

    def __post_init__(self) -> None:
        if not self.hidden or min(self.hidden) < 1:
            raise ModelError(f"hidden is {list(self.hidden)}; expected at least one size, each at least 1")
        if self.time_features < 2 or self.time_features % 2:
            raise ModelError(f"time_features is {self.time_features}; expected an even number of at least 2")


class Pointwise(nn.Module):
    """F(x, time, condition): context-squash layers with leaky rectifiers between them.

    With 4 features, 4 conditions and the default sizes it has 69,608 parameters.

    Args:
        features: size of a point.
        conditions: size of its condition.
        config: sizes.
    """

    def __init__(self, features: int, conditions: int, config: PointwiseConfig) -> None:
        super().__init__()
        sizes: Sequence[int] = (features, *config.hidden, features)
        self.time = FourierTime(config.time_features, scale=config.time_scale)
        context = config.time_features + conditions
        self.layers = nn.ModuleList(ContextSquash(a, b, context) for a, b in pairwise(sizes))
        self.negative_slope = config.negative_slope

    def forward(self, x: Tensor, time: Tensor, condition: Tensor) -> Tensor:
        """(P, F), (P,) or (), (P, C) -> (P, F)."""
        embedding = self.time(time)
        context = torch.cat([embedding.expand(*condition.shape[:-1], embedding.shape[-1]), condition], dim=-1)
        *inner, last = self.layers
        for layer in inner:
            x = nn.functional.leaky_relu(layer(x, context), self.negative_slope)
        out: Tensor = last(x, context)
        return out

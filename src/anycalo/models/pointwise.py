"""The pointwise network: every point on its own, squashed and shifted by its context at every layer.

The architecture of CaloClouds II and 3 (arXiv 2309.05704, 2511.01460), after the point-cloud diffusion
of Luo and Hu (arXiv 2103.01458).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from anycalo.errors import ModelError


class Rows(NamedTuple):
    """Conditions shared by points: row `row[p]` of `table` is that of point p.

    What depends on the condition alone is then computed once a row, not once a point, where the time is one for all.

    Args:
        table: (R, C).
        row: (P,), from 0 to R - 1.
    """

    table: Tensor
    row: Tensor


Condition = Tensor | Rows


def extended(condition: Condition, more: Tensor) -> Condition:
    """The condition with further features: (K,) for all, or (P, K)."""
    if isinstance(condition, Rows):
        if more.ndim == 1:
            return Rows(torch.cat([condition.table, more.expand(len(condition.table), -1)], dim=-1), condition.row)
        condition = condition.table[condition.row]
    return torch.cat([condition, more.expand(*condition.shape[:-1], more.shape[-1])], dim=-1)


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

    @torch.no_grad()
    def fit(self, time: Tensor, wanted: Tensor, *, ridge: float = 1e-3) -> None:
        """Set the linear map so that times (N,) are embedded nearly as wanted (N, size), by ridge regression."""
        angle = time[:, None] * self.frequencies
        a = torch.cat([angle.cos(), angle.sin(), torch.ones_like(angle[:, :1])], dim=-1).double()
        penalty = ridge * torch.eye(a.shape[1], dtype=a.dtype, device=a.device)
        solution = torch.linalg.solve(a.T @ a / len(a) + penalty, a.T @ wanted.double() / len(a))
        self.linear.weight.copy_(solution[:-1].T)
        self.linear.bias.copy_(solution[-1])


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

    def forward(self, x: Tensor, time: Tensor, condition: Condition) -> Tensor:
        """(P, F), (P,) or (), (P, C) or a table and rows -> (P, F)."""
        embedding = self.time(time)
        table, row = condition if isinstance(condition, Rows) else (condition, None)
        layers = cast(Sequence[ContextSquash], self.layers)
        if time.ndim:
            context = torch.cat([embedding, table if row is None else table[row]], dim=-1)
        else:
            modulations = self._modulations(embedding, table)
        for k, layer in enumerate(layers):
            if time.ndim:
                x = layer(x, context)
            else:
                shift, gate = modulations[k]
                if row is not None:
                    shift, gate = shift.index_select(0, row), gate.index_select(0, row)
                x = torch.addcmul(shift, layer.linear(x), gate)
            if k < len(layers) - 1:
                x = nn.functional.leaky_relu(x, self.negative_slope, inplace=True)
        return x

    def _modulations(self, embedding: Tensor, table: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Shift and gate of each layer, (R, outputs), for one time and conditions (R, C).

        The share of the time is computed once, and everything in one multiplication: for a shower alone, calls count.
        """
        layers = cast(Sequence[ContextSquash], self.layers)
        weight = torch.cat([layer.gate.weight for layer in layers] + [layer.shift.weight for layer in layers])
        sizes = [layer.gate.weight.shape[0] for layer in layers]
        bias = torch.cat([*(layer.gate.bias for layer in layers), weight.new_zeros(sum(sizes))])
        k = len(embedding)
        both = nn.functional.linear(table, weight[:, k:], torch.addmv(bias, weight[:, :k], embedding))
        gates, shifts = both.chunk(2, dim=1)
        # Contiguous, since rows are chosen from them.
        parts = zip(torch.split(shifts, sizes, dim=1), torch.split(gates.sigmoid(), sizes, dim=1), strict=True)
        return [(shift.contiguous(), gate.contiguous()) for shift, gate in parts]

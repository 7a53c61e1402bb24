"""A low-rank change of a matrix that is trained in its place (arXiv 2106.09685)."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize


class LowRank(nn.Module):
    """W -> W + (alpha / rank) U D, with U of zeros at the start, so that nothing is changed.

    Args:
        weight: W, (outputs, inputs).
        rank: at most the smaller side of W is used.
        alpha: see above.
        generator: of the random numbers that D starts with.
    """

    def __init__(self, weight: Tensor, rank: int, alpha: float, generator: torch.Generator) -> None:
        super().__init__()
        outputs, inputs = weight.shape
        used = min(rank, outputs, inputs)
        down = torch.randn(used, inputs, generator=generator) / math.sqrt(inputs)
        self.down = nn.Parameter(down.to(weight))
        self.up = nn.Parameter(torch.zeros(outputs, used, device=weight.device, dtype=weight.dtype))
        self.scale = alpha / rank

    def forward(self, weight: Tensor) -> Tensor:
        """The changed matrix."""
        return weight + self.change()

    def change(self) -> Tensor:
        """What is added."""
        return self.scale * (self.up @ self.down)


def attach(part: nn.Module, name: str, change: LowRank) -> None:
    """Let a matrix of a linear map or a recurrent network be changed by `change`."""
    parametrize.register_parametrization(part, name, change)
    if isinstance(part, nn.RNNBase) and not hasattr(part, "_changed_weights"):
        # A recurrent network computes with its own list of weights, which does not follow the parametrisation.
        part._changed_weights = part.register_forward_pre_hook(_refresh)


def detach(part: nn.Module, name: str, *, merge: bool) -> None:
    """Undo `attach`; with `merge` the change stays in the matrix."""
    change = part.parametrizations[name][0].change() if merge else None  # type: ignore[index, union-attr]
    parametrize.remove_parametrizations(part, name, leave_parametrized=False)
    if change is not None:
        with torch.no_grad():
            getattr(part, name).add_(change)
    if isinstance(part, nn.RNNBase) and not parametrize.is_parametrized(part):
        if hasattr(part, "_changed_weights"):
            part._changed_weights.remove()  # type: ignore[operator, union-attr]
            del part._changed_weights
        _refresh(part, None)


def _refresh(part: nn.Module, _: Any) -> None:
    part._flat_weights = [getattr(part, name) for name in part._flat_weights_names]  # type: ignore[assignment, union-attr]

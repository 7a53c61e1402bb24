"""Numbers of each point from what is known of its layer and of itself: the first part is evaluated once a layer."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from anycalo.models.mixture import perceptron


class PerPoint(nn.Module):
    """Two layers beyond a trunk that sees what is known of a point's layer; the point is seen by the first of them.

    Args:
        context: size of what is known of a layer.
        hidden, depth: of the trunk.
        features: F, size of the layer that sees the point.
        own: how many features a point has.
        numbers: how many numbers are made of them; small, to begin with.
    """

    def __init__(self, context: int, *, hidden: int, depth: int, features: int, own: int, numbers: int) -> None:
        super().__init__()
        self.trunk = perceptron(context, *[hidden] * depth)
        self.of_context = nn.Linear(hidden, features)
        self.of_point = nn.Linear(own, features, bias=False)
        self.head = nn.Linear(features, numbers)
        with torch.no_grad():
            self.head.weight.mul_(0.1)
            self.head.bias.zero_()

    def of_layer(self, told: Tensor) -> Tensor:
        """What points need of their layer, (..., F), given what is known of it, (..., C)."""
        part: Tensor = self.of_context(self.trunk(told))
        return part

    def numbers(self, part: Tensor, own: Tensor) -> Tensor:
        """The numbers (P, ...) of points with these features of their own, in layers that gave `part` (P, F)."""
        out: Tensor = self.head(nn.functional.gelu(part + self.of_point(own)))
        return out

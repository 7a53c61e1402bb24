"""Training points as `surroundings` sees them: each with the densities about it."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from anycalo.models.anycalo_data import Prepared
from anycalo.models.point_features import Lateral
from anycalo.models.surroundings import DENSITIES, densities, places

_SHOWERS_AT_ONCE = 100


class SurroundedPoints:
    """Examples of the stage `surroundings`: one is a point.

    Args:
        data: of training and validation showers.
        scores: of all points by the trained flow, (P, 3); asked when needed.
        lateral: of the model.
    """

    def __init__(self, data: Prepared, scores: Callable[[], Tensor], lateral: Lateral) -> None:
        self._data, self._scores, self._lateral = data, scores, lateral
        self._density: Tensor | None = None

    @torch.no_grad()
    def _find(self) -> Tensor:
        """Densities about all points, (P, DENSITIES)."""
        data, layers = self._data, self._data.n.shape[1]
        found = data.points.new_empty(len(data.points), DENSITIES)
        of_row, ends = data.place // layers, data.n.sum(1).long().cumsum(0)
        widen = data.totals[:, 4].exp()
        for first in range(0, len(data.n), _SHOWERS_AT_ONCE):
            last = min(first + _SHOWERS_AT_ONCE, len(data.n))
            points = slice(int(ends[first - 1]) if first else 0, int(ends[last - 1]))
            row = data.row[points].long()
            shower = of_row[row]
            xy = places(data.points[points, 0], data.points[points, 1], widen, shower, self._lateral)
            position = xy / data.joining[shower, None]
            found[points] = densities(position, data.place[row] - first * layers, (last - first) * layers, layers)
        return found

    def batch(self, index: Tensor) -> tuple[Tensor, ...]:
        """What is known of the layers of the chosen points, the points, their densities and energy scores."""
        if self._density is None:
            self._density = self._find()
        data, energy = self._data, self._scores()[index, 2]
        return data.context[data.row[index].long()], data.points[index], self._density[index], energy

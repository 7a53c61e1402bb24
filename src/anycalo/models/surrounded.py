"""Training points as `surroundings` sees them: each with the densities about it."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from anycalo.models.anycalo_data import Prepared
from anycalo.models.point_features import Lateral
from anycalo.models.surroundings import DENSITIES, about_axis, densities

_AT_ONCE = 65_536
_SHOWERS_AT_ONCE = 100


class SurroundedPoints:
    """Examples of the stage `surroundings`: one is a point.

    Args:
        data: of training and validation showers.
        scores: of points (P, 3), given what is known of their layers (P, C), by the trained flow; asked when first needed.
        lateral: of the model.
    """

    def __init__(self, data: Prepared, scores: Callable[[Tensor, Tensor], Tensor], lateral: Lateral) -> None:
        self._data, self._score, self._lateral = data, scores, lateral
        self._known: tuple[Tensor, Tensor] | None = None

    @torch.no_grad()
    def _find(self) -> tuple[Tensor, Tensor]:
        """Energy scores of all points (P,), and densities (P, DENSITIES)."""
        data, layers = self._data, self._data.n.shape[1]
        parts: tuple[Tensor, ...] = torch.arange(len(data.points)).split(_AT_ONCE)  # type: ignore[no-untyped-call]
        score = torch.cat([self._score(data.context[data.row[p].long()], data.points[p])[:, 2] for p in parts])
        density = data.points.new_empty(len(data.points), DENSITIES)
        shower, ends = data.place // layers, data.n.sum(1).long().cumsum(0)
        widen = data.totals[:, 4].exp()
        for first in range(0, len(data.n), _SHOWERS_AT_ONCE):
            last = min(first + _SHOWERS_AT_ONCE, len(data.n))
            points = slice(int(ends[first - 1]) if first else 0, int(ends[last - 1]))
            row = data.row[points].long()
            of = shower[row]
            place = about_axis(
                data.points[points, 0],
                data.points[points, 1],
                widen[of],
                self._lateral,
                data.joining[of],
            )
            density[points] = densities(place, data.place[row] - first * layers, (last - first) * layers, layers)
        return score, density

    def batch(self, index: Tensor) -> tuple[Tensor, ...]:
        """What is known of the layers of the chosen points, the points, their densities and energy scores."""
        if self._known is None:
            self._known = self._find()
        score, density = self._known
        data = self._data
        return data.context[data.row[index].long()], data.points[index], density[index], score[index]

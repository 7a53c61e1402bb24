"""Points that a model draws in the layers of given showers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from anycalo.models.anycalo_data import Prepared
from anycalo.models.clusters import OF_POINT, draw_scores
from anycalo.models.surroundings import OF_ENERGY, densities, places

if TYPE_CHECKING:
    from anycalo.models.anycalo import AnyCalo

_SHOWERS_AT_ONCE = 100


class DrawnPoints:
    """Examples of the stage `balance`: one is a point that the model has drawn.

    Args:
        model: whose points, clusters and surroundings are trained.
        data: of training and validation showers.
        seed: of the points.
    """

    def __init__(self, model: AnyCalo, data: Prepared, *, seed: int) -> None:
        self._model, self._data, self._seed = model, data, seed
        self._drawn: tuple[Tensor, Tensor] | None = None

    @torch.no_grad()
    def _draw(self) -> tuple[Tensor, Tensor]:
        """Row of the context, and radius as the flow sees it and energy score, of all points: (P,), (P, 2)."""
        model, data = self._model, self._data
        showers, layers = data.n.shape
        generator = torch.Generator().manual_seed(self._seed)
        out, of_row = data.points.new_empty(len(data.points), 2), torch.empty_like(data.row)
        held = torch.full((showers * layers,), -1, dtype=torch.long)
        held[data.place] = torch.arange(len(data.place))
        widen, start = data.totals[:, 4].exp(), 0
        for first in range(0, showers, _SHOWERS_AT_ONCE):
            last = min(first + _SHOWERS_AT_ONCE, showers)
            counts = data.n[first:last].flatten().long()
            rows = held[first * layers : last * layers]
            # Nothing is drawn in layers without points; what they are told does not matter.
            told = data.context[rows.clamp_min(0)]
            row = torch.repeat_interleave(torch.arange(len(counts)), counts)
            normal = torch.randn(len(row), OF_POINT + OF_ENERGY, generator=generator)
            scores = draw_scores(model.clusters.kinds(told), model.clusters.config.same, counts, layers, row, normal)
            radius, angle = model.points.drawn(told, row, scores)
            plain, shower = model.radius_shape.inverse(radius[:, None])[:, 0], first + row // layers
            position = places(plain, angle, widen, shower, model.lateral) / data.joining[shower, None]
            density = densities(position, row, len(counts), layers)
            part = model.surroundings.of_layer(told)[row]
            score = model.surroundings.draw(part, radius, density, normal[:, OF_POINT:])
            out[start : start + len(row)] = torch.stack([radius, score], dim=1)
            of_row[start : start + len(row)] = rows[row].to(of_row.dtype)
            start += len(row)
        return of_row, out

    def batch(self, index: Tensor) -> tuple[Tensor, ...]:
        """What is known of the layers of the chosen points, radii and energy scores."""
        if self._drawn is None:
            self._drawn = self._draw()
        row, drawn = self._drawn
        return self._data.context[row[index].long()], *drawn[index].unbind(1)

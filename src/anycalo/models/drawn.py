"""Points that a model draws in layers: in those of given showers to train `balance`, and in exports."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from anycalo.models.anycalo_data import Prepared
from anycalo.models.clusters import OF_POINT, draw_scores
from anycalo.models.point_flow import BOUND, inverse
from anycalo.models.surroundings import OF_ENERGY, densities, places

if TYPE_CHECKING:
    from anycalo.models.anycalo import AnyCalo

_SHOWERS_AT_ONCE = 100


def draw_places(
    model: AnyCalo,
    told: Tensor,
    counts: Tensor,
    layers: int,
    row: Tensor,
    shower: Tensor,
    widen: Tensor,
    joining: float | Tensor,
    normal: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Points of layers in the order of `row`, up to their energies, in operations that a graph can hold.

    Args:
        model: whose points, clusters and surroundings are used.
        told: what is known of the layers, (R, C).
        counts: points of the layers, int (R,).
        layers: L, of each shower; see `clusters.draw_scores`.
        row: the layer of each point, (P,).
        shower: of each point, (P,).
        widen: the widths of the showers, (B,).
        joining: distance within which deposits are joined, in units of the coordinates' scale, of all or of each, (P, 1).
        normal: standard normal numbers, (P, at least OF_POINT + OF_ENERGY); the first are used.

    Returns:
        Radii as the flow sees them (P,); knots of the energies given them; places (P, 2); and energy scores (P,), which
        `balance` has yet to see.
    """
    scores = draw_scores(model.clusters.kinds(told), model.clusters.config.same, counts, layers, row, normal)
    knots, part = model.points.context(told)
    radius = inverse(knots[row], model.points.config.bins, BOUND, scores[:, 0])
    angle_knots, energy_knots = model.points.given_radius(part[row], radius)
    angle = inverse(angle_knots, model.points.config.angle_bins, 1.0, scores[:, 1])
    plain = model.radius_shape.inverse(radius[:, None])[:, 0]
    xy = places(plain, angle, widen, shower, model.lateral)
    density = densities(xy / joining, row, told.shape[0], layers)
    of_layer = model.surroundings.of_layer(told)[row]
    score = model.surroundings.draw(of_layer, radius, density, normal[:, OF_POINT : OF_POINT + OF_ENERGY])
    return radius, energy_knots, xy, score


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
        device = next(model.points.parameters()).device
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
            shower = first + row // layers
            known = (t.to(device) for t in (told, counts, row, shower, widen, data.joining[shower, None], normal))
            told, counts, at, shower, width, joining, normal = known
            radius, _, _, score = draw_places(model, told, counts, layers, at, shower, width, joining, normal)
            out[start : start + len(row)] = torch.stack([radius, score], dim=1).cpu()
            of_row[start : start + len(row)] = rows[row].to(of_row.dtype)
            start += len(row)
        return of_row, out

    def batch(self, index: Tensor) -> tuple[Tensor, ...]:
        """What is known of the layers of the chosen points, radii and energy scores."""
        if self._drawn is None:
            self._drawn = self._draw()
        row, drawn = self._drawn
        return self._data.context[row[index].long()], *drawn[index].unbind(1)

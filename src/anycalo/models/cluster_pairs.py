"""Training points as `clusters` sees them: each with those that stood before it, in an order at random."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from anycalo.models.anycalo_data import Prepared
from anycalo.models.clusters import Pairs

_AT_ONCE = 65_536


class ClusterPairs:
    """Examples of the stage `clusters`: one is a point.

    Args:
        data: of training and validation showers.
        scores: of points (P, 3), given what is known of their layers (P, C), by the trained flow; asked when first needed.
        seed: of the order.
    """

    def __init__(self, data: Prepared, scores: Callable[[Tensor, Tensor], Tensor], *, seed: int) -> None:
        self._data, self._score = data, scores
        generator = torch.Generator().manual_seed(seed)
        mixed = torch.randperm(len(data.points), generator=generator)
        self._order = mixed[torch.argsort(data.row[mixed], stable=True)]
        self._row = data.row[self._order].long()
        held = (data.n > 0).flatten()
        counts = data.n.flatten()[held].long()
        self._start = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
        place = torch.nonzero(held)[:, 0]
        follows = torch.zeros(len(place), dtype=torch.bool)
        follows[1:] = (place[1:] - place[:-1] == 1) & (place[1:] % data.n.shape[1] != 0)
        self._first = torch.where(follows, self._start[:-1].roll(1), self._start[:-1])
        self._known: Tensor | None = None

    @torch.no_grad()
    def _scores(self) -> Tensor:
        if self._known is None:
            parts: tuple[Tensor, ...] = self._order.split(_AT_ONCE)  # type: ignore[no-untyped-call]
            data = self._data
            self._known = torch.cat([self._score(data.context[data.row[p].long()], data.points[p]) for p in parts])
        return self._known

    def batch(self, index: Tensor) -> tuple[Tensor, ...]:
        """`clusters.Pairs` of the chosen points."""
        scores, row = self._scores(), self._row[index]
        first = self._first[row]
        number = index - first
        of = torch.repeat_interleave(torch.arange(len(index)), number)
        place = torch.arange(len(of)) - (number.cumsum(0) - number)[of] + first[of]
        return Pairs(self._data.context[row], scores[index], scores[place], of, place >= self._start[row][of])

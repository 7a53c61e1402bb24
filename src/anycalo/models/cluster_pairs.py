"""Training points as `clusters` sees them: each with those that stood before it, in an order at random."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from anycalo.models.anycalo_data import Prepared
from anycalo.models.clusters import Pairs


class ClusterPairs:
    """Examples of the stage `clusters`: one is a point.

    Args:
        data: of training and validation showers.
        scores: of all points by the trained flow, (P, 3); asked when needed.
        seed: of the order.
    """

    def __init__(self, data: Prepared, scores: Callable[[], Tensor], *, seed: int) -> None:
        self._data, self._scores = data, scores
        generator = torch.Generator().manual_seed(seed)
        mixed = torch.randperm(len(data.points), generator=generator)
        self._order = mixed[torch.argsort(data.row[mixed], stable=True)]
        self._row = data.row[self._order].long()
        place = data.place
        counts = data.n.flatten()[place].long()
        self._start = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
        follows = torch.zeros(len(place), dtype=torch.bool)
        follows[1:] = (place[1:] - place[:-1] == 1) & (place[1:] % data.n.shape[1] != 0)
        self._first = torch.where(follows, self._start[:-1].roll(1), self._start[:-1])

    def batch(self, index: Tensor) -> tuple[Tensor, ...]:
        """`clusters.Pairs` of the chosen points."""
        scores, order, row = self._scores(), self._order, self._row[index]
        first = self._first[row]
        number = index - first
        of = torch.repeat_interleave(torch.arange(len(index)), number)
        place = torch.arange(len(of)) - (number.cumsum(0) - number)[of] + first[of]
        return Pairs(self._data.context[row], scores[order[index]], scores[order[place]], of, place >= self._start[row][of])

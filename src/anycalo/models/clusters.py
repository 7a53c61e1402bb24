"""Points of a layer that stand together: a copula, which leaves the distribution of every single point as `point_flow` drew it.

A layer's points are not independent: those of one sub-cascade, of one hot deposit or of one track stand together, in the layer
and in the one before, and hot ones more than others. Of a point's scores, which are independent standard normal numbers for
radius and energy and a uniform one for the angle, the energy is drawn first. In an order at random, each point then is
independent or a child of one of K kinds, with probabilities that depend on its energy. A child's parent is an earlier point of
its layer or, by its kind, a point of the layer before, chosen with odds that depend on their energies (Hoppe's urn, so that
large clusters grow). The child stands near it:

    radius   z = rho z' + sqrt(1 - rho^2) e      e standard normal, z' of the parent
    angle    a = a' + a wrapped Cauchy step of concentration kappa (Jammalamadaka and SenGupta, 2001)

A standard normal z' gives a standard normal z, and a uniform a' a uniform a, whatever the energies and whatever kappa, which
may so depend on the radius of the parent: a cluster is as wide near the axis as far from it, and its angle is not. So single
points keep their distribution exactly, and the likelihood of a point given the earlier ones is a mixture in closed form. The
energy scores have then done their work: `surroundings` draws energies anew, given where all points stand.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from anycalo.errors import ModelError
from anycalo.models.mixture import perceptron

OF_POINT = 5
"""Standard normal numbers that a point takes: three for its own scores, one for its kind, one for which parent."""
PER_KIND = 8
CLOSEST = 0.999
"""Neither rho nor kappa is above."""
STRONGEST = 8.0
"""Odds of parents lie between e to the minus this and e to this."""
_HALVINGS = 18  # of the points of a batch
_DOUBLINGS = 8  # of chains of parents
_FIRST_RHO = (2.5, 1.0, -1.0)
_FIRST_WEIGHT = -2.0


@dataclass(frozen=True, kw_only=True)
class ClustersConfig:
    """Sizes.

    Args:
        hidden, depth: of the network.
        same: kinds of children of points of the same layer.
        before: kinds of children of points of the layer before.
    """

    hidden: int = 32
    depth: int = 2
    same: int = 3
    before: int = 2

    def __post_init__(self) -> None:
        for name, least in (("hidden", 1), ("depth", 1), ("same", 1), ("before", 0)):
            if getattr(self, name) < least:
                raise ModelError(f"{name} is {getattr(self, name)!r}; expected at least {least}")

    @property
    def kinds(self) -> int:
        """Of children, K."""
        return self.same + self.before


class Kinds(NamedTuple):
    """Of the children in a layer, (..., K) each.

    Args:
        weight, weight_by_energy, weight_by_square: ln of their probability over that of an independent point is the first, plus
            the second times the energy score z, plus the third times (z^2 - 1) / 2.
        radius: rho is the logistic function of this.
        angle, angle_by_radius: kappa is the logistic function of the first plus the second times the parent's radius score.
        odds_by_energy, odds_by_square: of parents, as those of the weight.
    """

    weight: Tensor
    weight_by_energy: Tensor
    weight_by_square: Tensor
    radius: Tensor
    angle: Tensor
    angle_by_radius: Tensor
    odds_by_energy: Tensor
    odds_by_square: Tensor

    def of(self, index: Tensor) -> Kinds:
        """Of the layers of this index."""
        return Kinds(*(t[index] for t in self))

    def log_weights(self, energy: Tensor) -> Tensor:
        """Of points with these energy scores, (...): ln of probabilities up to a constant, (..., K)."""
        return self.weight + by_energy(self.weight_by_energy, self.weight_by_square, energy)

    def odds(self, energy: Tensor) -> Tensor:
        """That points with these energy scores, (...), are parents, up to a factor, (..., K)."""
        return by_energy(self.odds_by_energy, self.odds_by_square, energy).clamp(-STRONGEST, STRONGEST).exp()


class Pairs(NamedTuple):
    """Points and what stood before them.

    Args:
        told: of the layer of each point, (P, C).
        scores: of each point: radius, angle in [-1, 1], energy; (P, 3).
        earlier: scores of all possible parents, one point's after the other's, (Q, 3).
        of: whose, int (Q,).
        same: whether in the same layer, (Q,).
    """

    told: Tensor
    scores: Tensor
    earlier: Tensor
    of: Tensor
    same: Tensor


class Clusters(nn.Module):
    """Which points stand together, and how near: see the module's text.

    Args:
        context: size of what is known of a layer.
        config: sizes.
    """

    def __init__(self, context: int, config: ClustersConfig) -> None:
        super().__init__()
        self.config = config
        self.trunk = perceptron(context, *[config.hidden] * config.depth)
        self.head = nn.Linear(config.hidden, PER_KIND * config.kinds)
        with torch.no_grad():
            self.head.weight.mul_(0.1)
            first = dict.fromkeys(Kinds._fields, torch.zeros(config.kinds))
            first["weight"] = torch.full((config.kinds,), _FIRST_WEIGHT)
            nearness = [_FIRST_RHO[k % len(_FIRST_RHO)] for n in (config.same, config.before) for k in range(n)]
            first["radius"] = first["angle"] = torch.tensor(nearness)
            self.head.bias.copy_(torch.cat(list(first.values())))

    def kinds(self, told: Tensor) -> Kinds:
        """Given what is known of layers (..., C)."""
        return Kinds(*self.head(self.trunk(told)).unflatten(-1, (PER_KIND, self.config.kinds)).unbind(-2))

    def negative_log_likelihood(self, pairs: Pairs) -> Tensor:
        """-ln of the density of each point given the earlier ones, over its density alone, (P,)."""
        kinds = self.kinds(pairs.told)
        weight = with_independent(kinds.log_weights(pairs.scores[:, 2])).softmax(-1)
        of_pair = kinds.of(pairs.of)
        child, parent = pairs.scores[pairs.of], pairs.earlier
        log_ratio = normal_ratio(child[:, :1], parent[:, :1], rho(of_pair.radius))
        log_ratio = log_ratio + wrapped_ratio(child[:, 1:2] - parent[:, 1:2], kappa(of_pair, parent[:, 0]))
        is_same = torch.arange(self.config.kinds, device=log_ratio.device) < self.config.same
        odds = of_pair.odds(parent[:, 2]) * (pairs.same[:, None] == is_same)
        ratio = log_ratio.clamp_max(60).exp() * odds
        # The mean over possible parents; where there are none, the point is independent.
        total, number = (torch.zeros_like(weight[:, 1:]).index_add(0, pairs.of, t) for t in (ratio, odds))
        mean = torch.where(number > 0, total / number.clamp_min(1e-9), torch.ones_like(total))
        return -(weight[:, 0] + (weight[:, 1:] * mean).sum(1)).log()


def by_energy(linear: Tensor, square: Tensor, energy: Tensor) -> Tensor:
    """A parabola in the energy scores (...) with coefficients (..., K)."""
    z = energy[..., None]
    return linear * z + square * (z**2 - 1) / 2


def with_independent(log_weights: Tensor) -> Tensor:
    """`Kinds.log_weights` with that of an independent point, 0, before them, (..., 1 + K)."""
    return torch.cat([torch.zeros_like(log_weights[..., :1]), log_weights], dim=-1)


def rho(radius: Tensor) -> Tensor:
    """See `Kinds`."""
    return CLOSEST * radius.sigmoid()


def kappa(kinds: Kinds, parent_radius: Tensor) -> Tensor:
    """Given the radius score of the parents (P,): (P, K)."""
    return CLOSEST * (kinds.angle + kinds.angle_by_radius * parent_radius[:, None]).sigmoid()


def normal_ratio(child: Tensor, parent: Tensor, rho: Tensor) -> Tensor:
    """Logarithm of the density of a child's standard normal score given its parent's, over its density alone."""
    left = 1 - rho**2
    return -0.5 * left.log() - 0.5 * (child - rho * parent) ** 2 / left + 0.5 * child**2


def wrapped_ratio(turn: Tensor, kappa: Tensor) -> Tensor:
    """Logarithm of the wrapped Cauchy density of a turn [half turns] over the uniform one."""
    return (1 - kappa**2).log() - (1 + kappa**2 - 2 * kappa * (math.pi * turn).cos()).log()


def draw_scores(told: Kinds, same: int, counts: Tensor, layers: int, row: Tensor, normal: Tensor) -> Tensor:
    """Scores (P, 3) of points, layer after layer and shower after shower, in operations that a graph can hold.

    Args:
        told: of the R layers, (R, K) each.
        same: how many of the kinds are children of points of the same layer.
        counts: points of the layers, int (R,).
        layers: L, so that R is a multiple; a last row beyond may hold padding.
        row: the layer of each point, int (P,), in ascending order.
        normal: standard normal numbers, (P, OF_POINT).
    """
    end = counts.cumsum(0)
    number = torch.arange(normal.shape[0], device=normal.device)
    index = torch.arange(counts.shape[0], device=normal.device)
    before = torch.where(index % layers == 0, torch.zeros_like(counts), torch.cat([counts[:1], counts[:-1]]))
    kinds = told.of(row)
    energy, level = normal[:, 2], probability(normal[:, 3:])
    reached = with_independent(kinds.log_weights(energy)).softmax(-1)[:, :-1].cumsum(1)
    kind = (level[:, :1] > reached).sum(1)
    at = (kind - 1).clamp_min(0)[:, None]
    in_same = kind <= same
    first = torch.where(in_same, (end - counts)[row], (end - counts - before)[row])
    last = torch.where(in_same, number, (end - counts)[row])
    child = (kind > 0) & (last > first)
    # Running sums of the odds of parents, of each kind; children of the next layer have odds of their own.
    behind = told.of(torch.cat([index[1:], index[-1:]])[row])
    odds = torch.cat([kinds.odds(energy)[:, :same], behind.odds(energy)[:, same:]], dim=1).double()
    sums = torch.cat([torch.zeros_like(odds[:1]), odds.cumsum(0)])
    low, high = (sums[place].gather(1, at)[:, 0] for place in (first, last))
    parent = _bisected(sums, at[:, 0], low + (high - low) * level[:, 1], first, last)
    parent = torch.where(child, parent, number)
    of_child = Kinds(*(t.gather(1, at) for t in kinds))
    uniform, nearness = probability(normal[:, 1]), rho(of_child.radius)[:, 0]
    step, spread = torch.tan(math.pi * (uniform - 0.5)), (1 - nearness**2).sqrt() * normal[:, 0]
    # Chains of parents are followed in steps of 1, 2, 4 ... ancestors: radii are a linear recurrence, angles a sum.
    factor = torch.where(child, nearness, torch.zeros_like(nearness))
    radius, ancestor = torch.where(child, spread, normal[:, 0]), parent
    for _ in range(_DOUBLINGS):
        factor, radius, ancestor = factor * factor[ancestor], radius + factor * radius[ancestor], ancestor[ancestor]
    close = kappa(of_child, radius[parent])[:, 0]
    angle = torch.where(child, 2 / math.pi * torch.atan((1 - close) / (1 + close) * step), 2 * uniform - 1)
    left, ancestor = child, parent
    for _ in range(_DOUBLINGS):
        angle = torch.where(left, angle + angle[ancestor], angle)
        left, ancestor = left & left[ancestor], ancestor[ancestor]
    return torch.stack([radius, angle - 2 * torch.floor(angle / 2 + 0.5), energy], dim=1)


def _bisected(sums: Tensor, kind: Tensor, level: Tensor, first: Tensor, last: Tensor) -> Tensor:
    """The point from `first` up to below `last` at which the running sum of a kind goes beyond a level, all (P,)."""
    low, high = first, (last - 1).clamp_min(0)
    for _ in range(_HALVINGS):
        middle = torch.div(low + high, 2, rounding_mode="floor")
        beyond = sums[middle + 1].gather(1, kind[:, None])[:, 0] > level
        low, high = torch.where(beyond, low, torch.minimum(middle + 1, high)), torch.where(beyond, middle, high)
    return low


def probability(normal: Tensor) -> Tensor:
    """Of a standard normal number below this one."""
    return 0.5 * (1 + torch.erf(normal * math.sqrt(0.5)))

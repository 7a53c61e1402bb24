"""Energies of points, given how densely points stand around them: hot points stand in hot places.

`point_flow` knows of a point its layer and its radius. Whether it stands in the core of a sub-cascade or between two of them
decides its energy as well, and `clusters`, which puts points together, does not say so: energies of neighbours would not go
together. So once all points of a shower have their places, the energy score of each, a standard normal number to `point_flow`,
is drawn from a mixture of normal distributions whose parameters a network gives from the layer, the radius and the density of
points about it, in its own layer and in those before and behind, at three scales.

Densities are counted on grids of squares about the shower axis, `SCALES` times the distance within which deposits are joined
wide. A point counts at the four nodes around it, in proportion to how near they are (cloud in cell: Hockney and Eastwood,
Computer Simulation Using Particles, 1988), and the density at a point is what its four nodes hold, in the same proportions,
without the point itself. Beyond a grid it is 0: coarser ones reach farther.

The likelihood is exact, and so is the distribution of single points where densities are those of the training.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from anycalo.errors import ModelError
from anycalo.models.clusters import probability
from anycalo.models.per_point import PerPoint
from anycalo.models.point_features import Lateral
from anycalo.models.point_flow import OF_RADIUS, radius_basis

OF_ENERGY = 2
"""Standard normal numbers that an energy takes: for which distribution, and for its place in it."""
SCALES = (1.75, 3.5, 7.0)
ACROSS = 64
"""Nodes of a grid in x, and in y."""
DENSITIES = 3 * len(SCALES)
PER_NORMAL = 3
WIDEST = 3.0
"""Logarithms of standard deviations lie between minus this and this."""


@dataclass(frozen=True, kw_only=True)
class SurroundingsConfig:
    """Sizes.

    Args:
        hidden, depth: of the network that sees the layer.
        features: size of the layer that sees radius and densities.
        normals: distributions in the mixture.
    """

    hidden: int = 48
    depth: int = 2
    features: int = 32
    normals: int = 3

    def __post_init__(self) -> None:
        for name in ("hidden", "depth", "features", "normals"):
            if getattr(self, name) < 1:
                raise ModelError(f"{name} is {getattr(self, name)!r}; expected at least 1")


class Surroundings(PerPoint):
    """p(energy score | layer, radius, densities): see the module's text.

    Args:
        context: size of what is known of a layer.
        config: sizes.
    """

    def __init__(self, context: int, config: SurroundingsConfig) -> None:
        super().__init__(
            context,
            hidden=config.hidden,
            depth=config.depth,
            features=config.features,
            own=OF_RADIUS + DENSITIES,
            numbers=PER_NORMAL * config.normals,
        )
        self.config = config

    def mixture(self, part: Tensor, radius: Tensor, density: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Logits, means and logarithms of the standard deviations, (P, M) each.

        Args:
            part: of the layer of each point, (P, F).
            radius: of points as the flow sees it, (P,).
            density: from `densities`, (P, DENSITIES).
        """
        known = torch.cat([radius_basis(radius), density.log1p() / 2], dim=-1)
        logit, mean, spread = self.numbers(part, known).chunk(PER_NORMAL, dim=-1)
        return logit, mean, spread.clamp(-WIDEST, WIDEST)

    def negative_log_likelihood(self, told: Tensor, radius: Tensor, density: Tensor, energy: Tensor) -> Tensor:
        """-ln of the density of energy scores (P,) over that of standard normal numbers, (P,); see `mixture`."""
        logit, mean, spread = self.mixture(self.of_layer(told), radius, density)
        each = logit.log_softmax(-1) - spread - 0.5 * ((energy[:, None] - mean) * (-spread).exp()) ** 2
        return -(each.logsumexp(-1) + 0.5 * energy**2)

    def draw(self, part: Tensor, radius: Tensor, density: Tensor, normal: Tensor) -> Tensor:
        """Energy scores (P,) from standard normal numbers (P, OF_ENERGY); see `mixture`."""
        logit, mean, spread = self.mixture(part, radius, density)
        reached = logit.softmax(-1)[:, :-1].cumsum(1)
        which = (probability(normal[:, :1]) > reached).sum(1, keepdim=True)
        return (mean.gather(1, which) + spread.gather(1, which).exp() * normal[:, 1:])[:, 0]


def densities(position: Tensor, row: Tensor, rows: int, layers: int) -> Tensor:
    """Points about each point, in its layer, the one before and the one behind, at each scale: (P, DENSITIES).

    Args:
        position: x and y from the shower axis over the distance within which deposits are joined, (P, 2).
        row: of each point, shower * layers + layer, (P,).
        rows: of the showers, a multiple of `layers`, and perhaps one more with padding.
        layers: L.
    """
    area, layer = ACROSS * ACROSS, row % layers
    corners = torch.tensor([0, 1, ACROSS, ACROSS + 1], device=row.device)
    reachable = torch.stack([torch.ones_like(layer), (layer > 0).long(), (layer < layers - 1).long()], dim=1)
    steps = torch.tensor([0, -1, 1], device=row.device)
    found = []
    for scale in SCALES:
        at = position / scale + ACROSS / 2
        node = at.floor()
        part = at - node
        inside = ((node >= 0) & (node <= ACROSS - 2)).all(dim=1)
        x, y = torch.stack([1 - part, part], dim=1).unbind(-1)
        weight = (x[:, :, None] * y[:, None, :]).flatten(1) * inside[:, None]
        node = torch.where(inside[:, None], node, torch.zeros_like(node)).long()
        index = (row * area + node[:, 0] * ACROSS + node[:, 1])[:, None] + corners
        grid = position.new_zeros(rows * area).index_add(0, index.flatten(), weight.flatten())
        places = (index[:, None] + steps[:, None] * area).clamp(0, rows * area - 1)
        held = (grid[places] * weight[:, None]).sum(2) * reachable
        itself = torch.nn.functional.pad((weight**2).sum(1, keepdim=True), (0, 2))
        found.append((held - itself).clamp_min(0))
    return torch.cat(found, dim=1)


def places(radius: Tensor, angle: Tensor, widen: Tensor, shower: Tensor, lateral: Lateral) -> Tensor:
    """Positions of points before their showers are moved to their centres, in units of the coordinates' scale, (P, 2).

    Args:
        radius: compressed, with the width of the shower taken out, (P,).
        angle: over pi, (P,).
        widen: the widths that were taken out, (B,).
        shower: of each point, (P,).
        lateral: of the model.
    """
    plain, turn = torch.sinh(radius.clamp(0, 12)) * lateral.centre_scale_mm, math.pi * angle
    return lateral.scale(torch.stack([plain * turn.cos(), plain * turn.sin()], dim=1), widen, shower)

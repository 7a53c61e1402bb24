"""Energies of a model's own points, brought back to what the flow has promised of each radius.

`surroundings` draws the energy score of a point given the densities about it, and leaves the scores of all points of one
radius in a layer standard normal if densities are those of the training. The points that `clusters` draws stand together
nearly as Geant4's do, but not quite: they find other densities about them, and the cores of showers would come out too cold,
or too hot, by a tenth. So a last flow, of one number, knows how scores of the model's own points are distributed given a
layer and a radius, a monotone rational-quadratic spline of a standard normal number, and turns scores into that number. It
learns from points that the model has drawn in the layers of Geant4's showers (`drawn`).
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from anycalo.errors import ModelError
from anycalo.models.per_point import PerPoint
from anycalo.models.point_flow import BOUND, OF_RADIUS, inverse, radius_basis, spline_of


@dataclass(frozen=True, kw_only=True)
class BalanceConfig:
    """Sizes.

    Args:
        hidden, depth: of the network that sees the layer.
        features: size of the layer that sees the radius.
        bins: of the spline.
    """

    hidden: int = 32
    depth: int = 2
    features: int = 16
    bins: int = 6

    def __post_init__(self) -> None:
        for name in ("hidden", "depth", "features", "bins"):
            if getattr(self, name) < 1:
                raise ModelError(f"{name} is {getattr(self, name)!r}; expected at least 1")


class Balance(PerPoint):
    """Energy scores made standard normal at every radius of a layer: see the module's text.

    Args:
        context: size of what is known of a layer.
        config: sizes.
    """

    def __init__(self, context: int, config: BalanceConfig) -> None:
        super().__init__(
            context,
            hidden=config.hidden,
            depth=config.depth,
            features=config.features,
            own=OF_RADIUS,
            numbers=3 * config.bins - 1,
        )
        self.config = config

    def knots(self, part: Tensor, radius: Tensor) -> Tensor:
        """Of the splines, from standard normal numbers to scores, (P, 3 K - 1).

        Args:
            part: of the layer of each point, (P, F).
            radius: of points as the flow sees it, (P,).
        """
        return self.numbers(part, radius_basis(radius))

    def forward(self, part: Tensor, radius: Tensor, score: Tensor) -> Tensor:
        """Standard normal numbers (P,) for the scores (P,) of points as for `knots`."""
        return inverse(self.knots(part, radius), self.config.bins, BOUND, score)

    def negative_log_likelihood(self, told: Tensor, radius: Tensor, score: Tensor) -> Tensor:
        """-ln of the density of scores (P,) of points in layers (P, C), over that of standard normal numbers, (P,)."""
        spline = spline_of(self.knots(self.of_layer(told), radius), self.config.bins, BOUND)
        normal, log_slope = spline.inv.call_and_ladj(score)
        loss: Tensor = 0.5 * (normal**2 - score**2) - log_slope
        return loss

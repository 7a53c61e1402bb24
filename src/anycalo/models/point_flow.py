"""A point of a layer as three numbers with an exact likelihood: radius, then angle and energy given the radius.

Each is a monotone rational-quadratic spline (arXiv 1906.04032) of a normal or uniform number; a network gives the splines'
knots from what is known of the layer. One evaluation draws a point; the part that does not depend on the radius is evaluated
once a layer.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from zuko.transforms import MonotonicRQSTransform

from anycalo.errors import ModelError
from anycalo.models.mixture import perceptron

BOUND = 4.5
OF_RADIUS = 4
"""Functions of the radius that networks see, see `radius_basis`."""


@dataclass(frozen=True, kw_only=True)
class PointFlowConfig:
    """Sizes of the point flow.

    Args:
        hidden: size of the layers of the network.
        depth: how many there are.
        bins: of the splines of radius and energy.
        angle_bins: of that of the angle.
        radius_features: size of the layer that sees the radius.
    """

    hidden: int = 96
    depth: int = 2
    bins: int = 14
    angle_bins: int = 6
    radius_features: int = 48

    def __post_init__(self) -> None:
        for name in ("hidden", "depth", "bins", "angle_bins", "radius_features"):
            if getattr(self, name) < 1:
                raise ModelError(f"{name} is {getattr(self, name)!r}; expected at least 1")


class PointFlow(nn.Module):
    """p(radius, angle, energy | context): see the module's text.

    Radius and energy come as numbers that are about standard normal over all data, the angle as a number in [-1, 1].

    Args:
        context: size of what is known of the layer.
        config: sizes.
    """

    def __init__(self, context: int, config: PointFlowConfig) -> None:
        super().__init__()
        self.config = config
        self.trunk = perceptron(context, *[config.hidden] * config.depth)
        self.radius = nn.Linear(config.hidden, 3 * config.bins - 1)
        self.of_context = nn.Linear(config.hidden, config.radius_features)
        self.of_radius = nn.Linear(OF_RADIUS, config.radius_features, bias=False)
        self.angle = nn.Linear(config.radius_features, 3 * config.angle_bins - 1)
        self.energy = nn.Linear(config.radius_features, 3 * config.bins - 1)
        for head in (self.radius, self.angle, self.energy):
            nn.init.zeros_(head.bias)
            with torch.no_grad():
                head.weight.mul_(0.1)

    def context(self, told: Tensor) -> tuple[Tensor, Tensor]:
        """What points need of their layer: knots of the radius, and the part of the second layer; (..., 3 K - 1), (..., R)."""
        h = self.trunk(told)
        return self.radius(h), self.of_context(h)

    def given_radius(self, part: Tensor, radius: Tensor) -> tuple[Tensor, Tensor]:
        """Knots of angle and energy of points (P,) whose layers gave `part` (P, R)."""
        h = nn.functional.gelu(part + self.of_radius(radius_basis(radius)))
        return self.angle(h), self.energy(h)

    def negative_log_likelihood(self, told: Tensor, x: Tensor) -> Tensor:
        """-ln p of points x (P, 3), columns radius, angle, energy, given what is known of each one's layer (P, C): (P,)."""
        scores, slopes = self._scores(told, x)
        normal = 0.5 * (scores[:, 0] ** 2 + scores[:, 2] ** 2) + math.log(2 * math.pi)
        return normal + math.log(2) - slopes

    @torch.no_grad()
    def scores(self, told: Tensor, x: Tensor) -> Tensor:
        """The numbers that points x (P, 3) are drawn from: normal, uniform from -1 to 1, normal; (P, 3)."""
        return self._scores(told, x)[0]

    def _scores(self, told: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """`scores` and the sum of the logarithms of their derivatives, (P,)."""
        knots, part = self.context(told)
        z_radius, radius_slope = spline_of(knots, self.config.bins, BOUND).call_and_ladj(x[:, 0])
        angle_knots, energy_knots = self.given_radius(part, x[:, 0])
        z_angle, angle_slope = spline_of(angle_knots, self.config.angle_bins, 1.0).call_and_ladj(x[:, 1].clamp(-1, 1))
        z_energy, energy_slope = spline_of(energy_knots, self.config.bins, BOUND).call_and_ladj(x[:, 2])
        return torch.stack([z_radius, z_angle, z_energy], dim=1), radius_slope + angle_slope + energy_slope


def radius_basis(radius: Tensor) -> Tensor:
    """Functions of the radius (...) that networks see, (..., OF_RADIUS)."""
    return torch.stack([radius, radius**2 / 3, torch.sin(2 * radius), torch.cos(2 * radius)], dim=-1)


def spline_of(knots: Tensor, bins: int, bound: float) -> MonotonicRQSTransform:
    """The spline with these unnormalised widths, heights and slopes, the identity beyond the bound."""
    widths, heights, slopes = knots.split([bins, bins, bins - 1], dim=-1)  # type: ignore[no-untyped-call]
    return MonotonicRQSTransform(widths, heights, slopes, bound=bound)


def inverse(knots: Tensor, bins: int, bound: float, y: Tensor) -> Tensor:
    """What splines with these knots (P, 3 K - 1) map to y (P,), where rounding may not take a root of less than nothing."""
    monotone = spline_of(knots, bins, bound)
    k = monotone.searchsorted(monotone.vertical, y) - 1
    inside, x0, x1, y0, y1, d0, d1, slope = monotone.bin(k)
    above = torch.where(inside, y - y0, torch.zeros_like(y))
    rise, curve = y1 - y0, above * (d0 + d1 - 2 * slope)
    a, b, c = rise * (slope - d0) + curve, rise * d0 - curve, -slope * above
    z = 2 * c / (-b - (b * b - 4 * a * c).clamp_min(0).sqrt())
    return torch.where(inside, x0 + z * (x1 - x0), y)

"""Points that were joined become two again: whether a point has two ends, and where they are.

Deposits of one track are joined before training (`merging`), so that points are few and nearly independent. Cells see the
difference where a track crosses the border of two. So each point is divided again, with a probability that depends on its
layer, energy and radius, into two ends along the direction in which its track runs. For a point seen as the point flow sees
it, radius r and energy e both about standard normal over all data, every parameter is a parabola,

    c . (1, e, (e^2 - 1) / 2, r, (r^2 - 1) / 2)

with coefficients c from a network that is told of the layer:

    divided      a logit
    share        of the weaker end; its map to a normal number has a mean and a spread
    length       from end to end over the distance within which deposits are joined; the same, with a mean that also depends on
                 the share and on how the track is inclined
    direction    about v = slope of the shower axis + h (unit vector away from the axis), h a parabola's exponential; of a line,
                 so that twice the angle to v has a wrapped Cauchy distribution (Jammalamadaka and SenGupta, 2001)

Energy and energy-weighted position of a point are kept exactly. The likelihood is in closed form.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from anycalo.errors import ModelError
from anycalo.models.clusters import CLOSEST, probability, wrapped_ratio
from anycalo.models.layer_features import EDGE, Gaussianise
from anycalo.models.mixture import perceptron

OF_TRACK = 4
"""Standard normal numbers that a point takes: for whether it is divided (and which end is which), share, length, direction."""
BASIS = 5
PARABOLAS = 7
NUMBERS = PARABOLAS * BASIS + 2
INCLINED = 0.3
"""Added to the length of v before its logarithm is taken."""
MOST_SPREAD = 1.5
"""Logarithms of spreads and of h lie between minus this and this."""


@dataclass(frozen=True, kw_only=True)
class TracksConfig:
    """Sizes.

    Args:
        hidden, depth: of the network.
    """

    hidden: int = 32
    depth: int = 2

    def __post_init__(self) -> None:
        for name in ("hidden", "depth"):
            if getattr(self, name) < 1:
                raise ModelError(f"{name} is {getattr(self, name)!r}; expected at least 1")


class Ends(NamedTuple):
    """What points were joined from.

    Args:
        share: of the weaker end in the energy of a point, 0 where it was one deposit, (P,).
        length: from the stronger to the weaker end over the distance within which deposits are joined, (P,).
        angle: of that line to x [rad], (P,).
        outwards: of the line from the shower axis to the point, the same, (P,).
        slope: dx / dz and dy / dz of the shower axis, (P, 2).
    """

    share: Tensor
    length: Tensor
    angle: Tensor
    outwards: Tensor
    slope: Tensor


class Line(NamedTuple):
    """Parameters of points, (P,) each; see the module's text.

    Args:
        divided: a logit.
        share, share_spread: of the normal number of the share.
        length, length_spread: of that of the length, without the next two.
        by_share: how the mean of the length depends on the normal number of the share,
        by_inclination: and on ln(|v| + `INCLINED`).
        heading: h.
        kappa: concentration of the direction.
    """

    divided: Tensor
    share: Tensor
    share_spread: Tensor
    length: Tensor
    length_spread: Tensor
    by_share: Tensor
    by_inclination: Tensor
    heading: Tensor
    kappa: Tensor


class Tracks(nn.Module):
    """Which points have two ends, and where: see the module's text.

    Args:
        context: size of what is known of a layer.
        config: sizes.
    """

    def __init__(self, context: int, config: TracksConfig) -> None:
        super().__init__()
        self.config = config
        self.trunk = perceptron(context, *[config.hidden] * config.depth)
        self.head = nn.Linear(config.hidden, NUMBERS)
        self.share_shape = Gaussianise(1, knots=129)
        self.length_shape = Gaussianise(1, knots=129)
        with torch.no_grad():
            self.head.weight.mul_(0.1)
            self.head.bias.zero_()

    @torch.no_grad()
    def fit(self, share: Tensor, length: Tensor) -> None:
        """Set the scales from shares and lengths of training points, (P,), single ones among them."""
        divided = share > 0
        if int(divided.sum()) >= 2:
            self.share_shape.fit(0, share[divided])
            self.length_shape.fit(0, length[divided].log())

    def line(self, coefficients: Tensor, radius: Tensor, energy: Tensor) -> Line:
        """Parameters of points with these radii and energies, as the point flow sees them.

        Args:
            coefficients: of their layers, (P, NUMBERS).
            radius: (P,).
            energy: (P,).
        """
        ones = torch.ones_like(energy)
        basis = torch.stack([ones, energy, (energy**2 - 1) / 2, radius, (radius**2 - 1) / 2], dim=1)
        each = (coefficients[:, : PARABOLAS * BASIS].reshape(-1, PARABOLAS, BASIS) * basis[:, None]).sum(2)
        divided, share, share_spread, length, length_spread, heading, near = each.unbind(1)
        return Line(
            divided=divided,
            share=share,
            share_spread=share_spread.clamp(-MOST_SPREAD, MOST_SPREAD).exp(),
            length=length,
            length_spread=length_spread.clamp(-MOST_SPREAD, MOST_SPREAD).exp(),
            by_share=coefficients[:, -2],
            by_inclination=coefficients[:, -1],
            heading=heading.clamp(-2 * MOST_SPREAD, MOST_SPREAD).exp(),
            kappa=CLOSEST * near.sigmoid(),
        )

    def negative_log_likelihood(self, told: Tensor, radius: Tensor, energy: Tensor, ends: Ends) -> Tensor:
        """-ln of the probability of one end, or of the density of two over that of lines in all directions, (P,)."""
        line = self.line(self.head(self.trunk(told)), radius, energy)
        two = ends.share > 0
        one_or_two = nn.functional.binary_cross_entropy_with_logits(line.divided, two.to(energy.dtype), reduction="none")
        share = self.share_shape(ends.share[:, None])[:, 0].clamp(-EDGE, EDGE)
        length = self.length_shape(ends.length.clamp_min(1e-6).log()[:, None])[:, 0].clamp(-EDGE, EDGE)
        angle, inclination = inclined(ends.outwards, ends.slope, line.heading)
        mean = line.length + line.by_share * share + line.by_inclination * inclination
        of_share = line.share_spread.log() + 0.5 * ((share - line.share) / line.share_spread) ** 2
        of_length = line.length_spread.log() + 0.5 * ((length - mean) / line.length_spread) ** 2
        of_angle = -wrapped_ratio(2 * (ends.angle - angle) / math.pi, line.kappa)
        return one_or_two + torch.where(two, of_share + of_length + of_angle + math.log(2 * math.pi), 0.0)

    def draw(
        self, coefficients: Tensor, radius: Tensor, energy: Tensor, outwards: Tensor, slope: Tensor, normal: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Shares (P,), 0 of points with one end, and the way from the stronger to the weaker end (P, 2).

        Args:
            coefficients: of the layers of the points, (P, NUMBERS).
            radius: as the point flow sees it, (P,).
            energy: the same.
            outwards: angle of the line from the shower axis to each point, (P,).
            slope: of the shower axis, (P, 2).
            normal: standard normal numbers, (P, OF_TRACK).
        """
        line = self.line(coefficients, radius, energy)
        chance = line.divided.sigmoid()
        level = probability(normal[:, 0])
        z = line.share + line.share_spread * normal[:, 1]
        angle, inclination = inclined(outwards, slope, line.heading)
        y = line.length + line.by_share * z + line.by_inclination * inclination + line.length_spread * normal[:, 2]
        share = self.share_shape.inverse(z.clamp(-EDGE, EDGE)[:, None])[:, 0].clamp(1e-4, 0.5)
        length = self.length_shape.inverse(y.clamp(-EDGE, EDGE)[:, None])[:, 0].exp()
        step = torch.tan(math.pi * (probability(normal[:, 3]) - 0.5))
        angle = angle + torch.atan((1 - line.kappa) / (1 + line.kappa) * step)
        # Which of the two ways along the line, by what the first number has left.
        length = torch.where(level < chance / 2, -length, length)
        way = torch.stack([length * angle.cos(), length * angle.sin()], dim=1)
        return torch.where(level < chance, share, 0.0), way


def inclined(outwards: Tensor, slope: Tensor, heading: Tensor) -> tuple[Tensor, Tensor]:
    """Angle of v = slope + heading * (unit vector outwards), and ln(|v| + `INCLINED`), (P,) each."""
    x, y = slope[:, 0] + heading * outwards.cos(), slope[:, 1] + heading * outwards.sin()
    return torch.atan2(y, x), ((x**2 + y**2).sqrt() + INCLINED).log()

"""Points as features of the denoiser, and back: compressed radius, logarithm of energy; and sums imposed."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


def compress(xy: Tensor, scale: float) -> Tensor:
    """(x, y) with the radius r replaced by asinh(r / scale): linear in the core, logarithmic in the tail, isotropic."""
    r = torch.linalg.vector_norm(xy, dim=-1, keepdim=True) / scale
    return xy / scale * torch.where(r > 1e-4, torch.asinh(r) / r.clamp_min(1e-12), 1 - r**2 / 6)


def expand(u: Tensor, scale: float, largest: float | Tensor = 1e5) -> Tensor:
    """Inverse of `compress`, with radii above `largest` (mm) put there."""
    rho = torch.linalg.vector_norm(u, dim=-1, keepdim=True)
    limit = torch.asinh(torch.as_tensor(largest, dtype=u.dtype, device=u.device) / scale)
    clipped = torch.minimum(rho, limit)
    return scale * u * torch.where(rho > 1e-4, torch.sinh(clipped) / rho.clamp_min(1e-12), 1 + rho**2 / 6)


def weighted_centre(u: Tensor, weight: Tensor, shower: Tensor, showers: int) -> Tensor:
    """Energy-weighted centre (B, 2) of points u (P, 2) that belong to `shower` (P,); 0 for showers with no weight."""
    sums = sum_by(torch.cat([u, torch.ones_like(weight)[:, None]], dim=1) * weight[:, None], shower, showers)
    return sums[:, :2] / sums[:, 2:].clamp_min(1e-30)


def weighted_width(u: Tensor, weight: Tensor, shower: Tensor, showers: int) -> Tensor:
    """Energy-weighted rms distance from 0 (B,) of points u (P, 2); 1 where it would be 0."""
    sums = sum_by(torch.stack([(u**2).sum(dim=1), torch.ones_like(weight)], dim=1) * weight[:, None], shower, showers)
    variance = sums[:, 0] / sums[:, 1].clamp_min(1e-30)
    return torch.where(variance > 0, variance, torch.ones_like(variance)).sqrt()


def sum_by(values: Tensor, group: Tensor, groups: int) -> Tensor:
    """Sums of values (P, ...) by group (P,), float64 inside: (groups, ...)."""
    out = torch.zeros(groups, *values.shape[1:], dtype=torch.float64, device=values.device)
    return out.index_add_(0, group, values.double()).to(values.dtype)


class Lateral:
    """Centre and width of showers, taken out of their points and put back.

    The centre is measured in positions compressed at a small scale, so that it is where the core is and a
    single deposit far away does not move it; the width at a large scale, so that it is close to the rms
    that an observer measures. Both are energy-weighted.

    Args:
        centre_scale_mm, width_scale_mm: the two scales.
    """

    def __init__(self, centre_scale_mm: float, width_scale_mm: float) -> None:
        self.centre_scale_mm, self.width_scale_mm = centre_scale_mm, width_scale_mm

    def measure(self, xy: Tensor, weight: Tensor, shower: Tensor, showers: int) -> Tensor:
        """Centre (in units of its scale) and ln width of B showers, (B, 3); the width is that of the centred points."""
        centre = weighted_centre(compress(xy, self.centre_scale_mm), weight, shower, showers)
        centred = self.shift(xy, -centre, shower)
        width = weighted_width(compress(centred, self.width_scale_mm), weight, shower, showers)
        return torch.cat([centre, width.log()[:, None]], dim=1)

    def shift(self, xy: Tensor, by: Tensor, shower: Tensor) -> Tensor:
        """Move the points of each shower by (B, 2) in compressed space."""
        return expand(compress(xy, self.centre_scale_mm) + by[shower], self.centre_scale_mm)

    def scale(self, xy: Tensor, by: Tensor, shower: Tensor) -> Tensor:
        """Widen the points of each shower by a factor (B,) in compressed space."""
        return expand(compress(xy, self.width_scale_mm) * by[shower, None], self.width_scale_mm)

    def remove(self, xy: Tensor, moments: Tensor, shower: Tensor) -> Tensor:
        """Points (P, 2) of showers with `moments` (B, 3), centred and at width 1."""
        return self.scale(self.shift(xy, -moments[:, :2], shower), (-moments[:, 2]).exp(), shower)

    def impose(self, xy: Tensor, moments: Tensor, weight: Tensor, shower: Tensor) -> Tensor:
        """Points (P, 2) so moved and widened that `measure` gives `moments` (B, 3): the centre exactly, the width nearly."""
        # measure, shift, scale, measure the centre, shift: written out, every position is compressed and expanded once.
        u = compress(xy, self.centre_scale_mm)
        u = u - weighted_centre(u, weight, shower, moments.shape[0])[shower]
        v = compress(expand(u, self.centre_scale_mm), self.width_scale_mm)
        factor = moments[:, 2].exp() / weighted_width(v, weight, shower, moments.shape[0])
        u = compress(expand(v * factor[shower, None], self.width_scale_mm), self.centre_scale_mm)
        u = u + (moments[:, :2] - weighted_centre(u, weight, shower, moments.shape[0]))[shower]
        return expand(u, self.centre_scale_mm)


def impose_energy(energy: Tensor, group: Tensor, target: Tensor) -> Tensor:
    """Scale energies (P,) so that each group's sum is its target (groups,)."""
    return energy * (target / sum_by(energy, group, target.shape[0]).clamp_min(1e-30))[group]


SETTLED = 8
"""Newton's steps of `settle`; values over many orders of magnitude take at most five."""
LEAST = 1e-9
"""Smaller values count as this."""


def settle(values: Tensor, group: Tensor, target: Tensor) -> Tensor:
    """Values (P,) so changed that each group's sum is its target (groups,), the largest most: v' = 1 / (1 / v - shift).

    Of independent numbers with long tails, a sum that is off is off for the largest of them. To change all by one factor
    would take the others from where they are most often, a crossing particle's energy from its peak. The order of values stays.
    There is always one such shift: 1 / sum is a falling and concave function of it, on which Newton's method goes down from
    where the largest value alone is all of the target.

    Args:
        values: above 0.
        group: of each value, (P,).
        target: 0 makes all values of a group 0.
    """
    groups = target.shape[0]
    one_over = 1 / values.clamp_min(LEAST).double()
    wanted = target.double().clamp_min(1e-30)
    least = torch.full_like(wanted, math.inf).scatter_reduce(0, group, one_over, "amin")
    shift = least - 1 / wanted
    for _ in range(SETTLED):
        part = 1 / (one_over - shift[group])
        total, slope = sum_by(part, group, groups), sum_by(part**2, group, groups)
        change = total * (1 - total / wanted) / slope.clamp_min(1e-300)
        shift = torch.where(slope > 0, shift + change, shift)
    settled = 1 / (one_over - shift[group])
    settled = settled * (wanted / sum_by(settled, group, groups).clamp_min(1e-300))[group]
    return torch.where(target[group] > 0, settled, 0.0).to(values.dtype)


class Standardise(nn.Module):
    """x -> spread * (x - mean) / std, with mean and std of the training data as buffers, for F features."""

    mean: Tensor
    std: Tensor

    def __init__(self, features: int, spread: float) -> None:
        super().__init__()
        self.spread = spread
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("std", torch.ones(features))

    @torch.no_grad()
    def fit(self, x: Tensor) -> None:
        """From data (P, F); constant features keep a standard deviation of 1."""
        self.mean.copy_(x.double().mean(0))
        std = x.double().std(0, correction=0)
        self.std.copy_(torch.where(std > 1e-6, std, torch.ones_like(std)))

    def forward(self, x: Tensor) -> Tensor:
        """(..., F) -> (..., F)."""
        return self.spread * (x - self.mean) / self.std

    def inverse(self, y: Tensor) -> Tensor:
        """(..., F) -> (..., F)."""
        return y / self.spread * self.std + self.mean

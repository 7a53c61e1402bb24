"""Points as features of the denoiser, and back: compressed radius, logarithm of energy; and sums imposed."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def compress(xy: Tensor, scale: float) -> Tensor:
    """(x, y) with the radius r replaced by asinh(r / scale): linear in the core, logarithmic in the tail, isotropic."""
    r = torch.linalg.vector_norm(xy, dim=-1, keepdim=True) / scale
    return xy / scale * torch.where(r > 1e-4, torch.asinh(r) / r.clamp_min(1e-12), 1 - r**2 / 6)


def expand(u: Tensor, scale: float, largest: float | Tensor) -> Tensor:
    """Inverse of `compress`, with radii above `largest` put there."""
    rho = torch.linalg.vector_norm(u, dim=-1, keepdim=True)
    limit = torch.asinh(torch.as_tensor(largest, dtype=u.dtype, device=u.device) / scale)
    clipped = torch.minimum(rho, limit)
    return scale * u * torch.where(rho > 1e-4, torch.sinh(clipped) / rho.clamp_min(1e-12), 1 + rho**2 / 6)


def weighted_moments(u: Tensor, weight: Tensor, shower: Tensor, showers: int) -> tuple[Tensor, Tensor]:
    """Energy-weighted centre (B, 2) and rms width an axis (B,) of points u (P, 2) that belong to `shower` (P,).

    Showers with no weight have centre 0 and width 1.
    """
    total = sum_by(weight, shower, showers).clamp_min(1e-30)
    centre = torch.stack([sum_by(weight * u[:, k], shower, showers) for k in range(2)], dim=1) / total[:, None]
    spread = ((u - centre[shower]) ** 2).sum(dim=1) / 2
    variance = sum_by(weight * spread, shower, showers) / total
    return centre, torch.where(variance > 0, variance, torch.ones_like(variance)).sqrt()


def sum_by(values: Tensor, group: Tensor, groups: int) -> Tensor:
    """Sums of values (P,) by group (P,), float64 inside: (groups,)."""
    out = torch.zeros(groups, dtype=torch.float64, device=values.device)
    return out.index_add_(0, group, values.double()).to(values.dtype)


def impose_moments(u: Tensor, weight: Tensor, shower: Tensor, centre: Tensor, width: Tensor) -> Tensor:
    """Shift and scale each shower's points so that `weighted_moments` become `centre` (B, 2) and `width` (B,).

    Showers of a single point, which have no width, are only shifted.
    """
    found_centre, found_width = weighted_moments(u, weight, shower, len(centre))
    return centre[shower] + (u - found_centre[shower]) * (width / found_width)[shower, None]


def impose_energy(energy: Tensor, group: Tensor, target: Tensor) -> Tensor:
    """Scale energies (P,) so that each group's sum is its target (groups,)."""
    return energy * (target / sum_by(energy, group, len(target)).clamp_min(1e-30))[group]


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

"""The depth of a shower as two numbers, and the expected profile bent to have them.

Showers of one energy begin at different depths and grow at different rates; most of what tells their profiles apart is two
numbers (GFlash, hep-ex/0001020: the parameters alpha and beta of a gamma distribution). Here they are the energy-weighted means
of two functions of depth t [X0], phi_1 ~ t and phi_2 ~ ln(1 + t), made orthonormal under the expected profile e_l:

    D_k = sum_l E_l phi_k(t_l) / sum_l E_l

The expected profile bent to given D is the nearest to it in relative entropy, e_l exp(b . phi(t_l)): of a gamma distribution
nearly another one. It is found by Newton's method on the convex dual, with a weak prior on b, so that a D that no
shower in this detector can have bends the profile as far as is sensible and no further.
"""

from __future__ import annotations

import torch
from torch import Tensor

DEPTHS = 2
"""How many numbers describe a profile."""
PRIOR = 2e-3
STEPS = 10
STEEPEST = 8.0
FARTHEST = 50.0
"""Of `bent`, and of its compiled twin in `layer_kernels`."""
LEAST_SPREAD = 1e-3


def directions(depth: Tensor, energy: Tensor) -> Tensor:
    """The functions phi of layers, (B, L, 2): of mean 0, spread 1 and no correlation under the expected profile.

    Args:
        depth: of the sensors along the axis [X0], (B, L).
        energy: expected of the layers, (B, L); 0 beyond a detector's layers, where phi is 0 too.
    """
    weight = energy / energy.sum(1)[:, None]

    def standard(x: Tensor) -> Tensor:
        centred = x - (weight * x).sum(1)[:, None]
        # A detector of one or two layers has no depth to tell.
        spread = (weight * centred**2).sum(1)[:, None] ** 0.5
        return centred / spread.clamp_min(LEAST_SPREAD)

    first = standard(depth)
    second = standard((1 + depth.clamp_min(0)).log())
    second = standard(second - (weight * first * second).sum(1)[:, None] * first)
    return torch.where(energy[..., None] > 0, torch.stack([first, second], -1), 0.0)


def measure(phi: Tensor, energy: Tensor) -> Tensor:
    """D of showers with these energies in the layers (B, L): (B, 2); 0 for a shower without energy."""
    total = energy.sum(1, keepdim=True).clamp_min(1e-12)
    return torch.einsum("bl,blk->bk", energy / total, phi)


def bent(phi: Tensor, energy: Tensor, wanted: Tensor) -> Tensor:
    """Factors (B, L) that bend the profile `energy` (B, L) to have D = `wanted` (B, 2) and the sum it had.

    They are 1 where a layer has no energy.
    """
    log_energy = torch.where(energy > 0, energy.clamp_min(1e-30).log(), torch.full((), -torch.inf))
    b = torch.zeros_like(wanted)
    for _ in range(STEPS):
        weight = (log_energy + torch.einsum("bk,blk->bl", b, phi)).softmax(1)
        mean = torch.einsum("bl,blk->bk", weight, phi)
        spread = torch.einsum("bl,blj,blk->bjk", weight, phi, phi) - mean[:, :, None] * mean[:, None]
        gradient = wanted - mean - PRIOR * b
        xx, yy, xy = spread[:, 0, 0] + PRIOR, spread[:, 1, 1] + PRIOR, spread[:, 0, 1]
        step = (
            torch.stack([yy * gradient[:, 0] - xy * gradient[:, 1], xx * gradient[:, 1] - xy * gradient[:, 0]], dim=1)
            / (xx * yy - xy**2).clamp_min(1e-12)[:, None]
        )
        # Newton's method, damped while far away.
        decrement = (gradient * step).sum(1, keepdim=True).clamp_min(0).sqrt()
        b = (b + step / (1 + decrement)).clamp(-STEEPEST, STEEPEST)
    bend = torch.einsum("bk,blk->bl", b, phi)
    # The sum stays what it was.
    change = log_energy.logsumexp(1, keepdim=True) - (log_energy + bend).logsumexp(1, keepdim=True)
    return torch.where(energy > 0, (bend + change).clamp(-FARTHEST, FARTHEST).exp(), torch.ones(()))

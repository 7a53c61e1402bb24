"""Counts and energies of the layers of any detector as totals and tokens, each relative to what is expected, and back.

Of a shower with N points and visible energy E, in layers with N_l and E_l, and expectations p_l and e_l (`universal.Told`):

    T = ln(E / sum e)                 M = ln((E / N) / (sum e / sum p))
    a_l = ln(N_l + 1/2 + c) - ln(N p_l / sum p + c)
    m_l = ln(E_l / N_l) - ln(E / N) - ln((e_l / p_l) / (sum e / sum p))

where in the last two lines p and e are bent to the depth that the shower has (`profile`). Counts are whole numbers, with the
probabilities of the intervals from N_l to N_l + 1 (discretised mixtures: PixelCNN++, arXiv 1701.05517). Totals are redundant
with the layers. So that the last layers are not what the others leave, to the last point, all counts that later layers are
told share a blur of `GAUGE` in each shower. What is drawn is then made to agree with the totals and the depth
(`decode_layers`), layers of few points hardly, which are as sharp as nature makes them.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from anycalo.models.profile import bent
from anycalo.models.universal import Told

GAUGE = 0.05
OFFSET = 2.0
SHARE_OFFSET = 0.01
FEW = 8.0
"""Points with which a layer takes half of a correction: what few particles leave is right as it was drawn."""
ROUNDS, LEAST = 2, 0.1
"""How often the depth is corrected; what a correction to a sum leaves of a layer at least."""


@dataclass(frozen=True, kw_only=True)
class Shares:
    """What a shower's totals make one expect of its layers.

    Args:
        count: expected points, (B, L).
        mean_mev: expected energy of a point, (B, L).
        crossing: expected energy of a point over what is expected of a particle that crosses a sensor, (B,).
        steepness: how far the expected profile had to be bent, (B,); a shower beyond `profile.STEEPEST` is not physical.
    """

    count: Tensor
    mean_mev: Tensor
    crossing: Tensor
    steepness: Tensor

    @staticmethod
    def of(told: Told, n_total: Tensor, e_total: Tensor, depths: Tensor) -> Shares:
        """From totals (B,) of points and of energy [MeV], and the depths D (B, 2) of `profile`."""
        factors, steepness = bent(told.phi, told.energy_mev, depths)
        points, energy = told.points * factors, told.energy_mev * factors
        total_points, total_energy = points.sum(1, keepdim=True), energy.sum(1, keepdim=True)
        count = n_total[:, None] * points / total_points
        crossing = e_total / n_total * (total_points / total_energy)[:, 0]
        mean = torch.where(told.valid, energy / points.clamp_min(1e-12), torch.ones(())) * crossing[:, None]
        return Shares(count=count, mean_mev=mean, crossing=crossing, steepness=steepness)


def encode_totals(told: Told, n_total: Tensor, e_total: Tensor) -> Tensor:
    """T and M of showers with these totals (B,): (B, 2)."""
    points, energy = told.points.sum(1), told.energy_mev.sum(1)
    return torch.stack([(e_total / energy).log(), (e_total / n_total * points / energy).log()], dim=1)


def decode_totals(told: Told, totals: Tensor) -> tuple[Tensor, Tensor]:
    """Points and energy [MeV] of T and M (B, 2): (B,), (B,)."""
    points, energy = told.points.sum(1), told.energy_mev.sum(1)
    e_total = totals[:, 0].exp() * energy
    return e_total * (-totals[:, 1]).exp() * points / energy, e_total


def encode_layers(shares: Shares, n: Tensor, e: Tensor) -> tuple[Tensor, Tensor]:
    """Tokens a and m of layers with n points and e MeV, (B, L) each; m is 0 without points."""
    m = (e / n.clamp_min(1)).clamp_min(1e-9).log() - shares.mean_mev.log()
    return _relative(shares, n + 0.5), torch.where(n > 0, m, torch.zeros(()))


def blurred(shares: Shares, n: Tensor, normal: Tensor) -> tuple[Tensor, Tensor]:
    """What later layers are told of layers with n points (B, L) in place of n + 1/2 and of a, (B, L) each.

    Args:
        shares: of the showers.
        n: points of the layers.
        normal: a standard normal number for each shower, (B,).
    """
    nu = (n + 0.5) * (GAUGE * normal).exp()[:, None]
    return nu, _relative(shares, nu)


def interval(shares: Shares, n: Tensor) -> tuple[Tensor, Tensor]:
    """Between which a, (B, L) each, a draw is n points: from -infinity for none."""
    return torch.where(n > 0, _relative(shares, n), torch.full((), -torch.inf)), _relative(shares, n + 1)


def _relative(shares: Shares, points: Tensor) -> Tensor:
    """Numbers of points relative to what is expected, as a is, (B, L)."""
    return (points + OFFSET).log() - (shares.count + OFFSET).log()


def decode_layers(told: Told, n: Tensor, e: Tensor, n_total: Tensor, e_total: Tensor, depths: Tensor) -> tuple[Tensor, Tensor]:
    """Points and energies of the layers, (B, L) each, that add up to the totals (B,) and have the depth.

    A layer takes as much of a correction as its points N_l are many, N_l / (N_l + `FEW`). Empty layers stay empty, and others
    keep a point. The depth is nearly reached, numbers of points up to rounding, and energies add up exactly.

    Args:
        told: of the showers.
        n: points, whole numbers, (B, L).
        e: energies up to a common factor, (B, L).
        n_total: points of the shower, (B,).
        e_total: its energy [MeV], (B,).
        depths: D of `profile`, (B, 2).
    """
    n, e = (torch.where(told.valid & (n > 0), t, torch.zeros(())) for t in (n, e))
    firm, points = n / (n + FEW), n
    for _ in range(ROUNDS):
        factors = bent(told.phi, e, depths)[0] ** firm
        points, e = points * factors, e * factors
    points, e = _stretched(points, firm, n_total), _stretched(e, firm, e_total)
    points = torch.where(n > 0, (points + 0.5).floor().clamp_min(1), torch.zeros(()))
    return points, e


def _stretched(x: Tensor, firm: Tensor, total: Tensor) -> Tensor:
    """Layers (B, L) with the sum `total` (B,), changed as far as they are `firm`; all alike, where far too much was drawn."""
    missing = (total - x.sum(1)) / (firm * x).sum(1).clamp_min(1e-12)
    x = x * (1 + firm * missing[:, None]).clamp_min(LEAST)
    return x * (total / x.sum(1).clamp_min(1e-12))[:, None]


def progress_features(shares: Shares, nu: Tensor, e: Tensor, e_total: Tensor) -> Tensor:
    """How a shower stands against expectation before each layer, (B, L, 4): points so far and left, energy so far and left."""
    expected = shares.count
    wanted = expected * shares.mean_mev

    def before(x: Tensor) -> Tensor:
        return x.cumsum(1) - x

    past, past_expected = before(nu), before(expected)
    left, left_expected = expected.sum(1, keepdim=True) - past, expected.sum(1, keepdim=True) - past_expected
    share, share_expected = before(e) / e_total[:, None], before(wanted) / wanted.sum(1, keepdim=True)
    return torch.stack(
        [
            ((past + OFFSET) / (past_expected + OFFSET)).log(),
            ((left.clamp_min(0) + OFFSET) / (left_expected.clamp_min(0) + OFFSET)).log(),
            ((share + SHARE_OFFSET) / (share_expected + SHARE_OFFSET)).log(),
            (((1 - share).clamp_min(0) + SHARE_OFFSET) / ((1 - share_expected).clamp_min(0) + SHARE_OFFSET)).log(),
        ],
        dim=-1,
    )

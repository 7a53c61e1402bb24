"""Counts and energies of the layers of any detector as totals and tokens, each relative to what is expected, and back.

Of a shower with N points and visible energy E, in layers with N_l and E_l, and expectations p_l and e_l (`universal.Told`):

    T = ln(E / sum e)                 M = ln((E / N) / (sum e / sum p))
    a_l = ln(nu_l + c) - ln(N p_l / sum p + c)
    m_l = ln(E_l / N_l) - ln(E / N) - ln((e_l / p_l) / (sum e / sum p))

where in the last two lines p and e are bent to the depth that the shower has (`profile`), and nu_l = (N_l + u) exp(GAUGE xi), u
uniform in [0, 1): counts are dequantised, and a draw below 1 is an empty layer. Totals are redundant with the layers; so that
no density collapses onto the surface where they agree, all counts and all energies of a shower share a blur of `GAUGE`, which
decoding divides out, as it bends the drawn profile to the drawn depth.
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
NOISE_OF_SHOWER = 2


@dataclass(frozen=True, kw_only=True)
class Shares:
    """What a shower's totals make one expect of its layers.

    Args:
        count: expected points, (B, L).
        mean_mev: expected energy of a point, (B, L).
        steepness: how far the expected profile had to be bent, (B,); a shower beyond `profile.STEEPEST` is not physical.
    """

    count: Tensor
    mean_mev: Tensor
    steepness: Tensor

    @staticmethod
    def of(told: Told, n_total: Tensor, e_total: Tensor, depths: Tensor) -> Shares:
        """From totals (B,) of points and of energy [MeV], and the depths D (B, 2) of `profile`."""
        factors, steepness = bent(told.phi, told.energy_mev, depths)
        points, energy = told.points * factors, told.energy_mev * factors
        total_points, total_energy = points.sum(1, keepdim=True), energy.sum(1, keepdim=True)
        count = n_total[:, None] * points / total_points
        ratio = (energy / points.clamp_min(1e-12)) / (total_energy / total_points)
        mean = torch.where(told.valid, ratio, torch.ones(())) * (e_total / n_total)[:, None]
        return Shares(count=count, mean_mev=mean, steepness=steepness)


def encode_totals(told: Told, n_total: Tensor, e_total: Tensor) -> Tensor:
    """T and M of showers with these totals (B,): (B, 2)."""
    points, energy = told.points.sum(1), told.energy_mev.sum(1)
    return torch.stack([(e_total / energy).log(), (e_total / n_total * points / energy).log()], dim=1)


def decode_totals(told: Told, totals: Tensor) -> tuple[Tensor, Tensor]:
    """Points and energy [MeV] of T and M (B, 2): (B,), (B,)."""
    points, energy = told.points.sum(1), told.energy_mev.sum(1)
    e_total = totals[:, 0].exp() * energy
    return e_total * (-totals[:, 1]).exp() * points / energy, e_total


def encode_layers(shares: Shares, n: Tensor, e: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """nu, a and m of layers with n points and e MeV, each (B, L).

    Args:
        shares: of the showers' own totals.
        n: points of the layers, (B, L).
        e: their energies [MeV], (B, L).
        noise: standard normal numbers (B, L + 2): dequantisation, and the blurs of counts and of energies.
    """
    u = torch.special.ndtr(noise[:, :-NOISE_OF_SHOWER])
    nu = (n + u) * (GAUGE * noise[:, -2, None]).exp()
    a = (nu + OFFSET).log() - (shares.count + OFFSET).log()
    m = (e / n.clamp_min(1)).clamp_min(1e-9).log() - shares.mean_mev.log() + GAUGE * noise[:, -1, None]
    return nu, a, torch.where(n > 0, m, torch.zeros(()))


def decode_layers(told: Told, nu: Tensor, e: Tensor, n_total: Tensor, e_total: Tensor, depths: Tensor) -> tuple[Tensor, Tensor]:
    """Whole numbers of points and energies of the layers, (B, L) each, that add up to the totals (B,) and have the depth.

    Args:
        told: of the showers.
        nu: blurred counts, (B, L).
        e: energies up to a common factor, (B, L).
        n_total: points of the shower, (B,).
        e_total: its energy [MeV], (B,).
        depths: D of `profile`, (B, 2).
    """
    nu, e = (torch.where(told.valid, t, torch.zeros(())) for t in (nu, e))
    # The sum of N + u is the total and half a point a layer.
    wanted = n_total + told.valid.sum(1) / 2
    _, share = _whole(nu, e, wanted)
    factors, _ = bent(told.phi, share, depths)
    n, share = _whole(nu * factors, e * factors, wanted)
    return n, share * (e_total / share.sum(1).clamp_min(1e-12))[:, None]


def _whole(nu: Tensor, e: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
    """Whole counts, and energies in proportion."""
    n = (nu * (wanted / nu.sum(1).clamp_min(1e-6))[:, None]).floor()
    # Scaling must not wake a layer that was drawn empty, and so without an energy.
    n = torch.where(e > 0, n, torch.zeros(()))
    return n, torch.where(n > 0, e * n / nu.clamp_min(1e-6), torch.zeros(()))


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

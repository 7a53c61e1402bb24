"""The `anycalo` family as two halves of tensor arithmetic, for one detector.

The walk through the layers, which generation does in compiled loops, is written out layer by layer: a graph of a detector
with L layers holds L steps. Everything that was trained is called as it is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn

from anycalo.geometry import Detector
from anycalo.geometry.descriptors import sensor_mip_mev
from anycalo.models.anycalo import AnyCalo
from anycalo.models.anycalo_data import TYPICAL_LOG_WIDTH, joining_distance, joining_radius_mm
from anycalo.models.clusters import OF_POINT, probability
from anycalo.models.drawn import draw_places
from anycalo.models.layer_tokens import GAUGE, OFFSET, SHARE_OFFSET, Shares, decode_layers, decode_totals
from anycalo.models.point_features import settle
from anycalo.models.point_flow import BOUND, inverse
from anycalo.models.profile import STEEPEST
from anycalo.models.recurrent import NOISE, RecurrentLayers, _of_count, of_few, of_walk
from anycalo.models.surroundings import OF_ENERGY
from anycalo.models.totals import DEPTHS, Totals
from anycalo.models.totals import NOISE as OF_TOTALS
from anycalo.models.universal import Geometry, Told


class AnyCaloLayers(nn.Module):
    """The first half; see `halves.Halves.layers`. Extras are the totals, and the turn of x that `turn_of` gives.

    Args:
        model: of the family.
        detector: whose layers are walked through.
    """

    def __init__(self, model: AnyCalo, detector: Detector) -> None:
        super().__init__()
        self.model, self.geometry = model, Geometry([detector])
        self.n_layers = detector.n_layers
        self.normals = OF_TOTALS + of_walk(detector.n_layers)

    def forward(
        self, normal: Tensor, energy_mev: Tensor, direction: Tensor, charge: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """See above."""
        m = self.model
        turn = turn_of(m.totals, normal[:, OF_TOTALS - 1])
        told = told_of(m, self.geometry, energy_mev, turned(direction, turn), charge)
        drawn = draw_totals(m.totals, told, normal[:, :OF_TOTALS])
        n_total, e_total = decode_totals(told, drawn)
        good = torch.isfinite(drawn).all(1) & (e_total < 10 * energy_mev) & (n_total >= 0.5) & (n_total < 1e7)
        n_total, e_total = torch.where(good, n_total, 1.0), torch.where(good, e_total, 1.0)
        depths = drawn[:, DEPTHS]
        shares = Shares.of(told, n_total, e_total, depths)
        counts, raw = walk(m.layers, told, m.totals.scaled(drawn), shares, e_total, normal[:, OF_TOTALS:])
        n, calibrated = decode_layers(told, counts, raw, n_total, e_total, depths)
        e = calibrated / told.calibration
        good = good & (shares.steepness <= STEEPEST) & (n.sum(1) >= 1) & torch.isfinite(e).all(1) & (e.sum(1) < energy_mev)
        return n, e, torch.cat([drawn, turn[:, None]], dim=1), good


class AnyCaloPoints(nn.Module):
    """The second half; see `halves.Halves.points`.

    Every point has room for two ends, one after the other; weaker ones that are not there are padding.

    Args:
        model: of the family.
        detector: in which the points lie.
    """

    mip_mev: Tensor
    z_mm: Tensor

    def __init__(self, model: AnyCalo, detector: Detector) -> None:
        super().__init__()
        self.model, self.geometry = model, Geometry([detector])
        self.n_layers, self.scale_mm = detector.n_layers, model.coordinates.scale_mm(detector)
        self.joining_mm = joining_radius_mm(model.config, detector)
        self.apart = joining_distance(self.joining_mm, self.scale_mm)
        self.register_buffer("mip_mev", torch.from_numpy(sensor_mip_mev(detector)).float())
        self.register_buffer("z_mm", torch.from_numpy(detector.layer_z_mm.copy()).float())

    def forward(
        self,
        normal: Tensor,
        row: Tensor,
        n: Tensor,
        e: Tensor,
        extras: Tensor,
        energy_mev: Tensor,
        direction: Tensor,
        charge: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """See above."""
        m, layers = self.model, self.n_layers
        extras, turn = extras[:, :-1], extras[:, -1]
        direction = turned(direction, turn)
        told = told_of(m, self.geometry, energy_mev, direction, charge)
        padding = row == n.shape[0] * layers
        shower = torch.where(padding, n.shape[0] - 1, torch.div(row, layers, rounding_mode="floor"))
        layer = torch.where(padding, 0, row - shower * layers)
        context = m.layer_context(told, extras, n, e * told.calibration, self.mip_mev[None] / direction[:, 2:])
        flat = context.reshape(-1, context.shape[-1])
        flat = torch.cat([flat, flat[-1:]])
        counts = torch.cat([n.flatten(), n.new_zeros(1)]).long()
        widen, own = extras[:, 4].exp(), normal[:, : OF_POINT + OF_ENERGY]
        radius, energy_knots, xy, score = draw_places(m, flat, counts, layers, row, shower, widen, self.apart, own)
        score = m.balance(m.balance.of_layer(flat)[row], radius, score)
        seen_energy = inverse(energy_knots, m.points.config.bins, BOUND, score)
        visible = torch.cat([e.flatten(), e.new_zeros(1)])
        mip = torch.cat([(self.mip_mev[None] / direction[:, 2:]).flatten(), visible.new_ones(1)])
        energy = settle(m.energy_shape.inverse(seen_energy[:, None])[:, 0].clamp(-20, 20).exp(), row, visible / mip) * mip[row]
        moments = torch.cat([extras[:, 2:4], extras[:, 4:5] + TYPICAL_LOG_WIDTH], dim=1)
        xy = m.lateral.impose(xy, moments, energy, shower)
        slope = (direction[:, :2] / direction[:, 2:])[shower]
        from_axis = m.coordinates.stretch(xy * self.scale_mm, slope)
        outwards = torch.atan2(from_axis[:, 1], from_axis[:, 0])
        coefficients = m.tracks.head(m.tracks.trunk(flat))[row]
        share, way = m.tracks.draw(coefficients, radius, seen_energy, outwards, slope, normal[:, OF_POINT + OF_ENERGY :])
        xy, way, share = from_axis + slope * self.z_mm[layer][:, None], way * self.joining_mm, share[:, None]
        ends = torch.stack([xy - share * way, xy + (1 - share) * way], dim=1).reshape(-1, 2)
        energy = (energy[:, None] * torch.cat([1 - share, share], dim=1)).reshape(-1)
        row = torch.stack([row, torch.where(share[:, 0] > 0, row, n.shape[0] * layers)], dim=1).reshape(-1)
        turn = turn[shower][:, None].expand(-1, 2).reshape(-1)
        return row, ends[:, 0] * turn, ends[:, 1], energy


def told_of(model: AnyCalo, geometry: Geometry, energy_mev: Tensor, direction: Tensor, charge: Tensor) -> Told:
    """What a model is told of particles in the one detector of a geometry."""
    log_energy = energy_mev.double().log().float()[:, None]
    particle = torch.cat([log_energy, direction, charge[:, None]], dim=1)
    return model.coordinates.told(geometry, torch.zeros_like(charge, dtype=torch.long), particle)


def turn_of(totals: Totals, normal: Tensor) -> Tensor:
    """Whether x is turned around, -1 or 1, by what the choice of a member left of a standard normal number, (B,)."""
    level = probability(normal) * len(totals.members)
    return torch.where(level - level.long().clamp_max(len(totals.members) - 1) < 0.5, -1.0, 1.0)


def turned(direction: Tensor, turn: Tensor) -> Tensor:
    """Directions (B, 3) with x turned around where `turn` (B,) is -1."""
    return torch.cat([direction[:, :1] * turn[:, None], direction[:, 1:]], dim=1)


def draw_totals(totals: Totals, told: Told, normal: Tensor) -> Tensor:
    """Totals (B, D), with every member evaluated for every shower: which one draws is then chosen without a question."""
    drawn = [m.mixture.sample(m(told), normal[:, :-1]) for m in totals.members]  # type: ignore[operator, union-attr]
    each = torch.stack(drawn, dim=1)
    member = (probability(normal[:, -1]) * len(drawn)).long().clamp_max(len(drawn) - 1)
    chosen = each.gather(1, member[:, None, None].expand(-1, 1, each.shape[-1]))[:, 0]
    return chosen * totals.std + totals.mean


def walk(
    layers: RecurrentLayers, told: Told, totals: Tensor, shares: Shares, e_total: Tensor, normal: Tensor
) -> tuple[Tensor, Tensor]:
    """Points and energies layer by layer, as `layer_kernels.walk`, in operations that a graph can hold."""
    embedding = layers._embedding(told, totals, shares)
    memory = layers.memory
    weights = [cast(Tensor, getattr(memory, name)) for name in ("weight_ih_l0", "bias_ih_l0", "weight_hh_l0", "bias_hh_l0")]
    expected, energy_expected = shares.count, shares.count * shares.mean_mev
    total, blur, crossing = expected.sum(1), (GAUGE * normal[:, 0]).exp(), shares.crossing.log()
    share_expected = energy_expected / energy_expected.sum(1, keepdim=True)

    def step(carry: tuple[Tensor, ...], of_layer: tuple[Tensor, ...]) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        h, past, points, share = carry
        known, count_expected, log_mean, points_before, share_before, *z = of_layer
        left, left_expected = (total - points).clamp_min(0), (total - points_before).clamp_min(0)
        rest, rest_expected = (1 - share).clamp_min(0), (1 - share_before).clamp_min(0)
        stands = torch.stack([points + OFFSET, left + OFFSET, share + SHARE_OFFSET, rest + SHARE_OFFSET], dim=1)
        expects = [points_before + OFFSET, left_expected + OFFSET, share_before + SHARE_OFFSET, rest_expected + SHARE_OFFSET]
        progress = stands.log() - torch.stack(expects, dim=1).log()
        given = nn.functional.linear(torch.cat([known, past, progress], dim=1), weights[0], weights[1])
        remembered = nn.functional.linear(h, weights[2], weights[3])
        size = memory.hidden_size
        both = torch.sigmoid(given[:, : 2 * size] + remembered[:, : 2 * size])
        new = torch.tanh(given[:, 2 * size :] + both[:, :size] * remembered[:, 2 * size :])
        h = new + both[:, size:] * (h - new)
        known = torch.cat([h, known], dim=1)
        a = layers.count_mixture.sample(layers.count(known), torch.stack(z[:2], dim=1))[:, 0]
        log_expected = (count_expected + OFFSET).log()
        count = ((a + log_expected).clamp_max(20).exp() - OFFSET).clamp_min(0).floor()
        of_count = _of_count((count + 0.5 + OFFSET).log() - log_expected, count, crossing)
        m = layers.energy_mixture.sample(layers.energy(torch.cat([known, of_count], dim=1)), torch.stack(z[2:], dim=1))[:, 0]
        m = m - of_few(count) * crossing
        hit = count > 0
        m = torch.where(hit, m, torch.zeros_like(m))
        energy = torch.where(hit, count * (m.clamp(-12, 12) + log_mean).exp(), torch.zeros_like(m))
        nu = (count + 0.5) * blur
        log_seen = (nu + OFFSET).log()
        carry = (h, torch.stack([log_seen - log_expected, m, log_seen / 3], dim=1), points + nu, share + energy / e_total)
        return carry, (count, energy)

    def before(x: Tensor) -> Tensor:
        return x.cumsum(1) - x

    of_each = normal[:, 1:].reshape(-1, expected.shape[1], NOISE)
    of_layers = (embedding, expected, shares.mean_mev.log(), before(expected), before(share_expected), *of_each.unbind(-1))
    nothing = torch.zeros_like(embedding[:, 0, :1])
    carry = (
        nothing.repeat(1, memory.hidden_size),
        nothing.repeat(1, 3),
        torch.zeros_like(e_total),
        torch.zeros_like(e_total),
    )
    count, energy = scan(step, carry, tuple(t.transpose(0, 1) for t in of_layers))
    return count.transpose(0, 1), energy.transpose(0, 1)


def scan(
    step: Callable[[tuple[Tensor, ...], tuple[Tensor, ...]], tuple[tuple[Tensor, ...], tuple[Tensor, ...]]],
    carry: tuple[Tensor, ...],
    inputs: tuple[Tensor, ...],
) -> tuple[Tensor, ...]:
    """Take a step for each row of the inputs (L, ...), and stack what each returns beside what it carries on: (L, ...)."""
    found = []
    for of_step in zip(*inputs, strict=True):
        carry, out = step(carry, of_step)
        found.append(out)
    return tuple(torch.stack(column) for column in zip(*found, strict=True))

"""Showers of the `anycalo` family from the networks as they are trained, one plain operation after another.

This is what the engine must make.
Nothing here is fast. Layers are drawn by running the recurrent unit over all that has been drawn so far, once a layer.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from scipy import stats
from torch import Tensor

from anycalo.geometry import Detector
from anycalo.models import Noise
from anycalo.models.anycalo import AnyCalo
from anycalo.models.anycalo_data import TYPICAL_LOG_WIDTH, joining_radius_mm
from anycalo.models.clusters import CLOSEST, OF_POINT, Clusters
from anycalo.models.layer_tokens import OFFSET, Shares, blurred, decode_layers, decode_totals, encode_layers, progress_features
from anycalo.models.model import axis_slopes
from anycalo.models.point_features import settle
from anycalo.models.point_flow import BOUND, PointFlow, spline_of
from anycalo.models.profile import STEEPEST
from anycalo.models.recurrent import NOISE, RecurrentLayers, _of_count, of_few, of_walk
from anycalo.models.surroundings import OF_ENERGY
from anycalo.models.totals import DEPTHS, Totals
from anycalo.models.totals import NOISE as OF_TOTALS
from anycalo.models.tracks import OF_TRACK, Tracks
from anycalo.models.universal import Geometry, Told, layer_mip_mev, particle_table
from anycalo.showers import Incident, Showers


def draw_totals(totals: Totals, told: Told, normal: Tensor) -> Tensor:
    """(B, D) from standard normal numbers (B, D + 2)."""
    chosen = (torch.special.ndtr(normal[:, -1]) * len(totals.members)).long()
    each = torch.stack([m.mixture.sample(m(told), normal[:, :-1]) for m in totals.members])  # type: ignore[operator, union-attr]
    return each[chosen, torch.arange(len(normal))] * totals.std + totals.mean


def walk(
    net: RecurrentLayers, told: Told, totals: Tensor, shares: Shares, e_total: Tensor, normal: Tensor
) -> tuple[Tensor, Tensor]:
    """Points and energies [MeV] of the layers, (B, L) each, from standard normal numbers (B, 1 + 4 L)."""
    embedding = net._embedding(told, totals, shares)
    n, e = torch.zeros_like(shares.count), torch.zeros_like(shares.count)
    crossing = shares.crossing.log()
    of_layer = normal[:, 1:].reshape(*n.shape, NOISE)
    for k in range(n.shape[1]):
        a, m = encode_layers(shares, n, e)
        nu, seen = blurred(shares, n, normal[:, 0])
        past = torch.stack([seen, m, (nu + OFFSET).log() / 3], dim=-1)
        past = torch.cat([torch.zeros_like(past[:, :1]), past[:, :-1]], dim=1)
        progress = progress_features(shares, nu, e, e_total)
        memory, _ = net.memory(torch.cat([embedding, past, progress], dim=-1)[:, : k + 1])
        h = torch.cat([memory[:, k], embedding[:, k]], dim=-1)
        a_k = net.count_mixture.sample(net.count(h), of_layer[:, k, :2])[:, 0]
        n[:, k] = ((a_k + (shares.count[:, k] + OFFSET).log()).exp() - OFFSET).clamp_min(0).floor()
        a, _ = encode_layers(shares, n, e)
        h = torch.cat([h, _of_count(a[:, k], n[:, k], crossing)], dim=-1)
        drawn = net.energy_mixture.sample(net.energy(h), of_layer[:, k, 2:])[:, 0]
        e[:, k] = n[:, k] * (drawn - of_few(n[:, k]) * crossing).exp() * shares.mean_mev[:, k]
    return n, e


def draw_points(flow: PointFlow, told: Tensor, row: Tensor, score: Tensor) -> Tensor:
    """Points (P, 3) of the layers `row` (P,) of which `told` (R, C) is known, with these scores (P, 3)."""
    knots, part = flow.context(told)
    radius = spline_of(knots[row], flow.config.bins, BOUND).inv(score[:, 0])
    angle_knots, energy_knots = flow.given_radius(part[row], radius)
    angle = spline_of(angle_knots, flow.config.angle_bins, 1.0).inv(score[:, 1])
    return torch.stack([radius, angle, spline_of(energy_knots, flow.config.bins, BOUND).inv(score[:, 2])], dim=1)


def energy_scores(model: AnyCalo, told: Tensor, rows: Rows, x: Tensor, normal: Tensor) -> Tensor:
    """Of points (P, 3) at their places in layers of which `told` (R, C) is known, from numbers (P, OF_ENERGY): (P,)."""
    radius, angle = x[:, 0], torch.pi * x[:, 1]
    plain = torch.sinh(model.radius_shape.inverse(x[:, :1])[:, 0].clamp(0, 12)) * model.config.core_scale
    place = model.lateral.scale(torch.stack([plain * angle.cos(), plain * angle.sin()], dim=1), rows.widen, rows.shower)
    density = torch.from_numpy(counted((place / rows.joining).numpy(), rows.row.numpy(), rows.layers))
    net, point = model.surroundings, torch.arange(len(x))
    logit, mean, spread = net.mixture(net.of_layer(told)[rows.row], radius, density)
    which = (torch.special.ndtr(normal[:, :1]) > logit.softmax(1).cumsum(1)[:, :-1]).sum(1)
    score = mean[point, which] + spread[point, which].exp() * normal[:, 1]
    return model.balance(model.balance.of_layer(told)[rows.row], radius, score)


class Rows(NamedTuple):
    """Of points: row and shower (P,); of showers: width (B,); the number of layers; the distance of joining."""

    row: Tensor
    shower: Tensor
    widen: Tensor
    layers: int
    joining: float


def counted(place: np.ndarray, row: np.ndarray, layers: int) -> np.ndarray:
    """Densities (P, 9) about points at `place` (P, 2) in rows (P,), from all pairs of points."""
    out = np.zeros((len(place), 9), np.float32)
    for s, scale in enumerate((1.75, 3.5, 7.0)):
        at = place.astype(np.float64) / scale
        # The share of a point at a node falls linearly with the distance from it, in x and in y.
        node = np.floor(at)[:, None] + np.array([(0, 0), (0, 1), (1, 0), (1, 1)])
        share = np.prod(1 - np.abs(at[:, None] - node), axis=2)
        share[((node < -32) | (node > 31)).any(axis=(1, 2))] = 0
        for p in range(len(place)):
            for d, step in enumerate((0, -1, 1)):
                near = np.flatnonzero(row == row[p] + step)
                if not 0 <= row[p] % layers + step < layers:
                    continue
                for q in near[near != p]:
                    same = (node[p][:, None] == node[q][None]).all(axis=2)
                    out[p, 3 * s + d] += (share[p][:, None] * share[q][None] * same).sum()
    return out


@torch.no_grad()
def one_by_one(clusters: Clusters, told: Tensor, counts: Tensor, layers: int, normal: Tensor) -> Tensor:
    """Scores (P, 3) of points, `counts` (R,) of them in rows of which `told` (R, C) is known; `layers` rows are a shower."""
    uniform = torch.special.ndtr(normal)
    scores, start = torch.empty(len(normal), 3), 0
    for row, count in enumerate(counts.tolist()):
        kinds = clusters.kinds(told[row])
        before = int(counts[row - 1]) if row % layers else 0
        for p in range(start, start + count):
            energy = normal[p, 2]
            weights = torch.cat([torch.zeros(1), kinds.log_weights(energy)]).softmax(0)
            kind = int((uniform[p, 3] > weights[:-1].cumsum(0)).sum())
            first, possible = (start, p - start) if kind <= clusters.config.same else (start - before, before)
            scores[p] = torch.stack([normal[p, 0], 2 * uniform[p, 1] - 1, energy])
            if kind > 0 and possible > 0:
                z = normal[first : first + possible, 2]
                odds = (kinds.odds_by_energy[kind - 1] * z + kinds.odds_by_square[kind - 1] * (z**2 - 1) / 2).exp().cumsum(0)
                parent = scores[first + min(int((odds <= uniform[p, 4] * odds[-1]).sum()), possible - 1)]
                rho = CLOSEST * torch.sigmoid(kinds.radius[kind - 1])
                kappa = CLOSEST * torch.sigmoid(kinds.angle[kind - 1] + kinds.angle_by_radius[kind - 1] * parent[0])
                turn = torch.atan((1 - kappa) / (1 + kappa) * torch.tan(math.pi * (uniform[p, 1] - 0.5))) * 2 / math.pi
                scores[p, 0] = rho * parent[0] + (1 - rho**2).sqrt() * normal[p, 0]
                scores[p, 1] = torch.remainder(parent[1] + turn + 1, 2) - 1
        start += count
    return scores


def turn_of(model: AnyCalo, normal: Tensor) -> Tensor:
    """Whether x is turned around, -1 or 1, of showers with these numbers, (B,)."""
    level = torch.special.ndtr(normal[:, OF_TOTALS - 1].double()) * len(model.totals.members)
    return torch.where(level % 1 < 0.5, -1.0, 1.0)


@torch.no_grad()
def reference_showers(model: AnyCalo, detector: Detector, incident: Incident, noise: Noise) -> Showers:
    """What `model.sample` makes of the same noise, where no draw is unphysical."""
    which = torch.zeros(len(incident), dtype=torch.long)
    layers = detector.n_layers
    normal = noise.normal(OF_TOTALS + of_walk(layers))
    turn = turn_of(model, normal)
    particle = particle_table(incident)
    particle[:, 1] *= turn
    told = model.coordinates.told(Geometry([detector]), which, particle)
    totals = draw_totals(model.totals, told, normal[:, :OF_TOTALS])
    n_total, e_total = decode_totals(told, totals)
    depths = totals[:, DEPTHS]
    shares = Shares.of(told, n_total, e_total, depths)
    assert (shares.steepness <= STEEPEST).all(), "an unphysical draw"
    drawn, raw = walk(model.layers, told, model.totals.scaled(totals), shares, e_total, normal[:, OF_TOTALS:])
    n, e = decode_layers(told, drawn, raw, n_total, e_total, depths)
    visible = e / told.calibration
    assert (visible.sum(1) < torch.from_numpy(incident.energy_mev)).all(), "an unphysical draw"
    counts = n.sum(1).long().numpy()
    row = torch.repeat_interleave(torch.arange(n.numel()), n.flatten().long())
    shower, layer = row // layers, row % layers
    context = model.layer_context(told, totals, n, e, layer_mip_mev(detector, incident))
    normal, flat = noise.normal_points(counts, OF_POINT + OF_ENERGY + OF_TRACK), context.flatten(0, 1)
    joining = joining_radius_mm(model.config, detector)
    rows = Rows(row, shower, totals[:, 4].exp(), layers, joining / model.coordinates.scale_mm(detector))
    scores = one_by_one(model.clusters, flat, n.flatten().long(), layers, normal)
    # Places first, with any energies; then energies, given the places.
    x = draw_points(model.points, flat, row, scores)
    scores[:, 2] = energy_scores(model, flat, rows, x, normal[:, OF_POINT : OF_POINT + OF_ENERGY])
    x = draw_points(model.points, flat, row, scores)
    radius = torch.sinh(model.radius_shape.inverse(x[:, :1])[:, 0].clamp(0, 12)) * model.config.core_scale
    angle = torch.pi * x[:, 1]
    mip = layer_mip_mev(detector, incident).flatten()
    energy = settle(model.energy_shape.inverse(x[:, 2:])[:, 0].clamp(-20, 20).exp(), row, visible.flatten() / mip) * mip[row]
    xy = torch.stack([radius * angle.cos(), radius * angle.sin()], dim=1)
    xy = model.lateral.scale(xy, totals[:, 4].exp(), shower)
    xy = model.lateral.impose(xy, totals[:, 2:5] + torch.tensor([0.0, 0.0, TYPICAL_LOG_WIDTH]), energy, shower)
    turned = torch.stack([turn, torch.ones_like(turn)], dim=1)[shower]
    slope = torch.from_numpy(axis_slopes(incident)).float()[shower] * turned
    z = torch.from_numpy(detector.layer_z_mm.copy()).float()[layer]
    xy = model.coordinates.stretch(xy * model.coordinates.scale_mm(detector), slope)
    coefficients = model.tracks.head(model.tracks.trunk(flat))[row]
    ends, owner = [], []
    for p in range(len(row)):
        own = normal[p, OF_POINT + OF_ENERGY :]
        point = one_track(model.tracks, coefficients[p], float(x[p, 0]), float(x[p, 2]), xy[p], slope[p], own)
        share, way = point[0], joining * np.array(point[1:])
        centre = (xy[p] + slope[p] * z[p]).double().numpy()
        for part, place in ((1 - share, centre - share * way), (share, centre + (1 - share) * way)):
            if part > 0:
                ends.append([*place * turned[p].numpy(), part * float(energy[p])])
                owner.append(p)
    table, of = np.array(ends), np.array(owner)
    return Showers(
        detector=detector,
        incident=incident,
        offsets=np.concatenate([[0], np.cumsum(np.bincount(shower.numpy()[of], minlength=len(incident)))]),
        x_mm=table[:, 0],
        y_mm=table[:, 1],
        layer=layer.numpy()[of],
        energy_mev=table[:, 2],
    )


def one_track(
    tracks: Tracks, own: Tensor, radius: float, energy: float, from_axis: Tensor, slope: Tensor, normal: Tensor
) -> tuple[float, float, float]:
    """Share of the weaker end of one point, and the way to it over the distance of joining."""
    basis = np.array([1, energy, (energy**2 - 1) / 2, radius, (radius**2 - 1) / 2])
    table = own[:35].double().numpy().reshape(7, 5) @ basis
    by_share, by_inclination = own[35:].tolist()
    chance, level = 1 / (1 + math.exp(-table[0])), stats.norm.cdf(float(normal[0]))
    if level >= chance:
        return 0.0, 0.0, 0.0
    z = table[1] + math.exp(np.clip(table[2], -1.5, 1.5)) * float(normal[1])
    v = slope.double().numpy() + math.exp(np.clip(table[5], -3, 1.5)) * from_axis.numpy() / np.linalg.norm(from_axis)
    y = table[3] + by_share * z + by_inclination * math.log(np.linalg.norm(v) + 0.3)
    y += math.exp(np.clip(table[4], -1.5, 1.5)) * float(normal[2])
    levels = np.linspace(-3, 3, tracks.share_shape.knots.shape[1])
    share = float(np.clip(np.interp(z, levels, tracks.share_shape.knots[0]), 1e-4, 0.5))
    length = math.exp(np.interp(y, levels, tracks.length_shape.knots[0]))
    kappa = CLOSEST / (1 + math.exp(-table[6]))
    step = math.tan(math.pi * (stats.norm.cdf(float(normal[3])) - 0.5))
    angle = math.atan2(v[1], v[0]) + math.atan((1 - kappa) / (1 + kappa) * step)
    length *= -1 if level < chance / 2 else 1
    return share, length * math.cos(angle), length * math.sin(angle)

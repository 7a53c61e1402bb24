"""A model of one geometry moved to another, of any number of layers, by physical depth.

The fixed-geometry family `caloclouds` draws layers 0 to L - 1; another detector has other layers. Its showers are moved in
universal coordinates: a layer of the new detector takes its points from the two layers of the old one between which it lies in
radiation lengths from the expected shower maximum, along the axis. How many points each gives, and how much energy they carry,
follows from the expected flux of shower particles and the loss of a minimum ionising particle (`universal`); positions
scale with the Moliere radius. Energy, particle and angle are the nearest that the old model knows.

`transplant` then builds the model of the new detector: scales from moved showers, positions compressed beyond a radius in
proportion to the Moliere radius, deposits joined over a distance in proportion to the cells, the point networks of the old
model, and a flow over the new layers, which starts as the identity on features that already carry means, spreads and
correlations.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import torch
from torch import Tensor

from anycalo.errors import ModelError
from anycalo.geometry import Detector
from anycalo.geometry.derived import critical_energy_mev
from anycalo.geometry.descriptors import cell_mm, sensor_mip_mev
from anycalo.models.caloclouds import CaloClouds
from anycalo.models.caloclouds_config import CaloCloudsConfig
from anycalo.models.model import Domain, Model, axis_slopes
from anycalo.models.noise import Noise
from anycalo.models.samplers import SAMPLERS
from anycalo.models.universal import Geometry, Told, UniversalCoordinates, particle_table
from anycalo.showers import Beam, Incident, Showers

_LARGEST_RATIO = 20.0
_AT_ONCE = 50
_PLENTY = 5
_FARTHEST = 4.0
_FEWEST = 10
_POWERS, _FOR_A_POWER = 3, 40
POINT_NETWORKS = ("denoiser", "consistency", "mean_flow")


def nearest_incident(model: Model, incident: Incident, ratio: float = 1.0) -> Incident:
    """The particles nearest to these that a model was trained on.

    Args:
        model: with its domain.
        incident: B particles.
        ratio: critical energy of the model's detector over that of the particles': showers of equal E / E_c are alike.
    """
    known = {name: code for name, code in zip(("gamma", "electron", "positron"), (22, 11, -11), strict=True)}
    codes = np.array([known[name] for name in model.domain.particles if name in known])
    if not len(codes):
        raise ModelError(f"the model was trained on {', '.join(model.domain.particles)}; expected photons or electrons")
    pdg = np.where(np.isin(incident.pdg, codes), incident.pdg, codes[0])
    low, high = model.domain.energy_mev
    slanted = incident.theta_rad > model.domain.max_angle_rad + 1e-3
    direction = np.where(slanted[:, None], np.array([0.0, 0.0, 1.0]), incident.direction)
    return Incident(pdg, energy_mev=np.clip(incident.energy_mev * ratio, low, high), direction=direction)


def moved(showers: Showers, detector: Detector, incident: Incident, *, seed: int) -> Showers:
    """Showers of one detector as showers of other particles in another; see the module's text.

    Args:
        showers: B of them.
        detector: the new one.
        incident: the new particles, (B,).
        seed: of which points are taken.
    """
    rng = np.random.default_rng([seed, 0x30FED])
    old, old_depth = _expected(showers.detector, showers.incident)
    new, new_depth = _expected(detector, incident)
    coordinates = UniversalCoordinates()
    old_slope, new_slope = axis_slopes(showers.incident), axis_slopes(incident)
    xy = np.stack([showers.x_mm, showers.y_mm], axis=1)
    xy = xy - old_slope[showers.shower] * showers.detector.layer_z_mm[showers.layer][:, None]
    slope = torch.from_numpy(old_slope[showers.shower]).float()
    scale = coordinates.scale_mm(detector) / coordinates.scale_mm(showers.detector)
    seen = (coordinates.squeeze(torch.from_numpy(xy).float(), slope) * scale).numpy()
    pieces: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    layers, source_layers = detector.n_layers, showers.detector.n_layers
    for b in range(len(showers)):
        points = np.arange(showers.offsets[b], showers.offsets[b + 1])
        weight = _between(old_depth[b], new_depth[b])  # (layers, source_layers)
        ratio = np.clip(new.points[b].numpy()[:layers, None] / old.points[b].numpy()[None, :source_layers], 0, _LARGEST_RATIO)
        wanted = (weight * ratio)[:, showers.layer[points]]
        copies = np.floor(wanted + rng.random(wanted.shape)).astype(np.int64)
        layer, which = np.nonzero(copies)
        times = copies[layer, which]
        pieces.append((np.full(int(times.sum()), b), np.repeat(layer, times), np.repeat(points[which], times)))
    shower, layer, point = (np.concatenate(column) for column in zip(*pieces, strict=True))
    per_point = [(told.visible_mev / told.points.clamp_min(1e-12)).numpy() for told in (old, new)]
    energy = showers.energy_mev[point] * per_point[1][shower, layer] / per_point[0][shower, showers.layer[point]]
    back = coordinates.stretch(torch.from_numpy(seen[point]).float(), torch.from_numpy(new_slope[shower]).float()).numpy()
    placed = back + new_slope[shower] * detector.layer_z_mm[layer][:, None]
    # Never more visible than incident energy.
    visible = np.bincount(shower, weights=energy, minlength=len(showers))
    energy = energy * np.minimum(1.0, 0.99 * incident.energy_mev / np.maximum(visible, 1e-9))[shower]
    counts = np.bincount(shower, minlength=len(showers))
    return Showers(
        detector=detector,
        incident=incident,
        offsets=np.concatenate([[0], np.cumsum(counts)]),
        x_mm=placed[:, 0],
        y_mm=placed[:, 1],
        layer=layer,
        energy_mev=energy,
        provenance={**showers.provenance, "moved_from": showers.detector.name},
    )


def _expected(detector: Detector, incident: Incident) -> tuple[Told, np.ndarray]:
    """What simple physics expects, and depth of the layers from the shower maximum [X0], (B, L)."""
    geometry = Geometry([detector])
    told = UniversalCoordinates().told(geometry, torch.zeros(len(incident), dtype=torch.long), particle_table(incident))
    return told, 5 * told.layer[:, :, 0].numpy()


def _between(old: np.ndarray, new: np.ndarray) -> np.ndarray:
    """Weights of linear interpolation between ascending depths (S,) at depths (T,): (T, S); beyond the ends that of the end."""
    if len(old) == 1:
        return np.ones((len(new), 1))
    right = np.clip(np.searchsorted(old, new), 1, len(old) - 1)
    share = np.clip((new - old[right - 1]) / (old[right] - old[right - 1]), 0, 1)
    weights = np.zeros((len(new), len(old)))
    rows = np.arange(len(new))
    weights[rows, right - 1] = 1 - share
    weights[rows, right] += share
    return weights


def moved_showers(base: Model, detector: Detector, incident: Incident, *, seed: int) -> Showers:
    """Showers of these particles in a detector that the base was not made for: drawn in its own and moved."""
    own = base.domain.detector
    ratio = critical_energy_mev(own) / critical_energy_mev(detector)
    asked = nearest_incident(base, incident, ratio)
    parts = []
    for first in range(0, len(asked), _AT_ONCE):
        stop = min(first + _AT_ONCE, len(asked))
        drawn = base.sample(own, asked[first:stop], Noise(seed, range(first, stop)))
        parts.append(moved(drawn, detector, incident[first:stop], seed=seed + first))
    return Showers.concatenate(parts)


def transplant(base: CaloClouds, showers: Showers, *, seed: int) -> CaloClouds:
    """A model of another detector, with the point networks of the base and scales from showers that were moved there.

    Args:
        base: of its own detector.
        showers: of `moved_showers`: the more, the better the scales; at least 100.
        seed: of what is random in the flow and in the scales.

    Raises:
        ModelError: if there are too few showers.
    """
    visible = showers.visible_mev() > 0
    if np.count_nonzero(visible) < 100:
        raise ModelError(f"{np.count_nonzero(visible)} moved showers with visible energy; expected at least 100")
    used = showers[visible]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = CaloClouds(scaled_for(base, used.detector), Domain.of([used]))
    model.stages([used], [used[:1]], seed=seed)
    for name in POINT_NETWORKS:
        part = getattr(base, name)
        if part is not None:
            getattr(model, name).load_state_dict(part.state_dict())
    return model.eval()


def scaled_for(base: CaloClouds, detector: Detector) -> CaloCloudsConfig:
    """The configuration of a base with its distances and energies as suits another detector.

    Positions are compressed beyond a radius in proportion to the Moliere radius, as they scale: then their distribution has
    the shape that the point networks know. The largest distance over which deposits are joined scales with the size of the
    cells, for joined over more than a cell they would hit too few, and the largest energy with the MIP of a sensor.
    """
    own, config, scale_mm = base.domain.detector, base.config, UniversalCoordinates().scale_mm
    cells, mips = cell_mm(detector) / cell_mm(own), np.median(sensor_mip_mev(detector)) / np.median(sensor_mip_mev(own))
    width = scale_mm(detector) / scale_mm(own)
    return dataclasses.replace(
        config,
        radial_scale_mm=float(config.radial_scale_mm * width),
        centre_scale_mm=float(config.centre_scale_mm * width),
        width_scale_mm=float(config.width_scale_mm * width),
        merge_radius_mm=float(config.merge_radius_mm * cells),
        merge_energy_mev=float(config.merge_energy_mev * mips),
    )


@torch.no_grad()
def calibrate(model: CaloClouds, showers: Showers, *, seed: int) -> CaloClouds:
    """The model with what a few showers of its detector say of its scales.

    Quantities of a layer (counts, energies, lateral moments) are moved by a parabola in ln E and stretched by the spread of
    their residuals, each coefficient as far as it stands out of its own statistical error (positive-part shrinkage, James
    and Stein 1961): with few showers little is moved. Where a layer is seldom hit, the spread that the scales expect can be
    far too small for one energy among them: residuals farther than `_FARTHEST` spreads from their median count as so far.
    Quantities of points, of which a few showers hold thousands, are set anew; all are, with `_PLENTY` showers for every
    number that the flow draws.
    """
    other = CaloClouds(model.config, model.domain)
    other.stages([showers], [showers[:1]], seed=seed)
    new = CaloClouds(model.config, model.domain)
    new.load_state_dict(model.state_dict())
    for name in ("energy_shape", "point_scale", "condition_scale"):
        getattr(new, name).load_state_dict(getattr(other, name).state_dict())
    new.largest_radius_mm.copy_(torch.maximum(model.largest_radius_mm, other.largest_radius_mm))
    if len(showers) >= _PLENTY * model.features.dimension:
        new.features.load_state_dict(other.features.state_dict())
        new.typical_log_width.copy_(other.typical_log_width)
        return new.eval()
    plain, m, seen, basis, mean_basis = _features(new, showers, seed)
    for scale, values, used, b in (
        (new.features.plain, plain, torch.ones_like(plain, dtype=torch.bool), basis[:, None].expand(-1, plain.shape[1], -1)),
        (new.features.means, m, seen, mean_basis),
    ):
        mean, spread = (b * scale.mean).sum(-1), (b * scale.log_spread).sum(-1).exp()
        for column in range(values.shape[1]):
            rows = used[:, column]
            if rows.sum() < _FEWEST:
                continue
            # A layer that few showers hit is hit at high energies alone, where a parabola does not end.
            powers = _POWERS if rows.all() else min(_POWERS, 1 + int(rows.sum()) // _FOR_A_POWER)
            inside = basis[rows, :powers].double(), (values - mean)[rows, column].double(), spread[rows, column].double()
            change, stretch = _corrections(*inside)
            scale.mean[column, :powers] += change.float()
            scale.log_spread[column, 0] += stretch
    counts = torch.from_numpy(showers.layer_counts()).float().max(0).values
    new.features.largest.copy_(torch.maximum(new.features.largest, counts))
    return new.eval()


def _corrections(powers: Tensor, residual: Tensor, spread: Tensor) -> tuple[Tensor, float]:
    """What showers say of a quantity: changes of its mean, as coefficients (K,) of powers (B, K), and of ln of its spread.

    Args:
        powers: of the scaled logarithm of the energy, (B, K).
        residual: from the mean, (B,).
        spread: expected of them, (B,).
    """
    scaled = residual / spread
    middle = scaled.median()
    farthest = _FARTHEST * max(1.0, 1.4826 * float((scaled - middle).abs().median()))
    scaled = scaled.clamp(middle - farthest, middle + farthest)
    # Orthogonal coefficients, each with the same error, so that each is kept as far as it stands out of that.
    q, r = torch.linalg.qr(powers / spread[:, None])
    coefficients = q.T @ scaled
    freedom = len(scaled) - powers.shape[1]
    variance = float((scaled - q @ coefficients).square().sum() / freedom)
    kept = coefficients * _standing_out(coefficients**2, torch.tensor(variance))
    stretch = torch.tensor(0.5 * math.log(max(variance, 1e-4)))
    return torch.linalg.solve_triangular(r, kept[:, None], upper=True)[:, 0], float(
        stretch * _standing_out(stretch**2, torch.tensor(0.5 / freedom))
    )


def _standing_out(square: Tensor, variance: Tensor) -> Tensor:
    """The share of a value that shrinkage leaves, from its square and the variance of its error."""
    return (1 - variance / square.clamp_min(1e-12)).clamp(0, 1)


def _features(model: CaloClouds, showers: Showers, seed: int) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Plain columns, energy of a point of each layer, where there is one, and the bases of both (`LayerFeatures`)."""
    flow = model.stages([showers], [showers[:1]], seed=seed, fit=False)[0]
    n, e, energy_mev, basis, extras, _ = flow.batch(torch.arange(flow.size))
    noise = torch.randn(flow.size, flow.noise_features, generator=torch.Generator().manual_seed(seed))
    plain, m = model.features._raw(n, e, energy_mev, extras, noise)
    return plain, m, n > 0, basis, model.features._mean_basis(basis, n)


def teacher(base: Model) -> Model:
    """A `caloclouds` model that generates with its denoiser, without the networks of one step distilled from it or beside it.

    They would have to be distilled anew for every model that is adapted. A model without such networks is returned itself.
    """
    if not isinstance(base, CaloClouds):
        return base
    config = base.config
    if config.distill is None and config.mean_flow is None:
        return base
    plain = CaloCloudsConfig()
    sampler, steps = (config.sampler, config.steps) if config.sampler in SAMPLERS else (plain.sampler, plain.steps)
    model = CaloClouds(dataclasses.replace(config, distill=None, mean_flow=None, sampler=sampler, steps=steps), base.domain)
    wanted = model.state_dict()
    model.load_state_dict({name: value for name, value in base.state_dict().items() if name in wanted})
    return model.eval()


def base_for(base: Model, showers: Showers, *, n: int = 400, seed: int = 1) -> Model:
    """The model to start from for showers of a detector: the base itself, if it makes showers of that detector.

    Otherwise a `caloclouds` base is moved there with n showers of its own and calibrated with the given ones.
    """
    if not isinstance(base, CaloClouds) or base.domain.detector == showers.detector:
        return base
    start = zero_shot(base, showers, n=n, seed=seed)
    return calibrate(start, showers, seed=seed) if isinstance(start, CaloClouds) else start


def zero_shot(base: Model, showers: Showers, *, n: int = 400, seed: int = 1) -> Model:
    """The base as it is, or moved to the detector of these showers, of which only detector and particles are used."""
    if not isinstance(base, CaloClouds) or base.domain.detector == showers.detector:
        return base
    domain = Domain.of([showers])
    beam = Beam(
        particle=domain.particles, energy_mev=domain.energy_mev, spectrum="log", max_angle_rad=min(domain.max_angle_rad, 1.5)
    )
    return transplant(base, moved_showers(base, showers.detector, beam.sample(n, seed), seed=seed), seed=seed)

"""The `anycalo` family: one model for any sampling calorimeter, told the geometry as physics.

Three networks, each drawing from an exact likelihood in one evaluation:

1. `totals`: visible energy, energy of a point, and the shower's centre and width, given particle and detector.
2. `layers`: number of points and energy of each layer in turn, given the totals and the layers before it.
3. `points`: radius, angle and energy of independent points, given their layer.

Everything is learnt in universal coordinates (`universal`), relative to what simple physics expects. Energies of a layer are
scaled to what `layers` drew, its sum over the layers to what `totals` drew, and the points of a shower are moved and widened
to its centre and width. No layer number, layer count or name of a detector is known to any network.

Before training, deposits of one track are joined and deposits of many tracks divided (`merging`), so that points are nearly
independent. Some detectors are also shown with neighbouring layers read out together (`grouping`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from anycalo.errors import ModelError
from anycalo.geometry import Detector
from anycalo.geometry.descriptors import LAYER, layer_descriptors
from anycalo.models.anycalo_data import TYPICAL_LOG_WIDTH, Prepared, prepare
from anycalo.models.layer_features import Gaussianise
from anycalo.models.layer_tokens import (
    NOISE_OF_SHOWER,
    Shares,
    decode_layers,
    decode_totals,
    encode_layers,
)
from anycalo.models.model import Domain, Model, Stage, axis_slopes
from anycalo.models.noise import Noise
from anycalo.models.point_features import Lateral, impose_energy
from anycalo.models.point_flow import PointFlow, PointFlowConfig
from anycalo.models.recurrent import NOISE, RecurrentConfig, RecurrentLayers
from anycalo.models.totals import DEPTHS, QUANTITIES, Totals, TotalsConfig
from anycalo.models.totals import NOISE as OF_TOTALS
from anycalo.models.universal import COORDINATES, Coordinates, Geometry, Told, particle_table
from anycalo.showers import Incident, Showers

_ATTEMPTS = 50
_CONTEXT = 3 + QUANTITIES


@dataclass(frozen=True, kw_only=True)
class AnyCaloConfig:
    """Configuration of the family.

    Args:
        totals, layers, points: of the networks.
        coordinates: `universal`, or `raw` for the ablation.
        core_scale: radius, in units of the coordinates' scale (the Moliere radius), at which the compression of
            positions turns from linear to logarithmic; also in measuring the centre of a shower.
        width_scale: the same in measuring the width.
        merge_radius_mm, merge_radius_slope, merge_cell_power: deposits closer than the first, and the second times the
            thickness of a sensor, both times a power of the size of a cell in 10 mm,
        merge_mips: and together weaker than this, are joined before training.
        split_mips, quantum_mips: deposits above the first are divided into points of about the second.
        grouped: share of the training detectors that are also shown with two or three layers read out as one.
        other_cells: share of the training detectors that are shown with cells of another size.
    """

    totals: TotalsConfig = field(default_factory=TotalsConfig)
    layers: RecurrentConfig = field(default_factory=RecurrentConfig)
    points: PointFlowConfig = field(default_factory=PointFlowConfig)
    coordinates: str = "universal"
    core_scale: float = 0.15
    width_scale: float = 1.0
    merge_radius_mm: float = 1.5
    merge_radius_slope: float = 0.3
    merge_cell_power: float = 0.45
    merge_mips: float = 6.4
    split_mips: float = 20.0
    quantum_mips: float = 10.0
    grouped: float = 0.25
    other_cells: float = 0.5

    def __post_init__(self) -> None:
        if self.coordinates not in COORDINATES:
            raise ModelError(f"coordinates is {self.coordinates!r}; expected one of {', '.join(COORDINATES)}")
        for name in ("core_scale", "width_scale", "split_mips", "quantum_mips"):
            if not getattr(self, name) > 0:
                raise ModelError(f"{name} is {getattr(self, name)!r}; expected a number above 0")
        for name in ("merge_radius_mm", "merge_radius_slope", "merge_cell_power", "merge_mips"):
            if not getattr(self, name) >= 0:
                raise ModelError(f"{name} is {getattr(self, name)!r}; expected a number of at least 0")
        for name in ("grouped", "other_cells"):
            if not 0 <= getattr(self, name) <= 1:
                raise ModelError(f"{name} is {getattr(self, name)!r}; expected a share from 0 to 1")


class AnyCalo(Model):
    """See the module's text.

    Args:
        config: of the family.
        domain: what it is (to be) trained on.
    """

    family: ClassVar[str] = "anycalo"
    config_class: ClassVar[type] = AnyCaloConfig
    config: AnyCaloConfig

    def __init__(self, config: AnyCaloConfig, domain: Domain) -> None:
        super().__init__(config, domain)
        self.coordinates: Coordinates = COORDINATES[config.coordinates]()
        shower, layer = self.coordinates.shower_features, self.coordinates.layer_features
        self.totals = Totals(shower, layer + self.coordinates.detail_features, config.totals)
        self.layers = RecurrentLayers(shower, layer + self.coordinates.detail_features, QUANTITIES, config.layers)
        self.points = PointFlow(shower + layer + _CONTEXT, config.points)
        self.radius_shape = Gaussianise(1, knots=257)
        self.energy_shape = Gaussianise(1, knots=257)
        # In units of the coordinates' scale.
        self.lateral = Lateral(config.core_scale, config.width_scale)

    def check(self, detector: Detector) -> None:
        """Every detector is accepted; `Domain.breaches` says what lies outside. See `Model.check`."""

    # --- training -------------------------------------------------------------------------------------------

    def stages(self, training: Sequence[Showers], validation: Sequence[Showers], *, seed: int, fit: bool = True) -> list[Stage]:
        """Stages `totals` and `layers` (an example is a shower) and `points` (an example is a point); see `Model.stages`."""
        data = prepare(self, [*training, *validation], n_training=len(training), seed=seed, fit=fit)
        if fit:
            inside = data.points[: data.n_points]
            self.radius_shape.fit(0, inside[:, 0])
            self.energy_shape.fit(0, inside[:, 2])
        everything = len(data.totals)

        def of_showers(index: Tensor) -> tuple[Tensor, ...]:
            return data.batch(index)

        def totals_loss(batch: tuple[Tensor, ...], noise: Tensor) -> Tensor:
            told, totals, _, _ = self._flipped(batch, noise)
            return self.totals.negative_log_likelihood(told, totals).mean()

        def layers_loss(batch: tuple[Tensor, ...], noise: Tensor) -> Tensor:
            told, totals, n, e = self._flipped(batch, noise)
            n_total, e_total = n.sum(1), e.sum(1)
            shares = Shares.of(told, n_total, e_total, totals[:, DEPTHS])
            layers = n.shape[1]
            used = torch.cat([noise[:, 1 : 1 + layers], noise[:, -NOISE_OF_SHOWER:]], dim=1)
            nu, a, m = encode_layers(shares, n, e, used)
            scaled = self.totals.scaled(totals)
            return self.layers.negative_log_likelihood(told, scaled, shares, nu, a, m, e, e_total).mean()

        def points_loss(batch: tuple[Tensor, ...], noise: Tensor) -> Tensor:
            x, context = batch
            sign = _sign(noise)
            told = self._flip_context(context, sign)
            return self.points.negative_log_likelihood(told, self._point_features(x, sign)).mean()

        shower_noise = 1 + data.n.shape[1] + NOISE_OF_SHOWER
        common = {"batch": of_showers, "size": data.showers, "validation_size": everything - data.showers}
        return [
            Stage(name="totals", module=self.totals, noise_features=1, objective=totals_loss, **common),  # type: ignore[arg-type]
            Stage(name="layers", module=self.layers, noise_features=shower_noise, objective=layers_loss, **common),  # type: ignore[arg-type]
            Stage(
                name="points",
                module=self.points,
                batch=lambda index: (data.points[index], data.context[data.row[index].long()]),
                size=data.n_points,
                validation_size=len(data.points) - data.n_points,
                noise_features=1,
                objective=points_loss,
            ),
        ]

    def _flipped(self, batch: tuple[Tensor, ...], noise: Tensor) -> tuple[Told, Tensor, Tensor, Tensor]:
        """A batch with x turned around at random: the field is along x and stays, and so does everything else."""
        told, totals, n, e = Prepared.unpack(batch)
        sign = _sign(noise)
        totals = totals.clone()
        totals[:, 2] *= sign
        shower = self.coordinates.flip(told.shower, sign)
        return replace(told, shower=shower), totals, n, e

    def _flip_context(self, context: Tensor, sign: Tensor) -> Tensor:
        size = self.coordinates.shower_features
        shower = self.coordinates.flip(context[:, :size], sign)
        rest = context[:, size:].clone()
        rest[:, -QUANTITIES + 2] *= sign
        return torch.cat([shower, rest], dim=1)

    def _point_features(self, x: Tensor, sign: Tensor) -> Tensor:
        """Points (P, 3), compressed radius, angle / pi and ln energy in MIPs, as the flow sees them; x turned by sign (P,)."""
        angle = torch.where(sign < 0, torch.where(x[:, 1] < 0, -1 - x[:, 1], 1 - x[:, 1]), x[:, 1])
        return torch.stack([self.radius_shape(x[:, :1])[:, 0], angle, self.energy_shape(x[:, 2:])[:, 0]], dim=1)

    def layer_context(self, told: Told, totals: Tensor, n: Tensor, e: Tensor, mip_mev: Tensor) -> Tensor:
        """What the points of a layer are told, (B, L, C).

        Args:
            told: of the showers.
            totals: (B, 7).
            n: points of the layers, (B, L).
            e: their calibrated energies [MeV], (B, L).
            mip_mev: of each layer, per sensor and along the axis, (B, L).
        """
        count = torch.where(told.valid, n, 0.0)
        shares = Shares.of(told, count.sum(1).clamp_min(1), e.sum(1).clamp_min(1e-9), totals[:, DEPTHS])
        mean = (e / told.calibration / n.clamp_min(1)).clamp_min(1e-9)
        own = [
            (n + 1).log() / 3,
            ((n + 2) / (shares.count + 2)).log(),
            (mean / mip_mev.clamp_min(1e-6)).log().clamp(-8, 8),
        ]
        wide = told.shower[:, None].expand(-1, n.shape[1], -1)
        scaled = self.totals.scaled(totals)[:, None].expand(-1, n.shape[1], -1)
        return torch.cat([wide, told.layer, torch.stack(own, dim=-1), scaled], dim=-1)

    # --- generation -----------------------------------------------------------------------------------------

    @torch.no_grad()
    def sample(self, detector: Detector, incident: Incident, noise: Noise) -> Showers:
        """See `Model.sample`; the provenance counts unphysical draws, which were drawn again."""
        geometry = Geometry([detector])
        told = self.coordinates.told(geometry, torch.zeros(len(incident), dtype=torch.long), particle_table(incident))
        totals, n, e, rejected = self._sample_layers(told, incident, noise)
        counts = n.sum(1).long().numpy()
        row = torch.repeat_interleave(torch.arange(n.numel()), n.flatten().long())
        shower = row // detector.n_layers
        context = self.layer_context(told, totals, n, e, layer_mip_mev(detector, incident))
        flat = context.reshape(-1, context.shape[-1])
        x = self.points.sample(self.points.context(flat), row, noise.normal_points(counts, 3))
        radius = torch.sinh(self.radius_shape.inverse(x[:, :1])[:, 0].clamp(0, 12)) * self.config.core_scale
        angle = torch.pi * x[:, 1]
        visible = (e / told.calibration).flatten()
        energy = impose_energy(self.energy_shape.inverse(x[:, 2:])[:, 0].clamp(-20, 20).exp(), row, visible)
        xy = torch.stack([radius * angle.cos(), radius * angle.sin()], dim=1)
        moments = totals[:, 2:5] + torch.tensor([0.0, 0.0, TYPICAL_LOG_WIDTH])
        xy = self.lateral.scale(xy, totals[:, 4].exp(), shower)
        xy = self.lateral.impose(xy, moments, energy, shower)
        slope = torch.from_numpy(axis_slopes(incident)).float()[shower]
        layer = row % detector.n_layers
        z = torch.from_numpy(detector.layer_z_mm.copy()).float()[layer]
        xy = self.coordinates.stretch(xy * self.coordinates.scale_mm(detector), slope) + slope * z[:, None]
        return Showers(
            detector=detector,
            incident=incident,
            offsets=np.concatenate([[0], np.cumsum(counts)]),
            x_mm=xy[:, 0].numpy(),
            y_mm=xy[:, 1].numpy(),
            layer=layer.numpy(),
            energy_mev=energy.numpy(),
            provenance={"draws": len(incident) + rejected, "draws_rejected": rejected},
        )

    def _sample_layers(self, told: Told, incident: Incident, noise: Noise) -> tuple[Tensor, Tensor, Tensor, int]:
        """Totals (B, 7), points and energy of the layers (B, L), and how many draws were unphysical."""
        batch, layers = told.valid.shape
        energy_mev = torch.from_numpy(incident.energy_mev)
        totals, n, e = torch.zeros(batch, QUANTITIES), torch.zeros(batch, layers), torch.zeros(batch, layers)
        open_ = np.arange(batch)
        rejected = 0
        for _ in range(_ATTEMPTS):
            normal = noise.normal(OF_TOTALS + layers * NOISE, only=open_)
            some = told[torch.from_numpy(open_)]
            drawn = self.totals.sample(some, normal[:, :OF_TOTALS])
            n_total, e_total = decode_totals(some, drawn)
            good = torch.isfinite(drawn).all(1) & (e_total < 10 * energy_mev[open_]) & (n_total >= 0.5) & (n_total < 1e7)
            n_total, e_total = torch.where(good, n_total, 1.0), torch.where(good, e_total, 1.0)
            shares = Shares.of(some, n_total, e_total, drawn[:, DEPTHS])
            scaled = self.totals.scaled(drawn)
            nu, raw = self.layers.sample(some, scaled, shares, e_total, normal[:, OF_TOTALS:].reshape(-1, layers, NOISE))
            count, layer_e = decode_layers(some, nu, raw, n_total, e_total, drawn[:, DEPTHS])
            visible = (layer_e / some.calibration).sum(1)
            good &= (count.sum(1) >= 1) & torch.isfinite(layer_e).all(1) & (visible < energy_mev[open_])
            kept = good.numpy()
            index = torch.from_numpy(open_[kept])
            totals[index], n[index], e[index] = drawn[good], count[good], layer_e[good]
            open_ = open_[~kept]
            rejected += len(open_)
            if len(open_) == 0:
                return totals, n, e, rejected
        worst = float(incident.energy_mev[open_[0]])
        raise ModelError(
            f"no physical shower in {_ATTEMPTS} draws for {len(open_)} of {len(incident)} particles, one of {worst:.6g} MeV."
            f" The model was trained from {self.domain.energy_mev[0]:.6g} to {self.domain.energy_mev[1]:.6g} MeV: ask for that"
            " range, or train longer."
        )


def _sign(noise: Tensor) -> Tensor:
    """Whether x is turned around, 1 or -1 (B,)."""
    return torch.where(noise[:, 0] < 0, -1.0, 1.0)


def layer_mip_mev(detector: Detector, incident: Incident) -> Tensor:
    """What a minimum ionising particle along the axis loses in a sensor of each layer [MeV], (B, L)."""
    table = layer_descriptors(detector)
    mip = table[:, LAYER.index("mip_mev")] / table[:, LAYER.index("sensors")]
    return torch.from_numpy(mip[None] / incident.direction[:, 2:].astype(np.float64)).float()

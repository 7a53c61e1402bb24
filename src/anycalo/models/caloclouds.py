"""The `caloclouds` family: a flow for the layers, a pointwise diffusion model for the points; one geometry.

After CaloClouds3 (arXiv 2511.01460) and CaloClouds II (arXiv 2309.05704). A flow draws the number of points and the
visible energy of every layer, given the particle. A pointwise EDM denoiser draws independent points. Points fill
the layers, and the energies of each layer are scaled to what the flow drew. Everything is learnt relative to the
shower axis: the points of a layer at depth z are shifted by z times the transverse over the longitudinal direction.

Departures, each with a switch that turns it off (the recipes `caloclouds3` and `caloclouds2` do):

- `lateral_moments`: independent points lose what makes one shower broader or more displaced than the next; the flow
  also draws the centre and width of each shower, and the points are shifted and scaled to them.
- `depth = "conditioned"`: the denoiser is told the layer instead of generating the depth, so radial and energy
  shapes follow the layer exactly and sorting by depth is not needed.
- `merge_radius_mm`: deposits of one track are joined before training (see `merging`).
- `sampler = "heun-angle"`: fewer steps without widening what is sampled (see `samplers`).

One network evaluation for a point instead of many: `distill` adds a stage in which a copy of the denoiser learns to jump
(`consistency`), `mean_flow` one in which a network of mean velocities is trained (`mean_flow`, with a learned start from
`starts` and a physics-informed term from `physics` where asked for); `sampler` says which of the networks generates.

Other departures: the flow learns residuals after a conditional standardisation (see `layer_features`), radii are
compressed logarithmically, and energies by their quantiles (see `point_features`).
"""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from anycalo.errors import ModelError
from anycalo.geometry import Detector
from anycalo.models.caloclouds_cells import points_for_cells
from anycalo.models.caloclouds_config import ATTEMPTS, CaloCloudsConfig, no_physical_shower
from anycalo.models.conditions import Event, condition_table
from anycalo.models.consistency import Consistency
from anycalo.models.edm import Denoiser
from anycalo.models.flow import ShowerFlow
from anycalo.models.layer_features import Gaussianise, LayerFeatures, energy_basis
from anycalo.models.mean_flow import GAP_FEATURES, TIME_SCALE, AverageVelocity, MeanFlowConfig
from anycalo.models.merging import merge_tracks
from anycalo.models.model import Domain, Model, axis_slopes
from anycalo.models.noise import Noise
from anycalo.models.physics import PointSet
from anycalo.models.point_features import (
    Lateral,
    Standardise,
    compress,
    expand,
    impose_energy,
)
from anycalo.models.point_stages import MeanFlow, PointData, point_stages
from anycalo.models.pointwise import Pointwise, Rows
from anycalo.models.samplers import SAMPLERS, consistency, mean_flow
from anycalo.models.stage import Stage
from anycalo.models.starts import ConditionalMixture
from anycalo.showers import Incident, Showers

if TYPE_CHECKING:
    from anycalo.models.caloclouds_engine import Engine

# What a network makes of this many points stays in a processor's cache; a graphics card wants many at once.
_POINTS_AT_ONCE = {"cpu": 1_024, "cuda": 65_536}
_SMALLEST_MEV = 1e-6


class CaloClouds(Model):
    """See the module's text.

    Args:
        config: of the family.
        domain: its one detector fixes the number of layers.
    """

    family: ClassVar[str] = "caloclouds"
    config_class: ClassVar[type] = CaloCloudsConfig
    config: CaloCloudsConfig
    z_mm: Tensor
    largest_radius_mm: Tensor
    typical_log_width: Tensor

    def __init__(self, config: CaloCloudsConfig, domain: Domain) -> None:
        super().__init__(config, domain)
        if len(domain.detectors) != 1:
            raise ModelError(
                f"caloclouds learns one detector; the showers are of {domain.n_detectors}. Train it on one of them, or"
                " train the family anycalo on all"
            )
        self.layers = domain.detector.n_layers
        self.features = LayerFeatures(self.layers, 3 if config.lateral_moments else 0)
        self.flow = ShowerFlow(self.features.dimension, 4, config.flow)
        self.lateral = Lateral(config.centre_scale_mm, config.width_scale_mm)
        self.generates_depth = config.depth == "generated"
        n_point = 4 if self.generates_depth else 3
        self.denoiser = Denoiser(Pointwise(n_point, len(config.conditions), config.network), config.schedule)
        self.consistency = None if config.distill is None else Consistency(self.denoiser, config.distill)
        self.mean_flow = None if config.mean_flow is None else self._mean_flow(n_point, config.mean_flow)
        self.energy_shape = Gaussianise(1, knots=257)
        self.point_scale = Standardise(n_point, config.schedule.sigma_data)
        self.condition_scale = Standardise(len(config.conditions), 1.0)
        self._engine: tuple[tuple[Any, ...], Engine] | None = None
        self.register_buffer("z_mm", torch.tensor(domain.detector.layer_z_mm, dtype=torch.float32))
        self.register_buffer("typical_log_width", torch.tensor(0.0))
        self.register_buffer("largest_radius_mm", torch.tensor(math.inf))

    def _mean_flow(self, features: int, config: MeanFlowConfig) -> MeanFlow:
        conditions, spread = len(self.config.conditions), self.config.schedule.sigma_data
        sizes = dataclasses.replace(self.config.network, time_scale=TIME_SCALE)
        network = Pointwise(features, conditions + GAP_FEATURES, sizes)
        if config.start is None:
            return MeanFlow(AverageVelocity(network, data_spread=spread), None, config)
        start = ConditionalMixture(features, conditions, config.start, spread=spread)
        return MeanFlow(AverageVelocity(network, data_spread=spread, start_spread=spread), start, config)

    def with_sampler(self, sampler: str, steps: int) -> CaloClouds:
        """A model of the same networks that generates with another sampler.

        Args:
            sampler: as in `CaloCloudsConfig`.
            steps: likewise; of a distilled model, `heun-angle` in 10 steps is its teacher.

        Raises:
            ModelError: if there is no such sampler, or its network is not there.

        Example:
            teacher = model.with_sampler("heun-angle", 10)
        """
        other = copy.copy(self)
        other.config = dataclasses.replace(self.config, sampler=sampler, steps=steps)
        return other

    def check(self, detector: Detector) -> None:
        """Refuse every detector but the one it was trained on; see `Model.check`."""
        if detector != self.domain.detector:
            raise ModelError(
                f"this caloclouds model was trained on '{self.domain.detector.name}' and makes showers of that detector only;"
                f" asked for '{detector.name}'. Ask for '{self.domain.detector.name}', whose readout may be changed afterwards,"
                " or train a model on showers of the other detector."
            )

    # --- training -------------------------------------------------------------------------------------------

    def stages(self, training: Sequence[Showers], validation: Sequence[Showers], *, seed: int, fit: bool = True) -> list[Stage]:
        """`flow` (an example is a shower) and `denoiser` (an example is a point); where configured, `distill`, `start` and
        `mean-flow` (points); `cells` is solved without steps. See `Model.stages`.
        """
        size = sum(map(len, training))
        showers = Showers.concatenate([*training, *validation])
        showers = merge_tracks(showers, radius_mm=self.config.merge_radius_mm, energy_mev=self.config.merge_energy_mev)
        incident = showers.incident
        n = torch.from_numpy(showers.layer_counts()).float()
        e = torch.from_numpy(showers.layer_energy_mev()).float()
        shower = torch.from_numpy(showers.shower)
        energy = torch.from_numpy(showers.energy_mev)
        xy = self._relative_to_axis(showers)
        if fit:
            self.largest_radius_mm.copy_(torch.linalg.vector_norm(xy[: int(showers.offsets[size])], dim=1).max())
        moments = self.lateral.measure(xy, energy, shower, len(showers))
        if fit:
            self.typical_log_width.copy_(moments[:size, 2].mean())
        moments[:, 2] -= self.typical_log_width
        extras = moments[:, : self.features.extras]
        flow_condition, basis = self._incident(incident)
        energy_mev = torch.from_numpy(incident.energy_mev)
        if fit:
            noise = torch.randn(size, self.features.noise_features, generator=torch.Generator().manual_seed(seed))
            self.features.fit(n[:size], e[:size], energy_mev[:size], basis[:size], extras[:size], noise)
        columns = (n, e, energy_mev, basis, extras, flow_condition)

        def flow_loss(batch: tuple[Tensor, ...], noise: Tensor) -> Tensor:
            count, layer_energy, incident_mev, scale_basis, extra, condition = batch
            z = self.features.encode(count, layer_energy, incident_mev, scale_basis, extra, noise)
            return self.flow.negative_log_likelihood(z, condition).mean()

        flow = Stage(
            name="flow",
            module=self.flow,
            batch=lambda index: tuple(c[index] for c in columns),
            size=size,
            validation_size=len(showers) - size,
            noise_features=self.features.noise_features,
            objective=flow_loss,
        )

        if self.config.lateral_moments:
            xy = self.lateral.remove(xy, moments, shower)
        u = compress(xy, self.config.radial_scale_mm)
        table = condition_table(self.config.conditions, self._event(incident, n, e, moments[:, 2]))
        row = shower * self.layers + torch.from_numpy(showers.layer.astype(np.int64))
        points = int(showers.offsets[size])
        log_e = energy.clamp_min(_SMALLEST_MEV).log()[:, None]
        if fit:
            self.energy_shape.fit(0, log_e[:points, 0])
        depth = [torch.from_numpy(showers.layer.astype(np.float32))[:, None]] if self.generates_depth else []
        x = torch.cat([u, *depth, self.energy_shape(log_e)], dim=1)
        if fit:
            self.point_scale.fit(x[:points])
            self.condition_scale.fit(table[row[:points]])
        table = self.condition_scale(table)

        def scaled(clean: Tensor, normal: Tensor) -> Tensor:
            if self.generates_depth:
                clean = clean.clone()
                clean[:, 2] += torch.special.ndtr(normal)
            out: Tensor = self.point_scale(clean)
            return out

        data = PointData(
            x=x,
            table=table,
            row=row.to(torch.int32),
            offsets=torch.from_numpy(showers.offsets),
            layers=self.layers,
            size=points,
            training_showers=size,
            scaled=scaled,
            points=self._point_set,
        )
        cells = Stage(
            name="cells",
            module=self.features,
            solve=lambda: points_for_cells(self, Showers.concatenate(training), flow, seed=seed),
        )
        return [flow, *point_stages(self.denoiser, self.consistency, self.mean_flow, data, seed), cells]

    def _point_set(self, x: Tensor, shower: Tensor, showers: int, layer: Tensor) -> PointSet:
        """Showers of scaled features, centred and at width 1 where the flow draws centre and width, for the physics loss."""
        raw = self.point_scale.inverse(x)
        xy = expand(raw[:, :2], self.config.radial_scale_mm, self.largest_radius_mm)
        energy = self.energy_shape.inverse(raw[:, -1:])[:, 0].clamp(-14, 9).exp()
        return PointSet(
            x_mm=xy[:, 0], y_mm=xy[:, 1], energy_mev=energy, layer=layer, shower=shower, showers=showers, z_mm=self.z_mm
        )

    def _relative_to_axis(self, showers: Showers) -> Tensor:
        """Positions relative to the shower axis in mm, (P, 2)."""
        shift = axis_slopes(showers.incident)[showers.shower] * self.z_mm.numpy()[showers.layer][:, None]
        return torch.from_numpy((np.stack([showers.x_mm, showers.y_mm], axis=1) - shift).astype(np.float32))

    def _incident(self, incident: Incident) -> tuple[Tensor, Tensor]:
        """Condition of the flow (B, 4): scaled ln E, dx, dy, charge; and the basis of the scales (B, K)."""
        low, high = (math.log(v) for v in self.domain.energy_mev)
        scaled = (torch.from_numpy(incident.energy_mev).double().log() - (low + high) / 2) / max((high - low) / 2, 0.1)
        direction = torch.from_numpy(incident.direction).double()
        charge = torch.from_numpy(incident.charge).double()
        condition = torch.stack([scaled, direction[:, 0], direction[:, 1], charge], dim=1).float()
        return condition, energy_basis(scaled, 1 / direction[:, 2] - 1).float()

    def _event(self, incident: Incident, n: Tensor, e: Tensor, log_width: Tensor) -> Event:
        condition, _ = self._incident(incident)
        return Event(
            energy_mev=torch.from_numpy(incident.energy_mev).to(n),
            direction=torch.from_numpy(incident.direction).to(n),
            charge=condition[:, 3].to(n),
            n=n,
            e=e,
            log_width=log_width,
            z_mm=self.z_mm.to(n),
        )

    # --- generation -----------------------------------------------------------------------------------------

    @property
    def jumps(self) -> bool:
        """Whether a student makes each point at once, of points that are told their layer, on a processor.

        Such models generate in the compiled loops of `caloclouds_engine`, all others in PyTorch.
        """
        at_once = self.config.sampler == "consistency" and self.config.steps == 1
        return at_once and not self.generates_depth and self.z_mm.device.type == "cpu"

    def sample(self, detector: Detector, incident: Incident, noise: Noise) -> Showers:
        """See `Model.sample`; the provenance counts the flow's unphysical draws, which were drawn again."""
        self.check(detector)
        if not self.jumps:
            return self.sample_in_torch(detector, incident, noise)
        from anycalo.models.caloclouds_engine import Engine  # with a compiler, which only generation needs

        state = self.state()
        if self._engine is None or self._engine[0] != state:
            self._engine = (state, Engine(self))
        return self._engine[1].sample(detector, incident, noise)

    @torch.no_grad()
    def sample_in_torch(self, detector: Detector, incident: Incident, noise: Noise) -> Showers:
        """What `sample` makes, to the rounding of float32, by the networks' modules, on any device."""
        n, e, extras, rejected = self.sample_layers(incident, noise)
        made = self.in_layers(detector, incident, n, e, extras, noise)
        made.provenance = {"flow_draws": len(incident) + rejected, "flow_draws_rejected": rejected}
        return made

    @torch.no_grad()
    def in_layers(self, detector: Detector, incident: Incident, n: Tensor, e: Tensor, extras: Tensor, noise: Noise) -> Showers:
        """Showers with these points and energies [MeV] of the layers, (B, L) each, and extras (B, X) of `sample_layers`."""
        counts = n.sum(1).long().cpu().numpy()
        layer = torch.arange(self.layers, device=self.device).expand_as(n)
        row = torch.repeat_interleave(torch.arange(n.numel(), device=self.device), n.flatten().long())
        shower = row // self.layers
        log_width = extras[:, 2] if self.config.lateral_moments else torch.zeros_like(n[:, 0])
        table = self.condition_scale(condition_table(self.config.conditions, self._event(incident, n, e, log_width)))
        xy, energy = self._sample_points(table, row, shower, noise.normal_points(counts, self._normals()))
        energy = impose_energy(energy, row, e.flatten())
        if self.config.lateral_moments:
            moments = torch.cat([extras[:, :2], extras[:, 2:] + self.typical_log_width], dim=1)
            xy = self.lateral.impose(xy, moments, energy, shower)
        # No farther from the axis than any training point.
        xy = xy * (self.largest_radius_mm / torch.linalg.vector_norm(xy, dim=1, keepdim=True).clamp_min(1e-6)).clamp_max(1)
        point_layer = layer.reshape(-1)[row]
        slopes = torch.from_numpy(axis_slopes(incident)).to(xy)
        xy = xy + slopes[shower] * self.z_mm[point_layer, None]
        return Showers(
            detector=detector,
            incident=incident,
            offsets=np.concatenate([[0], np.cumsum(counts)]),
            x_mm=xy[:, 0].cpu().numpy(),
            y_mm=xy[:, 1].cpu().numpy(),
            layer=point_layer.cpu().numpy(),
            energy_mev=energy.cpu().numpy(),
        )

    @torch.no_grad()
    def sample_layers(self, incident: Incident, noise: Noise) -> tuple[Tensor, Tensor, Tensor, int]:
        """Points and energy of each layer, (B, L) each, extras (B, X), and how many draws were rejected.

        Raises:
            ModelError: if a shower stays unphysical however often it is drawn.
        """
        condition, basis = (t.to(self.device) for t in self._incident(incident))
        energy_mev = torch.from_numpy(incident.energy_mev).to(self.device)
        shape = len(incident), self.layers
        n, e = torch.zeros(shape, device=self.device), torch.zeros(shape, device=self.device)
        extras = torch.zeros(len(incident), self.features.extras, device=self.device)
        open_ = np.arange(len(incident))
        rejected = 0
        for _ in range(ATTEMPTS):
            z = noise.normal(self.features.dimension, only=open_).to(self.device)
            found = self.features.decode(self.flow.inverse(z, condition[open_]), energy_mev[open_], basis[open_])
            good = found[3].cpu().numpy()
            done = torch.from_numpy(open_[good]).to(self.device)
            n[done], e[done], extras[done] = (part[found[3]] for part in found[:3])
            open_ = open_[~good]
            rejected += len(open_)
            if len(open_) == 0:
                return n, e, extras, rejected
        raise no_physical_shower(float(incident.energy_mev[open_[0]]), self.domain.energy_mev)

    def _normals(self) -> int:
        """Normal numbers that a point is made of."""
        features = int(self.point_scale.mean.numel())
        if self.config.sampler == "consistency":
            return features * self.config.steps
        learned = self.config.sampler == "mean-flow" and self.mean_flow is not None and self.mean_flow.start is not None
        return features + int(learned)

    def _draw(self, condition: Rows, normal: Tensor) -> Tensor:
        """Scaled features (P, F) from normal numbers, by the sampler of the configuration."""
        schedule, steps = self.config.schedule, self.config.steps
        if self.config.sampler == "mean-flow" and self.mean_flow is not None:
            average, start = self.mean_flow.average, self.mean_flow.start
            z = normal if start is None else start.sample(condition.table, normal, condition.row)
            jumps = self.mean_flow.config.different > 0
            return mean_flow(lambda z, r, t: average(z, r if jumps else t, t, condition), z, torch.linspace(1, 0, steps + 1))
        if self.config.sampler == "consistency" and self.consistency is not None:
            student = self.consistency.student
            first, *fresh = normal.chunk(steps, dim=1)
            more = torch.stack(fresh) if fresh else normal.new_zeros(0)
            sigmas = schedule.angle_steps(steps)
            return consistency(lambda x, s: student(x, s, condition), first * schedule.sigma_max, sigmas, more)
        solve = SAMPLERS[self.config.sampler]
        return solve(lambda x, s: self.denoiser(x, s, condition), normal * schedule.sigma_max, schedule, steps)

    def _sample_points(self, table: Tensor, row: Tensor, shower: Tensor, normal: Tensor) -> tuple[Tensor, Tensor]:
        """Positions relative to the axis in mm (P, 2) and energies in MeV (P,), in the order of the layers.

        Args:
            table: conditions, (R, C).
            row: of each point, rising, (P,).
            shower: of each point, (P,).
            normal: numbers, (P, `_normals`).
        """
        pieces = []
        at_once = _POINTS_AT_ONCE.get(self.device.type, _POINTS_AT_ONCE["cpu"])
        for start in range(0, len(normal), at_once):
            part = slice(start, start + at_once)
            chosen = row[part]
            first, last = int(chosen[0]), int(chosen[-1])
            pieces.append(self._draw(Rows(table[first : last + 1], chosen - first), normal[part].to(self.device)))
        x = self.point_scale.inverse(torch.cat(pieces))
        if self.generates_depth:
            # Points of a shower in the order of their depth fill its layers from the front.
            order = torch.argsort(x[:, 2], stable=True)
            x = x[order[torch.argsort(shower[order], stable=True)]]
        xy = expand(x[:, :2], self.config.radial_scale_mm, self.largest_radius_mm)
        return xy, self.energy_shape.inverse(x[:, -1:])[:, 0].exp()

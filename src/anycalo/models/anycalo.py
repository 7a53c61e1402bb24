"""The `anycalo` family: one model for any sampling calorimeter, told the geometry as physics.

Seven networks, each drawing from an exact likelihood in one evaluation:

1. `totals`: visible energy, energy of a point, and the shower's centre and width, given particle and detector.
2. `layers`: number of points and energy of each layer in turn, given the totals and the layers before it.
3. `points`: radius, angle and energy of a point, given its layer.
4. `clusters`: which points of a layer and of the one before stand together.
5. `surroundings`: the energy of a point anew, given how densely points stand around it.
6. `balance`: what the densities about the model's own points would do to energies at every radius, taken out again.
7. `tracks`: which points are two deposits, the ends of a track, and how far apart these are.

In the end the constants of `clusters` and `surroundings` are fitted to numbers of cells (`cells`).

Everything is learnt in universal coordinates (`universal`), relative to what simple physics expects. Energies of a layer are
settled to what `layers` drew, on the largest of them, its sum over the layers to what `totals` drew, and the points of a
shower are moved and widened to its centre and width. No layer number, layer count or name of a detector is known to any
network.

Before training, deposits of one track are joined, which `tracks` takes apart again, and deposits of many tracks divided
(`merging`), so that few points carry a shower. Some detectors are also shown with neighbouring layers read out together
(`grouping`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from anycalo.errors import ModelError
from anycalo.geometry import Detector
from anycalo.models.anycalo_data import Prepared, prepare
from anycalo.models.balance import Balance, BalanceConfig
from anycalo.models.cells import fit_to_cells, seen_cells
from anycalo.models.cluster_pairs import ClusterPairs
from anycalo.models.clusters import Clusters, ClustersConfig, Pairs
from anycalo.models.drawn import DrawnPoints
from anycalo.models.layer_features import Gaussianise
from anycalo.models.layer_tokens import Shares
from anycalo.models.model import Domain, Model
from anycalo.models.noise import Noise
from anycalo.models.point_features import Lateral
from anycalo.models.point_flow import PointFlow, PointFlowConfig
from anycalo.models.recurrent import RecurrentConfig, RecurrentLayers
from anycalo.models.shift import shift_totals
from anycalo.models.sides import whole
from anycalo.models.stage import Stage
from anycalo.models.surrounded import SurroundedPoints
from anycalo.models.surroundings import Surroundings, SurroundingsConfig
from anycalo.models.totals import DEPTHS, QUANTITIES, Totals, TotalsConfig
from anycalo.models.tracks import Ends, Tracks, TracksConfig
from anycalo.models.universal import COORDINATES, Coordinates, Told
from anycalo.showers import Incident, Showers

if TYPE_CHECKING:
    from anycalo.models.engine import Engine

_CONTEXT = 3 + QUANTITIES
_SCORED_AT_ONCE = 65_536


@dataclass(frozen=True, kw_only=True)
class AnyCaloConfig:
    """Configuration of the family.

    Args:
        totals, layers, points, clusters, surroundings, balance, tracks: of the networks.
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
        views: how often a training detector is shown, after the first time always with cells of another size.
    """

    totals: TotalsConfig = field(default_factory=TotalsConfig)
    layers: RecurrentConfig = field(default_factory=RecurrentConfig)
    points: PointFlowConfig = field(default_factory=PointFlowConfig)
    clusters: ClustersConfig = field(default_factory=ClustersConfig)
    surroundings: SurroundingsConfig = field(default_factory=SurroundingsConfig)
    balance: BalanceConfig = field(default_factory=BalanceConfig)
    tracks: TracksConfig = field(default_factory=TracksConfig)
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
    views: int = 1

    def __post_init__(self) -> None:
        if self.coordinates not in COORDINATES:
            raise ModelError(f"coordinates is {self.coordinates!r}; expected one of {', '.join(COORDINATES)}")
        for name in ("core_scale", "width_scale", "split_mips", "quantum_mips"):
            if not getattr(self, name) > 0:
                raise ModelError(f"{name} is {getattr(self, name)!r}; expected a number above 0")
        for name in ("merge_radius_mm", "merge_radius_slope", "merge_cell_power", "merge_mips"):
            if not getattr(self, name) >= 0:
                raise ModelError(f"{name} is {getattr(self, name)!r}; expected a number of at least 0")
        if self.views < 1:
            raise ModelError(f"views is {self.views!r}; expected at least 1")
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
        self.totals = Totals(shower, layer, config.totals)
        self.layers = RecurrentLayers(shower, layer, QUANTITIES, config.layers)
        self.points = PointFlow(shower + layer + _CONTEXT, config.points)
        self.clusters = Clusters(shower + layer + _CONTEXT, config.clusters)
        self.surroundings = Surroundings(shower + layer + _CONTEXT, config.surroundings)
        self.balance = Balance(shower + layer + _CONTEXT, config.balance)
        self.tracks = Tracks(shower + layer + _CONTEXT, config.tracks)
        self.radius_shape = Gaussianise(1, knots=257)
        self.energy_shape = Gaussianise(1, knots=257)
        self._engine: tuple[tuple[Any, ...], Engine] | None = None
        # In units of the coordinates' scale.
        self.lateral = Lateral(config.core_scale, config.width_scale)

    def check(self, detector: Detector) -> None:
        """Every detector is accepted; `Domain.breaches` says what lies outside. See `Model.check`."""

    def whole(self, showers: Showers, *, seed: int) -> Showers:
        """What the sides of the detector have cut off is given back (`sides.whole`); see `Model.whole`."""
        return whole(self, showers, seed=seed)

    # --- training -------------------------------------------------------------------------------------------

    def stages(self, training: Sequence[Showers], validation: Sequence[Showers], *, seed: int, fit: bool = True) -> list[Stage]:
        """Stages `totals` and `layers` (an example is a shower), `points`, `clusters`, `surroundings` and `tracks` (a point).

        See `Model.stages`. Two are solved without steps: `means`, of totals, and `cells`, constants of clusters and energies.
        """
        data = prepare(self, [*training, *validation], n_training=len(training), seed=seed, fit=fit)
        if fit:
            inside = data.points[: data.n_points]
            self.radius_shape.fit(0, inside[:, 0])
            self.energy_shape.fit(0, inside[:, 2])
            self.tracks.fit(*data.ends[: data.n_points, :2].T)
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
            scaled = self.totals.scaled(totals)
            return self.layers.negative_log_likelihood(told, scaled, shares, n, e, e_total, noise[:, 1]).mean()

        def points_loss(batch: tuple[Tensor, ...], noise: Tensor) -> Tensor:
            x, context = batch
            sign = _sign(noise)
            told = self._flip_context(context, sign)
            return self.points.negative_log_likelihood(told, self._point_features(x, sign)).mean()

        def clusters_loss(batch: tuple[Tensor, ...], _: Tensor) -> Tensor:
            return self.clusters.negative_log_likelihood(Pairs(*batch)).mean()

        def surroundings_loss(batch: tuple[Tensor, ...], _: Tensor) -> Tensor:
            told, x, density, energy = batch
            radius = self.radius_shape(x[:, :1])[:, 0]
            return self.surroundings.negative_log_likelihood(told, radius, density, energy).mean()

        def balance_loss(batch: tuple[Tensor, ...], _: Tensor) -> Tensor:
            return self.balance.negative_log_likelihood(*batch).mean()

        def tracks_loss(batch: tuple[Tensor, ...], noise: Tensor) -> Tensor:
            x, context, ends, slope = batch
            radius, _, energy = self._point_features(x, torch.ones_like(x[:, 0])).unbind(1)
            share, length, angle, outwards = ends.unbind(1)
            told = self._flip_context(context, _sign(noise))
            joined = Ends(share, length, angle, outwards, slope)
            return self.tracks.negative_log_likelihood(told, radius, energy, joined).mean()

        @cache
        def scores() -> Tensor:
            """Of all points by the flow as it is when they are first needed, that is trained."""
            device = next(self.points.parameters()).device

            def some(part: slice) -> Tensor:
                x, told = data.points[part].to(device), data.context[data.row[part].long()].to(device)
                return self.points.scores(told, self._point_features(x, torch.ones_like(x[:, 0]))).cpu()

            return torch.cat([some(slice(k, k + _SCORED_AT_ONCE)) for k in range(0, len(data.points), _SCORED_AT_ONCE)])

        of_points = {"size": data.n_points, "validation_size": len(data.points) - data.n_points, "noise_features": 1}
        common = {"batch": of_showers, "size": data.showers, "validation_size": everything - data.showers}
        return [
            Stage(name="totals", module=self.totals, noise_features=1, objective=totals_loss, **common),  # type: ignore[arg-type]
            Stage(name="means", module=self.totals, solve=lambda: shift_totals(self, data)),
            Stage(name="layers", module=self.layers, noise_features=2, objective=layers_loss, **common),  # type: ignore[arg-type]
            Stage(
                name="points",
                module=self.points,
                batch=lambda index: (data.points[index], data.context[data.row[index].long()]),
                objective=points_loss,
                **of_points,  # type: ignore[arg-type]
            ),
            Stage(
                name="clusters",
                module=self.clusters,
                batch=ClusterPairs(data, scores, seed=seed).batch,
                objective=clusters_loss,
                tuned=False,
                **of_points,  # type: ignore[arg-type]
            ),
            Stage(
                name="surroundings",
                module=self.surroundings,
                batch=SurroundedPoints(data, scores, self.lateral).batch,
                objective=surroundings_loss,
                **of_points,  # type: ignore[arg-type]
            ),
            Stage(
                name="balance",
                module=self.balance,
                batch=DrawnPoints(self, data, seed=seed).batch,
                objective=balance_loss,
                **of_points,  # type: ignore[arg-type]
            ),
            Stage(
                name="tracks",
                module=self.tracks,
                batch=lambda index: (
                    data.points[index],
                    data.context[data.row[index].long()],
                    data.ends[index],
                    data.slope[data.row[index].long()],
                ),
                objective=tracks_loss,
                **of_points,  # type: ignore[arg-type]
            ),
            Stage(
                name="cells",
                module=self.clusters,
                solve=lambda: fit_to_cells(self, seen_cells(training, self.config.other_cells, seed=seed), seed=seed),
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

    def sample(self, detector: Detector, incident: Incident, noise: Noise) -> Showers:
        """See `Model.sample`; made by an `engine.Engine`, which is kept as long as the weights stay as they are."""
        from anycalo.models.engine import Engine  # with a compiler, which only generation needs

        state = self.state()
        if self._engine is None or self._engine[0] != state:
            self._engine = (state, Engine(self))
        return self._engine[1].sample(detector, incident, noise)


def _sign(noise: Tensor) -> Tensor:
    """Whether x is turned around, 1 or -1 (B,)."""
    return torch.where(noise[:, 0] < 0, -1.0, 1.0)

"""Training stages of models that draw points one by one: denoising, distillation, learned start, MeanFlow."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from anycalo.models.consistency import Consistency
from anycalo.models.edm import Denoiser
from anycalo.models.mean_flow import AverageVelocity, MeanFlowConfig, average_velocity_loss
from anycalo.models.objectives import edm_loss
from anycalo.models.physics import PointSet, physics_loss, scales
from anycalo.models.pointwise import Pointwise
from anycalo.models.stage import Stage
from anycalo.models.starts import ConditionalMixture

_SCALE_SHOWERS = 500
_PHYSICS_POINTS = 6_000
_SOLVED_AT_ONCE = 8_192


@dataclass(frozen=True, kw_only=True)
class PointData:
    """Points of showers as examples.

    Args:
        x: features, (P, F), not yet scaled.
        table: conditions of every shower and layer, (B L, C).
        row: row of the table of each point, (P,).
        offsets: where the points of each shower begin, (B + 1,).
        layers: L.
        size: points to train on, which come first.
        training_showers: how many showers those are.
        scaled: features to be learnt of features and of one normal number a point (which dequantises what is discrete).
        points: showers from scaled features (P, F), shower (P,), number of showers, and layer (P,).
    """

    x: Tensor
    table: Tensor
    row: Tensor
    offsets: Tensor
    layers: int
    size: int
    training_showers: int
    scaled: Callable[[Tensor, Tensor], Tensor]
    points: Callable[[Tensor, Tensor, int, Tensor], PointSet]

    @property
    def features(self) -> int:
        """F."""
        return self.x.shape[1]

    def stage(
        self,
        name: str,
        module: nn.Module,
        noise_features: int,
        objective: Callable[[Tensor, Tensor, Tensor], Tensor],
    ) -> Stage:
        """A stage whose examples are points; its objective is given scaled features, conditions and normal numbers."""

        def loss(batch: tuple[Tensor, ...], noise: Tensor) -> Tensor:
            return objective(self.scaled(batch[0], noise[:, -1]), batch[1], noise[:, :-1])

        return Stage(
            name=name,
            module=module,
            batch=lambda index: (self.x[index], self.table[self.row[index]]),
            size=self.size,
            validation_size=len(self.x) - self.size,
            noise_features=noise_features + 1,
            objective=loss,
        )

    def showers(self, chosen: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """All points of the chosen showers: features, row of the table, shower (from 0) and layer."""
        ranges = [torch.arange(int(self.offsets[k]), int(self.offsets[k + 1])) for k in chosen]
        index = torch.cat(ranges)
        shower = torch.repeat_interleave(torch.arange(len(chosen)), torch.tensor([len(r) for r in ranges]))
        row = self.row[index].long()
        return self.x[index], row, shower, row % self.layers


def denoiser_stage(denoiser: Denoiser, data: PointData) -> Stage:
    """EDM score matching."""
    return data.stage("denoiser", denoiser, data.features + 1, lambda x, c, noise: edm_loss(denoiser, x, c, noise))


def distill_stage(consistency: Consistency, teacher: Denoiser, data: PointData, seed: int) -> Stage:
    """Distillation of the denoiser, which an earlier stage has trained."""
    F, pairs = data.features, consistency.config.pairs
    pool: list[Tensor] = []

    def fill() -> None:
        # Made when the teacher is ready; the same again when training goes on after an interruption.
        generator = torch.Generator().manual_seed(seed)
        row = data.row[torch.randint(data.size, (pairs,), generator=generator)].long()
        normal = torch.randn(pairs, F, generator=generator)
        device = next(teacher.parameters()).device
        clean = []
        for start in range(0, pairs, _SOLVED_AT_ONCE):
            part = slice(start, start + _SOLVED_AT_ONCE)
            clean.append(consistency.solved(teacher, data.table[row[part]].to(device), normal[part].to(device)).cpu())
        pool.extend([row, normal, torch.cat(clean)])

    def objective(x: Tensor, condition: Tensor, noise: Tensor) -> Tensor:
        if consistency.config.method == "consistency":
            return consistency.loss(teacher, x, condition, noise)
        if not torch.is_grad_enabled():
            normal = noise[:, :F]
            return consistency.trajectory_loss(teacher, condition, normal, consistency.solved(teacher, condition, normal))
        if not pool:
            fill()
        chosen = (torch.special.ndtr(noise[:, -1].cpu()) * pairs).long().clamp(0, pairs - 1)
        told, normal, clean = (t.to(noise.device) for t in (data.table[pool[0][chosen]], pool[1][chosen], pool[2][chosen]))
        return consistency.trajectory_loss(teacher, told, normal, clean)

    return dataclasses.replace(data.stage("distill", consistency.student, F + 1, objective), follows="denoiser")


def start_stage(start: ConditionalMixture, data: PointData) -> Stage:
    """Maximum likelihood of the mixture."""
    return data.stage("start", start, 0, lambda x, condition, noise: start.loss(x, condition))


class MeanFlow(nn.Module):
    """The network u, the start that it begins from, and its objective.

    Args:
        average: u.
        start: a learned start, or none for the standard normal.
        config: settings.
    """

    begun: Tensor

    def __init__(self, average: AverageVelocity, start: ConditionalMixture | None, config: MeanFlowConfig) -> None:
        super().__init__()
        self.average, self.start, self.config = average, start, config
        self.register_buffer("begun", torch.tensor(False))

    def stage(self, teacher: Denoiser, data: PointData) -> Stage:
        """Training of u, and of its one-step showers where there is a physics-informed term."""
        F = data.features
        unit = {}
        if self.config.physics_weight:
            chosen = torch.arange(min(_SCALE_SHOWERS, data.training_showers))
            x, _, shower, layer = data.showers(chosen)
            unit = scales(data.points(data.scaled(x, torch.zeros(len(x))), shower, len(chosen), layer))

        def objective(x: Tensor, condition: Tensor, noise: Tensor) -> Tensor:
            if torch.is_grad_enabled() and not self.begun:
                if self.config.teacher_start:
                    self.average.adopt(cast(Pointwise, teacher.network))
                self.begun.fill_(True)
            e = noise[:, :F] if self.start is None else self.start.coupled(x, condition, noise[:, : F + 1])
            loss = average_velocity_loss(self.average, self.config, x, e, condition, noise[:, F + 1 :], teacher)
            if unit and torch.is_grad_enabled():
                loss = loss + self.config.physics_weight * self._physics(data, unit, noise)
            return loss

        return data.stage("mean-flow", self.average, F + 4, objective)

    def _physics(self, data: PointData, unit: dict[str, Tensor], noise: Tensor) -> Tensor:
        """The physics-informed term on some showers, chosen and generated with random numbers that follow from `noise`."""
        generator = torch.Generator().manual_seed(int(noise[0, 0].cpu().view(torch.int32)) & 0x7FFFFFFF)
        chosen = torch.randint(data.training_showers, (self.config.physics_showers,), generator=generator)
        # Large showers would take most of the time: leave out some of their layers.
        x, row, shower, layer = data.showers(chosen)
        if len(x) > _PHYSICS_POINTS:
            kept = torch.rand(data.layers, generator=generator)[layer] < _PHYSICS_POINTS / len(x)
            x, row, shower, layer = x[kept], row[kept], shower[kept], layer[kept]
        device = noise.device
        truth = data.scaled(x, torch.randn(len(x), generator=generator)).to(device)
        shower, layer, condition = shower.to(device), layer.to(device), data.table[row].to(device)
        sets = [data.points(truth, shower, len(chosen), layer)]
        for _ in range(2):
            normal = torch.randn(len(x), data.features + 1, generator=generator).to(device)
            sets.append(data.points(self.jump(condition, normal), shower, len(chosen), layer))
        return physics_loss(sets[1], sets[2], sets[0], unit)

    def jump(self, condition: Tensor, normal: Tensor) -> Tensor:
        """Data (P, F) in one evaluation, for conditions (P, C) and normal numbers (P, F + 1)."""
        with torch.no_grad():
            e = normal[:, :-1] if self.start is None else self.start.sample(condition, normal)
        zero, one = torch.zeros_like(e[:, 0]), torch.ones_like(e[:, 0])
        out: Tensor = e - self.average(e, zero, one, condition)
        return out


def point_stages(
    denoiser: Denoiser, consistency: Consistency | None, mean_flow: MeanFlow | None, data: PointData, seed: int
) -> list[Stage]:
    """`denoiser`, and where there are such networks `distill`, `start` and `mean-flow`."""
    stages = [denoiser_stage(denoiser, data)]
    if consistency is not None:
        stages.append(distill_stage(consistency, denoiser, data, seed))
    if mean_flow is not None:
        if mean_flow.start is not None:
            stages.append(start_stage(mean_flow.start, data))
        stages.append(mean_flow.stage(denoiser, data))
    return stages

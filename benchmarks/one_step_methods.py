"""The networks that `one_step_anycalo.py` compares, and the examples that they are trained on.

Points of the exact flow are radius, angle and energy; the other methods see the position in the plane, at the same compressed
radius, and the energy, so that no angle wraps around. All have the trunk of the exact network for what they are told.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from anycalo.models import load_model
from anycalo.models.anycalo import AnyCalo
from anycalo.models.consistency import Consistency, DistillConfig
from anycalo.models.edm import EDM, Denoiser
from anycalo.models.mean_flow import GAP_FEATURES, TIME_SCALE, AverageVelocity, MeanFlowConfig, average_velocity_loss
from anycalo.models.mixture import GaussianMixture, perceptron
from anycalo.models.objectives import edm_loss
from anycalo.models.point_flow import BOUND, PointFlow, PointFlowConfig, inverse
from anycalo.models.pointwise import Pointwise, PointwiseConfig, Rows
from anycalo.models.samplers import SAMPLERS, consistency, mean_flow
from anycalo.models.starts import ConditionalMixture, StartConfig
from anycalo.models.totals import Member, TotalsConfig
from anycalo.models.universal import Told

RUNS = Path(__file__).parent.parent / "runs/one-step-anycalo"
DATA = RUNS / "data.safetensors"
BASE = "anycalo-base"
SIGMA, SHOWER, LAYER = 0.5, 16, 32
SETTINGS = {"points": {"batch": 2048, "rate": 2.5e-3}, "totals": {"batch": 256, "rate": 1.5e-3}}
MIRRORED = {"points": ([3, -5], 0), "totals": ([3], 2)}
"""Columns of what is told, and the feature, that change their sign when x is turned around."""
HIDDEN = {"points": (96, 48), "totals": (96, 96)}
NETWORK = {
    "points": PointwiseConfig(hidden=(32, 64, 32), time_features=32),
    "totals": PointwiseConfig(hidden=(48, 48), time_features=32),
}
PUBLISHED = MeanFlowConfig(different=0.25, times="log-normal", power=1.0, velocity="conditional", teacher_start=False)
FLOWS = {
    "flow-matching": MeanFlowConfig(different=0.0, velocity="conditional", teacher_start=False),
    "mean-flow-data": PUBLISHED,
    "mean-flow": MeanFlowConfig(),
    "mean-flow-start": MeanFlowConfig(velocity="predicted", start=StartConfig()),
}


def base() -> AnyCalo:
    """The shipped model, whose scales are used."""
    return cast(AnyCalo, load_model(BASE))


class Task:
    """Examples of one network of the family: states x (N, F) of spread `SIGMA`, each told the row of a table.

    Args:
        name: `points` or `totals`.
    """

    def __init__(self, name: str) -> None:
        known = {k.split("/")[1]: v for k, v in load_file(DATA).items() if k.startswith(name)}
        self.name, self.model = name, base()
        self.x, self.row, self.table, self.timed = (known[k] for k in ("x", "row", "table", "timed"))
        self.held_x, self.held_row, self.held_detector = (known[f"held_{k}"] for k in ("x", "row", "detector"))
        self.training, self.unit, self.features = int(known["training"]), known["unit"], self.x.shape[1]

    def batch(self, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Random states and what they are told, turned around at random."""
        k = torch.randint(self.training, (SETTINGS[self.name]["batch"],), generator=generator)  # type: ignore[arg-type]
        x, told = self.x[k], self.table[self.row[k]]
        sign = torch.randint(2, (len(k),), generator=generator) * 2.0 - 1
        columns, feature = MIRRORED[self.name]
        told[:, columns] *= sign[:, None]
        x[:, feature] *= sign
        return x, told

    def validation(self) -> tuple[Tensor, Tensor]:
        """States and what they are told of detectors that choose the weights."""
        part = slice(self.training, self.training + 16_384)
        return self.x[part], self.table[self.row[part]]

    @torch.no_grad()
    def seen(self, x: Tensor) -> Tensor:
        """States (..., F) as numbers to be compared, about standard normal (the angle from -1 to 1)."""
        if self.name == "totals":
            return x / SIGMA
        radius = self.model.radius_shape((x[..., :2].norm(dim=-1) * self.unit).reshape(-1, 1)).reshape(x.shape[:-1])
        return torch.stack([radius, torch.atan2(x[..., 1], x[..., 0]) / torch.pi, x[..., 2] / SIGMA], -1)

    def unseen(self, points: Tensor) -> Tensor:
        """Inverse of `seen`."""
        if self.name == "totals":
            return SIGMA * points
        radius = self.model.radius_shape.inverse(points[:, :1])[:, 0].clamp_min(0) / self.unit
        angle = torch.pi * points[:, 1]
        return torch.stack([radius * angle.cos(), radius * angle.sin(), SIGMA * points[:, 2]], 1)

    def trunk(self) -> nn.Module:
        """What makes features of what is told, `HIDDEN[-1]` of them."""
        return Pooled() if self.name == "totals" else perceptron(self.table.shape[1], *HIDDEN[self.name])

    def pointwise(self, more: int = 0, **changes: Any) -> Pointwise:
        """The network that goes from state to state, told the features of a trunk and `more`."""
        sizes = dataclasses.replace(NETWORK[self.name], **changes)
        return Pointwise(self.features, HIDDEN[self.name][-1] + more, sizes)


class Pooled(nn.Module):
    """The trunk of `totals.Member`, of rows that hold a shower's and its layers' features and weights."""

    def __init__(self) -> None:
        super().__init__()
        self.member = Member(SHOWER, LAYER, TotalsConfig())
        self.member.mixture = nn.Identity()  # type: ignore[assignment]

    def forward(self, table: Tensor) -> Tensor:
        """(B, S + L (F + 2)) -> (B, hidden)."""
        shower, rest = table[:, :SHOWER], table[:, SHOWER:].unflatten(1, (-1, LAYER + 2))
        layer, expected, even = rest[..., :LAYER], rest[..., -2], rest[..., -1]
        none = layer[..., :0]
        told = Told(
            shower=shower, layer=layer, valid=even > 0, points=even, energy_mev=expected,
            calibration=even, phi=none,
        )  # fmt: skip
        return cast(Tensor, self.member(told))


# --- methods ------------------------------------------------------------------------------------------------------------------


class Method(nn.Module):
    """A way to draw states, trained on a task."""

    def loss(self, x: Tensor, told: Tensor, generator: torch.Generator) -> Tensor:
        """The objective on states (B, F) and what they are told (B, C)."""
        raise NotImplementedError

    def draw(self, told: Rows, steps: int, generator: torch.Generator, sampler: str) -> Tensor:
        """States (P, F), one for each row."""
        raise NotImplementedError


class Exact(Method):
    """The networks of the family: the spline flow of a point, the mixture of the totals."""

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.of = (task,)
        if task.name == "points":
            self.flow = PointFlow(task.table.shape[1], PointFlowConfig(hidden=128))
        else:
            self.trunk, self.mixture = task.trunk(), GaussianMixture(HIDDEN["totals"][-1], task.features, 6)

    def loss(self, x: Tensor, told: Tensor, generator: torch.Generator) -> Tensor:
        """Negative logarithm of the likelihood a feature."""
        task, seen = self.of[0], self.of[0].seen(x)
        if task.name == "points":
            return self.flow.negative_log_likelihood(told, seen).mean() / 3
        return -self.mixture.log_prob(self.trunk(told), seen).mean() / task.features

    def draw(self, told: Rows, steps: int, generator: torch.Generator, sampler: str) -> Tensor:
        """One evaluation, whatever `steps`."""
        task, n = self.of[0], len(told.row)
        if task.name == "points":
            score = torch.randn(n, 3, generator=generator)
            score[:, 1] = 2 * torch.special.ndtr(score[:, 1]) - 1
            knots, part = self.flow.context(told.table)
            bins = self.flow.config.bins
            radius = inverse(knots[told.row], bins, BOUND, score[:, 0])
            angle_knots, energy_knots = self.flow.given_radius(part[told.row], radius)
            angle = inverse(angle_knots, self.flow.config.angle_bins, 1.0, score[:, 1])
            return task.unseen(torch.stack([radius, angle, inverse(energy_knots, bins, BOUND, score[:, 2])], dim=1))
        h = self.trunk(told.table)[told.row]
        return task.unseen(self.mixture.sample(h, torch.randn(n, task.features + 1, generator=generator)))


class Conditioned(nn.Module):
    """A pointwise network behind a trunk."""

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.trunk, self.pointwise = task.trunk(), task.pointwise()

    def forward(self, x: Tensor, time: Tensor, told: Tensor) -> Tensor:
        """See `Pointwise.forward`."""
        return cast(Tensor, self.pointwise(x, time, self.trunk(told)))


class Denoising(Method):
    """EDM's denoiser."""

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.features = task.features
        self.denoiser = Denoiser(Conditioned(task), EDM(sigma_data=SIGMA))

    def loss(self, x: Tensor, told: Tensor, generator: torch.Generator) -> Tensor:
        """Denoising score matching."""
        return edm_loss(self.denoiser, x, told, torch.randn(len(x), self.features + 1, generator=generator))

    def bound(self, told: Rows | Tensor) -> Callable[[Tensor, Tensor], Tensor]:
        """D(x, sigma) with all that depends on what is told evaluated once."""
        return bound(self.denoiser, told)

    def draw(self, told: Rows, steps: int, generator: torch.Generator, sampler: str) -> Tensor:
        """By a sampler of `SAMPLERS`."""
        schedule = self.denoiser.schedule
        x = schedule.sigma_max * torch.randn(len(told.row), self.features, generator=generator)
        return SAMPLERS[sampler](self.bound(told), x, schedule, steps)


def bound(denoiser: Denoiser, told: Rows | Tensor) -> Callable[[Tensor, Tensor], Tensor]:
    """D(x, sigma) of a denoiser around a `Conditioned`, whose trunk is evaluated once."""
    network = cast(Conditioned, denoiser.network)
    plain = Denoiser(network.pointwise, denoiser.schedule)
    features = Rows(network.trunk(told.table), told.row) if isinstance(told, Rows) else network.trunk(told)
    return lambda x, sigma: plain(x, sigma, features)


class Distilled(Method):
    """Consistency distillation of a denoiser."""

    def __init__(self, task: Task, teacher: Denoising) -> None:
        super().__init__()
        self.features, self.of = task.features, (teacher,)
        self.consistency = Consistency(teacher.denoiser, DistillConfig())
        self.consistency.student.requires_grad_(True)
        self.consistency.begun.fill_(True)  # the copies hold the teacher's weights already

    def loss(self, x: Tensor, told: Tensor, generator: torch.Generator) -> Tensor:
        """See `Consistency.loss`."""
        with torch.no_grad():
            denoise = self.of[0].bound(told)
        normal = torch.randn(len(x), self.features + 1, generator=generator)
        return self.consistency.loss(cast(Denoiser, lambda x, s, _: denoise(x, s)), x, told, normal)

    def draw(self, told: Rows, steps: int, generator: torch.Generator, sampler: str) -> Tensor:
        """By jumps, with fresh noise between them."""
        schedule, normal = self.consistency.schedule, torch.randn(steps, len(told.row), self.features, generator=generator)
        jump = bound(self.consistency.student, told)
        return consistency(jump, schedule.sigma_max * normal[0], schedule.angle_steps(steps), normal[1:])


class Flowing(Method):
    """Flow matching and MeanFlow."""

    def __init__(self, task: Task, teacher: Denoising, config: MeanFlowConfig) -> None:
        super().__init__()
        self.features, self.of, self.config = task.features, (teacher,), config
        self.trunk = task.trunk()
        network = task.pointwise(GAP_FEATURES, time_scale=TIME_SCALE)
        self.start, spread = None, 1.0
        if config.start is not None:
            self.start, spread = ConditionalMixture(task.features, HIDDEN[task.name][-1], config.start, spread=SIGMA), SIGMA
        self.average = AverageVelocity(network, data_spread=SIGMA, start_spread=spread)
        known = cast(Conditioned, teacher.denoiser.network)
        if config.teacher_start:
            self.trunk.load_state_dict(known.trunk.state_dict())
            self.average.adopt(known.pointwise)
        self.known = (known.trunk,)

    def start_loss(self, x: Tensor, told: Tensor, generator: torch.Generator) -> Tensor:
        """Of the learned start, which is told the features of the teacher's trunk."""
        assert self.start is not None
        with torch.no_grad():
            features = self.known[0](told)
        return self.start.loss(x, features)

    def loss(self, x: Tensor, told: Tensor, generator: torch.Generator) -> Tensor:
        """See `average_velocity_loss`."""
        normal = torch.randn(len(x), self.features + 1, generator=generator)
        with torch.no_grad():
            denoise = self.of[0].bound(told) if self.config.velocity == "teacher" else None
            e = normal[:, :-1] if self.start is None else self.start.coupled(x, self.known[0](told), normal)
        times = torch.randn(len(x), 3, generator=generator)
        teacher = cast(Denoiser, lambda x, s, _: denoise(x, s) if denoise else x)
        return average_velocity_loss(self.average, self.config, x, e, self.trunk(told), times, teacher)

    def draw(self, told: Rows, steps: int, generator: torch.Generator, sampler: str) -> Tensor:
        """By jumps or, of flow matching, by Euler's method; 0 steps leave the start as it is."""
        z = torch.randn(len(told.row), self.features + (self.start is not None), generator=generator)
        if self.start is not None:
            z = self.start.sample(self.known[0](told.table), z, told.row)
        if not steps:
            return z
        features, jumps = Rows(self.trunk(told.table), told.row), self.config.different > 0
        average = self.average
        return mean_flow(lambda z, r, t: average(z, r if jumps else t, t, features), z, torch.linspace(1, 0, steps + 1))


def built(task: Task, name: str) -> Method:
    """A method as it begins; all but two know the teacher."""
    torch.manual_seed(0)
    if name == "exact":
        return Exact(task)
    if name == "edm":
        return Denoising(task)
    teacher = cast(Denoising, trained(task, "edm"))
    return Distilled(task, teacher) if name == "consistency" else Flowing(task, teacher, FLOWS[name])


def trained(task: Task, name: str) -> Method:
    """A method as it has been trained."""
    method = built(task, name)
    method.load_state_dict(load_file(RUNS / f"{task.name}-{name}.safetensors"))
    return method.requires_grad_(False)


def fit(
    task: Task,
    module: nn.Module,
    objective: Callable[[Tensor, Tensor, torch.Generator], Tensor],
    seconds: float,
    *,
    selected: bool,
) -> float:
    """Train a module; it holds averaged weights afterwards. Returns minutes of processor time, validation included."""
    parameters = [p for p in module.parameters() if p.requires_grad]
    rate, generator = SETTINGS[task.name]["rate"], torch.Generator().manual_seed(1)
    optimiser = torch.optim.AdamW(parameters, lr=rate, weight_decay=1e-3, betas=(0.9, 0.99))
    average = [p.detach().clone() for p in parameters]
    best, lowest, checks, step, began = average, np.inf, 0, 0, time.process_time()
    while (done := (time.process_time() - began) / seconds) < 1:
        for group in optimiser.param_groups:
            group["lr"] = rate * min(1, step / 50 + 0.01) * (1 + np.cos(np.pi * done)) / 2
        loss = objective(*task.batch(generator), generator)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        if torch.isfinite(nn.utils.clip_grad_norm_(parameters, 1.0)):
            optimiser.step()
        step += 1
        torch._foreach_lerp_(average, [p.detach() for p in parameters], 1 - min(0.998, step / (step + 10)))
        if selected and done * 10 > checks + 1:
            checks += 1
            value = validated(task, parameters, average, objective)
            if value < lowest:
                lowest, best = value, [p.clone() for p in average]
    last = validated(task, parameters, average, objective)
    chosen = best if selected and lowest < last else average
    with torch.no_grad():
        for parameter, value_ in zip(parameters, chosen, strict=True):
            parameter.copy_(value_)
    print(task.name, step, "steps, validation loss", round(min(last, lowest), 4), "at the end", round(last, 4), flush=True)
    return (time.process_time() - began) / 60


@torch.no_grad()
def validated(task: Task, parameters: list[nn.Parameter], average: list[Tensor], objective: Callable[..., Tensor]) -> float:
    """The objective with averaged weights on validation examples, with the same random numbers each time."""
    now = [p.clone() for p in parameters]
    for parameter, value in zip(parameters, average, strict=True):
        parameter.copy_(value)
    loss = float(objective(*task.validation(), torch.Generator().manual_seed(2)))
    for parameter, value in zip(parameters, now, strict=True):
        parameter.copy_(value)
    return loss


def sizes(method: Method) -> dict[str, int]:
    """Parameters that generation needs, and those of a learned start with the trunk that it is told by."""
    used = method.consistency.student if isinstance(method, Distilled) else method
    found = {"parameters": count(used)}
    if isinstance(method, Flowing) and method.start is not None:
        found["start_parameters"] = count(method.start) + count(method.known[0])
        found["parameters"] += count(method.known[0])
    return found


def count(module: nn.Module) -> int:
    """Its parameters."""
    return sum(p.numel() for p in module.parameters())

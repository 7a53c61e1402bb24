"""Distillation: a student that jumps from noise to data at once.

The student is a copy of its teacher, an EDM denoiser. Two ways to teach it:

Consistency distillation (arXiv 2303.01469). The student jumps from any noise level. It learns to give the same data for two
neighbouring states of one trajectory of the teacher: f(x_t, t) is pulled to f^-(x_s, s), where x_s comes from x_t by one
Heun step and f^- is a moving average of the student. The settings of CaloClouds3 (arXiv 2511.01460) are the l2 metric, 18
levels and an average of 0.95 a step. By default the levels are equally spaced in the root of the angle of
`samplers.heun_angle`, in which the teacher's own steps are accurate; `grid = "edm"` is as published.

Whole trajectories (arXiv 2101.02388). The student jumps from pure noise alone: it is regressed on what the teacher's
solver makes of that noise. The pairs are made once, before training. With a network this small they cost little, and no
error is handed down from level to level.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from anycalo.errors import ModelError
from anycalo.models.edm import EDM, Denoiser
from anycalo.models.objectives import consistency_loss
from anycalo.models.paths import angle_slope, from_angle, to_angle
from anycalo.models.pointwise import Condition
from anycalo.models.samplers import heun_angle
from anycalo.models.solvers import Slope, along


@dataclass(frozen=True, kw_only=True)
class DistillConfig:
    """Settings of distillation.

    Args:
        method: `consistency` or `trajectory`.
        levels: noise levels of the teacher's trajectory, beside 0.
        target_decay: of the average that the student is pulled to, a step.
        grid: `angle` or `edm`.
        pairs: noise and data, made before training on whole trajectories.
        solver_steps: of Heun's method in the angle, which makes them.
    """

    method: str = "consistency"
    levels: int = 18
    target_decay: float = 0.95
    grid: str = "angle"
    pairs: int = 300_000
    solver_steps: int = 10

    def __post_init__(self) -> None:
        if self.method not in ("consistency", "trajectory"):
            raise ModelError(f"method is {self.method!r}; expected 'consistency' or 'trajectory'")
        if self.pairs < 1 or self.solver_steps < 1:
            raise ModelError(f"pairs is {self.pairs!r} and solver_steps {self.solver_steps!r}; expected at least 1")
        if self.levels < 2:
            raise ModelError(f"levels is {self.levels!r}; expected at least 2")
        if not 0 <= self.target_decay < 1:
            raise ModelError(f"target_decay is {self.target_decay!r}; expected from 0 to below 1")
        if self.grid not in ("angle", "edm"):
            raise ModelError(f"grid is {self.grid!r}; expected 'angle' or 'edm'")

    def sigmas(self, schedule: EDM) -> Tensor:
        """The levels, rising from 0 to sigma_max: (levels + 1,), float32."""
        falling = schedule.angle_steps(self.levels) if self.grid == "angle" else schedule.steps(self.levels)
        return falling.flip(0).float()


def teacher_step(denoise: Slope, x: Tensor, sigma: Tensor, following: Tensor, sigma_data: float) -> Tensor:
    """One Heun step in the angle; one of Euler's where it ends at 0.

    Args:
        denoise: the teacher, D(x, sigma).
        x: states at `sigma`, (B, ...).
        sigma: noise levels, (B,).
        following: noise levels to go to, (B,).
        sigma_data: of the angle.
    """
    slope = angle_slope(denoise, sigma_data)
    y, angle = to_angle(x, sigma, sigma_data)
    arrived = following <= 0
    after = torch.atan(following.double() / sigma_data)
    step = along(after - angle, y)
    first = slope(y, angle)
    ahead = y + step * first
    second = slope(ahead, torch.where(arrived, angle, after))
    y = torch.where(along(arrived, y).bool(), ahead, y + step * (first + second) / 2)
    return from_angle(y, after, sigma_data)


class Consistency(nn.Module):
    """A student and the average that it is pulled to.

    Args:
        teacher: whose shape both have; its weights are taken over when training begins.
        config: settings.
    """

    begun: Tensor

    def __init__(self, teacher: Denoiser, config: DistillConfig) -> None:
        super().__init__()
        self.config = config
        self.schedule = teacher.schedule
        self.student = copy.deepcopy(teacher)
        self.target = copy.deepcopy(teacher).requires_grad_(False)
        self.register_buffer("begun", torch.tensor(False))

    def forward(self, x: Tensor, sigma: Tensor, condition: Condition) -> Tensor:
        """Data from x at noise level sigma; arguments as for `Denoiser.forward`."""
        return cast(Tensor, self.student(x, sigma, condition))

    @torch.no_grad()
    def advance(self, teacher: Denoiser) -> None:
        """Before a training step: take over the teacher's weights the first time, then move the average."""
        if not self.begun:
            self.student.load_state_dict(teacher.state_dict())
            self.target.load_state_dict(teacher.state_dict())
            self.begun.fill_(True)
        if self.config.method == "trajectory":
            return
        for average, now in zip(self.target.parameters(), self.student.parameters(), strict=True):
            average.lerp_(now, 1 - self.config.target_decay)

    def loss(self, teacher: Denoiser, x: Tensor, condition: Tensor, normal: Tensor) -> Tensor:
        """The objective of consistency distillation.

        Args:
            teacher: trained.
            x: clean data, (P, F).
            condition: (P, C).
            normal: (P, F + 1), the noise and what chooses the level.
        """
        if torch.is_grad_enabled():
            self.advance(teacher)
        sigmas = self.config.sigmas(self.schedule).to(x)
        uniform = torch.special.ndtr(normal[:, -1])
        index = (uniform * self.config.levels).long().clamp(0, self.config.levels - 1)
        time, following = sigmas[index + 1], sigmas[index]

        def step(noisy: Tensor, now: Tensor, then: Tensor) -> Tensor:
            return teacher_step(lambda x, s: teacher(x, s, condition), noisy, now, then, self.schedule.sigma_data)

        return consistency_loss(
            lambda x, s: self.student(x, s, condition),
            lambda x, s: self.target(x, s, condition),
            step,
            x + time[:, None] * normal[:, :-1],
            time,
            following,
        )

    def trajectory_loss(self, teacher: Denoiser, condition: Tensor, normal: Tensor, clean: Tensor) -> Tensor:
        """|f(sigma_max e, sigma_max) - x|^2 for noise e and what the teacher has made of it, (P, F) each."""
        if torch.is_grad_enabled():
            self.advance(teacher)
        largest = torch.tensor(self.schedule.sigma_max, device=normal.device)
        jumped: Tensor = self.student(normal * largest, largest, condition)
        return (jumped - clean).square().mean()

    @torch.no_grad()
    def solved(self, teacher: Denoiser, condition: Tensor, normal: Tensor) -> Tensor:
        """Data (P, F) that the teacher's solver makes of noise (P, F)."""
        sigmas = self.schedule.angle_steps(self.config.solver_steps)
        x = normal * self.schedule.sigma_max
        return heun_angle(lambda x, s: teacher(x, s, condition), x, sigmas, self.schedule.sigma_data)

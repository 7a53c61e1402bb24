"""Distillation: the teacher's step, the loss, the average, and that a student learns to jump."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from anycalo.errors import ModelError
from anycalo.models.consistency import Consistency, DistillConfig, teacher_step
from anycalo.models.edm import EDM, Denoiser
from anycalo.models.objectives import consistency_loss
from anycalo.models.paths import denoiser_from_velocity
from anycalo.models.pointwise import Pointwise, PointwiseConfig

SPREAD, CENTRE = 0.7, 0.3


def denoise(x: Tensor, sigma: Tensor) -> Tensor:
    """E[x_0 | x] for x_0 ~ N(CENTRE, SPREAD^2), sigma (B,)."""
    return CENTRE + SPREAD**2 / (SPREAD**2 + sigma[:, None] ** 2) * (x - CENTRE)


def jump(x: Tensor, sigma: Tensor) -> Tensor:
    """The end of the exact flow."""
    return CENTRE + (x - CENTRE) * SPREAD / (SPREAD**2 + sigma[:, None] ** 2).sqrt()


def test_teachers_step_is_of_second_order() -> None:
    x = torch.linspace(-3, 3, 7, dtype=torch.float64)[:, None]
    errors = []
    for length in (0.4, 0.2, 0.1):
        start = torch.full((7,), 0.9, dtype=torch.float64)
        stop = start - length
        moved = teacher_step(denoise, x, start, stop, 0.5)
        exact = CENTRE + (x - CENTRE) * ((SPREAD**2 + stop**2) / (SPREAD**2 + start**2)).sqrt()[:, None]
        errors.append(float((moved - exact).abs().max()))
    # The error of one step of a second-order method falls with the third power.
    assert -0.4 < np.log2(errors[0] / errors[2]) / 2 - 3 < 0.4


def test_a_step_to_the_data_is_one_of_eulers() -> None:
    """In the angle: y - theta dy/dtheta, with dy/dtheta = (cos y sigma_data - D) / (sigma_data sin)."""
    x, sigma = torch.tensor([[0.8], [0.8]], dtype=torch.float64), torch.tensor([0.2, 0.1], dtype=torch.float64)
    found = teacher_step(denoise, x, sigma, torch.tensor([0.0, 0.05], dtype=torch.float64), 0.5)
    angle = math.atan(0.2 / 0.5)
    y = 0.8 / math.sqrt(0.25 + 0.04)
    slope = (0.5 * math.cos(angle) * y - float(denoise(x[:1], sigma[:1]))) / (0.5 * math.sin(angle))
    assert float(found[0]) == pytest.approx(0.5 * (y - angle * slope))
    assert torch.isfinite(found).all()
    alone = teacher_step(denoise, x[1:], sigma[1:], torch.tensor([0.05], dtype=torch.float64), 0.5)
    torch.testing.assert_close(found[1:], alone)


@pytest.mark.parametrize("kind", ["denoiser", "velocity"])
def test_the_exact_jump_has_no_loss(kind: str) -> None:
    """With a teacher of either kind; the twin, a jump of a narrower Gaussian, has."""

    def velocity(z: Tensor, t: Tensor) -> Tensor:
        t = t[:, None]
        spread = (1 - t) ** 2 * SPREAD**2 + t**2
        return -CENTRE + (t - (1 - t) * SPREAD**2) / spread * (z - (1 - t) * CENTRE)

    teacher = denoise if kind == "denoiser" else denoiser_from_velocity(velocity)
    generator = torch.Generator().manual_seed(0)
    sigmas = DistillConfig(levels=200).sigmas(EDM()).double()
    index = torch.randint(199, (2000,), generator=generator)
    noisy = (
        CENTRE
        + torch.randn(2000, 2, generator=generator, dtype=torch.float64) * (0.49 + sigmas[index + 1] ** 2).sqrt()[:, None]
    )

    def loss(student: object) -> float:
        return float(
            consistency_loss(
                student,  # type: ignore[arg-type]
                student,  # type: ignore[arg-type]
                lambda x, s, f: teacher_step(teacher, x, s, f, 0.5),
                noisy,
                sigmas[index + 1],
                sigmas[index],
            )
        )

    assert loss(jump) < 1e-9
    assert loss(lambda x, s: jump(x, 1.2 * s)) > 1e-7


def test_arrived_states_are_the_aim_themselves() -> None:
    seen = []

    def target(x: Tensor, sigma: Tensor) -> Tensor:
        seen.append(sigma)
        return x / sigma[:, None]  # unknown at 0

    x, now = torch.ones(2, 1), torch.ones(2)
    loss = consistency_loss(lambda x, s: 0 * x, target, lambda x, s, f: 3 * x, x, now, torch.tensor([0.0, 0.5]))
    torch.testing.assert_close(loss, torch.tensor((9 + 36) / 2))
    assert float(seen[0].min()) > 0


def small(seed: int) -> Denoiser:
    torch.manual_seed(seed)
    return Denoiser(Pointwise(2, 1, PointwiseConfig(hidden=(16, 16), time_features=8)), EDM())


def test_student_and_average_take_the_teachers_weights_once() -> None:
    teacher = small(0)
    pair = Consistency(small(1), DistillConfig(target_decay=0.9))
    before = [p.clone() for p in pair.student.parameters()]
    batch = torch.randn(6, 2), torch.zeros(6, 1), torch.randn(6, 3)
    with torch.no_grad():
        pair.loss(teacher, *batch)  # validation: nothing moves
    assert all(torch.equal(a, b) for a, b in zip(before, pair.student.parameters(), strict=True))
    pair.loss(teacher, *batch).backward()  # type: ignore[no-untyped-call]
    assert all(torch.equal(a, b) for a, b in zip(teacher.parameters(), pair.student.parameters(), strict=True))
    assert all(p.grad is None for p in pair.target.parameters())
    assert all(p.grad is None for p in teacher.parameters())
    assert any(p.grad is not None and bool(p.grad.abs().sum() > 0) for p in pair.student.parameters())
    with torch.no_grad():
        for p in pair.student.parameters():
            p.add_(1.0)
    pair.loss(teacher, *batch)
    for average, known in zip(pair.target.parameters(), teacher.parameters(), strict=True):
        torch.testing.assert_close(average, known + 0.1, atol=1e-6, rtol=1e-5)
    # Once more from a copy: what has begun does not begin again.
    again = Consistency(small(2), DistillConfig(target_decay=0.9))
    again.load_state_dict(pair.state_dict())
    again.advance(teacher)
    assert all(torch.equal(a, b) for a, b in zip(pair.student.parameters(), again.student.parameters(), strict=True))


class Exact(Denoiser):
    """The denoiser of a Gaussian, whose weights nobody asks for."""

    def forward(self, x: Tensor, sigma: Tensor, condition: object) -> Tensor:
        s = sigma if sigma.ndim else sigma.expand(len(x))
        return denoise(x, s)


@pytest.mark.parametrize("method", ["consistency", "trajectory"])
def test_a_student_learns_to_jump(method: str) -> None:
    """One evaluation gives the spread of the data to 15 %; before, it gives the mean alone."""
    torch.manual_seed(3)
    teacher = Exact(Pointwise(2, 0, PointwiseConfig(hidden=(32, 32), time_features=16)), EDM())
    pair = Consistency(teacher, DistillConfig(method=method, levels=8, target_decay=0.9))
    optimiser = torch.optim.Adam(pair.student.parameters(), lr=5e-3)
    generator = torch.Generator().manual_seed(4)
    empty, normal = torch.zeros(250, 0), torch.randn(2000, 2, generator=generator)
    pair.student = Denoiser(pair.student.network, EDM())
    pair.target = Denoiser(pair.target.network, EDM()).requires_grad_(False)

    def made() -> float:
        with torch.no_grad():
            return float(pair(80 * normal, torch.tensor(80.0), torch.zeros(2000, 0)).std())

    before = made()
    for _ in range(150):
        draws = torch.randn(250, 3, generator=generator)
        optimiser.zero_grad()
        if method == "trajectory":
            clean = pair.solved(teacher, empty, draws[:, :2])
            loss = pair.trajectory_loss(teacher, empty, draws[:, :2], clean)
        else:
            loss = pair.loss(teacher, CENTRE + SPREAD * torch.randn(250, 2, generator=generator), empty, draws)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    assert before < 0.5 * SPREAD
    assert made() == pytest.approx(SPREAD, rel=0.15)


def test_levels() -> None:
    for grid in ("angle", "edm"):
        sigmas = DistillConfig(grid=grid).sigmas(EDM())
        assert len(sigmas) == 19
        assert float(sigmas[0]) == 0
        assert float(sigmas[-1]) == pytest.approx(80)
        assert bool((sigmas.diff() > 0).all())


@pytest.mark.parametrize(
    "wrong", [{"levels": 1}, {"target_decay": 1.0}, {"grid": "cubic"}, {"method": "none"}, {"pairs": 0}, {"solver_steps": 0}]
)
def test_wrong_configuration_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ModelError, match="expected"):
        DistillConfig(**wrong)  # type: ignore[arg-type]

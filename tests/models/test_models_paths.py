"""Paths and solvers: order of convergence on a Gaussian, and that the two paths say the same."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from anycalo.models import solvers
from anycalo.models.edm import EDM
from anycalo.models.objectives import flow_matching_loss
from anycalo.models.paths import denoiser_from_velocity, linear_point, velocity_from_denoiser
from anycalo.models.samplers import SAMPLERS, consistency, euler_angle

SPREAD, CENTRE = 0.7, 0.3


def spread_at(t: Tensor | float) -> Tensor:
    """Standard deviation of z_t = (1 - t) x + t e for x ~ N(CENTRE, SPREAD^2)."""
    t = torch.as_tensor(t, dtype=torch.float64)
    return ((1 - t) ** 2 * SPREAD**2 + t**2).sqrt()


def velocity(z: Tensor, t: Tensor) -> Tensor:
    """E[e - x | z_t]: the drift of the mean, and the growth of the spread."""
    growth = (t - (1 - t) * SPREAD**2) / spread_at(t) ** 2
    return -CENTRE + growth * (z - (1 - t) * CENTRE)


def moved(z: Tensor, start: float, stop: float) -> Tensor:
    """The flow keeps the distance to the mean in standard deviations."""
    return (1 - stop) * CENTRE + (z - (1 - start) * CENTRE) * spread_at(stop) / spread_at(start)


def denoise(x: Tensor, sigma: Tensor) -> Tensor:
    return CENTRE + SPREAD**2 / (SPREAD**2 + sigma**2) * (x - CENTRE)


def order_of(solve: Callable[[Tensor, Tensor], Tensor], stop: float) -> float:
    z = torch.linspace(-3, 3, 7, dtype=torch.float64)
    errors = []
    for steps in (16, 32, 64):
        found = solve(z, torch.linspace(1, stop, steps + 1, dtype=torch.float64))
        errors.append(float((found - moved(z, 1.0, stop)).abs().max()))
    return float(np.log2(errors[0] / errors[2]) / 2)


@pytest.mark.parametrize("stop", [0.0, 0.2])
@pytest.mark.parametrize(("solver", "order"), [(solvers.euler, 1), (solvers.heun, 2)])
def test_order_of_convergence_on_the_linear_path(solver: Callable[..., Tensor], order: int, stop: float) -> None:
    measured = order_of(lambda z, times: solver(velocity, z, times), stop)
    assert -0.4 < measured - order < 0.4


def test_a_last_step_of_euler_keeps_the_second_order() -> None:
    measured = order_of(lambda z, times: solvers.heun(velocity, z, times, until_zero=False), 0.0)
    assert -0.4 < measured - 2 < 0.4


def test_order_of_euler_in_the_angle() -> None:
    x = torch.linspace(-3, 3, 7, dtype=torch.float64)
    exact = CENTRE + (x - CENTRE) * math.sqrt((SPREAD**2 + 0.01) / (SPREAD**2 + 4))
    errors = []
    for steps in (16, 32, 64):
        sigmas = torch.linspace(2.0, 0.1, steps + 1, dtype=torch.float64)
        errors.append(float((euler_angle(denoise, x, sigmas, 0.5) - exact).abs().max()))
    assert -0.4 < np.log2(errors[0] / errors[2]) / 2 - 1 < 0.4
    many = SAMPLERS["euler-angle"](denoise, 80 * x, EDM(), 200)
    torch.testing.assert_close(many, CENTRE + (80 * x - CENTRE) * SPREAD / math.sqrt(SPREAD**2 + 80**2), rtol=0, atol=0.03)


def test_one_time_an_example() -> None:
    z = torch.randn(5, 3, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    times, following = torch.rand(5, dtype=torch.float64) / 2 + 0.5, torch.full((5,), 0.25, dtype=torch.float64)

    def slope(z: Tensor, t: Tensor) -> Tensor:
        return z * solvers.along(t, z)

    whole = solvers.heun_step(slope, z, times, following)
    for k in range(5):
        torch.testing.assert_close(whole[k], solvers.heun_step(slope, z[k], times[k], following[k]))


def test_denoiser_and_velocity_say_the_same() -> None:
    t = torch.linspace(0.05, 0.95, 7, dtype=torch.float64)
    z = torch.randn(7, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))

    def batched(z: Tensor, t: Tensor) -> Tensor:
        return velocity(z, t[:, None])

    from_denoiser = velocity_from_denoiser(lambda x, sigma: denoise(x, sigma[:, None]))
    torch.testing.assert_close(from_denoiser(z, t), batched(z, t))
    there_and_back = denoiser_from_velocity(from_denoiser)
    torch.testing.assert_close(there_and_back(z, t), denoise(z, t[:, None]))
    assert not torch.allclose(from_denoiser(z, t), batched(z, t - 0.01), atol=1e-4)


def test_flow_matching_is_least_at_the_velocity() -> None:
    """Its minimum is the variance that is left; 6 standard errors of 200,000 numbers, and a velocity off by 0.05 fails."""
    generator = torch.Generator().manual_seed(2)
    x = CENTRE + SPREAD * torch.randn(200_000, 1, generator=generator, dtype=torch.float64)
    e, t = torch.randn(200_000, 1, generator=generator, dtype=torch.float64), torch.full((200_000,), 0.4, dtype=torch.float64)
    left = SPREAD**2 / float(spread_at(0.4)) ** 2  # variance of e - x given z_t
    found = flow_matching_loss(lambda z, t: velocity(z, t[:, None]), x, e, t)
    assert abs(float(found) - left) < 6 * left * math.sqrt(2 / 200_000)
    off = flow_matching_loss(lambda z, t: velocity(z, t[:, None]) + 0.2, x, e, t)
    assert abs(float(off) - left) > 6 * left * math.sqrt(2 / 200_000)


def test_padding_has_no_influence() -> None:
    generator = torch.Generator().manual_seed(3)
    x, e = torch.randn(4, 6, 2, generator=generator), torch.randn(4, 6, 2, generator=generator)
    t, mask = torch.rand(4, generator=generator), torch.ones(4, 6, 1)
    mask[1, 2:] = mask[3, 4:] = 0
    weight = torch.tensor(0.3, requires_grad=True)

    def loss(x: Tensor, e: Tensor) -> Tensor:
        return flow_matching_loss(lambda z, t: weight * z, x, e, t, mask=mask)

    first = loss(x, e)
    (gradient,) = torch.autograd.grad(first, weight)
    x2, e2 = x.clone(), e.clone()
    x2[1, 2:], e2[3, 4:] = 1e6, -1e6
    second = loss(x2, e2)
    torch.testing.assert_close(second, first)
    torch.testing.assert_close(torch.autograd.grad(second, weight)[0], gradient)
    x2[0, 0] = 5.0
    assert float(loss(x2, e2).detach()) != float(first.detach())


def test_multistep_consistency_sampling_keeps_the_distribution() -> None:
    """With the exact jump of a Gaussian, one and three evaluations give its mean and spread; 5 standard errors."""

    def jump(x: Tensor, sigma: Tensor) -> Tensor:
        return CENTRE + (x - CENTRE) * SPREAD / (SPREAD**2 + sigma**2).sqrt()

    n = 40_000
    for steps in (1, 3):
        normal = torch.randn(steps, n, 1, generator=torch.Generator().manual_seed(steps))
        made = consistency(jump, normal[0] * 80 + CENTRE, EDM().angle_steps(steps), normal[1:])
        assert float(made.mean()) == pytest.approx(CENTRE, abs=5 * SPREAD / math.sqrt(n))
        assert float(made.std()) == pytest.approx(SPREAD, rel=5 / math.sqrt(2 * n))


def test_ends_of_the_linear_path() -> None:
    x, e = torch.randn(3, 2), torch.randn(3, 2)
    torch.testing.assert_close(linear_point(x, e, torch.zeros(3)), x)
    torch.testing.assert_close(linear_point(x, e, torch.ones(3)), e)

"""Samplers: from pure noise to data in n steps.

`euler` and `heun` solve dx/dsigma = (x - D(x; sigma)) / sigma as EDM does (arXiv 2206.00364, Algorithm 1 without its
churn). `euler_angle` and `heun_angle` solve the same equation in the variables

    theta = arctan(sigma / sigma_data),  y = x / sqrt(sigma_data^2 + sigma^2),  dy/dtheta = -F,

where F is the network inside an EDM denoiser (the angle of TrigFlow, arXiv 2410.11081). Data whose spread is
sigma_data have F = 0, so that it has no error there, while `heun` over EDM's levels widens them by 12 % with 13 steps.
`consistency` and `mean_flow` serve networks trained to jump all the way at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise
from types import MappingProxyType

import torch
from torch import Tensor

from anycalo.models import solvers
from anycalo.models.edm import EDM
from anycalo.models.paths import angle_slope, edm_slope, from_angle, to_angle
from anycalo.models.solvers import Slope, along

Denoise = Slope
Average = Callable[[Tensor, Tensor, Tensor], Tensor]
"""u(z, r, t): the mean velocity from time r to t of the linear path, for z at t."""


def euler(denoise: Denoise, x: Tensor, sigmas: Tensor) -> Tensor:
    """First order: one evaluation a step. With one step from sigma_max to 0 it returns D(x; sigma_max).

    Args:
        denoise: D(x, sigma), sigma a scalar tensor.
        x: data at noise level sigmas[0], (P, F).
        sigmas: falling noise levels, (S + 1,); the last may be 0.
    """
    return solvers.euler(edm_slope(denoise), x, sigmas)


def heun(denoise: Denoise, x: Tensor, sigmas: Tensor) -> Tensor:
    """Second order: two evaluations a step, one for a step that ends at 0. Arguments as for `euler`."""
    return solvers.heun(edm_slope(denoise), x, sigmas, until_zero=False)


def euler_angle(denoise: Denoise, x: Tensor, sigmas: Tensor, sigma_data: float) -> Tensor:
    """First order in the angle: one evaluation a step. Arguments as for `euler`."""
    y, _ = to_angle(x, sigmas[0], sigma_data)
    angles = torch.atan(sigmas.double() / sigma_data)
    return from_angle(solvers.euler(angle_slope(denoise, sigma_data), y, angles), angles[-1], sigma_data)


def heun_angle(denoise: Denoise, x: Tensor, sigmas: Tensor, sigma_data: float) -> Tensor:
    """Second order in the angle: two evaluations a step, one for a step that ends at 0. Arguments as for `euler`."""
    y, _ = to_angle(x, sigmas[0], sigma_data)
    angles = torch.atan(sigmas.double() / sigma_data)
    y = solvers.heun(angle_slope(denoise, sigma_data), y, angles, until_zero=False)
    return from_angle(y, angles[-1], sigma_data)


def consistency(jump: Denoise, x: Tensor, sigmas: Tensor, fresh: Tensor) -> Tensor:
    """Multistep consistency sampling (arXiv 2303.01469, Algorithm 1): jump to data, add noise again, jump.

    Args:
        jump: f(x, sigma), data from any noise level.
        x: at noise level sigmas[0], (P, F).
        sigmas: falling noise levels, (S + 1,), of which the last, where data are, is not used; one evaluation each.
        fresh: standard normal numbers, (S - 1, P, F).
    """
    x = jump(x, sigmas[0].to(x))
    for sigma, normal in zip(sigmas[1:-1], fresh, strict=True):
        x = jump(x + sigma.to(x) * normal, sigma.to(x))
    return x


def mean_flow(average: Average, z: Tensor, times: Tensor) -> Tensor:
    """z_r = z_t - (t - r) u(z_t, r, t) (arXiv 2505.13447, equation 12): one evaluation a step.

    Args:
        average: u(z, r, t).
        z: at times[0], (P, F).
        times: falling from 1 to 0, (S + 1,).
    """
    for t, r in pairwise(times):
        z = z - along(t - r, z) * average(z, r.to(z), t.to(z))
    return z


def _edm_euler(denoise: Denoise, x: Tensor, schedule: EDM, n: int) -> Tensor:
    return euler(denoise, x, schedule.steps(n))


def _edm_heun(denoise: Denoise, x: Tensor, schedule: EDM, n: int) -> Tensor:
    return heun(denoise, x, schedule.steps(n))


def _euler_angle(denoise: Denoise, x: Tensor, schedule: EDM, n: int) -> Tensor:
    return euler_angle(denoise, x, schedule.angle_steps(n), schedule.sigma_data)


def _heun_angle(denoise: Denoise, x: Tensor, schedule: EDM, n: int) -> Tensor:
    return heun_angle(denoise, x, schedule.angle_steps(n), schedule.sigma_data)


Sampler = Callable[[Denoise, Tensor, EDM, int], Tensor]
SAMPLERS: Mapping[str, Sampler] = MappingProxyType(
    {"euler": _edm_euler, "heun": _edm_heun, "euler-angle": _euler_angle, "heun-angle": _heun_angle}
)
"""Samplers of a denoiser by name: from x at sigma_max to data in n steps of the schedule that suits the sampler."""

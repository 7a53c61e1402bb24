"""Objectives: what training minimises, as functions of networks and a batch.

The networks are callables of a state and its times; condition, attention mask and the like are bound into them
(`functools.partial`). States are (B, ...): points one by one, or whole sets of layers. Where a batch is padded, `mask`
(broadcast over the state) says what counts, and what does not has no influence on value or gradient.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable

import torch
from torch import Tensor

from anycalo.models.edm import Denoiser
from anycalo.models.paths import linear_point
from anycalo.models.samplers import Average
from anycalo.models.solvers import Slope, along


def edm_loss(denoiser: Denoiser, x: Tensor, condition: Tensor, normal: Tensor) -> Tensor:
    """Denoising score matching, weighted as in EDM (arXiv 2206.00364, equation 2 and Table 1); the batch mean.

    Args:
        denoiser: D(x; sigma).
        x: clean data, (P, F).
        condition: (P, C).
        normal: standard normal numbers, (P, F + 1): the noise, and what ln sigma is made of.
    """
    sigma = denoiser.schedule.training_sigma(normal[:, -1])
    clean = denoiser(x + sigma[:, None] * normal[:, :-1], sigma, condition)
    loss: Tensor = (denoiser.schedule.loss_weight(sigma)[:, None] * (clean - x) ** 2).mean()
    return loss


def flow_matching_loss(velocity: Slope, x: Tensor, e: Tensor, t: Tensor, *, mask: Tensor | None = None) -> Tensor:
    """|v(z_t, t) - (e - x)|^2 on the linear path (arXiv 2210.02747); the mean over what counts.

    Args:
        velocity: v(z, t).
        x: data, (B, ...).
        e: noise, or whatever the flow starts from, as x.
        t: times, (B,).
        mask: 1 where an element counts and 0 where not, broadcast to x.
    """
    return _mean(squares(velocity(linear_point(x, e, t), t), e - x, mask), mask)


def consistency_loss(
    student: Slope,
    target: Slope,
    step: Callable[[Tensor, Tensor, Tensor], Tensor],
    noisy: Tensor,
    time: Tensor,
    following: Tensor,
    *,
    mask: Tensor | None = None,
) -> Tensor:
    """Consistency distillation with the l2 metric (arXiv 2303.01469, Algorithm 2) |f(x_t, t) - f^-(x_s, s)|^2, on any path.

    Args:
        student: f(x, t), data from a state at any time; the identity at time 0.
        target: f^-, an average of earlier students; receives no gradient.
        step: the state at `following` from the one at `time`, by one step of a solver along the teacher.
        noisy: states at `time`, (B, ...).
        time: (B,).
        following: nearer to data, (B,); where 0, the step has arrived, and `target` is not asked.
        mask: as for `flow_matching_loss`.
    """
    with torch.no_grad():
        stepped = step(noisy, time, following)
        arrived = following <= 0
        # Any time will do where the answer is not used; 0 need not be in the network's domain.
        aim = torch.where(along(arrived, stepped).bool(), stepped, target(stepped, torch.where(arrived, time, following)))
    return _mean(squares(student(noisy, time), aim, mask), mask)


def mean_flow_loss(
    average: Average,
    z: Tensor,
    v: Tensor,
    r: Tensor,
    t: Tensor,
    *,
    tangent: Tensor | None = None,
    power: float = 0.0,
    floor: float = 1e-3,
    mask: Tensor | None = None,
) -> Tensor:
    """MeanFlow (arXiv 2505.13447): u(z_t, r, t) is pulled to v - (t - r) du/dt, with du/dt = v . grad_z u + d_t u held fixed.

    Adding (t - r) du/dt on both sides, this is the regression of the velocity u + (t - r) du/dt on v. The improved form
    (arXiv 2512.02012) differs in the `tangent` alone: e - x is a noisy stand-in for the velocity along which u is
    differentiated, and u(z, t, t), or a teacher's velocity, is one without noise.

    Args:
        average: u(z, r, t); traversed by forward-mode differentiation (`torch.func.jvp`).
        z: states at t, (B, ...).
        v: velocities to regress on: e - x, or a teacher's at (z, t).
        r: times to go to, (B,), at most t.
        t: times, (B,).
        tangent: the velocity in du/dt; v by default.
        power: p of the weight (|error|^2 + floor)^-p of each example; 0 for none, 1 as in the first paper.
        floor: see `power`.
        mask: as for `flow_matching_loss`.
    """
    along_flow = (v if tangent is None else tangent).detach()
    inputs, directions = (z, r, t), (along_flow, torch.zeros_like(r), torch.ones_like(t))
    with warnings.catch_warnings():
        # Forward mode compiles its own helpers when first used, by a function that torch itself has deprecated.
        warnings.filterwarnings("ignore", message=".*torch.jit.script", category=DeprecationWarning)
        u, change = torch.func.jvp(average, inputs, directions)[:2]
    error = squares(u, v - along(t - r, z) * change.detach(), mask)
    if power:
        size = error.detach().flatten(1).sum(1)
        error = error * along((size + floor) ** -power, z)
    return _mean(error, mask)


def squares(found: Tensor, wanted: Tensor, mask: Tensor | None) -> Tensor:
    """(found - wanted)^2, and 0, whatever stands there, where the mask is 0."""
    if mask is None:
        return (found - wanted) ** 2
    seen = mask.bool().expand_as(found)
    return torch.where(seen, found - torch.where(seen, wanted, torch.zeros_like(wanted)), torch.zeros_like(found)) ** 2


def _mean(values: Tensor, mask: Tensor | None) -> Tensor:
    return values.mean() if mask is None else values.sum() / mask.expand_as(values).sum().clamp_min(1)

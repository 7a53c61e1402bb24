"""Solvers of dz/dt = slope(z, t) from one time to the next, for any path and any network.

Both take a `Slope` and the times to walk through, and know nothing of schedules, conditions or masks: these are
bound into the slope.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

from torch import Tensor

Slope = Callable[[Tensor, Tensor], Tensor]
"""dz/dt at z (B, ...) and a time, a scalar tensor or one for each of the B."""


def along(values: Tensor, z: Tensor) -> Tensor:
    """Values (B,) or () in the precision of z (B, ...), shaped so that they multiply it example by example."""
    values = values.to(z)
    return values.reshape(-1, *(1,) * (z.ndim - 1)) if values.ndim else values


def euler_step(slope: Slope, z: Tensor, time: Tensor, following: Tensor) -> Tensor:
    """One step of first order: one evaluation."""
    return z + along(following - time, z) * slope(z, time)


def heun_step(slope: Slope, z: Tensor, time: Tensor, following: Tensor) -> Tensor:
    """One step of second order: two evaluations."""
    step, first = along(following - time, z), slope(z, time)
    return z + step * (first + slope(z + step * first, following)) / 2


def euler(slope: Slope, z: Tensor, times: Tensor) -> Tensor:
    """First order.

    Args:
        slope: dz/dt.
        z: at times[0], (B, ...).
        times: (S + 1,), falling or rising.

    Returns:
        z at times[-1], after S evaluations.
    """
    for time, following in pairwise(times):
        z = euler_step(slope, z, time, following)
    return z


def heun(slope: Slope, z: Tensor, times: Tensor, *, until_zero: bool = True) -> Tensor:
    """Second order.

    Args:
        slope: dz/dt.
        z: at times[0], (B, ...).
        times: (S + 1,), falling or rising.
        until_zero: whether the slope is known at time 0. Where it is not, a step that ends there is one of Euler's, which
            leaves the order as it is: the error of a single step is of second order.

    Returns:
        z at times[-1], after 2 S evaluations, or 2 S - 1.
    """
    for time, following in pairwise(times):
        exact = until_zero or bool(following > 0)
        z = (heun_step if exact else euler_step)(slope, z, time, following)
    return z

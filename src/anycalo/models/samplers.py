"""Samplers: numerical solutions of the probability-flow equation dx/dsigma = (x - D(x; sigma)) / sigma.

Each takes any denoiser D(x, sigma) and the noise levels to walk down (arXiv 2206.00364, Algorithm 1
without its churn).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise
from types import MappingProxyType

from torch import Tensor

Denoise = Callable[[Tensor, Tensor], Tensor]
Sampler = Callable[[Denoise, Tensor, Tensor], Tensor]


def euler(denoise: Denoise, x: Tensor, sigmas: Tensor) -> Tensor:
    """First order: one evaluation a step. With one step from sigma_max to 0 it returns D(x; sigma_max).

    Args:
        denoise: D(x, sigma), sigma a scalar tensor.
        x: data at noise level sigmas[0], (P, F).
        sigmas: falling noise levels, (S + 1,); the last may be 0.
    """
    for sigma, following in pairwise(sigmas):
        slope = (x - denoise(x, sigma.to(x))) / sigma.to(x)
        x = x + (following - sigma).to(x) * slope
    return x


def heun(denoise: Denoise, x: Tensor, sigmas: Tensor) -> Tensor:
    """Second order: two evaluations a step, one for a step that ends at 0. Arguments as for `euler`."""
    for sigma, following in pairwise(sigmas):
        slope = (x - denoise(x, sigma.to(x))) / sigma.to(x)
        ahead = x + (following - sigma).to(x) * slope
        if following > 0:
            slope_ahead = (ahead - denoise(ahead, following.to(x))) / following.to(x)
            ahead = x + (following - sigma).to(x) * (slope + slope_ahead) / 2
        x = ahead
    return x


SAMPLERS: Mapping[str, Sampler] = MappingProxyType({"euler": euler, "heun": heun})

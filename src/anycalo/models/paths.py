"""Paths between data and noise, and how what is learnt on one serves on another.

Two paths lead from data x at time 0 to noise e:

    EDM (arXiv 2206.00364)                           x_s = x + s e,           time s = sigma, from 0 to sigma_max
    linear, flow matching (arXiv 2210.02747)         z_t = (1 - t) x + t e,   time t from 0 to 1, velocity v = e - x

They are one process in two scales: z_t / (1 - t) is x_s at s = t / (1 - t). A denoiser D(x; s) = E[x | x_s] and a velocity
v(z, t) = E[e - x | z_t] therefore say the same, v = (z - D(z / (1 - t); t / (1 - t))) / t, and a teacher of either kind can
be distilled by either kind of objective. The angle arctan(s / sigma_data) is a third time on the same path (arXiv 2410.11081).
"""

from __future__ import annotations

import torch
from torch import Tensor

from anycalo.models.solvers import Slope, along


def linear_point(x: Tensor, e: Tensor, t: Tensor) -> Tensor:
    """z_t = (1 - t) x + t e, for x, e (B, ...) and t (B,) or ()."""
    t = along(t, x)
    return (1 - t) * x + t * e


def edm_slope(denoise: Slope) -> Slope:
    """dx/dsigma = (x - D(x; sigma)) / sigma, the probability flow of the EDM path; unknown at 0."""

    def slope(x: Tensor, sigma: Tensor) -> Tensor:
        return (x - denoise(x, sigma.to(x))) / along(sigma, x)

    return slope


def angle_slope(denoise: Slope, sigma_data: float) -> Slope:
    """dy/dtheta of y = x / sqrt(sigma_data^2 + sigma^2) in theta = arctan(sigma / sigma_data); unknown at 0.

    It is -F, where F is the network inside an EDM denoiser.
    """

    def slope(y: Tensor, angle: Tensor) -> Tensor:
        cos, sin = torch.cos(angle.double()), torch.sin(angle.double())
        clean = denoise(y * along(sigma_data / cos, y), (sigma_data * sin / cos).to(y))
        return (along(sigma_data * cos, y) * y - clean) / along(sigma_data * sin, y)

    return slope


def to_angle(x: Tensor, sigma: Tensor, sigma_data: float) -> tuple[Tensor, Tensor]:
    """State y and angle theta of x at noise level sigma, (B,) or ()."""
    return x / along((sigma_data**2 + sigma.double() ** 2).sqrt(), x), torch.atan(sigma.double() / sigma_data)


def from_angle(y: Tensor, angle: Tensor, sigma_data: float) -> Tensor:
    """State x of y at theta, (B,) or ()."""
    return y * along(sigma_data / torch.cos(angle.double()), y)


def velocity_from_denoiser(denoise: Slope, *, smallest: float = 1e-4) -> Slope:
    """The velocity of the linear path from an EDM denoiser, for times from 0 to below 1.

    Args:
        denoise: D(x, sigma).
        smallest: times below this are taken for it, since the two terms of z - D cancel there.
    """

    def velocity(z: Tensor, t: Tensor) -> Tensor:
        t = t.to(z).clamp(smallest, 1 - 1e-6)
        return (z - denoise(z / along(1 - t, z), t / (1 - t))) / along(t, z)

    return velocity


def denoiser_from_velocity(velocity: Slope) -> Slope:
    """An EDM denoiser from a velocity of the linear path: D(x; s) = z - t v(z, t) at t = s / (1 + s), z = x / (1 + s)."""

    def denoise(x: Tensor, sigma: Tensor) -> Tensor:
        sigma = sigma.to(x)
        z, t = x / along(1 + sigma, x), sigma / (1 + sigma)
        return z - along(t, z) * velocity(z, t)

    return denoise

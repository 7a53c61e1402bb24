"""The EDM schedule and the preconditioned denoiser of Karras et al. (arXiv 2206.00364)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from anycalo.errors import ModelError
from anycalo.models.pointwise import Condition


@dataclass(frozen=True, kw_only=True)
class EDM:
    """The variance-exploding schedule x = x_0 + sigma * noise with EDM's weights and steps (Table 1, column "Ours").

    Args:
        sigma_data: standard deviation of the (scaled) data.
        p_mean, p_std: of ln sigma in training.
        sigma_min, sigma_max: noise levels between which the sampler walks.
        rho: how strongly the sampler's steps crowd at small noise.
    """

    sigma_data: float = 0.5
    p_mean: float = -1.2
    p_std: float = 1.2
    sigma_min: float = 0.002
    sigma_max: float = 80.0
    rho: float = 7.0

    def __post_init__(self) -> None:
        for name in ("sigma_data", "p_std", "sigma_min", "rho"):
            if not getattr(self, name) > 0:
                raise ModelError(f"{name} is {getattr(self, name)!r}; expected a number above 0")
        if not self.sigma_min < self.sigma_max:
            raise ModelError(f"sigma_max is {self.sigma_max!r}; expected more than sigma_min = {self.sigma_min!r}")

    def training_sigma(self, normal: Tensor) -> Tensor:
        """Noise levels from standard normal numbers: ln sigma ~ N(p_mean, p_std^2)."""
        return torch.exp(self.p_mean + self.p_std * normal)

    def loss_weight(self, sigma: Tensor) -> Tensor:
        """lambda(sigma) = (sigma^2 + sigma_data^2) / (sigma sigma_data)^2: a unit loss at every level at the start."""
        return (sigma**2 + self.sigma_data**2) / (sigma * self.sigma_data) ** 2

    def steps(self, n: int) -> Tensor:
        """N + 1 noise levels from sigma_max to sigma_min and then 0 (equation 5), float64.

        Raises:
            ModelError: if n is below 1.
        """
        if n < 1:
            raise ModelError(f"{n} sampler steps asked for; expected at least 1")
        if n == 1:
            return torch.tensor([self.sigma_max, 0.0], dtype=torch.float64)
        low, high = self.sigma_min ** (1 / self.rho), self.sigma_max ** (1 / self.rho)
        ramp = torch.arange(n, dtype=torch.float64) / (n - 1)
        return torch.cat([(high + ramp * (low - high)) ** self.rho, torch.zeros(1, dtype=torch.float64)])

    def angle_steps(self, n: int) -> Tensor:
        """N + 1 noise levels from sigma_max to 0 at angles arctan(sigma / sigma_data) that fall as a square, float64.

        Raises:
            ModelError: if n is below 1.
        """
        if n < 1:
            raise ModelError(f"{n} sampler steps asked for; expected at least 1")
        largest = math.atan(self.sigma_max / self.sigma_data)
        angles = largest * (1 - torch.arange(n + 1, dtype=torch.float64) / n) ** 2
        return self.sigma_data * torch.tan(angles)


class Denoiser(nn.Module):
    """D(x; sigma) = c_skip x + c_out F(c_in x; c_noise): a network F preconditioned as in EDM, equation 7.

    Args:
        network: F(x, time, condition), any module that maps (..., F), (...,) or (), (..., C) to (..., F).
        schedule: the noise schedule.
    """

    def __init__(self, network: nn.Module, schedule: EDM) -> None:
        super().__init__()
        self.network = network
        self.schedule = schedule

    def forward(self, x: Tensor, sigma: Tensor, condition: Condition) -> Tensor:
        """The expected clean data given noisy data.

        Args:
            x: noisy data, (P, F).
            sigma: noise level, (P,), or a scalar for all.
            condition: (P, C), or whatever the network takes for it.
        """
        data = self.schedule.sigma_data
        total = sigma**2 + data**2
        c_skip, c_out, c_in, c_noise = data**2 / total, sigma * data / total.sqrt(), 1 / total.sqrt(), sigma.log() / 4
        if sigma.ndim:
            c_skip, c_out, c_in = c_skip[..., None], c_out[..., None], c_in[..., None]
        out: Tensor = c_skip * x + c_out * self.network(c_in * x, c_noise, condition)
        return out

"""The longitudinal profile that simple physics expects: a gamma distribution in depth (Longo and Sestili; b = 0.5)."""

from __future__ import annotations

import torch
from torch import Tensor

B = 0.5
"""Of the gamma distribution, per radiation length."""
EARLIEST = 0.5
"""Maxima before this depth [X0] count as here."""


def gamma_cdf(t: Tensor, t_max: Tensor) -> Tensor:
    """Share of a shower's energy lost before depth t [X0], for its maximum at t_max; broadcast."""
    share: Tensor = torch.special.gammainc(B * t_max.clamp_min(EARLIEST) + 1, B * t.clamp_min(0))
    return share


def gamma_share(front: Tensor, back: Tensor, t_max: Tensor) -> Tensor:
    """Share of a shower's energy lost between two depths [X0]; in float64, for behind the shower both are nearly all."""
    front, back, t_max = front.double(), back.double(), t_max.double()
    return (gamma_cdf(back, t_max) - gamma_cdf(front, t_max)).float()


def log(x: Tensor, low: float = 1e-4) -> Tensor:
    """The natural logarithm of what is at least `low`."""
    return x.clamp_min(low).log()

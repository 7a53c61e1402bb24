"""Functions that take tensors and NumPy arrays alike, for what training and generation both compute."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from scipy import special
from torch import Tensor

_B = 0.5


def gamma_cdf(t: Any, t_max: Any) -> Any:
    """Share of a shower's energy lost before depth t [X0], for its maximum at t_max; broadcast."""
    gammainc = torch.special.gammainc if isinstance(t, Tensor) else special.gammainc
    return gammainc(_B * at_least(t_max, 0.5) + 1, _B * at_least(t, 0.0))


def gamma_share(front: Any, back: Any, t_max: Any) -> Any:
    """Share of a shower's energy lost between two depths [X0]; in float64, for behind the shower both are nearly all."""
    front, back, t_max = (x.double() if isinstance(x, Tensor) else x.astype(np.float64) for x in (front, back, t_max))
    share = gamma_cdf(back, t_max) - gamma_cdf(front, t_max)
    return share.float() if isinstance(share, Tensor) else share.astype(np.float32)


def at_least(x: Any, low: float) -> Any:
    """What is below a number put there."""
    return x.clamp_min(low) if isinstance(x, Tensor) else np.maximum(x, low)


def log(x: Any, low: float = 1e-4) -> Any:
    """The natural logarithm of what is at least `low`."""
    return namespace(x).log(at_least(x, low))


def namespace(x: Any) -> Any:
    """The module whose functions take x."""
    return torch if isinstance(x, Tensor) else np

"""Objectives: what training minimises, as functions of a network and a batch."""

from __future__ import annotations

from torch import Tensor

from anycalo.models.edm import Denoiser


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

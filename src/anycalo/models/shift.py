"""The totals of a model moved to those of a few showers of one detector: seven numbers, each as far as it can be known.

What a model of many detectors gets wrong in one that it has not seen is first of all the means of its totals. From n showers
of the detector the mean difference d of a quantity from what the model expects is known to an error s, and from detectors
that the model was not trained on its size is known, tau (`SCATTER`). The expectation of the true difference given both is

    d tau^2 / (tau^2 + s^2)

(normal distributions; Robbins' empirical Bayes), which is nearer to it on average than either d or nothing. Where d is within
two errors, nothing is moved: what is right would be lost to the chance of few showers. Means over showers are weighted by
what the model says of the spread of each.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from anycalo.models.anycalo_data import Prepared
from anycalo.models.stage import Solved

if TYPE_CHECKING:
    from anycalo.models.anycalo import AnyCalo

SURE = 2.0
"""Errors by which a mean must be off to be moved."""
SCATTER = (0.015, 0.02, 0.0, 0.02, 0.026, 0.03, 0.015)
"""Root mean square over the 120 detectors of `zoo-unseen` of the mean differences, without the noise of their 12 showers each.

Of `totals.QUANTITIES`, in their units; the centre in x is 0 by symmetry.
"""


@torch.no_grad()
def differences(model: AnyCalo, data: Prepared) -> tuple[Tensor, Tensor]:
    """Mean difference of the totals of the training showers from the model's expectation, and its error, (7,) each."""
    known = slice(0, data.showers)
    told, totals = data.told[known], data.totals[known]
    mean, variance = model.totals.moments(told)
    difference, weight = (totals - mean).double(), 1 / variance.double()
    found = (weight * difference).sum(0) / weight.sum(0)
    error = ((weight * (difference - found)) ** 2).sum(0).sqrt() / weight.sum(0)
    return found, error


@torch.no_grad()
def shift_totals(model: AnyCalo, data: Prepared) -> Solved:
    """Move the model's totals; see the module's text.

    Returns:
        Sum over the quantities of squares of the mean differences over their errors, before and after.
    """
    found, error = differences(model, data)
    scatter = torch.tensor(SCATTER, dtype=torch.float64)
    move = torch.where(found.abs() > SURE * error, found * scatter**2 / (scatter**2 + error**2), 0.0)
    model.totals.move(move.float())
    before, after = (float((left / error).square().sum()) for left in (found, found - move))
    return Solved(before, after, len(move))

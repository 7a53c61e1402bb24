"""The last stage of the `caloclouds` family: as many points as hit the right number of cells.

Deposits are joined before points are learnt, and points are drawn independently of each other: cells see fewer of them than
of Geant4's deposits, or more. So points are drawn in the very layers of given showers, whose numbers of points are raised by a
factor

    ln f = c_0 + c_1 ln E       (E scaled as in `layer_features`)

until as many cells are above threshold, shower by shower, as in the given ones. Energies of layers and of showers stay.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from anycalo.models.noise import Noise
from anycalo.models.stage import Solved, Stage
from anycalo.readout import View, read_out
from anycalo.showers import Showers

if TYPE_CHECKING:
    from anycalo.models.caloclouds import CaloClouds

MOST_SHOWERS = 60
_ROUNDS = 3
_OWN_SPREAD = 0.05
"""Of the logarithm of a shower's number of cells, given its layers, beside the chance of each cell."""
_SLOPE = 0.1
"""How large c_1 may well be."""
FARTHEST = 0.2
"""Of either constant: what more is missing is not for want of points."""


class GivenLayers:
    """Layers of B of the given showers, and how many cells these hit.

    Args:
        showers: given, as they were before deposits were joined.
        flow: the stage whose examples are the layers of these showers.
        chosen: which of them, (B,).
    """

    def __init__(self, showers: Showers, flow: Stage, chosen: np.ndarray) -> None:
        used = showers[chosen]
        self.detector, self.incident, self.cells = used.detector, used.incident, _cells(used)
        self.n, self.e, _, self.basis, self.extras, _ = flow.batch(torch.from_numpy(chosen))

    def drawn(self, model: CaloClouds, *, seed: int) -> Showers:
        """These layers with the model's points, `LayerFeatures.more_points` of them."""
        generator = torch.Generator().manual_seed(seed)
        level = torch.rand(self.n.shape, generator=generator)
        n = (self.n * model.features.log_more(self.basis).exp()[:, None] + level).floor()
        n = torch.where(self.n > 0, n.clamp_min(1), torch.zeros_like(n))
        return model.in_layers(self.detector, self.incident, n, self.e, self.extras, Noise(seed, range(len(n))))

    def missing(self, model: CaloClouds, *, seed: int) -> Tensor:
        """Ln of given over drawn numbers of cells, (B,)."""
        drawn = _cells(self.drawn(model, seed=seed))
        return torch.from_numpy(np.log(np.maximum(self.cells, 0.5) / np.maximum(drawn, 0.5)))


@torch.no_grad()
def points_for_cells(model: CaloClouds, showers: Showers, flow: Stage, *, seed: int) -> Solved:
    """Set `LayerFeatures.more_points`; see the module's text.

    Args:
        model: whose networks are trained.
        showers: given, of which `MOST_SHOWERS` with visible energy are used.
        flow: see `GivenLayers`.
        seed: of which, and of the points.

    Returns:
        Mean square of ln of given over drawn numbers of cells, in terms of its variance, before and after; the constants are
        buffers, and no parameters.
    """
    chosen = np.random.default_rng([seed, 0xCE11]).permutation(np.flatnonzero(showers.visible_mev() > 0))[:MOST_SHOWERS]
    given, more = GivenLayers(showers, flow, np.sort(chosen)), model.features.more_points
    weight = torch.from_numpy(1 / (2 / np.maximum(given.cells, 1) + _OWN_SPREAD**2))
    powers = given.basis[:, : len(more)].double()
    prior = torch.diag(torch.tensor([0.0, _SLOPE**-2], dtype=torch.float64))
    start, missing = more.clone(), given.missing(model, seed=seed)
    first = float((weight * missing**2).mean())
    best, last = start, first
    for _ in range(_ROUNDS):
        pull = powers.T @ (weight * missing) - prior @ (more - start).double()
        more += torch.linalg.solve(powers.T @ (weight[:, None] * powers) + prior, pull).float()
        more.clamp_(-FARTHEST, FARTHEST)
        missing = given.missing(model, seed=seed)
        found = float((weight * missing**2).mean())
        if found < last:
            best, last = more.clone(), found
    more.copy_(best)
    return Solved(first, last, 0)


def _cells(showers: Showers) -> np.ndarray:
    """Cells above threshold of each shower, (B,)."""
    return np.asarray(View(read_out(showers), showers.incident).hits, dtype=np.float64)

"""The last stage of the `anycalo` family: clusters as tight, and energies as spread, as cells see them.

A likelihood says how well every single distance between points is known. What an experiment sees is how many points share a
cell, and a copula of a few kinds of pairs that is likeliest need not give that. So the constants of `clusters` and
`surroundings` (the biases of their heads) are fitted once more, to cells: points are drawn in the totals and layers of given
showers (`forced`), always with the same random numbers, and numbers of cells are compared,

    in steps of a quarter of a decade of energy in MIPs,  in rings about the shower axis,  and in all,

each over what it can be known to: its statistical error, and 3 % of itself and 0.3 % of all cells, or 0.5 % for all.
Levenberg and Marquardt's method with numerical derivatives minimises their squares plus those of the changes over `PRIOR`.
This is the method of simulated moments (McFadden, Econometrica 57 (1989) 995).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from anycalo.geometry.derived import moliere_radius_mm
from anycalo.models.forced import Forced
from anycalo.models.grouping import with_cells
from anycalo.models.stage import Solved
from anycalo.models.universal import CELLS_MM
from anycalo.readout import View, read_out
from anycalo.showers import Showers

if TYPE_CHECKING:
    from anycalo.models.anycalo import AnyCalo

DECADES = np.arange(-2.5, 3.51, 0.25)
RINGS_RM = np.array([0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0])
RELATIVE, OF_ALL, TOTAL = 0.03, 0.003, 0.005
PRIOR = 1.0
"""How far a constant may well be from where it was."""
OF_ENERGIES = 0.3
"""A change of a constant of the energies over that of one of the clusters."""
STEP, FARTHEST = 0.4, 0.8
"""Of the derivatives, and of an iteration in each constant."""
DRAWN = 300
"""Showers drawn for one comparison, over all detectors, where fewer are given."""
MOST_SHOWERS, MOST_DETECTORS, OF_EACH = 200, 200, 8
"""Showers of one detector; or of many detectors so many, and showers of each of them."""
ITERATIONS, DAMPING, TRIALS = 4, 0.02, 5
"""At most; Levenberg and Marquardt's damping, at first; how often it is raised before the search ends."""


def numbers_of_cells(showers: Showers) -> np.ndarray:
    """By energy, by ring, and in all, of each shower: (B, 37)."""
    view = View(read_out(showers), showers.incident)
    decade = np.searchsorted(DECADES, np.log10(np.maximum(view.mips, 1e-9)), side="right")
    ring = np.searchsorted(RINGS_RM, view.r_mm / moliere_radius_mm(showers.detector), side="right")
    by_energy, by_ring = view.histogram(decade, len(DECADES) + 1), view.histogram(ring, len(RINGS_RM) + 1)
    return np.concatenate([by_energy, by_ring, view.hits[:, None]], axis=1)


class Seen:
    """Given showers of one detector, and the numbers of their cells.

    Args:
        model: as for `Forced`.
        showers: the same; few are drawn several times.
        seed: the same.
        drawn: see `DRAWN`.
    """

    def __init__(self, model: AnyCalo, showers: Showers, *, seed: int, drawn: int = DRAWN) -> None:
        copies = Showers.concatenate([showers] * max(1, drawn // len(showers)))
        self.forced = Forced(model, copies, seed=seed)
        self.mean = numbers_of_cells(showers).mean(axis=0)
        whole = self.mean[-1]
        # Cells of both samples scatter about as independent ones would.
        chance = 2 * self.mean / len(showers)
        self.error = np.sqrt(chance + (RELATIVE * self.mean) ** 2 + (OF_ALL * whole) ** 2 + 1e-6)
        self.error[-1] = np.sqrt(chance[-1] + (TOTAL * whole) ** 2 + 1e-6)

    def residuals(self, model: AnyCalo) -> np.ndarray:
        """Model less given, over the errors."""
        return np.asarray((numbers_of_cells(self.forced.showers(model)).mean(axis=0) - self.mean) / self.error)


@torch.no_grad()
def fit_to_cells(model: AnyCalo, batches: Sequence[Showers], *, seed: int) -> Solved:
    """Change the constants of the model's clusters and energies; see the module's text.

    All kinds of children within a layer share one change of every constant, and so do those of the layer before: 16 numbers.
    Every constant of the energies has its own: 3 for each distribution in the mixture.

    Args:
        model: whose other networks are trained.
        batches: given showers, one batch a detector.
        seed: of the points.

    Returns:
        Mean over the detectors of the sum of squares, before and after.
    """
    seen = [Seen(model, batch, seed=seed + k, drawn=DRAWN // len(batches)) for k, batch in enumerate(batches)]
    clusters, energies = model.clusters.head.bias, model.surroundings.head.bias
    kinds = model.clusters.config.kinds
    groups = _groups(clusters.numel() // kinds, kinds, model.clusters.config.same)
    starts = clusters.detach().clone(), energies.detach().clone()
    numbers = len(groups) + energies.numel()

    def residuals(change: np.ndarray) -> np.ndarray:
        by = torch.from_numpy(change).float()
        clusters.copy_(starts[0] + by[: len(groups)] @ groups)
        energies.copy_(starts[1] + OF_ENERGIES * by[len(groups) :])
        cells = np.concatenate([one.residuals(model) for one in seen]) / np.sqrt(len(seen))
        return np.concatenate([cells, change / PRIOR])

    change, damping = np.zeros(numbers), DAMPING
    found = residuals(change)
    first = best = float(found @ found)
    for _ in range(ITERATIONS):
        steps = STEP * np.eye(len(change))
        slopes = np.stack([(residuals(change + step) - found) / STEP for step in steps], axis=1)
        curvature, gradient = slopes.T @ slopes, slopes.T @ found
        scale = np.eye(len(change)) * np.trace(curvature) / len(change)
        for _ in range(TRIALS):
            move = np.linalg.solve(curvature + damping * scale, -gradient).clip(-FARTHEST, FARTHEST)
            trial = residuals(change + move)
            if trial @ trial < best:
                change, found, best, damping = change + move, trial, float(trial @ trial), damping / 3
                break
            damping *= 4
        else:
            break
    residuals(change)
    return Solved(first, best, numbers)


def _groups(rows: int, kinds: int, same: int) -> Tensor:
    """Which constants change together: (changes, rows kinds)."""
    within = torch.arange(kinds) < same
    members = torch.stack([within, ~within]).float()
    members = members[members.sum(1) > 0]
    return torch.einsum("rs,gk->rgsk", torch.eye(rows), members).reshape(rows * len(members), rows * kinds)


def seen_cells(batches: Sequence[Showers], other: float, *, seed: int) -> list[Showers]:
    """Showers to fit to: of one detector the first `MOST_SHOWERS`; of many `OF_EACH` of some, drawn at random.

    Args:
        batches: one a detector.
        other: share of many detectors that get cells of another size.
        seed: of the choice.
    """
    if len(batches) == 1:
        return [batches[0][:MOST_SHOWERS]]
    rng = np.random.default_rng([seed, 0xCE11])
    found = []
    for k in np.sort(rng.permutation(len(batches))[:MOST_DETECTORS]):
        size = float(np.exp(rng.uniform(*np.log(CELLS_MM))))
        batch = batches[k][:OF_EACH]
        found.append(with_cells(batch, size) if rng.random() < other else batch)
    return found

"""Where a shower came from: the axis of its cells, and how far it is from the incident particle's direction.

The axis is the direction of the largest energy-weighted spread of the cells about their centre (principal
component), found once with all cells and once with the most energetic 4%, as CaloClouds3 does
(arXiv 2511.01460).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from anycalo.evaluate.metrics import Metric, result
from anycalo.evaluate.results import MetricResult
from anycalo.readout.view import View

HOT_SHARE = 0.04
"""Share of the cells of a shower that counts as its most energetic."""
MIN_ANGLE_RAD = 0.02
"""Closer to the normal the azimuth means little, and the polar angle cannot err to both sides."""
QUANTITIES = ("theta", "phi", "opening")
SELECTIONS = ("all", "hot")
_CONTAINED = 0.68
_RESAMPLES = 200
_MIN_SHOWERS = 100


def shower_axis(view: View, share: float = 1.0) -> np.ndarray:
    """Principal axis of the most energetic cells of each shower, weighted by energy.

    Args:
        view: of B showers.
        share: of the cells of each shower, the most energetic first, rounded up.

    Returns:
        Unit vectors with z above 0, shape (B, 3); not a number where the cells lie in one layer or there are none.
    """
    cells = view.cells
    energy = cells.energy_mev
    if share < 1:
        order = np.lexsort((-energy, cells.shower))
        rank = np.empty(len(energy), dtype=np.int64)
        rank[order] = np.arange(len(energy)) - np.searchsorted(cells.shower, cells.shower)
        energy = np.where(rank < np.ceil(share * view.hits)[cells.shower], energy, 0.0)
    total = view.sum(energy)
    position = np.stack([cells.x_mm, cells.y_mm, cells.z_mm])
    with np.errstate(invalid="ignore", divide="ignore"):
        centre = np.stack([view.sum(energy * p) / total for p in position])
    residual = position - centre[:, cells.shower]
    spread = np.empty((view.n, 3, 3))
    for i in range(3):
        for j in range(i, 3):
            spread[:, i, j] = spread[:, j, i] = view.sum(energy * residual[i] * residual[j])
    deep = (total > 0) & (spread[:, 2, 2] > 1e-6 * np.where(total > 0, total, 1.0))
    axis = np.full((view.n, 3), np.nan)
    axis[deep] = np.linalg.eigh(spread[deep])[1][:, :, 2]
    axis[axis[:, 2] < 0] *= -1
    return axis


def angle_errors(view: View) -> np.ndarray:
    """Errors of the axis in theta, phi and in all [rad], with all and with the hot cells, shape (B, 6).

    theta is the angle to the normal and its error signed, phi the azimuth and its error signed and within half a
    turn, the opening the angle between axis and particle. Of particles below `MIN_ANGLE_RAD` only the opening
    has a meaning; the others are not a number.
    """
    direction = view.incident.direction.astype(np.float64)
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    columns = []
    for share in (1.0, HOT_SHARE):
        axis = shower_axis(view, share)
        inclined = _theta(direction) >= MIN_ANGLE_RAD
        theta = np.where(inclined, _theta(axis) - _theta(direction), np.nan)
        phi = np.arctan2(axis[:, 1], axis[:, 0]) - np.arctan2(direction[:, 1], direction[:, 0])
        phi = np.where(inclined, (phi + np.pi) % (2 * np.pi) - np.pi, np.nan)
        # The sine is accurate where the cosine is flat.
        opening = np.arctan2(np.linalg.norm(np.cross(axis, direction), axis=1), (axis * direction).sum(axis=1))
        columns += [theta, phi, opening]
    return np.column_stack(columns)


def angle_metrics(
    truth: np.ndarray, fast: np.ndarray, *, matched: bool, seed: int, progress: Callable[[int], None] = lambda n: None
) -> dict[str, MetricResult]:
    """Median and 68% containment of every angular error, of fast beside truth.

    The containment is the radius about the median (about 0 for the opening) that holds 68% of the showers. The
    floor is the truth's own value; how far independent Geant4 showers would lie from it is the bootstrap's spread of
    the difference.

    Args:
        truth: `angle_errors` of the truth sample, shape (N, 6).
        fast: of the fast sample, shape (M, 6).
        matched: whether row k of both is of the same incident particle.
        seed: of the resamples.
        progress: called with the number of steps just done.
    """
    rng = np.random.default_rng([seed, 6])
    out = {}
    for column, (selection, quantity) in enumerate((s, q) for s in SELECTIONS for q in QUANTITIES):
        a, b = truth[:, column], fast[:, column]
        known = np.isfinite(a) & np.isfinite(b) if matched else None
        a, b = (a[known], b[known]) if known is not None else (a[np.isfinite(a)], b[np.isfinite(b)])
        progress(1)
        if min(len(a), len(b)) < _MIN_SHOWERS:
            continue
        i = rng.integers(0, len(a), size=(_RESAMPLES, len(a)))
        j = i if matched else rng.integers(0, len(b), size=(_RESAMPLES, len(b)))
        values = _statistics(a[None], quantity), _statistics(b[None], quantity)
        draws = _statistics(a[i], quantity), _statistics(b[j], quantity)
        for k, statistic in enumerate(("median", "containment")):
            low, high = np.quantile(draws[1][k], [0.025, 0.975])
            metric = _metric(selection, quantity, statistic)
            spread = float(np.std(draws[1][k] - draws[0][k], ddof=1))
            out[metric.name] = result(metric, float(values[1][k][0]), (float(low), float(high)), float(values[0][k][0]), spread)
    return out


N_STEPS = len(SELECTIONS) * len(QUANTITIES)
"""Steps that `angle_metrics` reports."""


def _metric(selection: str, quantity: str, statistic: str) -> Metric:
    what = {"theta": "polar angle", "phi": "azimuth", "opening": "direction"}[quantity]
    cells = "all cells" if selection == "all" else f"the hottest {HOT_SHARE:.0%}"
    return Metric(
        name=f"angle_{selection}_{quantity}_{statistic}",
        title=f"Error of the {what} from {cells}, {'median' if statistic == 'median' else '68% containment'}",
        unit="rad",
        group="angles",
        sees="how single showers lean and clump",
    )


def _statistics(errors: np.ndarray, quantity: str) -> tuple[np.ndarray, np.ndarray]:
    """Median and containment of each row, shape (R, n) to (R,) each."""
    median = np.median(errors, axis=1)
    about = errors if quantity == "opening" else np.abs(errors - median[:, None])
    return median, np.quantile(about, _CONTAINED, axis=1)


def _theta(direction: np.ndarray) -> np.ndarray:
    return np.asarray(np.arctan2(np.hypot(direction[:, 0], direction[:, 1]), direction[:, 2]))

"""High-level features: one table that classifiers, Fréchet and kernel distances, precision and coverage share.

It holds what the CaloChallenge gives its high-level classifier (arXiv 2410.21611): the incident
energy, the energy of each layer, the centre of energy of each layer along both axes and its widths;
and what that leaves out: the number of cells, the spectrum of their energies, the whole shower's
centre and widths. `docs/metrics.md` lists the columns.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from anycalo.evaluate.observables import shower_max, shower_start
from anycalo.geometry import Detector
from anycalo.readout.view import View

SHOWER_COLUMNS = (
    "log_incident_energy",
    "angle",
    "response",
    "log_cells",
    "mean_log_cell_energy",
    "rms_log_cell_energy",
    "brightest_cell_share",
    "centre_x",
    "centre_y",
    "centre_depth",
    "width_x",
    "width_y",
    "width_depth",
    "radius",
    "start",
    "maximum",
)
"""Columns of the whole shower, before those of the layers."""
LAYER_COLUMNS = ("energy_share", "cell_share", "centre_x", "centre_y", "width_x", "width_y")
"""Columns of each layer, named `layer_<number from 0>_<column>`; all layers of one column stand together."""

USUAL = 0.1
"""A layer's columns are compared only if at least this share of the truth showers has a cell in it."""
CLIP = 10.0
"""Standardised features beyond this many standard deviations of the truth count as that."""


def feature_names(detector: Detector) -> tuple[str, ...]:
    """Names of the F columns of `high_level_features`."""
    layers = tuple(f"layer_{k}_{column}" for column in LAYER_COLUMNS for k in range(detector.n_layers))
    return SHOWER_COLUMNS + layers


def high_level_features(view: View) -> np.ndarray:
    """The table of B showers, shape (B, F): `feature_names` names its columns.

    Lengths are in mm and relative to the shower axis, depths in radiation lengths. What a shower or a
    layer without cells does not have is 0: its share of the cells says so.
    """
    cells, n_layers = view.cells, view.detector.n_layers
    energy = cells.energy_mev
    log_mips = np.log10(view.mips)
    brightest = np.zeros(view.n)
    np.maximum.at(brightest, cells.shower, energy)
    incident = view.incident.energy_mev.astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean_log = view.sum(log_mips) / view.hits
        shower = [
            np.log10(incident),
            view.incident.theta_rad,
            view.visible_mev / incident,
            np.log10(1.0 + view.hits),
            mean_log,
            np.sqrt(view.sum((log_mips - mean_log[cells.shower]) ** 2) / view.hits),
            brightest / view.visible_mev,
            view.mean(view.x_mm),
            view.mean(view.y_mm),
            view.mean(view.depth_x0),
            view.rms(view.x_mm),
            view.rms(view.y_mm),
            view.rms(view.depth_x0),
            view.mean(view.r_mm),
            shower_start(view),
            shower_max(view),
        ]
        # Cells of one shower and layer, as one index.
        place = cells.shower * n_layers + cells.layer
        layers = [view.layer_mev / view.visible_mev[:, None], view.histogram(cells.layer, n_layers) / view.hits[:, None]]
        widths = []
        for position in (view.x_mm, view.y_mm):
            centre = view.histogram(cells.layer, n_layers, energy * position) / view.layer_mev
            residual = position - centre.ravel()[place]
            layers.append(centre)
            widths.append(np.sqrt(view.histogram(cells.layer, n_layers, energy * residual**2) / view.layer_mev))
    table = np.concatenate([np.column_stack(shower), *layers, *widths], axis=1)
    return np.asarray(np.nan_to_num(table, nan=0.0, posinf=0.0, neginf=0.0), dtype=np.float32)


def layer_features(features: np.ndarray, detector: Detector, column: str) -> np.ndarray:
    """One of `LAYER_COLUMNS` of every layer, shape (B, F) to (B, L)."""
    first = len(SHOWER_COLUMNS) + LAYER_COLUMNS.index(column) * detector.n_layers
    return features[:, first : first + detector.n_layers]


@dataclass(frozen=True, kw_only=True, eq=False)
class Scale:
    """How features are made comparable: by the truth sample alone, so that no other sample moves it.

    Args:
        kept: columns that vary in the truth sample and belong to a layer that usually has cells, int64 (K,).
        mean, std: of these columns in the truth sample, each (K,).
    """

    kept: np.ndarray
    mean: np.ndarray
    std: np.ndarray

    @staticmethod
    def of(detector: Detector, truth: np.ndarray) -> Scale:
        """The scale that the features of the truth sample set, shape (B, F)."""
        truth = truth.astype(np.float64)
        usual = np.ones(truth.shape[1], dtype=bool)
        filled = (layer_features(truth, detector, "cell_share") > 0).mean(axis=0)
        usual[len(SHOWER_COLUMNS) :] = np.tile(filled >= USUAL, len(LAYER_COLUMNS))
        std = truth.std(axis=0)
        # A spread at the level of the rounding of float32 is none.
        varies = std > 1e-6 * np.maximum(1e-3, np.abs(truth).max(axis=0))
        kept = np.flatnonzero(usual & varies)
        return Scale(kept=kept, mean=truth[:, kept].mean(axis=0), std=std[kept])

    def __call__(self, features: np.ndarray) -> np.ndarray:
        """Standardised features, clipped at `CLIP` standard deviations, shape (B, F) to (B, K)."""
        return np.asarray(np.clip((features[:, self.kept] - self.mean) / self.std, -CLIP, CLIP))

"""From Geant4 steps to the points of a shower."""

from __future__ import annotations

import numpy as np

from anycalo.geometry import Detector


def shower_seed(seed: int, index: int) -> int:
    """The seed of shower `index` of a production, below 2^63, the same however the work is shared out."""
    state = np.random.SeedSequence([seed, index]).generate_state(1, np.uint64)
    return int(state[0] >> np.uint64(1)) | 1


def merge_steps(
    steps: np.ndarray,
    neutral_mev: np.ndarray,
    *,
    detector: Detector,
    direction: np.ndarray,
    merge_mm: float,
    rng: np.random.Generator,
    entry_mm: tuple[float, float] = (0.0, 0.0),
) -> np.ndarray:
    """Points from the steps of one shower; the energy of every layer is kept exactly.

    Steps of one layer in one square of side `merge_mm` become a point at their energy-weighted position. The
    grid has a random offset, so that it leaves no pattern. What neutral particles left in a layer is shared
    among the layer's points in proportion to their energy; in a layer without points it becomes one, on the
    shower axis.

    Args:
        steps: shape (S, 4): layer, x in mm, y in mm, energy in MeV.
        neutral_mev: shape (L,).
        detector: for the depth of the layers.
        direction: of the incident particle, shape (3,).
        merge_mm: side of the squares; 0 keeps every step.
        rng: for the offset.
        entry_mm: where the shower axis meets the face.

    Returns:
        Points sorted by layer, shape (N, 4), as `steps`.
    """
    if not len(steps) and not neutral_mev.any():
        return np.zeros((0, 4))
    offset = rng.random(2) * merge_mm
    layers = detector.n_layers
    charged_mev = np.bincount(steps[:, 0].astype(int), weights=steps[:, 3], minlength=layers)
    lonely = np.flatnonzero((charged_mev == 0) & (neutral_mev > 0))
    if len(lonely):
        z = detector.layer_z_mm[lonely]
        x, y = (at + z * slope / direction[2] for at, slope in zip(entry_mm, direction[:2], strict=True))
        steps = np.concatenate([steps, np.stack([lonely, x, y, neutral_mev[lonely]], axis=1)])
    layer = steps[:, 0].astype(np.int64)
    scale = 1 + np.divide(neutral_mev, charged_mev, out=np.zeros(layers), where=charged_mev > 0)
    energy = steps[:, 3] * scale[layer]
    if merge_mm > 0 and len(steps):
        column = np.floor((steps[:, 1] + offset[0]) / merge_mm).astype(np.int64)
        row = np.floor((steps[:, 2] + offset[1]) / merge_mm).astype(np.int64)
        column -= column.min()
        row -= row.min()
        key = (layer * (column.max() + 1) + column) * (row.max() + 1) + row
        squares, group = np.unique(key, return_inverse=True)
        total = np.bincount(group, weights=energy)
        x = np.bincount(group, weights=energy * steps[:, 1]) / total
        y = np.bincount(group, weights=energy * steps[:, 2]) / total
        return np.stack([squares // ((column.max() + 1) * (row.max() + 1)), x, y, total], axis=1)
    order = np.argsort(layer, kind="stable")
    return np.stack([layer, steps[:, 1], steps[:, 2], energy], axis=1)[order]

"""What formats of points share: from positions and energies of a block to showers."""

from __future__ import annotations

import numpy as np

from anycalo.geometry import Detector
from anycalo.showers.formats.depth import Placement
from anycalo.showers.incident import Incident
from anycalo.showers.showers import Showers

OUTSIDE = "outside the sensitive layers"


def showers_of_points(
    detector: Detector,
    incident: Incident,
    placement: Placement,
    *,
    shower: np.ndarray,
    xyz: np.ndarray,
    energy_mev: np.ndarray,
    origin_mm: np.ndarray | None = None,
) -> tuple[Showers, float]:
    """Showers of the points that lie in a layer.

    Args:
        detector: their detector.
        incident: the B particles.
        placement: how positions are read.
        shower: of each point, ascending, shape (P,).
        xyz: positions in the file's axes, shape (P, 3).
        energy_mev: of each point; those of 0 are dropped.
        origin_mm: axis of each shower in x and y of the shower frame, shape (B, 2), on top of the placement's.

    Returns:
        The showers, and the energy of the points that lie in no layer.
    """
    layer, x, y = placement.place(xyz)
    if origin_mm is not None:
        x, y = x - origin_mm[shower, 0], y - origin_mm[shower, 1]
    lit = energy_mev > 0
    kept = lit & (layer >= 0)
    lost = float(energy_mev[lit & ~kept].sum(dtype=np.float64))
    showers = Showers(
        detector=detector,
        incident=incident,
        offsets=np.searchsorted(shower[kept], np.arange(len(incident) + 1)),
        x_mm=x[kept],
        y_mm=y[kept],
        layer=layer[kept],
        energy_mev=energy_mev[kept],
    )
    return showers, lost


def unit_vectors(values: np.ndarray) -> np.ndarray:
    """Directions of float32 files, made unit vectors to double precision; zero vectors are left alone."""
    vectors = np.asarray(values, dtype=np.float64)
    norm = np.linalg.norm(vectors, axis=1, keepdims=True)
    # A vector that is far from 1 is not a direction: leave it for the particles to refuse.
    return np.where(np.abs(norm - 1) < 1e-2, vectors / np.where(norm > 0, norm, 1), vectors)

"""Showers made whole beyond the sides of a detector, before a model that cuts at the sides itself is trained on them.

Generation draws a shower as it would be in a detector without sides, and then loses what lies beyond them. Geant4's showers
have lost it already: learnt as they are, they would be cut twice. What is missing is drawn from the model itself, for the
same particle, and scaled by the energies inside. Showers that have lost much are left out, for most of such a shower would be
the model's own opinion.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from anycalo.models.noise import Noise
from anycalo.showers import Showers

if TYPE_CHECKING:
    from anycalo.models.anycalo import AnyCalo

NOTHING, MOST = 1e-3, 0.15
"""Mean share of the energy that is lost and does not matter; largest share of a shower that is kept."""
FAR_MM = 1e5
_BATCH = 100


@torch.no_grad()
def whole(model: AnyCalo, showers: Showers, *, seed: int) -> Showers:
    """Showers of a detector with sides as they would be without; the same showers where next to nothing is lost.

    Args:
        model: draws what is missing.
        showers: B showers.
        seed: of what is drawn.

    Returns:
        Those that have kept most of their energy, in a detector with sides out of reach.
    """
    wide = replace(showers.detector, size_mm=(FAR_MM, FAR_MM))
    parts = [
        model.sample(wide, showers.incident[k : k + _BATCH], Noise(seed, range(k, min(k + _BATCH, len(showers)))))
        for k in range(0, len(showers), _BATCH)
    ]
    made = Showers.concatenate(parts)
    beyond = ~showers.detector.between_sides(made.x_mm, made.y_mm)
    energy = made.energy_mev.astype(np.float64)
    lost = np.bincount(made.shower, energy * beyond, len(made)) / np.bincount(made.shower, energy, len(made)).clip(1e-9)
    if lost.mean() < NOTHING:
        return showers
    inside = np.bincount(made.shower, energy * ~beyond, len(made))
    scale = showers.visible_mev() / inside.clip(1e-9)
    kept = np.flatnonzero((lost <= MOST) & (showers.visible_mev() > 0))
    shower = np.concatenate([showers.shower, made.shower[beyond]])
    chosen = np.isin(shower, kept)
    order = np.flatnonzero(chosen)[np.argsort(shower[chosen], kind="stable")]

    def joined(name: str) -> np.ndarray:
        values = getattr(made, name)[beyond]
        if name == "energy_mev":
            values = values * scale[made.shower[beyond]]
        return np.concatenate([getattr(showers, name), values])[order]

    counts = np.bincount(shower[order], minlength=len(showers))[kept]
    return Showers(
        detector=wide,
        incident=showers.incident[kept],
        offsets=np.concatenate([[0], np.cumsum(counts)]),
        x_mm=joined("x_mm"),
        y_mm=joined("y_mm"),
        layer=joined("layer"),
        energy_mev=joined("energy_mev"),
        provenance=showers.provenance,
    )

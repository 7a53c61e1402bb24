"""Given showers with their points drawn anew: what a model makes of the very totals and layers that Geant4 had.

What is left between such showers and the given ones is what the networks of the points get wrong, without the chance of drawing
totals and layers, which would take thousands of showers to average out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from anycalo.models.anycalo_data import prepare
from anycalo.models.clusters import OF_POINT
from anycalo.models.surroundings import OF_ENERGY
from anycalo.models.tracks import OF_TRACK
from anycalo.showers import Showers

if TYPE_CHECKING:
    from anycalo.models.anycalo import AnyCalo


class Forced:
    """Totals and layers of B showers of one detector.

    Args:
        model: whose configuration says how deposits are joined.
        showers: given, with visible energy.
        seed: of the normal numbers, which stay the same whatever the weights.
    """

    def __init__(self, model: AnyCalo, showers: Showers, *, seed: int) -> None:
        data = prepare(model, [showers], n_training=0, seed=seed, fit=False)
        self.given = showers
        self._totals, self._n, self._e = data.totals, data.n.numpy().astype(np.int64), data.e.numpy()
        points = int(self._n.sum())
        rng = np.random.default_rng([seed, 0xF0CE])
        self._normal = rng.standard_normal((points, OF_POINT + OF_ENERGY + OF_TRACK), dtype=np.float32)

    def showers(self, model: AnyCalo) -> Showers:
        """The given showers with the model's points; none lies beyond the sides."""
        from anycalo.models.engine import Drawn, Engine  # with a compiler, which only generation needs

        engine, given = Engine(model), self.given
        told, scaled = engine.told(given.detector, given.incident), model.totals.scaled(self._totals).numpy()
        drawn = [Drawn(np.float32(1), *one) for one in zip(told, scaled, self._n, self._e, strict=True)]
        return engine.showers(given.detector, given.incident, drawn, self._normal).contained()

"""Floors: the distances that Geant4 keeps from independent Geant4 at the sample sizes compared."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from anycalo.evaluate.resampling import Divisions
from anycalo.evaluate.ruler import Pool, Ruler


@dataclass(frozen=True, kw_only=True, eq=False)
class Distances:
    """Distances of one observable with M members under R resamples, each of shape (R, M)."""

    w1: np.ndarray
    jsd: np.ndarray
    separation: np.ndarray

    @staticmethod
    def of(pool: Pool, a: np.ndarray, b: np.ndarray) -> Distances:
        """Between the samples of multiplicities a and b, shape (R, N)."""
        jsd, separation = pool.divergences(a, b)
        return Distances(w1=pool.w1(a, b), jsd=jsd, separation=separation)


@dataclass(frozen=True, kw_only=True, eq=False)
class Floors:
    """Distances between random parts of Geant4 showers, scaled to the sizes compared.

    Args:
        distances: by observable, one row a division.
        pools: the Geant4 showers, by observable.
        divisions: how they were divided.
    """

    distances: Mapping[str, Distances]
    pools: Mapping[str, Pool]
    divisions: Divisions

    @property
    def headline(self) -> np.ndarray:
        """Geometric mean over observables of W1 over its floor, for each division: what a perfect model scores, (R,)."""
        w1 = np.array([np.nanmean(d.w1, axis=1) for d in self.distances.values()])
        return geometric_mean(w1 / w1.mean(axis=1, keepdims=True))

    def apart(self, n_first: int, n_second: int) -> float | None:
        """How many floors the first and the second part of the pool are apart, if more than in every division."""
        first = (np.arange(n_first + n_second) < n_first)[None].astype(np.float32)
        sizes = self.divisions.sizes
        scale = self.divisions.factor * np.sqrt((1 / sizes[0] + 1 / sizes[1]) / (1 / n_first + 1 / n_second))
        ratios = [
            scale * np.nanmean(pool.w1(first, 1 - first)) / np.nanmean(self.distances[name].w1)
            for name, pool in self.pools.items()
        ]
        ratio = float(geometric_mean(np.array(ratios)))
        return ratio if ratio > self.headline.max() else None


def measure_floors(
    rulers: Mapping[str, Ruler],
    values: Sequence[Mapping[str, np.ndarray]],
    divisions: Divisions,
    n_divisions: int,
    rng: np.random.Generator,
    progress: Callable[[int], None],
) -> Floors:
    """Divide the showers again and again.

    Args:
        rulers: by observable.
        values: of each Geant4 sample, by observable; the pool is all of them.
        divisions: of the pool.
        n_divisions: how many to average over.
        rng: draws them.
        progress: called with the number of divisions just done.
    """
    pools = {name: ruler.pool(*(v[name] for v in values)) for name, ruler in rulers.items()}
    blocks: dict[str, list[Distances]] = {name: [] for name in rulers}
    for a, b in divisions.draw(n_divisions, rng):
        for name, pool in pools.items():
            blocks[name].append(Distances.of(pool, a, b))
        progress(len(a))
    # W1 is linear in the fluctuations, the divergences are quadratic.
    linear, quadratic = divisions.factor, divisions.factor**2
    distances = {
        name: Distances(
            w1=linear * np.concatenate([d.w1 for d in block]),
            jsd=quadratic * np.concatenate([d.jsd for d in block]),
            separation=quadratic * np.concatenate([d.separation for d in block]),
        )
        for name, block in blocks.items()
    }
    return Floors(distances=distances, pools=pools, divisions=divisions)


def geometric_mean(ratios: np.ndarray) -> np.ndarray:
    """Over the first axis; 0 where any is."""
    with np.errstate(divide="ignore"):
        return np.asarray(np.exp(np.log(ratios).mean(axis=0)))

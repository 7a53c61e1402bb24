"""Floors: the distances that Geant4 keeps from independent Geant4 at the sample sizes compared."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from anycalo.evaluate.resampling import Divisions, match, together
from anycalo.evaluate.ruler import Pool, Ruler
from anycalo.showers import Incident

MIN_RATIO = 0.1
"""Smallest ratio to the floor that counts in a geometric mean: observables with few values, such as the layer of the
shower maximum, agree exactly by chance now and then, and one zero would make the mean zero."""


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
    """

    distances: Mapping[str, Distances]

    @property
    def headline(self) -> np.ndarray:
        """Geometric mean over observables of W1 over its floor, for each division: what a perfect model scores."""
        w1 = np.array([mean_of_members(d.w1) for d in self.distances.values()])
        scores = geometric_mean(w1 / np.nanmean(w1, axis=1, keepdims=True))
        return np.asarray(scores[np.isfinite(scores)])


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
    return Floors(distances=distances)


def floors_apart(
    rulers: Mapping[str, Ruler],
    values: Sequence[Mapping[str, np.ndarray]],
    truth: Incident,
    floor: Incident,
    n_divisions: int,
    rng: np.random.Generator,
) -> float | None:
    """How many floors two Geant4 samples are apart (geometric mean), if more than in every random division of both.

    Args:
        rulers: by observable.
        values: of both samples, by observable.
        truth: particles of the first sample.
        floor: particles of the second.
        n_divisions: how many to compare with; a false alarm has a probability of one in as many.
        rng: draws them.
    """
    pool = together(truth, floor)
    divisions = Divisions.of(pool, len(truth), len(floor), matched=match(truth, floor) is not None)
    floors = measure_floors(rulers, values, divisions, n_divisions, rng, lambda n: None)
    first = (np.arange(len(pool)) < len(truth))[None].astype(np.float32)
    ratios = []
    for name, ruler in rulers.items():
        w1 = mean_of_members(ruler.pool(*(v[name] for v in values)).w1(first, 1 - first))
        ratios.append(w1 / np.nanmean(mean_of_members(floors.distances[name].w1)))
    ratio = float(geometric_mean(np.array(ratios))[0])
    return ratio if ratio > floors.headline.max() else None


def mean_of_members(distances: np.ndarray) -> np.ndarray:
    """Mean over the members that have a distance, shape (R, M) to (R,); not a number where none has."""
    known = np.isfinite(distances)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(known, distances, 0.0).sum(axis=1) / known.sum(axis=1))


def geometric_mean(ratios: np.ndarray) -> np.ndarray:
    """Over the first axis, ratios below `MIN_RATIO` counting as that."""
    return np.asarray(np.exp(np.log(np.maximum(ratios, MIN_RATIO)).mean(axis=0)))

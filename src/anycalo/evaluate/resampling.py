"""Which showers are compared with which: pairing of incident particles, random divisions, bootstrap.

Two designs. Where the fast showers were generated for the very particles of the truth sample, the
spread of the incident particles is common to both and cancels in every distance; it must then cancel
in the floor and in the bootstrap too, or a floor full of beam spread would flatter the model. Such
samples are `matched`: the floor compares showers whose particles are neighbours in energy and
direction, and the bootstrap draws pairs. Otherwise the samples are `independent`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from anycalo.showers import Incident

# Where directions vary, neighbours in direction are sought among this many neighbours in energy.
_ENERGY_BLOCK = 8
# Numbers in one block of multiplicities: bounds memory.
_BLOCK_NUMBERS = 400_000


def match(truth: Incident, fast: Incident) -> tuple[np.ndarray, np.ndarray] | None:
    """Pairs of showers that started from the same particle, where one sample's particles are all in the other.

    Returns:
        Indices into truth and into fast, each int64 (n,), where n is the size of the smaller sample; or
        none, if the samples are not matched or all particles are alike.
    """
    rows = np.concatenate([_rows(truth), _rows(fast)])
    _, kind = np.unique(rows, axis=0, return_inverse=True)
    kind = kind.reshape(-1)
    if kind.max() == 0:
        return None
    pairs, in_truth, in_fast = np.intersect1d(
        _numbered(kind[: len(truth)]), _numbered(kind[len(truth) :]), assume_unique=True, return_indices=True
    )
    return (in_truth, in_fast) if len(pairs) == min(len(truth), len(fast)) else None


def together(first: Incident, second: Incident) -> Incident:
    """The particles of both, in order."""
    return Incident(
        np.concatenate([first.pdg, second.pdg]),
        energy_mev=np.concatenate([first.energy_mev, second.energy_mev]),
        direction=np.concatenate([first.direction, second.direction]),
    )


@dataclass(frozen=True, kw_only=True)
class Divisions:
    """Random divisions of N showers into two disjoint samples, to measure floors.

    Args:
        n: N, showers in the pool.
        sizes: showers of the two parts.
        strata: for a matched design, the pool in an order in which neighbours had like particles; they go to
            different parts.
        factor: what scales a distance between the parts that is linear in the fluctuations (W1) to the sizes
            of the samples compared; quadratic ones (Jensen-Shannon, separation power) scale with its square.
    """

    n: int
    sizes: tuple[int, int]
    strata: np.ndarray | None
    factor: float

    @staticmethod
    def of(pool: Incident, n_truth: int, n_fast: int, *, matched: bool) -> Divisions:
        """Divisions of a pool of Geant4 showers: parts of n_truth and n_fast if it has as many, otherwise halves.

        For halves of the pool the factor is sqrt((1/n_truth + 1/n_fast) / (1/n_1 + 1/n_2)), since the
        variance of the difference of two empirical distributions goes with the sum of inverse sizes.
        """
        n = len(pool)
        whole = n >= n_truth + n_fast and not matched
        sizes = (n_truth, n_fast) if whole else (n // 2, n // 2)
        factor = np.sqrt((1 / n_truth + 1 / n_fast) / (1 / sizes[0] + 1 / sizes[1]))
        return Divisions(n=n, sizes=sizes, strata=_neighbours(pool) if matched else None, factor=float(factor))

    def draw(self, n_draws: int, rng: np.random.Generator) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Blocks of n_draws divisions in all: membership 0 or 1 of the two parts, each float32 (R, N)."""
        for rows in _blocks(n_draws, self.n):
            a, b = np.zeros((rows, self.n), dtype=np.float32), np.zeros((rows, self.n), dtype=np.float32)
            if self.strata is None:
                order = rng.permuted(np.broadcast_to(np.arange(self.n), (rows, self.n)), axis=1)
                np.put_along_axis(a, order[:, : self.sizes[0]], 1, axis=1)
                np.put_along_axis(b, order[:, self.sizes[0] : sum(self.sizes)], 1, axis=1)
            else:
                pairs = self.n // 2
                first = rng.integers(0, 2, size=(rows, pairs), dtype=np.int8).astype(np.float32)
                even, odd = self.strata[0 : 2 * pairs : 2], self.strata[1 : 2 * pairs : 2]
                a[:, even], a[:, odd] = first, 1 - first
                b[:, even], b[:, odd] = 1 - first, first
            yield a, b


def bootstrap(
    n_truth: int, n_fast: int, n_draws: int, rng: np.random.Generator, *, matched: bool
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Blocks of bootstrap resamples of truth and fast showers, pooled in this order.

    Returns:
        Multiplicities of the resampled truth (0 for fast showers) and of the resampled fast showers, each
        float32 (R, n_truth + n_fast). In a matched design (equal sizes) both are resampled alike.
    """
    for rows in _blocks(n_draws, n_truth + n_fast):
        a, b = (np.zeros((rows, n_truth + n_fast), dtype=np.float32) for _ in range(2))
        a[:, :n_truth] = _multiplicities(n_truth, rows, rng)
        b[:, n_truth:] = a[:, :n_truth] if matched else _multiplicities(n_fast, rows, rng)
        yield a, b


def centred_interval(value: float, draws: np.ndarray, level: float = 0.95) -> tuple[float, float]:
    """Bootstrap interval for the expectation of a distance at these sample sizes.

    Bootstrap draws of a distance lie too high, since resampling adds a fluctuation to the one that the
    samples already have; so their quantiles are taken about their own mean and moved to the value:
    [value + q_low - mean, value + q_high - mean], not below 0.

    Args:
        value: the distance between the samples themselves.
        draws: the distance between resamples, shape (R,); those that are not a number are ignored.
        level: nominal coverage.
    """
    draws = draws[np.isfinite(draws)]
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2]) - draws.mean()
    return max(0.0, float(value + low)), float(value + high)


def _multiplicities(n: int, rows: int, rng: np.random.Generator) -> np.ndarray:
    drawn = rng.integers(0, n, size=(rows, n)) + n * np.arange(rows)[:, None]
    return np.bincount(drawn.ravel(), minlength=rows * n).reshape(rows, n)


def _blocks(n_draws: int, n: int) -> list[int]:
    rows = max(1, min(100, _BLOCK_NUMBERS // n))
    return [min(rows, n_draws - start) for start in range(0, n_draws, rows)]


def _rows(incident: Incident) -> np.ndarray:
    return np.column_stack([incident.pdg.astype(np.float64), incident.energy_mev, incident.direction])


def _numbered(kind: np.ndarray) -> np.ndarray:
    """A distinct number for the k-th shower of each kind of particle, the same in both samples."""
    order = np.argsort(kind, kind="stable")
    ordered = kind[order]
    first = np.searchsorted(ordered, ordered)
    out = np.empty(len(kind), dtype=np.int64)
    # Kinds are below 2^31, as numbers of showers are.
    out[order] = ordered.astype(np.int64) << 32 | (np.arange(len(kind)) - first)
    return out


def _neighbours(incident: Incident) -> np.ndarray:
    order = np.lexsort([incident.energy_mev, incident.pdg])
    theta = incident.theta_rad
    if np.ptp(theta) == 0:
        return order
    block = np.arange(len(order)) // _ENERGY_BLOCK
    return order[np.lexsort([theta[order], block])]

"""Deposits of one track joined to one point, before a model that draws points independently is trained.

A track that crosses a sensor at an angle leaves a few neighbouring deposits on the fine grid of a shower
file. Points drawn independently lose that they stand together, and so hit too many cells. Joining them first
restores the number of hit cells without any correction factor.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.spatial import cKDTree

from anycalo.showers import Showers

_CHUNK = 200_000
# Shape of the gamma distribution of the parts: their energies vary by half.
_EVENNESS = 4.0


class Joined(NamedTuple):
    """Joined points, and what they were joined from: two ends, the deposits on either side of a point along their line.

    Args:
        showers: of the points.
        share: of the weaker end in the energy, float32 (P,); 0 where a point was one deposit.
        way_mm: from the stronger to the weaker end, each at its energy-weighted position, float32 (P, 2).
    """

    showers: Showers
    share: np.ndarray
    way_mm: np.ndarray

    @staticmethod
    def single(showers: Showers) -> Joined:
        """Points of one deposit each."""
        return Joined(showers, np.zeros(showers.n_points, np.float32), np.zeros((showers.n_points, 2), np.float32))


def merge_tracks(showers: Showers, *, radius_mm: float, energy_mev: float) -> Showers:
    """Join every deposit to its most energetic neighbour in the layer, if it is weaker and both are small.

    Joined are pairs closer than `radius_mm` with a summed energy below `energy_mev`; chains of pairs become one
    point, at the energy-weighted position. Energy per layer and shower is kept to rounding.

    Args:
        showers: B showers.
        radius_mm: largest distance; 0 joins nothing.
        energy_mev: largest summed energy of a pair.
    """
    if radius_mm <= 0 or showers.n_points == 0:
        return showers
    return join_tracks(showers, radius_mm=radius_mm, energy_mev=energy_mev).showers


def join_tracks(showers: Showers, *, radius_mm: float, energy_mev: float) -> Joined:
    """`merge_tracks`, with what was joined."""
    if radius_mm <= 0 or showers.n_points == 0:
        return Joined.single(showers)
    parts, start = [], 0
    while start < len(showers):
        stop = int(np.searchsorted(showers.offsets, showers.offsets[start] + _CHUNK, side="right")) - 1
        stop = min(max(stop, start + 1), len(showers))
        parts.append(_join(showers[start:stop], radius_mm, energy_mev))
        start = stop
    return Joined(
        Showers.concatenate([part.showers for part in parts], provenance=showers.provenance),
        np.concatenate([part.share for part in parts]),
        np.concatenate([part.way_mm for part in parts]),
    )


def _join(showers: Showers, radius_mm: float, energy_mev: float) -> Joined:
    e = showers.energy_mev.astype(np.float64)
    x, y = showers.x_mm.astype(np.float64), showers.y_mm.astype(np.float64)
    row = showers.shower * showers.detector.n_layers + showers.layer
    # A distance apart that no pair can bridge keeps layers and showers separate.
    pairs = cKDTree(np.stack([x, y, row * (4 * radius_mm)], axis=1)).query_pairs(radius_mm, output_type="ndarray")
    pairs = pairs[e[pairs].sum(axis=1) < energy_mev]
    ordered = np.where((e[pairs[:, 0]] <= e[pairs[:, 1]])[:, None], pairs, pairs[:, ::-1])
    weak, strong = ordered[np.lexsort((e[ordered[:, 1]], ordered[:, 0]))].T
    last = np.flatnonzero(np.append(np.diff(weak) != 0, True)) if len(weak) else np.zeros(0, dtype=int)
    host = np.arange(len(e))
    host[weak[last]] = strong[last]
    while True:
        further = host[host]
        if (further == host).all():
            break
        host = further
    kept, group = np.unique(host, return_inverse=True)
    energy = np.bincount(group, e, minlength=len(kept))
    safe = np.where(energy > 0, energy, 1.0)
    weight = np.where(energy[group] > 0, e / safe[group], 0.0)
    weight = np.where((energy[group] == 0) & (host == np.arange(len(e))), 1.0, weight)
    counts = np.bincount(showers.shower[kept], minlength=len(showers))
    joined = Showers(
        detector=showers.detector,
        incident=showers.incident,
        offsets=np.concatenate([[0], np.cumsum(counts)]),
        x_mm=np.bincount(group, weight * x, minlength=len(kept)),
        y_mm=np.bincount(group, weight * y, minlength=len(kept)),
        layer=showers.layer[kept],
        energy_mev=energy,
        provenance=showers.provenance,
    )
    return Joined(joined, *_ends(x, y, weight, group, len(kept)))


def _ends(x: np.ndarray, y: np.ndarray, weight: np.ndarray, group: np.ndarray, groups: int) -> tuple[np.ndarray, np.ndarray]:
    """Deposits on either side of their group's centre along its longest axis: share of the weaker side, and the way to it."""

    def mean(values: np.ndarray) -> np.ndarray:
        return np.asarray(np.bincount(group, weight * values, minlength=groups))

    x, y = x - mean(x)[group], y - mean(y)[group]
    axis = 0.5 * np.arctan2(2 * mean(x * y), mean(x**2) - mean(y**2))[group]
    far = x * np.cos(axis) + y * np.sin(axis) > 0
    share = mean(far.astype(np.float64))
    inner = np.clip(share, 1e-12, 1 - 1e-12)
    # The centre of the one side over that of the other, which lies opposite.
    way = np.stack([mean(far * x), mean(far * y)], axis=1) / (inner * (1 - inner))[:, None]
    two = (share > 0) & (share < 1)
    weaker = np.where(share > 0.5, 1 - share, share)
    way = np.where((share > 0.5)[:, None], -way, way)
    return np.where(two, weaker, 0.0).astype(np.float32), np.where(two[:, None], way, 0.0).astype(np.float32)


def split_hot(joined: Joined, *, above_mev: float, quantum_mev: float, jitter_mm: float, seed: int) -> Joined:
    """Divide deposits of many tracks into points of a few tracks each.

    A shower file holds one deposit for each square of a fine grid, so that in the core of a shower a deposit stands for many
    tracks and no second one stands in its place. Points drawn independently would put two there. Divided, points are nearly
    independent, as tracks are. Energy, and the energy-weighted position, are kept. The parts have one end.

    Args:
        joined: points of B showers.
        above_mev: deposits above are divided.
        quantum_mev: into points of about this energy.
        jitter_mm: parts lie within this distance in x and y, half of the fine grid's pitch or less.
        seed: of the parts.
    """
    showers = joined.showers
    energy = showers.energy_mev.astype(np.float64)
    parts = np.where(energy > above_mev, np.ceil(energy / quantum_mev), 1).astype(np.int64)
    if (parts == 1).all():
        return joined
    rng = np.random.default_rng(seed)
    whole = np.repeat(np.arange(len(energy)), parts)
    divided = parts[whole] > 1
    weight = np.where(divided, rng.gamma(_EVENNESS, size=len(whole)), 1.0)
    weight /= np.bincount(whole, weight)[whole]

    def moved(position: np.ndarray) -> np.ndarray:
        by = np.where(divided, rng.uniform(-jitter_mm, jitter_mm, len(whole)), 0.0)
        return np.asarray(position[whole] + by - np.bincount(whole, weight * by)[whole])

    counts = np.bincount(showers.shower[whole], minlength=len(showers))
    divided_showers = Showers(
        detector=showers.detector,
        incident=showers.incident,
        offsets=np.concatenate([[0], np.cumsum(counts)]),
        x_mm=moved(showers.x_mm),
        y_mm=moved(showers.y_mm),
        layer=showers.layer[whole],
        energy_mev=energy[whole] * weight,
        provenance=showers.provenance,
    )
    share, way = (np.where(divided.reshape(-1, *[1] * (a.ndim - 1)), 0, a[whole]) for a in joined[1:])
    return Joined(divided_showers, share, way)

"""CLUE, clustering by energy density, as its paper describes it.

Every point gets a density, the energy around it, and the distance to the nearest point of higher
density. Points of high density far from any higher one are seeds of clusters; points of low density far from any
higher one are outliers; every other point follows its nearest higher point.

References:
    Rovere et al., Front. Big Data 3 (2020) 591315, arXiv 2001.09761.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from anycalo.errors import EvaluationError

OUTLIER = -1
"""Cluster number of points in no cluster."""


@dataclass(frozen=True, kw_only=True)
class ClueSettings:
    """The parameters of CLUE, named as in the paper where it has names.

    Args:
        density_radius: d_c, points within it add half of their weight to a point's density.
        min_density: rho_c, smallest density of a seed.
        seed_distance: delta_c, a seed is farther than this from any point of higher density.
        outlier_distance: delta_o, a point below `min_density` farther than this from any higher one is in no cluster.
    """

    density_radius: float
    min_density: float
    seed_distance: float
    outlier_distance: float

    def __post_init__(self) -> None:
        if not min(self.density_radius, self.seed_distance, self.outlier_distance) > 0 or self.min_density < 0:
            raise EvaluationError(f"{self}; expected distances above 0 and a density of at least 0")


def clue(position: np.ndarray, weight: np.ndarray, settings: ClueSettings) -> np.ndarray:
    """Cluster points.

    Args:
        position: shape (N, D).
        weight: energies, shape (N,).
        settings: in the units of position and weight.

    Returns:
        The cluster of each point, numbered from 0 by falling density of the seed, or `OUTLIER`; int64 (N,).
    """
    n = len(weight)
    if position.ndim != 2 or len(position) != n:
        raise EvaluationError(f"positions of shape {position.shape} for {n} weights; expected ({n}, D)")
    if n == 0:
        return np.empty(0, dtype=np.int64)
    tree = cKDTree(position)
    density = weight.astype(np.float64).copy()
    pairs = tree.query_pairs(settings.density_radius, output_type="ndarray")
    np.add.at(density, pairs[:, 0], 0.5 * weight[pairs[:, 1]])
    np.add.at(density, pairs[:, 1], 0.5 * weight[pairs[:, 0]])

    # Points in order of falling density, equal ones by number; each follows the nearest of those before it.
    order = np.lexsort((np.arange(n), -density))
    rank = np.empty(n, dtype=np.int64)
    rank[order] = np.arange(n)
    higher, distance = _nearest_higher(tree, position, rank, max(settings.seed_distance, settings.outlier_distance))
    dense = density >= settings.min_density
    seeds = dense & (distance > settings.seed_distance)
    outliers = ~dense & (distance > settings.outlier_distance)
    cluster = np.full(n, OUTLIER, dtype=np.int64)
    cluster[order[seeds[order]]] = np.arange(np.count_nonzero(seeds))
    for point in order:
        if not seeds[point] and not outliers[point] and higher[point] >= 0:
            cluster[point] = cluster[higher[point]]
    return cluster


def _nearest_higher(tree: cKDTree, position: np.ndarray, rank: np.ndarray, reach: float) -> tuple[np.ndarray, np.ndarray]:
    """The nearest point of lower rank within reach of each point, -1 at infinity if there is none."""
    n = len(rank)
    higher, distance = np.full(n, -1, dtype=np.int64), np.full(n, np.inf)
    pairs = tree.query_pairs(reach, output_type="ndarray")
    if not len(pairs):
        return higher, distance
    apart = np.linalg.norm(position[pairs[:, 0]] - position[pairs[:, 1]], axis=1)
    first_lower = rank[pairs[:, 0]] > rank[pairs[:, 1]]
    point, above = np.where(first_lower, pairs.T, pairs.T[::-1])
    # Of each point the nearest, and of equally near ones the densest, comes first.
    order = np.lexsort((rank[above], apart, point))
    point, above, apart = point[order], above[order], apart[order]
    first = np.concatenate([[True], point[1:] != point[:-1]])
    higher[point[first]], distance[point[first]] = above[first], apart[first]
    return higher, distance

"""CLUE here and in its authors' package `CLUEstering`, in version 2.2.8 (arXiv 2001.09761).

The package is offered as source and takes a compiler, Boost 1.75 and, from 2.2.9 on, a download from GitHub: so it carries no
command of AnyCalo. Its clusters of small seeded samples are stored below; where it is installed, it is asked itself. It has one
distance for densities and seeds; its ties in density go to the later point, ours to the earlier: so it is given the
points in reverse.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from anycalo.evaluate.clue import ClueSettings, clue
from anycalo.evaluate.separation import PairSettings, overlay, project
from anycalo.readout import read_out

# Clusters of `points(seed)`, named by letters in the order of their first point; outliers are dots.
STORED = {
    0: "abcddeefg.bha.haiad.aadjifekd.k.jlkdd.d.gddci.i.lmkcjdieegee",
    1: "abcdedfcgghaiebejjgejedjbjbkldkjd.lgdejlehmhceec.f.ddedkfec.",
    2: "abcadeddfghfidaicedefeeeaeficgaej.dieebeafajakalmalefacadfbf",
}


def points(seed: int, n: int = 60) -> tuple[np.ndarray, np.ndarray, ClueSettings]:
    """In a plane, with weights; two of three times outliers are sought farther than densities."""
    rng = np.random.default_rng(seed)
    settings = ClueSettings(density_radius=1.0, min_density=1.5, seed_distance=1.0, outlier_distance=1.0 + 0.5 * (seed % 3))
    return rng.uniform(0, 9, size=(n, 2)), rng.exponential(1.0, n), settings


def letters(cluster: np.ndarray) -> str:
    """Clusters by the order of their first point, whatever their numbers."""
    names: dict[int, str] = {}
    return "".join("." if c < 0 else names.setdefault(int(c), chr(ord("a") + len(names))) for c in cluster)


def packaged(position: np.ndarray, weight: np.ndarray, settings: ClueSettings) -> np.ndarray:
    """Clusters by the package."""
    reason = "CLUEstering is not installed, nor needed: its stored clusters are compared"
    package = pytest.importorskip("CLUEstering", reason=reason, exc_type=ImportError)
    clusterer = package.clusterer(settings.density_radius, settings.min_density, settings.outlier_distance)
    clusterer.read_data({"x0": position[::-1, 0], "x1": position[::-1, 1], "weight": weight[::-1]})
    clusterer.run_clue()
    return np.array(clusterer.cluster_ids)[::-1]


@pytest.mark.parametrize("seed", STORED)
def test_clusters_are_those_that_the_package_made(seed: int) -> None:
    position, weight, settings = points(seed)
    assert letters(clue(position, weight, settings)) == STORED[seed]
    # The twin that must fail: another radius of densities.
    other = ClueSettings(**(vars(settings) | {"density_radius": 0.7}))
    assert letters(clue(position, weight, other)) != STORED[seed]


@pytest.mark.parametrize("seed", range(20))
def test_clusters_are_those_that_the_package_makes(seed: int) -> None:
    position, weight, settings = points(seed, 200)
    assert letters(clue(position, weight, settings)) == letters(packaged(position, weight, settings))


def test_pairs_of_photons_fall_into_the_same_clusters(toy) -> None:
    """Cells: neighbours are equally near, and which of them is followed is open. Moved by a hair, nothing is."""
    n = 30
    showers, rng = toy(2 * n, 1), np.random.default_rng(2)
    half = rng.uniform(-15, 15, size=(n, 2))
    both = overlay(showers, np.arange(n), np.arange(n) + n, half)
    cells = read_out(both)
    x, y = project(cells, both.incident)
    starts = np.searchsorted(cells.shower, np.arange(n + 1))
    for a, b in pairwise(starts):
        place, of_point = np.unique(np.round(np.column_stack([x[a:b], y[a:b]]), 3), axis=0, return_inverse=True)
        energy = np.bincount(of_point.ravel(), weights=cells.energy_mev[a:b])
        chosen = PairSettings().clue(showers.detector, float(energy.sum()))
        settings = ClueSettings(**(vars(chosen) | {"seed_distance": chosen.density_radius}))
        assert clue(place, energy, settings).max() == packaged(place, energy, settings).max()
        moved = place + rng.uniform(-0.01, 0.01, size=place.shape)
        assert letters(clue(moved, energy, settings)) == letters(packaged(moved, energy, settings))

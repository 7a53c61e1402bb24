"""Showers with one known defect each, made from good ones."""

from __future__ import annotations

import numpy as np

from anycalo.showers import Showers


def remade(showers: Showers, order: np.ndarray | None = None, **arrays: np.ndarray) -> Showers:
    """The same showers with other arrays; points are put in `order` first."""
    order = np.arange(showers.n_points) if order is None else order
    names = ("x_mm", "y_mm", "layer", "energy_mev")
    return Showers(
        detector=showers.detector,
        incident=showers.incident,
        offsets=arrays.pop("offsets", showers.offsets),
        provenance=showers.provenance,
        **{name: arrays.get(name, getattr(showers, name))[order] for name in names},
    )


def scaled(showers: Showers, factor: float = 1.02) -> Showers:
    """Every deposit times a factor."""
    return remade(showers, energy_mev=showers.energy_mev * np.float32(factor))


def swapped(showers: Showers, a: int, b: int) -> Showers:
    """Two layers take one another's place."""
    layer = showers.layer.copy()
    layer[showers.layer == a], layer[showers.layer == b] = b, a
    return remade(showers, layer=layer)


def decorrelated(showers: Showers, seed: int = 0, neighbours: int = 10) -> Showers:
    """Each layer is exchanged, by itself, between showers of nearly the same energy.

    Every distribution of one layer stays exactly what it was; what layers of one shower have in common is lost.
    """
    rng = np.random.default_rng(seed)
    n, layers = len(showers), showers.detector.n_layers
    by_energy = np.argsort(showers.incident.energy_mev, kind="stable")
    owner = np.empty((n, layers), dtype=np.int64)
    for layer in range(layers):
        for start in range(0, n, neighbours):
            group = by_energy[start : start + neighbours]
            owner[group, layer] = rng.permutation(group)
    shower = owner[showers.shower, showers.layer]
    order = np.lexsort((showers.layer, shower))
    offsets = np.concatenate([[0], np.cumsum(np.bincount(shower, minlength=n))])
    return remade(showers, order, offsets=offsets)

"""Voxels in rings and sectors: voxel to point, with smearing inside the voxel, and back without loss.

The order of voxels, and that sector 0 starts at alpha = -pi (the -x axis) and turns towards +y, is that of
the CaloChallenge (C. Krause et al., arXiv 2410.21611): layers, then sectors, then rings, rings fastest.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from anycalo.errors import ConversionError
from anycalo.geometry import Detector, Polar

# Smeared positions keep this share of the voxel away from each side, far more than float32 rounds.
_MARGIN = 1e-3
# Rings thinner than this share of their radius would be lost in float32.
_THINNEST = 1e-2
_MOST_SECTORS = 1000


@dataclass(frozen=True, kw_only=True)
class Rings:
    """The voxels of one layer.

    Args:
        r_edges_mm: edges of the rings, rising from at least 0.
        n_sectors: 1, or an even number.
    """

    r_edges_mm: tuple[float, ...]
    n_sectors: int

    def __post_init__(self) -> None:
        edges = np.asarray(self.r_edges_mm, dtype=np.float64)
        widths = np.diff(edges)
        if len(edges) < 2 or edges[0] < 0 or not np.isfinite(edges).all() or (widths <= 0).any():
            raise ConversionError(f"ring edges are {list(self.r_edges_mm)}; expected at least two, rising from at least 0")
        if (widths < _THINNEST * edges[1:]).any():
            raise ConversionError(f"ring edges {list(self.r_edges_mm)} have a ring thinner than 1% of its radius")
        # An odd number, counted from -x, has no side on +x, where a polar readout starts to count.
        if not 1 <= self.n_sectors <= _MOST_SECTORS or (self.n_sectors > 1 and self.n_sectors % 2):
            raise ConversionError(f"{self.n_sectors} sectors in a layer; expected 1, or an even number up to {_MOST_SECTORS}")

    @property
    def n_rings(self) -> int:
        """Number of rings."""
        return len(self.r_edges_mm) - 1

    @property
    def n_voxels(self) -> int:
        """Number of voxels."""
        return self.n_rings * self.n_sectors

    def same(self, other: Rings) -> bool:
        """Whether the voxels are the same, to a millionth of their radius."""
        return (
            self.n_sectors == other.n_sectors
            and len(self.r_edges_mm) == len(other.r_edges_mm)
            and bool(np.allclose(self.r_edges_mm, other.r_edges_mm, rtol=1e-6, atol=1e-9))
        )

    def __str__(self) -> str:
        return f"{self.n_rings} rings x {self.n_sectors} sectors up to r = {self.r_edges_mm[-1]:g} mm"


@dataclass(frozen=True, kw_only=True)
class PolarGrid:
    """The voxels of all layers, V of them.

    Args:
        layers: from the front to the back.
    """

    layers: tuple[Rings, ...]

    @staticmethod
    def of(detector: Detector) -> PolarGrid:
        """The voxels of a detector whose every layer has a polar readout around the shower axis.

        Raises:
            ConversionError: naming the first layer that has not.
        """
        layers = []
        for i, layer in enumerate(detector.layers):
            readout = layer.readout
            if not isinstance(readout, Polar) or any(readout.offset_mm):
                raise ConversionError(
                    f"layer {i} of '{detector.name}' is read out in {readout.describe()}; expected a polar readout"
                    " around the axis in every layer. Convert with a detector that has one."
                )
            layers.append(Rings(r_edges_mm=readout.r_edges_mm, n_sectors=readout.n_phi))
        return PolarGrid(layers=tuple(layers))

    @cached_property
    def first(self) -> np.ndarray:
        """The first voxel of each layer, and V: shape (L + 1,)."""
        return np.concatenate([[0], np.cumsum([layer.n_voxels for layer in self.layers])]).astype(np.int64)

    @property
    def n_voxels(self) -> int:
        """V."""
        return int(self.first[-1])

    def difference(self, other: PolarGrid) -> str:
        """The first difference to another grid in words, or the empty string."""
        if len(self.layers) != len(other.layers):
            return f"{len(self.layers)} layers against {len(other.layers)}"
        for i, (mine, theirs) in enumerate(zip(self.layers, other.layers, strict=True)):
            if not mine.same(theirs):
                return f"layer {i} has {mine} against {theirs}"
        return ""

    @cached_property
    def _boxes(self) -> tuple[np.ndarray, ...]:
        """For each voxel: layer, inner radius squared, outer minus inner, alpha at its start, width in alpha."""
        layer, r2, dr2, alpha, width = [], [], [], [], []
        for i, rings in enumerate(self.layers):
            edges = np.asarray(rings.r_edges_mm) ** 2
            step = 2 * math.pi / rings.n_sectors
            layer.append(np.full(rings.n_voxels, i))
            r2.append(np.tile(edges[:-1], rings.n_sectors))
            dr2.append(np.tile(np.diff(edges), rings.n_sectors))
            alpha.append(np.repeat(-math.pi + step * np.arange(rings.n_sectors), rings.n_rings))
            width.append(np.full(rings.n_voxels, step))
        return np.concatenate(layer).astype(np.int16), *map(np.concatenate, (r2, dr2, alpha, width))

    def points(self, voxel: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """A random point in each voxel, uniform in its area, off its sides by a thousandth.

        Args:
            voxel: numbers of voxels, shape (P,).
            rng: the source of chance; two numbers a point are drawn, in the order of the points.

        Returns:
            layer int16, x and y in mm float32, each of shape (P,).
        """
        layer, r2, dr2, alpha, width = self._boxes
        # Scaled as (1 - 2 m) u + m in place: these arrays are the largest of a conversion.
        u = rng.random((len(voxel), 2), dtype=np.float32)
        u *= 1 - 2 * _MARGIN
        u += _MARGIN
        r = np.sqrt(r2[voxel] + dr2[voxel] * u[:, 0])
        phi = (alpha[voxel] + width[voxel] * u[:, 1]).astype(np.float32)
        return layer[voxel], (r * np.cos(phi)).astype(np.float32), (r * np.sin(phi)).astype(np.float32)

    def voxels(self, layer: np.ndarray, x_mm: np.ndarray, y_mm: np.ndarray) -> np.ndarray:
        """The voxel of each point, shape (P,); -1 where there is none."""
        kinds: dict[Rings, list[int]] = {}
        for i, rings in enumerate(self.layers):
            kinds.setdefault(rings, []).append(i)
        if len(kinds) == 1:
            inside = _within(next(iter(kinds)), x_mm, y_mm)
            return np.where(inside >= 0, inside + self.first[layer], -1)
        voxel = np.full(len(layer), -1, dtype=np.int64)
        kind = np.zeros(len(self.layers), dtype=np.int64)
        for k, members in enumerate(kinds.values()):
            kind[members] = k
        for k, rings in enumerate(kinds):
            chosen = np.flatnonzero(kind[layer] == k)
            inside = _within(rings, x_mm[chosen], y_mm[chosen])
            voxel[chosen] = np.where(inside >= 0, inside + self.first[layer[chosen]], -1)
        return voxel

    def fill(self, shower: np.ndarray, n_showers: int, voxel: np.ndarray, energy_mev: np.ndarray) -> tuple[np.ndarray, float]:
        """Energies of all voxels, float64 (n_showers, V), and the energy of points without a voxel."""
        found = voxel >= 0
        lost = float(energy_mev[~found].sum(dtype=np.float64))
        key = shower[found] * self.n_voxels + voxel[found]
        grid = np.bincount(key, weights=energy_mev[found], minlength=n_showers * self.n_voxels)
        return grid.reshape(n_showers, self.n_voxels), lost


def _within(rings: Rings, x_mm: np.ndarray, y_mm: np.ndarray) -> np.ndarray:
    """The voxel of each point within a layer, -1 outside."""
    x, y = x_mm.astype(np.float64), y_mm.astype(np.float64)
    ring = np.searchsorted(np.asarray(rings.r_edges_mm), np.hypot(x, y), side="right") - 1
    turn = (np.arctan2(y, x) + math.pi) * (rings.n_sectors / (2 * math.pi))
    sector = np.floor(turn).astype(np.int64) % rings.n_sectors  # alpha = pi is alpha = -pi
    return np.where((ring >= 0) & (ring < rings.n_rings), sector * rings.n_rings + ring, -1)

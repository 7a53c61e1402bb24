"""From positions in a file to layers: which axis is the depth, and which positions on it are which layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from anycalo.errors import ShowerFileError
from anycalo.geometry import Detector

# Share of the energy that must lie in the layers for a reading of the positions to be taken.
_FIT = 0.99
# Axes of the shower frame (x, y, z) among those of the file, by the file's depth axis: a rotation, never a mirror image.
# With depth along y, x is the file's z: the field of a barrel.
FRAME = {"x": (1, 2, 0), "y": (2, 0, 1), "z": (0, 1, 2)}

# Where the silicon of ILD's barrel ECAL starts, as the files of CaloClouds and showerdata have it, in mm from
# the beam (arXiv 2309.05704, 2511.01460); it is 0.525 mm thick.
_ILD_MM = (
    *(1811.34, 1814.46, 1823.81, 1826.94, 1836.28, 1839.41, 1848.75, 1851.88, 1861.22, 1864.34),
    *(1873.69, 1876.81, 1886.16, 1889.29, 1898.63, 1901.76, 1911.10, 1914.22, 1923.57, 1926.69),
    *(1938.14, 1943.36, 1954.81, 1960.04, 1971.48, 1976.70, 1988.15, 1993.38, 2004.82, 2010.05),
)
_ILD_SENSOR_MM = 0.525


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Intervals of depth that are layers.

    Args:
        words: what depth is, for messages and provenance.
        low: where each layer starts, shape (L,), rising.
        high: where it ends.
    """

    words: str
    low: np.ndarray
    high: np.ndarray

    def layer(self, depth: np.ndarray) -> np.ndarray:
        """The layer of each depth, -1 where there is none."""
        index = np.searchsorted(self.low, depth, side="right") - 1
        inside = (index >= 0) & (depth < self.high[np.maximum(index, 0)])
        return np.where(inside, index, -1)


def _widened(words: str, low: np.ndarray, high: np.ndarray) -> Layout:
    """Half a sensor wider on both sides, but not beyond the middle to the neighbour."""
    room = (low[1:] - high[:-1]) / 2
    spare = np.minimum((high - low) / 2, np.minimum(np.append(room, np.inf), np.append(np.inf, room)))
    return Layout(words=words, low=low - spare, high=high + spare)


def layouts(detector: Detector, face_mm: float | None) -> list[Layout]:
    """Every way of giving depth that a file of this detector may use.

    Layer numbers (from 0; 3.7 is layer 3); mm, with the sensors where the detector has them behind
    the face; and, for 30 layers, the positions of ILD's ECAL in mm from the beam.
    """
    count = detector.n_layers
    numbers = np.arange(count, dtype=np.float64)
    found = [Layout(words="numbers of layers", low=numbers - 1e-3, high=np.append(numbers[1:] - 1e-3, count))]
    starts, ends = [], []
    for front, layer in zip(detector.layer_front_mm, detector.layers, strict=True):
        edges = front + np.concatenate([[0], np.cumsum([slab.thickness_mm for slab in layer.slabs])])
        sensitive = np.flatnonzero([slab.sensitive for slab in layer.slabs])
        starts.append(edges[sensitive[0]])
        ends.append(edges[sensitive[-1] + 1])
    face = face_mm or 0.0
    words = f"mm, the face of '{detector.name}' at {face:g} mm"
    in_mm = _widened(words, np.array(starts) + face, np.array(ends) + face)
    if face_mm is not None:
        return [in_mm]
    found.append(in_mm)
    if count == len(_ILD_MM):
        low = np.array(_ILD_MM)
        found.append(_widened("mm from the beam, the layers where ILD's ECAL has them", low, low + _ILD_SENSOR_MM))
    return found


@dataclass(frozen=True, kw_only=True)
class Placement:
    """How positions of a file are read.

    Args:
        axis: the file's depth axis.
        layout: which depth is which layer.
        origin_mm: the axis of the shower, in x and y of the shower frame.
    """

    axis: str
    layout: Layout
    origin_mm: tuple[float, float]

    def words(self) -> str:
        """The reading, for provenance."""
        x, y, _ = ("xyz"[i] for i in FRAME[self.axis])
        at = f", origin at {self.origin_mm[0]:g}, {self.origin_mm[1]:g} mm" if any(self.origin_mm) else ""
        return f"depth along the file's {self.axis}, in {self.layout.words}; x and y are its {x} and {y}{at}"

    def place(self, xyz: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Layer (-1 outside), x and y in mm of positions of shape (P, 3)."""
        x, y, depth = (xyz[:, i] for i in FRAME[self.axis])
        return self.layout.layer(depth), x - self.origin_mm[0], y - self.origin_mm[1]


def find_placement(
    path: object,
    detector: Detector,
    xyz: np.ndarray,
    energy: np.ndarray,
    *,
    depth: str | None,
    face_mm: float | None,
    origin_mm: tuple[float, float] | None,
    kinds: Sequence[Layout] | None = None,
) -> Placement:
    """The one reading of positions that puts nearly all energy in the detector's layers.

    Args:
        path: of the file, for messages.
        detector: whose layers.
        xyz: positions in the file, shape (P, 3).
        energy: of those positions, shape (P,).
        depth: the depth axis, or None to look for it.
        face_mm: where the face lies on it, or None to look for it.
        origin_mm: the axis of the shower; (0, 0) by default.
        kinds: the layouts to try, in place of all.

    Raises:
        ShowerFileError: if no reading, or more than one, fits; the message says how far each does.
    """
    total = float(energy.sum(dtype=np.float64))
    tried: list[tuple[float, str, Layout]] = []
    for axis in (depth,) if depth else ("x", "y", "z"):
        for layout in kinds if kinds is not None else layouts(detector, face_mm):
            inside = layout.layer(xyz[:, "xyz".index(axis)]) >= 0
            share = float(energy[inside].sum(dtype=np.float64)) / total if total else 0.0
            tried.append((share, axis, layout))
    fits = [reading for reading in tried if reading[0] >= _FIT]
    if len(fits) == 2 and fits[0][1] == fits[1][1]:
        # Thin layers, where numbers of layers pass for millimetres: whole numbers are numbers.
        values = xyz[:, "xyz".index(fits[0][1])]
        fits = fits[:1] if np.array_equal(values, np.round(values)) else fits[1:]
    if len(fits) == 1:
        _, axis, layout = fits[0]
        return Placement(axis=axis, layout=layout, origin_mm=origin_mm or (0.0, 0.0))
    if fits:
        words = " and ".join(f"{axis} ({layout.words})" for _, axis, layout in fits)
        raise ShowerFileError(f"{path}: more than one axis fits the layers of '{detector.name}': {words}. Give the depth axis.")
    share, axis, layout = max(tried, key=lambda reading: reading[0])
    values = xyz[:, "xyz".index(axis)]
    span = f"{values.min():g} to {values.max():g}" if len(values) else "none"
    raise ShowerFileError(
        f"{path}: no axis of its points fits the {detector.n_layers} layers of '{detector.name}'."
        f" Best is {axis}, read as {layout.words}: {share:.1%} of the energy lies in a layer;"
        f" its values run from {span}, the layers' from {layout.low[0]:g} to {layout.high[-1]:g}."
        " Give the detector the file is of, the depth axis, or where its face lies on that axis."
    )

"""The same showers in other segmentations, and showers as cells in spiral order: what the cell-wise family learns from."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from anycalo.errors import ModelError
from anycalo.geometry import Detector, Edges, Section
from anycalo.models.spiral import SpiralPath
from anycalo.readout import read_out
from anycalo.showers import Showers

_GRID = re.compile(r"([1-9]\d*)(?:\+([1-9]\d*))?x([1-9]\d*)(?:\+([1-9]\d*))?")


def segment(detector: Detector, grids: Sequence[str]) -> Detector:
    """A detector with the cells of each layer chosen anew; everything else stays.

    Args:
        detector: whose layers they are.
        grids: for each layer, numbers of cells along x and y over the width of the detector: `48x12`; `24+12x48` has 24
            columns in the lower and 12 in the upper half.

    Raises:
        ModelError: if a grid cannot be read, or there are not as many as layers.

    Example:
        >>> segment(Detector.load("atlas-like"), ("48x4", "24+12x48", "24x24")).layers[1].readout.describe()
        '36 x 48 cells over 480 x 480 mm'
    """
    if len(grids) != detector.n_layers:
        raise ModelError(f"{len(grids)} grids for the {detector.n_layers} layers of '{detector.name}'; expected one a layer")
    layers = []
    for grid, layer in zip(grids, detector.layers, strict=True):
        found = _GRID.fullmatch(grid)
        if found is None:
            raise ModelError(f"grid {grid!r} cannot be read; expected columns and rows such as '48x12', or '24+12x48'")
        x_low, x_high, y_low, y_high = (None if n is None else int(n) for n in found.groups())
        x_edges, y_edges = _edges(detector.size_mm[0], x_low or 1, x_high), _edges(detector.size_mm[1], y_low or 1, y_high)
        layers.append(replace(layer, readout=Edges(x_edges_mm=x_edges, y_edges_mm=y_edges)))
    return replace(detector, sections=(Section(layers=tuple(layers)),))


def _edges(size_mm: float, low: int, high: int | None) -> tuple[float, ...]:
    half = size_mm / 2
    spans = [(-half, half, low)] if high is None else [(-half, 0.0, low), (0.0, half, high)]
    return (*(start + (stop - start) * i / n for start, stop, n in spans for i in range(n)), half)


def turned(showers: Showers, seed: int) -> Showers:
    """Each shower turned or mirrored at random by one of the eight symmetries of the square.

    Raises:
        ModelError: where that changes the physics: a field, slanted particles, a face that is not square.
    """
    detector = showers.detector
    if detector.field_tesla or detector.size_mm[0] != detector.size_mm[1] or showers.incident.theta_rad.max() > 1e-3:
        raise ModelError(
            f"showers of '{detector.name}' cannot be turned: expected no field, a square face and particles along its normal."
            " Set turn = false."
        )
    kind = np.random.default_rng([seed, 0x7C]).integers(8, size=len(showers))[showers.shower]
    x = np.where(kind & 1, -showers.x_mm, showers.x_mm)
    y = np.where(kind & 2, -showers.y_mm, showers.y_mm)
    x, y = np.where(kind & 4, y, x), np.where(kind & 4, x, y)
    return Showers(
        detector=detector,
        incident=showers.incident,
        offsets=showers.offsets,
        x_mm=x,
        y_mm=y,
        layer=showers.layer,
        energy_mev=showers.energy_mev,
        provenance=showers.provenance,
    )


def layer_cells(showers: Showers, paths: Sequence[SpiralPath]) -> list[np.ndarray]:
    """Energies of the cells of each layer in spiral order, float32 (B, D) in MeV; what no cell holds is left out."""
    cells = read_out(showers)
    images = []
    for layer, path in enumerate(paths):
        image = np.zeros((len(showers), len(path)), dtype=np.float32)
        here = cells.layer == layer
        image[cells.shower[here], path.inverse[cells.cell[here]]] = cells.energy_mev[here]
        images.append(image)
    return images

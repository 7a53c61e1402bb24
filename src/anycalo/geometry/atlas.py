"""The `atlas-like` calorimeter in any segmentation of its three layers."""

from __future__ import annotations

from dataclasses import replace

from anycalo.geometry.detector import Detector, Layer, Section
from anycalo.geometry.fields import InvalidField, integer
from anycalo.geometry.readouts import Edges

SIZE_MM = 480.0
Cells = tuple[int | tuple[int, int], int | tuple[int, int]]


def _half_edges(low_mm: float, high_mm: float, n: int) -> list[float]:
    return [low_mm + (high_mm - low_mm) * i / n for i in range(n)]


def _edges(key: str, n: int | tuple[int, int]) -> tuple[float, ...]:
    half = SIZE_MM / 2
    if isinstance(n, tuple):
        if len(n) != 2:
            raise InvalidField(key, f"{key} has {n!r} cells along one side; expected a number, or one for each half")
        low, high = (integer(key, m) for m in n)
        return (*_half_edges(-half, 0.0, low), *_half_edges(0.0, half, high), half)
    return (*_half_edges(-half, half, integer(key, n)), half)


def atlas_like(inner: Cells = (48, 24), middle: Cells = (24, 24), outer: Cells = (24, 24)) -> Detector:
    """The preset `atlas-like` with the cells of each layer chosen.

    The showers of one choice are the showers of every other, read out differently.

    Args:
        inner: numbers of cells (eta, phi) that divide the 480 x 480 mm of the inner layer; eta runs along x and
            phi along y. In place of a number, a pair counts the cells of the lower and of the upper half:
            ((24, 12), 48) is the non-uniform segmentation (36, 48)* of arXiv 2305.11531.
        middle: the same for the middle layer.
        outer: the same for the outer layer.

    Raises:
        DetectorError: if a number of cells is not a positive whole number.

    Example:
        >>> atlas_like(middle=((24, 12), 48)).layers[1].readout.describe()
        '36 x 48 cells over 480 x 480 mm'
    """
    preset = Detector.load("atlas-like")
    layers: list[Layer] = []
    for key, (n_eta, n_phi), layer in zip(("inner", "middle", "outer"), (inner, middle, outer), preset.layers, strict=True):
        readout = Edges(x_edges_mm=_edges(key, n_eta), y_edges_mm=_edges(key, n_phi))
        layers.append(replace(layer, readout=readout))
    return replace(preset, sections=(Section(layers=tuple(layers)),))

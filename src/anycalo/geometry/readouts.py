"""How a layer is divided into cells; the cells themselves are made in the readout room."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar

import numpy as np

from anycalo.geometry.fields import InvalidField, integer, number, pair, rising


@dataclass(frozen=True, kw_only=True)
class Rectangular:
    """Equal rectangular cells, a grid centred on the shower axis with a cell corner at the origin.

    Args:
        pitch_mm: distance between cell centres in x and y.
        offset_mm: shift of the whole grid in x and y (staggered layers).
        gap_mm: dead width between neighbouring cells in x and y; the cell is that much smaller than its pitch.
        wafer_cells: number of cells of a wafer in x and y, or none.
        wafer_gap_mm: dead width added between neighbouring wafers (guard rings).
    """

    kind: ClassVar[str] = "rectangular"
    pitch_mm: tuple[float, float]
    offset_mm: tuple[float, float] = (0.0, 0.0)
    gap_mm: tuple[float, float] = (0.0, 0.0)
    wafer_cells: tuple[int, int] | None = None
    wafer_gap_mm: tuple[float, float] = (0.0, 0.0)

    def __post_init__(self) -> None:
        set_ = object.__setattr__
        set_(self, "pitch_mm", pair("pitch_mm", self.pitch_mm, positive=True))
        set_(self, "offset_mm", pair("offset_mm", self.offset_mm))
        set_(self, "gap_mm", pair("gap_mm", self.gap_mm, minimum=0.0))
        set_(self, "wafer_gap_mm", pair("wafer_gap_mm", self.wafer_gap_mm, minimum=0.0))
        if any(g >= p for g, p in zip(self.gap_mm, self.pitch_mm, strict=True)):
            raise InvalidField("gap_mm", f"gap_mm is {list(self.gap_mm)}; expected less than pitch_mm = {list(self.pitch_mm)}")
        if self.wafer_cells is not None:
            pair("wafer_cells", self.wafer_cells)
            set_(self, "wafer_cells", tuple(integer("wafer_cells", n) for n in self.wafer_cells))
        elif any(self.wafer_gap_mm):
            raise InvalidField("wafer_gap_mm", "wafer_gap_mm is given without wafer_cells; expected both or neither")

    @property
    def cell_mm(self) -> float:
        """Side of a square of the area that a cell has on average [mm], gaps included."""
        return math.sqrt(self.pitch_mm[0] * self.pitch_mm[1])

    def describe(self) -> str:
        """The cells in a few words."""
        return f"{self.pitch_mm[0]:g} x {self.pitch_mm[1]:g} mm cells"


@dataclass(frozen=True, kw_only=True)
class Edges:
    """Rectangular cells between explicit edges, which may be unequal.

    Args:
        x_edges_mm, y_edges_mm: strictly increasing edges; n edges make n - 1 columns (rows).
        offset_mm: shift of the whole grid in x and y.
        gap_mm: dead width centred on every inner edge.
    """

    kind: ClassVar[str] = "edges"
    x_edges_mm: tuple[float, ...]
    y_edges_mm: tuple[float, ...]
    offset_mm: tuple[float, float] = (0.0, 0.0)
    gap_mm: tuple[float, float] = (0.0, 0.0)

    def __post_init__(self) -> None:
        set_ = object.__setattr__
        set_(self, "x_edges_mm", rising("x_edges_mm", self.x_edges_mm))
        set_(self, "y_edges_mm", rising("y_edges_mm", self.y_edges_mm))
        set_(self, "offset_mm", pair("offset_mm", self.offset_mm))
        set_(self, "gap_mm", pair("gap_mm", self.gap_mm, minimum=0.0))
        for axis, edges, gap in (("x", self.x_edges_mm, self.gap_mm[0]), ("y", self.y_edges_mm, self.gap_mm[1])):
            smallest = float(np.min(np.diff(edges)))
            if gap >= smallest:
                raise InvalidField("gap_mm", f"gap_mm in {axis} is {gap}; expected less than the smallest cell, {smallest} mm")

    @property
    def cell_mm(self) -> float:
        """Side of a square of the area that a cell has on average [mm], gaps included."""
        spans = [(e[-1] - e[0]) / (len(e) - 1) for e in (self.x_edges_mm, self.y_edges_mm)]
        return math.sqrt(spans[0] * spans[1])

    def describe(self) -> str:
        """The cells in a few words."""
        (nx, wx), (ny, wy) = ((len(e) - 1, e[-1] - e[0]) for e in (self.x_edges_mm, self.y_edges_mm))
        return f"{nx} x {ny} cells over {wx:g} x {wy:g} mm"


@dataclass(frozen=True, kw_only=True)
class Polar:
    """Cells in rings and sectors around the shower axis.

    Args:
        r_edges_mm: strictly increasing ring edges, the first at least 0.
        n_phi: number of sectors; sector 0 starts at phi = 0, the +x axis.
        offset_mm: shift of the centre in x and y.
    """

    kind: ClassVar[str] = "polar"
    r_edges_mm: tuple[float, ...]
    n_phi: int
    offset_mm: tuple[float, float] = (0.0, 0.0)

    def __post_init__(self) -> None:
        edges = rising("r_edges_mm", self.r_edges_mm)
        if edges[0] < 0:
            raise InvalidField("r_edges_mm", f"r_edges_mm starts at {edges[0]!r}; expected a radius of at least 0")
        object.__setattr__(self, "r_edges_mm", edges)
        object.__setattr__(self, "n_phi", integer("n_phi", self.n_phi))
        object.__setattr__(self, "offset_mm", pair("offset_mm", self.offset_mm))

    @property
    def cell_mm(self) -> float:
        """Side of a square of the area that a cell has on average [mm]."""
        area = math.pi * (self.r_edges_mm[-1] ** 2 - self.r_edges_mm[0] ** 2)
        return math.sqrt(area / ((len(self.r_edges_mm) - 1) * self.n_phi))

    def describe(self) -> str:
        """The cells in a few words."""
        return f"{len(self.r_edges_mm) - 1} rings x {self.n_phi} sectors up to r = {self.r_edges_mm[-1]:g} mm"


@dataclass(frozen=True, kw_only=True)
class Hexagonal:
    """Regular hexagons with two sides parallel to y, one centred on the origin.

    Args:
        pitch_mm: distance between the centres of neighbours (flat to flat).
        offset_mm: shift of the grid in x and y.
        gap_mm: dead width between neighbouring cells.
    """

    kind: ClassVar[str] = "hexagonal"
    pitch_mm: float
    offset_mm: tuple[float, float] = (0.0, 0.0)
    gap_mm: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "pitch_mm", number("pitch_mm", self.pitch_mm, positive=True))
        object.__setattr__(self, "offset_mm", pair("offset_mm", self.offset_mm))
        object.__setattr__(self, "gap_mm", number("gap_mm", self.gap_mm, minimum=0.0))
        if self.gap_mm >= self.pitch_mm:
            raise InvalidField("gap_mm", f"gap_mm is {self.gap_mm}; expected less than pitch_mm = {self.pitch_mm}")

    @property
    def cell_mm(self) -> float:
        """Side of a square of the area that a cell has [mm], gaps included."""
        return self.pitch_mm * math.sqrt(math.sqrt(3) / 2)

    def describe(self) -> str:
        """The cells in a few words."""
        return f"hexagons, {self.pitch_mm:g} mm from flat to flat"


Readout = Rectangular | Edges | Polar | Hexagonal
READOUTS: Mapping[str, type[Readout]] = MappingProxyType({c.kind: c for c in (Rectangular, Edges, Polar, Hexagonal)})

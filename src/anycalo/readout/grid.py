"""Where the cells of one layer are: from a position to a cell's number and back.

A readout divides a plane; the slab of the layer, `size_mm` wide and centred on the origin, says how
much of it exists. Cells are numbered 0 to `n_cells` - 1 over the cells that cover the slab:

- rectangular, edges: row by row along y, within a row along x: `row * n_columns + column`;
- polar: sector by sector, within a sector from the axis outwards: `sector * n_rings + ring`, the order
  of the CaloChallenge (arXiv 2410.21611);
- hexagonal: row by row along y, within a row along x; odd rows are shifted by half a pitch.

A cell cut by the edge of the slab keeps its number and its nominal centre.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike

from anycalo.errors import ShowersError
from anycalo.geometry import Edges, Hexagonal, Polar, Readout, Rectangular

GAP = -1
"""What `cell_index` says of a position in the dead width between cells or wafers."""
OUTSIDE = -2
"""What `cell_index` says of a position where no cell is."""

# Slabs are often a whole number of pitches wide; rounding must not add a column of no width.
_ROUNDING = 1e-9


class _Grid(Protocol):
    @property
    def n_cells(self) -> int: ...

    def index(self, x: np.ndarray, y: np.ndarray) -> np.ndarray: ...

    def centre(self, cell: np.ndarray) -> tuple[np.ndarray, np.ndarray]: ...


@dataclass(frozen=True)
class _Steps:
    """Equal columns along one axis, `pitch` apart, in wafers of `wafer` columns with `wafer_gap` between."""

    offset: float
    pitch: float
    gap: float
    wafer: int | None
    wafer_gap: float
    first: int
    n: int

    @staticmethod
    def cover(size: float, offset: float, pitch: float, gap: float, wafer: int | None, wafer_gap: float) -> _Steps:
        steps = _Steps(offset, pitch, gap, wafer, wafer_gap, 0, 0)
        ends = np.array([-size / 2, size / 2]) + pitch * _ROUNDING * np.array([1, -1])
        first, last = (int(c) for c in steps._column(ends)[0])
        return _Steps(offset, pitch, gap, wafer, wafer_gap, first, last - first + 1)

    def _column(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Column (any integer) and the distance from its lower edge; beyond the pitch or negative in a wafer gap."""
        u = x - self.offset
        if self.wafer is None:
            column = np.floor(u / self.pitch)
            return column.astype(np.int64), u - column * self.pitch
        # Wafers with half of their gap on either side repeat with this period.
        period = self.wafer * self.pitch + self.wafer_gap
        k = np.floor(u / period)
        v = u - k * period - self.wafer_gap / 2
        inner = np.clip(np.floor(v / self.pitch), 0, self.wafer - 1)
        return (k * self.wafer + inner).astype(np.int64), v - inner * self.pitch

    def index(self, x: np.ndarray) -> np.ndarray:
        column, inside = self._column(x)
        index = column - self.first
        index[(inside < self.gap / 2) | (inside >= self.pitch - self.gap / 2)] = GAP
        index[(column < self.first) | (column >= self.first + self.n)] = OUTSIDE
        return index

    def centre(self, index: np.ndarray) -> np.ndarray:
        column = index + self.first
        gaps = 0.0 if self.wafer is None else self.wafer_gap * (np.floor_divide(column, self.wafer) + 0.5)
        return np.asarray(self.offset + (column + 0.5) * self.pitch + gaps)


@dataclass(frozen=True)
class _Unequal:
    """Columns between explicit edges along one axis, with a gap centred on every inner edge."""

    edges: np.ndarray
    gap: float

    @property
    def n(self) -> int:
        return len(self.edges) - 1

    def index(self, x: np.ndarray) -> np.ndarray:
        index = np.searchsorted(self.edges, x, side="right") - 1
        outside = (index < 0) | (index >= self.n)
        inner = np.clip(index, 0, self.n - 1)
        low = (x < self.edges[inner] + self.gap / 2) & (inner > 0)
        high = (x >= self.edges[inner + 1] - self.gap / 2) & (inner < self.n - 1)
        index[low | high] = GAP
        index[outside] = OUTSIDE
        return index

    def centre(self, index: np.ndarray) -> np.ndarray:
        return np.asarray((self.edges[index] + self.edges[index + 1]) / 2)


@dataclass(frozen=True)
class _Table:
    """Columns along x times rows along y."""

    columns: _Steps | _Unequal
    rows: _Steps | _Unequal

    @property
    def n_cells(self) -> int:
        return self.columns.n * self.rows.n

    def index(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        column, row = self.columns.index(x), self.rows.index(y)
        cell = row * self.columns.n + column
        dead = (column < 0) | (row < 0)
        cell[dead] = np.minimum(column[dead], row[dead])  # outside wins over gap
        return np.asarray(cell)

    def centre(self, cell: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        row, column = np.divmod(cell, self.columns.n)
        return self.columns.centre(column), self.rows.centre(row)


@dataclass(frozen=True)
class _Rings:
    """Rings times sectors."""

    readout: Polar

    @property
    def n_cells(self) -> int:
        return (len(self.readout.r_edges_mm) - 1) * self.readout.n_phi

    def index(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        edges, n_phi = np.array(self.readout.r_edges_mm), self.readout.n_phi
        u, v = x - self.readout.offset_mm[0], y - self.readout.offset_mm[1]
        ring = np.searchsorted(edges, np.hypot(u, v), side="right") - 1
        turn = np.arctan2(v, u) * (n_phi / (2 * math.pi))
        sector = np.floor(np.where(turn < 0, turn + n_phi, turn)).astype(np.int64)
        np.minimum(sector, n_phi - 1, out=sector)  # a tiny negative angle rounds up to a whole turn
        cell = sector * (len(edges) - 1) + ring
        cell[(ring < 0) | (ring >= len(edges) - 1)] = OUTSIDE
        return cell

    def centre(self, cell: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        edges, n_phi = np.array(self.readout.r_edges_mm), self.readout.n_phi
        middle = (edges[:-1] + edges[1:]) / 2
        if n_phi == 1 and edges[0] == 0:
            middle[0] = 0.0  # an undivided disc
        sector, ring = np.divmod(cell, len(middle))
        phi = (sector + 0.5) * (2 * math.pi / n_phi)
        return self.readout.offset_mm[0] + middle[ring] * np.cos(phi), self.readout.offset_mm[1] + middle[ring] * np.sin(phi)


@dataclass(frozen=True)
class _Honeycomb:
    """Rows of hexagons with two sides parallel to y; row and column count from the hexagon at the origin."""

    readout: Hexagonal
    first_row: int
    n_rows: int
    first_column: int
    n_columns: int

    @staticmethod
    def cover(readout: Hexagonal, size_mm: tuple[float, float]) -> _Honeycomb:
        p, height = readout.pitch_mm, readout.pitch_mm * math.sqrt(3) / 2
        x = [sign * size_mm[0] / 2 - readout.offset_mm[0] for sign in (-1, 1)]
        y = [sign * size_mm[1] / 2 - readout.offset_mm[1] for sign in (-1, 1)]
        # A hexagon reaches 2/3 of a row's height along y and half a pitch along x; odd rows are shifted by half a pitch.
        rows = math.ceil(y[0] / height - 2 / 3), math.floor(y[1] / height + 2 / 3)
        columns = math.ceil(x[0] / p - 1), math.floor(x[1] / p + 0.5)
        return _Honeycomb(readout, rows[0], rows[1] - rows[0] + 1, columns[0], columns[1] - columns[0] + 1)

    @property
    def n_cells(self) -> int:
        return self.n_rows * self.n_columns

    def index(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        p, height = self.readout.pitch_mm, self.readout.pitch_mm * math.sqrt(3) / 2
        u, v = x - self.readout.offset_mm[0], y - self.readout.offset_mm[1]
        # The hexagonal lattice is two rectangular ones, the even and the odd rows: the nearest centre is the nearer
        # of the nearest in each.
        even_column, even_row = np.round(u / p), 2 * np.round(v / (2 * height))
        odd_column, odd_row = np.floor(u / p), 2 * np.floor(v / (2 * height)) + 1
        even = (u - even_column * p) ** 2 + (v - even_row * height) ** 2
        odd = (u - (odd_column + 0.5) * p) ** 2 + (v - odd_row * height) ** 2
        nearer_odd = odd < even
        column = np.where(nearer_odd, odd_column, even_column)
        row = np.where(nearer_odd, odd_row, even_row)
        cell = ((row - self.first_row) * self.n_columns + column - self.first_column).astype(np.int64)
        if self.readout.gap_mm > 0:
            a = np.abs(u - (column + 0.5 * nearer_odd) * p)
            b = np.abs(v - row * height)
            reach = np.maximum(a, a / 2 + b * (math.sqrt(3) / 2))  # to the nearest side, by symmetry
            cell[reach >= (p - self.readout.gap_mm) / 2] = GAP
        outside = (row < self.first_row) | (row >= self.first_row + self.n_rows)
        outside |= (column < self.first_column) | (column >= self.first_column + self.n_columns)
        cell[outside] = OUTSIDE
        return cell

    def centre(self, cell: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        row, column = np.divmod(cell, self.n_columns)
        row, column = row + self.first_row, column + self.first_column
        x = self.readout.pitch_mm * (column + 0.5 * (row % 2))
        y = self.readout.pitch_mm * math.sqrt(3) / 2 * row
        return self.readout.offset_mm[0] + x, self.readout.offset_mm[1] + y


@lru_cache(maxsize=1024)
def _grid(readout: Readout, size_mm: tuple[float, float]) -> _Grid:
    if isinstance(readout, Rectangular):
        wafers = readout.wafer_cells or (None, None)
        columns, rows = (
            _Steps.cover(*axis)
            for axis in zip(
                size_mm, readout.offset_mm, readout.pitch_mm, readout.gap_mm, wafers, readout.wafer_gap_mm, strict=True
            )
        )
        return _Table(columns, rows)
    if isinstance(readout, Edges):
        x_edges = np.array(readout.x_edges_mm) + readout.offset_mm[0]
        y_edges = np.array(readout.y_edges_mm) + readout.offset_mm[1]
        return _Table(_Unequal(x_edges, readout.gap_mm[0]), _Unequal(y_edges, readout.gap_mm[1]))
    if isinstance(readout, Polar):
        return _Rings(readout)
    return _Honeycomb.cover(readout, size_mm)


def n_cells(readout: Readout, size_mm: tuple[float, float]) -> int:
    """How many cells a layer of this size has; their numbers are 0 to one less."""
    return _grid(readout, tuple(size_mm)).n_cells


def cell_index(readout: Readout, size_mm: tuple[float, float], x_mm: ArrayLike, y_mm: ArrayLike) -> np.ndarray:
    """The cell at each position.

    The middle of a wafer gap (without wafers, a corner of a cell) lies at the offset in a rectangular
    readout; a cell's centre does in a hexagonal one, the axis in a polar one.

    Args:
        readout: how the layer is divided.
        size_mm: width of the layer in x and y; says which cells have numbers.
        x_mm: positions along x, shape (N,).
        y_mm: positions along y, shape (N,).

    Returns:
        int64 (N,): numbers of cells, `GAP` in dead width, `OUTSIDE` beyond the numbered cells.
    """
    x, y = np.atleast_1d(np.asarray(x_mm, dtype=np.float64)), np.atleast_1d(np.asarray(y_mm, dtype=np.float64))
    return _grid(readout, tuple(size_mm)).index(x, y)


def cell_centre(readout: Readout, size_mm: tuple[float, float], cell: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """The nominal centres of cells: the inverse of `cell_index` there.

    In polar readouts the centre is half-way along the radius and the sector.

    Args:
        readout: how the layer is divided.
        size_mm: width of the layer in x and y.
        cell: numbers of cells, shape (C,).

    Returns:
        x and y in mm, each float64 (C,).

    Raises:
        ShowersError: for a number that no cell has.
    """
    grid = _grid(readout, tuple(size_mm))
    number = np.asarray(cell, dtype=np.int64)
    if number.size and (number.min() < 0 or number.max() >= grid.n_cells):
        wrong = number.min() if number.min() < 0 else number.max()
        raise ShowersError(f"cell {wrong} asked for; this {readout.kind} layer has cells 0 to {grid.n_cells - 1}")
    return grid.centre(number)

"""The cells of a layer in the order of a spiral, from the most central one outwards.

Rings of growing distance, counted in cells from the central cell, are walked one after the other, each
counter-clockwise from its lower right. Positions that a grid does not have, because it is longer in one direction or its
central cell is off the middle, are left out; the order of the others stays. After J. Liu et al., JINST 18 P11003
(arXiv 2305.11531), appendix.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from anycalo.errors import ModelError
from anycalo.geometry import Edges, Readout, Rectangular
from anycalo.readout import cell_centre, n_cells


def spiral(columns: int, rows: int, start: tuple[int, int]) -> np.ndarray:
    """Cell numbers, `row * columns + column`, in spiral order: a permutation of shape (columns * rows,).

    Args:
        columns: of the grid.
        rows: of the grid.
        start: column and row of the first cell.

    Raises:
        ModelError: if the start is not in the grid.

    Example:
        >>> spiral(3, 2, (1, 0)).tolist()
        [1, 2, 5, 4, 3, 0]
    """
    if not (0 <= start[0] < columns and 0 <= start[1] < rows):
        raise ModelError(
            f"a spiral starts at column {start[0]}, row {start[1]}; expected a cell of the {columns} x {rows} grid"
        )
    last = max(start[0], columns - 1 - start[0], start[1], rows - 1 - start[1])
    pieces = [np.zeros((1, 2), dtype=np.int64)]
    for ring in range(1, last + 1):
        rise, fixed = np.arange(1 - ring, ring + 1), np.full(2 * ring, ring)
        for u, v in ((fixed, rise), (-rise, fixed), (-fixed, -rise), (rise, -fixed)):
            pieces.append(np.stack([u, v], axis=1))
    column, row = (np.concatenate(pieces) + start).T
    inside = (column >= 0) & (column < columns) & (row >= 0) & (row < rows)
    return np.asarray(row[inside] * columns + column[inside])


@dataclass(frozen=True, kw_only=True, eq=False)
class SpiralPath:
    """D cells in spiral order, with what may be known of each.

    Args:
        cell: number of the cell at each step, int64 (D,).
        inverse: step of each cell, int64 (D,): `inverse[cell] == arange(D)`.
        x, y: centre relative to the shower axis, float64 (D,).
        dx, dy: size, float64 (D,).
        neighbours: steps of the cells at most `window` columns and rows away that come earlier, D where there is none,
            int64 (D, (2 window + 1)^2 - 1).
    """

    cell: np.ndarray
    inverse: np.ndarray
    x: np.ndarray
    y: np.ndarray
    dx: np.ndarray
    dy: np.ndarray
    neighbours: np.ndarray

    def __len__(self) -> int:
        return len(self.cell)

    def counted(self, columns: int) -> SpiralPath:
        """The same path with every length counted in cells, as if each cell were 1 x 1."""
        row, column = np.divmod(self.cell, columns)
        one = np.ones(len(self))
        return replace(self, x=column - float(column[0]), y=row - float(row[0]), dx=one, dy=one)


@lru_cache(maxsize=256)
def spiral_path(readout: Readout, size_mm: tuple[float, float], *, window: int, aware: bool = True) -> SpiralPath:
    """The spiral path through a layer, lengths in mm, or in cells if not `aware`.

    Args:
        readout: of the layer; rectangular without wafers, or between edges.
        size_mm: width of the layer in x and y.
        window: see `SpiralPath`.
        aware: whether lengths are in mm.

    Raises:
        ModelError: for another kind of readout.
    """
    if not isinstance(readout, (Edges, Rectangular)) or (isinstance(readout, Rectangular) and readout.wafer_cells is not None):
        raise ModelError(
            f"a spiral needs a grid of columns and rows; found {readout.describe()}. Use a readout of kind 'edges', or"
            " 'rectangular' without wafers."
        )
    number = np.arange(n_cells(readout, size_mm))
    x, y = cell_centre(readout, size_mm, number)
    columns = int((y == y[0]).sum())
    rows = len(number) // columns
    if isinstance(readout, Edges):
        dx, dy = np.tile(np.diff(readout.x_edges_mm), rows), np.repeat(np.diff(readout.y_edges_mm), columns)
    else:
        dx, dy = (np.full(len(number), pitch) for pitch in readout.pitch_mm)
    # Of several cells equally near to the axis, the first; rounding must not choose among them.
    central = int(np.argmin(np.round(np.hypot(x, y), 6)))
    cell = spiral(columns, rows, (central % columns, central // columns))
    inverse = np.argsort(cell)
    path = SpiralPath(
        cell=cell,
        inverse=inverse,
        x=x[cell],
        y=y[cell],
        dx=dx[cell],
        dy=dy[cell],
        neighbours=_earlier_neighbours(cell, inverse, columns, rows, window),
    )
    return path if aware else path.counted(columns)


def _earlier_neighbours(cell: np.ndarray, inverse: np.ndarray, columns: int, rows: int, window: int) -> np.ndarray:
    reach = np.arange(-window, window + 1)
    offset = np.array([(u, v) for v in reach for u in reach if u or v], dtype=np.int64).reshape(-1, 2)
    column, row = cell[:, None] % columns + offset[:, 0], cell[:, None] // columns + offset[:, 1]
    inside = (column >= 0) & (column < columns) & (row >= 0) & (row < rows)
    step = np.where(inside, inverse[np.where(inside, row * columns + column, 0)], len(cell))
    return np.where(step < np.arange(len(cell))[:, None], step, len(cell))

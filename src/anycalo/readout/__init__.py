"""Points become cells: any segmentation, with its gaps, its offsets, its lateral end and its threshold."""

from anycalo.readout.grid import GAP, OUTSIDE, cell_centre, cell_index, n_cells
from anycalo.readout.readout import Cells, read_out
from anycalo.readout.view import View

__all__ = ["GAP", "OUTSIDE", "Cells", "View", "cell_centre", "cell_index", "n_cells", "read_out"]

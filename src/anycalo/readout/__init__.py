"""Points become cells: any segmentation, with its gaps, its offsets, its lateral end and its threshold."""

from anycalo.readout.grid import GAP, OUTSIDE, cell_centre, cell_index, n_cells
from anycalo.readout.readout import Cells, read_out

__all__ = ["GAP", "OUTSIDE", "Cells", "cell_centre", "cell_index", "n_cells", "read_out"]

"""What every observable is computed from: the cells of some showers, seen along the shower axis."""

from __future__ import annotations

from functools import cached_property, lru_cache

import numpy as np

from anycalo.geometry import Detector
from anycalo.geometry.derived import layer_front_x0, layer_thickness_x0, mip_mev
from anycalo.readout.readout import Cells
from anycalo.showers import Incident


@lru_cache(maxsize=32)
def layer_depth_x0(detector: Detector) -> np.ndarray:
    """Depth of the middle of each layer in radiation lengths along the normal of the face, shape (L,)."""
    return np.asarray(layer_front_x0(detector) + layer_thickness_x0(detector) / 2)


@lru_cache(maxsize=32)
def layer_edges_x0(detector: Detector) -> np.ndarray:
    """Depth of the front of each layer and of the end of the last in radiation lengths, shape (L + 1,)."""
    front = layer_front_x0(detector)
    return np.append(front, front[-1] + layer_thickness_x0(detector)[-1])


class View:
    """The C cells of B showers, with positions relative to the line along which each particle entered.

    The axis crosses layer l at `layer_z_mm[l] * (dx, dy) / dz`; positions and radii are measured from
    there within the layer.

    Args:
        cells: as `read_out` gives them.
        incident: the B particles.
    """

    def __init__(self, cells: Cells, incident: Incident) -> None:
        self.cells = cells
        self.incident = incident
        self.detector = cells.detector
        self.n = cells.n_showers

    def sum(self, values: np.ndarray, cells: np.ndarray | slice = slice(None)) -> np.ndarray:
        """Sum over the (chosen) cells of each shower of one value a cell, shape (B,)."""
        return np.bincount(self.cells.shower[cells], weights=values[cells], minlength=self.n)

    def histogram(self, index: np.ndarray, size: int, weights: np.ndarray | None = None) -> np.ndarray:
        """Sum of weights (number of cells by default) by shower and by an index from 0 to size - 1, shape (B, size)."""
        flat = np.bincount(self.cells.shower * size + index, weights=weights, minlength=self.n * size)
        return flat.reshape(self.n, size)

    def mean(self, values: np.ndarray) -> np.ndarray:
        """Energy-weighted mean over the cells of each shower, not a number where there is none, shape (B,)."""
        with np.errstate(invalid="ignore"):
            return np.asarray(self.sum(values * self.cells.energy_mev) / self.visible_mev)

    def rms(self, values: np.ndarray) -> np.ndarray:
        """Energy-weighted rms about the energy-weighted mean of each shower, shape (B,)."""
        residual = values - self.mean(values)[self.cells.shower]
        return np.asarray(np.sqrt(self.mean(residual**2)))

    @cached_property
    def visible_mev(self) -> np.ndarray:
        """Energy in the cells of each shower, shape (B,)."""
        return self.sum(self.cells.energy_mev)

    @cached_property
    def hits(self) -> np.ndarray:
        """Number of cells of each shower, shape (B,)."""
        return np.bincount(self.cells.shower, minlength=self.n)

    @cached_property
    def layer_mev(self) -> np.ndarray:
        """Energy of each shower in each layer, shape (B, L)."""
        return self.histogram(self.cells.layer, self.detector.n_layers, self.cells.energy_mev)

    @cached_property
    def mips(self) -> np.ndarray:
        """Energy of each cell over the MIP deposit of its layer, shape (C,)."""
        return np.asarray(self.cells.energy_mev / mip_mev(self.detector)[self.cells.layer])

    @cached_property
    def x_mm(self) -> np.ndarray:
        """Distance from the shower axis along x within the layer, shape (C,)."""
        return np.asarray(self.cells.x_mm - self._axis_mm(0))

    @cached_property
    def y_mm(self) -> np.ndarray:
        """Distance from the shower axis along y within the layer, shape (C,)."""
        return np.asarray(self.cells.y_mm - self._axis_mm(1))

    @cached_property
    def r_mm(self) -> np.ndarray:
        """Distance from the shower axis within the layer, shape (C,)."""
        return np.asarray(np.hypot(self.x_mm, self.y_mm))

    @cached_property
    def depth_x0(self) -> np.ndarray:
        """Depth of each cell's layer in radiation lengths, shape (C,)."""
        return np.asarray(layer_depth_x0(self.detector)[self.cells.layer])

    def _axis_mm(self, axis: int) -> np.ndarray:
        slope = self.incident.direction[:, axis].astype(np.float64) / self.incident.direction[:, 2]
        return np.asarray(self.detector.layer_z_mm[self.cells.layer] * slope[self.cells.shower])

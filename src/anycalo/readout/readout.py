"""Points to cells, with every MeV accounted for."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from anycalo.errors import ShowersError
from anycalo.geometry import Detector, Readout
from anycalo.geometry.derived import mip_mev
from anycalo.readout.grid import GAP, OUTSIDE, cell_centre, cell_index, n_cells
from anycalo.showers import Showers

# Points are placed in blocks whose temporaries stay in the processor's cache.
_BLOCK = 1 << 16


@dataclass(frozen=True, kw_only=True, eq=False)
class Cells:
    """The cells hit in B showers, sorted by shower, layer and cell: C of them.

    The visible energy of each shower is the sum of its cells and of the three losses.

    Args:
        detector: whose readout this is.
        n_showers: B; showers without a cell have no entry below.
        shower: int64 (C,).
        layer: int64 (C,).
        cell: int64 (C,), the number within the layer, as `cell_index` gives it.
        x_mm, y_mm: float64 (C,), nominal centres.
        energy_mev: float64 (C,), above 0.
        lost_gap_mev: float64 (B,), in the dead width between cells and wafers.
        lost_outside_mev: float64 (B,), beyond the cells or the lateral size of the detector.
        lost_threshold_mev: float64 (B,), in cells below the threshold.
    """

    detector: Detector
    n_showers: int
    shower: np.ndarray
    layer: np.ndarray
    cell: np.ndarray
    x_mm: np.ndarray
    y_mm: np.ndarray
    energy_mev: np.ndarray
    lost_gap_mev: np.ndarray
    lost_outside_mev: np.ndarray
    lost_threshold_mev: np.ndarray

    def __len__(self) -> int:
        return len(self.energy_mev)

    def __repr__(self) -> str:
        return f"Cells({self.n_showers} showers, {len(self)} cells, {self.detector.name})"

    @property
    def z_mm(self) -> np.ndarray:
        """Depth of each cell's layer, shape (C,)."""
        return np.asarray(self.detector.layer_z_mm[self.layer])

    def read_mev(self) -> np.ndarray:
        """Energy read out of each shower, shape (B,)."""
        return np.bincount(self.shower, weights=self.energy_mev, minlength=self.n_showers)


def read_out(showers: Showers, detector: Detector | None = None, *, threshold: bool = True) -> Cells:
    """The cells that showers light up.

    A position is lost where the slab ends (`detector.size_mm`), where the readout has no cell, or in a
    dead gap; what is left is summed by cell, and cells below `detector.threshold_mip` MIPs of their
    layer are suppressed.

    Args:
        showers: B showers.
        detector: whose readout to use; that of the showers by default. Another one segments the same
            points anew and must have as many layers.
        threshold: whether to apply the detector's threshold.

    Returns:
        The cells, with the energy lost of each shower.

    Raises:
        ShowersError: if `detector` has another number of layers than the showers' own.
    """
    detector = showers.detector if detector is None else detector
    if detector.n_layers != showers.detector.n_layers:
        raise ShowersError(
            f"'{detector.name}' has {detector.n_layers} layers and the showers were made in {showers.detector.n_layers}"
            f" of '{showers.detector.name}'; a readout can replace another only layer by layer"
        )
    groups: dict[Readout, int] = {}
    group_of_layer = np.array([groups.setdefault(layer.readout, len(groups)) for layer in detector.layers])
    most = max(n_cells(readout, detector.size_mm) for readout in groups)
    if len(showers) * detector.n_layers * most >= 2**63:
        raise ShowersError(f"{len(showers)} showers of {most} cells a layer are too many to number; read out fewer at a time")

    n, layers = len(showers), detector.n_layers
    key = np.empty(showers.n_points, dtype=np.int64)
    shower = showers.shower
    for start in range(0, showers.n_points, _BLOCK):
        here = slice(start, start + _BLOCK)
        layer = showers.layer[here].astype(np.int64)
        cell = _place(list(groups), group_of_layer, detector.size_mm, layer, showers.x_mm[here], showers.y_mm[here])
        key[here] = np.where(cell >= 0, (shower[here] * layers + layer) * most + cell, cell)

    energy = showers.energy_mev.astype(np.float64)
    lost = {what: np.bincount(shower[key == what], weights=energy[key == what], minlength=n) for what in (GAP, OUTSIDE)}
    key, energy = _sum_by_key(key, energy)
    lit = (key >= 0) & (energy > 0)
    key, energy = key[lit], energy[lit]
    below = np.zeros(len(key), dtype=bool)
    if threshold and detector.threshold_mip > 0:
        below = energy < detector.threshold_mip * mip_mev(detector)[key // most % layers]
    lost_threshold = np.bincount(key[below] // (most * layers), weights=energy[below], minlength=n)
    key, energy = key[~below], energy[~below]

    of_shower, rest = np.divmod(key, most * layers)
    of_layer, cell = np.divmod(rest, most)
    x, y = np.empty(len(key)), np.empty(len(key))
    for readout, group in groups.items():
        members = group_of_layer[of_layer] == group
        x[members], y[members] = cell_centre(readout, detector.size_mm, cell[members])
    return Cells(
        detector=detector,
        n_showers=n,
        shower=of_shower,
        layer=of_layer,
        cell=cell,
        x_mm=x,
        y_mm=y,
        energy_mev=energy,
        lost_gap_mev=lost[GAP],
        lost_outside_mev=lost[OUTSIDE],
        lost_threshold_mev=lost_threshold,
    )


def _place(
    readouts: list[Readout],
    group_of_layer: np.ndarray,
    size_mm: tuple[float, float],
    layer: np.ndarray,
    x_mm: np.ndarray,
    y_mm: np.ndarray,
) -> np.ndarray:
    """The cell of each point within its layer, or how it is lost, shape (P,)."""
    if len(readouts) == 1:
        cell = cell_index(readouts[0], size_mm, x_mm, y_mm)
    else:
        cell = np.empty(len(layer), dtype=np.int64)
        group = group_of_layer[layer]
        for k in np.unique(group):
            members = np.flatnonzero(group == k)
            cell[members] = cell_index(readouts[k], size_mm, x_mm[members], y_mm[members])
    cell[(np.abs(x_mm) > size_mm[0] / 2) | (np.abs(y_mm) > size_mm[1] / 2)] = OUTSIDE
    return cell


def _sum_by_key(key: np.ndarray, energy: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each key once, ascending, with the sum of its energies."""
    if not len(key):
        return key, energy
    order = np.argsort(key, kind="stable")
    key = key[order]
    starts = np.flatnonzero(np.concatenate([[True], key[1:] != key[:-1]]))
    return key[starts], np.add.reduceat(energy[order], starts)

"""The observables: what is compared between two samples of showers, one function each.

All are functions of the cells above threshold and of the incident particles, never of the points.
To add one, write a function of a `View` and list it in `OBSERVABLES`; `docs/observables.md` states
each formula, unit and binning.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

import numpy as np

from anycalo.errors import EvaluationError
from anycalo.geometry import Detector
from anycalo.geometry.derived import moliere_radius_mm
from anycalo.readout import read_out
from anycalo.readout.view import View, layer_depth_x0, layer_edges_x0
from anycalo.showers import Showers

Kind = Literal["scalar", "family", "profile", "spectrum"]

START_MIP = 5.0
"""The shower starts in the first layer that holds at least this many MIPs."""
RING_EDGES_RM = (0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
"""Edges of the rings of `ring_occupancy` in Molière radii of the detector."""
RADIUS_MAX_RM = 10.0
"""Radial energies beyond this many Molière radii count at this radius."""
_RADIUS_STEPS = 500
_CELL_LOW, _CELL_HIGH, _CELL_STEPS = -3.0, 5.0, 400
# Showers measured together: bounds the memory that their cells take.
_BLOCK = 500


@dataclass(frozen=True, kw_only=True)
class Observable:
    """One quantity to compare.

    Args:
        name: key in the results.
        title: for tables and figures.
        unit: of the values (or of the coordinate), empty for a pure number.
        kind: `scalar`, one value a shower; `family`, M values a shower, compared one by one and averaged;
            `profile`, energy, and `spectrum`, numbers of cells, over fixed values of a coordinate.
        measure: values of the B showers of a view: (B,) for a scalar, (B, M) for a family, and the weights (B, K)
            over the coordinate for a profile or spectrum.
        coordinate: the K values of the coordinate of a profile or spectrum, ascending, from the detector.
        edges: bins of the Jensen-Shannon divergence, the separation power and the figures; from the range of the
            truth sample where there is none. For a family the edges of its M members, for figures only.
    """

    name: str
    title: str
    unit: str
    kind: Kind
    measure: Callable[[View], np.ndarray]
    coordinate: Callable[[Detector], np.ndarray] | None = None
    edges: Callable[[Detector], np.ndarray] | None = None

    def __post_init__(self) -> None:
        weighted = self.kind in ("profile", "spectrum")
        if weighted != (self.coordinate is not None) or (self.kind != "scalar" and self.edges is None):
            raise EvaluationError(
                f"observable '{self.name}' is a {self.kind}; expected a coordinate for a profile or spectrum only, and edges"
                " for all but a scalar"
            )


def visible_energy(view: View) -> np.ndarray:
    """Energy in the cells [MeV], shape (B,)."""
    return view.visible_mev


def response(view: View) -> np.ndarray:
    """Visible over incident energy, shape (B,)."""
    return np.asarray(view.visible_mev / view.incident.energy_mev.astype(np.float64))


def occupancy(view: View) -> np.ndarray:
    """Number of cells above threshold, shape (B,)."""
    return view.hits


def layer_energy(view: View) -> np.ndarray:
    """Energy in each layer [MeV], shape (B, L)."""
    return view.layer_mev


def layer_occupancy(view: View) -> np.ndarray:
    """Number of cells above threshold in each layer, shape (B, L)."""
    return view.histogram(view.cells.layer, view.detector.n_layers)


def ring_occupancy(view: View) -> np.ndarray:
    """Number of cells above threshold in each ring around the shower axis, shape (B, number of rings)."""
    rings = len(RING_EDGES_RM) - 1
    ring = np.searchsorted(ring_edges_mm(view.detector), view.r_mm, side="right") - 1
    return np.asarray(view.histogram(np.minimum(ring, rings), rings + 1)[:, :rings])


def cell_energy(view: View) -> np.ndarray:
    """Number of cells over log10 of their energy in MIPs, shape (B, K)."""
    position = (np.log10(view.mips) - _CELL_LOW) / (_CELL_HIGH - _CELL_LOW) * _CELL_STEPS
    return view.histogram(np.clip(position, 0, _CELL_STEPS - 1).astype(np.int64), _CELL_STEPS)


def longitudinal_profile(view: View) -> np.ndarray:
    """Energy over the depth of the layers [MeV], shape (B, L)."""
    return view.layer_mev


def radial_profile(view: View) -> np.ndarray:
    """Energy over the distance from the shower axis [MeV], shape (B, K)."""
    position = view.r_mm / (RADIUS_MAX_RM * moliere_radius_mm(view.detector)) * _RADIUS_STEPS
    index = np.minimum(position, _RADIUS_STEPS - 1).astype(np.int64)
    return view.histogram(index, _RADIUS_STEPS, view.cells.energy_mev)


def cog_x(view: View) -> np.ndarray:
    """Energy-weighted mean distance from the shower axis along x [mm], shape (B,)."""
    return view.mean(view.x_mm)


def cog_y(view: View) -> np.ndarray:
    """Energy-weighted mean distance from the shower axis along y [mm], shape (B,)."""
    return view.mean(view.y_mm)


def cog_z(view: View) -> np.ndarray:
    """Energy-weighted mean depth [X0], shape (B,)."""
    return view.mean(view.depth_x0)


def width_x(view: View) -> np.ndarray:
    """Energy-weighted rms along x about the centre of gravity [mm], shape (B,)."""
    return view.rms(view.x_mm)


def width_y(view: View) -> np.ndarray:
    """Energy-weighted rms along y about the centre of gravity [mm], shape (B,)."""
    return view.rms(view.y_mm)


def width_z(view: View) -> np.ndarray:
    """Energy-weighted rms of the depth about the centre of gravity [X0], shape (B,)."""
    return view.rms(view.depth_x0)


def shower_start(view: View) -> np.ndarray:
    """Depth of the first layer with at least `START_MIP` MIPs [X0], shape (B,); the depth of the detector if there is none."""
    started = view.histogram(view.cells.layer, view.detector.n_layers, view.mips) >= START_MIP
    depth = layer_depth_x0(view.detector)[started.argmax(axis=1)]
    return np.asarray(np.where(started.any(axis=1), depth, layer_edges_x0(view.detector)[-1]))


def shower_max(view: View) -> np.ndarray:
    """Depth of the layer with the most energy [X0], the first of equals, shape (B,)."""
    depth = layer_depth_x0(view.detector)[view.layer_mev.argmax(axis=1)]
    return np.where(view.visible_mev > 0, depth, np.nan)


def ring_edges_mm(detector: Detector) -> np.ndarray:
    """Edges of the rings in mm, shape (number of rings + 1,)."""
    return np.array([edge * moliere_radius_mm(detector) for edge in RING_EDGES_RM])


def _layer_numbers(detector: Detector) -> np.ndarray:
    return np.arange(detector.n_layers + 1) - 0.5


def _cell_coordinate(detector: Detector) -> np.ndarray:
    return _centres(np.linspace(_CELL_LOW, _CELL_HIGH, _CELL_STEPS + 1))


def _cell_edges(detector: Detector) -> np.ndarray:
    return np.linspace(_CELL_LOW, _CELL_HIGH, 81)


def _radius_coordinate(detector: Detector) -> np.ndarray:
    return _centres(np.linspace(0, RADIUS_MAX_RM * moliere_radius_mm(detector), _RADIUS_STEPS + 1))


def _radius_edges(detector: Detector) -> np.ndarray:
    return np.linspace(0, RADIUS_MAX_RM * moliere_radius_mm(detector), 51)


def _centres(edges: np.ndarray) -> np.ndarray:
    return np.asarray((edges[:-1] + edges[1:]) / 2)


def _scalar(
    measure: Callable[[View], np.ndarray], title: str, unit: str, edges: Callable[[Detector], np.ndarray] | None = None
) -> Observable:
    return Observable(name=measure.__name__, title=title, unit=unit, kind="scalar", measure=measure, edges=edges)


def _family(
    measure: Callable[[View], np.ndarray], title: str, unit: str, edges: Callable[[Detector], np.ndarray]
) -> Observable:
    return Observable(name=measure.__name__, title=title, unit=unit, kind="family", measure=measure, edges=edges)


_ALL = (
    _scalar(visible_energy, "Visible energy", "MeV"),
    _scalar(response, "Response (visible / incident energy)", ""),
    _scalar(occupancy, "Cells above threshold", ""),
    _family(layer_energy, "Energy per layer", "MeV", _layer_numbers),
    _family(layer_occupancy, "Cells per layer", "", _layer_numbers),
    _family(ring_occupancy, "Cells per ring around the axis", "", ring_edges_mm),
    Observable(
        name="cell_energy",
        title="Cell energy",
        unit="log10(MIP)",
        kind="spectrum",
        measure=cell_energy,
        coordinate=_cell_coordinate,
        edges=_cell_edges,
    ),
    Observable(
        name="longitudinal_profile",
        title="Longitudinal profile",
        unit="X0",
        kind="profile",
        measure=longitudinal_profile,
        coordinate=layer_depth_x0,
        edges=layer_edges_x0,
    ),
    Observable(
        name="radial_profile",
        title="Radial profile",
        unit="mm",
        kind="profile",
        measure=radial_profile,
        coordinate=_radius_coordinate,
        edges=_radius_edges,
    ),
    _scalar(cog_x, "Centre of gravity in x", "mm"),
    _scalar(cog_y, "Centre of gravity in y", "mm"),
    _scalar(cog_z, "Centre of gravity in depth", "X0"),
    _scalar(width_x, "Width in x", "mm"),
    _scalar(width_y, "Width in y", "mm"),
    _scalar(width_z, "Width in depth", "X0"),
    _scalar(shower_start, "Shower start", "X0", layer_edges_x0),
    _scalar(shower_max, "Shower maximum", "X0", layer_edges_x0),
)

OBSERVABLES: Mapping[str, Observable] = MappingProxyType({o.name: o for o in _ALL})
"""Every observable by its name, in the order of the results."""


def measure(
    showers: Showers,
    progress: Callable[[int], None] | None = None,
    also: Mapping[str, Callable[[View], np.ndarray]] = MappingProxyType({}),
) -> dict[str, np.ndarray]:
    """Every observable of every shower, by name: the arrays that `Observable.measure` describes.

    Args:
        showers: B showers; read out with their own detector's readout and threshold.
        progress: called with the number of showers just done.
        also: more functions of a view to measure in the same pass, by a name that no observable has.

    Raises:
        EvaluationError: if no shower has a cell above threshold.
    """
    parts: dict[str, list[np.ndarray]] = {name: [] for name in (*OBSERVABLES, *also)}
    hits = 0
    for start in range(0, len(showers), _BLOCK):
        block = showers[start : start + _BLOCK]
        view = View(read_out(block), block.incident)
        hits += len(view.cells)
        for name, observable in OBSERVABLES.items():
            values = observable.measure(view)
            # Histograms are sums of weights and may be large; their rounding is far below any fluctuation.
            dense = observable.kind in ("profile", "spectrum")
            parts[name].append(values.astype(np.float32 if dense else np.float64))
        for name, function in also.items():
            parts[name].append(function(view))
        if progress is not None:
            progress(len(block))
    if not hits:
        raise EvaluationError(
            f"none of the {len(showers)} showers in '{showers.detector.name}' has a cell above the threshold of"
            f" {showers.detector.threshold_mip} MIP;"
            " expected showers with energy in the sensitive layers (`anycalo inspect` shows what a file holds)"
        )
    return {name: np.concatenate(p) for name, p in parts.items()}

"""Figures of an evaluation: both samples with a ratio below, and all ratios to the floor at a glance."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import hist
import mplhep
import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from anycalo.evaluate import ObservableResult

TRUTH, FAST = "#8a94a6", "#c1440e"
GOOD, WARN, BAD = "#2a7f4f", "#b7791f", "#b3261e"
NEAR, FAR = 1.5, 3.0
"""Ratios to the floor up to NEAR are good; beyond FAR they are weak points."""

# Text stays text: small files, and the reader's own fonts.
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "anycalo",
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
}

_AXES: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "layer_energy": ("layer", "mean energy per shower [MeV]"),
        "layer_occupancy": ("layer", "mean number of cells"),
        "ring_occupancy": ("distance from the shower axis [mm]", "mean number of cells"),
        "longitudinal_profile": ("depth [X0]", "energy share per X0"),
        "radial_profile": ("distance from the axis [mm], last bin and beyond", "energy share per mm"),
    }
)
"""Axis labels of families, whose unit is that of the values, and of profiles."""
# Steeper than this and a logarithmic axis reads better.
_STEEP = 300.0


def light(ratio: float) -> str:
    """The colour of a ratio to the floor."""
    return GOOD if ratio <= NEAR else WARN if ratio <= FAR else BAD


def axis_labels(result: ObservableResult) -> tuple[str, str]:
    """Labels of the axes of one observable's figure."""
    if result.name in _AXES:
        return _AXES[result.name]
    unit = f" [{result.unit}]" if result.unit else ""
    what = "cells" if result.kind == "spectrum" else "showers"
    return f"{result.title}{unit}", f"share of {what} per {result.unit}" if result.unit else f"density of {what}"


def comparison(result: ObservableResult, truth_label: str, fast_label: str) -> Figure:
    """Truth and fast in one observable, with statistical errors, and their ratio below."""
    with rc_context(STYLE):
        figure = Figure(figsize=(4.2, 3.5), layout="constrained")
        main, ratio = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
        edges = np.asarray(result.edges, dtype=np.float64)
        truth, truth_error, fast, fast_error = (
            np.nan_to_num(np.asarray(a, dtype=np.float64))
            for a in (result.truth_density, result.truth_error, result.fast_density, result.fast_error)
        )
        mplhep.histplot(
            _hist(edges, truth), ax=main, histtype="fill", color=TRUTH, alpha=0.35, yerr=False, flow="none", label=truth_label
        )
        _band(main, edges, truth - truth_error, truth + truth_error, TRUTH)
        mplhep.histplot(
            _hist(edges, fast), ax=main, histtype="step", color=FAST, linewidth=1.3, yerr=False, flow="none", label=fast_label
        )
        centres = (edges[:-1] + edges[1:]) / 2
        main.errorbar(centres, fast, yerr=fast_error, fmt="none", ecolor=FAST, elinewidth=0.9)
        x_label, y_label = axis_labels(result)
        top = max(truth.max(), fast.max())
        significant = truth[truth > 3 * truth_error]
        if len(significant) and top > _STEEP * significant.min() > 0:
            main.set_yscale("log")
            main.set_ylim(significant.min() / 3, top * 8)
        else:
            main.set_ylim(0, top * 1.35 if top > 0 else 1)
        main.set_xlim(*_filled_range(edges, truth + fast))
        main.set_xlabel("")
        main.set_ylabel(y_label)
        main.tick_params(labelbottom=False)
        main.legend(loc="upper right", fontsize=8, ncols=2, handlelength=1.4, columnspacing=1.2, borderaxespad=0.1)
        _ratio(ratio, edges, truth, truth_error, fast, fast_error)
        ratio.set_xlabel(x_label)
        figure.align_ylabels()
    return figure


def _filled_range(edges: np.ndarray, total: np.ndarray) -> tuple[float, float]:
    """Edges around every bin that holds anything."""
    filled = np.flatnonzero(total > 0)
    if not len(filled):
        return float(edges[0]), float(edges[-1])
    return float(edges[filled[0]]), float(edges[filled[-1] + 1])


def _ratio(
    axes: Axes, edges: np.ndarray, truth: np.ndarray, truth_error: np.ndarray, fast: np.ndarray, fast_error: np.ndarray
) -> None:
    filled = truth > 0
    scale = np.where(filled, truth, 1.0)
    value, error, own = (np.where(filled, a / scale, np.nan) for a in (fast, fast_error, truth_error))
    _band(axes, edges, 1 - np.nan_to_num(own), 1 + np.nan_to_num(own), TRUTH)
    axes.axhline(1, color="0.3", linewidth=0.8)
    sure = filled & (own < 0.3)
    deviation = np.abs(value[sure] - 1)
    reach = next((r for r in (0.1, 0.25, 0.5) if not len(deviation) or np.quantile(deviation, 0.9) < 0.8 * r), 1.0)
    centres = (edges[:-1] + edges[1:]) / 2
    within = np.abs(value - 1) <= reach
    axes.errorbar(
        centres[within], value[within], yerr=error[within], fmt="o", markersize=2.2, color=FAST, ecolor=FAST, elinewidth=0.9
    )
    for side, marker in ((1, "^"), (-1, "v")):
        beyond = filled & ((value - 1) * side > reach)
        axes.plot(
            centres[beyond], np.full(beyond.sum(), 1 + side * 0.93 * reach), marker, markersize=3, color=FAST, linestyle="none"
        )
    axes.set_ylim(1 - reach, 1 + reach)
    axes.set_ylabel("ratio")


def _hist(edges: np.ndarray, values: np.ndarray) -> hist.Hist[Any]:
    h = hist.Hist(hist.axis.Variable(edges, flow=False), storage=hist.storage.Double())
    h[...] = values
    return h


def _band(axes: Axes, edges: np.ndarray, low: np.ndarray, high: np.ndarray, colour: str) -> None:
    axes.stairs(high, edges, baseline=low, fill=True, color=colour, alpha=0.55, linewidth=0)


def overview(observables: Mapping[str, ObservableResult]) -> Figure:
    """The ratio to the floor of every observable with its interval, the worst on top."""
    order = sorted(observables.values(), key=lambda r: r.w1_ratio)
    with rc_context(STYLE):
        figure = Figure(figsize=(5.2, 0.5 + 0.22 * len(order)), layout="constrained")
        axes = figure.subplots()
        axes.axvspan(NEAR, FAR, color=WARN, alpha=0.08, linewidth=0)
        axes.axvline(1, color="0.3", linewidth=0.9)
        for row, result in enumerate(order):
            colour = light(result.w1_ratio)
            axes.plot(np.maximum(result.w1_ratio_ci, 1e-2), (row, row), color=colour, linewidth=1.6, solid_capstyle="butt")
            axes.plot(result.w1_ratio, row, "o", color=colour, markersize=4.5)
        axes.set_yticks(range(len(order)), [r.title for r in order], fontsize=8)
        axes.set_ylim(-0.7, len(order) - 0.3)
        axes.set_xscale("log")
        bounds = [b for r in order for b in (*r.w1_ratio_ci, r.w1_ratio)]
        low, high = max(0.1, min(0.7, *bounds) / 1.1), max(4.0, *bounds) * 1.1
        ticks = [t for t in (0.1, 0.2, 0.5, 1, 2, 3, 5, 10, 20, 50, 100, 200, 500, 1000) if low <= t <= high]
        axes.set_xlim(low, high)
        axes.set_xticks(ticks, [f"{t:g}" for t in ticks])
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_xlabel("distance from truth / floor")
        axes.grid(axis="x", color="0.92", linewidth=0.7)
        axes.set_axisbelow(True)
    return figure


def as_bytes(figure: Figure, kind: str = "svg", dpi: int = 150) -> bytes:
    """A figure as the content of a file: `svg` or `png`."""
    buffer = io.BytesIO()
    with rc_context(STYLE):
        figure.savefig(buffer, format=kind, dpi=dpi, metadata={"Date": None} if kind == "svg" else None)
    return buffer.getvalue()


def as_uri(figure: Figure, kind: str = "svg", dpi: int = 150) -> str:
    """A figure as a data URI, to be embedded in a page: `svg` or `png`."""
    mime = "image/svg+xml" if kind == "svg" else "image/png"
    return f"data:{mime};base64,{base64.b64encode(as_bytes(figure, kind, dpi)).decode()}"

"""Event displays: one shower, interactive in three dimensions and as a picture of two projections."""

from __future__ import annotations

import html
import os
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import plotly.graph_objects as go
from matplotlib.colors import LinearSegmentedColormap, LogNorm
from matplotlib.figure import Figure

from anycalo.errors import OutputError, ShowersError
from anycalo.geometry import Detector
from anycalo.readout import read_out
from anycalo.report import words
from anycalo.showers import Showers, check_output

# Light for little energy, dark for much, so that the core stands out on white.
COLOURS = ("#f6d746", "#fb9b06", "#ed6925", "#cf4446", "#a52c60", "#781c6d", "#4a0c6b", "#1b0c41")
# The frame holds this share of the energy on either side; the rest is counted in the caption.
_FRAME = 0.995
_SHOWN = 30_000


@dataclass(frozen=True, kw_only=True)
class _Event:
    """What is drawn of one shower: N deposits sorted by energy, within a lateral frame."""

    title: str
    caption: str
    detector: Detector
    x_mm: np.ndarray
    y_mm: np.ndarray
    z_mm: np.ndarray
    energy_mev: np.ndarray
    x_range_mm: tuple[float, float]
    y_range_mm: tuple[float, float]

    @property
    def scale_mev(self) -> tuple[float, float]:
        """Energies of the lightest and the darkest colour; the faintest 2 % of the deposits share the lightest."""
        low, high = float(np.quantile(self.energy_mev, 0.02)), float(self.energy_mev[-1])
        return (low, high) if high > low else (low, low * 10)


def _frame(position: np.ndarray, weight: np.ndarray) -> tuple[float, float]:
    order = np.argsort(position)
    share = np.cumsum(weight[order]) / weight.sum()
    first, last = (min(int(k), len(position) - 1) for k in np.searchsorted(share, (1 - _FRAME, _FRAME)))
    low, high = position[order][first], position[order][last]
    margin = max(0.1 * (high - low), 5.0)
    return float(low - margin), float(high + margin)


def _event(
    showers: Showers, event: int, cells: bool, frame: tuple[tuple[float, float], tuple[float, float]] | None = None
) -> _Event:
    if isinstance(event, bool) or not isinstance(event, (int, np.integer)) or not 0 <= event < len(showers):
        raise ShowersError(f"event {event!r} asked for; there are events 0 to {len(showers) - 1}")
    shower = showers[int(event)]
    title = words.event(showers, int(event))
    if cells:
        read = read_out(shower)
        x, y, layer, energy = read.x_mm, read.y_mm, read.layer, read.energy_mev
    else:
        x, y, layer, energy = (
            np.asarray(a, dtype=np.float64) for a in (shower.x_mm, shower.y_mm, shower.layer, shower.energy_mev)
        )
        layer = layer.astype(np.int64)
    what = "cells" if cells else "points"
    lit = energy > 0
    if not lit.any():
        raise ShowersError(f"event {event} ({title}) has no {what} with energy; there is nothing to draw")
    x, y, layer, energy = x[lit], y[lit], layer[lit], energy[lit]
    total, found = energy.sum(), len(energy)
    x_range, y_range = frame or (_frame(x, energy), _frame(y, energy))
    inside = (x >= x_range[0]) & (x <= x_range[1]) & (y >= y_range[0]) & (y <= y_range[1])
    shown = np.flatnonzero(inside)
    shown = shown[np.argsort(energy[shown])][-_SHOWN:]
    number = f", event {event}" if len(showers) > 1 else ""
    caption = f"{words.sample(showers)}{number}: {words.energy(total)} visible in {found:,} {what}"
    if len(shown) < found:
        missing = 100 * (1 - energy[shown].sum() / total)
        caption += f"; {found - len(shown):,} outside the frame ({missing:.2g} % of the energy)"
    return _Event(
        title=title,
        caption=caption,
        detector=showers.detector,
        x_mm=x[shown],
        y_mm=y[shown],
        z_mm=showers.detector.layer_z_mm[layer[shown]],
        energy_mev=energy[shown],
        x_range_mm=x_range,
        y_range_mm=y_range,
    )


def event_display(
    showers: Showers, event: int, out_stem: str | Path, *, cells: bool = False, overwrite: bool = False
) -> tuple[Path, Path]:
    """Draw one shower as an interactive page and as a picture.

    The page is one file that needs no network. Both show the deposits coloured by their energy, with
    the depth in mm; both appear under their names only when they are complete.

    Args:
        showers: the sample.
        event: which shower, from 0.
        out_stem: path of the two files without `.html` and `.png`.
        cells: draw the cells above threshold instead of the points.
        overwrite: replace files of these names.

    Returns:
        Paths of the page and of the picture.

    Raises:
        ShowersError: if there is no such event, or nothing in it to draw.
        OutputError: if a file exists and `overwrite` is false, or cannot be written.
    """
    stem = Path(out_stem)
    if not stem.name:
        raise OutputError(
            f"{str(out_stem)!r} names no file; expected a path such as 'event-3', to which .html and .png are added"
        )
    drawn = _event(showers, event, cells)
    pages = [check_output(stem.with_name(stem.name + suffix), overwrite=overwrite) for suffix in (".html", ".png")]
    hidden = [page.with_name(f".{page.name}.{uuid.uuid4().hex}.tmp") for page in pages]
    try:
        stem.parent.mkdir(parents=True, exist_ok=True)
        hidden[0].write_text(_page(drawn), encoding="utf-8")
        _picture(drawn).savefig(hidden[1], format="png", dpi=160)
        for temporary, page in zip(hidden, pages, strict=True):
            os.replace(temporary, page)
    except OSError as error:
        raise OutputError(f"{stem} cannot be written: {error.strerror or error}") from error
    finally:
        for temporary in hidden:
            temporary.unlink(missing_ok=True)
    return pages[0], pages[1]


def pictures(pairs: Sequence[tuple[Showers, int]], *, cells: bool = False) -> list[tuple[Figure, str]]:
    """Showers to be seen side by side, each as a figure with its caption apart: one frame and one scale of colours for all.

    Args:
        pairs: samples, and which shower of each.
        cells: draw cells above threshold instead of deposits.

    Raises:
        ShowersError: if there is no such event, or nothing in it to draw.
    """
    alone = [_event(showers, event, cells) for showers, event in pairs]
    frames = [
        (min(low for low, _ in ranges), max(high for _, high in ranges))
        for ranges in ([one.x_range_mm for one in alone], [one.y_range_mm for one in alone])
    ]
    together = [_event(showers, event, cells, (frames[0], frames[1])) for showers, event in pairs]
    scales = [one.scale_mev for one in together]
    scale = min(low for low, _ in scales), max(high for _, high in scales)
    return [(_projections(one, Figure(figsize=(5.4, 3.0), layout="constrained"), scale), one.caption) for one in together]


def _picture(drawn: _Event) -> Figure:
    figure = _projections(drawn, Figure(figsize=(7.2, 3.5), layout="constrained"))
    figure.suptitle(f"{drawn.title}\n", fontsize=11, fontweight="bold")
    figure.text(0.5, 0.915, drawn.caption, fontsize=8, color="0.35", ha="center", va="center")
    return figure


def _projections(drawn: _Event, figure: Figure, scale_mev: tuple[float, float] | None = None) -> Figure:
    """The shower from the side and from the front."""
    depth = drawn.detector.depth_mm
    side, front, bar = figure.subplots(1, 3, width_ratios=(1.7, 1.0, 0.05))
    norm = LogNorm(*(scale_mev or drawn.scale_mev), clip=True)
    colours = LinearSegmentedColormap.from_list("energy", COLOURS)
    size = 1.5 + 14 * np.asarray(norm(drawn.energy_mev)) ** 2
    for z in drawn.detector.layer_z_mm:
        side.axvline(z, color="0.9", linewidth=0.6, zorder=0)
    style = {"c": drawn.energy_mev, "cmap": colours, "norm": norm, "s": size, "linewidths": 0, "rasterized": True}
    dots = side.scatter(drawn.z_mm, drawn.y_mm, **style)
    front.scatter(drawn.x_mm, drawn.y_mm, **style)
    side.set(xlim=(-0.02 * depth, 1.02 * depth), ylim=drawn.y_range_mm, xlabel="depth [mm]", ylabel="y [mm]")
    front.set(xlim=drawn.x_range_mm, ylim=drawn.y_range_mm, xlabel="x [mm]")
    front.tick_params(labelleft=False)
    for axes in (side, front):
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=8)
    figure.colorbar(dots, cax=bar).set_label("energy [MeV]", fontsize=9)
    bar.tick_params(labelsize=8)
    return figure


def _page(drawn: _Event) -> str:
    low, high = np.log10(drawn.scale_mev)
    log_energy = np.clip(np.log10(drawn.energy_mev), low, high)
    ticks = np.log10([m * 10.0**e for e in range(int(np.floor(low)), int(np.ceil(high)) + 1) for m in (1, 2, 5)])
    deposits = go.Scatter3d(
        x=drawn.z_mm.round(3),
        y=drawn.x_mm.round(3),
        z=drawn.y_mm.round(3),
        mode="markers",
        name="deposits",
        customdata=drawn.energy_mev.round(6),
        hovertemplate="depth %{x:.1f} mm<br>x %{y:.2f} mm, y %{z:.2f} mm<br>%{customdata:.4g} MeV<extra></extra>",
        marker={
            "size": (1.5 + 5 * ((log_energy - low) / (high - low)) ** 2).round(2),
            "color": log_energy.round(4),
            "cmin": low,
            "cmax": high,
            "colorscale": [[k / (len(COLOURS) - 1), c] for k, c in enumerate(COLOURS)],
            "colorbar": {
                "title": {"text": "energy [MeV]", "side": "bottom"},
                "tickvals": ticks,
                "ticktext": [f"{10.0**t:.3g}" for t in ticks],
                "orientation": "h",
                "thickness": 10,
                "len": 0.7,
                "y": 0,
                "yanchor": "top",
            },
            "line": {"width": 0},
        },
    )
    # One outline a layer, all in one line broken by gaps.
    (x0, x1), (y0, y1) = drawn.x_range_mm, drawn.y_range_mm
    outline_x, outline_y = [x0, x1, x1, x0, x0, None], [y0, y0, y1, y1, y0, None]
    z = drawn.detector.layer_z_mm
    layers = go.Scatter3d(
        x=[v for depth in z.round(3) for v in (*[float(depth)] * 5, None)],
        y=outline_x * len(z),
        z=outline_y * len(z),
        mode="lines",
        name="layers",
        line={"color": "rgb(226,230,238)", "width": 1},
        hoverinfo="skip",
    )
    figure = go.Figure([layers, deposits])
    figure.update_layout(
        showlegend=False,
        margin={"l": 0, "r": 0, "b": 60, "t": 0},
        template="plotly_white",
        scene={
            "xaxis": {"title": {"text": "depth [mm]"}, "range": [0, drawn.detector.depth_mm]},
            "yaxis": {"title": {"text": "x [mm]"}, "range": list(drawn.x_range_mm)},
            "zaxis": {"title": {"text": "y [mm]"}, "range": list(drawn.y_range_mm)},
            "aspectmode": "data",
            "camera": {"eye": {"x": -0.9, "y": -1.6, "z": 0.6}, "center": {"x": 0, "y": 0, "z": -0.1}},
        },
    )
    options = {"displaylogo": False, "responsive": True, "displayModeBar": False}
    plot: str = figure.to_html(
        include_plotlyjs=True, full_html=False, default_height="100%", config=options, post_script=_STEP_BACK
    )
    return _PAGE.format(title=html.escape(drawn.title), caption=html.escape(drawn.caption), plot=plot)


# The camera frames the height of the plot; on an upright screen it must step back to frame the width.
_STEP_BACK = """
const box = document.getElementById('{plot_id}').getBoundingClientRect();
const k = Math.max(1, Math.min(2, 1.15 * box.height / box.width));
if (k > 1) Plotly.relayout('{plot_id}', {'scene.camera.eye': {x: -0.9 * k, y: -1.6 * k, z: 0.6 * k}});
"""

_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
body {{ margin: 0; height: 100vh; display: flex; flex-direction: column; font-family: system-ui, sans-serif; color: #1b2733; }}
h1 {{ font-size: 1.2rem; margin: 0.8rem 1rem 0.2rem; text-align: center; }}
p {{ font-size: 0.85rem; margin: 0 1rem 0.3rem; text-align: center; color: #566472; }}
main {{ flex: 1; min-height: 0; }}
main > div {{ height: 100%; }}
</style>
</head>
<body>
<h1>{title}</h1>
<p>{caption}. Drag to turn, scroll to zoom.</p>
<main>{plot}</main>
</body>
</html>
"""

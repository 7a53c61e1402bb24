"""The drawing of a detector: its stack along the depth, and one layer of each kind enlarged."""

from __future__ import annotations

import os
import uuid
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from anycalo.errors import OutputError
from anycalo.geometry import Detector, Layer, derived, material
from anycalo.showers import check_output

# Sensitive slabs in warm colours, the others from dark (short radiation length) to light.
_SENSITIVE = ("#e8590c", "#f59f00", "#d6336c")
_PASSIVE = ("#22303c", "#4b6584", "#5f9ea0", "#8fb996", "#b8a9c9", "#cbd5e1", "#e5e7eb", "#f3f4f6")
_KINDS_SHOWN = 3
_WIDTH, _LEFT, _ROW = 4.6, 0.25, 0.19  # inches
_SUFFIXES = (".png", ".pdf", ".svg")
Palette = dict[tuple[str, bool], str]


def _palette(detector: Detector) -> Palette:
    kinds = dict.fromkeys((slab.material, slab.sensitive) for layer in detector.layers for slab in layer.stack)
    ordered = sorted(kinds, key=lambda kind: material(detector, kind[0]).x0_mm)
    seen = [kind for kind in ordered if kind[1]]
    blind = [kind for kind in ordered if not kind[1]]
    colours = {kind: _SENSITIVE[i % len(_SENSITIVE)] for i, kind in enumerate(seen)}
    steps = np.linspace(0, len(_PASSIVE) - 1, max(len(blind), 2)).round().astype(int)
    return colours | {kind: _PASSIVE[steps[min(i, len(steps) - 1)]] for i, kind in enumerate(blind)}


def _bars(axes: Axes, layers: list[tuple[float, Layer]], palette: Palette, *, outline: bool) -> None:
    """Fill the axes with the slabs of layers that begin at the given depths [mm]."""
    spans: dict[tuple[str, bool], list[tuple[float, float]]] = {kind: [] for kind in palette}
    for front, layer in layers:
        z = front
        for slab in layer.slabs:
            spans[slab.material, slab.sensitive].append((z, slab.thickness_mm))
            z += slab.thickness_mm
    edge = {"edgecolor": "white", "linewidth": 0.4} if outline else {"linewidth": 0}
    for kind, pieces in spans.items():
        if pieces:
            axes.broken_barh(pieces, (0, 1), facecolor=palette[kind], **edge)
    axes.set(ylim=(0, 1), yticks=[])
    axes.spines[["left", "right"]].set_visible(False)


def _whole(axes: Axes, detector: Detector, palette: Palette) -> None:
    front = detector.layer_front_mm
    _bars(axes, list(zip(front.tolist(), detector.layers, strict=True)), palette, outline=False)
    axes.set(xlim=(0, detector.depth_mm))
    axes.set_xlabel("depth [mm]", size=9)
    axes.tick_params(labelsize=9)
    z_mm = np.append(front, detector.depth_mm)
    z_x0 = np.append(derived.layer_front_x0(detector), derived.depth_x0(detector))

    def to_x0(z: Any) -> np.ndarray:
        return np.asarray(np.interp(z, z_mm, z_x0))

    def to_mm(t: Any) -> np.ndarray:
        return np.asarray(np.interp(t, z_x0, z_mm))

    top = axes.secondary_xaxis("top", functions=(to_x0, to_mm))
    top.set_xlabel("depth [X$_0$]", size=9)
    top.tick_params(labelsize=9)
    step = next(s for s in (1, 2, 5, 10, 20, 50, 100, 1000) if z_x0[-1] / s <= 7)
    top.set_xticks(np.arange(0, z_x0[-1], step))


def _name(detector: Detector, name: str) -> str:
    return name if name in detector.materials else name.removeprefix("G4_").replace("_", " ").replace("PLASTIC SC ", "")


def _contents(detector: Detector, layer: Layer) -> list[tuple[tuple[str, bool], str]]:
    """Each material of a layer, in order of appearance, with its thickness in words."""
    totals: dict[tuple[str, bool], list[float]] = {}
    for slab in layer.slabs:
        totals.setdefault((slab.material, slab.sensitive), []).append(slab.thickness_mm)
    rows = []
    for (name, sensitive), pieces in totals.items():
        x0 = sum(pieces) / material(detector, name).x0_mm
        even = max(pieces) - min(pieces) < 1e-6
        size = f"{len(pieces)} x {pieces[0]:g} mm" if even and len(pieces) > 1 else f"{sum(pieces):.4g} mm"
        share = f"{x0:.2f} X$_0$" if x0 >= 0.005 else "<0.01 X$_0$"
        rows.append(((name, sensitive), f"{_name(detector, name)}{' (sensitive)' if sensitive else ''}: {size}, {share}"))
    return rows


def draw_detector(detector: Detector, path: str | Path, *, overwrite: bool = False) -> Path:
    """Draw a detector: its whole depth in mm and X0, then one layer of each kind with what it holds.

    Args:
        detector: what to draw.
        path: where to; `.png`, `.pdf` or `.svg`.
        overwrite: replace a file of that name.

    Returns:
        The path.

    Raises:
        OutputError: if the path exists, cannot be written or has another suffix.
    """
    path = check_output(path, overwrite=overwrite)
    if path.suffix.lower() not in _SUFFIXES:
        raise OutputError(f"{path} ends in {path.suffix!r}; expected one of {', '.join(_SUFFIXES)}")
    palette, about = _palette(detector), derived.describe(detector)
    groups = about["groups"][:_KINDS_SHOWN]
    contents = [_contents(detector, detector.layers[group["first"] - 1]) for group in groups]

    # In inches from the top; the width is that of a phone held upright at a readable size of print.
    total = 2.3 + sum(0.78 + _ROW * len(content) for content in contents)
    figure = Figure(figsize=(_WIDTH, total))
    FigureCanvasAgg(figure)

    def text(x: float, y: float, words: str, **style: Any) -> None:
        figure.text(x / _WIDTH, 1 - y / total, words, **style)

    def place(y: float, height: float) -> Axes:
        return figure.add_axes((_LEFT / _WIDTH, 1 - (y + height) / total, 1 - 2 * _LEFT / _WIDTH, height / total))

    text(_LEFT, 0.3, detector.name, size=14, weight="bold")
    size = f"{detector.n_layers} layers, {about['depth_mm']:.4g} mm, {about['depth_x0']:.3g} X$_0$"
    text(_LEFT, 0.52, f"{size}, field {detector.field_tesla:g} T", size=9)
    words = (
        f"sampling fraction {100 * about['sampling_fraction']:.2g} %, R$_M$ {about['moliere_radius_mm']:.3g} mm,"
        f" E$_c$ {about['critical_energy_mev']:.3g} MeV"
    )
    text(_LEFT, 0.7, words, size=9)
    _whole(place(1.28, 0.5), detector, palette)
    y = 2.25
    for group, content in zip(groups, contents, strict=True):
        layer = detector.layers[group["first"] - 1]
        several = group["last"] > group["first"]
        which = f"layers {group['first']} to {group['last']}, each" if several else f"layer {group['first']}:"
        title = f"{which} {group['thickness_mm']:.4g} mm, {group['thickness_x0']:.3g} X$_0$"
        text(_LEFT, y + 0.15, title, size=10, weight="bold")
        text(_LEFT, y + 0.3, group["readout"], size=9)
        bar = place(y + 0.36, 0.26)
        thickness = sum(slab.thickness_mm for slab in layer.slabs)
        _bars(bar, [(0.0, layer)], palette, outline=len(layer.slabs) < 60)
        bar.set(xlim=(0, thickness), xticks=[])
        y += 0.74
        for kind, line in content:
            patch = place(y, 0.11)
            patch.set_position((_LEFT / _WIDTH, 1 - (y + 0.12) / total, 0.12 / _WIDTH, 0.12 / total))
            patch.set(xticks=[], yticks=[], facecolor=palette[kind])
            patch.spines[:].set_color("#999999")
            text(_LEFT + 0.2, y + 0.06, line, size=9, va="center")
            y += _ROW
        y += 0.04
    if len(about["groups"]) > _KINDS_SHOWN:
        text(_LEFT, total - 0.05, f"and {len(about['groups']) - _KINDS_SHOWN} more kinds of layer", size=8)
    temporary = path.with_name(f".{uuid.uuid4().hex}{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(temporary, dpi=200, facecolor="white")
        os.replace(temporary, path)
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror or error}") from error
    finally:
        temporary.unlink(missing_ok=True)
    return path

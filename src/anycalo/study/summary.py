"""What a study found: tables in `results.md`, and three figures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from anycalo.errors import OutputError
from anycalo.study.recipe import SCRATCH, ZERO, Cell, StudyRecipe
from anycalo.study.run import results

TABLES, BY_SHOWERS, BY_PARAMETERS, WEIGHTS = "results.md", "showers.png", "parameters.png", "weights.png"
_COLOURS = ("#7f7f7f", "#d62728", "#1f77b4", "#17becf", "#2ca02c", "#9467bd", "#e377c2", "#8c564b")
_QUANTITIES = {"paper": "geometric mean of six W1 / sigma", "ratio_to_floor": "W1 / floor, geometric mean"}

Found = Mapping[Cell, dict[str, Any]]


def write_summary(recipe: StudyRecipe, out: str | Path) -> Path:
    """Write tables and figures of the cells that are done; returns the page of tables.

    Raises:
        OutputError: if nothing is done yet, or the directory cannot be written.
    """
    out = Path(out)
    found = results(recipe, out)
    if not found:
        raise OutputError(f"{out} holds no finished cell of this study; run it first")
    try:
        (out / TABLES).write_text(tables(recipe, found), "utf-8")
        _by_showers(recipe, found).savefig(out / BY_SHOWERS, dpi=130)
        _by_parameters(recipe, found).savefig(out / BY_PARAMETERS, dpi=130)
        _weights(recipe, found).savefig(out / WEIGHTS, dpi=130)
    except OSError as error:
        raise OutputError(f"{out} cannot be written: {error.strerror or error}") from error
    return out / TABLES


def tables(recipe: StudyRecipe, found: Found) -> str:
    """Both distances of every method and number of showers, a table for each base and target: mean (lowest to highest seed)."""
    lines = [f"{len(found)} of {len(recipe.cells())} cells are done.\n"]
    for base, target in _pairs(recipe):
        mine = {c: r for c, r in found.items() if (c.base, c.target) == (base, target)}
        if not mine:
            continue
        test = next(iter(mine.values()))["test_showers"]
        lines.append(f"### {base}, {target}: {test} test showers\n")
        for quantity, title in _QUANTITIES.items():
            floor = float(np.mean([r["paper_floor"] for r in mine.values()])) if quantity == "paper" else 1.0
            lines.append(f"{title} (Geant4 against Geant4: {floor:.3g})\n")
            counts = [c for c in recipe.showers if any(cell.showers == c for cell in mine)]
            lines.append("| method | trained | " + " | ".join(f"{c} showers" for c in counts) + " |")
            lines.append("|---" * (len(counts) + 2) + "|")
            zero = _values(mine, ZERO, 0, quantity)
            if zero:
                lines.append(f"| {ZERO} | 0 | " + " | ".join([_band(zero)] * len(counts)) + " |")
            for method in recipe.methods:
                trained = {r["trained"] / r["total"] for c, r in mine.items() if c.method == method}
                if trained:
                    row = [_band(_values(mine, method, count, quantity)) for count in counts]
                    lines.append(f"| {method} | {max(trained):.2%} | " + " | ".join(row) + " |")
            lines.append("")
    return "\n".join(lines)


def _pairs(recipe: StudyRecipe) -> list[tuple[str, str]]:
    return [(base.name, target.name) for base in recipe.bases for target in recipe.targets]


def _values(found: Found, method: str, showers: int, quantity: str) -> list[float]:
    return [r[quantity] for c, r in found.items() if (c.method, c.showers) == (method, showers)]


def _band(values: Sequence[float]) -> str:
    if not values:
        return ""
    if len(values) == 1:
        return f"{values[0]:.3g}"
    return f"{np.mean(values):.3g} ({min(values):.3g} to {max(values):.3g})"


def _colour(recipe: StudyRecipe, method: str) -> str:
    return _COLOURS[recipe.methods.index(method) % len(_COLOURS)]


def _panels(recipe: StudyRecipe, draw: Callable[[Axes, str, str, str], None]) -> Figure:
    """One panel for each base, target (columns) and distance (rows)."""
    pairs = _pairs(recipe)
    figure = Figure(figsize=(4.2 * len(pairs) + 1.6, 7), layout="constrained")
    grid = figure.subplots(2, len(pairs), squeeze=False, sharex="col")
    for column, (base, target) in enumerate(pairs):
        for row, quantity in enumerate(_QUANTITIES):
            axes = grid[row, column]
            draw(axes, base, target, quantity)
            axes.set(yscale="log", title=f"{base}: {target}" if row == 0 else "")
            if column == 0:
                axes.set_ylabel(_QUANTITIES[quantity])
    handles, labels = grid[0, 0].get_legend_handles_labels()
    if handles:
        figure.legend(handles, labels, loc="outside right center", frameon=False)
    return figure


def _by_showers(recipe: StudyRecipe, found: Found) -> Figure:
    def draw(axes: Axes, base: str, target: str, quantity: str) -> None:
        mine = {c: r for c, r in found.items() if (c.base, c.target) == (base, target)}
        zero = _values(mine, ZERO, 0, quantity)
        if zero:
            axes.axhspan(min(zero), max(zero), color="black", alpha=0.15, linewidth=0)
            axes.axhline(float(np.mean(zero)), color="black", linestyle="--", label=ZERO)
        for method in recipe.methods:
            bands = {count: _values(mine, method, count, quantity) for count in recipe.showers}
            counts = [count for count, values in bands.items() if values]
            if counts:
                colour = _colour(recipe, method)
                axes.plot(counts, [np.mean(bands[c]) for c in counts], "o-", color=colour, label=method, markersize=4)
                low, high = ([f(bands[c]) for c in counts] for f in (min, max))
                axes.fill_between(counts, low, high, color=colour, alpha=0.15, linewidth=0)
        _floor(axes, mine, quantity)
        axes.set(xscale="log", xlabel="showers of the new detector" if quantity == "ratio_to_floor" else "")

    return _panels(recipe, draw)


def _by_parameters(recipe: StudyRecipe, found: Found) -> Figure:
    count = recipe.search_showers if recipe.search_showers in recipe.showers else recipe.showers[0]

    def draw(axes: Axes, base: str, target: str, quantity: str) -> None:
        mine = {c: r for c, r in found.items() if (c.base, c.target) == (base, target)}
        zero = _values(mine, ZERO, 0, quantity)
        if zero:
            axes.axhline(float(np.mean(zero)), color="black", linestyle="--", label=ZERO)
        for method in recipe.methods:
            values = _values(mine, method, count, quantity)
            trained = [r["trained"] for c, r in mine.items() if (c.method, c.showers) == (method, count)]
            if values:
                mark = "s" if method == SCRATCH else "o"
                axes.plot(trained, values, mark, color=_colour(recipe, method), label=method, markersize=5)
        _floor(axes, mine, quantity)
        axes.set(xscale="log", xlabel=f"trained parameters ({count} showers)" if quantity == "ratio_to_floor" else "")

    return _panels(recipe, draw)


def _floor(axes: Axes, mine: Found, quantity: str) -> None:
    floors = [r["paper_floor"] for r in mine.values()] if quantity == "paper" else [1.0]
    if floors:
        axes.axhline(float(np.mean(floors)), color="#7f7f7f", linestyle=":", label="Geant4 against Geant4")


def _weights(recipe: StudyRecipe, found: Found) -> Figure:
    """Relative change of each matrix under full fine-tuning with the most showers, and the rank that carries 90 % of it."""
    chosen: dict[tuple[str, str], dict[str, Any]] = {}
    for cell, result in found.items():
        pair = (cell.base, cell.target)
        best = chosen.get(pair)
        if cell.method == "full" and result.get("weights") and (best is None or cell.showers >= best["showers"]):
            chosen[pair] = result
    figure = Figure(figsize=(11, 1 + 3.2 * max(len(chosen), 1)), layout="constrained")
    grid = figure.subplots(max(len(chosen), 1), 2, squeeze=False)
    if not chosen:
        grid[0, 0].text(0.5, 0.5, "no finished cell of full fine-tuning changed a matrix", ha="center", va="center")
    for row, ((base, target), result) in zip(grid, chosen.items(), strict=False):
        names = list(result["weights"])
        places = np.arange(len(names))
        row[0].bar(places, [result["weights"][n]["relative"] for n in names], color="#1f77b4")
        row[0].set(ylabel="|change| / |matrix|", title=f"{base}: {target}, {result['showers']} showers, full")
        row[1].bar(places, [result["weights"][n]["full_rank"] for n in names], color="#c7c7c7", label="full rank")
        row[1].bar(places, [result["weights"][n]["rank"] for n in names], color="#d62728", label="carries 90 %")
        row[1].set(ylabel="rank", yscale="log")
        row[1].legend(frameon=False, fontsize=7)
        for axes in row:
            size = 4 if len(names) > 30 else 6
            axes.set_xticks(places, [n.removesuffix(".weight") for n in names], rotation=90, fontsize=size)
    return figure

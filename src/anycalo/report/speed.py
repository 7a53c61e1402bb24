"""Times of `anycalo bench` as a figure."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from anycalo.embed.bench import Timing
from anycalo.showers import check_output


def write_speed(timings: Sequence[Timing], out: str | Path, *, title: str, overwrite: bool = False) -> Path:
    """Time a shower against energy, a line for each contender and batch size; bars are quartiles over rounds.

    Args:
        timings: from `bench`.
        out: the picture.
        title: above it.
        overwrite: replace a file of that name.

    Raises:
        OutputError: if the file exists or cannot be written.
    """
    out = check_output(out, overwrite=overwrite)
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for name, batch in dict.fromkeys((t.name, t.batch) for t in timings):
        rows = sorted((t for t in timings if (t.name, t.batch) == (name, batch)), key=lambda t: t.energy_mev)
        spreads = [t.spread(t.processor_ms) for t in rows]
        middle = [m for m, _, _ in spreads]
        below, above = [m - low for m, low, _ in spreads], [high - m for m, _, high in spreads]
        label = name if name == "geant4" else f"{name}, batch {batch}"
        axes.errorbar([t.energy_mev / 1000 for t in rows], middle, yerr=[below, above], marker="o", capsize=2, label=label)
    axes.set(xlabel="photon energy [GeV]", ylabel="processor time a shower [ms]", yscale="log", title=title)
    axes.legend(fontsize="small")
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, dpi=150)
    return out

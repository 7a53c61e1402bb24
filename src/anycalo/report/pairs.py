"""What a person looks at after `separate`: the efficiency to find two photons against their distance."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure

from anycalo.evaluate import Separation
from anycalo.report import figures
from anycalo.report.report import check_folder, to_json, write_folder

RESULTS, PICTURE = "separation.json", "separation.png"


def write_separation(
    found: Separation, out_dir: str | Path, *, truth_label: str = "truth", fast_label: str = "fast", overwrite: bool = False
) -> Path:
    """Write `separation.json` and `separation.png`.

    Args:
        found: the efficiencies.
        out_dir: the folder to make.
        truth_label: name of the truth sample in the figure.
        fast_label: name of the fast sample.
        overwrite: replace these files in a folder that exists.

    Returns:
        Path of the figure.

    Raises:
        OutputError: if the folder exists and `overwrite` is false, or it cannot be written.
    """
    check_folder(out_dir, overwrite=overwrite)
    picture = figures.as_bytes(efficiencies(found, truth_label, fast_label), "png", dpi=150)
    write_folder(out_dir, {RESULTS: to_json(found.to_dict()), PICTURE: picture})
    return Path(out_dir) / PICTURE


def efficiencies(found: Separation, truth_label: str, fast_label: str) -> Figure:
    """Both efficiencies with their binomial intervals, and their difference below."""
    centres = (found.edges_mm[:-1] + found.edges_mm[1:]) / 2
    with rc_context(figures.STYLE):
        figure = Figure(figsize=(5.2, 4.2), layout="constrained")
        main, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
        values, errors = {}, {}
        for sample, label, colour, shift in (
            ("truth", truth_label, figures.TRUTH, -0.12),
            ("fast", fast_label, figures.FAST, 0.12),
        ):
            efficiency, low, high = found.efficiency(sample)
            values[sample], errors[sample] = efficiency, (high - low) / 2
            at = centres + shift * np.diff(found.edges_mm)
            main.errorbar(
                at, efficiency, yerr=(efficiency - low, high - efficiency), fmt="o", markersize=3.5, color=colour, label=label
            )
        main.set_ylim(0, 1.08)
        main.set_ylabel("pairs with both photons found")
        main.legend(loc="lower right", fontsize=8)
        below.axhline(0, color="0.3", linewidth=0.8)
        below.errorbar(
            centres,
            values["fast"] - values["truth"],
            yerr=np.hypot(errors["fast"], errors["truth"]),
            fmt="o",
            markersize=2.5,
            color=figures.FAST,
        )
        below.set_ylabel("fast - truth")
        below.set_xlabel("distance between the photons [mm]")
        below.set_xlim(float(found.edges_mm[0]), float(found.edges_mm[-1]))
    return figure

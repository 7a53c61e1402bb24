"""The log of a run, one JSON object a line, and its picture."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

LOG, PICTURE = "log.jsonl", "losses.png"
HEADLINE, RATIO = "ratio_to_floor", "ratio_of_"
"""Keys of the distances: the headline, and the beginning of those of the observables."""


def append(folder: Path, entry: dict[str, Any]) -> None:
    """Add a line."""
    with (folder / LOG).open("a", encoding="utf-8") as file:
        file.write(json.dumps(entry) + "\n")


def read(folder: Path) -> list[dict[str, Any]]:
    """All whole lines; one that a kill cut short is left out."""
    path = folder / LOG
    if not path.exists():
        return []
    entries = []
    for line in path.read_text("utf-8").splitlines():
        try:
            entries.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return entries


def rewind(folder: Path, stage: int, step: int) -> None:
    """Forget what was logged after a checkpoint, as it is going to be done again."""
    kept = [e for e in read(folder) if (e["stage_index"], e["step"]) <= (stage, step)]
    temporary = folder / f".{LOG}.tmp"
    temporary.write_text("".join(json.dumps(e) + "\n" for e in kept), "utf-8")
    os.replace(temporary, folder / LOG)


def draw(folder: Path) -> None:
    """Training and validation loss against steps, one panel a stage, then the distances where there are any."""
    entries = [e for e in read(folder) if "validation" in e]
    names = list(dict.fromkeys(e["stage"] for e in entries))
    if not names:
        return
    measured = [e for e in entries if HEADLINE in e]
    panels = len(names) + bool(measured)
    figure = Figure(figsize=(5 * panels, 3.6), layout="constrained")
    row = figure.subplots(1, panels, squeeze=False)[0]
    for axes, name in zip(row[: len(names)], names, strict=True):
        mine = [e for e in entries if e["stage"] == name]
        steps = [e["step"] for e in mine]
        axes.plot(steps, [e["loss"] for e in mine], label="training", color="#7f7f7f")
        axes.plot(steps, [e["validation"] for e in mine], label="validation (averaged weights)", color="#d62728")
        axes.set(title=name, xlabel="step", ylabel="loss")
        axes.legend(frameon=False)
    if measured:
        steps = [e["step"] for e in measured]
        for key in [k for k in measured[-1] if k.startswith(RATIO)]:
            row[-1].plot(steps, [e.get(key, float("nan")) for e in measured], color="#c7c7c7", linewidth=0.8)
        row[-1].plot(steps, [e[HEADLINE] for e in measured], "o-", color="#d62728", label="geometric mean")
        row[-1].axhline(1, color="#7f7f7f", linestyle=":", label="Geant4 against Geant4")
        row[-1].set(title="held-out showers", xlabel="step", ylabel="W1 / floor, one line an observable", yscale="log")
        row[-1].legend(frameon=False)
    figure.savefig(folder / PICTURE, dpi=130)

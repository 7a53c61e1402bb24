"""The log of a run, one JSON object a line, and its picture."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

LOG, PICTURE = "log.jsonl", "losses.png"


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
    """Training and validation loss against steps, one panel a stage."""
    entries = [e for e in read(folder) if "validation" in e]
    names = list(dict.fromkeys(e["stage"] for e in entries))
    if not names:
        return
    figure = Figure(figsize=(5 * len(names), 3.6), layout="constrained")
    for axes, name in zip(figure.subplots(1, len(names), squeeze=False)[0], names, strict=True):
        mine = [e for e in entries if e["stage"] == name]
        steps = [e["step"] for e in mine]
        axes.plot(steps, [e["loss"] for e in mine], label="training", color="#7f7f7f")
        axes.plot(steps, [e["validation"] for e in mine], label="validation (averaged weights)", color="#d62728")
        axes.set(title=name, xlabel="step", ylabel="loss")
        axes.legend(frameon=False)
    figure.savefig(folder / PICTURE, dpi=130)

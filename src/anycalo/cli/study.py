"""`anycalo study`: many models, compared cell by cell."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from anycalo.cli.console import Terminal
from anycalo.cli.processor import use_processor
from anycalo.errors import CommandError
from anycalo.study import StudyRecipe, run_scheduled, run_study, write_summary


def study(
    recipe: Path,
    /,
    *,
    out: Path,
    part: str = "1/1",
    scheduler: str | None = None,
    root: Path = Path("."),
    threads: int | None = None,
    terminal: Annotated[Terminal, Parameter(parse=False)],
) -> None:
    """Compare ways of adapting models, from scratch to zero-shot.

    Every cell (base, detector, method, number of showers, seed) is a file in the directory; a study that was stopped goes on
    with the next when the same command is given again. Tables and figures are made of the cells that are done.

    Args:
        recipe: A TOML file; 'docs/transfer.md' describes it.
        out: The directory of the study.
        part: The share of the cells to do here, such as 2/4, on one of four machines.
        scheduler: Address of a Dask scheduler (tcp://host:8786) whose workers do the cells; they share the directory.
        root: The directory that paths in the recipe are relative to.
        threads: Threads of the processor; PyTorch's choice by default.
    """
    share = part.split("/")
    if len(share) != 2 or not all(entry.isdigit() for entry in share):
        raise CommandError(f"part is '{part}'; expected a share such as 2/4")
    if scheduler is not None and part != "1/1":
        raise CommandError("--scheduler shares the cells out itself; expected no --part beside it")
    use_processor("cpu", threads)
    loaded = StudyRecipe.load(recipe)
    kept = f"finished cells are kept in {out}. The same command goes on with the next."
    with terminal.progress("Studying", "cells", kept=kept) as progress:
        if scheduler is None:
            done = run_study(loaded, out, root=root, part=(int(share[0]), int(share[1])), progress=progress)
        else:
            done = run_scheduled(loaded, out, scheduler, root=root, progress=progress)
    page = write_summary(loaded, out)
    total = len(loaded.cells())
    terminal.result({"path": str(out), "done": done, "cells": total}, page.read_text("utf-8"), f"tables and figures: {out}")

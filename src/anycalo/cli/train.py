"""`anycalo train`: a model from showers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from anycalo.cli.console import Terminal, facts
from anycalo.cli.processor import use_processor
from anycalo.errors import CommandError
from anycalo.evaluate.validation import held_out_distances
from anycalo.models import parameter_count
from anycalo.train import Recipe
from anycalo.train import train as run


def train(
    recipe: str,
    /,
    *,
    data: Annotated[list[str], Parameter(negative=(), metavar="FILE")],
    out: Path,
    seed: int | None = None,
    minutes: float | None = None,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    threads: int | None = None,
    distances: Annotated[bool, Parameter(show_default=False, negative="--no-distances")] = True,
    terminal: Annotated[Terminal, Parameter(parse=False)],
) -> None:
    """Train a model on showers.

    An interrupted training goes on from its last checkpoint when the same command is given again. Several devices
    train together under torchrun: 'torchrun --nproc-per-node 2 -m anycalo train ...'.

    Args:
        recipe: A shipped recipe's name or the path of a TOML file.
        data: Shower files of one detector; repeat the option for several.
        out: The directory of the run, which becomes the model.
        seed: Of weights, batches and noise; the recipe's own by default.
        minutes: Time budget; the learning rate falls to 0 within it.
        device: Where to train; a graphics card where there is one by default.
        threads: Threads of the processor; PyTorch's choice by default.
        distances: Compare generated with held-out showers at each quarter of the last stage, and log it.
    """
    loaded = Recipe.load(recipe)
    if seed is not None:
        loaded = replace(loaded, seed=seed)
    if minutes is not None and not minutes > 0:
        raise CommandError(f"minutes is {minutes}; expected above 0")
    use_processor(device, threads)
    kept = f"the last checkpoint is kept in {out}. The same command goes on from there."
    with terminal.progress(f"Training {loaded.family}", "steps", kept=kept) as progress:
        model = run(
            loaded,
            data,
            out,
            max_minutes=minutes,
            device=device,
            threads=threads,
            progress=progress,
            validate=held_out_distances if distances else None,
        )
    metrics = model.card.get("metrics", {})
    data_used = model.card.get("data", {})
    rows = {
        "model": str(out),
        "family": f"{model.family}, {parameter_count(model):,} parameters",
        "trained on": f"{data_used.get('showers', 0):,} showers; {data_used.get('validation_showers', 0):,} for validation",
    } | {name.replace("_", " "): f"{value:.4g}" for name, value in metrics.items()}
    terminal.result({"path": str(out), "parameters": parameter_count(model), **model.card}, facts(rows))

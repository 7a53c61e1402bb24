"""`anycalo finetune`: a model adapted to a detector with few showers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter
from rich.table import Table

from anycalo.adapt import Method
from anycalo.cli.console import Terminal, facts
from anycalo.cli.processor import use_processor
from anycalo.errors import CommandError
from anycalo.evaluate.validation import DistanceCheck
from anycalo.models import load_model, shipped_models
from anycalo.models.adapter import save_adapter
from anycalo.models.transplant import base_for
from anycalo.showers import check_output
from anycalo.train import FinetuneConfig
from anycalo.train import finetune as run
from anycalo.train.data import read_showers
from anycalo.train.finetune_report import StageReport


def finetune(
    model: str,
    /,
    *,
    data: Annotated[list[str], Parameter(negative=(), metavar="FILE")],
    out: Path,
    method: Literal["full", "bitfit", "bitfit-hyper", "top", "lora"] = "bitfit",
    n: Annotated[int | None, Parameter(name=["-n", "--number"])] = None,
    rank: int = Method.rank,
    alpha: float | None = None,
    last: int = Method.last,
    learning_rate: float | None = None,
    steps: int = FinetuneConfig.steps,
    patience: int = FinetuneConfig.patience,
    seed: int = FinetuneConfig.seed,
    threads: int | None = None,
    terminal: Annotated[Terminal, Parameter(parse=False)],
) -> None:
    """Adapt a model to a detector with some of its showers.

    A part of the model is changed only where showers that were held out say that it becomes better, and the change is taken
    back where showers generated with it are no nearer to those given than the base's. Means of the totals and the constants
    of the points of a geometry-aware model are moved as far as the showers can tell. What is written is a model like any
    other with method full, and an adapter otherwise: the changes alone, which need the base. A model of one geometry is first
    moved to the showers' detector, by physical depth, where that is another; the result is a whole model.

    Args:
        model: A shipped model's name or the directory of a trained one.
        data: Shower files of one detector; repeat the option for several.
        out: The directory to write, which 'anycalo generate' takes as a model.
        method: What is trained: everything, the biases, the biases and what makes them, the last layers, or low-rank changes.
        n: Use the first showers only; all by default.
        rank: Of the low-rank changes.
        alpha: Strength of the low-rank changes; twice the rank by default.
        last: How many layers the method top trains.
        learning_rate: Of AdamW; the method's own by default.
        steps: At most, for each part of the model.
        patience: Validations, of which there is one every 20 steps, without a lower loss, after which a part stops.
        seed: Of what is held out, batches and noise.
        threads: Threads of the processor; PyTorch's choice by default.
    """
    if out.exists():
        raise CommandError(f"{out} exists already; choose another name or remove it")
    check_output(out / "model.json", overwrite=False)
    asked = Method(name=method, rank=rank, alpha=2.0 * rank if alpha is None else alpha, last=last)
    config = FinetuneConfig(method=asked, learning_rate=learning_rate or 0.0, steps=steps, patience=patience, seed=seed)
    batches = read_showers(data)
    if len(batches) > 1:
        names = ", ".join(batch.detector.name for batch in batches)
        raise CommandError(f"the showers are of {len(batches)} detectors ({names}); expected one. Train on several instead")
    showers = batches[0]
    if n is not None:
        if not 1 <= n <= len(showers):
            raise CommandError(f"{n} showers asked for; there are {len(showers)}")
        showers = showers[:n]
    use_processor("cpu", threads)
    loaded = load_model(model)
    base = base_for(loaded, showers, seed=seed)
    with terminal.progress(f"Fine-tuning {model}", "steps", kept="nothing was written.") as progress:
        tuned = run(base, showers, config, compare=DistanceCheck(base, showers, seed=seed), progress=progress)
    alone = base is loaded and method != "full"
    card = {"base": {"name": model, "sha256": loaded.digest()}, **tuned.card}
    if alone:
        save_adapter(
            out,
            base=model if model in shipped_models() else Path(model),
            base_sha256=loaded.digest(),
            domain=tuned.model.domain,
            changes=tuned.changes,
            card=tuned.card,
        )
    else:
        tuned.model.save(out, card=card)
    size = sum(path.stat().st_size for path in out.iterdir())
    total = sum(report.total for report in tuned.stages.values())
    rows = {
        "adapter" if alone else "model": f"{out}, {size / 1024:,.0f} KiB",
        "base": model if base is loaded else f"{model}, moved from {loaded.domain.detector.name} to {showers.detector.name}",
        "method": asked.label,
        "trained": f"{tuned.trained:,} of {total:,} parameters ({tuned.trained / total:.2%})",
        "showers": f"{len(showers):,} of {showers.detector.name}",
        "distance to them": _distance(tuned.stages),
    }
    terminal.result({"path": str(out), "adapter": alone, "bytes": size, **tuned.card}, facts(rows), "", _table(tuned.stages))


def _distance(stages: Mapping[str, StageReport]) -> str:
    """Before and after, and what was taken back."""
    looked_at = {name: r for name, r in stages.items() if r.distances is not None}
    if not looked_at:
        return "not looked at, since no part was changed or nothing can be compared"
    before = next(r.distances.before for r in looked_at.values() if r.distances is not None)
    kept = [r.distances.after for r in looked_at.values() if r.accepted and r.distances is not None]
    after = f"{kept[-1]:.2f} after" if kept and kept[-1] is not None else "unchanged"
    back = [name for name, r in looked_at.items() if r.taken_back]
    taken = f"; taken back, since showers with it were no nearer: {', '.join(back)}" if back else ""
    return f"{before:.2f} floors before, {after}{taken}"


def _table(stages: Mapping[str, StageReport]) -> Table:
    table = Table("part", box=None, pad_edge=False)
    for column in ("trained", "loss before", "after", "error of the change", "floors", "steps", ""):
        table.add_column(column, justify="right", no_wrap=True)
    for name, r in stages.items():
        verdict = "changed" if r.accepted else "taken back" if r.taken_back else "kept as it was"
        floors = "" if r.distances is None else "no showers" if r.distances.after is None else f"{r.distances.after:.2f}"
        losses = f"{r.base_loss:.4g}", f"{r.loss:.4g}", f"{r.gain_error:.2g}"
        table.add_row(name, f"{r.trained:,}", *losses, floors, f"{r.steps}", verdict)
    return table

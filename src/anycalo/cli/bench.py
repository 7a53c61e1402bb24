"""`anycalo bench`: how long a shower takes."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Annotated, Literal

import torch
from cyclopts import Parameter
from rich.table import Table

from anycalo.cli.console import Terminal
from anycalo.cli.processor import use_processor
from anycalo.cli.quantities import Energies, Flag, Names, Numbers, energy_text
from anycalo.embed import open_model
from anycalo.embed.bench import CONTENDERS, Timing, caloclouds3, showers_like, sizes
from anycalo.embed.bench import bench as run
from anycalo.errors import CommandError, ModelError
from anycalo.geometry import Detector
from anycalo.models import Model, shipped_models
from anycalo.report import write_speed
from anycalo.showers import check_output

_OF_ONE_DETECTOR = "caloclouds-ild"


def bench(
    models: Names = (),
    /,
    *,
    energy: Energies,
    detector: str | None = None,
    batch: Numbers = (1,),
    threads: int = 1,
    against: Names = (),
    rounds: int = 5,
    device: Literal["cpu", "cuda"] = "cpu",
    out: Path | None = None,
    overwrite: Flag = False,
    terminal: Annotated[Terminal, Parameter(parse=False)],
) -> None:
    """Time photons: the whole call, models and Geant4 in turn.

    Medians over rounds and quartiles, in time of the processor, which does not count what else the machine does, and on
    the clock; of models the second call of each turn, and beside it the first, in time of the processor.

    Args:
        models: Shipped models' names, directories of trained ones or folders of 'anycalo export --to onnx'; by default every
            shipped model that makes showers of the detector.
        energy: Energies, with commas between them (10GeV,50GeV,90GeV).
        detector: A preset's name or a detector file; by default the first model's own, or that of caloclouds-ild.
        batch: Showers a call, with commas between them (1,100).
        threads: Threads of the processor.
        against: geant4, and caloclouds3, a network of its published sizes with random weights.
        rounds: Times that everything is timed, in turn.
        device: cpu, or cuda for a graphics card.
        out: A picture to write, times against energy.
        overwrite: Replace a file of that name.
    """
    for name in against:
        if name not in CONTENDERS:
            raise CommandError(f"--against is '{name}'; expected {' or '.join(CONTENDERS)}")
    if out is not None:
        check_output(out, overwrite=overwrite)
    use_processor(device, threads)
    loaded = {name: open_model(name, device=device) for name in models or shipped_models()}
    own = loaded[models[0] if models else _OF_ONE_DETECTOR]
    geometry = own.domain.detector if detector is None else Detector.load(detector)
    if not models:
        loaded = {name: model for name, model in loaded.items() if _serves(model, geometry)}
    first = next(iter(loaded.values()))
    if "caloclouds3" in against:
        loaded["caloclouds3"] = caloclouds3(geometry, showers_like(first, geometry, energy)).to(device)
    with terminal.progress("Timing", "calls", kept="nothing was written.") as progress:
        timings = run(loaded, geometry, energy, batch, geant4="geant4" in against, rounds=rounds, progress=progress)
    machine = torch.cuda.get_device_name() if device == "cuda" else platform.processor() or platform.machine()
    about = f"{geometry.name}, {threads} thread{'s' if threads > 1 else ''}, {machine}"
    data = {
        "detector": geometry.name,
        "threads": threads,
        "device": device,
        "machine": machine,
        "rounds": rounds,
        "parameters": {name: sizes(model) for name, model in loaded.items()},
        "timings": [timing.to_dict() for timing in timings],
    }
    said = [f"picture: {write_speed(timings, out, title=about, overwrite=overwrite)}"] if out is not None else []
    terminal.result(data, f"{about}; ms a shower, median of {rounds} rounds (quartiles)", _table(timings), *said)


def _serves(model: Model, detector: Detector) -> bool:
    try:
        model.check(detector)
    except ModelError:
        return False
    return True


def _table(timings: list[Timing]) -> Table:
    table = Table(box=None, padding=(0, 2), pad_edge=False)
    for column in ("energy", "contender", "batch", "processor ms", "clock ms", "first call", "points"):
        table.add_column(column, no_wrap=True)
    for t in sorted(timings, key=lambda t: (t.energy_mev, t.batch)):
        texts = []
        for values in (t.processor_ms, t.wall_ms, t.first_ms):
            if not values:
                texts.append("")
                continue
            median, low, high = t.spread(values)
            texts.append(f"{median:.3g} ({low:.3g} to {high:.3g})")
        table.add_row(energy_text(t.energy_mev), t.name, str(t.batch), *texts, f"{t.points:.0f}")
    return table

"""`anycalo embed`: a Geant4 run in which a model takes over at the face of the calorimeter."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from anycalo.cli.console import Terminal
from anycalo.cli.quantities import Flag
from anycalo.cli.samples import describe_file
from anycalo.embed import EmbedRun, Events
from anycalo.embed import embed as run
from anycalo.showers import check_output


def embed(
    run_file: Path,
    /,
    *,
    out: Path,
    full: Flag = False,
    overwrite: Flag = False,
    terminal: Annotated[Terminal, Parameter(parse=False)],
) -> None:
    """Simulate events with Geant4, in which a model takes over at the face of the calorimeter.

    Photons, electrons and positrons inside the model's training domain end at the face, and the model's deposits take
    their place; everything else is simulated in full. docs/embed.md describes the run file and the file of events.

    Args:
        run_file: A TOML file: detector, model, guns or a list of particles.
        out: The file of events to write, a shower file with one shower an event.
        full: Simulate the same events in full, without the model.
        overwrite: Replace a file of that name.
    """
    check_output(out, overwrite=overwrite)
    asked = EmbedRun.load(run_file)
    with terminal.progress(f"Simulating {run_file}", "events", kept="nothing was written.") as progress:
        path = run(asked, out, full=full, progress=progress, overwrite=overwrite, command=terminal.command)
    events = Events.open(path)
    data, line = describe_file(path)
    seconds = events.showers.provenance["processor_seconds"]
    taken, fraction = len(events.entries["event"]), events.fast_fraction()
    terminal.result(
        {**data, "taken_over": taken, "fast_fraction": fraction, "processor_seconds": seconds},
        line,
        f"{taken:,} particles taken over at the face, {fraction:.1%} of the visible energy;"
        f" {seconds['events']:.3g} s of processor, of which the model {seconds['model']:.3g} s",
    )

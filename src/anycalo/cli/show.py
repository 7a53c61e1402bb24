"""`anycalo show`: a shower in three dimensions."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from anycalo.cli.console import Terminal
from anycalo.cli.quantities import Flag
from anycalo.errors import CommandError
from anycalo.report import event_display
from anycalo.showers import ShowerFile


def show(
    file: str,
    /,
    *,
    event: int = 0,
    out: Path | None = None,
    cells: Flag = False,
    overwrite: Flag = False,
    terminal: Annotated[Terminal, Parameter(parse=False)],
) -> None:
    """Draw a shower: an interactive page (HTML) and a picture (PNG).

    Args:
        file: A shower file, or the name of a sample shipped with AnyCalo.
        event: Which shower, from 0.
        out: Path of the two files without .html and .png; event-N here by default.
        cells: Draw the cells above threshold instead of the deposits.
        overwrite: Replace files of these names.
    """
    with ShowerFile(file) as opened:
        if not 0 <= event < len(opened):
            raise CommandError(f"event {event} asked for; {opened.path} holds events 0 to {len(opened) - 1}")
        shower = opened[event : event + 1]
    stem = out if out is not None else Path(f"event-{event}")
    page, picture = event_display(shower, 0, stem, cells=cells, overwrite=overwrite)
    terminal.result({"page": str(page), "picture": str(picture)}, str(page), str(picture))

"""`anycalo inspect`: is a shower file sound, and what is in it?"""

from __future__ import annotations

import json
import math
from typing import Annotated, Any

from cyclopts import Parameter

from anycalo.cli.console import Terminal, facts
from anycalo.cli.quantities import energy_range_text, energy_text
from anycalo.cli.samples import size_text
from anycalo.showers import Summary
from anycalo.showers import inspect as run


def inspect(file: str, /, *, terminal: Annotated[Terminal, Parameter(parse=False)]) -> None:
    """Validate a shower file from end to end, and say what it holds and where it came from.

    Args:
        file: A shower file, or the name of a sample shipped with AnyCalo.
    """
    with terminal.progress(f"Reading {file}", "showers", kept="nothing was changed.") as progress:
        summary = run(file, progress=progress)
    terminal.result(summary.to_dict(), facts(_rows(summary)))


def _rows(summary: Summary) -> dict[str, str]:
    low, high = (math.degrees(angle) for angle in summary.angle_rad)
    fewest, mean, most = summary.points_per_shower
    rows = {
        "file": f"{summary.path}, {size_text(summary.size_bytes)}: sound",
        "detector": f"{summary.detector}, {summary.n_layers} layers",
        "showers": ", ".join(f"{count:,} {name}" for name, count in summary.particles.items()),
        "energy": energy_range_text(*summary.energy_mev),
        "angle": "normal to the front face" if high < 0.01 else f"{low:.1f} to {high:.1f} degrees from the normal",
        "points": f"{summary.n_points:,} in all; {fewest:,} to {most:,} a shower, {mean:,.1f} on average",
        "visible energy": f"{energy_text(summary.visible_mev[0])} on average, spread {energy_text(summary.visible_mev[1])}",
        "response": f"{summary.response[0]:.3%} of the incident energy, spread {summary.response[1]:.3%}",
    }
    if summary.n_empty:
        rows["empty showers"] = f"{summary.n_empty:,}"
    if summary.n_outside:
        rows["outside"] = f"{summary.n_outside:,} points lie beyond the side faces of the detector"
    return rows | {f"· {key.replace('_', ' ')}": _value(value) for key, value in summary.provenance.items()}


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key.replace('_', ' ')} {_value(entry)}" for key, entry in value.items())
    return value if isinstance(value, str) else json.dumps(value)

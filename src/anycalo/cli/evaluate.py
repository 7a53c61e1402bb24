"""`anycalo evaluate`: how far are generated showers from Geant4?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter
from rich.table import Table

from anycalo.cli.console import Terminal
from anycalo.cli.quantities import Flag
from anycalo.evaluate import Evaluation
from anycalo.evaluate import evaluate as run
from anycalo.report import check_folder, write_report
from anycalo.showers import Showers


def evaluate(
    truth: str,
    fast: str,
    /,
    *,
    out: Path,
    floor: str | None = None,
    metrics: Literal["quick", "all", "none"] = "quick",
    seed: int = 0,
    bootstrap: int = 1000,
    overwrite: Flag = False,
    terminal: Annotated[Terminal, Parameter(parse=False)],
) -> None:
    """Compare generated showers with Geant4 and write a report.

    Files are paths, or names of samples shipped with AnyCalo.

    Args:
        truth: Geant4 showers, the reference.
        fast: Showers to judge, of the same detector and particles.
        out: The folder to write: index.html for people and results.json for machines.
        floor: More Geant4 showers, independent of the reference, for a more precise floor.
        metrics: Of whole showers, beside the observables: quick; all adds the neural classifiers, which take minutes, with
            many cells and no GPU hours; none.
        seed: Of the random divisions and the bootstrap.
        bootstrap: Resamples behind every interval.
        overwrite: Replace the report in a folder that exists.
    """
    check_folder(out, overwrite=overwrite)
    reference, judged = Showers.open(truth), Showers.open(fast)
    more = None if floor is None else Showers.open(floor)
    with terminal.progress("Comparing", "steps", kept="nothing was written.") as progress:
        found = run(reference, judged, floor=more, metrics=metrics, seed=seed, n_bootstrap=bootstrap, progress=progress)
    page = write_report(found, reference, judged, out, overwrite=overwrite)
    for warning in found.warnings:
        terminal.note(f"warning: {warning}")
    tables = [_table(found), *([_metrics(found)] if found.metrics else [])]
    terminal.result({"report": str(page), **_without_figures(found)}, *tables, "", _headline(found), f"report: {page}")


def _without_figures(found: Evaluation) -> dict[str, object]:
    """The results without what only the figures need, which `results.json` holds."""
    data = found.to_dict()
    for result in data["observables"].values():
        result.pop("histogram", None)
        result.pop("members", None)
    return data


def _table(found: Evaluation) -> Table:
    table = Table("observable", box=None, pad_edge=False)
    for column in ("W1", "floor", "W1 / floor", "95 % interval", "JSD", "floor", "separation", "floor"):
        table.add_column(column, justify="right", no_wrap=True)
    for result in sorted(found.observables.values(), key=lambda r: -r.w1_ratio):
        low, high = result.w1_ratio_ci
        table.add_row(
            result.title,
            f"{result.w1:.3g}",
            f"{result.w1_floor:.3g}",
            f"{result.w1_ratio:.2f}",
            f"{low:.2f} to {high:.2f}",
            f"{result.jsd:.2g}",
            f"{result.jsd_floor:.2g}",
            f"{result.separation:.2g}",
            f"{result.separation_floor:.2g}",
        )
    return table


def _metrics(found: Evaluation) -> Table:
    table = Table("whole showers", box=None, pad_edge=False)
    for column in ("fast", "95 % interval", "Geant4", "95 % of Geant4", "deviation / floor"):
        table.add_column(column, justify="right", no_wrap=True)
    for m in found.metrics.values():
        table.add_row(
            m.title,
            f"{m.value:.3g}",
            f"{m.ci[0]:.3g} to {m.ci[1]:.3g}",
            f"{m.floor:.3g}",
            f"{m.floor_range[0]:.3g} to {m.floor_range[1]:.3g}",
            f"{m.ratio:.2f}",
        )
    return table


def _headline(found: Evaluation) -> str:
    summary = found.summary
    low, high = summary.ratio_to_floor_ci
    return (
        f"{summary.ratio_to_floor:.2f} times the floor of Geant4 against Geant4 (95 % interval {low:.2f} to {high:.2f};"
        f" geometric mean of W1 / floor, {summary.n_fast} showers against {summary.n_truth})"
    )

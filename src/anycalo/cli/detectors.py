"""`anycalo detectors`: the presets, or one detector in numbers and in a drawing."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter
from rich.table import Table

from anycalo.cli.console import Terminal, facts
from anycalo.cli.quantities import Flag
from anycalo.geometry import Detector, presets
from anycalo.geometry.derived import describe


def detectors(
    name: str | None = None,
    /,
    *,
    out: Path | None = None,
    overwrite: Flag = False,
    terminal: Annotated[Terminal, Parameter(parse=False)],
) -> None:
    """List the detectors shipped with AnyCalo, or describe one.

    Args:
        name: A preset's name or the path of a detector file; all presets if left out.
        out: Draw the detector into this file (.png, .pdf or .svg).
        overwrite: Replace a drawing of that name.
    """
    if name is None:
        described = {preset: describe(Detector.load(preset)) for preset in presets()}
        terminal.result(described, _overview(described))
        return
    detector = Detector.load(name)
    about = describe(detector)
    if out is not None:
        from anycalo.report.detector import draw_detector

        about["drawing"] = str(draw_detector(detector, out, overwrite=overwrite))
    terminal.result(about, *_numbers(about), _groups(about["groups"]), "", *_sketch(about), *_drawn(about))


def _overview(described: dict[str, dict[str, Any]]) -> Table:
    table = Table("detector", box=None, pad_edge=False)
    for column in ("layers", "depth [mm]", "depth [X0]", "sampling", "R_M [mm]", "field [T]"):
        table.add_column(column, justify="right")
    table.add_column("description", overflow="fold")
    for name, about in described.items():
        table.add_row(
            name,
            str(about["n_layers"]),
            f"{about['depth_mm']:.1f}",
            f"{about['depth_x0']:.1f}",
            f"{about['sampling_fraction']:.2%}",
            f"{about['moliere_radius_mm']:.1f}",
            f"{about['field_tesla']:g}",
            about["description"],
        )
    return table


def _numbers(about: dict[str, Any]) -> list[Any]:
    rows = {
        "layers": str(about["n_layers"]),
        "depth": f"{about['depth_mm']:.2f} mm, {about['depth_x0']:.2f} X0",
        "size": " x ".join(f"{size:g}" for size in about["size_mm"]) + " mm",
        "sampling fraction": f"{about['sampling_fraction']:.3%} of a minimum ionising particle's loss",
        "Molière radius": f"{about['moliere_radius_mm']:.2f} mm",
        "critical energy": f"{about['critical_energy_mev']:.2f} MeV",
        "magnetic field": f"{about['field_tesla']:g} T along x",
        "threshold": f"{about['threshold_mip']:g} MIP",
    }
    return [f"{about['name']}: {about['description']}", "", facts(rows), ""]


def _groups(groups: list[dict[str, Any]]) -> Table:
    table = Table("layers", box=None, pad_edge=False)
    for column in ("thickness [mm]", "[X0]", "sensitive [mm]", "MIP [MeV]", "sampling"):
        table.add_column(column, justify="right")
    table.add_column("readout")
    for group in groups:
        table.add_row(
            _which(group),
            f"{group['thickness_mm']:.3f}",
            f"{group['thickness_x0']:.3f}",
            f"{group['sensitive_mm']:.3f}",
            f"{group['mip_mev']:.3f}",
            f"{group['sampling_fraction']:.2%}",
            group["readout"],
        )
    return table


def _which(group: dict[str, Any]) -> str:
    return str(group["first"]) if group["first"] == group["last"] else f"{group['first']}-{group['last']}"


def _sketch(about: dict[str, Any], columns: int = 78) -> list[str]:
    """The layers along the depth, drawn to scale: dark and light runs are groups of equal layers."""
    depth_x0, line, marks, x0 = about["depth_x0"], "", "", 0.0
    for k, group in enumerate(about["groups"]):
        start = len(line)
        x0 += group["thickness_x0"] * (group["last"] - group["first"] + 1)
        line += "█▒"[k % 2] * (round(columns * x0 / depth_x0) - start)
        label = _which(group)
        if len(marks) <= start and start + len(label) <= len(line):
            marks = marks.ljust(start) + label + " "
    scale = "0 X0".ljust(columns - 8) + f"{depth_x0:5.1f} X0"
    return [f"  {marks.rstrip()}", f"→ {line}", f"  {scale}"]


def _drawn(about: dict[str, Any]) -> list[str]:
    return ["", f"drawn in {about['drawing']}"] if "drawing" in about else []

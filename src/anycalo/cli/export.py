"""`anycalo export`: a model in a form that another program runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from anycalo.cli.console import Terminal
from anycalo.cli.quantities import EnergyRange, Flag, angle_rad, option
from anycalo.cli.samples import size_text
from anycalo.embed import TARGETS, DdmlLayout
from anycalo.embed import export as run
from anycalo.embed.request import ExportRequest
from anycalo.geometry import Detector
from anycalo.models import load_model


def export(
    model: str,
    /,
    *,
    to: Annotated[str, Parameter(choices=list(TARGETS))],
    out: Path,
    detector: str | None = None,
    particle: str | None = None,
    energy: EnergyRange | None = None,
    max_angle: Annotated[float | None, option(angle_rad, "ANGLE")] = None,
    length: int = 35_000,
    layers: int | None = None,
    count_stride: int = 1,
    overwrite: Flag = False,
    terminal: Annotated[Terminal, Parameter(parse=False)],
) -> None:
    """Export a model for another program.

    What the program cannot hold, or the model was not trained for, is refused here. docs/export.md describes every form.

    Args:
        model: A shipped model's name or the directory of a trained one.
        to: Which form.
        out: The file to write; for onnx a folder, for ddml-python a module's name, such as calo.py.
        detector: A preset's name or a detector file; the model's own by default.
        particle: gamma, electron or positron; photons by default. The form onnx serves every kind.
        energy: The range that will be asked for; the training domain by default.
        max_angle: The largest angle to the normal that will be asked for; the training domain's by default.
        length: Numbers in the array that DDML reads.
        layers: Layers that DDML reads; those of the detector by default.
        count_stride: 1 where DDML reads plain counts of points, 4 where it reads each at the head of a row.
        overwrite: Replace what is there.
    """
    loaded = load_model(model)
    geometry = loaded.domain.detector if detector is None else Detector.load(detector)
    layout = DdmlLayout(length=length, layers=geometry.n_layers if layers is None else layers, count_stride=count_stride)
    path = run(
        loaded,
        geometry,
        to,
        out,
        particle=particle,
        energy_mev=energy,
        max_angle_rad=max_angle,
        layout=layout,
        overwrite=overwrite,
    )
    files = sorted(path.rglob("*")) if path.is_dir() else [path]
    size = sum(file.stat().st_size for file in files if file.is_file())
    kinds = loaded.domain.particles if to == "onnx" else (ExportRequest.of(loaded, particle=particle).particle,)
    data = {"path": str(path), "target": to, "detector": geometry.name, "particles": list(kinds), "size_bytes": size}
    line = f"{path}: {model} in {geometry.name} for {' and '.join(kinds)}, {TARGETS[to]}, {size_text(size)}"
    terminal.result(data, line)

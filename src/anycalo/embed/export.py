"""One door to every export."""

from __future__ import annotations

import shutil
import uuid
import warnings
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from anycalo.embed.ddml import DdmlLayout, export_python, export_torchscript
from anycalo.embed.onnx_graphs import export_halves, export_par04
from anycalo.embed.request import ExportRequest
from anycalo.errors import DomainWarning, ModelError, OutputError
from anycalo.geometry import Detector
from anycalo.models import Model

TARGETS: Mapping[str, str] = MappingProxyType(
    {
        "ddml-torchscript": "a TorchScript file for DDML's CaloCloudsTwoAngleModel",
        "ddml-python": "a Python module for DDML's embedded Python, and a folder beside it",
        "par04-onnx": "an ONNX file for Geant4's example Par04",
        "onnx": "a folder of two ONNX graphs that 'anycalo generate' runs",
    }
)


def export(
    model: Model,
    detector: Detector,
    target: str,
    out: str | Path,
    *,
    particle: str | None = None,
    energy_mev: tuple[float, float] | None = None,
    max_angle_rad: float | None = None,
    layout: DdmlLayout | None = None,
    overwrite: bool = False,
) -> Path:
    """Write a model in a form that another program runs.

    Args:
        model: what is exported.
        detector: for which.
        target: one of `TARGETS`.
        out: the file, or for `onnx` the folder, to write; for `ddml-python` a name that ends in `.py`.
        particle: which; photons by default. `onnx` serves every kind.
        energy_mev: lowest and highest energy; those of the training domain by default.
        max_angle_rad: largest angle to the normal; that of the training domain by default.
        layout: of DDML's array.
        overwrite: replace what is there.

    Returns:
        The path written.

    Raises:
        ModelError: if the runtime cannot hold what is asked for, or the model was not trained for it.
        OutputError: if `out` exists or cannot be written.

    Warns:
        DomainWarning: for what the detector has outside the detectors that the model was trained on.
    """
    if target not in TARGETS:
        raise ModelError(f"target is {target!r}; expected one of {', '.join(TARGETS)}")
    out = Path(out)
    beside = [out, out.with_suffix("")] if target == "ddml-python" else [out]
    for path in beside:
        if path.exists() and not overwrite:
            raise OutputError(f"{path} exists already; choose another name, remove it, or ask to overwrite it")
    model.check(detector)
    layout = layout or DdmlLayout(layers=detector.n_layers)
    request = ExportRequest.of(model, particle=particle, energy_mev=energy_mev, max_angle_rad=max_angle_rad)
    for breach in model.domain.detector_breaches(detector):
        warnings.warn(f"outside the training domain: {breach}. Treat these showers with care.", DomainWarning, stacklevel=2)
    folder = out.parent / f".{out.name}.{uuid.uuid4().hex}.tmp"
    made = folder / out.name
    try:
        folder.mkdir(parents=True)
        if target == "ddml-torchscript":
            export_torchscript(model, detector, request, made, layout)
        elif target == "ddml-python":
            export_python(model, detector, request, made, layout)
        elif target == "par04-onnx":
            export_par04(model, detector, request, made)
        else:
            export_halves(model, detector, made)
        for path in beside:
            if path.is_dir():
                shutil.rmtree(path)
            (folder / path.name).replace(path)
    except OSError as error:
        raise OutputError(f"{out} cannot be written: {error.strerror or error}") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return out

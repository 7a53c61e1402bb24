"""`anycalo generate`: showers from a model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from anycalo.cli.console import Terminal
from anycalo.cli.processor import use_processor
from anycalo.cli.quantities import Angle, Direction, EnergyRange, Flag, Names
from anycalo.cli.samples import describe_file
from anycalo.embed import open_model
from anycalo.errors import CommandError
from anycalo.generate import generate_file
from anycalo.geometry import Detector
from anycalo.models import Model
from anycalo.showers import Beam, Incident, ShowerFile, check_output


def generate(
    model: str,
    /,
    *,
    out: Path,
    n: Annotated[int | None, Parameter(name=["-n", "--number"])] = None,
    energy: EnergyRange | None = None,
    particle: Names = ("gamma",),
    spectrum: Literal["uniform", "log"] = "uniform",
    direction: Direction = (0.0, 0.0, 1.0),
    max_angle: Angle = 0.0,
    like: str | None = None,
    detector: str | None = None,
    seed: int = 1,
    batch: int = 100,
    threads: int | None = None,
    device: Literal["cpu", "cuda"] = "cpu",
    overwrite: Flag = False,
    terminal: Annotated[Terminal, Parameter(parse=False)],
) -> None:
    """Generate showers with a model.

    Give either --energy and -n, or --like. Showers outside the model's training domain are made, with a warning. An
    interrupted generation goes on where it stopped when the same command is given again.

    Args:
        model: A shipped model's name, the directory of a trained one, or the folder of an export to onnx.
        out: The shower file to write.
        n: Number of showers; with --like, all of the file by default.
        energy: One energy (50GeV) or a range (10GeV:90GeV).
        particle: gamma, electron or positron; several with commas, drawn with equal probability.
        spectrum: Energies uniform over the range, or uniform in the logarithm.
        direction: Fixed direction dx,dy,dz; along the normal of the front face by default.
        max_angle: Directions uniform in solid angle up to this angle from the normal (30deg).
        like: Take the incident particles of this shower file (a path, or the name of a shipped sample).
        detector: A preset's name or a detector file; by default the model's own, or that of '--like' where it has many.
        seed: The same seed gives the same showers.
        batch: Showers made at once.
        threads: Threads of the processor; all cores by default.
        device: cpu, or cuda for a graphics card.
        overwrite: Replace a file of that name.
    """
    check_output(out, overwrite=overwrite)
    incident = _incident(n, energy, particle, spectrum, direction, max_angle, like, seed)
    use_processor(device, threads)
    loaded = open_model(model, device=device)
    geometry = _geometry(loaded, detector, like)
    kept = f"finished showers are kept in {out}.part. The same command goes on from there."
    with terminal.progress(f"Generating with {model}", "showers", kept=kept) as progress:
        generate_file(
            loaded,
            geometry,
            incident,
            out,
            seed=seed,
            batch_size=batch,
            progress=progress,
            overwrite=overwrite,
            command=terminal.command,
        )
    terminal.result(*describe_file(out))


def _geometry(model: Model, detector: str | None, like: str | None) -> Detector:
    """What was asked for; else the model's one detector; else that of the file whose particles are taken."""
    if detector is not None:
        return Detector.load(detector)
    if model.domain.detectors:
        return model.domain.detector
    if like is None:
        raise CommandError(f"the model was trained on {model.domain.n_detectors} detectors; say which with --detector")
    with ShowerFile(like) as file:
        return file.detector


def _incident(
    n: int | None,
    energy: tuple[float, float] | None,
    particle: tuple[str, ...],
    spectrum: str,
    direction: tuple[float, float, float],
    max_angle: float,
    like: str | None,
    seed: int,
) -> Incident:
    if n is not None and n < 1:
        raise CommandError(f"{n} showers asked for; expected at least 1")
    if like is not None:
        if energy is not None:
            raise CommandError("--like and --energy are both given; expected one of them")
        with ShowerFile(like) as file:
            incident = file.incident()
        if n is not None and n > len(incident):
            raise CommandError(f"{n} showers asked for, but {like} holds {len(incident)}; expected at most as many")
        return incident[slice(0, n)]
    if energy is None or n is None:
        raise CommandError("nothing says which showers; expected --energy with -n, or --like")
    beam = Beam(particle=particle, energy_mev=energy, spectrum=spectrum, direction=direction, max_angle_rad=max_angle)
    return beam.sample(n, seed)

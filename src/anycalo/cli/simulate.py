"""`anycalo simulate`: showers from Geant4."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from anycalo.cli.console import Terminal
from anycalo.cli.quantities import Angle, Direction, EnergyRange, Flag, Length, Names
from anycalo.cli.samples import describe_file
from anycalo.geometry import Detector
from anycalo.showers import Beam
from anycalo.simulate import PHYSICS, Settings
from anycalo.simulate import simulate as run


def simulate(
    detector: str,
    /,
    *,
    out: Path,
    n: Annotated[int, Parameter(name=["-n", "--number"])],
    energy: EnergyRange,
    particle: Names = ("gamma",),
    spectrum: Literal["uniform", "log"] = "uniform",
    direction: Direction = (0.0, 0.0, 1.0),
    max_angle: Angle = 0.0,
    physics: Annotated[str, Parameter(choices=list(PHYSICS))] = "opt0",
    cut: Length = 0.1,
    fluorescence: Flag = False,
    merge: Length = 1.0,
    workers: int | None = None,
    seed: int = 1,
    overwrite: Flag = False,
    terminal: Annotated[Terminal, Parameter(parse=False)],
) -> None:
    """Simulate showers with Geant4.

    An interrupted simulation goes on where it stopped when the same command is given again. The showers do not
    depend on the number of workers.

    Args:
        detector: A preset's name (see 'anycalo detectors') or the path of a detector file.
        out: The shower file to write.
        n: Number of showers.
        energy: One energy (50GeV) or a range (10GeV:90GeV).
        particle: gamma, electron or positron; several with commas, drawn with equal probability.
        spectrum: Energies uniform over the range, or uniform in the logarithm.
        direction: Fixed direction dx,dy,dz; along the normal of the front face by default.
        max_angle: Directions uniform in solid angle up to this angle from the normal (30deg).
        physics: Geant4 electromagnetic physics.
        cut: Production cut in range.
        fluorescence: Switch atomic de-excitation on.
        merge: Merge the steps of a layer in squares of this side; 0mm keeps every step.
        workers: Processes; one for each core by default.
        seed: Of the particles and the showers.
        overwrite: Replace a file of that name.
    """
    geometry = Detector.load(detector)
    beam = Beam(particle=particle, energy_mev=energy, spectrum=spectrum, direction=direction, max_angle_rad=max_angle)
    settings = Settings(physics=physics, cut_mm=cut, fluorescence=fluorescence, merge_mm=merge)
    kept = f"finished showers are kept in {out}.parts. The same command goes on from there; remove the folder to give up."
    with terminal.progress(f"Simulating {geometry.name}", "showers", kept=kept) as progress:
        path = run(
            geometry,
            beam,
            n,
            out,
            seed=seed,
            workers=workers,
            settings=settings,
            progress=progress,
            overwrite=overwrite,
            command=terminal.command,
        )
    terminal.result(*describe_file(path))

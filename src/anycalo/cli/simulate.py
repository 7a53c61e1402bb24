"""`anycalo simulate`: showers from Geant4."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from anycalo.cli.console import Terminal
from anycalo.cli.quantities import Angle, Direction, EnergyRange, Flag, Length, Names
from anycalo.cli.samples import describe_file
from anycalo.errors import AnyCaloError
from anycalo.geometry import Detector, Zoo
from anycalo.showers import Beam
from anycalo.simulate import PHYSICS, Settings, simulate_zoo
from anycalo.simulate import simulate as run


def simulate(
    detector: str | None = None,
    /,
    *,
    out: Path,
    n: Annotated[int, Parameter(name=["-n", "--number"])],
    energy: EnergyRange | None = None,
    zoo: str | None = None,
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
    compact: Flag = False,
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
        zoo: Instead of a detector and a beam, a recipe that draws or names many (zoo-train, zoo-held-out, or the path
            of one); '--out' is then a folder with a file for each detector.
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
        compact: Round positions to 1/256 mm and energies to 0.05 %, for files that travel.
    """
    settings = Settings(physics=physics, cut_mm=cut, fluorescence=fluorescence, merge_mm=merge)
    if zoo is not None:
        if detector is not None or energy is not None:
            raise AnyCaloError("--zoo brings its own detectors and beam; expected neither a detector nor --energy beside it")
        _simulate_zoo(Zoo.load(zoo), n, out, seed, workers, settings, terminal)
        return
    if detector is None or energy is None:
        raise AnyCaloError("expected a detector and --energy, for instance 'ild-ecal --energy 10GeV:90GeV', or --zoo RECIPE")
    geometry = Detector.load(detector)
    beam = Beam(particle=particle, energy_mev=energy, spectrum=spectrum, direction=direction, max_angle_rad=max_angle)
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
            compact=compact,
            command=terminal.command,
        )
    terminal.result(*describe_file(path))


def _simulate_zoo(zoo: Zoo, n: int, out: Path, seed: int, workers: int | None, settings: Settings, terminal: Terminal) -> None:
    """A production over many detectors, into a folder."""
    kept = f"finished showers are kept in {out}. The same command goes on from there; remove the folder to give up."
    with terminal.progress(f"Simulating {zoo.name}", "showers", kept=kept) as progress:
        simulate_zoo(zoo, n, out, seed=seed, workers=workers, settings=settings, progress=progress, command=terminal.command)
    files = sorted(str(path) for path in out.glob("*.h5"))
    terminal.result({"folder": str(out), "files": files}, f"{out}: {n:,} showers in {len(files)} detectors, a file each")

"""`anycalo separate`: are two photons side by side told apart as they are in Geant4?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from anycalo.cli.console import Terminal
from anycalo.cli.quantities import Flag, Length
from anycalo.evaluate import PairSettings
from anycalo.evaluate import separate as run
from anycalo.report import check_folder, write_separation
from anycalo.showers import Showers


def separate(
    truth: str,
    fast: str,
    /,
    *,
    out: Path,
    n: Annotated[int, Parameter(name=["-n", "--number"])] = 2000,
    distance: Length = 60.0,
    seed: int = 0,
    overwrite: Flag = False,
    terminal: Annotated[Terminal, Parameter(parse=False)],
) -> None:
    """Find two photons laid over one another, in Geant4 showers and in generated ones.

    Files are paths, or names of samples shipped with AnyCalo. The photons of a file must share one direction.

    Args:
        truth: Geant4 showers, the reference.
        fast: Showers to judge, of the same detector and particles.
        out: The folder to write: separation.png for people and separation.json for machines.
        n: Pairs to make of each sample.
        distance: Largest distance between two photons.
        seed: Of pairs and distances.
        overwrite: Replace these files in a folder that exists.
    """
    check_folder(out, overwrite=overwrite)
    settings = PairSettings(n_pairs=n, max_distance_mm=distance)
    reference, judged = Showers.open(truth), Showers.open(fast)
    with terminal.progress("Clustering", "pairs", kept="nothing was written.") as progress:
        found = run(reference, judged, settings=settings, seed=seed, progress=progress)
    picture = write_separation(found, out, overwrite=overwrite)
    for warning in found.warnings:
        terminal.note(f"warning: {warning}")
    half = ", ".join(f"{found.half_mm(sample):.1f} mm in the {sample} sample" for sample in ("truth", "fast"))
    terminal.result(
        {"picture": str(picture), **found.to_dict()},
        f"half of the pairs are found at {half}",
        f"equal efficiencies at all distances: chi2 = {found.chi2:.1f}, p = {found.p_value:.2g}",
        f"figure: {picture}",
    )

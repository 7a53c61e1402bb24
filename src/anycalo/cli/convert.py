"""`anycalo convert`: from one program's shower files to another's."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from anycalo.cli.console import Terminal, facts
from anycalo.cli.quantities import Flag, energy_mev, energy_text, option, origin_mm, position_mm, turn_rad
from anycalo.geometry import Detector
from anycalo.showers.formats import Conversion, Options
from anycalo.showers.formats import convert as run


def convert(
    source: Path,
    target: Path,
    /,
    *,
    source_format: Annotated[str | None, Parameter(name="--from", metavar="FORMAT")] = None,
    target_format: Annotated[str | None, Parameter(name="--to", metavar="FORMAT")] = None,
    detector: str | None = None,
    particle: str | None = None,
    binning: Path | None = None,
    seed: int = 0,
    threshold: Annotated[float | None, option(energy_mev, "ENERGY")] = None,
    sampling_constant: float | None = None,
    incident_unit: str | None = None,
    point_unit: str | None = None,
    depth: str | None = None,
    face: Annotated[float | None, option(position_mm, "LENGTH")] = None,
    origin: Annotated[tuple[float, float] | None, option(origin_mm, "X,Y")] = None,
    rotate: Annotated[float, option(turn_rad, "ANGLE")] = 0.0,
    collection: str | None = None,
    any_response: Flag = False,
    overwrite: Flag = False,
    terminal: Annotated[Terminal, Parameter(parse=False)],
) -> None:
    """Convert shower files: CaloChallenge, CaloClouds, showerdata, LEMURS, EDM4hep and AnyCalo's own.

    Formats: anycalo, calochallenge-1-photons, calochallenge-1-pions, calochallenge-2, calochallenge-3, calochallenge
    (any polar detector), caloclouds, showerdata, lemurs, edm4hep. See docs/formats.md.

    Args:
        source: The file to read.
        target: The file to write.
        source_format: Of the file to read; found from its layout by default.
        target_format: Of the file to write; anycalo by default, edm4hep where the name ends in .root.
        detector: A preset's name or a detector file, for files that do not say.
        particle: gamma, electron, positron, pi+ or a PDG code, for files that do not say.
        binning: The CaloChallenge's XML file with the voxels.
        seed: Of the positions within voxels.
        threshold: Drop voxels of a CaloChallenge file below this energy, as it stands in the file (15.15keV).
        sampling_constant: Visible energy over energy in a CaloChallenge file: 0.033 for data sets 2 and 3, else 1.
        incident_unit: Of incident energies in the file: keV, MeV or GeV.
        point_unit: Of deposits in the file: keV, MeV or GeV.
        depth: The file's axis (x, y or z) along the normal of the layers; found by default.
        face: Where the front face lies on that axis (1804.8mm).
        origin: Where the particle enters, in x and y of the shower frame (0mm,-50mm).
        rotate: Turn an EDM4hep file's positions about its z axis first (30deg).
        collection: Calorimeter hits to read from an EDM4hep file, several with commas.
        any_response: Accept any ratio of visible to incident energy.
        overwrite: Replace a file of that name.
    """
    options = Options(
        detector=Detector.load(detector) if detector else None,
        particle=particle,
        binning=binning,
        seed=seed,
        threshold_mev=threshold,
        sampling_constant=sampling_constant,
        incident_unit=incident_unit,
        point_unit=point_unit,
        depth=depth,
        face_mm=face,
        origin_mm=origin,
        rotation_rad=rotate,
        collection=collection,
        check_response=not any_response,
    )
    with terminal.progress(f"Converting {source}", "showers", kept=f"{target} was not written.") as progress:
        done = run(
            source,
            target,
            source_format=source_format,
            target_format=target_format,
            options=options,
            overwrite=overwrite,
            progress=progress,
            command=terminal.command,
        )
    terminal.result(done.to_dict(), facts(_rows(done)))


def _rows(done: Conversion) -> dict[str, str]:
    lost = [f"{energy_text(energy)} ({energy / done.read_mev:.2%}) {reason}" for reason, energy in done.lost_mev.items()]
    rows = {
        "file": f"{done.path}, {done.target_format}",
        "from": done.source_format,
        "detector": f"{done.detector.name}, {done.detector.n_layers} layers",
        "showers": f"{done.n_showers:,} with {done.n_points:,} points, {done.n_showers / done.seconds:,.0f} showers/s",
        "visible energy": energy_text(done.read_mev / done.n_showers) + " a shower",
        "lost": "; ".join(lost) or "nothing",
    }
    understood: dict[str, Any] = done.provenance.get("reading", {})
    return rows | {f"· {key}": str(value) for key, value in understood.items()}

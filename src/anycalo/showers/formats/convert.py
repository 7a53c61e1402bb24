"""From one format to another, block by block, with every MeV accounted for."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from anycalo.errors import ConversionError, OutputError
from anycalo.geometry import Detector
from anycalo.showers.file import check_output
from anycalo.showers.formats import edm4hep, native
from anycalo.showers.formats.options import Options
from anycalo.showers.formats.registry import format_of, named
from anycalo.version import __version__


@dataclass(frozen=True, kw_only=True)
class Conversion:
    """What a conversion did.

    Args:
        path: of the file written.
        source_format: of the file read.
        target_format: of the file written.
        detector: of the showers.
        n_showers: converted.
        n_points: of the showers on the way.
        read_mev: visible energy in the file read.
        lost_mev: what of it has no place in the file written, by reason.
        provenance: how the file was understood.
        seconds: from the first shower to the last.
    """

    path: Path
    source_format: str
    target_format: str
    detector: Detector
    n_showers: int
    n_points: int
    read_mev: float
    lost_mev: dict[str, float]
    provenance: dict[str, Any]
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """For JSON; the detector by name."""
        return {
            "path": str(self.path),
            "from": self.source_format,
            "to": self.target_format,
            "detector": self.detector.name,
            "showers": self.n_showers,
            "points": self.n_points,
            "read_mev": self.read_mev,
            "lost_mev": self.lost_mev,
            "provenance": self.provenance,
            "seconds": self.seconds,
        }


def convert(
    source: str | Path,
    target: str | Path,
    *,
    source_format: str | None = None,
    target_format: str | None = None,
    options: Options | None = None,
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
    command: str = "",
) -> Conversion:
    """Convert a file of showers.

    Args:
        source: the file to read.
        target: the file to write; it appears when it is complete.
        source_format: a name in `FORMATS`; found from the file by default.
        target_format: a name in `FORMATS`; AnyCalo's own by default, EDM4hep for a name that ends in `.root`.
        options: how to read and write.
        overwrite: replace a file of that name.
        progress: called with the number of showers done and in all.
        command: recorded in the provenance.

    Raises:
        OutputError: if the target cannot be written, before anything is read.
        ShowerFileError: if the source is damaged, mislabelled or of another format; nothing is left behind.
        ConversionError: for options that do not fit the formats.

    Example:
        convert("dataset_2_1.hdf5", "electrons.h5", source_format="calochallenge-2")
    """
    options = options or Options()
    source, target = Path(source), check_output(target, overwrite=overwrite)
    if target.exists() and source.exists() and target.samefile(source):
        raise OutputError(f"{target} is the file to read; choose another name for the output")
    reads = named(source_format or format_of(source))
    writes = named(target_format or (edm4hep.NAME if target.suffix == ".root" else native.NAME))
    for name in sorted(options.given() - reads.reads_with - writes.writes_with):
        used = sorted(reads.reads_with | writes.writes_with)
        raise ConversionError(
            f"option '{name}' means nothing from {reads.name} to {writes.name}; these do: {', '.join(used) or 'none'}"
        )
    start = time.perf_counter()
    points = 0
    with reads.reader(source, options) as reader:
        provenance = _provenance(source, reads.name, command, reader.provenance)
        total = len(reader)
        if progress:
            progress(0, total)
        with writes.writer(target, reader.detector, options, provenance, overwrite) as writer:
            done = 0
            for showers in reader.blocks():
                writer.append(showers)
                done, points = done + len(showers), points + showers.n_points
                if progress:
                    progress(done, total)
            lost = {**reader.lost_mev}
            for reason, energy in writer.lost_mev.items():
                lost[reason] = lost.get(reason, 0.0) + energy
            if isinstance(writer, native.NativeWriter):
                writer.account({"read": f"{reader.read_mev:.7g} MeV", "lost": {k: f"{v:.4g} MeV" for k, v in lost.items()}})
        return Conversion(
            path=target,
            source_format=reads.name,
            target_format=writes.name,
            detector=reader.detector,
            n_showers=total,
            n_points=points,
            read_mev=reader.read_mev,
            lost_mev=lost,
            provenance=provenance,
            seconds=time.perf_counter() - start,
        )


def _provenance(source: Path, name: str, command: str, understood: dict[str, Any]) -> dict[str, Any]:
    facts: dict[str, Any] = {"converted from": source.name, "format": name, "bytes": source.stat().st_size}
    if command:
        facts["command"] = command
    facts["anycalo"] = __version__
    return {**facts, ("original" if name == native.NAME else "reading"): understood}

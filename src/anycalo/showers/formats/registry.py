"""The formats, by name, and how to tell them apart."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from anycalo.errors import ConversionError, ShowerFileError
from anycalo.geometry import Detector
from anycalo.showers.formats import calochallenge, caloclouds, edm4hep, lemurs, native, showerdata
from anycalo.showers.formats.options import Options
from anycalo.showers.formats.source import Hdf5, Reader
from anycalo.showers.formats.target import Writer

_POINTS = frozenset({"detector", "depth", "face_mm", "origin_mm", "check_response"})
_UNITS = frozenset({"incident_unit", "point_unit"})


@dataclass(frozen=True, kw_only=True)
class Format:
    """One file format.

    Args:
        name: on the command line.
        title: in words.
        reader: opens a file.
        writer: starts a file: path, detector of the showers, options, provenance, overwrite.
        reads_with: the options that matter when reading.
        writes_with: the options that matter when writing.
    """

    name: str
    title: str
    reader: Callable[[Path, Options], Reader]
    writer: Callable[[Path, Detector, Options, dict[str, Any], bool], Writer]
    reads_with: frozenset[str] = frozenset()
    writes_with: frozenset[str] = frozenset()


def _calochallenge(name: str, title: str) -> Format:
    return Format(
        name=name,
        title=title,
        reader=lambda path, options: calochallenge.CaloChallengeReader(path, name, options),
        writer=lambda path, detector, options, provenance, overwrite: calochallenge.CaloChallengeWriter(
            path, name, detector, options, provenance, overwrite=overwrite
        ),
        reads_with=frozenset(
            {"detector", "particle", "binning", "seed", "threshold_mev", "sampling_constant", "check_response"}
        )
        | _UNITS,
        writes_with=frozenset({"detector", "binning", "threshold_mev", "sampling_constant"}),
    )


FORMATS: dict[str, Format] = {
    f.name: f
    for f in (
        Format(
            name=native.NAME,
            title="AnyCalo's shower file",
            reader=lambda path, _: native.NativeReader(path),
            writer=lambda path, detector, _, provenance, overwrite: native.NativeWriter(
                path, detector, provenance, overwrite=overwrite
            ),
        ),
        _calochallenge("calochallenge-1-photons", "CaloChallenge data set 1, photons: 368 voxels in 5 layers"),
        _calochallenge("calochallenge-1-pions", "CaloChallenge data set 1, pions: 533 voxels in 7 layers"),
        _calochallenge("calochallenge-2", "CaloChallenge data set 2: 6,480 voxels in 45 layers"),
        _calochallenge("calochallenge-3", "CaloChallenge data set 3: 40,500 voxels in 45 layers"),
        _calochallenge(calochallenge.GENERIC, "CaloChallenge layout for any detector with a polar readout"),
        Format(
            name=caloclouds.NAME,
            title="CaloClouds: padded point clouds",
            reader=caloclouds.CaloCloudsReader,
            writer=lambda path, detector, _, provenance, overwrite: caloclouds.CaloCloudsWriter(
                path, detector, provenance, overwrite=overwrite
            ),
            reads_with=_POINTS | _UNITS | {"particle"},
        ),
        Format(
            name=showerdata.NAME,
            title="showerdata: point clouds of variable length",
            reader=showerdata.ShowerDataReader,
            writer=lambda path, detector, _, provenance, overwrite: showerdata.ShowerDataWriter(
                path, detector, provenance, overwrite=overwrite
            ),
            reads_with=_POINTS | _UNITS,
        ),
        Format(
            name=lemurs.NAME,
            title="LEMURS: 9 x 16 x 45 grids along the particle",
            reader=lemurs.LemursReader,
            writer=lambda path, detector, options, provenance, overwrite: lemurs.LemursWriter(
                path, detector, options, provenance, overwrite=overwrite
            ),
            reads_with=frozenset({"detector", "particle", "seed", "check_response"}) | _UNITS,
            writes_with=frozenset({"detector"}),
        ),
        Format(
            name=edm4hep.NAME,
            title="EDM4hep: calorimeter hits in ROOT files (needs uproot)",
            reader=edm4hep.Edm4hepReader,
            writer=lambda path, detector, _, provenance, overwrite: edm4hep.Edm4hepWriter(
                path, detector, provenance, overwrite=overwrite
            ),
            reads_with=_POINTS | {"rotation_rad", "collection"},
        ),
    )
}


def format_of(path: str | Path) -> str:
    """The format of a file, where its layout leaves no doubt.

    Raises:
        ShowerFileError: if there is no such file, it is cut, or its layout is none that is known.
    """
    path = Path(path)
    if path.is_file() and edm4hep.recognise(path):
        return edm4hep.NAME
    with Hdf5(path, "a shower file of a known format").file as file:
        inside = ", ".join(sorted(file)) or "nothing"
        if "format" in file.attrs:
            return native.NAME
    for recognise in (showerdata.recognise, lemurs.recognise, calochallenge.recognise, caloclouds.recognise):
        if name := recognise(path):
            return name
    raise ShowerFileError(
        f"{path}: of no known format; it holds {inside}. Say which it is, one of {', '.join(FORMATS)}, to hear what is missing."
    )


def named(name: str) -> Format:
    """The format of that name.

    Raises:
        ConversionError: if there is none.
    """
    from anycalo.geometry.file import suggest

    if name not in FORMATS:
        raise ConversionError(f"format '{name}' is unknown.{suggest(name, FORMATS)} Known: {', '.join(FORMATS)}.")
    return FORMATS[name]

"""The shower file, version 1: HDF5, flat points with offsets, chunked and compressed.

The layout is described in `docs/shower-file.md`. One writer, one reader, one validator.
"""

from __future__ import annotations

import contextlib
import json
import os
import uuid
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import h5py
import numpy as np

from anycalo.errors import DetectorError, OutputError, ShowerFileError, ShowersError
from anycalo.geometry import Detector
from anycalo.showers.column import Column, create_column
from anycalo.showers.incident import Incident
from anycalo.showers.samples import locate, samples
from anycalo.showers.showers import Showers

FORMAT = "anycalo-showers"
VERSION = 1
DATASETS: dict[str, type] = {
    "points/x_mm": np.float32,
    "points/y_mm": np.float32,
    "points/layer": np.int16,
    "points/energy_mev": np.float32,
    "offsets": np.int64,
    "incident/energy_mev": np.float32,
    "incident/direction": np.float32,
    "incident/pdg": np.int32,
}
_CHUNK = 1 << 16


def check_output(path: str | Path, *, overwrite: bool = False) -> Path:
    """Refuse, before any work is done, an output file that exists or cannot be written.

    Raises:
        OutputError: saying which of the two, and the remedy.
    """
    path = Path(path)
    if path.is_dir():
        raise OutputError(f"{path} is a directory; expected the name of a file to write")
    if path.exists() and not overwrite:
        raise OutputError(f"{path} exists already; choose another name, remove it, or ask to overwrite it")
    # Nothing is made here, not even a folder: what comes next may fail for another reason.
    try:
        parent = next(folder for folder in path.absolute().parents if folder.exists())
        probe = parent / f".{path.name}.{uuid.uuid4().hex}.probe"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror or error}") from error
    return path


def round_to_bits(values: np.ndarray, bits: int) -> np.ndarray:
    """Round float32 values to `bits` bits of mantissa, to nearest: relative error at most 2^-(bits + 1)."""
    drop = 23 - bits
    raw = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32)
    rounded = (raw + np.uint32(1 << (drop - 1))) & np.uint32(~((1 << drop) - 1) & 0xFFFFFFFF)
    return rounded.view(np.float32)


def _to_grid(values_mm: np.ndarray) -> np.ndarray:
    return (np.round(values_mm * 256) / 256).astype(np.float32)


class ShowerWriter:
    """Write a shower file piece by piece; it appears under its name only when closed without an error.

    Args:
        path: where the file will be.
        detector: the detector of every shower appended.
        provenance: recorded as JSON when the file is closed; may be added to until then, as `writer.provenance`.
        overwrite: replace a file of that name.
        compact: keep positions to 1/256 mm and energies to 0.05 %, for files that travel; recorded.

    Raises:
        OutputError: if the path exists or cannot be written.
    """

    def __init__(
        self,
        path: str | Path,
        detector: Detector,
        provenance: Mapping[str, Any],
        *,
        overwrite: bool = False,
        compact: bool = False,
    ) -> None:
        self.path = check_output(path, overwrite=overwrite)
        self.detector = detector
        self.compact = compact
        self._temporary = self.path.with_name(f".{self.path.name}.{uuid.uuid4().hex}.tmp")
        self._made = [folder for folder in self.path.parents if not folder.exists()]
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._file = h5py.File(self._temporary, "w")
        self._points = 0
        self.n_showers = 0
        self._columns: dict[str, Column] = {}
        for name, dtype in DATASETS.items():
            width = 3 if name.endswith("direction") else None
            dataset = create_column(self._file, name, dtype, width, _CHUNK // 4 if width else _CHUNK)
            self._columns[name] = Column(dataset)
        self._columns["offsets"].append(np.zeros(1, dtype=np.int64))
        self.provenance = {**provenance, "compact": True} if compact else dict(provenance)
        self._file.attrs["detector"] = detector.to_toml()
        self._file.attrs["version"] = VERSION

    def append(self, showers: Showers) -> None:
        """Add showers at the end.

        Raises:
            ShowersError: if they are of another detector.
        """
        if showers.detector != self.detector:
            raise ShowersError(f"showers of '{showers.detector.name}' cannot join a file of '{self.detector.name}'")
        x, y, e = showers.x_mm, showers.y_mm, showers.energy_mev
        if self.compact:
            x, y, e = _to_grid(x), _to_grid(y), round_to_bits(e, 10)
        arrays: dict[str, np.ndarray] = {
            "points/x_mm": x,
            "points/y_mm": y,
            "points/layer": showers.layer,
            "points/energy_mev": e,
            "offsets": showers.offsets[1:] + self._points,
            "incident/energy_mev": showers.incident.energy_mev,
            "incident/direction": showers.incident.direction,
            "incident/pdg": showers.incident.pdg,
        }
        for name, values in arrays.items():
            self._columns[name].append(values)
        self._points += showers.n_points
        self.n_showers += len(showers)

    def close_as(self, path: Path) -> None:
        """Finish the file under another name, which it replaces: what was done, when the rest cannot be."""
        self.path = path
        self.close()

    def close(self) -> None:
        """Finish the file and give it its name."""
        for column in self._columns.values():
            column.finish()
        # Not before: who writes may have learnt more in the meantime.
        self._file.attrs["provenance"] = json.dumps(self.provenance)
        # The format attribute comes last: a file that lacks it was never finished.
        self._file.attrs["format"] = FORMAT
        self._file.close()
        os.replace(self._temporary, self.path)

    def abandon(self) -> None:
        """Leave nothing behind."""
        self._file.close()
        self._temporary.unlink(missing_ok=True)
        for folder in self._made:
            with contextlib.suppress(OSError):  # somebody else's files may be in it by now
                folder.rmdir()

    def __enter__(self) -> ShowerWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if kind is None:
            self.close()
        else:
            self.abandon()


class ShowerFile:
    """A shower file opened for reading; slices are read without loading the rest.

    Args:
        path: of the file, or the name of a sample shipped with AnyCalo.

    Raises:
        ShowerFileError: if the file is missing, truncated or foreign; the message names what is missing.

    Example:
        with ShowerFile("photons.h5") as file:
            first = file[:100]
    """

    def __init__(self, path: str | Path) -> None:
        self.path = locate(path)
        if not self.path.is_file():
            shipped = ", ".join(samples()) or "none"
            raise ShowerFileError(f"{self.path}: no such file. Samples shipped with AnyCalo, known by name: {shipped}.")
        try:
            self._file = h5py.File(self.path, "r")
        except OSError as error:
            kind = "truncated" if "truncated" in str(error) else "not an HDF5 file, or damaged"
            raise ShowerFileError(f"{self.path}: {kind}; expected a shower file written by AnyCalo") from error
        try:
            self._check()
        except ShowerFileError:
            self._file.close()
            raise

    def _check(self) -> None:
        attrs = self._file.attrs
        found = attrs.get("format")
        if found != FORMAT:
            inside = ", ".join(sorted(self._file)) or "nothing"
            raise ShowerFileError(
                f"{self.path}: attribute 'format' is {found!r}; expected '{FORMAT}'. It holds {inside}."
                " A file without it is of another program, or its writing was never finished."
            )
        if attrs.get("version") != VERSION:
            raise ShowerFileError(f"{self.path}: version {attrs.get('version')}; this AnyCalo reads version {VERSION}")
        for name in ("detector", "provenance"):
            if name not in attrs:
                raise ShowerFileError(f"{self.path}: attribute '{name}' is missing")
        for name, dtype in DATASETS.items():
            if name not in self._file or not isinstance(self._file[name], h5py.Dataset):
                raise ShowerFileError(f"{self.path}: data set '/{name}' is missing")
            if self._file[name].dtype != np.dtype(dtype):
                raise ShowerFileError(f"{self.path}: '/{name}' holds {self._file[name].dtype}; expected {np.dtype(dtype)}")
        showers = self._file["incident/energy_mev"].shape[0]
        points = self._file["points/energy_mev"].shape[0]
        expected = {"offsets": (showers + 1,), "incident/direction": (showers, 3), "incident/pdg": (showers,)}
        expected |= {name: (points,) for name in DATASETS if name.startswith("points/")}
        for name, shape in expected.items():
            if self._file[name].shape != shape:
                raise ShowerFileError(f"{self.path}: '/{name}' is of shape {self._file[name].shape}; expected {shape}")
        try:
            self.detector = Detector.from_toml(str(attrs["detector"]), source=f"{self.path}, detector")
            self.provenance: dict[str, Any] = json.loads(str(attrs["provenance"]))
        except (DetectorError, json.JSONDecodeError) as error:
            raise ShowerFileError(f"{self.path}: {error}") from error
        self.offsets: np.ndarray = self._file["offsets"][...]
        if self.offsets[0] != 0 or self.offsets[-1] != points or (np.diff(self.offsets) < 0).any():
            raise ShowerFileError(f"{self.path}: '/offsets' must rise from 0 to the number of points, {points}")

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def n_points(self) -> int:
        """Number of points in the file."""
        return int(self.offsets[-1])

    def __getitem__(self, index: slice) -> Showers:
        """Showers start:stop (step 1).

        Raises:
            ShowersError: if the slice is empty or has a step.
            ShowerFileError: if what is read is damaged.
        """
        start, stop, step = index.indices(len(self))
        if step != 1:
            raise ShowersError("a shower file is read in slices of step 1; select from the showers read")
        if stop <= start:
            raise ShowersError(f"the selection {start}:{stop} of {self.path} is empty; it holds {len(self)} showers")
        low, high = int(self.offsets[start]), int(self.offsets[stop])
        try:
            points = {name: self._file[f"points/{name}"][low:high] for name in ("x_mm", "y_mm", "layer", "energy_mev")}
            return Showers(
                detector=self.detector,
                incident=self._incident(start, stop),
                offsets=self.offsets[start : stop + 1] - low,
                provenance=self.provenance,
                **points,
            )
        except (OSError, ShowersError) as error:
            raise ShowerFileError(f"{self.path}: damaged: {error}") from error

    def incident(self) -> Incident:
        """The particles of every shower, without the points.

        Raises:
            ShowersError: if the file holds no shower.
            ShowerFileError: if what is read is damaged.
        """
        if not len(self):
            raise ShowersError(f"{self.path} holds no shower")
        try:
            return self._incident(0, len(self))
        except (OSError, ShowersError) as error:
            raise ShowerFileError(f"{self.path}: damaged: {error}") from error

    def _incident(self, start: int, stop: int) -> Incident:
        return Incident(
            self._file["incident/pdg"][start:stop],
            energy_mev=self._file["incident/energy_mev"][start:stop],
            direction=self._file["incident/direction"][start:stop],
        )

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> ShowerFile:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

"""The files of the package `showerdata` (AllShowers and its multi-calorimeter showers), as its version 0.7 writes them.

HDF5 with `showers`, one flat float32 array a shower of x, y (mm), number of the layer, energy (MeV), and
perhaps time, point after point; `energies` (N, 1) in GeV, `directions` (N, 3), `pdg` (N,), `num_points`,
`shower_ids` (N,), and `shape` = (N, most points, 4 or 5). The package itself fixes no units: those named
here are the ones its detector module works in; the response shows where a file has others.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from anycalo.errors import ShowerFileError
from anycalo.geometry import Detector
from anycalo.geometry.derived import sampling_fraction
from anycalo.showers.formats.depth import find_placement
from anycalo.showers.formats.options import ENERGY_UNIT_MEV, Options
from anycalo.showers.formats.points import OUTSIDE, showers_of_points, unit_vectors
from anycalo.showers.formats.source import BLOCK_BYTES, Hdf5, Reader, finite
from anycalo.showers.formats.target import Writer
from anycalo.showers.incident import Incident
from anycalo.showers.showers import Showers

NAME = "showerdata"
_EXPECTED = "a showerdata file with showers, energies, directions, pdg, num_points and shape"
_PROBED = 500
# The version of the package whose layout is written here.
_LAYOUT = "0.7.0"


def recognise(path: Path) -> str | None:
    """The format's name, if the file is of it."""
    with Hdf5(path, _EXPECTED).file as file:
        return NAME if "showerdata_version" in file.attrs or {"showers", "energies", "shape"} <= set(file) else None


class ShowerDataReader(Reader):
    """Points as they are; times are left out.

    Args:
        path: of the file.
        options: `detector` (ild-ecal by default), `depth` (z by default), `face_mm`, `origin_mm`, the units, `check_response`.

    Raises:
        ShowerFileError: if the file is cut, mislabelled, or does not fit the detector.
    """

    def __init__(self, path: Path, options: Options) -> None:
        detector = options.detector or Detector.load("ild-ecal")
        self._source = Hdf5(path, _EXPECTED)
        try:
            shape = tuple(int(n) for n in np.ravel(self._source.dataset("shape")[...]))
            self._clouds = self._source.dataset("showers")
            if len(shape) != 3 or shape[2] not in (4, 5) or h5py.check_vlen_dtype(self._clouds.dtype) is None:
                raise ShowerFileError(
                    f"{path}: 'shape' is {shape} and 'showers' holds {self._clouds.dtype}; expected (N, points, 4 or 5) and"
                    " arrays of variable length"
                )
            self._columns, length = shape[2], self._source.rows(self._clouds)
            if length != shape[0]:
                raise ShowerFileError(f"{path}: 'showers' holds {length} showers and 'shape' says {shape[0]}; expected as many")
            self._energies = self._source.of_length("energies", length)
            self._directions = self._source.of_length("directions", length, 3)
            self._codes = self._source.of_length("pdg", length)
            self._counts = self._source.of_length("num_points", length)
            self._incident_unit, self._point_unit = options.incident_unit or "GeV", options.point_unit or "MeV"
            probe = self._cloud(0, min(_PROBED, length))[1]
            self._placement = find_placement(
                path,
                detector,
                probe[:, :3],
                probe[:, 3],
                depth=options.depth or "z",
                face_mm=options.face_mm,
                origin_mm=options.origin_mm,
            )
        except Exception:
            self._source.close()
            raise
        super().__init__(
            path,
            detector,
            length=length,
            block=max(1, BLOCK_BYTES // (16 * self._columns * max(1, shape[1]))),
            provenance={
                "positions": self._placement.words(),
                "energies": f"incident in {self._incident_unit}, points in {self._point_unit}",
                "showerdata version": str(self._source.file.attrs.get("showerdata_version", "not said")),
                "left out": "time of the points" if self._columns == 5 else "nothing",
            },
            expected_response=sampling_fraction(detector) if options.check_response else None,
            suspects=(
                (1e-3, f"the points of 'showers' were in keV instead of {self._point_unit}: give the point unit keV"),
                (1e3, f"the points of 'showers' were in GeV instead of {self._point_unit}: give the point unit GeV"),
                (1e3, f"'energies' were in MeV instead of {self._incident_unit}: give the incident unit MeV"),
            ),
        )

    def _cloud(self, start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
        """Shower of each point and its columns, shape (P, 4 or 5)."""
        arrays = self._clouds[start:stop]
        lengths = np.array([len(a) for a in arrays], dtype=np.int64)
        counts = np.asarray(self._counts[start:stop]).reshape(-1)
        wrong = np.flatnonzero(lengths != self._columns * counts)
        if len(wrong):
            i = wrong[0]
            raise ShowerFileError(
                f"{self._source.path}: shower {start + i} holds {lengths[i]} numbers;"
                f" 'num_points' says {counts[i]} points of {self._columns}"
            )
        flat = np.concatenate(arrays) if len(arrays) else np.empty(0, dtype=np.float32)
        points = flat.reshape(-1, self._columns)
        shower = np.repeat(np.arange(stop - start), counts)
        finite(self._source.path, "showers", points[:, 3], start)
        return shower, points

    def read(self, start: int, stop: int) -> Showers:
        """Showers start:stop."""
        energy = finite(self.path, "energies", self._energies[start:stop], start, positive=True).reshape(-1)
        shower, points = self._cloud(start, stop)
        deposits = np.multiply(points[:, 3], ENERGY_UNIT_MEV[self._point_unit], dtype=np.float64)
        self.read_mev += float(deposits.sum())
        incident = Incident(
            np.asarray(self._codes[start:stop]).reshape(-1),
            energy_mev=energy * ENERGY_UNIT_MEV[self._incident_unit],
            direction=unit_vectors(self._directions[start:stop]),
        )
        showers, lost = showers_of_points(
            self.detector, incident, self._placement, shower=shower, xyz=points[:, :3], energy_mev=deposits
        )
        self._lose(OUTSIDE, lost)
        return showers

    def close(self) -> None:
        """Close the file."""
        self._source.close()


class ShowerDataWriter(Writer):
    """Points as x, y, number of the layer and energy in MeV.

    Args:
        path: of the file to be.
        detector: of the showers.
        provenance: recorded as an attribute.
        overwrite: replace a file of that name.
    """

    def __init__(self, path: Path, detector: Detector, provenance: dict[str, Any], *, overwrite: bool) -> None:
        super().__init__(path, overwrite=overwrite)
        self._file = h5py.File(self.temporary, "w")
        self._file.attrs["anycalo_provenance"] = json.dumps(provenance)
        self._file.attrs["anycalo_detector"] = detector.to_toml()
        self._most = 0
        kinds: dict[str, tuple[tuple[int, ...], Any]] = {
            "showers": ((), h5py.vlen_dtype(np.dtype(np.float32))),
            "energies": ((1,), np.float32),
            "directions": ((3,), np.float32),
            "pdg": ((), np.int32),
            "shower_ids": ((), np.int32),
            "num_points": ((), np.int32),
        }
        for name, (tail, kind) in kinds.items():
            self._file.create_dataset(name, shape=(0, *tail), maxshape=(None, *tail), dtype=kind, chunks=(1024, *tail))

    def append(self, showers: Showers) -> None:
        """Add showers at the end."""
        points = np.stack([showers.x_mm, showers.y_mm, showers.layer.astype(np.float32), showers.energy_mev], axis=1)
        start = self._file["showers"].shape[0]
        stop = start + len(showers)
        values: dict[str, Any] = {
            "energies": showers.incident.energy_mev[:, None] / np.float32(1e3),
            "directions": showers.incident.direction,
            "pdg": showers.incident.pdg,
            "shower_ids": np.arange(start, stop),
            "num_points": showers.counts,
        }
        for name, array in values.items():
            self._file[name].resize(stop, axis=0)
            self._file[name][start:stop] = array
        # One by one: several arrays of equal length would be taken for one array of two dimensions.
        clouds = self._file["showers"]
        clouds.resize(stop, axis=0)
        for i, (low, high) in enumerate(zip(showers.offsets[:-1], showers.offsets[1:], strict=True)):
            clouds[start + i] = points[low:high].reshape(-1)
        self._most = max(self._most, int(showers.counts.max(initial=0)))

    def finish(self) -> None:
        """Write the shape and close the file."""
        self._file.create_dataset("shape", data=np.array([self._file["showers"].shape[0], self._most, 4], dtype=np.int32))
        self._file.attrs["showerdata_version"] = _LAYOUT
        self._file.close()

    def release(self) -> None:
        """Close the file as it is."""
        self._file.close()

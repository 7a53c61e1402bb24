"""The files of CaloClouds: padded point clouds (arXiv 2309.05704, 2511.01460).

HDF5 with `events` (N, 4, M) or (N, M, 4): x, y, z and energy of up to M points, padded with zeros at
either end; `energy` (N, 1) of the particle in GeV; `p_norm_local` (N, 3), its direction in the
calorimeter's own frame, z into it. Energies of points are in GeV. Which of x, y, z is the depth, and
whether it is in mm or a number of a layer, differs from file to file and is found by comparison with the detector.
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
from anycalo.showers.formats.target import Writer, pieces
from anycalo.showers.incident import Incident
from anycalo.showers.showers import Showers

NAME = "caloclouds"
_EXPECTED = "a CaloClouds file with events (N, 4, points) or (N, points, 4) and energy (N, 1)"
_PROBED = 500


def recognise(path: Path) -> str | None:
    """The format's name, if the file is of it."""
    with Hdf5(path, _EXPECTED).file as file:
        return NAME if "events" in file and "energy" in file and file["events"].ndim == 3 else None


class CaloCloudsReader(Reader):
    """Points as they are, in the layers that their depth says.

    Args:
        path: of the file.
        options: `detector` (ild-ecal by default), `particle` (gamma by default), `depth`, `face_mm`, `origin_mm`,
            the units, `check_response`.

    Raises:
        ShowerFileError: if the file is cut, mislabelled, or does not fit the detector.
    """

    def __init__(self, path: Path, options: Options) -> None:
        detector = options.detector or Detector.load("ild-ecal")
        self._source = Hdf5(path, _EXPECTED)
        try:
            self._events = self._source.dataset("events")
            shape = self._events.shape
            if self._events.ndim != 3 or 4 not in shape[1:]:
                raise ShowerFileError(f"{path}: 'events' is of shape {shape}; expected (N, 4, points) or (N, points, 4)")
            if shape[1] == shape[2]:
                raise ShowerFileError(
                    f"{path}: 'events' is of shape {shape}: either axis may hold x, y, z, energy. Pad to 5 points."
                )
            self._rows_first = shape[1] == 4
            self._energies = self._source.of_length("energy", self._source.rows(self._events))
            self._directions = (
                self._source.of_length("p_norm_local", shape[0], 3) if "p_norm_local" in self._source.file else None
            )
            self._pdg = options.pdg(22)
            self._incident_unit, self._point_unit = options.incident_unit or "GeV", options.point_unit or "GeV"
            xyz, energy = self._cloud(0, min(_PROBED, shape[0]))[1:]
            self._placement = find_placement(
                path,
                detector,
                xyz,
                energy,
                depth=options.depth,
                face_mm=options.face_mm,
                origin_mm=options.origin_mm,
            )
        except Exception:
            self._source.close()
            raise
        direction = "p_norm_local" if self._directions is not None else "the normal; the file has no p_norm_local"
        super().__init__(
            path,
            detector,
            length=shape[0],
            block=self._source.block(self._events, int(np.prod(shape[1:])) * self._events.dtype.itemsize),
            provenance={
                "positions": self._placement.words(),
                "rows": "x, y, z, energy in " + ("(4, points)" if self._rows_first else "(points, 4)"),
                "energies": f"incident in {self._incident_unit}, points in {self._point_unit}",
                "direction": direction,
            },
            expected_response=sampling_fraction(detector) if options.check_response else None,
            suspects=(
                (1e-3, f"the points of 'events' were in MeV instead of {self._point_unit}: give the point unit MeV"),
                (1e3, f"the points of 'events' were in GeV instead of {self._point_unit}: give the point unit GeV"),
                (1e3, f"'energy' were in MeV instead of {self._incident_unit}: give the incident unit MeV"),
                (1e-3, f"'energy' were in GeV instead of {self._incident_unit}: give the incident unit GeV"),
            ),
        )

    def _cloud(self, start: int, stop: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Shower, position and energy of the points that are not padding."""
        events = self._events[start:stop]
        if self._rows_first:
            events = events.transpose(0, 2, 1)
        energy = finite(self._source.path, "events", events[:, :, 3], start)
        shower, point = np.nonzero(energy)
        return shower, events[shower, point, :3], energy[shower, point]

    def read(self, start: int, stop: int) -> Showers:
        """Showers start:stop."""
        energy = finite(self.path, "energy", self._energies[start:stop], start, positive=True).reshape(-1)
        shower, xyz, deposits = self._cloud(start, stop)
        deposits = np.multiply(deposits, ENERGY_UNIT_MEV[self._point_unit], dtype=np.float64)
        self.read_mev += float(deposits.sum())
        directions = (0.0, 0.0, 1.0) if self._directions is None else unit_vectors(self._directions[start:stop])
        incident = Incident(
            np.full(stop - start, self._pdg), energy_mev=energy * ENERGY_UNIT_MEV[self._incident_unit], direction=directions
        )
        showers, lost = showers_of_points(self.detector, incident, self._placement, shower=shower, xyz=xyz, energy_mev=deposits)
        self._lose(OUTSIDE, lost)
        return showers

    def close(self) -> None:
        """Close the file."""
        self._source.close()


class CaloCloudsWriter(Writer):
    """Points as (N, M, 4): x, y and depth of the layer behind the face in mm, energy in GeV; `n_points` beside them.

    Args:
        path: of the file to be.
        detector: of the showers.
        provenance: recorded as an attribute.
        overwrite: replace a file of that name.
    """

    def __init__(self, path: Path, detector: Detector, provenance: dict[str, Any], *, overwrite: bool) -> None:
        super().__init__(path, overwrite=overwrite)
        self._z = detector.layer_z_mm.astype(np.float32)
        self._file = h5py.File(self.temporary, "w")
        self._file.attrs["anycalo_provenance"] = json.dumps(provenance)
        self._file.attrs["anycalo_detector"] = detector.to_toml()
        # At least 5 points, so that the axis of 4 is never in doubt.
        self._file.create_dataset(
            "events", shape=(0, 5, 4), maxshape=(None, None, 4), dtype=np.float32, chunks=(16, 512, 4), compression="gzip"
        )
        for name, tail in (("energy", (1,)), ("p_norm_local", (3,)), ("n_points", ())):
            kind = np.int32 if name == "n_points" else np.float32
            self._file.create_dataset(name, shape=(0, *tail), maxshape=(None, *tail), dtype=kind, chunks=(4096, *tail))

    def append(self, showers: Showers) -> None:
        """Add showers at the end; the padding grows as needed."""
        longest = int(showers.counts.max(initial=0))
        for part in pieces(showers, max(1, BLOCK_BYTES // (16 * max(1, longest)))):
            counts = part.counts
            events = np.zeros((len(part), int(counts.max(initial=0)), 4), dtype=np.float32)
            place = np.arange(part.n_points) - part.offsets[:-1][part.shower]
            columns = (part.x_mm, part.y_mm, self._z[part.layer], part.energy_mev / np.float32(1e3))
            events[part.shower, place] = np.stack(columns, axis=1)
            dataset = self._file["events"]
            start = dataset.shape[0]
            dataset.resize((start + len(part), max(dataset.shape[1], events.shape[1]), 4))
            dataset[start:, : events.shape[1]] = events
            for name, values in (
                ("energy", part.incident.energy_mev[:, None] / np.float32(1e3)),
                ("p_norm_local", part.incident.direction),
                ("n_points", counts),
            ):
                self._file[name].resize(start + len(part), axis=0)
                self._file[name][start:] = values

    def finish(self) -> None:
        """Close the file."""
        self._file.close()

    def release(self) -> None:
        """Close the file as it is."""
        self._file.close()

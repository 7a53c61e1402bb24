"""LEMURS: showers of several calorimeters on one grid of 9 rings, 16 sectors and 45 slices (arXiv 2509.05108).

HDF5 with `showers` (N, 9, 16, 45) in the order r, phi, z, `incident_energy`, `incident_theta` and
`incident_phi` (N,), energies in MeV as deposited (not divided by a sampling fraction), angles in rad.

The grid stands on the calorimeter's face and its axis is the direction of the particle. So the showers read
are along the normal of a detector whose layers are the slices of the grid: the direction is (0, 0, 1) and
the two angles, which say where in a barrel the particle went, are not kept in the showers.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from anycalo.errors import ConversionError, ShowerFileError
from anycalo.geometry import Detector
from anycalo.geometry.derived import sampling_fraction
from anycalo.showers.formats.options import ENERGY_UNIT_MEV, Options
from anycalo.showers.formats.polar import PolarGrid
from anycalo.showers.formats.source import BLOCK_BYTES, Hdf5, Reader, finite
from anycalo.showers.formats.target import Writer, pieces
from anycalo.showers.incident import Incident
from anycalo.showers.showers import Showers

NAME = "lemurs"
SHAPE = (9, 16, 45)
_EXPECTED = "a LEMURS file with showers (N, 9, 16, 45), incident_energy, incident_theta and incident_phi"


def recognise(path: Path) -> str | None:
    """The format's name, if the file is of it."""
    with Hdf5(path, _EXPECTED).file as file:
        return NAME if "incident_energy" in file and "showers" in file and file["showers"].shape[1:] == SHAPE else None


def _grid(detector: Detector) -> PolarGrid:
    grid = PolarGrid.of(detector)
    rings = {(layer.n_rings, layer.n_sectors) for layer in grid.layers}
    if rings != {SHAPE[:2]} or len(grid.layers) != SHAPE[2]:
        raise ConversionError(
            f"'{detector.name}' has {len(grid.layers)} layers, the first with {grid.layers[0]};"
            " LEMURS needs 45 of 9 rings x 16 sectors"
        )
    return grid


class LemursReader(Reader):
    """Voxels become points, smeared within their voxel with a seed.

    Args:
        path: of the file.
        options: `detector` (calochallenge-2, the first of the LEMURS calorimeters, by default), `particle`, `seed`,
            the units, `check_response`.

    Raises:
        ShowerFileError: if the file is cut, of another shape or mislabelled.
        ConversionError: if the detector has another grid, or the particle is not given.
    """

    def __init__(self, path: Path, options: Options) -> None:
        detector = options.detector or Detector.load("calochallenge-2")
        self._grid = _grid(detector)
        self._source = Hdf5(path, _EXPECTED)
        try:
            self._voxels = self._source.dataset("showers")
            if self._voxels.shape[1:] != SHAPE:
                raise ShowerFileError(f"{path}: 'showers' is of shape {self._voxels.shape}; expected (N, 9, 16, 45): r, phi, z")
            length = self._source.rows(self._voxels)
            self._energies = self._source.of_length("incident_energy", length)
            for name in ("incident_theta", "incident_phi"):
                self._source.of_length(name, length)
            self._pdg = options.pdg(None)
        except Exception:
            self._source.close()
            raise
        self._incident_mev, self._point_mev = (ENERGY_UNIT_MEV[u or "MeV"] for u in (options.incident_unit, options.point_unit))
        self._rng = np.random.default_rng([options.seed, 0xCA10])
        super().__init__(
            path,
            detector,
            length=length,
            block=self._source.block(self._voxels, math.prod(SHAPE) * self._voxels.dtype.itemsize),
            provenance={
                "positions": f"uniform in each voxel, seed {options.seed}; sector 0 starts at -x",
                "direction": "along the axis of the grid, which is the particle's; the two angles are left out",
            },
            expected_response=sampling_fraction(detector) if options.check_response else None,
            suspects=(
                (1e3, f"'showers' were in GeV instead of {options.point_unit or 'MeV'}"),
                (1e-3, f"'incident_energy' were in GeV instead of {options.incident_unit or 'MeV'}"),
            ),
        )

    def read(self, start: int, stop: int) -> Showers:
        """Showers start:stop; those of a file are to be read in order, for the seed to mean the same."""
        energy = finite(self.path, "incident_energy", self._energies[start:stop], start, positive=True)
        # r, phi, z to z, phi, r: the order of the voxels of a polar grid.
        grid = finite(self.path, "showers", self._voxels[start:stop], start).transpose(0, 3, 2, 1).reshape(stop - start, -1)
        lit = np.flatnonzero(grid)
        deposits = np.multiply(grid.reshape(-1)[lit], self._point_mev, dtype=np.float64)
        shower, voxel = np.divmod(lit, self._grid.n_voxels)
        self.read_mev += float(deposits.sum())
        layer, x, y = self._grid.points(voxel, self._rng)
        return Showers(
            detector=self.detector,
            incident=Incident(np.full(stop - start, self._pdg), energy_mev=energy.reshape(-1) * self._incident_mev),
            offsets=np.searchsorted(shower, np.arange(stop - start + 1)),
            x_mm=x,
            y_mm=y,
            layer=layer,
            energy_mev=deposits,
        )

    def close(self) -> None:
        """Close the file."""
        self._source.close()


class LemursWriter(Writer):
    """Points along the normal become voxels; theta = pi / 2 and phi = 0, the normal of a barrel.

    Args:
        path: of the file to be.
        detector: of the showers.
        options: `detector`, whose grid; the showers' own by default.
        provenance: recorded as an attribute.
        overwrite: replace a file of that name.

    Raises:
        ConversionError: if the grid is not 9 x 16 in 45 layers, or a particle is not along the normal.
    """

    def __init__(
        self, path: Path, detector: Detector, options: Options, provenance: dict[str, Any], *, overwrite: bool
    ) -> None:
        self._grid = _grid(options.detector or detector)
        if detector.n_layers != SHAPE[2]:
            raise ConversionError(f"'{detector.name}' has {detector.n_layers} layers; LEMURS has 45")
        super().__init__(path, overwrite=overwrite)
        self._file = h5py.File(self.temporary, "w")
        self._file.attrs["anycalo_provenance"] = json.dumps(provenance)
        self._rows = max(1, BLOCK_BYTES // (8 * self._grid.n_voxels))
        self._file.create_dataset(
            "showers",
            shape=(0, *SHAPE),
            maxshape=(None, *SHAPE),
            dtype=np.float32,
            chunks=(32, *SHAPE),
            compression="gzip",
            compression_opts=4,
        )
        for name in ("incident_energy", "incident_theta", "incident_phi"):
            self._file.create_dataset(name, shape=(0,), maxshape=(None,), dtype=np.float32, chunks=(4096,))

    def append(self, showers: Showers) -> None:
        """Add showers at the end."""
        tilted = np.flatnonzero(showers.incident.theta_rad > 1e-3)
        if len(tilted):
            degrees = math.degrees(showers.incident.theta_rad[tilted[0]])
            raise ConversionError(
                f"a particle enters at {degrees:.1f} degrees from the normal; the axis of a LEMURS grid is the particle's"
                " direction, and layers cut at an angle do not fit it. Convert showers along the normal."
            )
        for part in pieces(showers, self._rows):
            voxel = self._grid.voxels(part.layer.astype(np.int64), part.x_mm, part.y_mm)
            grid, lost = self._grid.fill(part.shower, len(part), voxel, part.energy_mev)
            self._lose("outside the voxels", lost)
            values = {
                "showers": grid.reshape(len(part), *SHAPE[::-1]).transpose(0, 3, 2, 1),
                "incident_energy": part.incident.energy_mev,
                "incident_theta": np.full(len(part), math.pi / 2),
                "incident_phi": np.zeros(len(part)),
            }
            for name, array in values.items():
                start = self._file[name].shape[0]
                self._file[name].resize(start + len(part), axis=0)
                self._file[name][start:] = array

    def finish(self) -> None:
        """Close the file."""
        self._file.close()

    def release(self) -> None:
        """Close the file as it is."""
        self._file.close()

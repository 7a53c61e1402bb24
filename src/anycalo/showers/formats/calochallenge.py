"""The files of the CaloChallenge 2022: voxels in rings and sectors (C. Krause et al., arXiv 2410.21611).

HDF5 with `incident_energies` (N, 1) and `showers` (N, V) in MeV; voxels in the order layer, alpha, r, with r
fastest. V is 368 or 533 in data set 1 (photons, pions), 6,480 in data set 2 and 40,500 in data set 3.

The energies of data sets 2 and 3 are those deposited in the silicon divided by 0.033, the sampling fraction of
that calorimeter. `Showers` hold what the silicon sees, so reading multiplies by that constant again
and writing divides; both say so in the provenance. Those of data set 1 are calibrated: the constant is 1.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from anycalo.errors import ConversionError, ShowerFileError
from anycalo.geometry import Detector
from anycalo.geometry.derived import sampling_fraction
from anycalo.showers.formats.binning import Binning, atlas_detector, read_binning
from anycalo.showers.formats.options import ENERGY_UNIT_MEV, Options
from anycalo.showers.formats.polar import PolarGrid
from anycalo.showers.formats.source import BLOCK_BYTES, Hdf5, Reader, finite
from anycalo.showers.formats.target import Writer, pieces
from anycalo.showers.incident import Incident
from anycalo.showers.showers import Showers

_EXPECTED = "a CaloChallenge file with incident_energies (N, 1) and showers (N, voxels)"


@dataclass(frozen=True, kw_only=True)
class DataSet:
    """What is known of one data set of the challenge.

    Args:
        name: of the format.
        detector: builds its calorimeter.
        pdg: its particle.
        sampling_constant: visible energy / energy in the file.
        energies_mev: lowest and highest incident energy.
    """

    name: str
    detector: Callable[[], Detector]
    pdg: int
    sampling_constant: float
    energies_mev: tuple[float, float]


DATA_SETS = {
    d.name: d
    for d in (
        DataSet(
            name="calochallenge-1-photons",
            detector=lambda: atlas_detector("photons"),
            pdg=22,
            sampling_constant=1.0,
            energies_mev=(256.0, 4194304.0),
        ),
        DataSet(
            name="calochallenge-1-pions",
            detector=lambda: atlas_detector("pions"),
            pdg=211,
            sampling_constant=1.0,
            energies_mev=(256.0, 4194304.0),
        ),
        DataSet(
            name="calochallenge-2",
            detector=lambda: Detector.load("calochallenge-2"),
            pdg=11,
            sampling_constant=0.033,
            energies_mev=(1e3, 1e6),
        ),
        DataSet(
            name="calochallenge-3",
            detector=lambda: Detector.load("calochallenge-3"),
            pdg=11,
            sampling_constant=0.033,
            energies_mev=(1e3, 1e6),
        ),
    )
}
# The format for any other detector with a polar readout: same layout, own voxels.
GENERIC = "calochallenge"


def by_voxels(n_voxels: int) -> str | None:
    """The data set with that many voxels."""
    return next((d.name for d in DATA_SETS.values() if PolarGrid.of(d.detector()).n_voxels == n_voxels), None)


def recognise(path: Path) -> str | None:
    """The format of a file, if it is one of these."""
    with Hdf5(path, _EXPECTED).file as file:
        if "incident_energies" not in file or "showers" not in file or file["showers"].ndim != 2:
            return None
        return by_voxels(file["showers"].shape[1]) or GENERIC


def _grid(name: str, detector: Detector, binning: Binning | None) -> PolarGrid:
    grid = PolarGrid.of(detector)
    if binning is not None and (difference := binning.grid.difference(grid)):
        raise ConversionError(
            f"the binning file and '{detector.name}' differ: {difference}. {name} needs a detector of that binning."
        )
    return grid


def _given(
    name: str, options: Options, showers_detector: Detector | None = None
) -> tuple[Detector, PolarGrid, float, int | None]:
    """Detector, voxels, sampling constant and default particle of a format."""
    known = DATA_SETS.get(name)
    detector = options.detector or showers_detector or (known.detector() if known else None)
    if detector is None:
        raise ConversionError(f"format '{name}' does not say which calorimeter; give the detector, with a polar readout")
    binning = read_binning(options.binning, options.pdg(known.pdg if known else 0)) if options.binning else None
    grid = _grid(name, detector, binning)
    if known and (difference := grid.difference(PolarGrid.of(known.detector()))):
        raise ConversionError(
            f"'{detector.name}' has other voxels than {name}: {difference}. Expected that data set's detector."
        )
    constant = options.sampling_constant or (known.sampling_constant if known else 1.0)
    return detector, grid, constant, known.pdg if known else binning.pdg if binning else None


class CaloChallengeReader(Reader):
    """Voxels become points, smeared within their voxel with a seed.

    Args:
        path: of the file.
        name: of the format, in `DATA_SETS` or `GENERIC`.
        options: `detector`, `particle`, `binning`, `seed`, `threshold_mev`, `sampling_constant`, the units,
            `check_response`.

    Raises:
        ShowerFileError: if the file is cut, of another data set or mislabelled.
        ConversionError: if detector and binning do not fit the format.
    """

    def __init__(self, path: Path, name: str, options: Options) -> None:
        detector, self._grid, self._constant, particle = _given(name, options)
        self._source = Hdf5(path, _EXPECTED)
        try:
            self._voxels = self._source.dataset("showers")
            shape = self._voxels.shape
            if self._voxels.ndim != 2 or shape[1] != self._grid.n_voxels:
                raise ShowerFileError(f"{path}: {_other(name, self._grid, shape)}")
            self._energies = self._source.of_length("incident_energies", self._source.rows(self._voxels))
            self._pdg = options.pdg(particle)
            self._incident_unit = options.incident_unit or "MeV"
            self._point_unit = options.point_unit or "MeV"
            if options.check_response and name in DATA_SETS:
                self._check_range(DATA_SETS[name])
        except Exception:
            self._source.close()
            raise
        self._threshold = (options.threshold_mev or 0.0) / ENERGY_UNIT_MEV[self._point_unit]
        self._rng = np.random.default_rng([options.seed, 0xCA10])
        super().__init__(
            path,
            detector,
            length=shape[0],
            block=self._source.block(self._voxels, shape[1] * self._voxels.dtype.itemsize),
            provenance={
                "sampling constant": self._constant,
                "energies": f"visible energy = voxel energy in {self._point_unit} x {self._constant:g}",
                "threshold": f"voxels below {1e3 * (options.threshold_mev or 0):g} keV, as they stand in the file, are dropped",
                "positions": f"uniform in each voxel, seed {options.seed}; sector 0 starts at -x",
            },
            expected_response=sampling_fraction(detector) if options.check_response else None,
            suspects=(
                (1e3, f"'showers' were in GeV instead of {self._point_unit}"),
                (1e-3, f"'incident_energies' were in GeV instead of {self._incident_unit}"),
                (1 / self._constant, "'showers' were not divided by the sampling fraction: give the sampling constant 1"),
                (0.033, "'showers' were divided by 0.033: give the sampling constant 0.033"),
            ),
        )

    def _check_range(self, known: DataSet) -> None:
        """Energies too low for the data set in MeV, all of which fit it in GeV."""
        unit = ENERGY_UNIT_MEV[self._incident_unit]
        energies = np.asarray(self._energies[...], dtype=np.float64) * unit
        finite(self._source.path, "incident_energies", energies, 0, positive=True)
        low, high = known.energies_mev
        if energies.min() < 0.99 * low <= 1e3 * energies.min() and 1e3 * energies.max() <= 1.01 * high:
            raise ShowerFileError(
                f"{self._source.path}: 'incident_energies' run from {energies.min():.4g} to {energies.max():.4g} when read in"
                f" {self._incident_unit}; {known.name} has {low:g} to {high:g} MeV. They look like GeV,"
                " the challenge's files hold MeV:"
                " give the incident unit GeV (and the point unit, if deposits are in GeV too)."
            )

    def read(self, start: int, stop: int) -> Showers:
        """Showers start:stop; those of a file are to be read in order, for the seed to mean the same."""
        energy = finite(self.path, "incident_energies", self._energies[start:stop], start, positive=True)
        grid = finite(self.path, "showers", self._voxels[start:stop], start)
        lit = np.flatnonzero(grid > self._threshold if self._threshold == 0 else grid >= self._threshold)
        deposits = grid.reshape(-1)[lit]
        shower, voxel = np.divmod(lit, self._grid.n_voxels)
        scale = self._constant * ENERGY_UNIT_MEV[self._point_unit]
        everything, kept = (scale * float(values.sum(dtype=np.float64)) for values in (grid, deposits))
        self.read_mev += everything
        if self._threshold:
            self._lose("below the threshold", everything - kept)
        layer, x, y = self._grid.points(voxel, self._rng)
        return Showers(
            detector=self.detector,
            incident=Incident(
                np.full(stop - start, self._pdg), energy_mev=energy.reshape(-1) * ENERGY_UNIT_MEV[self._incident_unit]
            ),
            offsets=np.searchsorted(shower, np.arange(stop - start + 1)),
            x_mm=x,
            y_mm=y,
            layer=layer,
            energy_mev=np.multiply(deposits, scale, dtype=np.float64),
        )

    def close(self) -> None:
        """Close the file."""
        self._source.close()


def _other(name: str, grid: PolarGrid, shape: tuple[int, ...]) -> str:
    found = by_voxels(shape[1]) if len(shape) == 2 else None
    if found:
        return f"'showers' has {shape[1]:,} voxels, which is {found}; {name} has {grid.n_voxels:,}. Convert from {found}."
    return f"'showers' is of shape {shape}; {name} has {grid.n_voxels:,} voxels in {len(grid.layers)} layers"


class CaloChallengeWriter(Writer):
    """Points become voxels.

    Args:
        path: of the file to be.
        name: of the format.
        detector: of the showers.
        options: `detector` (whose voxels; of the data set, or the showers' own, by default), `binning`,
            `threshold_mev`, `sampling_constant`.
        overwrite: replace a file of that name.

    Raises:
        ConversionError: if the showers' layers are not those of the format.
    """

    def __init__(
        self, path: Path, name: str, detector: Detector, options: Options, provenance: dict[str, Any], *, overwrite: bool
    ) -> None:
        self._grid, self._constant = _given(name, options, None if name in DATA_SETS else detector)[1:3]
        if len(self._grid.layers) != detector.n_layers:
            raise ConversionError(
                f"'{detector.name}' has {detector.n_layers} layers and {name} {len(self._grid.layers)}; expected as many"
            )
        self._threshold = options.threshold_mev or 0.0
        super().__init__(path, overwrite=overwrite)
        self._file = h5py.File(self.temporary, "w")
        self._file.attrs["anycalo_provenance"] = json.dumps(provenance)
        width = self._grid.n_voxels
        self._rows = max(1, BLOCK_BYTES // (8 * width))
        for key, tail in (("incident_energies", 1), ("showers", width)):
            chunk = (max(1, min(1024, (1 << 20) // (4 * tail))), tail)
            self._file.create_dataset(
                key,
                shape=(0, tail),
                maxshape=(None, tail),
                dtype=np.float32,
                chunks=chunk,
                compression="gzip",
                compression_opts=4,
            )

    def append(self, showers: Showers) -> None:
        """Add showers at the end."""
        for part in pieces(showers, self._rows):
            voxel = self._grid.voxels(part.layer.astype(np.int64), part.x_mm, part.y_mm)
            grid, lost = self._grid.fill(part.shower, len(part), voxel, part.energy_mev)
            self._lose("outside the voxels", lost)
            grid /= self._constant
            if self._threshold:
                below = grid < self._threshold
                self._lose("below the threshold", self._constant * float(grid[below].sum()))
                grid[below] = 0
            for key, values in (("incident_energies", part.incident.energy_mev[:, None]), ("showers", grid)):
                dataset = self._file[key]
                start = dataset.shape[0]
                dataset.resize(start + len(part), axis=0)
                dataset[start:] = values

    def finish(self) -> None:
        """Close the file."""
        self._file.close()

    def release(self) -> None:
        """Close the file as it is."""
        self._file.close()

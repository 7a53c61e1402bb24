"""What every reader shares: blocks of showers, energy accounts, the check of the response, HDF5 access."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from anycalo.errors import ShowerFileError, ShowersError
from anycalo.geometry import Detector
from anycalo.showers.formats.units import FACTOR, wrong_by
from anycalo.showers.showers import Showers

# Memory that a block of a file may take while it is read.
BLOCK_BYTES = 32 << 20
# The first showers, on which units and the layout are checked.
_CHECKED = 2000
# Leakage, thresholds, hadrons and calibrations change the response by factors; a wrong unit by a thousand.
_LOWEST, _HIGHEST = 1 / 20, 5
# More cannot be visible than came in, but for calibrations of low energies.
_ALL = 1.5


class Reader(ABC):
    """A file of another program, opened for reading block by block.

    Args:
        path: of the file.
        detector: of its showers.
        length: number of showers.
        block: number of showers to read at a time.
        provenance: how the file was understood.
        expected_response: visible over incident energy, or None not to check it.
        suspects: factors on the response that slips of units make, and what each would mean.

    Attributes:
        read_mev: visible energy read so far, on the scale of the showers.
        lost_mev: what of it has no place in the showers, by reason.
    """

    def __init__(
        self,
        path: Path,
        detector: Detector,
        *,
        length: int,
        block: int,
        provenance: dict[str, Any],
        expected_response: float | None,
        suspects: Sequence[tuple[float, str]] = (),
    ) -> None:
        self.path = path
        self.detector = detector
        self.provenance = provenance
        self.read_mev = 0.0
        self.lost_mev: dict[str, float] = {}
        self._length = length
        self._block = max(1, block)
        self._expected = expected_response
        self._suspects = suspects
        if length == 0:
            raise ShowerFileError(f"{path}: holds no shower")

    def __len__(self) -> int:
        return self._length

    @abstractmethod
    def read(self, start: int, stop: int) -> Showers:
        """Showers start:stop; adds to `read_mev` and `lost_mev`."""

    @abstractmethod
    def close(self) -> None:
        """Close the file."""

    def blocks(self) -> Iterator[Showers]:
        """All showers, a block at a time, from the first to the last.

        Raises:
            ShowerFileError: if the file is damaged, or its energies cannot be what they are said to be.
        """
        for start in range(0, self._length, self._block):
            stop = min(start + self._block, self._length)
            try:
                showers = self.read(start, stop)
            except (OSError, ShowersError) as error:
                raise ShowerFileError(f"{self.path}: showers {start} to {stop - 1}: {error}") from error
            if start == 0:
                self._check_response(showers[:_CHECKED])
                self._check_depth(showers[:_CHECKED])
            yield showers

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _lose(self, reason: str, energy_mev: float) -> None:
        if energy_mev:
            self.lost_mev[reason] = self.lost_mev.get(reason, 0.0) + float(energy_mev)

    def _check_response(self, showers: Showers) -> None:
        if self._expected is None:
            return
        visible, incident = showers.visible_mev().sum(), showers.incident.energy_mev.sum(dtype=np.float64)
        response = float(visible / incident)
        low, high = self._expected * _LOWEST, min(self._expected * _HIGHEST, _ALL)
        if low <= response <= high:
            return
        fits = [words for factor, words in self._suspects if low <= response * factor <= high]
        hint = f" It would fit if {', or if '.join(fits)}." if fits else ""
        raise ShowerFileError(
            f"{self.path}: visible over incident energy is {response:.3g} in the first {len(showers)} showers"
            f" ({visible / len(showers):.4g} MeV of {incident / len(showers):.4g} MeV on average);"
            f" '{self.detector.name}' should see about {self._expected:.3g}, at least {low:.2g} and at most {high:.2g}.{hint}"
            " If it is right as it is, ask not to check the response."
        )

    def _check_depth(self, showers: Showers) -> None:
        """Both energies in the same wrong unit: the response is sound, but not the depth."""
        wrong = None if self._expected is None else wrong_by(showers)
        if wrong is None:
            return
        factor, found, expected = wrong
        energy = float(showers.incident.energy_mev.mean(dtype=np.float64))
        small = factor > 1
        less, right = ("too small", "larger (GeV for MeV)") if small else ("too large", "smaller (MeV for GeV)")
        raise ShowerFileError(
            f"{self.path}: showers of {energy:.4g} MeV on average should lie {expected:.1f} X0 deep in '{self.detector.name}';"
            f" those in the file lie {found:.1f} X0 deep, as with {FACTOR:,.0f} times {'more' if small else 'less'} energy."
            f" All its energies look {FACTOR:,.0f} times {less}: they would fit if they were read in a unit {FACTOR:,.0f} times"
            f" {right}, incident energies and deposits alike. If they are right as they are, ask not to check the response."
        )


class Hdf5:
    """An HDF5 file whose every failure is a `ShowerFileError` that names what is missing.

    Args:
        path: of the file.
        expected: what it should be, in words.
    """

    def __init__(self, path: Path, expected: str) -> None:
        self.path, self.expected = path, expected
        if not path.is_file():
            raise ShowerFileError(f"{path}: no such file; expected {expected}")
        try:
            # Room for a few chunks of a voxel grid; the default of 1 MB would unpack them again and again.
            self.file = h5py.File(path, "r", rdcc_nbytes=BLOCK_BYTES)
        except OSError as error:
            kind = "cut off before its end" if "truncated" in str(error) else "not an HDF5 file, or damaged"
            raise ShowerFileError(f"{path}: {kind}; expected {expected}") from error

    def dataset(self, name: str) -> Any:
        """The data set of that name.

        Raises:
            ShowerFileError: if there is none, naming what there is.
        """
        found = self.file.get(name)
        if not isinstance(found, h5py.Dataset):
            inside = ", ".join(sorted(self.file)) or "nothing"
            raise ShowerFileError(f"{self.path}: data set '{name}' is missing; it holds {inside}. Expected {self.expected}.")
        return found

    def rows(self, dataset: Any) -> int:
        """The number of showers in a data set.

        Raises:
            ShowerFileError: if there is none.
        """
        if not dataset.shape or not dataset.shape[0]:
            raise ShowerFileError(f"{self.path}: holds no shower")
        return int(dataset.shape[0])

    def of_length(self, name: str, length: int, width: int | None = None) -> Any:
        """The data set of that name, with one entry of `width` numbers for each of `length` showers.

        Raises:
            ShowerFileError: if its shape is another.
        """
        found = self.dataset(name)
        tail = (width,) if width else ()
        if found.shape != (length, *tail) and not (width is None and found.shape == (length, 1)):
            shape = f"({length}, {width})" if width else f"({length},) or ({length}, 1)"
            raise ShowerFileError(f"{self.path}: '{name}' is of shape {found.shape}; expected {shape}, one for each shower")
        return found

    def block(self, dataset: Any, bytes_a_row: int) -> int:
        """How many rows to read at a time: whole chunks that fit in memory."""
        rows = max(1, BLOCK_BYTES // max(1, bytes_a_row))
        chunk = dataset.chunks[0] if dataset.chunks else 1
        return int(rows // chunk * chunk) if rows >= chunk else int(rows)

    def close(self) -> None:
        """Close the file."""
        self.file.close()


def finite(path: Path, name: str, values: np.ndarray, start: int, *, positive: bool = False) -> np.ndarray:
    """The values as they are, of showers `start` on.

    Raises:
        ShowerFileError: if one is not a finite number, is negative, or is 0 where it must not be.
    """
    flat = values.reshape(len(values), -1)
    low = flat.min() if flat.size else np.inf
    total = flat.sum(dtype=np.float64)
    if np.isfinite(total) and (low > 0 if positive else low >= 0):
        return values
    wrong = ~(np.isfinite(flat) & (flat > 0 if positive else flat >= 0))
    if not wrong.any():  # finite numbers whose sum is not
        wrong = flat >= flat.max()
    row = int(np.flatnonzero(wrong.any(axis=1))[0])
    what = "above 0" if positive else "at least 0"
    raise ShowerFileError(
        f"{path}: '{name}' is {flat[row][wrong[row]][0]} in shower {start + row}; expected finite energies {what}"
    )

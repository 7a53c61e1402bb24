"""AnyCalo's own shower files, behind the same two interfaces as everybody else's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from anycalo.geometry import Detector
from anycalo.showers.file import ShowerFile, ShowerWriter
from anycalo.showers.formats.source import Reader
from anycalo.showers.formats.target import Writer
from anycalo.showers.showers import Showers

NAME = "anycalo"
_POINTS = 1 << 20


class NativeReader(Reader):
    """A shower file; nothing of it is checked again that it does not check itself."""

    def __init__(self, path: Path) -> None:
        self._file = ShowerFile(path)
        counts = np.diff(self._file.offsets)
        largest = int(counts.max(initial=1))
        super().__init__(
            path,
            self._file.detector,
            length=len(self._file),
            block=max(1, _POINTS // max(1, largest)),
            provenance=dict(self._file.provenance),
            expected_response=None,
        )

    def read(self, start: int, stop: int) -> Showers:
        """Showers start:stop."""
        showers = self._file[start:stop]
        self.read_mev += float(showers.energy_mev.sum(dtype=np.float64))
        return showers

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class NativeWriter(Writer):
    """A shower file; what was lost on the way is added to its provenance."""

    def __init__(self, path: Path, detector: Detector, provenance: dict[str, Any], *, overwrite: bool) -> None:
        super().__init__(path, overwrite=overwrite)
        # Its own temporary file is moved to ours, and ours to the name asked for.
        self._writer = ShowerWriter(self.temporary, detector, provenance)

    def append(self, showers: Showers) -> None:
        """Add showers at the end."""
        self._writer.append(showers)

    def account(self, facts: dict[str, Any]) -> None:
        """Add to the provenance what is known only at the end."""
        self._writer.provenance.update(facts)

    def finish(self) -> None:
        """Finish the shower file."""
        self._writer.close()

    def release(self) -> None:
        """Leave nothing behind."""
        self._writer.abandon()

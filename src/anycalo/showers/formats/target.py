"""What every writer shares: a file that appears under its name only when it is complete."""

from __future__ import annotations

import contextlib
import os
import uuid
from abc import ABC, abstractmethod
from pathlib import Path

from anycalo.showers.file import check_output
from anycalo.showers.showers import Showers


class Writer(ABC):
    """A file of another program being written; it takes its name when it is complete, and not before.

    Args:
        path: where it will be.
        overwrite: replace a file of that name.

    Attributes:
        lost_mev: visible energy that the format has no place for, by reason.

    Raises:
        OutputError: if the path exists or cannot be written.
    """

    def __init__(self, path: str | Path, *, overwrite: bool) -> None:
        self.path = check_output(path, overwrite=overwrite)
        self.temporary = self.path.with_name(f".{self.path.name}.{uuid.uuid4().hex}.tmp{self.path.suffix}")
        self.lost_mev: dict[str, float] = {}
        self._made = [folder for folder in self.path.absolute().parents if not folder.exists()]
        self.path.parent.mkdir(parents=True, exist_ok=True)

    @abstractmethod
    def append(self, showers: Showers) -> None:
        """Add showers at the end."""

    @abstractmethod
    def finish(self) -> None:
        """Write what is still missing and close the file."""

    @abstractmethod
    def release(self) -> None:
        """Close the file as it is; called when writing failed, perhaps after `finish`."""

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        complete = False
        try:
            if kind is None:
                self.finish()
                os.replace(self.temporary, self.path)
                complete = True
        finally:
            if not complete:
                self.release()
                self.temporary.unlink(missing_ok=True)
                for folder in self._made:
                    with contextlib.suppress(OSError):  # somebody else has put something there
                        folder.rmdir()

    def _lose(self, reason: str, energy_mev: float) -> None:
        if energy_mev:
            self.lost_mev[reason] = self.lost_mev.get(reason, 0.0) + float(energy_mev)


def pieces(showers: Showers, rows: int) -> list[Showers]:
    """The showers in runs of at most `rows`."""
    if len(showers) <= rows:
        return [showers]
    return [showers[start : start + rows] for start in range(0, len(showers), max(1, rows))]

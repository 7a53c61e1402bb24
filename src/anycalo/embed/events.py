"""Events of several particles: a shower file with one shower an event, and labels of where each deposit came from.

The layout is described in `docs/embed.md`. Every tool that reads shower files reads these too.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from anycalo.errors import ShowerFileError, ShowersError
from anycalo.showers import Showers, check_output
from anycalo.showers.incident import PARTICLE
from anycalo.simulate.particles import Crossing, Primary

GEANT4 = -1
_TABLES: dict[str, dict[str, Any]] = {
    "primaries": {"event": np.int32, "pdg": np.int32, "energy_mev": np.float32, "position_mm": 3, "direction": 3},
    "entries": {
        "event": np.int32,
        "primary": np.int32,
        "pdg": np.int32,
        "energy_mev": np.float32,
        "position_mm": 2,
        "direction": 3,
    },
}


@dataclass(frozen=True, kw_only=True, eq=False)
class Events:
    """E events with P deposits in all.

    Args:
        showers: one shower an event; see `stand_in` for its incident particle.
        origin: int32 (P,), the row of `entries` whose shower the model made, or -1 for deposits of Geant4.
        primaries: columns of the particles that the events began with: `event`, `pdg`, `energy_mev`,
            `position_mm` (3 columns), `direction`.
        entries: columns of the particles that the model took over at the face: `event`, `primary` (its number in the
            event from 0, -1 if it was made on the way), `pdg`, `energy_mev`, `position_mm` (x and y), `direction`.

    Raises:
        ShowersError: if the columns contradict one another.
    """

    showers: Showers
    origin: np.ndarray
    primaries: dict[str, np.ndarray]
    entries: dict[str, np.ndarray]

    def __post_init__(self) -> None:
        if len(self.origin) != self.showers.n_points:
            raise ShowersError(f"{len(self.origin)} origins for {self.showers.n_points} points; expected one a point")
        for name, table in (("primaries", self.primaries), ("entries", self.entries)):
            lengths = {len(table[column]) for column in _TABLES[name]}
            if len(lengths) != 1:
                raise ShowersError(f"the columns of {name} are of lengths {sorted(lengths)}; expected one length")
            event = table["event"]
            if len(event) and not (event.min() >= 0 and event.max() < len(self.showers) and (np.diff(event) >= 0).all()):
                raise ShowersError(f"{name} name events {event.min()} to {event.max()}; expected rising numbers of events")
        if len(self.origin):
            if self.origin.min() < GEANT4 or self.origin.max() >= len(self.entries["event"]):
                raise ShowersError(f"origins reach from {self.origin.min()} to {self.origin.max()}; expected -1 or an entry")
            made = self.origin >= 0
            if (self.entries["event"][self.origin[made]] != self.showers.shower[made]).any():
                raise ShowersError("a deposit lies in another event than the entry that it came from")

    def __len__(self) -> int:
        return len(self.showers)

    def fast_fraction(self) -> float:
        """Fraction of the visible energy that the model made."""
        total = float(self.showers.energy_mev.sum(dtype=np.float64))
        return float(self.showers.energy_mev[self.origin >= 0].sum(dtype=np.float64)) / total if total else 0.0

    @staticmethod
    def open(path: str | Path) -> Events:
        """The events of a file.

        Raises:
            ShowerFileError: if it is not a whole file of events.
        """
        showers = Showers.open(path)
        try:
            with h5py.File(path) as file:
                tables = {name: {column: file[f"{name}/{column}"][...] for column in _TABLES[name]} for name in _TABLES}
                origin = file["points/origin"][...]
        except (KeyError, OSError) as error:
            raise ShowerFileError(
                f"{path}: a shower file, but not of events: {error}. Expected what 'anycalo embed' writes."
            ) from error
        try:
            return Events(showers=showers, origin=origin, **tables)
        except ShowersError as error:
            raise ShowerFileError(f"{path}: {error}") from error

    def write(self, path: str | Path, *, overwrite: bool = False) -> None:
        """Write the file; it appears under its name only when it is complete.

        Raises:
            OutputError: if the path exists and `overwrite` is false, or cannot be written.
        """
        path = check_output(path, overwrite=overwrite)
        temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
        try:
            self.showers.write(temporary)
            with h5py.File(temporary, "r+") as file:
                file.create_dataset("points/origin", data=self.origin.astype(np.int32), compression="gzip")
                for name, columns in _TABLES.items():
                    for column in columns:
                        file[f"{name}/{column}"] = getattr(self, name)[column]
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


def primary_table(events: Sequence[Sequence[Primary]]) -> dict[str, np.ndarray]:
    """The columns of `Events.primaries`."""
    rows = [(k, p.pdg, p.energy_mev, p.position_mm, p.direction) for k, event in enumerate(events) for p in event]
    return _columns("primaries", rows)


def entry_table(events: Sequence[Sequence[Crossing]]) -> dict[str, np.ndarray]:
    """The columns of `Events.entries`."""
    rows = [(k, c.primary, c.pdg, c.energy_mev, c.position_mm, c.direction) for k, event in enumerate(events) for c in event]
    return _columns("entries", rows)


def _columns(name: str, rows: Sequence[tuple[object, ...]]) -> dict[str, np.ndarray]:
    table = {}
    for k, (column, kind) in enumerate(_TABLES[name].items()):
        values = [row[k] for row in rows]
        if isinstance(kind, int):
            table[column] = np.array(values, dtype=np.float32).reshape(len(rows), kind)
        else:
            table[column] = np.array(values, dtype=kind)
    return table


def stand_in(event: Sequence[Primary]) -> tuple[int, float, tuple[float, float, float]]:
    """PDG code, energy in MeV and direction of the one particle that stands for an event in a shower file.

    The energy is that of all its particles. Code and direction are those of the first; a particle that a shower
    file cannot name stands as a photon, and a direction away from the calorimeter as the normal.
    """
    first = event[0]
    inward = first.direction if first.direction[2] > 0 else (0.0, 0.0, 1.0)
    return first.pdg if first.pdg in PARTICLE else 22, sum(p.energy_mev for p in event), inward

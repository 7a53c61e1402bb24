"""Read a shower file from end to end: is every shower sound, and what is in it?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from anycalo.showers.file import ShowerFile
from anycalo.showers.incident import PARTICLE

_POINTS_AT_ONCE = 2_000_000


@dataclass(frozen=True, kw_only=True)
class Summary:
    """What a sound shower file holds.

    Args:
        path: of the file.
        size_bytes: of the file.
        n_showers, n_points: in all.
        n_empty: showers without a point.
        particles: number of showers of each particle.
        energy_mev: lowest and highest incident energy.
        angle_rad: smallest and largest angle of incidence to the normal.
        visible_mev: mean and standard deviation of the visible energy of a shower.
        response: mean and standard deviation of visible over incident energy.
        points_per_shower: fewest, mean and most.
        n_outside: points beyond the side faces of the detector.
        detector: its name.
        n_layers: its layers.
        provenance: as recorded.
    """

    path: str
    size_bytes: int
    n_showers: int
    n_points: int
    n_empty: int
    particles: dict[str, int]
    energy_mev: tuple[float, float]
    angle_rad: tuple[float, float]
    visible_mev: tuple[float, float]
    response: tuple[float, float]
    points_per_shower: tuple[int, float, int]
    n_outside: int
    detector: str
    n_layers: int
    provenance: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)


def inspect(path: str | Path, *, progress: Callable[[int, int], None] | None = None) -> Summary:
    """Read and check every shower of a file, in slices that fit into memory.

    Args:
        path: a shower file, or the name of a sample shipped with AnyCalo.
        progress: called with the number of showers read, and of all.

    Returns:
        What it holds.

    Raises:
        ShowerFileError: if the file is not a whole shower file, holds none, or a value is impossible; with the
            showers that it concerns.
    """
    with ShowerFile(path) as file:
        incident = file.incident()
        visible, outside, done = [], 0, 0
        half_x, half_y = (0.5 * size * (1 + 1e-5) for size in file.detector.size_mm)
        if progress:
            progress(0, len(file))
        for stop in _stops(file.offsets):
            part = file[done:stop]
            visible.append(part.visible_mev())
            outside += int(((np.abs(part.x_mm) > half_x) | (np.abs(part.y_mm) > half_y)).sum())
            done = stop
            if progress:
                progress(done, len(file))
        counts = np.diff(file.offsets)
        total = np.concatenate(visible)
        response = total / incident.energy_mev
        codes, numbers = np.unique(incident.pdg, return_counts=True)
        return Summary(
            path=str(file.path),
            size_bytes=file.path.stat().st_size,
            n_showers=len(file),
            n_points=file.n_points,
            n_empty=int((counts == 0).sum()),
            particles={PARTICLE[int(c)]: int(n) for c, n in zip(codes, numbers, strict=True)},
            energy_mev=(float(incident.energy_mev.min()), float(incident.energy_mev.max())),
            angle_rad=(float(incident.theta_rad.min()), float(incident.theta_rad.max())),
            visible_mev=(float(total.mean()), float(total.std())),
            response=(float(response.mean()), float(response.std())),
            points_per_shower=(int(counts.min()), float(counts.mean()), int(counts.max())),
            n_outside=outside,
            detector=file.detector.name,
            n_layers=file.detector.n_layers,
            provenance=file.provenance,
        )


def _stops(offsets: np.ndarray) -> list[int]:
    """Ends of slices of whole showers with at most `_POINTS_AT_ONCE` points each, or one shower."""
    stops, start = [], 0
    while start < len(offsets) - 1:
        stop = int(np.searchsorted(offsets, offsets[start] + _POINTS_AT_ONCE, side="right")) - 1
        start = min(max(stop, start + 1), len(offsets) - 1)
        stops.append(start)
    return stops

"""What commands say about a shower file that they wrote or read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from anycalo.cli.quantities import energy_range_text
from anycalo.showers import ShowerFile


def describe_file(path: str | Path) -> tuple[dict[str, Any], str]:
    """A shower file in numbers, and in one line."""
    with ShowerFile(path) as file:
        incident, points, detector = file.incident(), file.n_points, file.detector.name
        where, size = file.path, file.path.stat().st_size
    low, high = float(incident.energy_mev.min()), float(incident.energy_mev.max())
    data = {
        "path": str(where),
        "size_bytes": size,
        "detector": detector,
        "n_showers": len(incident),
        "n_points": points,
        "particles": incident.particles,
        "energy_mev": [low, high],
    }
    particles, plural = ", ".join(incident.particles), "" if len(incident) == 1 else "s"
    what = f"{len(incident):,} shower{plural} ({particles}, {energy_range_text(low, high)}) in {detector}"
    return data, f"{where}: {what}; {points:,} points, {size_text(size)}"


def size_text(size_bytes: int) -> str:
    """A file size to read: 12.3 MB."""
    for factor, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if size_bytes >= factor:
            return f"{size_bytes / factor:.3g} {unit}"
    return f"{size_bytes} bytes"

"""Samples of showers that travel with the package, known by name like detectors and models."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

_SUFFIX = ".h5"


def samples() -> dict[str, Path]:
    """The shower files shipped with AnyCalo: name to path, sorted by name."""
    folder = Path(str(resources.files("anycalo"))) / "data"
    return {path.name.removesuffix(_SUFFIX): path for path in sorted(folder.glob(f"*{_SUFFIX}"))}


def locate(source: str | Path) -> Path:
    """The path of a shower file: a file as it is, else the shipped sample of that name, else the path as given."""
    path = Path(source)
    return path if path.exists() else samples().get(str(source), path)

"""Families by name, and models by the name under which they are shipped or by their directory."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from types import MappingProxyType

from anycalo.errors import ModelError
from anycalo.geometry.file import suggest
from anycalo.models.adapter import ADAPTER_CARD, read_adapter
from anycalo.models.anycalo import AnyCalo
from anycalo.models.caloclouds import CaloClouds
from anycalo.models.gaam import Gaam
from anycalo.models.model import CARD, Model, read_model

FAMILIES: Mapping[str, type[Model]] = MappingProxyType({m.family: m for m in (AnyCalo, CaloClouds, Gaam)})


def shipped_models() -> dict[str, Path]:
    """Names and directories of the models that come with the package, sorted by name."""
    folder = Path(str(resources.files("anycalo.models") / "shipped"))
    if not folder.is_dir():
        return {}
    return {p.name: p for p in sorted(folder.iterdir()) if (p / CARD).is_file()}


def load_model(source: str | Path, *, device: str = "cpu") -> Model:
    """A shipped model by its name, or a model or an adapter by its directory.

    Raises:
        ModelError: if there is neither, or what is there is damaged or does not fit together.

    Example:
        model = load_model("runs/cc")
    """
    shipped = shipped_models()
    if str(source) in shipped:
        return read_model(shipped[str(source)], FAMILIES, device=device)
    path = Path(source)
    if not path.is_dir():
        known = f" Shipped: {', '.join(shipped)}." if shipped else ""
        raise ModelError(
            f"no model '{source}': it is neither a shipped model nor a directory.{suggest(str(source), shipped)}{known}"
            f" A directory is one that training wrote, with {CARD} in it."
        )
    if (path / ADAPTER_CARD).is_file():
        return read_adapter(path, lambda base: load_model(base, device=device))
    return read_model(path, FAMILIES, device=device)

"""An adapter on disk: what was changed of a base model, without the base.

A directory: `adapter.safetensors` with new values of parameters, or the two factors of what is added to them, and
`adapter.json` with the base's name and digest. It is merged into its base when it is read, and refuses every other.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from anycalo.errors import ModelError, OutputError
from anycalo.models.config import from_table
from anycalo.models.model import Domain, Model
from anycalo.version import __version__

ADAPTER_CARD, ADAPTER_WEIGHTS = "adapter.json", "adapter.safetensors"
FORMAT, VERSION = "anycalo-adapter", 1
REPLACED, DOWN, UP = "replaced:", "down:", "up:"
"""Beginnings of the names of tensors; a parameter's name follows."""


def save_adapter(
    folder: str | Path,
    *,
    base: str | Path,
    base_sha256: str,
    domain: Domain,
    changes: Mapping[str, Tensor],
    card: Mapping[str, Any] | None = None,
) -> None:
    """Write an adapter's directory, which appears when it is complete.

    Args:
        folder: to be made.
        base: name of a shipped model; or the path of the base's directory, which is stored relative to `folder`.
        base_sha256: its digest.
        domain: of base and adapter together.
        changes: tensors by `REPLACED`, or `DOWN` and `UP`, and parameter name.
        card: more entries for `adapter.json` (JSON values).

    Raises:
        OutputError: if it exists or cannot be written.
    """
    folder = Path(folder)
    if folder.exists():
        raise OutputError(f"{folder} exists already; choose another name or remove it")
    content = {
        "format": FORMAT,
        "version": VERSION,
        "base": os.path.relpath(base, folder) if isinstance(base, Path) else base,
        "base_sha256": base_sha256,
        "domain": dataclasses.asdict(domain),
        "package_version": __version__,
        **(card or {}),
    }
    temporary = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}.tmp")
    try:
        temporary.mkdir(parents=True)
        save_file({k: v.detach().cpu().contiguous().clone() for k, v in changes.items()}, temporary / ADAPTER_WEIGHTS)
        (temporary / ADAPTER_CARD).write_text(json.dumps(content, indent=2) + "\n", "utf-8")
        os.replace(temporary, folder)
    except OSError as error:
        raise OutputError(f"{folder} cannot be written: {error.strerror or error}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def read_adapter(folder: Path, load: Callable[[str | Path], Model]) -> Model:
    """The base of an adapter, changed by it.

    Args:
        folder: of the adapter.
        load: gives the base by its name or directory.

    Raises:
        ModelError: if the adapter is damaged, or the base is missing or another one.
    """
    try:
        card: Any = json.loads((folder / ADAPTER_CARD).read_text("utf-8"))
        changes = load_file(folder / ADAPTER_WEIGHTS)
    except (OSError, SafetensorError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ModelError(f"{folder}: damaged adapter: {error}. Restore it from a copy, or adapt again.") from error
    if not isinstance(card, dict) or card.get("format") != FORMAT or card.get("version") != VERSION:
        raise ModelError(f"{folder / ADAPTER_CARD}: not an AnyCalo adapter of version {VERSION}; expected format '{FORMAT}'")
    name = str(card.get("base"))
    beside = folder / name
    try:
        model = load(beside if beside.is_dir() else name)
    except ModelError as error:
        raise ModelError(f"{folder}: its base '{name}' cannot be read: {error} Or correct 'base' in {ADAPTER_CARD}.") from error
    if model.digest() != card.get("base_sha256"):
        raise ModelError(
            f"{folder} was made for a base of digest {str(card.get('base_sha256'))[:12]}, and '{name}' has"
            f" {model.digest()[:12]}. Give it back its own base (a directory, as 'base' in {ADAPTER_CARD}), or adapt again."
        )
    apply_changes(model, changes, where=str(folder / ADAPTER_WEIGHTS))
    model.domain = from_table(Domain, card.get("domain"), where=f"{folder / ADAPTER_CARD}, domain", error=ModelError)
    known = {"format", "version", "domain", "package_version"}
    model.card = {k: v for k, v in card.items() if k not in known}
    return model


@torch.no_grad()
def apply_changes(model: Model, changes: Mapping[str, Tensor], *, where: str = "changes") -> None:
    """Change parameters and buffers of a model.

    Raises:
        ModelError: if a name or a shape is not the model's.
    """
    named = model.state_dict()
    for key, value in changes.items():
        kind, _, name = key.partition(":")
        if name not in named or f"{kind}:" not in (REPLACED, DOWN, UP):
            raise ModelError(f"{where}: '{key}' is not of this model's parameters; adapter and base do not belong together")
        if f"{kind}:" == UP:
            continue
        new = value
        if f"{kind}:" == DOWN:
            if f"{UP}{name}" not in changes:
                raise ModelError(f"{where}: '{UP}{name}' is missing beside '{key}'; restore the adapter from a copy")
            new = named[name] + (changes[f"{UP}{name}"] @ value).to(named[name])
        if new.shape != named[name].shape:
            shapes = f"{list(new.shape)}; expected {list(named[name].shape)}"
            raise ModelError(f"{where}: '{key}' makes a tensor of shape {shapes}. Adapter and base do not belong together.")
        named[name].copy_(new)

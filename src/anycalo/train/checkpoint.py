"""The state of a run on disk: one safetensors file, replaced as a whole."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from anycalo.errors import OutputError, TrainingError
from anycalo.showers import Showers, check_output

CHECKPOINT, RUN = "checkpoint.safetensors", "run.json"


@dataclass(kw_only=True)
class State:
    """Where a run stands.

    Args:
        stage: index of the stage in training; the number of stages when all are done.
        step: steps done in it.
        seconds: spent in it.
        loss_sum: of the steps since the last validation.
        loss_count: how many those are.
        best_loss: lowest validation loss in it.
        losses: best validation loss of each finished stage.
        total_seconds: spent in all stages.
        tensors: the model's, under `model/`, and the stage's, under `ema/`, `best/` and `adam/`.
    """

    stage: int = 0
    step: int = 0
    seconds: float = 0.0
    loss_sum: float = 0.0
    loss_count: int = 0
    best_loss: float = float("inf")
    losses: dict[str, float] = field(default_factory=dict)
    total_seconds: float = 0.0
    tensors: dict[str, Tensor] = field(default_factory=dict)

    def part(self, prefix: str) -> dict[str, Tensor]:
        """The tensors below `prefix/`, without it."""
        return {k[len(prefix) + 1 :]: v for k, v in self.tensors.items() if k.startswith(f"{prefix}/")}


def write_state(folder: Path, state: State) -> None:
    """Replace the checkpoint of a run, all or nothing.

    Raises:
        OutputError: if it cannot be written.
    """
    numbers = {k: v for k, v in vars(state).items() if k != "tensors"}
    temporary = folder / f".{CHECKPOINT}.tmp"
    tensors = {k: v.detach().cpu().contiguous().clone() for k, v in state.tensors.items()}
    try:
        save_file(tensors, temporary, metadata={"state": json.dumps(numbers)})
        os.replace(temporary, folder / CHECKPOINT)
    except (OSError, SafetensorError) as error:
        raise OutputError(f"{folder / CHECKPOINT} cannot be written: {error}") from error


def read_state(folder: Path) -> State | None:
    """The checkpoint of a run, or none if it has not come to one.

    Raises:
        TrainingError: if it is damaged.
    """
    path = folder / CHECKPOINT
    if not path.exists():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            numbers: dict[str, Any] = json.loads(file.metadata()["state"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
        return State(**numbers, tensors=tensors)
    except (SafetensorError, OSError, KeyError, TypeError, json.JSONDecodeError) as error:
        raise TrainingError(f"{path}: damaged ({error}); remove it to train from the beginning") from error


def data_digest(showers: Sequence[Showers]) -> str:
    """A hash of the showers and their detectors."""
    digest = hashlib.sha256()
    for batch in showers:
        digest.update(batch.detector.to_toml().encode())
        incident = batch.incident
        arrays = (batch.offsets, batch.x_mm, batch.y_mm, batch.layer, batch.energy_mev)
        for array in (*arrays, incident.pdg, incident.energy_mev, incident.direction):
            digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def check_folder(folder: Path) -> None:
    """Refuse, before any work is done, a directory that is not a run's or cannot be written.

    Raises:
        OutputError: saying which of the two.
    """
    if not (folder / RUN).exists() and folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise OutputError(f"{folder} exists already and is not a training run; choose another name or remove it")
    check_output(folder / RUN, overwrite=True)


def claim(folder: Path, run: dict[str, Any]) -> None:
    """Make a run's directory, or see that it is of the same run.

    Raises:
        TrainingError: if it is of another recipe or of other data.
        OutputError: if it is not a run's directory or cannot be written.
    """
    check_folder(folder)
    path = folder / RUN
    try:
        if path.exists():
            found = json.loads(path.read_text("utf-8"))
            for key, what in (("recipe_sha256", "recipe"), ("data_sha256", "data")):
                if found.get(key) != run[key]:
                    raise TrainingError(
                        f"{folder} holds a run with another {what} ({str(found.get(key))[:12]}; this one is {run[key][:12]})."
                        " Choose another directory, remove it, or give what it was started with."
                    )
            return
        folder.mkdir(parents=True, exist_ok=True)
        temporary = folder / f".{RUN}.tmp"
        temporary.write_text(json.dumps(run, indent=2) + "\n", "utf-8")
        os.replace(temporary, path)
    except json.JSONDecodeError as error:
        raise TrainingError(f"{path}: damaged ({error}); remove the directory to train from the beginning") from error
    except OSError as error:
        raise OutputError(f"{folder} cannot be written: {error.strerror or error}") from error


def optimiser_tensors(optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The state of an optimiser of one group as named tensors."""
    state = optimiser.state_dict()["state"]
    return {f"adam/{index}.{name}": value for index, values in state.items() for name, value in values.items()}


def load_optimiser(optimiser: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Put back what `optimiser_tensors` gave (names without `adam/`)."""
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        index, key = name.split(".", 1)
        state.setdefault(int(index), {})[key] = value
    optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})

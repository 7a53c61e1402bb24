"""Recipes: everything that decides the result of a training run, but the data and the output."""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from anycalo.errors import TrainingError
from anycalo.geometry.file import suggest
from anycalo.models import FAMILIES
from anycalo.models.config import from_table, to_table


@dataclass(frozen=True, kw_only=True)
class StageRecipe:
    """How one network is trained: AdamW, a linear warm-up, a cosine to 0, an average of the weights.

    Args:
        steps: optimiser steps.
        batch_size: examples of a step, over all processes together.
        learning_rate: the highest.
        weight_decay: of AdamW.
        warmup: fraction of the stage during which the learning rate rises.
        ema_decay: of the exponential average that is validated and kept; shorter early on.
        clip_norm: largest norm of the gradient.
        validate_every: steps between validations.
        validation_batch: examples validated on, at most.
        time_share: share of a time budget, relative to the other stages.
    """

    steps: int
    batch_size: int
    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    warmup: float = 0.02
    ema_decay: float = 0.999
    clip_norm: float = 10.0
    validate_every: int = 500
    validation_batch: int = 65_536
    time_share: float = 1.0

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "validate_every", "validation_batch"):
            if getattr(self, name) < 1:
                raise TrainingError(f"{name} is {getattr(self, name)!r}; expected at least 1")
        for name in ("learning_rate", "clip_norm", "time_share"):
            if not getattr(self, name) > 0:
                raise TrainingError(f"{name} is {getattr(self, name)!r}; expected a number above 0")
        if not 0 <= self.ema_decay < 1 or not 0 <= self.warmup < 1:
            raise TrainingError(f"ema_decay is {self.ema_decay!r} and warmup {self.warmup!r}; expected from 0 to below 1")
        if self.weight_decay < 0:
            raise TrainingError(f"weight_decay is {self.weight_decay!r}; expected at least 0")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A training run.

    Args:
        family: name of the family of models.
        model: its configuration.
        stages: a recipe for every stage of the family.
        seed: of weights, batches and noise.
        validation_fraction: of the showers, held out; the split follows from the seed.
        checkpoint_seconds: time between checkpoints.
    """

    family: str
    model: Any
    stages: Mapping[str, StageRecipe]
    seed: int = 1
    validation_fraction: float = 0.05
    checkpoint_seconds: float = 60.0

    def __post_init__(self) -> None:
        if not 0 < self.validation_fraction < 1:
            raise TrainingError(f"validation_fraction is {self.validation_fraction!r}; expected between 0 and 1")
        if not self.checkpoint_seconds > 0 or self.seed < 0:
            raise TrainingError("checkpoint_seconds must be above 0 and seed at least 0")

    def to_table(self) -> dict[str, Any]:
        """Plain values; `Recipe.from_table` reads them back."""
        stages = {name: to_table(stage) for name, stage in self.stages.items()}
        return {**_top(self), "model": to_table(self.model), "stages": stages}

    def digest(self) -> str:
        """A hash of everything in the recipe that decides the result."""
        table = self.to_table()
        del table["checkpoint_seconds"]
        return hashlib.sha256(json.dumps(table, sort_keys=True).encode()).hexdigest()

    @staticmethod
    def from_table(table: Any, *, where: str = "recipe") -> Recipe:
        """Read a recipe from plain values.

        Raises:
            TrainingError: naming a key that is unknown, missing or of the wrong kind.
        """
        top = from_table(_Top, table, where=where, error=TrainingError)
        if top.family not in FAMILIES:
            known = ", ".join(FAMILIES)
            raise TrainingError(f"{where}.family is {top.family!r}.{suggest(top.family, FAMILIES)} Known families: {known}.")
        model: Any = from_table(FAMILIES[top.family].config_class, top.model, where=f"{where}.model", error=TrainingError)
        stages = {
            k: from_table(StageRecipe, v, where=f"{where}.stages.{k}", error=TrainingError) for k, v in top.stages.items()
        }
        return Recipe(**{**_top(top), "model": model, "stages": stages})

    @staticmethod
    def load(source: str | Path) -> Recipe:
        """A recipe shipped with the package by its name, or a TOML file by its path.

        Raises:
            TrainingError: if there is neither, or the file is wrong.
        """
        known = recipes()
        if str(source) in known:
            return Recipe._parse(known[str(source)], where=str(source))
        path = Path(source)
        if not path.is_file():
            raise TrainingError(
                f"no recipe '{source}': it is neither shipped nor a file.{suggest(str(source), known)}"
                f" Shipped: {', '.join(known)}."
            )
        try:
            return Recipe._parse(path.read_text("utf-8"), where=str(path))
        except UnicodeDecodeError as error:
            raise TrainingError(f"{path}: not a text file; expected TOML in UTF-8") from error

    @staticmethod
    def _parse(text: str, *, where: str) -> Recipe:
        try:
            table = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise TrainingError(f"{where}: not valid TOML: {error}") from error
        return Recipe.from_table(table, where=where)


@dataclass(frozen=True, kw_only=True)
class _Top:
    """The keys of a recipe as they stand in TOML."""

    family: str
    stages: dict[str, Any]
    model: dict[str, Any] = field(default_factory=dict)
    seed: int = Recipe.seed
    validation_fraction: float = Recipe.validation_fraction
    checkpoint_seconds: float = Recipe.checkpoint_seconds


def _top(recipe: Recipe | _Top) -> dict[str, Any]:
    return {k: getattr(recipe, k) for k in ("family", "seed", "validation_fraction", "checkpoint_seconds")}


def recipes() -> dict[str, str]:
    """The recipes shipped with the package: name to TOML text, sorted by name."""
    folder = resources.files("anycalo.train") / "recipes"
    texts = {f.name.removesuffix(".toml"): f.read_text("utf-8") for f in folder.iterdir() if f.name.endswith(".toml")}
    return dict(sorted(texts.items()))

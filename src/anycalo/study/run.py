"""Runs a study cell by cell; what is done is done, also by another process or machine with the same directory."""

from __future__ import annotations

import dataclasses
import json
import os
import time
import uuid
import warnings
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from anycalo.adapt import Method
from anycalo.errors import DomainWarning, OutputError, TrainingError
from anycalo.evaluate import evaluate
from anycalo.evaluate.validation import DistanceCheck
from anycalo.generate import generate
from anycalo.models import Model, load_model
from anycalo.models.caloclouds import CaloClouds
from anycalo.models.config import to_table
from anycalo.models.transplant import calibrate, teacher, zero_shot
from anycalo.showers import Showers
from anycalo.study.recipe import SCRATCH, ZERO, Base, Cell, StudyRecipe
from anycalo.train import FinetuneConfig, Finetuned, finetune, from_scratch
from anycalo.train.checkpoint import data_digest

RECIPE, CELLS, RATES, MOVED = "recipe.json", "cells", "rates", "moved"
PAPER = ("cell_energy", "response", "visible_energy", "occupancy", "longitudinal_profile", "radial_profile")
"""The six observables of arXiv 2512.00187. The longitudinal one is over the coordinate of depth, weighted by energy."""
_CARRIED = 0.9

Progress = Callable[[int, int], None]


def run_study(
    recipe: StudyRecipe,
    out: str | Path,
    *,
    root: str | Path = ".",
    part: tuple[int, int] = (1, 1),
    progress: Progress | None = None,
) -> int:
    """Do the cells of a study that are not done.

    Args:
        recipe: of the study.
        out: its directory; each finished cell is a file in it.
        root: what the recipe's paths are relative to.
        part: the k-th of n shares of the cells, for n machines that share the directory or whose directories are joined later.
        progress: called with cells done and cells in all.

    Returns:
        How many cells are done, of any share.

    Raises:
        TrainingError: if `out` holds another study, or a file too few showers.
        OutputError: if it cannot be written.
    """
    out, root = Path(out), Path(root)
    k, n = part
    if not 1 <= k <= n:
        raise TrainingError(f"part is {k} of {n}; expected from 1 to the second number")
    claim(out, recipe)
    study = Study(recipe, out, root)
    cells = recipe.cells()
    for place, cell in enumerate(cells):
        if progress is not None:
            progress(sum(cell_file(out, c).exists() for c in cells), len(cells))
        if place % n == k - 1 and not cell_file(out, cell).exists():
            write(cell_file(out, cell), study.cell(cell))
    done = sum(cell_file(out, c).exists() for c in cells)
    if progress is not None:
        progress(done, len(cells))
    return done


def results(recipe: StudyRecipe, out: str | Path) -> dict[Cell, dict[str, Any]]:
    """The finished cells of a study."""
    found = {}
    for cell in recipe.cells():
        path = cell_file(Path(out), cell)
        if path.exists():
            found[cell] = json.loads(path.read_text("utf-8"))
    return found


def cell_file(out: Path, cell: Cell) -> Path:
    """Where a finished cell is."""
    return out / CELLS / f"{cell.key}.json"


def claim(out: Path, recipe: StudyRecipe) -> None:
    """Begin a study in a directory, or go on with the same one.

    Raises:
        TrainingError: if it holds another study.
        OutputError: if it holds anything else, or cannot be written.
    """
    path = out / RECIPE
    if path.exists():
        found = json.loads(path.read_text("utf-8"))
        if found.get("sha256") != recipe.digest():
            raise TrainingError(f"{out} holds a study of another recipe; choose another directory, or give that recipe")
    elif out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise OutputError(f"{out} exists already and is not a study; choose another name or remove it")
    else:
        write(path, {"sha256": recipe.digest(), "recipe": to_table(recipe)})


def write(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON file that is complete or absent."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
        temporary.write_text(json.dumps(content, indent=1) + "\n", "utf-8")
        os.replace(temporary, path)
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror or error}") from error


class Study:
    """Bases, targets, and what is prepared once for many cells."""

    def __init__(self, recipe: StudyRecipe, out: Path, root: Path) -> None:
        self.recipe, self.out, self.root = recipe, out, root
        self.bases = {base.name: base for base in recipe.bases}
        self.targets = {target.name: target for target in recipe.targets}
        self.training = lru_cache(maxsize=4)(self._training)
        self.start = lru_cache(maxsize=4)(self._start)

    def cell(self, cell: Cell) -> dict[str, Any]:
        """Adapt, generate, compare: the content of a cell's file."""
        began = time.monotonic()
        if cell.method == ZERO:
            model = self.start(cell.base, cell.target)
            made: dict[str, Any] = {"trained": 0, "total": _size(model)}
        else:
            showers = self.chosen(cell.target, cell.showers, cell.seed)
            rate = self.rate(cell.base, cell.target, cell.method)
            start, tuned = self.adapt(cell, showers, rate, check=True)
            model = tuned.model
            made = {
                "trained": tuned.trained,
                "total": _size(model),
                "learning_rate": rate,
                "stages": {name: dataclasses.asdict(report) for name, report in tuned.stages.items()},
                "data_sha256": data_digest([showers]),
            }
            if cell.method != SCRATCH and cell.seed == self.recipe.seeds[0]:
                made["weights"] = weight_changes(start, model)
        seconds = time.monotonic() - began
        return {**dataclasses.asdict(cell), **made, "training_seconds": round(seconds, 1), **self.compare(model, cell)}

    def adapt(
        self, cell: Cell, showers: Showers, rate: float, *, few: int = FinetuneConfig.few, check: bool = False
    ) -> tuple[Model, Finetuned]:
        """The base, as it is when fine-tuning begins, and what becomes of it.

        From scratch there is nothing to accept or refuse, and a fifth of the showers, held out once, says when to stop. With
        `check` changes by which showers become no nearer are taken back.
        """
        start = self.start(cell.base, cell.target)
        config = FinetuneConfig(
            method=Method() if cell.method == SCRATCH else Method.parse(cell.method),
            learning_rate=rate,
            steps=self.recipe.steps,
            patience=self.recipe.patience,
            few=0 if cell.method == SCRATCH else few,
            seed=cell.seed,
        )
        if cell.method == SCRATCH:
            return start, from_scratch(start, showers, config)
        if isinstance(start, CaloClouds) and start.card.get("moved"):
            start = calibrate(start, showers, seed=cell.seed)
        compare = DistanceCheck(start, showers, seed=cell.seed) if check else None
        return start, finetune(start, showers, config, compare=compare)

    def rate(self, base: str, target: str, method: str) -> float:
        """The learning rate with the lowest loss on held-out showers (a fifth, once), of those that every method tries."""
        path = self.out / RATES / base / target / f"{method}.json"
        if not path.exists():
            count, seed = min(self.recipe.search_showers, max(self.recipe.showers)), self.recipe.seeds[0]
            cell = Cell(base=base, target=target, method=method, showers=count, seed=seed)
            showers = self.chosen(target, count, seed)
            losses: dict[str, float | None] = {}
            for rate in self.recipe.learning_rates:
                try:
                    losses[f"{rate:g}"] = self.adapt(cell, showers, rate, few=0)[1].validation_loss
                except TrainingError:
                    losses[f"{rate:g}"] = None  # it diverged
            known = {rate: loss for rate, loss in losses.items() if loss is not None}
            if not known:
                raise TrainingError(f"{method} diverges at every learning rate; add lower learning_rates to the recipe")
            best = min(known, key=known.__getitem__)
            write(path, {"losses": losses, "learning_rate": float(best), "showers": count, "seed": seed})
        return float(json.loads(path.read_text("utf-8"))["learning_rate"])

    def compare(self, model: Model, cell: Cell) -> dict[str, Any]:
        """Distances to the test showers, which are read here and nowhere else."""
        truth = Showers.open(self._file(self.targets[cell.target].test), 0, self.recipe.test_showers or None)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DomainWarning)  # that models leave their domain is the subject
            fast = generate(model, truth.detector, truth.incident, seed=cell.seed)
        result = evaluate(truth, fast, metrics="none", n_bootstrap=100, seed=cell.seed)
        return {
            "test_showers": len(truth),
            "ratio_to_floor": result.summary.ratio_to_floor,
            "ratio_to_floor_ci": list(result.summary.ratio_to_floor_ci),
            "paper": paper_distance({name: o.w1 for name, o in result.observables.items()}),
            "paper_floor": paper_distance({name: o.w1_floor for name, o in result.observables.items()}),
            "w1": {name: o.w1 for name, o in result.observables.items()},
            "w1_floor": {name: o.w1_floor for name, o in result.observables.items()},
        }

    def chosen(self, target: str, count: int, seed: int) -> Showers:
        """Training showers: the first of an order that follows from the seed, so that few are among many."""
        showers = self.training(target)
        if count > len(showers):
            raise TrainingError(
                f"{self.targets[target].training} holds {len(showers)} showers with visible energy, and the recipe asks for"
                f" {count}; simulate more, or take smaller numbers"
            )
        return showers[np.random.default_rng([seed, 0x57D7]).permutation(len(showers))[:count]]

    def _training(self, target: str) -> Showers:
        showers = Showers.open(self._file(self.targets[target].training))
        visible = showers.visible_mev() > 0
        return showers if visible.all() else showers[visible]

    def _start(self, base: str, target: str) -> Model:
        """The base, moved to the target's detector where it must be; moved once for a study."""
        loaded = teacher(load_model(self._model(self.bases[base])))
        showers = self.training(target)
        if not isinstance(loaded, CaloClouds) or loaded.domain.detector == showers.detector:
            return loaded
        folder = self.out / MOVED / base / target
        if not folder.exists():
            folder.parent.mkdir(parents=True, exist_ok=True)
            moved = zero_shot(loaded, showers, n=self.recipe.moved, seed=self.recipe.seeds[0])
            try:
                moved.save(folder, card={"moved": loaded.digest()})
            except OutputError:
                if not folder.exists():  # otherwise another process has made the same one meanwhile
                    raise
        return load_model(folder)

    def _file(self, path: str) -> Path:
        return self.root / path

    def _model(self, base: Base) -> str | Path:
        path = self.root / base.model
        return path if path.is_dir() else base.model


def paper_distance(w1: Mapping[str, float]) -> float:
    """Geometric mean over the six observables of W1 over the reference's standard deviation (arXiv 2512.00187)."""
    return float(np.exp(np.mean([np.log(max(w1[name], 1e-12)) for name in PAPER])))


@torch.no_grad()
def weight_changes(base: Model, model: Model) -> dict[str, dict[str, float]]:
    """Of every matrix that changed: the norm of the change over its own, and the rank that carries 90 % of its square."""
    before, found = dict(base.named_parameters()), {}
    for name, after in model.named_parameters():
        change = after - before[name]
        if after.ndim != 2 or not change.any():
            continue
        square = torch.linalg.svdvals(change.double()).square()
        carried = square.cumsum(0) / square.sum()
        found[name] = {
            "relative": float(change.norm() / before[name].norm().clamp_min(1e-12)),
            "rank": int((carried < _CARRIED).sum()) + 1,
            "full_rank": min(after.shape),
        }
    return found


def _size(model: Model) -> int:
    return sum(p.numel() for p in model.parameters())

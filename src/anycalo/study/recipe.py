"""The recipe of a study: everything that decides its results, but the data."""

from __future__ import annotations

import hashlib
import json
import tomllib
from dataclasses import dataclass
from pathlib import Path

from anycalo.adapt import Method
from anycalo.errors import TrainingError
from anycalo.models.config import from_table, to_table

ZERO, SCRATCH = "zero-shot", "scratch"


@dataclass(frozen=True, kw_only=True)
class Base:
    """A pre-trained model.

    Args:
        name: in tables and figures.
        model: a shipped model's name or a directory.
    """

    name: str
    model: str


@dataclass(frozen=True, kw_only=True)
class Target:
    """A detector to adapt to.

    Args:
        name: in tables and figures.
        training: shower file that training and held-out showers come from.
        test: shower file that is read once for each model, when nothing is left to choose.
    """

    name: str
    training: str
    test: str


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One model of a study.

    Args:
        base, target: names.
        method: a label of `anycalo.adapt.Method`, `scratch` or `zero-shot`.
        showers: that it was adapted with.
        seed: of the choice of showers, of training and of generation.
    """

    base: str
    target: str
    method: str
    showers: int
    seed: int

    @property
    def key(self) -> str:
        """Its place in the study's directory."""
        return f"{self.base}/{self.target}/{self.method}-{self.showers}-{self.seed}"


@dataclass(frozen=True, kw_only=True)
class StudyRecipe:
    """A study.

    Args:
        bases, targets: every one of the first is adapted to every one of the second.
        showers: numbers of showers to adapt with.
        methods: labels of methods (`lora-R` for rank R), and `scratch`; zero-shot is always there.
        seeds: each cell once a seed.
        learning_rates: tried for every method on held-out showers, at `search_showers` with the first seed.
        search_showers: see `learning_rates`.
        steps: of fine-tuning and from scratch, at most, a stage.
        patience: validations without a lower loss before a stage is stopped.
        test_showers: of the test file, the first; 0 for all.
        moved: showers that a model of one geometry is moved to another detector with.
    """

    bases: tuple[Base, ...]
    targets: tuple[Target, ...]
    showers: tuple[int, ...] = (20, 100, 500, 1000)
    methods: tuple[str, ...] = (SCRATCH, "full", "bitfit", "bitfit-hyper", "top", "lora-4", "lora-16")
    seeds: tuple[int, ...] = (1, 2, 3)
    learning_rates: tuple[float, ...] = (3e-4, 1e-3, 3e-3)
    search_showers: int = 100
    steps: int = 1000
    patience: int = 5
    test_showers: int = 0
    moved: int = 1000

    def __post_init__(self) -> None:
        for what in ("bases", "targets", "showers", "methods", "seeds", "learning_rates"):
            if not getattr(self, what):
                raise TrainingError(f"{what} is empty; expected at least one")
        for entries in (self.bases, self.targets):
            names = [entry.name for entry in entries]
            if len(set(names)) < len(names) or any("/" in name or name.startswith(".") for name in names):
                raise TrainingError(f"names are {', '.join(names)}; expected different ones without '/'")
        for label in self.methods:
            if label != SCRATCH:
                Method.parse(label)
        if min(self.showers) < 10 or self.search_showers < 10 or min(self.seeds) < 0 or min(self.learning_rates) <= 0:
            raise TrainingError("showers and search_showers must be at least 10, seeds at least 0, learning_rates above 0")
        if min(self.steps, self.patience) < 1 or self.moved < 100 or self.test_showers < 0:
            raise TrainingError("steps and patience must be at least 1, moved at least 100, test_showers at least 0")

    def cells(self) -> list[Cell]:
        """All cells, few showers first."""
        found = []
        for base in self.bases:
            for target in self.targets:
                place = {"base": base.name, "target": target.name}
                found += [Cell(**place, method=ZERO, showers=0, seed=seed) for seed in self.seeds]
        for seed in self.seeds:
            for count in self.showers:
                for base in self.bases:
                    for target in self.targets:
                        place = {"base": base.name, "target": target.name}
                        found += [Cell(**place, method=m, showers=count, seed=seed) for m in self.methods]
        return found

    def digest(self) -> str:
        """A hash of the recipe."""
        return hashlib.sha256(json.dumps(to_table(self), sort_keys=True).encode()).hexdigest()

    @staticmethod
    def load(path: str | Path) -> StudyRecipe:
        """Read a TOML file.

        Raises:
            TrainingError: if it is missing, not TOML, or holds what a study does not know.
        """
        path = Path(path)
        try:
            table = tomllib.loads(path.read_text("utf-8"))
        except OSError as error:
            raise TrainingError(f"no recipe '{path}': {error.strerror}; expected a TOML file") from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise TrainingError(f"{path}: not valid TOML: {error}") from error
        # In TOML they are arrays of tables, [[base]] and [[target]].
        for one, many in (("base", "bases"), ("target", "targets")):
            if one in table:
                table[many] = table.pop(one)
        return from_table(StudyRecipe, table, where=str(path), error=TrainingError)

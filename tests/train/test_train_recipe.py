"""Recipes: reading, writing, errors."""

from __future__ import annotations

from pathlib import Path

import pytest

from anycalo.errors import TrainingError
from anycalo.models import CaloCloudsConfig
from anycalo.train import Recipe, StageRecipe, recipes

MINIMAL = """
family = "caloclouds"
[stages.flow]
steps = 10
batch_size = 8
[stages.denoiser]
steps = 10
batch_size = 8
"""


@pytest.mark.parametrize("name", sorted(recipes()))
def test_shipped_recipes_can_be_read_and_come_back(name: str) -> None:
    recipe = Recipe.load(name)
    again = Recipe.from_table(recipe.to_table())
    assert again == recipe
    assert again.digest() == recipe.digest()


def test_published_recipes_have_the_published_sizes() -> None:
    third, second = Recipe.load("caloclouds3"), Recipe.load("caloclouds2")
    assert third.model.network.hidden == (32, 64, 128, 64, 32)
    assert second.model.network.hidden == (128, 256, 512, 256, 128)
    for recipe in (third, second):
        assert (recipe.model.depth, recipe.model.lateral_moments) == ("generated", False)
        assert (recipe.model.flow.hidden, recipe.model.flow.hidden_per_dimension) == ((10, 10), True)
    assert (len(third.model.conditions), len(second.model.conditions)) == (4, 2)


def test_defaults(tmp_path: Path) -> None:
    path = tmp_path / "r.toml"
    path.write_text(MINIMAL)
    recipe = Recipe.load(path)
    assert recipe.model == CaloCloudsConfig()
    assert recipe.stages["flow"] == StageRecipe(steps=10, batch_size=8)


def test_digest_tells_recipes_apart() -> None:
    table = Recipe.load("caloclouds-tiny").to_table()
    digests = {Recipe.from_table({**table, **change}).digest() for change in ({}, {"seed": 2}, {"validation_fraction": 0.2})}
    assert len(digests) == 3
    assert Recipe.from_table({**table, "checkpoint_seconds": 1.0}).digest() in digests


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("familly = 'x'\n" + MINIMAL, "unknown key 'familly'.*Did you mean 'family'"),
        (MINIMAL.replace("caloclouds", "calocloud"), "family is 'calocloud'. Did you mean 'caloclouds'"),
        (MINIMAL.replace("batch_size = 8", "batchsize = 8", 1), "stages.flow.*Did you mean 'batch_size'"),
        (MINIMAL.replace("steps = 10", "steps = 'ten'", 1), "stages.flow.steps is 'ten'; expected a whole number"),
        (MINIMAL.replace("steps = 10", "steps = 0", 1), "steps is 0; expected at least 1"),
        (MINIMAL.replace("steps = 10\n", "", 1), "lacks 'steps'"),
        (MINIMAL + "[model]\ndepht = 'generated'", "Did you mean 'depth'"),
        (MINIMAL + "[model]\ndepth = 'random'", "depth is 'random'"),
        (MINIMAL + "[model.flow]\nhidden = 3", "model.flow.hidden is 3; expected a list"),
        ("seed = true\n" + MINIMAL, "seed is True; expected a whole number"),
        ("= 3", "not valid TOML"),
    ],
)
def test_wrong_recipes_are_refused(tmp_path: Path, change: str, words: str) -> None:
    path = tmp_path / "r.toml"
    path.write_text(change)
    with pytest.raises(TrainingError, match=words):
        Recipe.load(path)


def test_missing_recipe_is_refused() -> None:
    with pytest.raises(TrainingError, match="Did you mean 'caloclouds-tiny'"):
        Recipe.load("caloclouds-tini")

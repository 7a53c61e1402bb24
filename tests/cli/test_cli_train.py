"""`anycalo train`: a small model, an interruption, and what is refused."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from outcome import Refused, Run

from anycalo.cli import train
from anycalo.models import load_model


def test_the_run_becomes_a_model(anycalo: Run, toy_file: Path, toy_model: Path, tmp_path: Path) -> None:
    model = load_model(toy_model)
    assert model.family == "caloclouds"
    # Asked again, the finished run is recognised, and described.
    outcome = anycalo("train", "caloclouds-tiny", "--data", toy_file, "--out", toy_model, "--json")
    assert outcome.code == 0
    assert outcome.json["path"] == str(toy_model)
    assert outcome.json["data"]["showers"] + outcome.json["data"]["validation_showers"] == 200
    assert outcome.json["metrics"]["flow_loss"] == model.card["metrics"]["flow_loss"]
    assert "caloclouds" in anycalo("train", "caloclouds-tiny", "--data", toy_file, "--out", toy_model).out


def test_several_files_and_another_seed(anycalo: Run, toy_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def run(recipe, data, out, **more):  # type: ignore[no-untyped-def]
        asked.append((recipe.seed, [str(d) for d in data], str(out), more["max_minutes"], more["device"], more["threads"]))
        raise KeyboardInterrupt

    monkeypatch.setattr(train, "run", run)
    words = ("train", "caloclouds-tiny", "--data", "a.h5", "--data", "b.h5", "--out", "run", "--seed", 5, "--minutes", 1.5)
    outcome = anycalo(*words, "--threads", 1, "--device", "cpu")
    assert asked == [(5, ["a.h5", "b.h5"], "run", 1.5, "cpu", 1)]
    assert outcome.code == 130
    assert "the last checkpoint is kept in run. The same command goes on from there." in outcome.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["caloclouds-tiney"], "Did you mean 'caloclouds-tiny'?"),
        (["caloclouds-tiny", "--minutes", "0"], "minutes is 0.0; expected above 0"),
        (["caloclouds-tiny", "--threads", "0"], "0 threads asked for; expected at least 1"),
        (["caloclouds-tiny", "--device", "abacus"], "abacus"),
    ],
)
def test_requests_that_make_no_sense(refused: Refused, toy_file: Path, tmp_path: Path, words: list[str], message: str) -> None:
    assert message in refused("train", *words, "--data", toy_file, "--out", tmp_path / "new" / "run")


def test_a_graphics_card_that_is_not_there(
    refused: Refused, toy_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    error = refused("train", "caloclouds-tiny", "--data", toy_file, "--out", tmp_path / "run", "--device", "cuda")
    assert "finds no graphics card" in error


def test_outputs_that_are_something_else(refused: Refused, toy_file: Path, toy_model: Path, tmp_path: Path) -> None:
    words = ("train", "caloclouds-tiny", "--data", toy_file, "--threads", 1, "--out")
    (tmp_path / "file").write_text("mine")
    assert str(tmp_path / "file") in refused(*words, tmp_path / "file")
    assert refused(*words, tmp_path / "file" / "run")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "thesis.txt").write_text("mine")
    assert str(tmp_path / "folder") in refused(*words, tmp_path / "folder")
    shutil.copytree(toy_model, tmp_path / "other")
    error = refused(*words, tmp_path / "other", "--seed", 77)
    assert str(tmp_path / "other") in error


def test_a_wrong_recipe_names_the_key(refused: Refused, toy_file: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "mine.toml"
    recipe.write_text('family = "caloclouds"\n[stages.flow]\nsteps = 1\nbatch_size = 1\nlearnin_rate = 1\n')
    error = refused("train", recipe, "--data", toy_file, "--out", tmp_path / "run")
    assert "learnin_rate" in error
    assert "Did you mean 'learning_rate'?" in error

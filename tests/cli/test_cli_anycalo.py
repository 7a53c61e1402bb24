"""A model of several detectors from the command line: a folder of showers, then any detector."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from outcome import Refused, Run

from anycalo.cli import main
from anycalo.models import load_model
from anycalo.showers import Showers
from toyshowers import toy_showers
from toyzoo import stack, toy_zoo

RECIPE = """
family = "anycalo"
seed = 1
validation_fraction = 0.25
[model]
grouped = 0.5
[model.totals]
layer_hidden = 8
hidden = 16
components = 2
members = 2
[model.layers]
embedding = 8
hidden = 8
head = 8
components = 2
[model.points]
hidden = 8
depth = 1
bins = 4
angle_bins = 2
radius_features = 4
"""
STAGE = "[stages.{}]\nsteps = 3\nbatch_size = 16\nvalidate_every = 3\nvalidation_batch = 64\n"


@pytest.fixture(scope="module")
def zoo_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("zoo")
    for k, detector in enumerate(toy_zoo()):
        toy_showers(detector, 12, k).write(folder / f"{k:05d}-{detector.name}.h5")
    return folder


@pytest.fixture(scope="module")
def zoo_model(zoo_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    (folder / "tiny.toml").write_text(
        RECIPE
        + "".join(
            STAGE.format(name) for name in ("totals", "layers", "points", "clusters", "surroundings", "balance", "tracks")
        )
    )
    words = ["train", folder / "tiny.toml", "--data", zoo_folder, "--out", folder / "model", "--threads", 1]
    assert main([str(word) for word in words]) == 0
    return folder / "model"


def test_a_folder_of_several_detectors_becomes_a_model(zoo_model: Path, zoo_folder: Path) -> None:
    card = json.loads((zoo_model / "model.json").read_text())
    assert card["family"] == "anycalo"
    assert card["domain"]["n_detectors"] == 4
    assert card["domain"]["detectors"] == []
    assert card["domain"]["ranges"]["detector field_tesla"] == [0.0, 3.5]
    assert card["data"]["detectors"] == 4
    assert card["data"]["validation_detectors"] == 1
    assert card["data"]["showers"] + card["data"]["validation_showers"] == 48
    assert {"totals_loss", "layers_loss", "points_loss"} <= set(card["metrics"])
    assert load_model(zoo_model).domain.ranges["detector field_tesla"] == (0.0, 3.5)


def test_showers_of_a_detector_that_was_never_seen(anycalo: Run, zoo_model: Path, tmp_path: Path) -> None:
    detector = stack(7, 4.0, absorber="G4_Pb", sensor_mm=0.4, name="mine", field_tesla=1.0)
    (tmp_path / "mine.toml").write_text(detector.to_toml())
    words = ("generate", zoo_model, "--particle", "gamma", "-n", 3, "--threads", 1, "--detector", tmp_path / "mine.toml")
    outcome = anycalo(*words, "--energy", "5GeV", "--out", tmp_path / "fast.h5", "--json")
    assert outcome.code == 0
    made = Showers.open(tmp_path / "fast.h5")
    assert len(made) == 3
    assert made.detector == detector
    # What lies outside is named.
    outside = anycalo(*words, "--energy", "500GeV", "--out", tmp_path / "far.h5")
    assert outside.code == 0
    assert "incident energy 500000 to 500000 MeV reaches outside the trained range" in outside.err
    strong = stack(7, 4.0, absorber="G4_Pb", sensor_mm=0.4, name="strong", field_tesla=9.0)
    (tmp_path / "mine.toml").write_text(strong.to_toml())
    warned = anycalo(*words, "--energy", "5GeV", "--out", tmp_path / "strong.h5")
    assert "'detector field_tesla' of strong, 9, reaches outside the trained range, 0 to 3.5" in warned.err


def test_without_a_detector_the_model_asks_for_one(refused: Refused, zoo_model: Path, tmp_path: Path) -> None:
    error = refused("generate", zoo_model, "--energy", "5GeV", "-n", 2, "--threads", 1, "--out", tmp_path / "fast.h5")
    assert "the model was trained on 4 detectors" in error
    assert "detector" in error


def test_a_folder_without_showers_is_refused(refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    error = refused("train", "anycalo", "--data", tmp_path / "empty", "--out", tmp_path / "run", "--threads", 1)
    assert "holds no shower file (*.h5); expected a folder that 'anycalo simulate --zoo' has filled" in error

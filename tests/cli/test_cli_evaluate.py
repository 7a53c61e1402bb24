"""`anycalo evaluate`: a report of two samples, and pairs that cannot be compared."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import pytest
from outcome import Refused, Run

from anycalo.geometry import Detector
from samples import SMALL
from toyshowers import toy_showers


@pytest.fixture(autouse=True)
def few_divisions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Enough for the command; the evaluation has its own tests."""
    monkeypatch.setattr(importlib.import_module("anycalo.evaluate.evaluate"), "N_DIVISIONS", 20)


@pytest.fixture(scope="module")
def other_file(small_detector: Detector, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("toy") / "other.h5"
    toy_showers(small_detector, 200, 2).write(path)
    return path


def test_a_report(anycalo: Run, refused: Refused, toy_file: Path, other_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "deep" / "report"
    words = ("evaluate", toy_file, other_file, "--out", out, "--bootstrap", 100, "--metrics", "none")
    found = anycalo(*words, "--json")
    assert found.code == 0
    written = json.loads((out / "results.json").read_text())
    assert found.json["summary"] == written["summary"]
    assert found.json["report"] == str(out / "index.html")
    assert found.json["observables"].keys() == written["observables"].keys()
    assert "histogram" not in found.json["observables"]["visible_energy"]
    # Two samples of one toy: the ratio to the floor is near 1, and not small or large by an error of units.
    assert 0.5 < found.json["summary"]["ratio_to_floor"] < 2
    assert "exists already" in refused(*words)
    outcome = anycalo(*words, "--overwrite")
    assert outcome.code == 0
    assert f"{written['summary']['ratio_to_floor']:.2f} times the floor" in outcome.out
    assert "Visible energy" in outcome.out


def test_a_floor_sample_and_a_seed(
    anycalo: Run,
    refused: Refused,
    small_detector: Detector,
    toy_file: Path,
    other_file: Path,
    tmp_path: Path,
) -> None:
    more = tmp_path / "more.h5"
    toy_showers(small_detector, 200, 3).write(more)
    words = ("evaluate", toy_file, other_file, "--bootstrap", 100, "--metrics", "none", "--json", "--out")
    with_floor = anycalo(*words, tmp_path / "a", "--floor", more).json
    assert with_floor["summary"]["floor_from"] == "truth and floor"
    seeds = [anycalo(*words, tmp_path / f"b{k}", "--seed", seed).json["summary"] for k, seed in enumerate((1, 1, 2))]
    assert seeds[0] == seeds[1]
    assert seeds[0] != seeds[2]
    assert "also in the truth sample" in refused("evaluate", toy_file, other_file, "--floor", toy_file, "--out", tmp_path / "c")


def test_metrics_of_whole_showers(anycalo: Run, toy_file: Path, other_file: Path, tmp_path: Path) -> None:
    words = ("evaluate", toy_file, other_file, "--bootstrap", 100, "--out", tmp_path / "report")
    outcome = anycalo(*words)
    assert outcome.code == 0
    assert "Classifier AUC (boosted trees)" in outcome.out
    written = json.loads((tmp_path / "report" / "results.json").read_text())
    assert {"auc", "fpd", "kpd", "precision", "recall", "density", "coverage"} <= set(written["metrics"])
    assert 0.35 < written["metrics"]["auc"]["value"] < 0.65


def test_samples_that_cannot_be_compared(refused: Refused, toy_file: Path, tmp_path: Path) -> None:
    other = tmp_path / "thicker.h5"
    toy_showers(Detector.from_toml(SMALL.replace("5.0 }", "6.0 }")), 50, 2).write(other)
    assert "detector" in refused("evaluate", toy_file, other, "--out", tmp_path / "report")
    assert "at least 100" in refused("evaluate", toy_file, toy_file, "--bootstrap", 10, "--out", tmp_path / "report")


def test_outputs_are_checked_before_anything_is_read(refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "report").mkdir()
    (tmp_path / "file").write_text("mine")
    words = ("evaluate", tmp_path / "no.h5", tmp_path / "no.h5", "--out")
    assert "exists already" in refused(*words, tmp_path / "report")
    assert "is a file" in refused(*words, tmp_path / "file")
    assert "cannot be written" in refused(*words, tmp_path / "file" / "report")

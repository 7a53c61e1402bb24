"""`anycalo finetune` and `anycalo study`: adapters that generate, whole models, and what is refused."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from outcome import Refused, Run

from anycalo.cli import finetune as command
from anycalo.evaluate.validation import DistanceCheck
from anycalo.geometry import Detector
from anycalo.models import Model, load_model
from anycalo.showers import Showers
from anycalo.train import FinetuneConfig
from anycalo.train.finetune_report import Comparison
from toyshowers import toy_showers


def test_an_adapter_is_written_and_generates(
    anycalo: Run, toy_model: Path, toy_file: Path, tmp_path: Path, small_detector: Detector
) -> None:
    words = ("finetune", toy_model, "--data", toy_file, "-n", 40, "--steps", 2, "--threads", 1, "--json")
    outcome = anycalo(*words, "--method", "lora", "--rank", 1, "--out", tmp_path / "mine")
    assert outcome.code == 0, outcome.err
    assert outcome.json["adapter"] is True
    assert {p.name for p in (tmp_path / "mine").iterdir()} == {"adapter.json", "adapter.safetensors"}
    assert outcome.json["finetuning"]["showers"] == 40
    made = anycalo("generate", tmp_path / "mine", "--energy", "2GeV", "-n", 3, "--out", tmp_path / "fast.h5")
    assert made.code == 0, made.err
    assert len(Showers.open(tmp_path / "fast.h5")) == 3


def test_the_whole_model_is_written(anycalo: Run, toy_model: Path, toy_file: Path, tmp_path: Path) -> None:
    words = ("finetune", toy_model, "--data", toy_file, "-n", 40, "--method", "full", "--steps", 1, "--out", tmp_path / "mine")
    outcome = anycalo(*words)
    assert outcome.code == 0, outcome.err
    assert "(100.00%)" in outcome.out
    assert "flow" in outcome.out
    assert "denoiser" in outcome.out
    assert load_model(tmp_path / "mine").family == "caloclouds"


def test_what_is_taken_back_is_said(
    anycalo: Run, toy_model: Path, toy_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever becomes of the likelihood, the first part changed is said to be no nearer and the second to be nearer."""
    answers = [
        Comparison(before=2.0, after=2.5, change=0.22, error=0.1),
        Comparison(before=2.0, after=1.5, change=-0.29, error=0.1),
        Comparison(before=2.0, after=1.5, change=-0.29, error=0.1),
    ]

    class Told(DistanceCheck):
        def __call__(self, model: Model) -> Comparison:
            return answers.pop(0)

    monkeypatch.setattr(command, "DistanceCheck", Told)
    monkeypatch.setattr(command, "FinetuneConfig", lambda **given: FinetuneConfig(**given, sigmas=-float("inf"), few=0))
    words = ("finetune", toy_model, "--data", toy_file, "-n", 40, "--method", "full", "--steps", 1, "--threads", 1)
    outcome = anycalo(*words, "--out", tmp_path / "mine")
    assert outcome.code == 0, outcome.err
    said = " ".join(outcome.out.split())
    assert "2.00 floors before, 1.50 after; taken back, since showers with it were no nearer: flow" in said
    assert [line.split()[-2:] for line in outcome.out.splitlines() if line.startswith("flow ")] == [["taken", "back"]]
    assert [line.split()[-1] for line in outcome.out.splitlines() if line.startswith("denoiser ")] == ["changed"]
    stages = load_model(tmp_path / "mine").card["finetuning"]["stages"]
    assert [stages[name]["taken_back"] for name in ("flow", "denoiser")] == [True, False]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--method", "bitfitt"], "bitfitt"),
        (["--method", "lora", "--rank", "0"], "rank is 0"),
        (["-n", "500"], "500 showers asked for; there are 200"),
        (["--steps", "0"], "steps is 0; expected at least 1"),
        (["--patience", "0"], "patience is 0; expected at least 1"),
    ],
)
def test_requests_that_make_no_sense(
    refused: Refused, toy_model: Path, toy_file: Path, tmp_path: Path, more: list[str], message: str
) -> None:
    assert message in refused("finetune", toy_model, "--data", toy_file, "--out", tmp_path / "mine", *more)


def test_a_folder_that_exists_is_refused(refused: Refused, toy_model: Path, toy_file: Path, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    message = refused("finetune", toy_model, "--data", toy_file, "--out", tmp_path / "there")
    assert "exists already; choose another name or remove it" in message


def test_showers_of_two_detectors_are_refused(
    refused: Refused, toy_model: Path, toy_file: Path, tmp_path: Path, small_detector: Detector
) -> None:
    other = dataclasses.replace(small_detector, name="other")
    toy_showers(other, 12, 1).write(tmp_path / "other.h5")
    message = refused("finetune", toy_model, "--data", toy_file, "--data", tmp_path / "other.h5", "--out", tmp_path / "mine")
    assert "the showers are of 2 detectors (small, other); expected one" in message


def test_a_study_through_the_command_line(
    anycalo: Run, refused: Refused, tmp_path: Path, toy_model: Path, toy_file: Path
) -> None:
    recipe = tmp_path / "study.toml"
    recipe.write_text(
        'showers = [20]\nmethods = ["bitfit"]\nseeds = [1]\nlearning_rates = [1e-3]\nsteps = 1\ntest_showers = 40\n'
        f'[[base]]\nname = "toy"\nmodel = "{toy_model}"\n'
        f'[[target]]\nname = "small"\ntraining = "{toy_file}"\ntest = "{toy_file}"\n'
    )
    outcome = anycalo("study", recipe, "--out", tmp_path / "out", "--threads", 1)
    assert outcome.code == 0, outcome.err
    assert "2 of 2 cells are done." in outcome.out
    assert "| bitfit |" in outcome.out
    assert "expected a share such as 2/4" in refused("study", recipe, "--out", tmp_path / "out", "--part", "2")

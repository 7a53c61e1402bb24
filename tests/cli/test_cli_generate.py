"""`anycalo generate`: showers from a small model, warnings outside its domain, and what is refused."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from outcome import Refused, Run

from anycalo.cli import generate
from anycalo.geometry import Detector
from anycalo.showers import Showers
from samples import same


def test_showers_of_the_energies_asked_for(anycalo: Run, toy_model: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "fast.h5"
    words = ("generate", toy_model, "--energy", "2GeV:3GeV", "-n", 12, "--seed", 4, "--batch", 5, "--threads", 1, "--out", out)
    outcome = anycalo(*words)
    assert outcome.code == 0
    assert outcome.err == ""
    assert "12 showers (gamma, 2" in outcome.out
    showers = Showers.open(out)
    assert len(showers) == 12
    assert 2000 <= showers.incident.energy_mev.min() <= showers.incident.energy_mev.max() <= 3000
    assert showers.provenance["command"] == shlex.join(map(str, ("anycalo", *words)))
    assert anycalo(*words[:-1], tmp_path / "again.h5").code == 0
    assert same(Showers.open(tmp_path / "again.h5"), showers)
    assert anycalo(*words[:-1], tmp_path / "other.h5", "--seed", 5).code != 0  # given twice
    other = tuple(5 if word == 4 else word for word in words[:-1])
    assert anycalo(*other, tmp_path / "other.h5").code == 0
    assert not same(Showers.open(tmp_path / "other.h5"), showers)


def test_showers_like_those_of_a_file(anycalo: Run, toy_model: Path, toy_file: Path, tmp_path: Path) -> None:
    assert anycalo("generate", toy_model, "--like", toy_file, "-n", 30, "--threads", 1, "--out", tmp_path / "a.h5").code == 0
    truth, fast = Showers.open(toy_file, 0, 30), Showers.open(tmp_path / "a.h5")
    np.testing.assert_array_equal(fast.incident.energy_mev, truth.incident.energy_mev)
    np.testing.assert_array_equal(fast.incident.direction, truth.incident.direction)


def test_outside_the_training_domain_is_allowed_and_warned_about(anycalo: Run, toy_model: Path, tmp_path: Path) -> None:
    outcome = anycalo("generate", toy_model, "--energy", "11GeV", "-n", 2, "--particle", "electron", "--out", tmp_path / "a.h5")
    assert outcome.code == 0
    warnings = outcome.err.splitlines()
    assert len(warnings) == 2
    assert all(line.startswith("anycalo: warning: outside the training domain: ") for line in warnings)
    assert "electron" in warnings[0]
    assert "11000" in warnings[1]
    inside = anycalo("generate", toy_model, "--energy", "5GeV", "-n", 2, "--out", tmp_path / "b.h5")
    assert (inside.code, inside.err) == (0, "")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "nothing says which showers; expected --energy with -n, or --like"),
        (["--energy", "5GeV"], "expected --energy with -n"),
        (["--energy", "5GeV", "-n", "0"], "0 showers asked for"),
        (["--energy", "5", "-n", "1"], "has no unit"),
        (["--energy", "5GeV", "-n", "1", "--batch", "0"], "batch_size is 0"),
        (["--energy", "5GeV", "-n", "1", "--seed", "-1"], "seed"),
        (["--energy", "5GeV", "-n", "1", "--threads", "0"], "0 threads asked for"),
        (["--energy", "5GeV", "-n", "1", "--detector", "ild-ecal"], "ild-ecal"),
        (["--energy", "5GeV", "-n", "1", "--particle", "pion"], "particle 'pion' is unknown"),
    ],
)
def test_requests_that_make_no_sense(refused: Refused, toy_model: Path, tmp_path: Path, words: list[str], message: str) -> None:
    assert message in refused("generate", toy_model, *words, "--out", tmp_path / "new" / "a.h5")


def test_like_has_conditions(refused: Refused, toy_model: Path, toy_file: Path, tmp_path: Path) -> None:
    words = ("generate", toy_model, "--like", toy_file, "--out", tmp_path / "a.h5")
    assert "--like and --energy are both given" in refused(*words, "--energy", "5GeV")
    assert "201 showers asked for, but" in refused(*words, "-n", 201)
    assert "no such file" in refused("generate", toy_model, "--like", tmp_path / "no.h5", "--out", tmp_path / "a.h5")


def test_outputs_are_checked_before_anything_is_loaded(refused: Refused, toy_file: Path, tmp_path: Path) -> None:
    (tmp_path / "a.h5").write_text("mine")
    words = ("generate", "no-such-model", "--energy", "5GeV", "-n", 1, "--out")
    assert "exists already" in refused(*words, tmp_path / "a.h5")
    assert "cannot be written" in refused(*words, tmp_path / "a.h5" / "b.h5")


def shorten(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: shutil.rmtree(folder), "no model"),
        (lambda folder: (folder / "model.json").unlink(), "model.json is missing"),
        (lambda folder: (folder / "model.safetensors").unlink(), "model.safetensors is missing"),
        (lambda folder: (folder / "model.json").write_text("{"), "damaged"),
        (
            lambda folder: (folder / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:-100]),
            "damaged",
        ),
    ],
)
def test_a_broken_model_is_refused(
    refused: Refused, toy_model: Path, tmp_path: Path, damage: Callable[[Path], object], message: str
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(toy_model, folder)
    damage(folder)
    error = refused("generate", folder, "--energy", "5GeV", "-n", 1, "--out", tmp_path / "a.h5")
    assert message in error
    assert str(folder) in error


def test_an_interruption_keeps_what_is_finished(
    anycalo: Run, toy_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = generate.generate_file

    def interrupted(*arguments, progress, **more):  # type: ignore[no-untyped-def]
        def stop(done: int, total: int) -> None:
            raise KeyboardInterrupt

        return real(*arguments, progress=stop, **more)

    words = ("generate", toy_model, "--energy", "5GeV", "-n", 4, "--batch", 2, "--threads", 1, "--out", tmp_path / "a.h5")
    with monkeypatch.context() as patch:
        patch.setattr(generate, "generate_file", interrupted)
        outcome = anycalo(*words)
    assert outcome.code == 130
    assert f"finished showers are kept in {tmp_path / 'a.h5'}.part. The same command goes on from there." in outcome.err
    assert len(Showers.open(tmp_path / "a.h5.part")) == 2
    assert anycalo(*words).code == 0
    assert [path.name for path in tmp_path.iterdir()] == ["a.h5"]
    assert len(Showers.open(tmp_path / "a.h5")) == 4


def test_a_model_of_many_detectors_takes_that_of_the_file(anycalo: Run, refused: Refused, tmp_path: Path) -> None:
    words = ("generate", "anycalo-base", "--like", "ild-photons-reference", "-n", 2, "--out", tmp_path / "fast.h5")
    assert anycalo(*words).code == 0
    assert Showers.open(tmp_path / "fast.h5").detector == Detector.load("ild-ecal")
    assert "6500 detectors; say which with --detector" in refused(
        "generate", "anycalo-base", "--energy", "5GeV", "-n", 2, "--out", tmp_path / "no.h5"
    )

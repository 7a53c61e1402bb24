"""Running the command line in this process, and a small model for the commands that need one."""

from __future__ import annotations

from pathlib import Path

import pytest
from outcome import Outcome, Refused, Run

from anycalo.cli import main
from anycalo.geometry import Detector
from toyshowers import toy_showers


@pytest.fixture
def anycalo(capfd: pytest.CaptureFixture[str]) -> Run:
    """Runs `anycalo` with the given words; paths may be among them."""

    def run(*words: object) -> Outcome:
        code = main([str(word) for word in words])
        out, err = capfd.readouterr()
        return Outcome(code=code, out=out, err=err)

    return run


@pytest.fixture
def refused(anycalo: Run, tmp_path: Path) -> Refused:
    """Runs a command line that must fail with exit code 2, one message, and nothing changed in `tmp_path`."""

    def run(*words: object) -> str:
        before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
        folders = {path for path in tmp_path.rglob("*") if path.is_dir()}
        outcome = anycalo(*words)
        assert outcome.code == 2
        assert outcome.out == ""
        assert outcome.err.startswith("anycalo: error: ")
        assert "Traceback" not in outcome.err
        assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()} == before
        assert {path for path in tmp_path.rglob("*") if path.is_dir()} == folders
        return outcome.err

    return run


@pytest.fixture(scope="session")
def toy_file(small_detector: Detector, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of 200 toy photons of 1 to 10 GeV."""
    path = tmp_path_factory.mktemp("toy") / "toy.h5"
    toy_showers(small_detector, 200, 1).write(path)
    return path


@pytest.fixture(scope="session")
def toy_model(toy_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model trained on them with the smallest recipe, through the command line."""
    folder = tmp_path_factory.mktemp("model") / "toy"
    assert main(["train", "caloclouds-tiny", "--data", str(toy_file), "--out", str(folder), "--threads", "1"]) == 0
    return folder

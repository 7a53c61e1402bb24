"""`anycalo simulate`: what is refused before Geant4 starts, and a few real showers."""

from __future__ import annotations

import json
import shlex
import signal
import subprocess
import sys
import time
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from outcome import Refused, Run

from anycalo.cli import simulate
from anycalo.showers import Showers
from anycalo.simulate import Settings
from samples import SMALL


@pytest.fixture
def small_file(tmp_path: Path) -> Path:
    path = tmp_path / "small.toml"
    path.write_text(SMALL)
    return path


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--particle", "muon"], "particle 'muon' is unknown; expected one of gamma, electron, positron"),
        (["--direction", "0.3,0,1", "--max-angle", "20deg"], "a fixed direction and a largest angle are both given"),
        (["--direction", "0,0,-1"], "dz > 0"),
        (["--spectrum", "flat"], "flat"),
        (["--physics", "opt7"], "opt7"),
        (["--cut", "0mm"], "production cut is 0.0 mm"),
        (["--merge", "1"], "length is '1', which has no unit"),
        (["-n", "0"], "0 showers asked for; expected at least 1"),
        (["--seed", "-1"], "seed is -1"),
    ],
)
def test_a_request_that_makes_no_sense(
    refused: Refused, small_file: Path, tmp_path: Path, words: list[str], message: str
) -> None:
    given = {"-n": "2", "--energy": "1GeV", "--out": str(tmp_path / "new" / "a.h5")}
    given |= dict(zip(words[::2], words[1::2], strict=True))
    assert message in refused("simulate", small_file, *(word for pair in given.items() for word in pair))


def test_an_output_that_exists_or_cannot_be_written(refused: Refused, small_file: Path, tmp_path: Path) -> None:
    words = ("simulate", small_file, "-n", 1, "--energy", "1GeV", "--out")
    (tmp_path / "a.h5").write_text("mine")
    assert "exists already; choose another name" in refused(*words, tmp_path / "a.h5")
    assert "is a directory" in refused(*words, tmp_path)
    assert "cannot be written: Not a directory" in refused(*words, small_file / "a.h5")
    assert (tmp_path / "a.h5").read_text() == "mine"


def test_without_geant4_tables_the_message_says_how_to_get_them(
    refused: Refused, small_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("G4LEDATA", str(tmp_path / "nowhere"))
    error = refused("simulate", small_file, "-n", 1, "--energy", "1GeV", "--out", tmp_path / "new" / "a.h5")
    assert "anycalo[geant4]" in error


def test_every_option_arrives(anycalo: Run, toy_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is typed is what the production is asked for."""
    asked: dict[str, Any] = {}

    def run(detector: object, beam: object, n: int, out: Path, **more: object) -> Path:
        asked.update(detector=detector, beam=beam, n=n, out=out, **more)
        return toy_file

    monkeypatch.setattr(simulate, "run", run)
    words = (
        "simulate ild-ecal -n 7 --particle electron,positron --particle gamma --energy 500MeV:2GeV --spectrum log"
        " --max-angle 30deg --physics opt4 --cut 0.05mm --fluorescence --merge 0mm --workers 3 --seed 9 --overwrite --out a.h5"
    )
    assert anycalo(*words.split()).code == 0
    assert asked["detector"].name == "ild-ecal"
    assert asked["beam"].particles == ("electron", "positron", "gamma")
    assert asked["beam"].energy_mev == (500.0, 2000.0)
    assert asked["beam"].spectrum == "log"
    assert asked["beam"].max_angle_rad == pytest.approx(np.pi / 6)
    assert asked["settings"] == Settings(physics="opt4", cut_mm=0.05, fluorescence=True, merge_mm=0.0)
    assert (asked["n"], asked["workers"], asked["seed"], asked["overwrite"]) == (7, 3, 9, True)
    assert asked["command"] == f"anycalo {words}"
    assert anycalo("simulate", "ild-ecal", "-n", 1, "--energy", "1GeV", "--direction", "-3,0,4", "--out", "a b.h5").code == 0
    assert asked["beam"].direction == pytest.approx((-0.6, 0, 0.8))
    assert asked["command"] == "anycalo simulate ild-ecal -n 1 --energy 1GeV --direction -3,0,4 --out 'a b.h5'"
    assert asked["settings"] == Settings()


@pytest.mark.geant4
def test_a_few_showers(anycalo: Run, refused: Refused, small_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "deep" / "photons.h5"
    words = ("simulate", small_file, "-n", 4, "--energy", "200MeV:400MeV", "--seed", 3, "--workers", 1, "--out", out)
    outcome = anycalo(*words, "--json")
    assert outcome.code == 0
    assert outcome.json["n_showers"] == 4
    showers = Showers.open(out)
    assert showers.provenance["command"] == shlex.join(map(str, ("anycalo", *words, "--json")))
    assert showers.provenance["seed"] == 3
    assert 200 <= showers.incident.energy_mev.min() <= showers.incident.energy_mev.max() <= 400
    assert [path.name for path in out.parent.iterdir()] == ["photons.h5"]
    assert anycalo("inspect", out).code == 0
    assert "exists already" in refused(*words)


@pytest.mark.geant4
@pytest.mark.slow
def test_interrupted_and_resumed(anycalo: Run, small_file: Path, tmp_path: Path) -> None:
    """Ctrl-C says what is kept; the same command finishes, with the showers of a run that was left alone."""
    words = ["simulate", str(small_file), "-n", "48", "--energy", "5GeV", "--workers", "1", "--out"]
    out = tmp_path / "a.h5"
    process = subprocess.Popen(
        [sys.executable, "-m", "anycalo", *words, str(out)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # Tests that run in the background of a shell are deaf to SIGINT, and so would this be.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    deadline = time.monotonic() + 120
    while (
        len(list(out.with_name("a.h5.parts").glob("shard-*.h5"))) < 2 and time.monotonic() < deadline and process.poll() is None
    ):
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 130, stderr
    assert stdout == ""
    assert stderr == (
        f"anycalo: interrupted: finished showers are kept in {out}.parts. The same command goes on from there;"
        " remove the folder to give up.\n"
    )
    kept = len(list(out.with_name("a.h5.parts").glob("shard-*.h5")))
    assert kept >= 2
    assert not out.exists()
    assert anycalo(*words, out).code == 0
    assert anycalo(*words, tmp_path / "b.h5").code == 0
    one, two = Showers.open(out), Showers.open(tmp_path / "b.h5")
    assert len(one) == 48
    np.testing.assert_array_equal(one.energy_mev, two.energy_mev)
    np.testing.assert_array_equal(one.offsets, two.offsets)


def test_a_zoo_brings_its_own_detectors_and_beam(refused: Refused, small_file: Path, tmp_path: Path) -> None:
    words = ("simulate", "-n", 2, "--out", tmp_path / "zoo")
    assert "--zoo brings its own detectors and beam" in refused(*words, small_file, "--zoo", "zoo-train")
    assert "--zoo brings its own detectors and beam" in refused(*words, "--energy", "1GeV", "--zoo", "zoo-train")
    assert "no zoo 'zoo-trian'" in refused(*words, "--zoo", "zoo-trian")
    assert "expected a detector and --energy" in refused(*words)


@pytest.mark.geant4
def test_a_zoo_is_simulated_into_a_folder(anycalo: Run, tmp_path: Path) -> None:
    recipe = (resources.files("anycalo.geometry") / "zoos" / "zoo-train.toml").read_text()
    recipe = recipe.replace("showers_per_detector = 25", "showers_per_detector = 2").replace(
        "[1000.0, 100000.0]", "[200.0, 400.0]"
    )
    (tmp_path / "tiny.toml").write_text(recipe)
    outcome = anycalo("simulate", "--zoo", tmp_path / "tiny.toml", "-n", 3, "--out", tmp_path / "zoo", "--json")
    assert outcome.code == 0
    files = json.loads(outcome.out)["files"]
    assert [len(Showers.open(f)) for f in files] == [2, 1]


@pytest.mark.geant4
def test_a_compact_file_is_smaller_and_says_so(anycalo: Run, small_file: Path, tmp_path: Path) -> None:
    words = ("simulate", small_file, "-n", 4, "--energy", "1GeV", "--out")
    assert anycalo(*words, tmp_path / "a.h5").code == 0
    assert anycalo(*words, tmp_path / "b.h5", "--compact").code == 0
    assert Showers.open(tmp_path / "b.h5").provenance["compact"]
    a, b = Showers.open(tmp_path / "a.h5"), Showers.open(tmp_path / "b.h5")
    np.testing.assert_allclose(b.energy_mev, a.energy_mev, rtol=1e-3)
    assert not np.array_equal(b.energy_mev, a.energy_mev)

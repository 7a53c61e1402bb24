"""`anycalo export`, `embed` and `bench`: what they print and what they refuse."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from outcome import Refused, Run

from anycalo.embed import DdmlLayout
from anycalo.showers import ShowerFile

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit")


def test_an_export_says_what_it_wrote(anycalo: Run, toy_model: Path, tmp_path: Path) -> None:
    out = tmp_path / "cc.pt"
    outcome = anycalo("export", toy_model, "--to", "ddml-torchscript", "--out", out, "--length", "7000", "--json")
    assert outcome.code == 0, outcome.err
    assert outcome.json["path"] == str(out)
    assert outcome.json["detector"] == "small"
    assert outcome.json["size_bytes"] == out.stat().st_size
    found = torch.jit.load(str(out))(*(torch.tensor([[v]]) for v in (5.0, 0.0, 0.0)))
    counts, points = DdmlLayout(length=7000, layers=6).unpack(found.numpy())
    assert counts.sum() == len(points) > 0


def test_what_does_not_fit_is_refused(refused: Refused, toy_model: Path, tmp_path: Path) -> None:
    ask = ("export", toy_model, "--to", "ddml-python", "--out", tmp_path / "calo.py")
    assert "expected a lower highest energy" in refused(*ask, "--length", "200")
    assert "6 layers and this DDML reads 30" in refused(*ask, "--layers", "30")
    assert "reaches outside the trained range" in refused(*ask, "--energy", "1GeV:1TeV")
    assert "particles positron were not trained on" in refused(*ask, "--particle", "positron")


def test_a_run_file_that_is_wrong_is_refused(refused: Refused, tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    path.write_text('detector = "ild-ecal"\nmodel = "caloclouds-ild"\n')
    assert "one source of particles" in refused("embed", path, "--out", tmp_path / "a.h5")


@pytest.mark.timed
def test_bench_times_every_contender(anycalo: Run, toy_model: Path, tmp_path: Path) -> None:
    picture = tmp_path / "speed.png"
    words = ("bench", toy_model, "--energy", "2GeV,8GeV", "--batch", "1,4", "--against", "caloclouds3", "--rounds", "3")
    outcome = anycalo(*words, "--out", picture, "--json")
    assert outcome.code == 0, outcome.err
    timings = outcome.json["timings"]
    assert {(t["name"], t["energy_mev"], t["batch"]) for t in timings} == {
        (name, energy, batch) for name in (str(toy_model), "caloclouds3") for energy in (2e3, 8e3) for batch in (1, 4)
    }
    assert all(len(t[kind]["rounds"]) == 3 and min(t[kind]["rounds"]) > 0 for t in timings for kind in ("wall_ms", "first_ms"))
    assert outcome.json["parameters"]["caloclouds3"]["denoiser"] == 69_608
    assert picture.stat().st_size > 0
    # Untrained, but drawing about as many points as the model that set its scales.
    points = {(t["name"] == "caloclouds3", t["energy_mev"]): t["points"] for t in timings if t["batch"] == 4}
    assert np.log(points[True, 8e3] / points[False, 8e3]) == pytest.approx(0, abs=0.5)


def test_bench_times_every_shipped_model_that_serves_the_detector(anycalo: Run) -> None:
    for detector, names in (("ild-ecal", {"anycalo-base", "caloclouds-ild"}), ("cu-si", {"anycalo-base"})):
        outcome = anycalo("bench", "--detector", detector, "--energy", "2GeV", "--rounds", "3", "--json")
        assert outcome.code == 0, outcome.err
        assert {t["name"] for t in outcome.json["timings"]} == names
        assert outcome.err.count("layer spacing_x0") <= 1, "what lies outside the domain is said once"


def test_bench_refuses_strangers(refused: Refused, toy_model: Path) -> None:
    assert "expected geant4 or caloclouds3" in refused("bench", toy_model, "--energy", "2GeV", "--against", "fluka")
    assert "expected whole numbers" in refused("bench", toy_model, "--energy", "2GeV", "--batch", "0")


@pytest.mark.slow
def test_generate_runs_an_exported_folder(anycalo: Run, toy_model: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    folder = tmp_path / "onnx"
    assert anycalo("export", toy_model, "--to", "onnx", "--out", folder).code == 0
    made = anycalo("generate", folder, "-n", "3", "--energy", "2GeV:8GeV", "--out", tmp_path / "a.h5")
    assert made.code == 0, made.err
    with ShowerFile(tmp_path / "a.h5") as file:
        assert len(file) == 3
        assert file.provenance["generator"] == "AnyCalo onnx"

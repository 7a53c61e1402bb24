"""`anycalo convert`: files in and out, what is told, what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from outcome import Outcome

from anycalo.showers import Showers
from foreignfiles import clouds_of, voxels, write_calochallenge, write_caloclouds


@pytest.fixture
def electrons(tmp_path: Path) -> Path:
    """A CaloChallenge file of data set 2."""
    energy, grid = voxels(12, 6480, 1, response=0.85)
    return write_calochallenge(tmp_path / "dataset_2_1.hdf5", energy, grid)


def test_a_conversion_there_and_back(anycalo: Callable[..., Outcome], electrons: Path, tmp_path: Path) -> None:
    out = tmp_path / "a.h5"
    told = anycalo(
        "convert", electrons, out, "--from", "calochallenge-2", "--threshold", "15.15keV", "--seed", 3, "--json"
    ).json
    assert (told["from"], told["to"], told["showers"], told["detector"]) == (
        "calochallenge-2",
        "anycalo",
        12,
        "calochallenge-2",
    )
    showers = Showers.open(out)
    assert told["points"] == showers.n_points
    assert told["read_mev"] == pytest.approx(showers.visible_mev().sum() + sum(told["lost_mev"].values()), rel=1e-6)
    assert "--threshold 15.15keV" in told["provenance"]["command"]
    outcome = anycalo("convert", out, tmp_path / "b.hdf5", "--to", "calochallenge-2")
    assert outcome.code == 0
    assert "12 with" in outcome.out
    assert "nothing" in outcome.out
    assert anycalo("inspect", out).code == 0


def test_lengths_of_either_sign(anycalo: Callable[..., Outcome], tmp_path: Path) -> None:
    clouds, energy = clouds_of(6, 30, 1)
    for cloud in clouds:
        cloud[:, 1] -= 50
        cloud[:, 3] /= 1e3
    source = write_caloclouds(tmp_path / "in.h5", clouds, energy, None, rows_first=True)
    told = anycalo("convert", source, tmp_path / "a.h5", "--origin", "0mm,-50mm", "--depth", "z", "--json").json
    assert "origin at 0, -50 mm" in told["provenance"]["reading"]["positions"]
    assert np.allclose(Showers.open(tmp_path / "a.h5").y_mm, np.concatenate(clouds)[:, 1] + 50, atol=1e-3)


def test_refusals_are_one_message_and_leave_nothing(refused: Callable[..., str], electrons: Path, tmp_path: Path) -> None:
    out = tmp_path / "deep" / "a.h5"
    assert "calochallenge-3 has 40,500" in refused("convert", electrons, out, "--from", "calochallenge-3")
    assert "Did you mean 'calochallenge-2'?" in refused("convert", electrons, out, "--from", "calochalenge-2")
    assert "has no unit" in refused("convert", electrons, out, "--threshold", "15")
    assert "expected two positions X,Y" in refused("convert", electrons, out, "--origin", "5mm")
    assert "option 'depth' means nothing" in refused("convert", electrons, out, "--depth", "y")
    assert "exists already" in refused("convert", electrons, electrons)
    assert "give the sampling constant 0.033" in refused("convert", electrons, out, "--sampling-constant", "1")
    electrons.write_bytes(electrons.read_bytes()[:-100])
    assert "cut off before its end" in refused("convert", electrons, out)

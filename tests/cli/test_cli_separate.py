"""`anycalo separate`: a figure and numbers for pairs of photons."""

from __future__ import annotations

import json
from pathlib import Path

from outcome import Refused, Run

from anycalo.geometry import Detector
from toyshowers import toy_showers


def test_pairs_of_photons(anycalo: Run, refused: Refused, toy_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "pairs"
    words = ("separate", toy_file, toy_file, "-n", 48, "--distance", "60mm", "--out", out)
    found = anycalo(*words, "--json")
    assert found.code == 0
    written = json.loads((out / "separation.json").read_text())
    assert written["settings"]["n_pairs"] == 48
    assert sum(written["truth"]["pairs"]) == 48
    # The same showers in the same pairs.
    assert written["truth"]["found"] == written["fast"]["found"] == found.json["fast"]["found"]
    assert (out / "separation.png").read_bytes().startswith(b"\x89PNG")
    assert "exists already" in refused(*words)
    outcome = anycalo(*words, "--overwrite")
    assert outcome.code == 0
    assert "half of the pairs are found at" in outcome.out


def test_photons_of_many_directions_are_refused(refused: Refused, small_detector: Detector, tmp_path: Path) -> None:
    inclined = tmp_path / "inclined.h5"
    toy_showers(small_detector, 50, 1, max_angle_rad=0.3).write(inclined)
    assert "fixed direction" in refused("separate", inclined, inclined, "--out", tmp_path / "pairs")

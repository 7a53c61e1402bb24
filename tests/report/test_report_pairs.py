"""The figure and the numbers of two photons."""

import json

import numpy as np
import pytest

from anycalo.errors import OutputError
from anycalo.evaluate import PairSettings, Separation
from anycalo.report import write_separation
from anycalo.report.pairs import efficiencies


@pytest.fixture
def found():
    return Separation(
        edges_mm=np.array([0.0, 20.0, 40.0, 60.0]),
        n_truth=np.array([10, 20, 30]),
        n_fast=np.array([10, 20, 0]),
        found_truth=np.array([0, 12, 30]),
        found_fast=np.array([1, 10, 0]),
        chi2=1.5,
        p_value=0.47,
        settings=PairSettings(),
        warnings=(),
        provenance={"detector": "toy"},
    )


def test_both_files_are_written_or_none(found, tmp_path):
    picture = write_separation(found, tmp_path / "pairs")
    assert sorted(p.name for p in picture.parent.iterdir()) == ["separation.json", "separation.png"]
    assert picture.read_bytes().startswith(b"\x89PNG")
    written = json.loads((tmp_path / "pairs" / "separation.json").read_text("utf-8"))
    assert written["truth"]["efficiency"] == [0.0, 0.6, 1.0]
    assert written["fast"]["efficiency"][2] is None  # no pair, no number
    assert written["truth"]["half_mm"] == pytest.approx(10 + 20 * 0.5 / 0.6)
    with pytest.raises(OutputError, match="exists already"):
        write_separation(found, tmp_path / "pairs")


def test_the_figure_shows_the_efficiencies(found):
    main, below = efficiencies(found, "A", "B").axes
    drawn = [container.lines[0].get_ydata() for container in main.containers]
    np.testing.assert_allclose(drawn[0], [0.0, 0.6, 1.0])
    np.testing.assert_allclose(drawn[1], [0.1, 0.5, np.nan])
    np.testing.assert_allclose(below.containers[0].lines[0].get_ydata(), [0.1, -0.1, np.nan])

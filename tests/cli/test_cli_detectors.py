"""`anycalo detectors`: presets, numbers, drawings, and detector files that are wrong."""

from __future__ import annotations

from pathlib import Path

import pytest
from outcome import Refused, Run

from anycalo.geometry import Detector, derived, presets
from samples import SMALL


def test_the_presets_are_listed(anycalo: Run) -> None:
    outcome = anycalo("detectors")
    assert outcome.code == 0
    assert all(name in outcome.out for name in presets())
    assert set(anycalo("detectors", "--json").json) == set(presets())


def test_one_detector_in_numbers(anycalo: Run) -> None:
    detector = Detector.load("ild-ecal")
    found = anycalo("detectors", "ild-ecal", "--json").json
    assert found["depth_x0"] == derived.depth_x0(detector)
    assert found["moliere_radius_mm"] == derived.moliere_radius_mm(detector)
    assert found["sampling_fraction"] == derived.sampling_fraction(detector)
    out = anycalo("detectors", "ild-ecal").out
    for text in (
        f"{derived.depth_x0(detector):.2f} X0",
        f"{derived.moliere_radius_mm(detector):.2f} mm",
        "5.088 x 5.088 mm cells",
    ):
        assert text in out


@pytest.mark.parametrize("name", presets())
def test_the_sketch_is_to_scale(anycalo: Run, name: str) -> None:
    """The run of each group of layers is as long as its share of the radiation lengths, to a column."""
    out = anycalo("detectors", name).out
    (line,) = [line.removeprefix("→ ") for line in out.splitlines() if line.startswith("→ ")]
    detector = Detector.load(name)
    about = derived.describe(detector)
    assert len(line) == 78
    for k, shade in enumerate("█▒"):
        share = sum(g["thickness_x0"] * (g["last"] - g["first"] + 1) for g in about["groups"][k::2]) / about["depth_x0"]
        assert line.count(shade) == pytest.approx(78 * share, abs=len(about["groups"]))


def test_a_drawing(anycalo: Run, refused: Refused, tmp_path: Path) -> None:
    path = tmp_path / "new" / "small.png"
    detector = tmp_path / "small.toml"
    detector.write_text(SMALL)
    outcome = anycalo("detectors", detector, "--out", path)
    assert outcome.code == 0
    assert f"drawn in {path}" in outcome.out
    assert path.read_bytes().startswith(b"\x89PNG")
    assert "exists already" in refused("detectors", detector, "--out", path)
    assert anycalo("detectors", detector, "--out", path, "--overwrite").code == 0
    assert "'.bmp'" in refused("detectors", detector, "--out", tmp_path / "small.bmp")


PITCH = 'kind = "rectangular"\npitch_mm = [5.0, 5.0]'
EDGES = 'kind = "edges"\nx_edges_mm = [-10, 5, 0, 10]\ny_edges_mm = [-10, 0, 10]'


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "thickness_mm = 5.0",
            "thickness_cm = 0.5",
            "line 10: unknown key 'thickness_cm' in slab. Did you mean",
        ),
        ("thickness_mm = 5.0", 'thickness_mm = "5 mm"', "line 10: thickness_mm is '5 mm'"),
        ("thickness_mm = 5.0", "thickness_mm = -5.0", "line 10: thickness_mm is -5.0"),
        ("G4_W", "G4_Wolfram", "line 10: "),
        (PITCH, EDGES, "line 5: x_edges_mm"),
        ("size_mm = [200.0, 200.0]", "size_mm = [200.0]", "line 2: size_mm is"),
        ('name = "small"', 'name = "small', "not valid TOML"),
    ],
)
def test_a_wrong_detector_file_names_line_and_key(refused: Refused, tmp_path: Path, old: str, new: str, message: str) -> None:
    path = tmp_path / "wrong.toml"
    path.write_text(SMALL.lstrip().replace(old, new))
    assert path.read_text() != SMALL.lstrip()
    error = refused("detectors", path)
    assert str(path) in error
    assert message in error
    # The same file is refused before a simulation begins, and nothing is left of that.
    words = ("simulate", path, "-n", 1, "--energy", "1GeV", "--out", tmp_path / "deep" / "a.h5")
    assert refused(*words) == error


def test_no_such_detector(refused: Refused, tmp_path: Path) -> None:
    assert "Did you mean 'ild-ecal'?" in refused("detectors", "ild-ecl")
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    assert "not a text file" in refused("detectors", tmp_path / "binary.toml")

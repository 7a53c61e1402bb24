"""The conversion itself: outputs checked first, options that mean something, formats told apart, accounts that close."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anycalo.errors import ConversionError, OutputError, ShowerFileError
from anycalo.geometry import Detector
from anycalo.showers import ShowerFile
from anycalo.showers.formats import FORMATS, Options, convert, format_of
from foreignfiles import voxels, write_calochallenge
from samples import SMALL, random_showers

DETECTOR = Detector.from_toml(SMALL)


@pytest.fixture
def photons(tmp_path: Path) -> Path:
    energy, grid = voxels(30, 368, 1, response=0.9)
    return write_calochallenge(tmp_path / "photons.hdf5", energy, grid)


def test_the_output_is_checked_before_anything_is_read(tmp_path: Path) -> None:
    """The input does not even exist."""
    (tmp_path / "a.h5").write_text("mine")
    with pytest.raises(OutputError, match="exists already"):
        convert(tmp_path / "nowhere.hdf5", tmp_path / "a.h5")
    assert (tmp_path / "a.h5").read_text() == "mine"
    with pytest.raises(ShowerFileError, match="no such file"):
        convert(tmp_path / "nowhere.hdf5", tmp_path / "deep" / "b.h5")
    assert [path.name for path in tmp_path.iterdir()] == ["a.h5"]


def test_a_file_is_not_converted_onto_itself(photons: Path) -> None:
    before = photons.read_bytes()
    with pytest.raises(OutputError, match="is the file to read"):
        convert(photons, photons, overwrite=True)
    assert photons.read_bytes() == before


def test_overwriting_keeps_the_old_file_until_the_new_one_is_whole(photons: Path, tmp_path: Path) -> None:
    target = tmp_path / "a.h5"
    target.write_text("old")

    def interrupt(done: int, total: int) -> None:
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert(photons, target, overwrite=True, progress=interrupt)
    assert target.read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.h5", "photons.hdf5"]
    convert(photons, target, overwrite=True)
    with ShowerFile(target) as file:
        assert len(file) == 30


@pytest.mark.parametrize("name", sorted(set(FORMATS) - {"anycalo"}))
def test_an_interrupted_writer_leaves_nothing(name: str, tmp_path: Path) -> None:
    if name == "edm4hep":
        pytest.importorskip("uproot", reason="uproot is not installed: pip install 'anycalo[root]'")
    detector = {"calochallenge-1-photons": "photons", "calochallenge-1-pions": "pions"}.get(name)
    from anycalo.showers.formats import atlas_detector

    showers = random_showers(atlas_detector(detector) if detector else Detector.load("calochallenge-2"), 5, 1)
    showers.incident.direction[:] = [0, 0, 1]
    showers.write(tmp_path / "a.h5")

    def interrupt(done: int, total: int) -> None:
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert(tmp_path / "a.h5", tmp_path / "b.out", target_format=name, progress=interrupt)
    assert [path.name for path in tmp_path.iterdir()] == ["a.h5"]
    convert(tmp_path / "a.h5", tmp_path / "b.out", target_format=name)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.h5", "b.out"]


def test_formats_are_told_apart_or_refused(photons: Path, tmp_path: Path) -> None:
    random_showers(DETECTOR, 3, 1).write(tmp_path / "a.h5")
    assert format_of(tmp_path / "a.h5") == "anycalo"
    assert format_of(photons) == "calochallenge-1-photons"
    with h5py.File(tmp_path / "foreign.h5", "w") as file:
        file["waveforms"] = np.zeros(3)
    with pytest.raises(ShowerFileError, match=r"of no known format; it holds waveforms. Say which it is, one of anycalo, "):
        format_of(tmp_path / "foreign.h5")
    (tmp_path / "text.h5").write_text("energy\n")
    with pytest.raises(ShowerFileError, match="not an HDF5 file"):
        format_of(tmp_path / "text.h5")
    with pytest.raises(ConversionError, match=r"'calochalenge-2' is unknown. Did you mean 'calochallenge-2'\?"):
        convert(photons, tmp_path / "b.h5", source_format="calochalenge-2")


def test_options_that_mean_nothing_are_refused(photons: Path, tmp_path: Path) -> None:
    with pytest.raises(
        ConversionError, match="option 'depth' means nothing from calochallenge-1-photons to anycalo; these do: binning"
    ):
        convert(photons, tmp_path / "a.h5", options=Options(depth="y"))
    convert(photons, tmp_path / "a.h5", options=Options(seed=3))
    with pytest.raises(ConversionError, match="option 'seed' means nothing from anycalo to anycalo; these do: none"):
        convert(tmp_path / "a.h5", tmp_path / "b.h5", options=Options(seed=3))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"point_unit": "gev"}, "point_unit is 'gev'; expected one of keV, MeV, GeV"),
        ({"depth": "w"}, "depth is 'w'; expected the axis x, y or z"),
        ({"threshold_mev": -1.0}, "threshold is -1.0 MeV"),
        ({"sampling_constant": 0.0}, "sampling constant is 0.0"),
        ({"seed": -1}, "seed is -1"),
        ({"particle": "muon"}, r"particle is 'muon'; expected one of gamma, electron, positron, pi\+, pi-"),
        ({"particle": 13}, "particle is '13'"),
    ],
)
def test_options_that_cannot_be(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(ConversionError, match=message):
        Options(**wrong)  # type: ignore[arg-type]


@given(st.sampled_from([("gamma", 22), ("photon", 22), ("e-", 11), ("pi+", 211), ("-11", -11), (22, 22), (-211, -211)]))
def test_particles_by_name_and_code(pair: tuple[str | int, int]) -> None:
    assert Options(particle=pair[0]).pdg(None) == pair[1]
    assert Options().pdg(pair[1]) == pair[1]


def test_provenance_tells_the_whole_way(photons: Path, tmp_path: Path) -> None:
    convert(photons, tmp_path / "a.h5", options=Options(threshold_mev=0.001, seed=4), command="anycalo convert ...")
    with ShowerFile(tmp_path / "a.h5") as file:
        first = file.provenance
    assert first["converted from"] == "photons.hdf5"
    assert first["format"] == "calochallenge-1-photons"
    assert first["command"] == "anycalo convert ..."
    assert "seed 4" in first["reading"]["positions"]
    assert "below 1 keV" in first["reading"]["threshold"]
    assert first["read"].endswith("MeV")
    convert(tmp_path / "a.h5", tmp_path / "b.h5")
    with ShowerFile(tmp_path / "b.h5") as file:
        assert file.provenance["original"] == first


def test_empty_files_are_refused(tmp_path: Path) -> None:
    path = write_calochallenge(tmp_path / "in.hdf5", np.zeros(0, dtype=np.float32), np.zeros((0, 368), dtype=np.float32))
    with pytest.raises(ShowerFileError, match="holds no shower"):
        convert(path, tmp_path / "a.h5")

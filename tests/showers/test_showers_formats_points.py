"""CaloClouds and showerdata files: every layout of rows, padding, depth and units; round trips; refusals."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from anycalo.errors import ShowerFileError
from anycalo.geometry import Detector
from anycalo.showers import Showers
from anycalo.showers.formats import Options, convert, format_of
from anycalo.showers.formats.depth import FRAME, find_placement, layouts
from foreignfiles import clouds_of, write_caloclouds, write_showerdata
from samples import SMALL, random_showers

ILD = Detector.load("ild-ecal")
# Fronts of the first and last silicon sensors of ILD's barrel ECAL, mm from the beam, and the thickness of one.
ILD_FIRST, ILD_LAST, ILD_SENSOR = 1811.34, 2010.05, 0.525


def ild_depths() -> np.ndarray:
    path = ILD, None
    layout = next(found for found in layouts(*path) if "ILD's ECAL" in found.words)
    return (layout.low + layout.high) / 2


def check(showers: Showers, clouds: list[np.ndarray], energy_gev: np.ndarray) -> None:
    """Showers hold the clouds (x, y, layer, MeV), in their order."""
    flat = np.concatenate(clouds)
    assert list(showers.counts) == [len(cloud) for cloud in clouds]
    np.testing.assert_allclose(showers.x_mm, flat[:, 0], atol=1e-4)
    np.testing.assert_allclose(showers.y_mm, flat[:, 1], atol=1e-4)
    assert np.array_equal(showers.layer, flat[:, 2])
    np.testing.assert_allclose(showers.energy_mev, flat[:, 3], rtol=3e-7)
    np.testing.assert_allclose(showers.incident.energy_mev, 1e3 * energy_gev, rtol=3e-7)


def as_stored(clouds: list[np.ndarray], axis: str, depth: np.ndarray) -> list[np.ndarray]:
    """x, y, layer, MeV to the file's x, y, z, GeV with the depth along `axis`."""
    stored = []
    for cloud in clouds:
        xyz = np.empty((len(cloud), 3))
        xyz[:, list(FRAME[axis])] = np.stack([cloud[:, 0], cloud[:, 1], depth[cloud[:, 2].astype(int)]], axis=1)
        stored.append(np.column_stack([xyz, cloud[:, 3] / 1e3]).astype(np.float32))
    return stored


@pytest.mark.parametrize("rows_first", [True, False])
@pytest.mark.parametrize("front", [True, False])
@pytest.mark.parametrize("axis", ["x", "y", "z"])
@pytest.mark.parametrize("depth", ["numbers", "numbers and a half", "mm", "ILD"])
def test_caloclouds_in_every_layout(rows_first: bool, front: bool, axis: str, depth: str, tmp_path: Path) -> None:
    clouds, energy = clouds_of(12, 30, 1)
    numbers = np.arange(30.0)
    depths = {"numbers": numbers, "numbers and a half": numbers + 0.5, "mm": ILD.layer_z_mm, "ILD": ild_depths()}[depth]
    source = write_caloclouds(
        tmp_path / "in.h5", as_stored(clouds, axis, depths), energy, None, rows_first=rows_first, front=front
    )
    assert format_of(source) == "caloclouds"
    done = convert(source, tmp_path / "a.h5")
    assert done.lost_mev == {}
    assert f"depth along the file's {axis}" in done.provenance["reading"]["positions"]
    showers = Showers.open(tmp_path / "a.h5")
    check(showers, clouds, energy)
    assert showers.detector == ILD
    assert set(showers.incident.pdg) == {22}
    assert (showers.incident.direction == [0, 0, 1]).all()


def test_the_frame_is_a_rotation() -> None:
    """Never a mirror image: the three permutations are even."""
    for axes in FRAME.values():
        assert np.linalg.det(np.eye(3)[list(axes)]) == pytest.approx(1)


def test_the_published_depths_of_ild_are_sensors() -> None:
    depths = ild_depths()
    assert depths[0] == pytest.approx(ILD_FIRST + ILD_SENSOR / 2)
    assert depths[-1] == pytest.approx(ILD_LAST + ILD_SENSOR / 2)
    assert (np.diff(depths) > 2).all()


def test_directions_are_those_of_the_file(tmp_path: Path) -> None:
    clouds, energy = clouds_of(5, 30, 2)
    direction = np.array([[0.6, 0.0, 0.8]] * 5)
    stored = as_stored(clouds, "z", np.arange(30.0))
    convert(write_caloclouds(tmp_path / "in.h5", stored, energy, direction, rows_first=True), tmp_path / "a.h5")
    np.testing.assert_allclose(Showers.open(tmp_path / "a.h5").incident.direction, direction, atol=1e-6)
    backward = write_caloclouds(tmp_path / "back.h5", stored, energy, -direction, rows_first=True)
    with pytest.raises(ShowerFileError, match=r"showers 0 to 4: directions must be unit vectors .* dz > 0"):
        convert(backward, tmp_path / "b.h5")


def test_origin_and_face_are_taken_off(tmp_path: Path) -> None:
    clouds, energy = clouds_of(5, 30, 3)
    moved = [cloud + np.float32([0, -50, 0, 0]) for cloud in clouds]
    source = write_caloclouds(
        tmp_path / "in.h5", as_stored(moved, "y", ILD.layer_z_mm + 1804.8), energy, None, rows_first=False
    )
    with pytest.raises(ShowerFileError, match=r"no axis of its points fits .* where its face lies"):
        convert(source, tmp_path / "a.h5")
    done = convert(source, tmp_path / "a.h5", options=Options(face_mm=1804.8, origin_mm=(0.0, -50.0)))
    check(Showers.open(tmp_path / "a.h5"), clouds, energy)
    assert (
        "the face of 'ild-ecal' at 1804.8 mm; x and y are its z and x, origin at 0, -50 mm"
        in done.provenance["reading"]["positions"]
    )


def test_points_between_the_layers_are_counted_not_placed(tmp_path: Path) -> None:
    """Up to 1% of the energy may lie outside, as backscatter does; more is another detector."""
    clouds, energy = clouds_of(30, 30, 4)
    stored = as_stored(clouds, "z", ILD.layer_z_mm)
    total = sum(float(cloud[:, 3].sum(dtype=np.float64)) for cloud in stored)
    stray = np.float32([[1.0, 2.0, -40.0, 0.004 * total]])
    source = write_caloclouds(
        tmp_path / "in.h5", [*stored[:-1], np.concatenate([stored[-1], stray])], energy, None, rows_first=True
    )
    done = convert(source, tmp_path / "a.h5")
    assert done.lost_mev["outside the sensitive layers"] == pytest.approx(4 * total, rel=1e-5)
    assert done.read_mev == pytest.approx(1.004e3 * total, rel=1e-5)
    check(Showers.open(tmp_path / "a.h5"), clouds, energy)
    stray[0, 3] *= 10
    source = write_caloclouds(
        tmp_path / "in.h5", [*stored[:-1], np.concatenate([stored[-1], stray])], energy, None, rows_first=True
    )
    with pytest.raises(ShowerFileError, match=r"Best is z, read as mm, .*: 96\.\d% of the energy lies in a layer"):
        convert(source, tmp_path / "b.h5")


def test_the_wrong_detector_is_refused_and_an_ambiguous_one_too(tmp_path: Path) -> None:
    clouds, energy = clouds_of(6, 30, 5)
    source = write_caloclouds(tmp_path / "in.h5", as_stored(clouds, "z", ILD.layer_z_mm), energy, None, rows_first=True)
    with pytest.raises(ShowerFileError, match="fits the 45 layers of 'calochallenge-2'"):
        convert(source, tmp_path / "a.h5", options=Options(detector=Detector.load("calochallenge-2")))
    xyz = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 2.0]])
    numbers = layouts(ILD, None)[:1]
    with pytest.raises(ShowerFileError, match=r"more than one axis fits .* Give the depth axis"):
        find_placement("f", ILD, xyz, np.ones(2), depth=None, face_mm=None, origin_mm=None, kinds=numbers)
    assert find_placement("f", ILD, xyz, np.ones(2), depth="y", face_mm=None, origin_mm=None, kinds=numbers).axis == "y"


@pytest.mark.parametrize(
    ("points", "incident", "message", "units"),
    [
        (1e3, 1.0, "the points of 'events' were in MeV instead of GeV: give the point unit MeV", {"point_unit": "MeV"}),
        (1.0, 1e3, "'energy' were in MeV instead of GeV: give the incident unit MeV", {"incident_unit": "MeV"}),
    ],
)
def test_caloclouds_units(points: float, incident: float, message: str, units: dict[str, str], tmp_path: Path) -> None:
    clouds, energy = clouds_of(6, 30, 6)
    stored = [cloud * np.float32([1, 1, 1, points]) for cloud in as_stored(clouds, "z", ILD.layer_z_mm)]
    source = write_caloclouds(tmp_path / "in.h5", stored, energy * incident, None, rows_first=True)
    with pytest.raises(ShowerFileError, match=message):
        convert(source, tmp_path / "a.h5")
    convert(source, tmp_path / "a.h5", options=Options(**units))  # type: ignore[arg-type]
    check(Showers.open(tmp_path / "a.h5"), clouds, energy)


def test_caloclouds_shapes(tmp_path: Path) -> None:
    for shape, message in (((3, 5, 6), "expected"), ((3, 4, 4), "either axis may hold x, y, z, energy")):
        with h5py.File(tmp_path / "in.h5", "w") as file:
            file["events"], file["energy"] = np.ones(shape), np.ones(3)
        with pytest.raises(ShowerFileError, match=message):
            convert(tmp_path / "in.h5", tmp_path / "a.h5")


@pytest.mark.parametrize("columns", [4, 5])
def test_showerdata_as_described(columns: int, tmp_path: Path) -> None:
    clouds, energy = clouds_of(9, 30, 7, fifth=True)
    pdg = np.array([22, 11, -11] * 3)
    source = write_showerdata(tmp_path / "in.h5", clouds, energy, pdg, columns)
    assert format_of(source) == "showerdata"
    done = convert(source, tmp_path / "a.h5")
    showers = Showers.open(tmp_path / "a.h5")
    check(showers, clouds, energy)
    assert np.array_equal(showers.incident.pdg, pdg)
    np.testing.assert_allclose(showers.incident.direction, [[0.0, 0.6, 0.8]] * 9, atol=1e-6)
    assert done.provenance["reading"]["left out"] == ("time of the points" if columns == 5 else "nothing")


def test_showerdata_refusals(tmp_path: Path) -> None:
    clouds, energy = clouds_of(4, 30, 8, fifth=True)
    path = tmp_path / "in.h5"
    write_showerdata(path, clouds, energy, np.array([22, 22, 2112, 22]))
    with pytest.raises(ShowerFileError, match=r"showers 0 to 3: particle .*2112.* is unknown"):
        convert(path, tmp_path / "a.h5")
    write_showerdata(path, clouds, energy * 1e3, np.full(4, 22))
    with pytest.raises(ShowerFileError, match="'energies' were in MeV instead of GeV"):
        convert(path, tmp_path / "a.h5")
    write_showerdata(path, clouds, energy, np.full(4, 22))
    with pytest.raises(ShowerFileError, match="fits the 6 layers of 'small'"):
        convert(path, tmp_path / "a.h5", options=Options(detector=Detector.from_toml(SMALL)))
    with h5py.File(path, "r+") as file:
        file["num_points"][2] += 1
    with pytest.raises(ShowerFileError, match=r"shower 2 holds \d+ numbers; 'num_points' says"):
        convert(path, tmp_path / "a.h5")
    with h5py.File(path, "r+") as file:
        del file["shape"]
    with pytest.raises(ShowerFileError, match="'shape' is missing"):
        convert(path, tmp_path / "a.h5", source_format="showerdata")
    assert list(tmp_path.iterdir()) == [path]


@given(n=st.integers(1, 12), seed=st.integers(0, 10**6), name=st.sampled_from(["caloclouds", "showerdata"]))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30, deadline=None)
def test_any_showers_come_back(n: int, seed: int, name: str, tmp_path: Path) -> None:
    """Through the file and back: every point, but those of exactly no energy, which padding is made of."""
    detector = Detector.from_toml(SMALL)
    showers = random_showers(detector, n, seed)
    assume(showers.n_points > 0)
    showers.write(tmp_path / "a.h5", overwrite=True)
    done = convert(tmp_path / "a.h5", tmp_path / "b.h5", target_format=name, overwrite=True)
    assert (done.n_showers, done.lost_mev) == (n, {})
    assert format_of(tmp_path / "b.h5") == name
    options = Options(detector=detector, check_response=False)
    convert(tmp_path / "b.h5", tmp_path / "c.h5", options=options, overwrite=True)
    back = Showers.open(tmp_path / "c.h5")
    assert np.array_equal(back.offsets, showers.offsets)
    assert np.array_equal(back.layer, showers.layer)
    assert np.array_equal(back.x_mm, showers.x_mm)
    np.testing.assert_allclose(back.energy_mev, showers.energy_mev, rtol=2e-7)
    np.testing.assert_allclose(back.incident.energy_mev, showers.incident.energy_mev, rtol=2e-7)
    np.testing.assert_allclose(back.incident.direction, showers.incident.direction, atol=2e-7)


def test_padding_grows_with_the_longest_shower(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Short showers first, then long ones, in blocks of a few."""
    detector = Detector.from_toml(SMALL)
    parts = [random_showers(detector, 5, seed, mean_points=mean) for seed, mean in ((1, 8), (2, 60), (3, 3))]
    showers = Showers.concatenate(parts)
    showers.write(tmp_path / "a.h5")
    monkeypatch.setattr("anycalo.showers.formats.native._POINTS", 200)
    convert(tmp_path / "a.h5", tmp_path / "b.h5", target_format="caloclouds")
    with h5py.File(tmp_path / "b.h5") as file:
        events = file["events"][...]
        assert np.array_equal(file["n_points"][...], showers.counts)
    assert events.shape == (15, showers.counts.max(), 4)
    assert np.array_equal((events[:, :, 3] > 0).sum(axis=1), showers.counts)


def test_the_package_showerdata_reads_what_is_written_and_writes_what_is_read(tmp_path: Path) -> None:
    showerdata = pytest.importorskip("showerdata", reason="showerdata is not installed: pip install --no-deps showerdata")
    detector = Detector.from_toml(SMALL)
    showers = random_showers(detector, 8, 3)
    showers.write(tmp_path / "a.h5")
    convert(tmp_path / "a.h5", tmp_path / "b.h5", target_format="showerdata")
    theirs = showerdata.load(tmp_path / "b.h5")
    assert theirs.points.shape == (8, showers.counts.max(), 4)
    for i, points in enumerate(theirs.points):
        mine = showers[i]
        np.testing.assert_allclose(
            points[: mine.n_points], np.stack([mine.x_mm, mine.y_mm, mine.layer, mine.energy_mev], axis=1), rtol=1e-6
        )
        assert not points[mine.n_points :].any()
    np.testing.assert_allclose(theirs.energies[:, 0], showers.incident.energy_mev / 1e3, rtol=1e-6)
    theirs.save(tmp_path / "c.h5")
    convert(tmp_path / "c.h5", tmp_path / "d.h5", options=Options(detector=detector, check_response=False))
    assert np.array_equal(Showers.open(tmp_path / "d.h5").x_mm, showers.x_mm)

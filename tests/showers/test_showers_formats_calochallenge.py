"""CaloChallenge and LEMURS files: read, written, the same voxels again; what is cut or mislabelled is refused."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from anycalo.errors import ConversionError, ShowerFileError
from anycalo.geometry import Detector
from anycalo.showers import Incident, ShowerFile, Showers
from anycalo.showers.formats import Options, PolarGrid, atlas_detector, binning_xml, convert, format_of
from foreignfiles import RINGS_2, voxels, write_calochallenge, write_lemurs
from samples import random_showers

SETS = {
    "calochallenge-1-photons": (368, 22, 1.0),
    "calochallenge-1-pions": (533, 211, 1.0),
    "calochallenge-2": (6480, 11, 0.033),
    "calochallenge-3": (40500, 11, 0.033),
}


def read(path: Path) -> tuple[np.ndarray, np.ndarray]:
    with h5py.File(path, "r") as file:
        return file["incident_energies"][...], file["showers"][...]


@pytest.mark.parametrize("name", SETS)
def test_voxels_come_back_to_the_last_bit_but_one(name: str, tmp_path: Path) -> None:
    n_voxels, pdg, constant = SETS[name]
    energy, grid = voxels(7, n_voxels, 1, response=0.9)
    grid[3] = 0  # an empty shower
    source = write_calochallenge(tmp_path / "in.hdf5", energy, grid)
    assert format_of(source) == name
    done = convert(source, tmp_path / "a.h5")
    assert done.source_format == name
    assert done.lost_mev == {}
    showers = Showers.open(tmp_path / "a.h5")
    assert done.n_points == showers.n_points == np.count_nonzero(grid)
    assert set(showers.incident.pdg) == {pdg}
    assert np.array_equal(showers.incident.energy_mev, energy)
    assert showers.detector.name == name
    np.testing.assert_allclose(showers.visible_mev(), constant * grid.sum(axis=1, dtype=np.float64), rtol=1e-6)
    convert(tmp_path / "a.h5", tmp_path / "back.hdf5", target_format=name)
    energy_back, grid_back = read(tmp_path / "back.hdf5")
    assert np.array_equal(energy_back, energy[:, None])
    assert np.array_equal(grid_back == 0, grid == 0)
    np.testing.assert_allclose(grid_back, grid, rtol=2.5e-7)  # two roundings to float32, of 6e-8 each, at worst
    if constant == 1:
        assert np.array_equal(grid_back, grid)


@given(seed=st.integers(0, 10**6), lit=st.floats(0.01, 1.0), kind=st.sampled_from([np.float32, np.float64, np.float16]))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=20, deadline=None)
def test_any_voxels_of_any_float_type(seed: int, lit: float, kind: type, tmp_path: Path) -> None:
    energy, grid = voxels(3, 368, seed, response=1.0, lit=lit)
    grid = np.minimum(grid, 6e4).astype(kind)
    source = write_calochallenge(tmp_path / "in.hdf5", energy, grid)
    convert(source, tmp_path / "a.h5", overwrite=True, options=Options(seed=seed, check_response=False))
    convert(tmp_path / "a.h5", tmp_path / "b.hdf5", target_format="calochallenge-1-photons", overwrite=True)
    assert np.array_equal(read(tmp_path / "b.hdf5")[1], grid.astype(np.float32))


def test_the_sampling_constant_is_undone_restored_and_told(tmp_path: Path) -> None:
    energy, grid = voxels(4, 6480, 2, response=0.85)
    source = write_calochallenge(tmp_path / "in.hdf5", energy, grid)
    convert(source, tmp_path / "a.h5")
    with ShowerFile(tmp_path / "a.h5") as file:
        reading = file.provenance["reading"]
    assert reading["sampling constant"] == 0.033
    assert reading["energies"] == "visible energy = voxel energy in MeV x 0.033"
    unscaled = write_calochallenge(tmp_path / "raw.hdf5", energy, grid * np.float32(0.033))
    convert(unscaled, tmp_path / "b.h5", options=Options(sampling_constant=1.0))
    np.testing.assert_allclose(
        Showers.open(tmp_path / "b.h5").energy_mev, Showers.open(tmp_path / "a.h5").energy_mev, rtol=3e-7
    )
    with pytest.raises(ShowerFileError, match=r"not divided by the sampling fraction: give the sampling constant 1"):
        convert(unscaled, tmp_path / "c.h5")
    with pytest.raises(ShowerFileError, match=r"were divided by 0.033: give the sampling constant 0.033"):
        convert(source, tmp_path / "c.h5", options=Options(sampling_constant=1.0))
    assert not (tmp_path / "c.h5").exists()


def test_the_threshold_acts_on_energies_as_they_stand_in_the_file(tmp_path: Path) -> None:
    energy, grid = voxels(5, 6480, 3, response=0.85)
    grid[:, ::7] = 0.015  # just below 15.15 keV
    grid[:, 1::7] = 0.0152  # just above
    source = write_calochallenge(tmp_path / "in.hdf5", energy, grid)
    options = Options(threshold_mev=0.01515)
    done = convert(source, tmp_path / "a.h5", options=options)
    kept = grid >= 0.01515
    assert done.n_points == kept.sum() < np.count_nonzero(grid)
    dropped = float(grid[~kept].sum(dtype=np.float64)) * 0.033
    assert done.lost_mev["below the threshold"] == pytest.approx(dropped, rel=1e-3)
    visible = Showers.open(tmp_path / "a.h5").visible_mev().sum()
    assert done.read_mev == pytest.approx(visible + done.lost_mev["below the threshold"], rel=1e-6)
    convert(source, tmp_path / "all.h5")
    done = convert(tmp_path / "all.h5", tmp_path / "b.hdf5", target_format="calochallenge-2", options=options)
    assert np.array_equal(read(tmp_path / "b.hdf5")[1] > 0, kept)
    assert done.lost_mev["below the threshold"] == pytest.approx(dropped, rel=1e-3)


def test_blocks_do_not_change_the_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    energy, grid = voxels(50, 6480, 4, response=0.85, lit=0.05)
    source = write_calochallenge(tmp_path / "in.hdf5", energy, grid)
    convert(source, tmp_path / "a.h5")
    monkeypatch.setattr("anycalo.showers.formats.source.BLOCK_BYTES", 7 * 4 * 6480)
    steps: list[tuple[int, int]] = []
    convert(source, tmp_path / "b.h5", progress=lambda done, total: steps.append((done, total)))
    assert len(steps) > 5
    assert steps[0] == (0, 50)
    assert steps[-1] == (50, 50)
    a, b = Showers.open(tmp_path / "a.h5"), Showers.open(tmp_path / "b.h5")
    for name in ("x_mm", "y_mm", "layer", "energy_mev", "offsets"):
        assert np.array_equal(getattr(a, name), getattr(b, name))


def test_another_data_set_than_declared_is_named(tmp_path: Path) -> None:
    energy, grid = voxels(2, 6480, 5, response=0.85)
    source = write_calochallenge(tmp_path / "in.hdf5", energy, grid)
    with pytest.raises(ShowerFileError, match=r"6,480 voxels, which is calochallenge-2; calochallenge-3 has 40,500"):
        convert(source, tmp_path / "a.h5", source_format="calochallenge-3")
    odd = write_calochallenge(tmp_path / "odd.hdf5", energy, grid[:, :100])
    with pytest.raises(ShowerFileError, match=r"of shape \(2, 100\); calochallenge-2 has 6,480 voxels in 45 layers"):
        convert(odd, tmp_path / "a.h5", source_format="calochallenge-2")
    assert format_of(odd) == "calochallenge"
    with pytest.raises(ConversionError, match="give the detector, with a polar readout"):
        convert(odd, tmp_path / "a.h5")
    assert list(tmp_path.glob("*.h5")) == []


@pytest.mark.parametrize(
    ("incident", "deposits", "message"),
    [
        (1.0, 1e-3, r"'showers' were in GeV instead of MeV"),
        (1e-3, 1.0, r"'incident_energies' run from .* They look like GeV"),
        (1e-3, 1e-3, r"'incident_energies' run from .* They look like GeV"),
    ],
)
def test_wrong_units_are_found(incident: float, deposits: float, message: str, tmp_path: Path) -> None:
    energy, grid = voxels(20, 6480, 6, response=0.85)
    source = write_calochallenge(tmp_path / "in.hdf5", energy * incident, grid * np.float32(deposits))
    with pytest.raises(ShowerFileError, match=message):
        convert(source, tmp_path / "a.h5")
    units = Options(incident_unit="GeV" if incident < 1 else "MeV", point_unit="GeV" if deposits < 1 else "MeV")
    convert(source, tmp_path / "a.h5", options=units)
    showers = Showers.open(tmp_path / "a.h5")
    np.testing.assert_allclose(showers.incident.energy_mev, energy, rtol=1e-6)
    np.testing.assert_allclose(showers.visible_mev(), 0.033 * grid.sum(axis=1, dtype=np.float64), rtol=1e-5)


def test_data_set_1_in_gev_throughout_is_found_by_its_range(tmp_path: Path) -> None:
    """The response is sound, and 4,194 is a possible energy in MeV; 0.256 is not."""
    energy = np.float32(256 * 2.0 ** np.arange(15))
    grid = voxels(15, 368, 1, response=1.0)[1]
    grid *= np.float32(0.9) * energy[:, None] / grid.sum(axis=1, keepdims=True)
    source = write_calochallenge(tmp_path / "in.hdf5", energy / 1e3, grid / np.float32(1e3))
    with pytest.raises(ShowerFileError, match=r"run from 0.256 to 4194 when read in MeV; .* They look like GeV"):
        convert(source, tmp_path / "a.h5")
    convert(source, tmp_path / "a.h5", options=Options(incident_unit="GeV", point_unit="GeV"))
    np.testing.assert_allclose(Showers.open(tmp_path / "a.h5").incident.energy_mev, energy, rtol=1e-6)
    convert(write_calochallenge(tmp_path / "in.hdf5", energy, grid), tmp_path / "b.h5")


def test_a_response_that_is_far_off_names_both_numbers_unless_it_is_wanted(tmp_path: Path) -> None:
    energy, grid = voxels(20, 6480, 7, response=0.85)
    source = write_calochallenge(tmp_path / "in.hdf5", energy, grid * np.float32(40))
    with pytest.raises(ShowerFileError, match=r"incident energy is 1.12 in the first 20 showers .* about 0.0362, at least"):
        convert(source, tmp_path / "a.h5")
    convert(source, tmp_path / "a.h5", options=Options(check_response=False))


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("showers", -1.0, "'showers' is -1.0 in shower 11; expected finite energies at least 0"),
        ("showers", np.nan, "'showers' is nan in shower 11"),
        ("showers", np.inf, "'showers' is inf in shower 11"),
        ("incident_energies", 0.0, "'incident_energies' is 0.0 in shower 11; expected finite energies above 0"),
    ],
)
def test_numbers_that_cannot_be_are_named_with_their_shower(column: str, value: float, message: str, tmp_path: Path) -> None:
    energy, grid = voxels(20, 368, 8, response=0.9)
    (grid[:, 17] if column == "showers" else energy)[11] = value
    source = write_calochallenge(tmp_path / "in.hdf5", energy, grid)
    with pytest.raises(ShowerFileError, match=message):
        convert(source, tmp_path / "a.h5")
    assert list(tmp_path.iterdir()) == [source]


def test_cut_files_leave_nothing(tmp_path: Path) -> None:
    energy, grid = voxels(200, 368, 9, response=0.9)
    source = write_calochallenge(tmp_path / "in.hdf5", energy, grid)
    whole = source.read_bytes()
    for keep in (0.0, 0.3, 0.6, 0.99):
        source.write_bytes(whole[: int(keep * len(whole))])
        with pytest.raises(ShowerFileError, match=r"cut off|not an HDF5 file|showers \d+ to \d+"):
            convert(source, tmp_path / "a.h5", source_format="calochallenge-1-photons")
    assert list(tmp_path.iterdir()) == [source]


def test_a_damaged_chunk_in_the_middle_is_found_and_leaves_nothing(tmp_path: Path) -> None:
    energy, grid = voxels(3000, 368, 9, response=0.9)
    path = tmp_path / "in.hdf5"
    with h5py.File(path, "w") as file:
        file["incident_energies"] = energy[:, None]
        data = file.create_dataset("showers", data=grid, chunks=(500, 368), compression="gzip")
        last = data.id.get_chunk_info(data.id.get_num_chunks() - 1)
    with path.open("r+b") as raw:
        raw.seek(last.byte_offset)
        raw.write(b"\xff" * 1000)
    with pytest.raises(ShowerFileError, match=r"showers \d+ to 2999"):
        convert(path, tmp_path / "a.h5")
    assert list(tmp_path.iterdir()) == [path]


def test_data_sets_that_are_missing_or_of_another_length(tmp_path: Path) -> None:
    energy, grid = voxels(4, 368, 10, response=0.9)
    source = write_calochallenge(tmp_path / "in.hdf5", energy[:3], grid)
    with pytest.raises(ShowerFileError, match=r"'incident_energies' is of shape \(3, 1\); expected \(4,\) or \(4, 1\)"):
        convert(source, tmp_path / "a.h5")
    with h5py.File(source, "r+") as file:
        del file["incident_energies"]
    with pytest.raises(ShowerFileError, match=r"'incident_energies' is missing; it holds showers"):
        convert(source, tmp_path / "a.h5", source_format="calochallenge-1-photons")


def test_a_binning_file_must_agree_and_serves_other_detectors(tmp_path: Path) -> None:
    detector = atlas_detector("photons")
    energy, grid = voxels(4, 368, 11, response=0.9)
    source = write_calochallenge(tmp_path / "in.hdf5", energy, grid)
    xml = tmp_path / "binning.xml"
    xml.write_text(binning_xml(PolarGrid.of(detector), particle="photon", pdg=22))
    convert(source, tmp_path / "a.h5", options=Options(binning=xml))
    generic = Options(binning=xml, detector=detector)
    convert(source, tmp_path / "b.h5", source_format="calochallenge", options=generic)
    a, b = Showers.open(tmp_path / "a.h5"), Showers.open(tmp_path / "b.h5")
    assert np.array_equal(a.x_mm, b.x_mm)
    assert set(b.incident.pdg) == {22}  # from the binning file
    xml.write_text(xml.read_text().replace('"0,5,10,', '"0,5,11,'))
    with pytest.raises(ConversionError, match=r"differ: layer 0 has 8 rings x 1 sectors"):
        convert(source, tmp_path / "c.h5", options=Options(binning=xml))
    with pytest.raises(ConversionError, match=r"other voxels than calochallenge-1-photons: 45 layers against 5"):
        convert(source, tmp_path / "c.h5", options=Options(detector=Detector.load("calochallenge-2")))


def test_points_of_any_detector_with_rings_can_be_written(tmp_path: Path) -> None:
    """Points beyond the outermost ring are lost, and counted."""
    detector = Detector.load("calochallenge-2")
    showers = random_showers(detector, 20, 1, mean_points=300)
    showers.x_mm *= 3
    showers.write(tmp_path / "a.h5")
    done = convert(tmp_path / "a.h5", tmp_path / "b.hdf5", target_format="calochallenge-3")
    grid = read(tmp_path / "b.hdf5")[1]
    inside = np.hypot(showers.x_mm, showers.y_mm) < 41.85
    outside_mev = float(showers.energy_mev[~inside].sum(dtype=np.float64))
    assert done.lost_mev["outside the voxels"] == pytest.approx(outside_mev, rel=1e-6)
    by_layer = grid.reshape(20, 45, 900).sum(axis=2)
    kept = showers.energy_mev * inside
    expected = np.bincount(showers.shower * 45 + showers.layer, weights=kept, minlength=900).reshape(20, 45) / 0.033
    np.testing.assert_allclose(by_layer, expected, rtol=1e-5)
    with pytest.raises(ConversionError, match="'calochallenge-2' has 45 layers and calochallenge-1-pions 7"):
        convert(tmp_path / "a.h5", tmp_path / "c.hdf5", target_format="calochallenge-1-pions")


# --- LEMURS ---------------------------------------------------------------------------------------


def lemurs_grid(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    energy, grid = voxels(n, 6480, seed, response=0.03)
    return energy, np.ascontiguousarray(grid.reshape(n, 45, 16, 9).transpose(0, 3, 2, 1))


def test_lemurs_grids_are_r_phi_z_and_come_back(tmp_path: Path) -> None:
    energy, grid = lemurs_grid(6, 1)
    source = write_lemurs(tmp_path / "in.h5", energy, grid)
    assert format_of(source) == "lemurs"
    convert(source, tmp_path / "a.h5", options=Options(particle="gamma"))
    showers = Showers.open(tmp_path / "a.h5")
    np.testing.assert_allclose(showers.layer_energy_mev(), grid.sum(axis=(1, 2)), rtol=1e-5)
    ring = np.digitize(np.hypot(showers.x_mm, showers.y_mm), RINGS_2) - 1
    by_ring = np.bincount(showers.shower * 9 + ring, weights=showers.energy_mev, minlength=54).reshape(6, 9)
    np.testing.assert_allclose(by_ring, grid.sum(axis=(2, 3)), rtol=1e-5)
    half = np.bincount(showers.shower, weights=showers.energy_mev * (showers.y_mm < 0), minlength=6)
    np.testing.assert_allclose(half, grid[:, :, :8].sum(axis=(1, 2, 3)), rtol=1e-5)  # the first sectors are those from -pi to 0
    convert(tmp_path / "a.h5", tmp_path / "b.h5", target_format="lemurs")
    with h5py.File(tmp_path / "b.h5") as file:
        assert np.array_equal(file["showers"][...], grid)
        assert np.array_equal(file["incident_energy"][...], energy)
        assert np.all(file["incident_theta"][...] == np.float32(np.pi / 2))
    assert format_of(tmp_path / "b.h5") == "lemurs"


def test_lemurs_refusals(tmp_path: Path) -> None:
    energy, grid = lemurs_grid(6, 2)
    source = write_lemurs(tmp_path / "in.h5", energy, grid)
    with pytest.raises(ConversionError, match="does not say which particle"):
        convert(source, tmp_path / "a.h5")
    with pytest.raises(ConversionError, match="'calochallenge-3' has 45 layers, the first with 18 rings x 50 sectors"):
        convert(source, tmp_path / "a.h5", options=Options(particle="gamma", detector=Detector.load("calochallenge-3")))
    wrong = write_lemurs(tmp_path / "gev.h5", energy / 1e3, grid)
    with pytest.raises(ShowerFileError, match="'incident_energy' were in GeV instead of MeV"):
        convert(wrong, tmp_path / "a.h5", options=Options(particle="gamma"))
    turned = write_lemurs(tmp_path / "turned.h5", energy, grid.transpose(0, 3, 2, 1))
    with pytest.raises(ShowerFileError, match=r"of shape \(6, 45, 16, 9\); expected \(N, 9, 16, 45\)"):
        convert(turned, tmp_path / "a.h5", source_format="lemurs", options=Options(particle="gamma"))
    with h5py.File(source, "r+") as file:
        del file["incident_phi"]
    with pytest.raises(ShowerFileError, match="'incident_phi' is missing"):
        convert(source, tmp_path / "a.h5", options=Options(particle="gamma"))


def test_showers_at_an_angle_do_not_fit_a_lemurs_grid(tmp_path: Path) -> None:
    showers = random_showers(Detector.load("calochallenge-2"), 5, 1)
    showers.write(tmp_path / "a.h5")
    with pytest.raises(ConversionError, match="degrees from the normal; the axis of a LEMURS grid"):
        convert(tmp_path / "a.h5", tmp_path / "b.h5", target_format="lemurs")
    assert not (tmp_path / "b.h5").exists()
    showers.incident = Incident(showers.incident.pdg, energy_mev=showers.incident.energy_mev)
    showers.write(tmp_path / "a.h5", overwrite=True)
    convert(tmp_path / "a.h5", tmp_path / "b.h5", target_format="lemurs")

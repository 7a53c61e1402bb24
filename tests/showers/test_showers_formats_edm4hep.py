"""EDM4hep ROOT files: a barrel's hits turned into the shower frame; what is written is read; refusals."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import numpy as np
import pytest

from anycalo.errors import ConversionError, ShowerFileError
from anycalo.geometry import Detector
from anycalo.showers import Showers
from anycalo.showers.formats import Options, convert, format_of
from samples import SMALL, random_showers

uproot = pytest.importorskip("uproot", reason="uproot is not installed: pip install 'anycalo[root]'")
ak = pytest.importorskip("awkward", reason="awkward is not installed: pip install 'anycalo[root]'")

SMALL_DETECTOR = Detector.from_toml(SMALL)
FACE = 1804.8
ELECTRON_GEV = 0.51099895e-3


def write_root(
    path: Path,
    collections: dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]],
    particles: dict[str, list[list[float]]],
    split: bool = False,
) -> Path:
    """Collections of (counts, positions (P, 3) in mm, energies in GeV), and branches of MCParticles, a list a shower.

    With `split`, each branch has the path that uproot gives it in podio's files, `NAME/NAME.member`, with the other branches
    that stand beside them there.
    """
    branches = {}
    for name, (counts, xyz, energy) in collections.items():
        branches[f"{name}.energy"] = ak.unflatten(energy.astype(np.float32), counts)
        for i, axis in enumerate("xyz"):
            branches[f"{name}.position.{axis}"] = ak.unflatten(xyz[:, i].astype(np.float32), counts)
    for name, values in particles.items():
        branches[f"MCParticles.{name}"] = ak.Array(values)
    if split:
        branches = _as_podio(branches, list(collections))
    with uproot.recreate(path) as file:
        types = {name: array.type.content for name, array in branches.items()}
        tree = file.mktree("events", types, counter_name=lambda name: f"{name.replace('/', '_')}_" if split else f"n{name}")
        tree.extend(branches)
        if split:
            file["podio_metadata"] = "of no interest here"
    return path


def _as_podio(branches: dict[str, ak.Array], hits: list[str]) -> dict[str, ak.Array]:
    full = {f"{name.split('.')[0]}/{name}": array for name, array in branches.items()}
    for name in hits:
        energy = branches[f"{name}.energy"]
        ones = ak.ones_like(energy)
        full[f"{name}/{name}.cellID"] = ak.values_astype(ones, np.uint64)
        full[f"{name}/{name}.contributions_begin"] = ak.values_astype(ones, np.uint32)
        # Contributions hold energies and positions of steps too, and are no hits.
        for member in ("energy", "time", "stepPosition.x", "stepPosition.y", "stepPosition.z"):
            full[f"{name}Contributions/{name}Contributions.{member}"] = energy
        full[f"_{name}_contributions/_{name}_contributions.index"] = ak.values_astype(ones, np.int32)
    return full


def barrel(showers: Showers, phi: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Hits in a barrel whose normal points to azimuth phi: depth outwards, x along the beam, y the way phi grows."""
    depth = FACE + SMALL_DETECTOR.layer_z_mm[showers.layer]
    x = depth * math.cos(phi) - showers.y_mm * math.sin(phi)
    y = depth * math.sin(phi) + showers.y_mm * math.cos(phi)
    return showers.counts, np.stack([x, y, showers.x_mm], axis=1), showers.energy_mev / 1e3


def gun(showers: Showers, phi: float) -> dict[str, list[list[float]]]:
    """Particles from the beam line straight to the face, after a decayed one that does not count."""
    ux, uy = math.cos(phi), math.sin(phi)
    gev = showers.incident.energy_mev.astype(float) / 1e3
    momentum = np.sqrt((gev + ELECTRON_GEV) ** 2 - ELECTRON_GEV**2)
    zero = [0.0, 0.0]
    return {
        "PDG": [[22, 11] for _ in gev],
        "generatorStatus": [[2, 1] for _ in gev],
        "momentum.x": [[1.0, p * ux] for p in momentum],
        "momentum.y": [[0.0, p * uy] for p in momentum],
        "momentum.z": [zero for _ in gev],
        "vertex.x": [zero for _ in gev],
        "vertex.y": [zero for _ in gev],
        "vertex.z": [[0.0, 30.0] for _ in gev],
    }


def test_a_barrel_at_any_azimuth_becomes_the_shower_frame(tmp_path: Path) -> None:
    """The rotation brings the normal to +x; the vertex, 30 mm along the beam, is where the shower starts."""
    showers = random_showers(SMALL_DETECTOR, 12, 1)
    phi = math.radians(67.5)
    counts, xyz, energy = barrel(showers, phi)
    xyz[:, 2] += 30
    source = write_root(tmp_path / "in.root", {"EcalBarrelCollection": (counts, xyz, energy)}, gun(showers, phi))
    assert format_of(source) == "edm4hep"
    options = Options(detector=SMALL_DETECTOR, rotation_rad=-phi, face_mm=FACE, depth="x", check_response=False)
    done = convert(source, tmp_path / "a.h5", options=options)
    assert done.lost_mev == {}
    assert "after a turn of -67.5 degrees about z" in done.provenance["reading"]["positions"]
    back = Showers.open(tmp_path / "a.h5")
    assert np.array_equal(back.offsets, showers.offsets)
    assert np.array_equal(back.layer, showers.layer)
    # With depth along the file's x, the shower's x and y are the file's y and z.
    np.testing.assert_allclose(back.x_mm, showers.y_mm, atol=1e-3)
    np.testing.assert_allclose(back.y_mm, showers.x_mm, atol=1e-3)
    np.testing.assert_allclose(back.energy_mev, showers.energy_mev, rtol=3e-7)
    np.testing.assert_allclose(back.incident.energy_mev, showers.incident.energy_mev, rtol=1e-6)
    assert set(back.incident.pdg) == {11}
    np.testing.assert_allclose(back.incident.direction, [[0, 0, 1]] * 12, atol=1e-6)


def test_several_collections_join_and_an_origin_overrides_the_vertex(tmp_path: Path) -> None:
    showers = random_showers(SMALL_DETECTOR, 9, 2)
    _, xyz, energy = barrel(showers, math.pi / 2)
    even = showers.layer % 2 == 0
    split = {
        name: (np.bincount(showers.shower[mask], minlength=9), xyz[mask], energy[mask])
        for name, mask in (("EcalEven", even), ("EcalOdd", ~even))
    }
    source = write_root(tmp_path / "in.root", split, gun(showers, math.pi / 2))
    base = {"detector": SMALL_DETECTOR, "face_mm": FACE, "check_response": False}
    with pytest.raises(ShowerFileError, match=r"2 collections of calorimeter hits \(EcalEven, EcalOdd\); give the collection"):
        convert(source, tmp_path / "a.h5", options=Options(**base))  # type: ignore[arg-type]
    with pytest.raises(ShowerFileError, match="no collection of calorimeter hits 'Hcal'; there are EcalEven, EcalOdd"):
        convert(source, tmp_path / "a.h5", options=Options(**base, collection="Hcal"))  # type: ignore[arg-type]
    options = Options(**base, collection="EcalEven, EcalOdd", origin_mm=(0.0, 0.0))  # type: ignore[arg-type]
    convert(source, tmp_path / "a.h5", options=options)
    back = Showers.open(tmp_path / "a.h5")
    assert np.array_equal(back.counts, showers.counts)
    np.testing.assert_allclose(back.layer_energy_mev(), showers.layer_energy_mev(), rtol=1e-6)
    # Depth along y (found, not given): x is the file's z, the beam, and y its x, against the azimuth here.
    order, back_order = (np.lexsort((s.energy_mev, s.shower)) for s in (showers, back))
    np.testing.assert_allclose(back.x_mm[back_order], showers.x_mm[order], atol=1e-3)
    np.testing.assert_allclose(back.y_mm[back_order], -showers.y_mm[order], atol=1e-3)


def test_branches_named_as_podio_splits_them_are_read_like_flat_ones(tmp_path: Path) -> None:
    showers = random_showers(SMALL_DETECTOR, 12, 9)
    hits, particles = {"EcalBarrelCollection": barrel(showers, math.pi / 2)}, gun(showers, math.pi / 2)
    options = Options(detector=SMALL_DETECTOR, face_mm=FACE, check_response=False)
    found = []
    for split in (False, True):
        source = write_root(tmp_path / f"{split}.root", hits, particles, split)
        done = convert(source, tmp_path / f"{split}.h5", options=options)
        assert done.provenance["reading"]["collections"] == "EcalBarrelCollection"
        found.append(Showers.open(done.path))
    with uproot.open(tmp_path / "True.root") as file:
        assert "EcalBarrelCollection/EcalBarrelCollection.position.x" in file["events"].keys(recursive=True)
    flat, split_up = found
    for name in ("offsets", "layer", "x_mm", "y_mm", "energy_mev"):
        assert np.array_equal(getattr(flat, name), getattr(split_up, name)), name
    assert np.array_equal(flat.incident.energy_mev, split_up.incident.energy_mev)
    np.testing.assert_allclose(split_up.layer_energy_mev(), showers.layer_energy_mev(), rtol=1e-6)


def test_what_is_written_is_read_block_by_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("anycalo.showers.formats.edm4hep._BLOCK", 7)
    monkeypatch.setattr("anycalo.showers.formats.native._POINTS", 300)
    showers = random_showers(SMALL_DETECTOR, 40, 3)
    showers.incident.pdg[::2] = -11
    showers.write(tmp_path / "a.h5")
    done = convert(tmp_path / "a.h5", tmp_path / "b.root")
    assert done.target_format == "edm4hep"
    convert(tmp_path / "b.root", tmp_path / "c.h5", options=Options(detector=SMALL_DETECTOR, check_response=False))
    back = Showers.open(tmp_path / "c.h5")
    for name in ("offsets", "layer", "x_mm", "y_mm"):
        assert np.array_equal(getattr(back, name), getattr(showers, name))
    np.testing.assert_allclose(back.energy_mev, showers.energy_mev, rtol=3e-7)
    np.testing.assert_allclose(back.incident.energy_mev, showers.incident.energy_mev, rtol=1e-6)
    np.testing.assert_allclose(back.incident.direction, showers.incident.direction, atol=1e-6)
    assert np.array_equal(back.incident.pdg, showers.incident.pdg)


def test_what_is_written_has_edm4heps_names_and_units(tmp_path: Path) -> None:
    """Read with uproot alone."""
    showers = random_showers(SMALL_DETECTOR, 5, 4)
    showers.write(tmp_path / "a.h5")
    convert(tmp_path / "a.h5", tmp_path / "b.root")
    with uproot.open(tmp_path / "b.root") as file:
        tree = file["events"]
        energy = tree["SimCalorimeterHits.energy"].array()
        assert ak.num(energy).tolist() == showers.counts.tolist()
        np.testing.assert_allclose(ak.flatten(energy), showers.energy_mev / 1e3, rtol=1e-6)
        z = ak.flatten(tree["SimCalorimeterHits.position.z"].array())
        np.testing.assert_allclose(z, SMALL_DETECTOR.layer_z_mm[showers.layer], rtol=1e-6)
        assert ak.flatten(tree["MCParticles.PDG"].array()).tolist() == showers.incident.pdg.tolist()
        assert Detector.from_toml(str(file["anycalo_detector"])) == SMALL_DETECTOR


def test_calorimeter_files_that_are_wrong(tmp_path: Path) -> None:
    showers = random_showers(SMALL_DETECTOR, 9, 5)
    showers.energy_mev *= 20  # as much as this calorimeter sees
    hits = barrel(showers, math.pi / 2)
    options = Options(detector=SMALL_DETECTOR, face_mm=FACE)
    source = write_root(tmp_path / "in.root", {"Ecal": (hits[0], hits[1], 1e3 * hits[2])}, gun(showers, math.pi / 2))
    with pytest.raises(ConversionError, match="does not describe its layers; give the detector"):
        convert(source, tmp_path / "a.h5")
    with pytest.raises(ShowerFileError, match=r"no axis of its points fits the 6 layers"):
        convert(source, tmp_path / "a.h5", options=Options(detector=SMALL_DETECTOR, face_mm=0.0))
    with pytest.raises(ShowerFileError, match="hits were in MeV instead of GeV, the unit of EDM4hep"):
        convert(source, tmp_path / "a.h5", options=options)
    particles = gun(showers, math.pi / 2)
    del particles["momentum.z"]
    source = write_root(tmp_path / "in.root", {"Ecal": hits}, particles)
    with pytest.raises(ShowerFileError, match=r"branch 'MCParticles.momentum.z' is missing"):
        convert(source, tmp_path / "a.h5", options=options)
    with uproot.recreate(tmp_path / "in.root") as file:
        file["other"] = "text"
    with pytest.raises(ShowerFileError, match="there is no 'events'; it holds other"):
        convert(source, tmp_path / "a.h5", options=options)
    with uproot.recreate(tmp_path / "in.root") as file:
        file.mkrntuple("events", {"a": "float32"}).extend({"a": np.zeros(3, dtype=np.float32)})
    with pytest.raises(ShowerFileError, match=r"expected a TTree\. Write it with podio's TTree backend"):
        convert(source, tmp_path / "a.h5", options=options)
    assert list(tmp_path.iterdir()) == [source]


def test_cut_root_files_leave_nothing(tmp_path: Path) -> None:
    showers = random_showers(SMALL_DETECTOR, 200, 6, mean_points=100)
    source = write_root(tmp_path / "in.root", {"Ecal": barrel(showers, math.pi / 2)}, gun(showers, math.pi / 2))
    options = Options(detector=SMALL_DETECTOR, face_mm=FACE, check_response=False)
    convert(source, tmp_path / "a.h5", options=options)
    (tmp_path / "a.h5").unlink()
    whole = source.read_bytes()
    for keep in (0.0, 0.2, 0.5, 0.9):
        source.write_bytes(whole[: max(10, int(keep * len(whole)))])
        with pytest.raises(ShowerFileError, match=r"cut off|damaged"):
            convert(source, tmp_path / "a.h5", options=options)
    assert list(tmp_path.iterdir()) == [source]


def test_without_uproot_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uproot", None)
    random_showers(SMALL_DETECTOR, 2, 7).write(tmp_path / "a.h5")
    with pytest.raises(ConversionError, match=r"need uproot, which is not installed: pip install 'anycalo\[root\]'"):
        convert(tmp_path / "a.h5", tmp_path / "b.root")
    assert [path.name for path in tmp_path.iterdir()] == ["a.h5"]

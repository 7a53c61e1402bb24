"""Files whose energies are all in one wrong unit: the response is sound, the depth is not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from anycalo.errors import ShowerFileError
from anycalo.geometry import Detector
from anycalo.geometry.derived import critical_energy_mev, depth_x0, layer_front_x0
from anycalo.showers import Incident, Showers
from anycalo.showers.formats import Options, convert
from anycalo.showers.formats.units import expected_depth_x0, wrong_by
from foreignfiles import (
    clouds_of,
    depth_profile,
    voxels,
    write_calochallenge,
    write_caloclouds,
    write_lemurs,
    write_showerdata,
)

ILD = Detector.load("ild-ecal")


def clouds(n: int, seed: int) -> tuple[list[np.ndarray], np.ndarray]:
    """x, y (mm), layer and energy (MeV) with as much of the energy (GeV) returned in each layer as showers have."""
    found, energy = clouds_of(n, 30, seed)
    rng = np.random.default_rng(seed)
    profile = depth_profile(1e3 * energy, layer_front_x0(ILD) + 0.3)
    for cloud, share in zip(found, profile / profile.sum(axis=1, keepdims=True), strict=True):
        cloud[:, 2] = rng.choice(30, size=len(cloud), p=share)
    return found, energy


def caloclouds(path: Path, factor: float) -> tuple[Path, Options, Options]:
    """In GeV, times a factor; how it is read by default, and how it is read right if the factor is 1,000."""
    found, energy = clouds(60, 1)
    stored = [cloud * np.float32([1, 1, 1, 1e-3 * factor]) for cloud in found]
    return (
        write_caloclouds(path, stored, factor * energy, None, rows_first=True),
        Options(),
        Options(incident_unit="MeV", point_unit="MeV"),
    )


def showerdata(path: Path, factor: float) -> tuple[Path, Options, Options]:
    found, energy = clouds(60, 2)
    stored = [cloud * np.float32([1, 1, 1, factor]) for cloud in found]
    pdg = np.where(np.arange(60) % 2, 22, 11)
    return (
        write_showerdata(path, stored, factor * energy, pdg, columns=4),
        Options(),
        Options(incident_unit="MeV", point_unit="keV"),
    )


def polar(path: Path, factor: float) -> tuple[Path, Options, Options]:
    """The layout of the CaloChallenge for a detector of one's own, whose energy range nobody knows."""
    energy, grid = voxels(60, 6480, 3, response=0.03)
    options = {"detector": Detector.load("calochallenge-2"), "particle": "electron", "sampling_constant": 1.0}
    return (
        write_calochallenge(path, energy * np.float32(factor), grid * np.float32(factor)),
        Options(**options),  # type: ignore[arg-type]
        Options(**options, incident_unit="keV", point_unit="keV"),  # type: ignore[arg-type]
    )


def lemurs(path: Path, factor: float) -> tuple[Path, Options, Options]:
    energy, grid = voxels(60, 6480, 4, response=0.03)
    # z, phi, r to r, phi, z.
    grid = grid.reshape(60, 45, 16, 9).transpose(0, 3, 2, 1)
    return (
        write_lemurs(path, energy * np.float32(factor), grid * np.float32(factor)),
        Options(particle="gamma"),
        Options(particle="gamma", incident_unit="keV", point_unit="keV"),
    )


def edm4hep(path: Path, factor: float) -> tuple[Path, Options, Options]:
    """EDM4hep knows one unit: a file in another is to be mended, not read otherwise."""
    pytest.importorskip("uproot", reason="uproot is not installed: pip install 'anycalo[root]'")
    found, energy = clouds(60, 5)
    native = path.with_name("native.h5")
    columns = np.concatenate(found)
    Showers(
        detector=ILD,
        incident=Incident("gamma", energy_mev=1e3 * factor * energy),
        offsets=np.concatenate([[0], np.cumsum([len(cloud) for cloud in found])]),
        x_mm=columns[:, 0],
        y_mm=columns[:, 1],
        layer=columns[:, 2].astype(np.int64),
        energy_mev=factor * columns[:, 3],
    ).write(native)
    convert(native, path, target_format="edm4hep")
    return path, Options(detector=ILD), Options(detector=ILD, check_response=False)


FORMATS = {
    "caloclouds": caloclouds,
    "showerdata": showerdata,
    "calochallenge": polar,
    "lemurs": lemurs,
    "edm4hep": edm4hep,
}


@pytest.mark.parametrize("name", FORMATS)
def test_a_file_all_in_one_wrong_unit_is_refused(name: str, tmp_path: Path) -> None:
    make: Callable[[Path, float], tuple[Path, Options, Options]] = FORMATS[name]
    source, options, _ = make(tmp_path / "right", 1.0)
    right = convert(source, tmp_path / "right.h5", source_format=name, options=options)
    for factor, words in ((1e3, "1,000 times too large.*MeV for GeV"), (1e-3, "1,000 times too small.*GeV for MeV")):
        for old in tmp_path.glob("*native*"):
            old.unlink()
        source, options, mended = make(tmp_path / f"wrong{factor:g}", factor)
        with pytest.raises(ShowerFileError, match=words):
            convert(source, tmp_path / "wrong.h5", source_format=name, options=options)
        assert not (tmp_path / "wrong.h5").exists()
        if factor == 1e3:
            done = convert(source, tmp_path / "mended.h5", source_format=name, options=mended)
            scale = 1.0 if mended.check_response else 1e3
            assert done.read_mev == pytest.approx(scale * right.read_mev, rel=1e-5)


@pytest.mark.parametrize("factor", [0.25, 4.0])
def test_a_calibration_is_not_taken_for_a_unit(factor: float, tmp_path: Path) -> None:
    source, options, _ = caloclouds(tmp_path / "in.h5", factor)
    assert convert(source, tmp_path / "out.h5", options=options).n_showers == 60


def test_more_visible_than_came_in_is_refused(tmp_path: Path) -> None:
    """Where all energy should be visible, twice as much is within five times, but not possible."""
    energy, grid = voxels(30, 368, 1, response=2.0)
    source = write_calochallenge(tmp_path / "in.hdf5", energy, grid)
    with pytest.raises(ShowerFileError, match=r"visible over incident energy is 2 .* at most 1\.5"):
        convert(source, tmp_path / "a.h5")


def test_the_depth_expected_is_that_of_a_gamma_distribution() -> None:
    """By numerical integration of the profile of one photon, along the normal and inclined."""
    energy = 2e4
    for direction in ((0.0, 0.0, 1.0), (0.6, 0.0, 0.8)):
        incident = Incident("gamma", energy_mev=[energy], direction=direction)
        found = expected_depth_x0(ILD, incident)[0]
        # The mean of the whole profile, from a detector of the same matter that has no end.
        end = depth_x0(ILD) / direction[2]
        t = np.linspace(1e-6, end, 200_001)
        shape = 0.5 * (np.log(energy / critical_energy_mev(ILD)) + 1.1)
        profile = t ** (shape - 1) * np.exp(-t / 2)
        assert found == pytest.approx(direction[2] * (t * profile).sum() / profile.sum(), rel=1e-3)


def test_who_cannot_tell_is_not_asked() -> None:
    """Hadrons and empty showers."""
    found, energy = clouds(20, 6)
    columns = np.concatenate(found)

    def made(particle: int, scale: float = 1.0) -> Showers:
        return Showers(
            detector=ILD,
            incident=Incident(particle, energy_mev=energy),  # GeV in the place of MeV
            offsets=np.concatenate([[0], np.cumsum([len(cloud) for cloud in found])]),
            x_mm=columns[:, 0],
            y_mm=columns[:, 1],
            layer=columns[:, 2].astype(np.int64),
            energy_mev=scale * columns[:, 3] / 1e3,
        )

    wrong = wrong_by(made(22))
    assert wrong is not None
    assert wrong[0] == 1e3
    assert wrong_by(made(211)) is None
    assert wrong_by(made(22, 0.0)) is None

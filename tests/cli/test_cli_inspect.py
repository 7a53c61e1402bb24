"""`anycalo inspect`: sound files in numbers, broken files refused."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from outcome import Refused, Run

from anycalo.showers import Showers


def test_a_sound_file(anycalo: Run, toy_file: Path) -> None:
    showers = Showers.open(toy_file)
    found = anycalo("inspect", toy_file, "--json").json
    response = showers.visible_mev() / showers.incident.energy_mev
    assert found["n_showers"] == len(showers)
    assert found["n_points"] == showers.n_points
    assert found["particles"] == {"gamma": len(showers)}
    assert found["response"] == pytest.approx([response.mean(), response.std()])
    assert found["provenance"] == showers.provenance
    outcome = anycalo("inspect", toy_file)
    assert outcome.code == 0
    assert ": sound" in outcome.out
    assert f"{showers.n_points:,} in all" in outcome.out
    assert "toy" in outcome.out


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def foreign(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["incident_energies"] = np.ones(3)


def text(path: Path) -> None:
    path.write_text("not an HDF5 file")


def change(name: str, value: object) -> Callable[[Path], None]:
    def edit(path: Path) -> None:
        with h5py.File(path, "r+") as file:
            file[name][0] = value

    return edit


def attribute(name: str, value: object) -> Callable[[Path], None]:
    def edit(path: Path) -> None:
        with h5py.File(path, "r+") as file:
            file.attrs[name] = value

    return edit


def without(name: str) -> Callable[[Path], None]:
    def edit(path: Path) -> None:
        with h5py.File(path, "r+") as file:
            if name in file.attrs:
                del file.attrs[name]
            else:
                del file[name]

    return edit


def no_showers(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        for name in ("points/x_mm", "points/y_mm", "points/layer", "points/energy_mev"):
            file[name].resize(0, axis=0)
        for name in ("incident/energy_mev", "incident/direction", "incident/pdg"):
            file[name].resize(0, axis=0)
        file["offsets"].resize(1, axis=0)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (cut, "truncated"),
        (foreign, "expected 'anycalo-showers'. It holds incident_energies."),
        (text, "not an HDF5 file"),
        (without("format"), "attribute 'format' is None"),
        (without("detector"), "attribute 'detector' is missing"),
        (without("points/layer"), "data set '/points/layer' is missing"),
        (attribute("version", 99), "this AnyCalo reads version 1"),
        (attribute("detector", "name = 3"), "detector"),
        (attribute("provenance", "{"), "Expecting property name"),
        (change("points/energy_mev", -1), "expected at least 0"),
        (change("points/energy_mev", np.nan), "not finite"),
        (change("points/layer", 77), "expected 0 to 5, the layers of small"),
        (change("incident/energy_mev", 0), "expected finite and above 0"),
        (change("incident/pdg", 2212), "particle 2212 is unknown"),
        (change("incident/direction", [0, 0, -1]), "directions must be unit vectors"),
        (change("offsets", 10**6), "'/offsets' must rise"),
        (no_showers, "holds no shower"),
    ],
)
def test_a_broken_file_is_refused(
    refused: Refused, toy_file: Path, tmp_path: Path, damage: Callable[[Path], None], message: str
) -> None:
    path = tmp_path / "broken.h5"
    path.write_bytes(toy_file.read_bytes())
    damage(path)
    error = refused("inspect", path)
    assert message in error
    assert str(path) in error


@pytest.mark.parametrize("damage", [cut, foreign, change("points/energy_mev", np.nan)])
def test_every_command_refuses_it(refused: Refused, toy_file: Path, tmp_path: Path, damage: Callable[[Path], None]) -> None:
    path = tmp_path / "broken.h5"
    path.write_bytes(toy_file.read_bytes())
    damage(path)
    error = refused("inspect", path)
    assert refused("evaluate", toy_file, path, "--out", tmp_path / "report") == error
    assert refused("evaluate", path, toy_file, "--out", tmp_path / "report") == error
    assert refused("show", path, "--event", 0, "--out", tmp_path / "event") == error
    assert refused("train", "caloclouds-tiny", "--data", path, "--out", tmp_path / "run") == error


def test_no_such_file_names_the_samples(refused: Refused, tmp_path: Path) -> None:
    assert "no such file. Samples shipped with AnyCalo" in refused("inspect", tmp_path / "nothing.h5")


def test_points_beyond_the_faces_are_counted(anycalo: Run, toy_file: Path, tmp_path: Path) -> None:
    path = tmp_path / "wide.h5"
    path.write_bytes(toy_file.read_bytes())
    with h5py.File(path, "r+") as file:
        file["points/x_mm"][:3] = [101.0, 99.0, -500.0]
    before = anycalo("inspect", toy_file, "--json").json["n_outside"]
    assert anycalo("inspect", path, "--json").json["n_outside"] == before + 2


def test_slices_cover_every_shower(monkeypatch: pytest.MonkeyPatch, toy_file: Path) -> None:
    """Whatever the size of a slice, the summary is the same."""
    module = importlib.import_module("anycalo.showers.inspect")  # `anycalo.showers.inspect` itself is the function
    whole = module.inspect
    expected = whole(toy_file)
    for size in (500, 5000):
        monkeypatch.setattr(module, "_POINTS_AT_ONCE", size)
        calls: list[tuple[int, int]] = []
        found = whole(toy_file, progress=lambda *call, calls=calls: calls.append(call))
        assert found.to_dict() == expected.to_dict()
        assert calls[0] == (0, 200)
        assert calls[-1] == (200, 200)
        assert len(calls) >= 1 + min(200, expected.n_points // size)
    json.dumps(expected.to_dict())

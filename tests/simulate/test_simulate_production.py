"""What can go wrong before Geant4 starts."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from anycalo.errors import OutputError, SimulationError
from anycalo.geometry import Detector
from anycalo.showers import Beam
from anycalo.simulate import Settings, find_data, production, simulate
from anycalo.simulate.production import Request

BEAM = Beam(energy_mev=(1000.0, 1000.0))


def request(detector: Detector, **changes: object) -> Request:
    values = {"detector": detector, "beam": BEAM, "n": 100, "seed": 1, "settings": Settings()} | changes
    return Request(**values)  # type: ignore[arg-type]


@pytest.mark.parametrize("n", [1, 15, 16, 17, 999, 20_000])
@pytest.mark.parametrize("energy", [1.0, 1e3, 1e5, 1e7])
def test_shards_hold_every_shower_once(small_detector: Detector, n: int, energy: float) -> None:
    shards = request(small_detector, n=n, beam=Beam(energy_mev=(energy, energy))).shards
    assert [i for shard in shards for i in shard] == list(range(n))
    assert all(len(shard) > 0 for shard in shards)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"physics": "opt9"}, "expected one of opt0"),
        ({"cut_mm": 0.0}, "production cut is 0.0 mm; expected above 0"),
        ({"merge_mm": -1.0}, "merge grid is -1.0 mm"),
    ],
)
def test_settings_are_checked(change: dict[str, object], message: str) -> None:
    with pytest.raises(SimulationError, match=message):
        Settings(**change)  # type: ignore[arg-type]


def test_a_script_on_standard_input_is_told_what_to_do(
    small_detector: Detector, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Processes that are spawned import the calling script, and died of it."""
    monkeypatch.setattr(sys.modules["__main__"], "__file__", "<stdin>", raising=False)
    with pytest.raises(SimulationError, match=r"on standard input cannot simulate.*expected a file that calls under"):
        simulate(small_detector, BEAM, 3, tmp_path / "x.h5")
    assert not list(tmp_path.iterdir())


def test_missing_tables_are_named_with_the_remedy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("G4LEDATA", raising=False)
    with pytest.raises(SimulationError, match=r"G4EMLOW data: G4LEDATA is not set.*Its data files"):
        find_data()
    monkeypatch.setenv("G4LEDATA", str(tmp_path / "nowhere"))
    monkeypatch.setenv("G4ENSDFSTATEDATA", str(tmp_path))
    with pytest.raises(SimulationError, match=r"nowhere', which is not a folder"):
        find_data()
    monkeypatch.setenv("G4LEDATA", str(tmp_path))
    with pytest.raises(SimulationError, match=r"holds no brem_SB"):
        find_data()
    (tmp_path / "brem_SB").mkdir()
    (tmp_path / "brem_SB" / "br1").touch()
    assert find_data()["G4LEDATA"] == str(tmp_path)


def test_two_variables_are_enough(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Geant4 stops without a folder of nuclear levels, which the message does not ask for."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    monkeypatch.setenv("G4LEDATA", str(tmp_path))
    monkeypatch.setenv("G4ENSDFSTATEDATA", str(tmp_path))
    (tmp_path / "brem_SB").mkdir()
    (tmp_path / "brem_SB" / "br1").touch()
    monkeypatch.delenv("G4LEVELGAMMADATA", raising=False)
    assert find_data()["G4LEVELGAMMADATA"] == str(tmp_path)
    monkeypatch.setenv("G4LEVELGAMMADATA", "mine")
    assert find_data()["G4LEVELGAMMADATA"] == "mine"


def test_downloads_of_geant4_pybind_are_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    monkeypatch.setenv("HOME", str(tmp_path))
    for variable in ("G4LEDATA", "G4ENSDFSTATEDATA", "GEANT4_DATA_DIR"):
        monkeypatch.delenv(variable, raising=False)
    folder = tmp_path / ".geant4_pybind"
    (folder / "G4EMLOW8.8" / "brem_SB").mkdir(parents=True)
    (folder / "G4EMLOW8.8" / "brem_SB" / "br1").touch()
    (folder / "G4ENSDFSTATE3.0").mkdir()
    assert find_data()["G4LEDATA"].endswith("G4EMLOW8.8")


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(SimulationError, match=r"geant4_pybind, which is not installed.*pip install"):
        find_data()


def test_nothing_is_asked_of_geant4_for_a_bad_request(small_detector: Detector, tmp_path: Path) -> None:
    with pytest.raises(SimulationError, match="0 showers asked for"):
        simulate(small_detector, BEAM, 0, tmp_path / "a.h5")
    with pytest.raises(SimulationError, match="seed is -1"):
        simulate(small_detector, BEAM, 1, tmp_path / "a.h5", seed=-1)
    (tmp_path / "there.h5").touch()
    with pytest.raises(OutputError, match="exists already"):
        simulate(small_detector, BEAM, 1, tmp_path / "there.h5")
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot be written"):
        simulate(small_detector, BEAM, 1, tmp_path / "file" / "a.h5")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "there.h5"]


def test_parts_of_another_production_are_refused(
    small_detector: Detector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(production, "find_data", dict)
    parts = tmp_path / "a.h5.parts"
    parts.mkdir()
    (parts / "request.json").write_text(json.dumps(request(small_detector).to_dict()))
    with pytest.raises(OutputError, match=r"another production: n, seed differ.*choose another name"):
        simulate(small_detector, BEAM, 50, tmp_path / "a.h5", seed=2)

"""Productions over many detectors."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import numpy as np
import pytest

from anycalo.errors import OutputError
from anycalo.geometry import Zoo
from anycalo.showers import Showers
from anycalo.simulate import simulate_zoo
from anycalo.simulate import zoo as simulate_zoo_module


@pytest.fixture
def zoo(tmp_path: Path) -> Zoo:
    text = (resources.files("anycalo.geometry") / "zoos" / "zoo-train.toml").read_text()
    text = text.replace("showers_per_detector = 25", "showers_per_detector = 4").replace("[1000.0, 100000.0]", "[200.0, 400.0]")
    path = tmp_path / "tiny.toml"
    path.write_text(text)
    return Zoo.load(path)


@pytest.mark.geant4
def test_a_zoo_is_produced_resumed_and_claimed(zoo: Zoo, tmp_path: Path) -> None:
    out = tmp_path / "zoo"
    calls: list[int] = []
    simulate_zoo(zoo, 10, out, seed=3, workers=2, progress=lambda d, n: calls.append(d))
    files = sorted(out.glob("*.h5"))
    assert [f.name for f in files] == [f"{k:05d}-zoo-train-{k:05d}.h5" for k in range(3)]
    showers = [Showers.open(f) for f in files]
    assert [len(s) for s in showers] == [4, 4, 2]
    assert [s.detector for s in showers] == [zoo.detector(k) for k in range(3)]
    assert not np.allclose(showers[0].incident.energy_mev, showers[1].incident.energy_mev)
    assert calls == sorted(calls)
    assert calls[-1] == 10

    kept = files[0].stat().st_mtime_ns
    files[1].unlink()
    simulate_zoo(zoo, 10, out, seed=3, workers=1)
    assert files[0].stat().st_mtime_ns == kept
    assert np.array_equal(Showers.open(files[1]).energy_mev, showers[1].energy_mev)
    with pytest.raises(OutputError, match="holds another production: seed differ"):
        simulate_zoo(zoo, 10, out, seed=4)

    # More showers are more detectors; a finished one is never simulated again.
    with pytest.raises(OutputError, match=r"zoo-train-00002.h5 holds 2 showers, where a production of 14 would hold 4\."):
        simulate_zoo(zoo, 14, out, seed=3)
    files[2].unlink()
    simulate_zoo(zoo, 14, out, seed=3, workers=2)
    assert [len(Showers.open(f)) for f in sorted(out.glob("*.h5"))] == [4, 4, 4, 2]
    assert files[0].stat().st_mtime_ns == kept


def test_a_foreign_folder_is_left_alone(zoo: Zoo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simulate_zoo_module, "find_data", dict)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").touch()
    with pytest.raises(OutputError, match="is not a production of a zoo"):
        simulate_zoo(zoo, 10, tmp_path / "mine")
    assert [p.name for p in (tmp_path / "mine").iterdir()] == ["thesis.tex"]

"""Physics and robustness of the real thing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from anycalo.geometry import Detector
from anycalo.showers import Beam, Showers
from anycalo.simulate import Settings, simulate
from samples import SMALL

pytestmark = pytest.mark.geant4

ACCOUNT = """
import json, os, sys
import numpy as np
from anycalo.geometry import Detector
from anycalo.showers import Incident
from anycalo.simulate import Settings, find_data
os.environ.update(find_data())
from anycalo.simulate.geant4 import Geant4Run
detector, particle, energy, n, cut = json.loads(sys.argv[1])
run = Geant4Run(Detector.from_toml(detector), Settings(cut_mm=cut), account=True)
visible = []
incident = Incident(particle, energy_mev=energy, n=n)
run.shoot(incident, range(1, n + 1), lambda s, neutral: visible.append(s[:, 3].sum() + neutral.sum()))
accounts = [(a.deposited_mev, a.leaked_mev) for a in run.accounts]
with open(sys.argv[2], "w") as out:
    out.write(json.dumps([accounts, visible]))
os._exit(0)  # as the workers of a production do: see `anycalo.simulate.production.leave`
"""


def account(tmp_path: Path, detector: Detector, particle: str, energy_mev: float, n: int, cut_mm: float) -> tuple[list, list]:
    """Energy accounts of n events, made in a process of their own: one holds one Geant4."""
    request = json.dumps([detector.to_toml(), particle, energy_mev, n, cut_mm])
    done = subprocess.run(
        [sys.executable, "-c", ACCOUNT, request, str(tmp_path / "account.json")], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    accounts, visible = json.loads((tmp_path / "account.json").read_text())
    return accounts, visible


@pytest.mark.slow
def test_testem3_agrees_with_the_reference_output_of_geant4(tmp_path: Path) -> None:
    """Geant4 examples/extended/electromagnetic/TestEm3: 1 GeV e-, 50 x (2.3 mm Pb + 5.7 mm LAr), 1 mm cut.

    Its reference output gives 774.0 MeV (rms 14.6) in lead and 215.7 (rms 13.4) in argon for 100 events. The
    two differences must lie within 3.5 standard errors of the difference: false alarms once in 1,000 runs.
    """
    n = 200
    accounts, _ = account(tmp_path, Detector.load("testem3"), "electron", 1000.0, n, 1.0)
    for material, mean, rms in (("G4_Pb", 774.0, 14.6), ("G4_lAr", 215.7, 13.4)):
        energies = np.array([deposited[material] for deposited, _ in accounts])
        error = np.hypot(rms / np.sqrt(100), energies.std() / np.sqrt(n))
        assert abs(energies.mean() - mean) < 3.5 * error, f"{material}: {energies.mean():.1f} +- {error:.1f}, expected {mean}"
        # The must-fail twin: 5 % more energy would be noticed.
        assert abs(1.05 * energies.mean() - mean) > 3.5 * error


@pytest.mark.parametrize(("particle", "surplus"), [("gamma", 0.0), ("electron", 0.0), ("positron", 2 * 0.51099895)])
def test_energy_is_conserved_event_by_event(tmp_path: Path, small_detector: Detector, particle: str, surplus: float) -> None:
    """What goes in is deposited or leaves; a positron brings two electron masses, which its annihilation frees."""
    accounts, visible = account(tmp_path, small_detector, particle, 1000.0, 10, 0.1)
    for (deposited, leaked), seen in zip(accounts, visible, strict=True):
        assert sum(deposited.values()) + leaked == pytest.approx(1000.0 + surplus, abs=1e-3)
        assert leaked > 0
        assert seen == pytest.approx(deposited["G4_Si"], rel=1e-9)


def test_energy_is_conserved_in_a_field(tmp_path: Path) -> None:
    detector = Detector.from_toml(SMALL.replace('name = "small"', 'name = "small"\nfield_tesla = 3.5'))
    accounts, _ = account(tmp_path, detector, "gamma", 1000.0, 5, 0.1)
    for deposited, leaked in accounts:
        assert sum(deposited.values()) + leaked == pytest.approx(1000.0, abs=1e-3)


FAR = """
import os, sys
from anycalo.geometry import Detector
from anycalo.simulate import Settings, find_data
os.environ.update(find_data())
from anycalo.simulate import geant4_detector
from anycalo.simulate.geant4 import Geant4Run
from anycalo.simulate.particles import Primary
geant4_detector.LONGEST_MM = float(sys.argv[1])
run, visible = Geant4Run(Detector.load("cu-si"), Settings(), gap_mm=50.0), []
for pdg in (11, 22):
    start = Primary(pdg=pdg, energy_mev=1000.0, position_mm=(0.0, 0.0, -40.0), direction=(0.0, 0.0, 1.0))
    run.shoot_events([[start]], [7], lambda steps, neutral: visible.append(steps[:, 3].sum()))
print("visible", *visible, flush=True)
os._exit(0)
"""


@pytest.mark.parametrize(("longest_mm", "electron_arrives"), [(30.0, False), (50.0, True)])
def test_a_charged_particle_is_ended_outside_after_too_long_a_way(longest_mm: float, electron_arrives: bool) -> None:
    """In a strong field Geant4 can throw an electron back from a surface a million times; a photon goes any way."""
    done = subprocess.run([sys.executable, "-c", FAR, str(longest_mm)], capture_output=True, text=True, check=True)
    electron, photon = map(float, next(x for x in done.stdout.splitlines() if x.startswith("visible")).split()[1:])
    assert (electron > 0) is electron_arrives
    assert photon > 0


def test_the_result_does_not_depend_on_the_number_of_workers(small_detector: Detector, tmp_path: Path) -> None:
    beam = Beam(particle=("gamma", "electron", "positron"), energy_mev=(200.0, 400.0), max_angle_rad=0.5)
    calls: list[tuple[int, int]] = []
    a = Showers.open(simulate(small_detector, beam, 20, tmp_path / "a.h5", seed=5, workers=1))
    b = Showers.open(
        simulate(small_detector, beam, 20, tmp_path / "b.h5", seed=5, workers=3, progress=lambda d, n: calls.append((d, n)))
    )
    other = Showers.open(simulate(small_detector, beam, 20, tmp_path / "c.h5", seed=6, workers=1))
    for name in ("offsets", "x_mm", "y_mm", "layer", "energy_mev"):
        assert np.array_equal(getattr(a, name), getattr(b, name)), name
    assert not np.array_equal(a.counts, other.counts)
    assert calls[0] == (0, 20)
    assert calls[-1] == (20, 20)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.h5", "b.h5", "c.h5"]
    assert a.provenance["physics_list"] == "G4EmStandardPhysics"
    assert a.provenance["geant4_version"].startswith("geant4-")


def test_showers_follow_the_particle(small_detector: Detector, tmp_path: Path) -> None:
    """The centre of gravity in the last layer lies where the incident direction leads."""
    beam = Beam(energy_mev=(5000.0, 5000.0), direction=(0.5, 0.0, 0.8660254))
    showers = Showers.open(simulate(small_detector, beam, 12, tmp_path / "a.h5", seed=1))
    last = showers.layer == 5
    x = np.average(showers.x_mm[last], weights=showers.energy_mev[last])
    y = np.average(showers.y_mm[last], weights=showers.energy_mev[last])
    expected = small_detector.layer_z_mm[5] * 0.5 / 0.8660254
    assert abs(x - expected) < 2.0
    assert abs(y) < 2.0


def test_a_smaller_cut_makes_more_points(small_detector: Detector, tmp_path: Path) -> None:
    points = []
    for cut_mm in (0.01, 5.0):
        settings = Settings(cut_mm=cut_mm, merge_mm=0.0)
        path = simulate(small_detector, Beam(energy_mev=(2000.0, 2000.0)), 8, tmp_path / f"{cut_mm}.h5", settings=settings)
        points.append(Showers.open(path).n_points)
    assert points[0] > 1.3 * points[1]


KILLED = """
import sys
from anycalo.geometry import Detector
from anycalo.showers import Beam
from anycalo.simulate import Settings, simulate
if __name__ == "__main__":
    detector = Detector.from_toml(open(sys.argv[1]).read())
    simulate(detector, Beam(energy_mev=(1500.0, 1500.0)), 160, sys.argv[2], seed=9, workers=2)
"""


def test_kill_9_loses_no_finished_shard_and_leaves_no_half_file(small_detector: Detector, tmp_path: Path) -> None:
    toml, script, out = tmp_path / "d.toml", tmp_path / "s.py", tmp_path / "a.h5"
    toml.write_text(small_detector.to_toml())
    script.write_text(KILLED)
    process = subprocess.Popen([sys.executable, str(script), str(toml), str(out)])
    parts = tmp_path / "a.h5.parts"
    deadline = time.monotonic() + 60
    while len(list(parts.glob("shard-*.h5"))) < 3:
        assert process.poll() is None, "the production ended before it could be killed"
        assert time.monotonic() < deadline, "no shard within a minute"
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not out.exists()
    time.sleep(1.5)  # the workers notice at their next event
    before = {p.name: p.stat().st_mtime_ns for p in parts.glob("shard-*.h5")}
    assert 3 <= len(before) < 16
    calls: list[int] = []
    beam = Beam(energy_mev=(1500.0, 1500.0))
    simulate(small_detector, beam, 160, out, seed=9, workers=2, progress=lambda d, n: calls.append(d))
    assert calls[0] == 10 * len(before)
    assert not parts.exists()
    whole = Showers.open(out)
    again = Showers.open(simulate(small_detector, beam, 160, tmp_path / "b.h5", seed=9, workers=2))
    assert np.array_equal(whole.energy_mev, again.energy_mev)
    assert np.array_equal(whole.offsets, again.offsets)

"""The embedded run: run files, lists of particles, the file of events; with Geant4, what is taken over and what is not."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import h5py
import numpy as np
import pytest
from embed_toys import toy_model

from anycalo.embed import EmbedRun, Events, Gun, Takeover, embed, read_particles
from anycalo.embed.events import entry_table, primary_table
from anycalo.errors import AnyCaloError, ModelError, ShowerFileError, ShowersError, SimulationError
from anycalo.geometry import Detector
from anycalo.models import Noise, load_model
from anycalo.showers import Incident, Showers
from anycalo.simulate.particles import Crossing, Primary

RUN = """
detector = "ild-ecal"
model = "caloclouds-ild"
events = 3
[[gun]]
energy_mev = [1000, 2000]
particle = ["gamma", "electron"]
number = 2
spread_mm = [5, 0]
[settings]
cut_mm = 0.7
"""

CSV = """event,pdg,energy_mev,x_mm,y_mm,z_mm,dx,dy,dz
4,22,1000,1,2,-5,0,0,2
4,13,500,0,0,-5,0.6,0,0.8
7,-11,20,0,0,-5,0,0,1
"""

HEPMC = """HepMC::Version 3.02.06
HepMC::Asciiv3-START_EVENT_LISTING
E 0 2 4 @ 0.1 0 -0.5 0
U GEV CM
P 1 0 11 0 0 50 50 0.000511 4
V -1 0 [1]
P 2 -1 22 3 0 4 5 0 1
P 3 -1 12 0 0 1 1 0 1
V -2 0 [1] @ 1 0 -2 0
P 4 -2 13 0 0 1 1.005567 0.105658 1
E 1 0 1
U MEV MM
P 1 0 12 0 0 1 1 0 1
HepMC::Asciiv3-END_EVENT_LISTING
"""


def test_a_run_file(tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    path.write_text(RUN)
    run = EmbedRun.load(path)
    assert run.settings.cut_mm == 0.7
    events = run.primaries()
    assert [len(event) for event in events] == [2, 2, 2]
    assert all(1000 <= p.energy_mev <= 2000 and abs(p.position_mm[0]) <= 5 and p.position_mm[1] == 0 for e in events for p in e)
    assert events == EmbedRun.load(path).primaries()
    assert dataclasses.replace(run, events=5).primaries()[:3] == events
    assert dataclasses.replace(run, seed=2).primaries() != events
    assert dataclasses.replace(run, field_tesla=0.0).geometry().field_tesla == 0


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("events = 3", "events = 0", "events is 0; expected at least 1"),
        ("events = 3", "evnets = 3", "unknown key 'evnets'.*events"),
        ("[[gun]]", "[[shotgun]]", "unknown key 'shotgun'"),
        ("events = 3", 'events = 3\nparticles = "a.csv"', "one source of particles"),
        ("number = 2", "position_mm = [0, 0, 1]", "expected z below 0"),
        ("[1000, 2000]", "[2000, 1000]", "0 < lowest <= highest"),
        ("cut_mm = 0.7", "cut_mm = 0", "production cut"),
        ("events = 3", "events = ", "not valid TOML"),
    ],
)
def test_a_wrong_run_file_is_refused(tmp_path: Path, old: str, new: str, message: str) -> None:
    path = tmp_path / "run.toml"
    path.write_text(RUN.replace(old, new))
    with pytest.raises(AnyCaloError, match=message):
        EmbedRun.load(path)
    with pytest.raises(SimulationError, match="cannot be read"):
        EmbedRun.load(tmp_path / "none.toml")


def test_particles_from_csv(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(CSV)
    first, second = read_particles(path, origin_mm=(0.0, 0.0, -10.0))
    assert [p.pdg for p in first] == [22, 13]
    assert first[0].direction == (0.0, 0.0, 1.0)
    assert first[0].position_mm == (1.0, 2.0, -15.0)
    assert (second[0].pdg, second[0].energy_mev) == (-11, 20.0)


def test_particles_from_hepmc3(tmp_path: Path) -> None:
    """Units, positions inherited from the event, neutrinos left out, and an event of neutrinos alone with them."""
    path = tmp_path / "a.hepmc3"
    path.write_text(HEPMC)
    (event,) = read_particles(path)
    assert [p.pdg for p in event] == [22, 13]
    assert event[0].energy_mev == pytest.approx(5000.0)
    assert event[0].direction == pytest.approx((0.6, 0.0, 0.8))
    assert event[0].position_mm == pytest.approx((1.0, 0.0, -5.0))
    assert event[1].energy_mev == pytest.approx(1005.567 - 105.658, abs=0.01)
    assert event[1].position_mm == pytest.approx((10.0, 0.0, -20.0))


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.csv", CSV.replace("dz", "z"), "column dz missing"),
        ("a.csv", CSV.replace("7,-11", "3,-11"), "line 4: event 3 after event 4"),
        ("a.csv", CSV.replace(",13,", ",211,"), "particle 211 is unknown to electromagnetic physics"),
        ("a.csv", CSV.replace("1000", "-1"), "expected finite and above 0"),
        ("a.csv", CSV.replace("1000", "much"), "line 2.*expected numbers"),
        ("a.csv", "event,pdg,energy_mev,x_mm,y_mm,z_mm,dx,dy,dz\n", "holds no particle"),
        ("a.hepmc", HEPMC.replace("GEV CM", "GEV KM"), "line 4: cannot be read"),
    ],
)
def test_wrong_lists_of_particles_are_refused(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(SimulationError, match=message):
        read_particles(tmp_path / name)
    with pytest.raises(SimulationError, match="no such file"):
        read_particles(tmp_path / "none.csv")


def crossing(energy_mev: float = 3000.0, pdg: int = 22, x: float = 0.0, slant: float = 0.0) -> Crossing:
    direction = (slant, 0.0, float(np.sqrt(1 - slant**2)))
    return Crossing(pdg=pdg, energy_mev=energy_mev, position_mm=(x, -7.0), direction=direction, primary=0)


def test_the_takeover_keeps_to_the_domain(small_detector: Detector) -> None:
    takeover = Takeover(toy_model(small_detector), small_detector, seed=1)
    assert takeover.take(crossing())
    assert not takeover.take(crossing(energy_mev=500.0))
    assert not takeover.take(crossing(energy_mev=20_000.0))
    assert not takeover.take(crossing(pdg=11))
    assert not takeover.take(crossing(slant=0.5))
    assert len(takeover.finish_event()[0]) == 1
    assert takeover.finish_event()[0] == []
    with pytest.raises(ModelError, match="trained on 'small'"):
        Takeover(toy_model(small_detector), Detector.load("testem3"), seed=1)


def test_showers_lie_where_the_particles_entered(small_detector: Detector) -> None:
    """The deposits are the model's own, moved to the entry point; the second event goes on with the third stream."""
    model = toy_model(small_detector)
    takeover = Takeover(model, small_detector, seed=9)
    takeover.prepare()  # leaves no trace
    for x in (-20.0, 30.0):
        takeover.take(crossing(x=x))
    taken, points, owner = takeover.finish_event()
    takeover.take(crossing())
    _, again, _ = takeover.finish_event()
    plain = model.sample(small_detector, Incident(energy_mev=3000.0, n=3), Noise(9, [0, 1, 2]))
    expected = np.concatenate([plain[k].x_mm + at for k, at in enumerate((-20.0, 30.0, 0.0))])
    np.testing.assert_allclose(np.concatenate([points, again])[:, 1], expected, atol=2e-3)
    np.testing.assert_allclose(np.concatenate([points, again])[:, 2], plain.y_mm - 7.0, atol=2e-3)
    assert [int((owner == k).sum()) for k in range(2)] == plain.counts[:2].tolist()
    assert len(taken) == 2
    # Beyond the sides, at 100 mm, there is no detector.
    takeover.take(crossing(x=99.9))
    _, cut, _ = takeover.finish_event()
    assert cut[:, 1].max() <= 100
    assert takeover.lost_mev > 0


@pytest.mark.parametrize("name", ["ild-ecal", "cu-si", "fe-scint"])
def test_one_model_takes_over_in_any_detector(name: str) -> None:
    """Photons, electrons and positrons of one event, each at its place; what enters alone is the same as among others."""
    detector = Detector.load(name)
    model = load_model("anycalo-base")
    takeover = Takeover(model, detector, seed=4)
    asked = [crossing(pdg=pdg, x=x) for pdg, x in ((22, -200.0), (11, 0.0), (-11, 200.0))]
    assert all(takeover.take(c) for c in asked)
    assert not takeover.take(crossing(energy_mev=900.0))
    assert not takeover.take(crossing(slant=0.8))
    taken, points, owner = takeover.finish_event()
    assert taken == asked
    for k, c in enumerate(asked):
        mine = points[owner == k]
        centre = np.average(mine[:, 1:3], weights=mine[:, 3], axis=0)
        np.testing.assert_allclose(centre, c.position_mm, atol=15)
        assert 0 < mine[:, 3].sum() < c.energy_mev
    others = Takeover(model, detector, seed=4)
    others.take(asked[0])
    _, alone, _ = others.finish_event()
    assert len(alone) == (owner == 0).sum()
    np.testing.assert_allclose(alone[:, 3], points[owner == 0][:, 3], rtol=1e-3)


def test_a_positron_is_an_electron_mirrored_in_y() -> None:
    """Where the model knows electrons alone; with `mirror` off positrons are left to Geant4."""
    detector = Detector.load("ild-ecal")
    model = load_model("anycalo-base")

    def enters(pdg: int, dy: float) -> Crossing:
        return Crossing(pdg=pdg, energy_mev=5000.0, position_mm=(0.0, 0.0), direction=(0.0, dy, np.sqrt(1 - dy**2)), primary=0)

    electron, positron = Takeover(model, detector, seed=4), Takeover(model, detector, seed=4)
    assert electron.take(enters(11, -0.3))
    assert positron.take(enters(-11, 0.3))
    (_, a, _), (taken, b, _) = electron.finish_event(), positron.finish_event()
    np.testing.assert_array_equal(b * [1, 1, -1, 1], a)
    assert taken[0].pdg == -11
    assert np.average(b[:, 2], weights=b[:, 3]) > 5  # its slope leads towards positive y
    assert not Takeover(model, detector, seed=4, mirror=False).take(enters(-11, 0.3))


def toy_events(detector: Detector) -> Events:
    primary = Primary(pdg=22, energy_mev=2000.0, position_mm=(0.0, 0.0, -5.0), direction=(0.0, 0.0, 1.0))
    return Events(
        showers=Showers(
            detector=detector,
            incident=Incident(energy_mev=np.array([4000.0, 2000.0])),
            offsets=np.array([0, 2, 3]),
            x_mm=np.zeros(3),
            y_mm=np.zeros(3),
            layer=np.array([0, 1, 2]),
            energy_mev=np.array([1.0, 2.0, 1.0]),
        ),
        origin=np.array([-1, 1, -1]),
        primaries=primary_table([[primary, primary], [primary]]),
        entries=entry_table([[crossing(), crossing(x=3.0)], []]),
    )


def test_a_file_of_events_is_a_shower_file(small_detector: Detector, tmp_path: Path) -> None:
    events = toy_events(small_detector)
    events.write(tmp_path / "a.h5")
    found = Events.open(tmp_path / "a.h5")
    assert np.array_equal(found.origin, events.origin)
    for name in ("primaries", "entries"):
        for column, values in getattr(events, name).items():
            assert np.array_equal(getattr(found, name)[column], values), (name, column)
    assert found.fast_fraction() == 0.5
    assert Showers.open(tmp_path / "a.h5").n_points == 3
    assert [p.name for p in tmp_path.iterdir()] == ["a.h5"]
    with pytest.raises(ShowersError, match="another event than the entry"):
        dataclasses.replace(events, origin=np.array([-1, -1, 1]))
    with pytest.raises(ShowersError, match="expected -1 or an entry"):
        dataclasses.replace(events, origin=np.array([-1, 2, -1]))
    with h5py.File(tmp_path / "a.h5", "r+") as file:
        del file["entries/pdg"]
    with pytest.raises(ShowerFileError, match=r"but not of events.*anycalo embed"):
        Events.open(tmp_path / "a.h5")


@pytest.mark.geant4
@pytest.mark.slow
def test_a_run_takes_over_what_it_should(small_detector: Detector, tmp_path: Path) -> None:
    """Two photons and a muon an event: the photon inside the domain is the model's, everything else is Geant4's."""
    toy_model(small_detector).save(tmp_path / "model")
    (tmp_path / "small.toml").write_text(small_detector.to_toml())
    particles = ((22, 5000, -40), (22, 600, 40), (13, 3000, 0))
    rows = [f"{event},{pdg},{energy},{x},0,-20,0,0,1" for event in range(3) for pdg, energy, x in particles]
    (tmp_path / "list.csv").write_text("\n".join(["event,pdg,energy_mev,x_mm,y_mm,z_mm,dx,dy,dz", *rows]))
    (tmp_path / "run.toml").write_text('detector = "small.toml"\nmodel = "model"\nparticles = "list.csv"\ngap_mm = 30\n')
    run = EmbedRun.load(tmp_path / "run.toml")
    calls: list[tuple[int, int]] = []
    fast = Events.open(embed(run, tmp_path / "fast.h5", progress=lambda d, n: calls.append((d, n))))
    assert calls == [(1, 3), (2, 3), (3, 3)]
    assert fast.entries["event"].tolist() == [0, 1, 2]
    assert fast.entries["primary"].tolist() == [0, 0, 0]
    np.testing.assert_allclose(fast.entries["position_mm"], [[-40, 0]] * 3, atol=1e-3)
    np.testing.assert_allclose(fast.entries["energy_mev"], 5000.0)
    made = fast.origin >= 0
    side = fast.showers.x_mm < -20
    # The small photon and the muon stay on their side; the model's photon stays on its own.
    assert fast.showers.energy_mev[made & side].sum() > 0.8 * fast.showers.energy_mev[made].sum()
    assert fast.showers.energy_mev[~made & side].sum() < 0.2 * fast.showers.energy_mev[~made].sum()
    assert fast.showers.incident.energy_mev.tolist() == [8600.0] * 3
    full = Events.open(embed(run, tmp_path / "full.h5", full=True))
    assert full.fast_fraction() == 0
    assert len(full.entries["event"]) == 0
    again = Events.open(embed(run, tmp_path / "again.h5"))
    assert np.array_equal(again.showers.energy_mev, fast.showers.energy_mev)
    with pytest.raises(SimulationError, match="outside the world"):
        embed(dataclasses.replace(run, gap_mm=5.0), tmp_path / "outside.h5")
    assert not (tmp_path / "outside.h5").exists()


@pytest.mark.geant4
@pytest.mark.slow
def test_every_kind_is_taken_over_inside_geant4(tmp_path: Path) -> None:
    """A run with `anycalo-base` in iron and scintillator: a photon, an electron and a positron an event, side by side.

    The mean visible energy of 8 events is that of the full simulation within 25 %, which is ten standard errors here: what
    is tested is that showers are made and placed, not how good they are.
    """
    gun = [
        Gun(energy_mev=(2000.0, 2000.0), particle=(kind,), position_mm=(x, 0.0, -10.0))
        for kind, x in (("gamma", -150.0), ("electron", 0.0), ("positron", 150.0))
    ]
    run = EmbedRun(detector="fe-scint", model="anycalo-base", events=8, gun=tuple(gun), seed=3)
    fast = Events.open(embed(run, tmp_path / "fast.h5"))
    full = Events.open(embed(run, tmp_path / "full.h5", full=True))
    assert fast.entries["pdg"].tolist() == [-11, 11, 22] * 8  # Geant4 begins with the last
    assert fast.fast_fraction() > 0.98
    for low, high in ((-225, -75), (-75, 75), (75, 225)):
        energy = []
        for events in (fast, full):
            inside = (events.showers.x_mm > low) & (events.showers.x_mm < high)
            energy.append(events.showers.energy_mev[inside].sum(dtype=np.float64) / 8)
        assert energy[0] == pytest.approx(energy[1], rel=0.25)
    seconds = fast.showers.provenance["processor_seconds"]
    assert 0 < seconds["model"] <= seconds["events"]
    left = Events.open(embed(dataclasses.replace(run, events=2, mirror_positrons=False), tmp_path / "left.h5"))
    assert left.entries["pdg"].tolist() == [11, 22] * 2


def test_a_gun_is_checked() -> None:
    with pytest.raises(SimulationError, match="number is 0"):
        Gun(energy_mev=(1.0, 2.0), number=0)

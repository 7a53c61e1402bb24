"""Zoos: random detectors stay in their ranges and depend on nothing but their number."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import pytest

from anycalo.errors import DetectorError
from anycalo.geometry import Detector, Zoo, derived, material

TRAIN = (resources.files("anycalo.geometry") / "zoos" / "zoo-train.toml").read_text()


def test_random_detectors_stay_in_the_ranges() -> None:
    zoo = Zoo.load("zoo-train")
    seen_fields, seen_materials = set(), set()
    for k in range(150):
        detector = zoo.detector(k)
        assert 12 <= detector.n_layers <= 60
        assert 12 <= derived.depth_x0(detector) <= 30
        assert 0 <= detector.field_tesla <= 4
        for layer in detector.layers:
            absorber = layer.stack[0]
            x0 = absorber.thickness_mm / material({}, absorber.material).x0_mm
            assert 0.2 - 1e-3 <= x0 <= 1.2 + 1e-3
            assert sum(s.sensitive for s in layer.stack) == 1
        seen_fields.add(round(detector.field_tesla))
        seen_materials |= {slab.material for slab in detector.layers[0].stack[:2]}
        assert Detector.from_toml(detector.to_toml()) == detector
    assert seen_fields == {0, 1, 2, 3, 4}
    assert seen_materials == {"G4_W", "G4_Pb", "G4_Fe", "G4_Cu", "G4_BRASS", "G4_Si", "G4_lAr", "G4_PLASTIC_SC_VINYLTOLUENE"}


def test_a_detector_depends_on_its_number_alone() -> None:
    a, b = Zoo.load("zoo-train"), Zoo.load("zoo-train")
    drawn = [a.detector(k).to_toml() for k in range(5)]
    assert b.detector(4).to_toml() == drawn[4]
    assert len(set(drawn)) == 5


def test_showers_are_shared_out_completely() -> None:
    zoo = Zoo.load("zoo-train")
    for n in (1, 39, 40, 41, 100):
        work = zoo.detectors(n)
        assert sum(share for _, share in work) == n
        assert all(0 < share <= 40 for _, share in work)
    held_out = Zoo.load("zoo-held-out")
    work = held_out.detectors(100)
    assert sum(share for _, share in work) == 100
    assert len(work) == len(held_out.held_out)
    with pytest.raises(DetectorError, match="1000000 showers asked of zoo-held-out"):
        held_out.detectors(10**6)


def test_no_held_out_detector_is_drawn_for_training() -> None:
    held_out = {Detector.load(name).layers for name, _ in Zoo.load("zoo-held-out").held_out}
    zoo = Zoo.load("zoo-train")
    assert not any(zoo.detector(k).layers in held_out for k in range(100))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("n_layers = [12, 60]", "n_layers = [60, 12]", r"n_layers is \[60, 12\]; expected \[lowest, highest\]"),
        ("pitch_mm", "pich_mm", "unknown key 'pich_mm' in zoo. Did you mean 'pitch_mm'"),
        ("G4_BRASS", "G4_BRASSS", "G4_BRASSS"),
        ("probability = 0.5", "probability = 2", "passive.probability is 2; expected from 0 to 1"),
        ("seed = 20260", "seed = -1", "seed is -1; expected a whole number of at least 0"),
        ("max_angle_deg = 45.0", "", "beam lacks 'max_angle_deg'"),
        ("depth_x0 = [12.0, 30.0]", "depth_x0 = [1.0, 1.1]", "widen the ranges"),
        ("name =", "name", "not valid TOML"),
    ],
)
def test_wrong_recipes_are_refused(tmp_path: Path, old: str, new: str, message: str) -> None:
    path = tmp_path / "zoo.toml"
    assert old in TRAIN
    path.write_text(TRAIN.replace(old, new))
    with pytest.raises(DetectorError, match=message):
        Zoo.load(path).detector(0)


def test_an_unknown_zoo_is_answered_with_the_known_ones() -> None:
    with pytest.raises(DetectorError, match=r"no zoo 'zoo-trian'.*Did you mean 'zoo-train'"):
        Zoo.load("zoo-trian")

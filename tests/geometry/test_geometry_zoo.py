"""Zoos: random detectors stay in their ranges and depend on nothing but their number."""

from __future__ import annotations

import hashlib
import re
from importlib import resources
from pathlib import Path

import pytest

from anycalo.errors import DetectorError
from anycalo.geometry import Detector, Zoo, derived, material

ZOOS = resources.files("anycalo.geometry") / "zoos"
TRAIN, GAPS = ((ZOOS / name).read_text() for name in ("zoo-train.toml", "zoo-gaps.toml"))


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
        ("seed =", "no_field_probability = 1.5\nseed =", "no_field_probability is 1.5; expected from 0 to 1"),
        ("seed =", "alternating_probability = -1\nseed =", "alternating_probability is -1; expected from 0 to 1"),
        ("seed =", "sheets = [0, 2]\nseed =", r"sheets is \[0, 2\]; expected \[fewest, most\], whole numbers with 1"),
        ("seed =", "sheets = [1, 2.5]\nseed =", r"sheets is \[1, 2.5\]; expected"),
        ("seed =", "sheets = [3, 2]\nseed =", r"sheets is \[3, 2\]; expected"),
        ("seed =", "sheets = 2\nseed =", "sheets is 2; expected"),
        ("[beam]", "[front]\nprobability = 'often'\n[beam]", "front.probability is 'often'; expected from 0 to 1"),
        ("[beam]", "[front]\nG4_AIR = 1.0\n[beam]", "front.probability is None"),
        ("[beam]", "[front]\nprobability = 0.5\nG4_ARI = 1.0\n[beam]", "G4_ARI"),
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


def test_old_recipes_draw_what_they_always_drew() -> None:
    """Showers of these detectors are on disk; the digest was taken before recipes could ask for fronts and turned sensors."""
    drawn = "".join(Zoo.load("zoo-train").detector(k).to_toml() for k in (0, 7))
    assert hashlib.sha256(drawn.encode()).hexdigest() == "ab4646ada17f9202fdbb69c86dce62f13562b57f2bff79755865f00ce670bdc7"


def test_gaps_sensors_that_turn_and_no_field() -> None:
    zoo = Zoo.load("zoo-gaps")
    assert zoo.stacks is not None
    detectors = [zoo.detector(k) for k in range(120)]
    sensors = set(zoo.stacks.sensors)
    fronts = alternating = no_field = 0
    for detector in detectors:
        assert 12 <= detector.n_layers <= 60
        assert 12 <= derived.depth_x0(detector) <= 30
        assert Detector.from_toml(detector.to_toml()) == detector
        no_field += detector.field_tesla == 0
        first = detector.layers[0]
        order = [slab.sensitive for slab in first.stack]
        assert order[0] is False
        assert order.count(True) == 1
        # Behind the absorber: nothing or a front, the sensor, nothing or a passive sheet.
        fronts += order.index(True) == 2
        turned = [section for section in detector.sections if len(section.layers) == 2]
        alternating += bool(turned)
        for section in turned:
            one, other = section.layers
            assert one.stack[0] == other.stack[0]
            assert one.stack[1:] == other.stack[:0:-1]
            assert one.stack != other.stack
        assert {s.material for layer in detector.layers for s in layer.stack if s.sensitive} < sensors | {"-"}
    # Binomial: 120 draws at 0.8, 0.4 times 0.96 (without a sheet nothing turns) and 0.5, each within five standard deviations.
    for seen, probability in ((fronts, 0.8), (alternating, 0.4 * 0.96), (no_field, 0.5)):
        assert abs(seen - 120 * probability) < 5 * (120 * probability * (1 - probability)) ** 0.5


def test_fields_are_strong_in_stacks_with_gaps() -> None:
    zoo = Zoo.load("zoo-fields")
    detectors = [zoo.detector(k) for k in range(60)]
    fields = [detector.field_tesla for detector in detectors]
    assert min(fields) >= 2
    assert 4.5 < max(fields) <= 5
    gaps = sum(slab.material == "G4_AIR" for detector in detectors for slab in detector.layers[0].stack)
    assert gaps > 5
    others = {Zoo.load("zoo-gaps").detector(k).sections for k in range(60)}
    assert not others & {detector.sections for detector in detectors}


def test_many_detectors_with_few_showers_each() -> None:
    zoo = Zoo.load("zoo-many")
    work = zoo.detectors(601)
    assert [share for _, share in work] == [6] * 100 + [1]
    detectors = [detector for detector, _ in work]
    fields = [detector.field_tesla for detector in detectors]
    # Binomial: 101 draws at 0.4, 0.6 and 0.6, each within five standard deviations.
    fronts = sum(not detector.layers[0].stack[1].sensitive for detector in detectors)
    behind = sum(not detector.layers[0].stack[-1].sensitive for detector in detectors)
    for seen, probability in ((fields.count(0.0), 0.4), (fronts, 0.6), (behind, 0.6)):
        assert abs(seen - 101 * probability) < 5 * (101 * probability * (1 - probability)) ** 0.5
    assert 4 < max(fields) <= 5
    others = {
        Zoo.load(name).detector(k).sections
        for name in ("zoo-train", "zoo-gaps", "zoo-fields", "zoo-unseen")
        for k in range(101)
    }
    assert not others & {detector.sections for detector in detectors}
    # Those to choose on are drawn from the same ranges.
    assert Zoo.load("zoo-unseen").stacks == zoo.stacks


def test_several_sheets_on_either_side() -> None:
    zoo = Zoo.load("zoo-sheets")
    detectors = [zoo.detector(k) for k in range(120)]
    sides = []
    for detector in detectors:
        assert 12 <= derived.depth_x0(detector) <= 30
        assert Detector.from_toml(detector.to_toml()) == detector
        sensitive = [slab.sensitive for slab in detector.layers[0].stack]
        assert sensitive.count(True) == 1
        at = sensitive.index(True)
        sides += [at - 1, len(sensitive) - at - 1]
    # Of 240 sides a fifth has none; each number from 1 to 5 is as likely as the others. Within five standard deviations.
    for number, probability in ((0, 0.2), *((n, 0.16) for n in (1, 2, 3, 4, 5))):
        assert abs(sides.count(number) - 240 * probability) < 5 * (240 * probability * (1 - probability)) ** 0.5
    assert max(sides) == 5
    others = {Zoo.load(name).detector(k).sections for name in ("zoo-many", "zoo-unseen") for k in range(120)}
    assert not others & {detector.sections for detector in detectors}


def test_what_is_not_asked_for_is_not_drawn(tmp_path: Path) -> None:
    path = tmp_path / "zoo.toml"
    path.write_text(
        GAPS.replace("[front]\nprobability = 0.8", "[front]\nprobability = 0.0").replace("0.4\npitch", "0.0\npitch")
    )
    zoo = Zoo.load(path)
    for k in range(30):
        detector = zoo.detector(k)
        assert all(len(section.layers) == 1 for section in detector.sections)
        assert detector.layers[0].stack[1].sensitive


def test_the_recipes_of_the_documentation_are_recipes(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "zoo.md").read_text("utf-8")
    random, fixed = re.findall(r"```toml\n(.*?)```", page, flags=re.DOTALL)
    for name, text in (("random", random), ("fixed", fixed)):
        (tmp_path / name).write_text(text)
    assert Zoo.load(tmp_path / "random").detector(0).name == "my-zoo-00000"
    assert Zoo.load(tmp_path / "fixed").detectors(1)[0][0] == Detector.load("ild-ecal")
    for name in ZOOS.iterdir():
        assert f"`{name.name.removesuffix('.toml')}`" in page

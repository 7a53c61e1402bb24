"""Detectors as objects: immutable, comparable, and copied by their text."""

import copy
import dataclasses
import pickle

import numpy as np
import pytest

from anycalo.errors import DetectorError
from anycalo.geometry import CustomMaterial, Detector, Edges, Hexagonal, Layer, Polar, Rectangular, Section, Slab

SLAB = Slab(material="G4_Si", thickness_mm=0.5, sensitive=True)
READOUT = Rectangular(pitch_mm=(5.0, 5.0))
LAYER = Layer(stack=(SLAB,), readout=READOUT)
SECTION = Section(layers=(LAYER,))


def test_nothing_can_be_changed() -> None:
    d = Detector.load("ild-ecal")
    for thing, field in ((d, "name"), (d.sections[0], "repeat"), (d.layers[0], "stack"), (d.layers[0].stack[0], "material")):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(thing, field, "other")
    with pytest.raises(TypeError):
        d.materials["New"] = d.materials["Epoxy"]  # type: ignore[index]
    with pytest.raises(TypeError):
        d.materials["Epoxy"].mass_fractions["G4_H"] = 1.0  # type: ignore[index]
    for array in (d.layer_thickness_mm, d.layer_front_mm, d.layer_z_mm):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1.0


def test_what_it_was_built_from_may_change_afterwards() -> None:
    given = {"Foil": CustomMaterial(density_g_cm3=1.0, mass_fractions={"G4_C": 1.0})}
    sections = [SECTION]
    d = Detector(name="d", sections=sections, materials=given)
    text = d.to_toml()
    given.clear()
    sections.clear()
    assert d.to_toml() == text
    assert Detector.from_toml(text) == d


def test_equality_is_of_content() -> None:
    a, b = Detector.load("ild-ecal"), Detector.load("ild-ecal")
    assert a is not b
    assert a == b
    assert hash(a) == hash(b)
    assert len({a, b, Detector.load("testem3")}) == 2
    changed = dataclasses.replace(a, field_tesla=3.0)
    assert changed != a
    assert a != "ild-ecal"


def test_copies_travel_as_text() -> None:
    d = Detector.load("ild-ecal")
    function, arguments = d.__reduce__()
    assert function is Detector.from_toml or function == Detector.from_toml
    assert arguments == (d.to_toml(),)
    assert pickle.loads(pickle.dumps(d)) == d  # how worker processes receive it; no file of ours is a pickle
    assert copy.deepcopy(d) == d


def test_the_text_of_ild_ecal_is_fixed() -> None:
    """Shower files carry this text; changing how it is written would part them from their preset."""
    import hashlib

    digest = hashlib.sha256(Detector.load("ild-ecal").to_toml().encode()).hexdigest()
    assert digest == "9cbb4ea1637fe05588aea15ed62e6cf12c4ef87d2526545752bf0c08570fd313"


def test_numbers_of_numpy_are_numbers() -> None:
    slab = Slab(material="G4_Si", thickness_mm=np.float32(0.5), sensitive=True)
    assert slab == SLAB
    assert type(slab.thickness_mm) is float
    section = Section(layers=(LAYER,), repeat=np.int64(2))
    assert (
        Detector(name="d", sections=(section,)).to_toml()
        == Detector(name="d", sections=(Section(layers=(LAYER,), repeat=2),)).to_toml()
    )


def test_mass_fractions_are_normalised_once() -> None:
    m = CustomMaterial(density_g_cm3=1.0, mass_fractions={"G4_C": 0.3333, "G4_H": 0.6663})
    assert sum(m.mass_fractions.values()) == pytest.approx(1, abs=1e-15)
    assert CustomMaterial(density_g_cm3=1.0, mass_fractions=m.mass_fractions) == m


@pytest.mark.parametrize(
    ("build", "says"),
    [
        (lambda: Layer(stack=(), readout=READOUT), "no sensitive slab"),
        (lambda: Layer(stack=("G4_W",), readout=READOUT), "stack holds 'G4_W'; expected Slab objects"),
        (lambda: Layer(stack=5, readout=READOUT), "stack is 5; expected a sequence of Slab"),
        (lambda: Layer(stack=(SLAB,), readout="rectangular"), "expected Rectangular, Edges, Polar or Hexagonal"),
        (lambda: Section(layers=()), "section has no layer"),
        (lambda: Section(layers=(SLAB,)), "expected Layer objects"),
        (lambda: Detector(name="d", sections=()), "no section"),
        (lambda: Detector(name="d", sections=(LAYER,)), "expected Section objects"),
        (lambda: Detector(name="", sections=(SECTION,)), "name is ''; expected text"),
        (lambda: Detector(name="d", sections=(SECTION,), threshold_mip=-1), "threshold_mip is -1"),
        (lambda: Rectangular(pitch_mm=(5, 5), gap_mm=(5, 0)), "expected less than pitch_mm"),
        (lambda: Rectangular(pitch_mm=(5, 5), wafer_gap_mm=(1, 1)), "without wafer_cells"),
        (lambda: Rectangular(pitch_mm=(5, 5), wafer_cells=(1.5, 2)), "wafer_cells is 1.5; expected a whole number"),
        (lambda: Rectangular(pitch_mm=5), "expected two numbers"),
        (lambda: Edges(x_edges_mm=(0, 1, 3), y_edges_mm=(0, 1), gap_mm=(1, 0)), "smallest cell, 1.0 mm"),
        (lambda: Polar(r_edges_mm=(-1, 1), n_phi=4), "starts at -1.0; expected a radius of at least 0"),
        (lambda: Polar(r_edges_mm=(0, 1), n_phi=0), "n_phi is 0"),
        (lambda: Hexagonal(pitch_mm=5, gap_mm=5), "expected less than pitch_mm"),
        (lambda: CustomMaterial(density_g_cm3=1.0, mass_fractions={}), "expected { G4_X = fraction"),
    ],
)
def test_what_cannot_be_built_is_refused(build: object, says: str) -> None:
    with pytest.raises(DetectorError) as caught:
        build()  # type: ignore[operator]
    assert says in str(caught.value)

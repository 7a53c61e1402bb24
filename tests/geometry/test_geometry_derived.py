"""Derived quantities: closed forms, invariances, and what they are for the presets."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anycalo.geometry import CustomMaterial, Detector, Layer, Rectangular, Section, Slab, derived, material, presets

READOUT = Rectangular(pitch_mm=(5.0, 5.0))
ARRAYS = (
    derived.layer_front_x0,
    derived.layer_thickness_x0,
    derived.sensitive_thickness_mm,
    derived.mip_mev,
    derived.layer_sampling_fraction,
    derived.layer_moliere_mm,
    derived.layer_critical_energy_mev,
    derived.effective_z,
)
SCALARS = (derived.depth_x0, derived.sampling_fraction, derived.moliere_radius_mm, derived.critical_energy_mev)


def layer(*slabs: tuple[str, float, bool], stack_repeat: int = 1) -> Layer:
    stack = tuple(Slab(material=m, thickness_mm=t, sensitive=s) for m, t, s in slabs)
    return Layer(stack=stack, stack_repeat=stack_repeat, readout=READOUT)


def detector(*layers: Layer, repeat: int = 1) -> Detector:
    return Detector(name="d", sections=(Section(layers=layers, repeat=repeat),))


def same(a: Detector, b: Detector) -> None:
    for function in ARRAYS:
        np.testing.assert_allclose(function(a), function(b), rtol=1e-12, atol=1e-15, err_msg=function.__name__)
    for scalar in SCALARS:
        assert scalar(a) == pytest.approx(scalar(b), rel=1e-12), scalar.__name__


SLABS = st.lists(
    st.tuples(st.sampled_from(["G4_W", "G4_Pb", "G4_Si", "G4_lAr", "G4_AIR"]), st.floats(0.01, 30.0), st.booleans()),
    min_size=1,
    max_size=6,
).filter(lambda slabs: any(s for _, _, s in slabs))


def test_a_homogeneous_stack_has_the_values_of_its_material() -> None:
    m, d = material({}, "G4_PbWO4"), detector(layer(("G4_PbWO4", 30.0, True)), repeat=4)
    assert derived.moliere_radius_mm(d) == pytest.approx(m.moliere_mm)
    assert derived.critical_energy_mev(d) == pytest.approx(m.critical_energy_mev)
    np.testing.assert_allclose(derived.layer_moliere_mm(d), m.moliere_mm)
    np.testing.assert_allclose(derived.layer_critical_energy_mev(d), m.critical_energy_mev)
    np.testing.assert_allclose(derived.effective_z(d), m.effective_z)
    np.testing.assert_allclose(derived.layer_thickness_x0(d), 30 / m.x0_mm)
    np.testing.assert_allclose(derived.layer_front_x0(d), np.arange(4) * 30 / m.x0_mm)
    np.testing.assert_allclose(derived.mip_mev(d), 3 * m.mip_mev_per_cm)
    assert derived.sampling_fraction(d) == 1
    assert derived.depth_x0(d) == pytest.approx(120 / m.x0_mm)


def test_two_slabs_by_hand() -> None:
    w, si, d = material({}, "G4_W"), material({}, "G4_Si"), detector(layer(("G4_W", 2.0, False), ("G4_Si", 0.5, True)))
    t_w, t_si = 2 / w.x0_mm, 0.5 / si.x0_mm
    assert derived.layer_thickness_x0(d)[0] == pytest.approx(t_w + t_si)
    assert derived.layer_moliere_mm(d)[0] == pytest.approx(2.5 / (2 / w.moliere_mm + 0.5 / si.moliere_mm))
    assert derived.effective_z(d)[0] == pytest.approx((74 * t_w + 14 * t_si) / (t_w + t_si))
    seen = 0.05 * si.mip_mev_per_cm
    assert derived.layer_sampling_fraction(d)[0] == pytest.approx(seen / (seen + 0.2 * w.mip_mev_per_cm))
    assert derived.sensitive_thickness_mm(d)[0] == 0.5


def test_layers_are_the_mixture_that_pdg_would_make_of_them() -> None:
    """The same lead and argon, once in sheets and once ground and stirred."""
    sheets = detector(layer(("G4_Pb", 2.0, False), ("G4_lAr", 4.0, True)))
    pb, ar = material({}, "G4_Pb"), material({}, "G4_lAr")
    mass = {"G4_Pb": 2 * pb.density_g_cm3, "G4_lAr": 4 * ar.density_g_cm3}
    total = sum(mass.values())
    stirred = CustomMaterial(density_g_cm3=total / 6, mass_fractions={k: m / total for k, m in mass.items()})
    m = material({"S": stirred}, "S")
    assert derived.moliere_radius_mm(sheets) == pytest.approx(m.moliere_mm)
    assert derived.critical_energy_mev(sheets) == pytest.approx(m.critical_energy_mev)
    assert derived.depth_x0(sheets) == pytest.approx(6 / m.x0_mm)
    assert derived.effective_z(sheets)[0] == pytest.approx(m.effective_z)


@given(SLABS, st.floats(0.1, 0.9), st.data())
def test_splitting_a_slab_changes_nothing(slabs: list[tuple[str, float, bool]], share: float, data: st.DataObject) -> None:
    i = data.draw(st.integers(0, len(slabs) - 1))
    name, thickness, sensitive = slabs[i]
    parts = [(name, thickness * share, sensitive), (name, thickness * (1 - share), sensitive)]
    same(detector(layer(*slabs)), detector(layer(*slabs[:i], *parts, *slabs[i + 1 :])))


@given(SLABS, st.permutations(range(6)))
def test_the_order_of_slabs_does_not_matter(slabs: list[tuple[str, float, bool]], order: list[int]) -> None:
    same(detector(layer(*slabs)), detector(layer(*[slabs[i] for i in order if i < len(slabs)])))


@given(SLABS, st.integers(1, 5))
def test_repeating_a_stack_is_writing_it_out(slabs: list[tuple[str, float, bool]], n: int) -> None:
    same(detector(layer(*slabs, stack_repeat=n)), detector(layer(*slabs * n)))


@given(st.lists(SLABS, min_size=1, max_size=4))
def test_whole_is_the_sum_of_the_layers(stacks: list[list[tuple[str, float, bool]]]) -> None:
    d = detector(*[layer(*slabs) for slabs in stacks])
    x0 = derived.layer_thickness_x0(d)
    assert derived.depth_x0(d) == pytest.approx(x0.sum())
    np.testing.assert_allclose(np.diff(derived.layer_front_x0(d)), x0[:-1], rtol=1e-9, atol=1e-12)
    inverse = np.average(1 / derived.layer_moliere_mm(d), weights=d.layer_thickness_mm)
    assert derived.moliere_radius_mm(d) == pytest.approx(1 / inverse)
    assert derived.critical_energy_mev(d) == pytest.approx(np.average(derived.layer_critical_energy_mev(d), weights=x0))
    assert 0 < derived.sampling_fraction(d) <= 1 + 1e-12


@pytest.mark.parametrize("name", presets())
def test_arrays_have_one_entry_a_layer_and_cannot_be_written_to(name: str) -> None:
    d = Detector.load(name)
    for function in ARRAYS:
        values = function(d)
        assert values.shape == (d.n_layers,)
        assert np.isfinite(values).all()
        with pytest.raises(ValueError, match="read-only"):
            values[0] = 1.0
    for scalar in SCALARS:
        assert type(scalar(d)) is float


def test_describe_groups_equal_layers() -> None:
    about = derived.describe(Detector.load("ild-ecal"))
    assert [(g["first"], g["last"]) for g in about["groups"]] == [(1, 20), (21, 30)]  # sensors facing either way are one group
    assert about["groups"][1]["thickness_mm"] == pytest.approx(8.085)
    assert about["groups"][0]["readout"] == "5.088 x 5.088 mm cells"
    assert about["field_tesla"] == 3.5
    a, b = layer(("G4_W", 2.0, False), ("G4_Si", 0.5, True)), layer(("G4_W", 3.0, False), ("G4_Si", 0.5, True))
    assert [(g["first"], g["last"]) for g in derived.describe(detector(a, b, b, a))["groups"]] == [(1, 1), (2, 3), (4, 4)]


def test_describe_is_json() -> None:
    import json

    for name in presets():
        again = json.loads(json.dumps(derived.describe(Detector.load(name))))
        assert again["name"] == name
        assert math.isfinite(again["moliere_radius_mm"])

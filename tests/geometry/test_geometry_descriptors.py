"""Descriptors of layers: a stack computed by hand, what faces a sensor in closed form, and the names that do not matter."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from anycalo.geometry import Detector, derived
from anycalo.geometry.descriptors import (
    LAYER,
    RANGED,
    REACHES_G_CM2,
    SLOW_G_CM2,
    WHOLE,
    descriptor_ranges,
    facing_table,
    facing_z,
    layer_descriptors,
    whole_descriptors,
)
from anycalo.geometry.detector import Layer, Section, Slab
from anycalo.geometry.readouts import Rectangular
from toyzoo import stack

W_X0_MM, SI_X0_MM, SI_MIP_MEV_MM = 3.504, 93.70, 0.3876
"""Review of Particle Physics, atomic and nuclear properties."""


def column(detector: Detector, name: str) -> np.ndarray:
    return layer_descriptors(detector)[:, LAYER.index(name)]


@pytest.fixture(scope="module")
def by_hand() -> Detector:
    """3.5 mm tungsten, 0.5 mm silicon; then silicon before tungsten; then twice tungsten and silicon read out as one."""
    readout = Rectangular(pitch_mm=(5.0, 5.0))
    w, si = Slab(material="G4_W", thickness_mm=3.5), Slab(material="G4_Si", thickness_mm=0.5, sensitive=True)
    layers = (
        Layer(stack=(w, si), readout=readout),
        Layer(stack=(si, w), readout=readout),
        Layer(stack=(w, si), stack_repeat=2, readout=readout),
    )
    return Detector(name="by-hand", sections=(Section(layers=layers),), size_mm=(100.0, 100.0), field_tesla=1.5)


def test_a_stack_computed_by_hand(by_hand: Detector) -> None:
    w, si = 3.5 / W_X0_MM, 0.5 / SI_X0_MM
    front = [w, w + si, 3 * w + 2 * si]
    back = [w + si, w + 2 * si, 4 * w + 4 * si]
    middle = [(a + b) / 2 for a, b in zip(front, back, strict=True)]
    total = 4 * w + 4 * si
    expected = {
        "sensor_front_x0": front,
        "sensor_back_x0": back,
        "spacing_x0": [middle[0], middle[1] - middle[0], middle[2] - middle[1]],
        "behind_x0": [middle[1] - middle[0], middle[2] - middle[1], total - middle[2]],
        "thickness_x0": [w + si, w + si, 2 * (w + si)],
        "sensor_x0": [si, si, 2 * si],
        "mip_mev": [0.5 * SI_MIP_MEV_MM, 0.5 * SI_MIP_MEV_MM, SI_MIP_MEV_MM],
    }
    for name, values in expected.items():
        np.testing.assert_allclose(column(by_hand, name), values, rtol=0.01, err_msg=name)
    # Sensors stand at 3.5 to 4, 4 to 4.5, and from 11.5 to the back of the last, 16 mm.
    exact = {
        "z_mm": [3.75, 4.25, 13.75],
        "spacing_mm": [3.75, 0.5, 9.5],
        "thickness_mm": [4.0, 4.0, 8.0],
        "sensors": [1, 1, 2],
        "sensor_mm": [0.5, 0.5, 1.0],
        "sensor_z": [14, 14, 14],
    }
    for name, values in exact.items():
        np.testing.assert_allclose(column(by_hand, name), values, rtol=1e-12, err_msg=name)
    assert layer_descriptors(by_hand).shape == (3, len(LAYER))
    assert not layer_descriptors(by_hand).flags.writeable


def test_what_is_said_of_the_whole_is_what_derived_says(by_hand: Detector) -> None:
    row = dict(zip(WHOLE, whole_descriptors(by_hand), strict=True))
    assert row["depth_x0"] == derived.depth_x0(by_hand)
    assert row["moliere_mm"] == derived.moliere_radius_mm(by_hand)
    assert row["critical_energy_mev"] == derived.critical_energy_mev(by_hand)
    assert row["sampling_fraction"] == derived.sampling_fraction(by_hand)
    assert row["field_tesla"] == 1.5
    # 95 % of the radiation lengths are tungsten's.
    w, si = 3.5 / W_X0_MM, 0.5 / SI_X0_MM
    assert row["effective_z"] == pytest.approx((74 * w + 14 * si) / (w + si), rel=1e-3)
    with pytest.raises(ValueError, match="read-only"):
        whole_descriptors(by_hand)[0] = 1.0


def test_what_faces_a_sensor_in_closed_form() -> None:
    thin = 0.05  # mm of tungsten: about half of the range over which the mean is taken
    front, back = facing_z(stack(1, thin))
    assert front == pytest.approx([74 * (1 - np.exp(-0.1 * thin * 19.3 / SLOW_G_CM2))], rel=1e-3)
    assert back == [0.0]
    # Through a thin silicon sheet the tungsten behind it is seen, weakened.
    readout = Rectangular(pitch_mm=(5.0, 5.0))
    slabs = (
        Slab(material="G4_W", thickness_mm=3.5),
        Slab(material="G4_Al", thickness_mm=1.0),
        Slab(material="G4_Si", thickness_mm=0.5, sensitive=True),
    )
    one = Layer(stack=slabs, readout=readout)
    turned = Layer(stack=slabs[::-1], readout=readout)
    detector = Detector(name="turned", sections=(Section(layers=(one, turned)),), size_mm=(100.0, 100.0))
    al = 0.1 * 2.699 / SLOW_G_CM2
    through = 13 * (1 - np.exp(-al)) + 74 * np.exp(-al)
    si = 0.05 * 2.33 / SLOW_G_CM2
    across = 14 * (1 - np.exp(-si)) + np.exp(-si) * through
    front, back = facing_z(detector)
    np.testing.assert_allclose(front, [through, across], rtol=1e-3)
    np.testing.assert_allclose(back, [across, through], rtol=1e-3)


def test_what_faces_a_sensor_at_several_reaches() -> None:
    thin = 0.05
    table = facing_table(stack(1, thin))
    areal = 0.1 * thin * 19.3
    assert table.shape == (1, 2 * len(REACHES_G_CM2))
    np.testing.assert_allclose(table[0, ::2], [74 * (1 - np.exp(-areal / reach)) for reach in REACHES_G_CM2], rtol=1e-3)
    assert not table[0, 1::2].any()
    assert (np.diff(table[0, ::2]) < 0).all()


def test_gas_that_touches_a_sensor() -> None:
    """Tungsten, 1 mm of air and 2 mm of another gas before the sensor; a board with a gap behind it that does not touch it."""
    readout = Rectangular(pitch_mm=(5.0, 5.0))
    slabs = (
        Slab(material="G4_W", thickness_mm=3.5),
        Slab(material="G4_AIR", thickness_mm=1.0),
        Slab(material="G4_Ar", thickness_mm=2.0),
        Slab(material="G4_Si", thickness_mm=0.5, sensitive=True),
        Slab(material="G4_Cu", thickness_mm=0.5),
        Slab(material="G4_AIR", thickness_mm=4.0),
    )
    one, turned = Layer(stack=slabs, readout=readout), Layer(stack=slabs[::-1], readout=readout)
    detector = Detector(name="gaps", sections=(Section(layers=(one, turned)),), size_mm=(100.0, 100.0))
    np.testing.assert_allclose(column(detector, "gap_front_mm"), [3.0, 0.0])
    np.testing.assert_allclose(column(detector, "gap_back_mm"), [0.0, 3.0])
    assert not column(stack(3, 3.5), "gap_front_mm").any()


def test_names_do_not_matter(by_hand: Detector) -> None:
    other = dataclasses.replace(by_hand, name="other", description="another word for it")
    np.testing.assert_array_equal(layer_descriptors(other), layer_descriptors(by_hand))
    np.testing.assert_array_equal(whole_descriptors(other), whole_descriptors(by_hand))
    assert descriptor_ranges(other) == descriptor_ranges(by_hand)
    thicker = stack(3, 3.6)
    assert not np.array_equal(layer_descriptors(thicker), layer_descriptors(stack(3, 3.5)))


def test_ranges_leave_out_the_distance_to_the_face(by_hand: Detector) -> None:
    ranges = descriptor_ranges(by_hand)
    assert set(ranges) == {f"layer {name}" for name in RANGED} | {f"detector {name}" for name in WHOLE}
    spacing = column(by_hand, "spacing_x0")
    assert ranges["layer spacing_x0"] == (spacing[1:].min(), spacing[1:].max())
    assert ranges["detector field_tesla"] == (1.5, 1.5)
    alone = stack(1, 3.5)
    assert descriptor_ranges(alone)["layer spacing_x0"][0] == column(alone, "spacing_x0")[0]

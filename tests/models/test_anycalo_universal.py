"""Universal coordinates: exact inverses, conserved energy, slanted showers as thicker stacks, symmetries and padding."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from anycalo.geometry import Detector
from anycalo.geometry.descriptors import LAYER, WHOLE, layer_descriptors, whole_descriptors
from anycalo.models.universal import (
    COORDINATES,
    Geometry,
    RawCoordinates,
    Told,
    UniversalCoordinates,
    gamma_cdf,
    particle_table,
)
from anycalo.showers import Incident
from toyzoo import stack, toy_zoo

UNIVERSAL = UniversalCoordinates()
THETA = 0.6
SLANTED = np.array([math.sin(THETA) * 0.8, math.sin(THETA) * 0.6, math.cos(THETA)])
number = st.floats(-300, 300)
slope = st.floats(-2, 2)


def told_of(detector: Detector, incident: Incident, coordinates: object = UNIVERSAL) -> Told:
    which = torch.zeros(len(incident), dtype=torch.long)
    return coordinates.told(Geometry([detector]), which, particle_table(incident))  # type: ignore[attr-defined,no-any-return]


@given(x=number, y=number, a=slope, b=slope)
def test_stretch_undoes_squeeze(x: float, y: float, a: float, b: float) -> None:
    xy, axis = torch.tensor([[x, y]], dtype=torch.float64), torch.tensor([[a, b]], dtype=torch.float64)
    for coordinates in (UNIVERSAL, RawCoordinates()):
        torch.testing.assert_close(coordinates.stretch(coordinates.squeeze(xy, axis), axis), xy, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(coordinates.squeeze(coordinates.stretch(xy, axis), axis), xy, rtol=1e-9, atol=1e-9)
    # What lies along the slant is shortened by cos(theta), what lies across it is kept.
    seen, norm = UNIVERSAL.squeeze(xy, axis)[0], math.hypot(a, b)
    if norm > 1e-3:
        along, across = (a * x + b * y) / norm, (a * y - b * x) / norm
        assert float(seen @ axis[0]) / norm == pytest.approx(along / math.sqrt(1 + norm**2), abs=1e-6)
        assert float(axis[0, 0] * seen[1] - axis[0, 1] * seen[0]) / norm == pytest.approx(across, abs=1e-6)


def test_nothing_is_squeezed_at_normal_incidence() -> None:
    xy = torch.randn(50, 2, generator=torch.Generator().manual_seed(1))
    assert torch.equal(UNIVERSAL.squeeze(xy, torch.zeros(50, 2)), xy)
    assert torch.equal(UNIVERSAL.stretch(xy, torch.zeros(50, 2)), xy)


def test_energy_loss_is_the_gamma_distribution() -> None:
    t, t_max = np.meshgrid(np.linspace(0, 40, 30), np.linspace(0.5, 12, 9))
    ours = gamma_cdf(torch.from_numpy(t), torch.from_numpy(t_max))
    np.testing.assert_allclose(ours, stats.gamma(0.5 * t_max + 1, scale=2).cdf(t), atol=1e-12)
    # Its density is highest at t_max.
    fine = torch.linspace(0, 30, 30_001, dtype=torch.float64)
    density = torch.diff(gamma_cdf(fine, torch.tensor(7.0, dtype=torch.float64)))
    assert float(fine[density.argmax()]) == pytest.approx(7.0, abs=0.01)


@pytest.mark.parametrize(("particle", "theta"), [("gamma", 0.0), ("electron", 0.0), ("gamma", THETA)])
def test_what_is_expected_adds_up_to_the_energy(particle: str, theta: float) -> None:
    detector = stack(500, 0.28, sensor_mm=0.02)
    direction = (math.sin(theta), 0.0, math.cos(theta))
    incident = Incident(particle, energy_mev=[2e3, 2e4], direction=direction)
    told = told_of(detector, incident)
    critical = whole_descriptors(detector)[WHOLE.index("critical_energy_mev")]
    thickness = layer_descriptors(detector)[:, LAYER.index("thickness_x0")].mean() / math.cos(theta)
    lost = told.points.sum(1) * critical * thickness
    np.testing.assert_allclose(lost, incident.energy_mev, rtol=0.01)


def test_a_slanted_shower_is_one_in_thicker_layers() -> None:
    long = 1 / math.cos(THETA)
    thin, thick = stack(12, 3.0, sensor_mm=0.4), stack(12, 3.0 * long, sensor_mm=0.4 * long)
    slanted = told_of(thin, Incident("electron", energy_mev=[3e3, 4e4], direction=SLANTED))
    straight = told_of(thick, Incident("electron", energy_mev=[3e3, 4e4]))
    torch.testing.assert_close(slanted.points, straight.points, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(slanted.energy_mev, straight.energy_mev, rtol=1e-4, atol=1e-4)
    # Depths, flux and distances along the axis; sensors along it.
    for column in (0, 1, 2, 3, 4, 5, 6, 8, 9, 10):
        torch.testing.assert_close(slanted.layer[..., column], straight.layer[..., column], rtol=1e-4, atol=1e-4)
    assert not torch.allclose(slanted.points, told_of(thin, Incident("electron", energy_mev=[3e3, 4e4])).points, rtol=0.05)


def test_electrons_shower_earlier_than_photons_by_a_radiation_length() -> None:
    detector = stack(25, 3.504, sensor_mm=0.001)  # one radiation length a layer
    photon, electron = (told_of(detector, Incident(p, energy_mev=1e4, n=1)) for p in ("gamma", "electron"))
    shift = (photon.layer[..., 0] - electron.layer[..., 0]) * 5
    torch.testing.assert_close(shift, torch.full_like(shift, -1.0), rtol=0, atol=1e-3)


@pytest.mark.parametrize("name", COORDINATES)
def test_turning_around_is_what_the_mirrored_particle_is_told(name: str) -> None:
    coordinates, detector = COORDINATES[name](), stack(6, 5.0, field_tesla=2.0)
    pdg, energy = np.array([22, 11, -11]), [2e3, 3e3, 4e4]
    incident = Incident(pdg, energy_mev=energy, direction=np.tile(SLANTED, (3, 1)))
    told = told_of(detector, incident, coordinates)
    turn = -torch.ones(3)
    turned = coordinates.flip(told.shower, turn)
    mirrored = Incident(pdg, energy_mev=energy, direction=np.tile(SLANTED * [-1, 1, 1], (3, 1)))
    again = told_of(detector, mirrored, coordinates)
    torch.testing.assert_close(turned, again.shower, rtol=0, atol=1e-6)
    torch.testing.assert_close(told.layer, again.layer, rtol=0, atol=1e-6)
    assert torch.equal(coordinates.flip(turned, turn), told.shower)
    assert not torch.equal(turned, told.shower)


def test_calibrated_energies_add_up_as_visible_ones_and_undo_a_change_of_sampling() -> None:
    """What is expected calibrated is what a layer's thickness stands for, whatever its sensor sees of it."""
    for detector in (stack(6, 5.0), Detector.load("ild-ecal"), Detector.load("atlas-like")):
        told = told_of(detector, Incident("gamma", energy_mev=3e4), UniversalCoordinates())
        visible = told.energy_mev / told.calibration
        torch.testing.assert_close(told.energy_mev.sum(1), visible.sum(1), rtol=1e-5, atol=0)
    # In ild-ecal the plates behind layer 20 are twice as thick: its visible energy jumps there, the calibrated does not.
    told = told_of(Detector.load("ild-ecal"), Incident("gamma", energy_mev=3e4), UniversalCoordinates())
    calibration = told.calibration[0]
    assert float(calibration[25] / calibration[10]) == pytest.approx(1.25 / 0.65, rel=0.05)
    # A layer stands for the way from half-way before to half-way behind.
    thin = told_of(stack(6, 5.0), Incident("gamma", energy_mev=3e4), UniversalCoordinates()).calibration[0]
    torch.testing.assert_close(thin[2:4], thin[1:3], rtol=1e-4, atol=0)


@pytest.mark.parametrize("name", COORDINATES)
def test_layers_that_a_detector_lacks_are_not_told(name: str) -> None:
    coordinates, zoo = COORDINATES[name](), toy_zoo()
    incident = Incident("electron", energy_mev=5e3, direction=SLANTED, n=1)
    particle = particle_table(incident).expand(len(zoo), -1)
    together = coordinates.told(Geometry(zoo), torch.arange(len(zoo)), particle)
    assert together.layer.shape == (4, 10, coordinates.layer_features)
    assert together.shower.shape == (4, coordinates.shower_features)
    for k, detector in enumerate(zoo):
        alone, layers = told_of(detector, incident, coordinates), detector.n_layers
        assert torch.equal(together.shower[k], alone.shower[0])
        for part in ("layer", "points", "energy_mev", "valid"):
            whole = getattr(together, part)[k]
            assert torch.equal(whole[:layers], getattr(alone, part)[0]), part
            assert not whole[layers:].any(), part
    assert together.valid.sum(1).tolist() == [6, 8, 10, 5]
    some = together[torch.tensor([2, 0])]
    assert torch.equal(some.layer, together.layer[[2, 0]])


def test_the_front_of_a_shorter_detector_is_told_the_same() -> None:
    incident = Incident("gamma", energy_mev=1e4, n=1)
    short, long = told_of(stack(7, 4.0), incident), told_of(stack(20, 4.0), incident)
    depends_on_the_back = [2, 6]  # depth left, distance to the next
    same = [k for k in range(UNIVERSAL.layer_features) if k not in depends_on_the_back]
    # The last layers' sensors face the world instead of the next absorber; electrons from 2 g/cm2 see it two layers earlier.
    sees_far = 26
    nearby = [k for k in same if k != sees_far]
    torch.testing.assert_close(short.layer[:, :6, nearby], long.layer[:, :6, nearby], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(short.layer[:, :4, same], long.layer[:, :4, same], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(short.layer[:, :6, 6], long.layer[:, :6, 6], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(short.points, long.points[:, :7], rtol=1e-5, atol=0)
    visible = [told.energy_mev / told.calibration for told in (short, long)]
    torch.testing.assert_close(visible[0], visible[1][:, :7], rtol=1e-5, atol=0)
    torch.testing.assert_close(short.shower[:, :13], long.shower[:, :13], rtol=1e-4, atol=1e-5)
    assert (short.layer[:, :7, 2] < long.layer[:, :7, 2]).all()
    assert (short.shower[:, 13:15] != long.shower[:, 13:15]).all()


def test_charges() -> None:
    table = particle_table(Incident(np.array([22, 11, -11]), energy_mev=math.e, n=3))
    assert table[:, 4].tolist() == [0, -1, 1]
    torch.testing.assert_close(table[:, 0], torch.ones(3))

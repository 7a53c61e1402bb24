"""Showers and models moved to another detector by physical depth: 6 layers to 9 and back, and to the same detector."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from anycalo.errors import ModelError
from anycalo.geometry import Detector
from anycalo.geometry.readouts import Rectangular
from anycalo.models import CaloClouds, CaloCloudsConfig, Domain, Noise
from anycalo.models.consistency import DistillConfig
from anycalo.models.flow import FlowConfig
from anycalo.models.pointwise import PointwiseConfig
from anycalo.models.transplant import (
    _corrections,
    base_for,
    calibrate,
    moved,
    nearest_incident,
    scaled_for,
    teacher,
    transplant,
    zero_shot,
)
from anycalo.models.universal import UniversalCoordinates
from anycalo.readout.view import layer_depth_x0
from anycalo.showers import Beam, Incident, Showers
from samples import SMALL
from toyshowers import toy_showers

CONFIG = CaloCloudsConfig(
    flow=FlowConfig(blocks=1, affine=2, hidden=(16,)), network=PointwiseConfig(hidden=(8,), time_features=4), steps=2
)


@pytest.fixture(scope="module")
def finer() -> Detector:
    """The same stack in nine layers with two thirds of the absorber each."""
    text = SMALL.replace("repeat = 6", "repeat = 9").replace("thickness_mm = 5.0", "thickness_mm = 3.3333")
    return Detector.from_toml(text.replace('"small"', '"finer"'))


@pytest.fixture(scope="module")
def model(small_detector: Detector) -> CaloClouds:
    showers = toy_showers(small_detector, 200, 1)
    torch.manual_seed(0)
    made = CaloClouds(CONFIG, Domain.of([showers]))
    made.stages([showers], [showers[:1]], seed=1)
    return made.eval()


def mean_depth(showers: Showers) -> float:
    """Energy-weighted depth of the layers [X0]."""
    energy = showers.layer_energy_mev().sum(0)
    return float((energy * layer_depth_x0(showers.detector)).sum() / energy.sum())


def test_to_the_same_detector_nothing_moves(small_detector: Detector) -> None:
    showers = toy_showers(small_detector, 30, 2, max_angle_rad=0.4)
    same = moved(showers, small_detector, showers.incident, seed=1)
    np.testing.assert_array_equal(same.layer_counts(), showers.layer_counts())
    np.testing.assert_allclose(same.layer_energy_mev(), showers.layer_energy_mev(), rtol=1e-4, atol=1e-5)
    for axis in ("x_mm", "y_mm"):
        np.testing.assert_allclose(np.sort(getattr(same, axis)), np.sort(getattr(showers, axis)), atol=1e-2)


def test_six_layers_to_nine_and_back(small_detector: Detector, finer: Detector) -> None:
    showers = toy_showers(small_detector, 200, 3)
    there = moved(showers, finer, showers.incident, seed=1)
    assert there.detector == finer
    back = moved(there, small_detector, showers.incident, seed=2)
    # A layer of the finer stack is two thirds as thick: its showers cross half as many sensors again.
    assert there.n_points / showers.n_points == pytest.approx(1.5, abs=0.15)
    assert there.visible_mev().sum() / showers.visible_mev().sum() == pytest.approx(1.5, abs=0.15)
    assert back.visible_mev().sum() / showers.visible_mev().sum() == pytest.approx(1.0, abs=0.1)
    # In radiation lengths it lies where it lay, which by the number of the layer it does not.
    assert mean_depth(there) == pytest.approx(mean_depth(showers), abs=0.5)
    assert mean_depth(back) == pytest.approx(mean_depth(showers), abs=0.5)
    padded = (there.layer_energy_mev().sum(0) * np.arange(9)).sum() / there.visible_mev().sum()
    original = (showers.layer_energy_mev().sum(0) * np.arange(6)).sum() / showers.visible_mev().sum()
    assert padded > original + 0.4


def test_points_carry_what_the_new_sensor_sees_of_them(small_detector: Detector) -> None:
    """Other plates leave the energy of a point alone, sensors twice as thick double it, in the outer layers too."""
    showers = toy_showers(small_detector, 50, 3)
    even = Showers(
        detector=small_detector,
        incident=showers.incident,
        offsets=showers.offsets,
        x_mm=showers.x_mm,
        y_mm=showers.y_mm,
        layer=showers.layer,
        energy_mev=np.full(showers.n_points, 0.1),
    )
    text = SMALL.replace("repeat = 6", "repeat = 9").replace("thickness_mm = 5.0", "thickness_mm = 3.3333")
    for sensor_mm, expected in ((0.5, 0.1), (1.0, 0.2)):
        detector = Detector.from_toml(text.replace("thickness_mm = 0.5", f"thickness_mm = {sensor_mm}"))
        there = moved(even, detector, even.incident, seed=1)
        np.testing.assert_allclose(there.energy_mev, expected, rtol=1e-4)


def test_an_electron_starts_before_a_photon(small_detector: Detector) -> None:
    showers = toy_showers(small_detector, 100, 4)
    electrons = Incident("electron", energy_mev=showers.incident.energy_mev)
    assert mean_depth(moved(showers, small_detector, electrons, seed=1)) < mean_depth(showers) - 0.3


def test_the_nearest_particles_that_are_known(model: CaloClouds) -> None:
    asked = Beam(particle=("gamma", "electron"), energy_mev=(1e2, 1e6), spectrum="log", max_angle_rad=1.0).sample(50, 1)
    found = nearest_incident(model, asked)
    assert found.particles == ["gamma"]
    low, high = model.domain.energy_mev
    assert found.energy_mev.min() >= low * 0.999
    assert found.energy_mev.max() <= high * 1.001
    assert found.theta_rad.max() < 1e-3


def test_a_model_moved_makes_showers_of_the_new_detector(model: CaloClouds, finer: Detector) -> None:
    given = toy_showers(finer, 60, 5)
    start = zero_shot(model, given, n=150, seed=1)
    assert start.domain.detector == finer
    showers = start.sample(finer, given.incident[:40], Noise(1, range(40)))
    assert showers.detector.n_layers == 9
    assert np.isfinite(showers.energy_mev).all()
    point_networks = zip(start.denoiser.parameters(), model.denoiser.parameters(), strict=True)  # type: ignore[union-attr]
    assert all(torch.equal(a, b) for a, b in point_networks)
    # Calibration with showers of the new detector brings it nearer to them.
    ready = base_for(model, given, n=150, seed=1)
    made = ready.sample(finer, given.incident[:40], Noise(1, range(40)))
    truth = np.log(given.layer_energy_mev()[:40].sum(0))
    assert (
        np.abs(np.log(made.layer_energy_mev().sum(0)) - truth).mean()
        < np.abs(np.log(showers.layer_energy_mev().sum(0)) - truth).mean()
    )


def test_calibration_leaves_alone_what_few_showers_do_not_show(model: CaloClouds, small_detector: Detector) -> None:
    """Means of 20 showers of the very kind that set the scales: less is moved than the statistical error of their means."""
    few = toy_showers(small_detector, 20, 6)
    ready = calibrate(model, few, seed=1)
    moved_by = (ready.features.plain.mean[:, 0] - model.features.plain.mean[:, 0]) / model.features.plain.log_spread[:, 0].exp()
    assert float(moved_by.square().mean().sqrt()) < 20**-0.5
    # The twin must move: showers of twice the energy in each point.
    other = Showers(
        detector=small_detector,
        incident=few.incident,
        offsets=few.offsets,
        x_mm=few.x_mm,
        y_mm=few.y_mm,
        layer=few.layer,
        energy_mev=2 * few.energy_mev,
    )
    ready = calibrate(model, other, seed=1)
    assert float(ready.features.plain.mean[0, 0] - model.features.plain.mean[0, 0]) == pytest.approx(np.log(2), abs=0.1)


def test_a_layer_hit_by_few_is_moved_by_a_constant(model: CaloClouds, small_detector: Detector) -> None:
    """What twenty showers of high energy say of the last layer is not carried on to low energies by a parabola."""
    few = toy_showers(small_detector, 60, 6)
    last, powers = small_detector.n_layers - 1, slice(1, 3)
    strong = np.sort(few.incident.energy_mev)[-25]
    hit = few.layer_counts() > 0
    assert 10 < np.count_nonzero(hit[:, last] & (few.incident.energy_mev >= strong)) < 40 < np.count_nonzero(hit[:, 0])
    kept = (few.layer < last) | (few.incident.energy_mev[few.shower] >= strong)
    bent = few.energy_mev * np.where(few.layer == last, (few.incident.energy_mev[few.shower] / 5e3) ** 3, 1)
    columns = {"x_mm": few.x_mm[kept], "y_mm": few.y_mm[kept], "layer": few.layer[kept], "energy_mev": bent[kept]}
    offsets = np.concatenate([[0], np.cumsum(np.bincount(few.shower[kept], minlength=len(few)))])
    given = Showers(detector=small_detector, incident=few.incident, offsets=offsets, **columns)
    before, after = (m.features.means.mean for m in (model, calibrate(model, given, seed=1)))
    assert torch.equal(after[last, powers], before[last, powers])
    assert not torch.equal(after[last, 0], before[last, 0])
    # The twin: a layer that more showers hit follows their energies.
    steep = few.energy_mev * np.where(few.layer == 1, (few.incident.energy_mev[few.shower] / 5e3) ** 3, 1)
    other = Showers(
        detector=small_detector, incident=few.incident, offsets=few.offsets,
        x_mm=few.x_mm, y_mm=few.y_mm, layer=few.layer, energy_mev=steep,
    )  # fmt: skip
    assert not torch.equal(calibrate(model, other, seed=1).features.means.mean[1, powers], before[1, powers])


def test_distances_are_scaled_as_suits_the_detector(model: CaloClouds, finer: Detector) -> None:
    same = scaled_for(model, model.domain.detector)
    assert same.merge_radius_mm == pytest.approx(model.config.merge_radius_mm)
    assert same.merge_energy_mev == pytest.approx(model.config.merge_energy_mev)
    assert same.radial_scale_mm == pytest.approx(model.config.radial_scale_mm)
    other, scale_mm = scaled_for(model, finer), UniversalCoordinates().scale_mm
    for name in ("radial_scale_mm", "centre_scale_mm", "width_scale_mm"):
        ratio = getattr(other, name) / getattr(model.config, name)
        assert ratio == pytest.approx(scale_mm(finer) / scale_mm(model.domain.detector))
        assert abs(ratio - 1) > 0.02
    fine = finer.with_readout(Rectangular(pitch_mm=(2.0, 2.0)))
    half = finer.with_readout(Rectangular(pitch_mm=(1.0, 1.0)))
    assert scaled_for(model, half).merge_radius_mm == pytest.approx(scaled_for(model, fine).merge_radius_mm / 2)


def test_corrections_find_a_parabola_and_stand_an_outlier() -> None:
    generator = torch.Generator().manual_seed(3)
    x = torch.rand(400, generator=generator, dtype=torch.float64) * 2 - 1
    powers, spread = torch.stack([x**0, x, x**2], dim=1), 0.2 * (1 + 0.5 * x)
    wanted = torch.tensor([0.5, -0.3, 0.2], dtype=torch.float64)
    residual = powers @ wanted + 2 * spread * torch.randn(400, generator=generator, dtype=torch.float64)
    change, stretch = _corrections(powers, residual, spread)
    # Errors of the coefficients are about 0.4 / sqrt(400) and some; of the spread's logarithm 0.035.
    torch.testing.assert_close(change, wanted, rtol=0, atol=0.15)
    assert stretch == pytest.approx(np.log(2), abs=0.15)
    # One shower in a layer that is seldom hit, thousands of expected spreads away.
    residual[0] = 1e3
    _, pulled = _corrections(powers, residual, spread)
    assert pulled == pytest.approx(stretch, abs=0.1)
    # Of what is nothing but statistical error less is kept than least squares finds: on average a third of it.
    weighted, ratios = powers[:20] / spread[:20, None], []
    for _ in range(100):
        few = spread[:20] * torch.randn(20, generator=generator, dtype=torch.float64)
        kept, _ = _corrections(powers[:20], few, spread[:20])
        found = torch.linalg.lstsq(weighted, few / spread[:20]).solution
        ratios.append(float((weighted @ kept).norm() / (weighted @ found).norm()))
    assert np.mean(ratios) < 0.5


def test_where_nothing_need_be_moved(model: CaloClouds, small_detector: Detector, finer: Detector) -> None:
    same = toy_showers(small_detector, 20, 6)
    assert base_for(model, same) is model
    assert zero_shot(model, same) is model
    with pytest.raises(ModelError, match="20 moved showers with visible energy; expected at least 100"):
        transplant(model, toy_showers(finer, 20, 1), seed=1)


def test_the_teacher_of_a_distilled_model(model: CaloClouds, small_detector: Detector) -> None:
    """It generates what the distilled model's own denoiser does, and holds nothing else."""
    torch.manual_seed(0)
    config = dataclasses.replace(CONFIG, distill=DistillConfig(), sampler="consistency", steps=1)
    student = CaloClouds(config, model.domain).eval()
    student.load_state_dict({**student.state_dict(), **model.state_dict()})
    found = teacher(student)
    assert isinstance(found, CaloClouds)
    assert found.consistency is None
    assert (found.config.sampler, found.config.steps) == ("heun-angle", 10)
    assert set(found.state_dict()) == set(model.state_dict())
    incident = Incident("gamma", energy_mev=20e3, n=3)
    own, same, other = (
        made.sample(small_detector, incident, Noise(1, range(3))).x_mm
        for made in (student.with_sampler("heun-angle", 10), found, student)
    )
    np.testing.assert_array_equal(own, same)
    assert not np.array_equal(own, other)
    assert teacher(model) is model

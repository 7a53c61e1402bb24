"""What travels with the package: the model, the Geant4 photons, and that they fit one another."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
import torch

from anycalo.generate import generate
from anycalo.geometry import Detector, presets
from anycalo.models import CaloClouds, Noise, load_model
from anycalo.showers import Beam, Incident, ShowerFile, Showers
from anycalo.showers.samples import locate

MODEL = Path(str(resources.files("anycalo.models"))) / "shipped" / "caloclouds-ild"


def test_the_model_is_small_and_says_what_it_was_trained_on() -> None:
    assert sum(f.stat().st_size for f in MODEL.iterdir()) < 5_000_000
    card = json.loads((MODEL / "model.json").read_text())
    assert card["data"]["showers"] >= 8000
    model = load_model("caloclouds-ild")
    assert model.domain.particles == ("gamma",)
    assert model.domain.energy_mev == pytest.approx((10_000, 90_000), rel=1e-3)
    assert model.domain.detector == Detector.load("ild-ecal")


def test_the_reference_is_geant4_and_small() -> None:
    path = locate("ild-photons-reference")
    assert path.stat().st_size < 20_000_000
    with ShowerFile(path) as file:
        assert len(file) >= 500
        assert file.detector == Detector.load("ild-ecal")
        assert file.provenance["generator"] == "Geant4"
        assert file.provenance["seed"] == 303
        assert file.provenance["command"].startswith("anycalo simulate ild-ecal")


def test_the_model_agrees_with_the_reference_in_response_and_depth() -> None:
    """120 photons of each, same energies, fixed seed; four standard errors, so false alarms once in 10,000.

    The must-fail twins: 6 % more energy, and showers one layer deeper.
    """
    truth = Showers.open(locate("ild-photons-reference"), 0, 120)
    fast = generate(load_model("caloclouds-ild"), truth.detector, truth.incident, seed=11, batch_size=40)

    def response(showers: Showers) -> np.ndarray:
        return showers.visible_mev() / showers.incident.energy_mev

    def mean_layer(showers: Showers) -> np.ndarray:
        energy = showers.layer_energy_mev()
        return energy @ np.arange(showers.detector.n_layers) / energy.sum(axis=1)

    for quantity, shifted in ((response, 1.06 * response(truth)), (mean_layer, mean_layer(truth) + 1)):
        a, b = quantity(truth), quantity(fast)
        error = np.sqrt((a.var() + b.var()) / len(a))
        assert abs(a.mean() - b.mean()) < 4 * error
        assert abs(shifted.mean() - b.mean()) > 4 * error


def test_the_model_takes_one_evaluation_a_point_and_holds_its_teacher() -> None:
    """Its teacher takes 19; both draw the same layers, and points of the same energies on average."""
    model = load_model("caloclouds-ild")
    assert isinstance(model, CaloClouds)
    assert model.consistency is not None
    incident = Incident("gamma", energy_mev=20e3, n=20)
    asked = {"student": 0, "teacher": 0}
    for name, network in (("student", model.consistency.student), ("teacher", model.denoiser)):

        def count(module: torch.nn.Module, given: tuple[torch.Tensor, ...], name: str = name) -> None:
            asked[name] += len(given[0])

        network.register_forward_pre_hook(count)
    # Asked in PyTorch: the loops of `generate` make the same showers without the modules, which a test holds them to.
    fast = model.sample_in_torch(model.domain.detector, incident, Noise(1, range(20)))
    points = len(fast.x_mm)
    assert asked == {"student": points, "teacher": 0}
    teacher = model.with_sampler("heun-angle", 10)
    slow = generate(teacher, model.domain.detector, incident, seed=1)
    assert asked == {"student": points, "teacher": 19 * points}
    np.testing.assert_array_equal(fast.layer, slow.layer)
    np.testing.assert_allclose(fast.layer_energy_mev(), slow.layer_energy_mev(), rtol=1e-4, atol=1e-6)
    # From the same noise a student lands near its teacher; another seed is the must-fail twin.
    other = np.random.default_rng(1).permutation(slow.x_mm)
    assert np.median(np.abs(fast.x_mm - slow.x_mm)) < 0.2 * np.median(np.abs(fast.x_mm - other))


BASE = MODEL.parent / "anycalo-base"


def test_the_model_of_any_calorimeter_is_small_and_says_what_it_was_trained_on() -> None:
    assert sum(f.stat().st_size for f in BASE.iterdir()) < 5_000_000
    card = json.loads((BASE / "model.json").read_text())
    assert card["data"]["detectors"] >= 500
    assert card["data"]["showers"] >= 12_000
    domain = load_model("anycalo-base").domain
    assert domain.particles == ("electron", "gamma")
    assert domain.energy_mev == pytest.approx((1_000, 100_000), rel=1e-2)
    assert domain.ranges["detector field_tesla"] == pytest.approx((0, 5), abs=0.1)
    # No held-out detector was trained on, and one with an absorber never seen is outside.
    uranium = Detector.load("u-scint")
    assert any("effective_z" in breach for breach in domain.breaches(uranium, Incident("gamma", energy_mev=5e3)))


@pytest.mark.filterwarnings("ignore::anycalo.errors.DomainWarning")
def test_the_model_of_any_calorimeter_makes_showers_of_a_detector_it_never_saw() -> None:
    """120 photons in ild-ecal; mean response and depth within 4 % and 7 % of Geant4's; the twins are twice as far."""
    truth = Showers.open(locate("ild-photons-reference"), 0, 120)
    fast = generate(load_model("anycalo-base"), truth.detector, truth.incident, seed=11, batch_size=40)

    def response(showers: Showers) -> float:
        return float((showers.visible_mev() / showers.incident.energy_mev).mean())

    def depth(showers: Showers) -> float:
        energy = showers.layer_energy_mev()
        return float((energy @ showers.detector.layer_z_mm / energy.sum(axis=1)).mean())

    for quantity, tolerance in ((response, 0.04), (depth, 0.07)):
        ratio = quantity(fast) / quantity(truth)
        assert abs(ratio - 1) < tolerance
        assert abs(ratio * (1 + 2 * tolerance) - 1) > tolerance


@pytest.mark.filterwarnings("ignore::anycalo.errors.DomainWarning")
@pytest.mark.parametrize("name", list(presets()))
def test_the_model_of_any_calorimeter_makes_physical_showers_of_every_preset(name: str) -> None:
    detector = Detector.load(name)
    incident = Beam(particle=("gamma", "electron"), energy_mev=(1e3, 1e5), spectrum="log", max_angle_rad=0.7).sample(8, 3)
    fast = generate(load_model("anycalo-base"), detector, incident, seed=1)
    visible = fast.visible_mev()
    assert (visible > 0).all()
    assert (visible < incident.energy_mev).all()
    assert int(fast.layer.max()) < detector.n_layers

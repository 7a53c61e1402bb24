"""What travels with the package: the model, the Geant4 photons, and that they fit one another."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path

import numpy as np
import pytest

from anycalo.generate import generate
from anycalo.geometry import Detector
from anycalo.models import load_model
from anycalo.showers import ShowerFile, Showers
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

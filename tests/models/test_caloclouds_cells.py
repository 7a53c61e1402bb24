"""As many points as hit the right number of cells (`models/caloclouds_cells.py`)."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from anycalo.geometry import Detector
from anycalo.models import CaloClouds, Domain
from anycalo.models.caloclouds_cells import FARTHEST, GivenLayers, points_for_cells
from anycalo.models.caloclouds_config import CaloCloudsConfig
from anycalo.models.noise import Noise
from anycalo.models.stage import Stage
from anycalo.showers import Showers
from toyshowers import toy_showers


@pytest.fixture(scope="module")
def showers(small_detector: Detector) -> Showers:
    return toy_showers(small_detector, 60, 5)


def layers_of(model: CaloClouds, showers: Showers) -> tuple[GivenLayers, Stage]:
    flow = model.stages([showers], [showers[:1]], seed=1, fit=False)[0]
    return GivenLayers(showers, flow, np.arange(len(showers))), flow


@pytest.fixture
def model(showers: Showers) -> CaloClouds:
    torch.manual_seed(0)
    made = CaloClouds(CaloCloudsConfig(steps=2), Domain.of([showers]))
    made.stages([showers], [showers[:1]], seed=1)
    return made.eval()


def test_layers_keep_their_energy_and_get_so_many_points(model: CaloClouds, showers: Showers) -> None:
    given, _ = layers_of(model, showers)
    plain = given.drawn(model, seed=1)
    np.testing.assert_allclose(plain.layer_energy_mev(), given.e, rtol=1e-4)
    np.testing.assert_array_equal(plain.layer_counts(), given.n)
    model.features.more_points[0] = 0.1
    more = given.drawn(model, seed=1)
    np.testing.assert_allclose(more.layer_energy_mev(), given.e, rtol=1e-4)
    # Each layer's number is rounded up or down at random: half a point off at most, on average over many.
    expected = 1.1052 * given.n.sum()
    assert abs(more.n_points - float(expected)) < 5 * float((given.n > 0).sum()) ** 0.5 * 0.5


def test_generation_has_so_many_more_points(model: CaloClouds, showers: Showers) -> None:
    """In PyTorch, by the definition of the factor, and energies are the same."""
    n, e, *_ = model.sample_layers(showers.incident, Noise(1, range(60)))
    model.features.more_points.copy_(torch.tensor([0.15, 0.05]))
    more, energy, *_ = model.sample_layers(showers.incident, Noise(1, range(60)))
    factor = model.features.log_more(model._incident(showers.incident)[1]).exp()
    assert (more.sum(1) - factor * n.sum(1)).abs().max() < 1 + model.layers
    torch.testing.assert_close(energy.sum(1), e.sum(1), rtol=1e-4, atol=1e-4)


def test_numbers_of_cells_agree_and_never_less_than_before(model: CaloClouds, showers: Showers) -> None:
    given, flow = layers_of(model, showers)
    before = given.missing(model, seed=1)
    assert before.mean().abs() > 0.05  # an untrained denoiser hits other numbers of cells
    solved = points_for_cells(model, showers, flow, seed=1)
    assert solved.after < solved.before
    assert given.missing(model, seed=1).mean().abs() < before.mean().abs()
    assert model.features.more_points.abs().max() <= FARTHEST
    again = points_for_cells(model, showers, flow, seed=1)
    assert again.after <= again.before == pytest.approx(solved.after)

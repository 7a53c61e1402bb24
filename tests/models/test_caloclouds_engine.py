"""The engine of the caloclouds family makes the showers that the networks make: speed costs no fidelity."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch.nn.utils import parametrize

from anycalo.errors import ModelError
from anycalo.geometry import Detector
from anycalo.models import CaloClouds, CaloCloudsConfig, Domain, Noise, load_model
from anycalo.models.caloclouds_engine import Engine
from anycalo.models.caloclouds_kernels import CONDITIONS, draw_points, quantities
from anycalo.models.conditions import LAYER_CONDITIONS, SHOWER_CONDITIONS, condition_table
from anycalo.models.consistency import DistillConfig
from anycalo.models.flow import FlowConfig
from anycalo.models.flow_kernels import decode, flow_inverse
from anycalo.models.mean_flow import MeanFlowConfig
from anycalo.models.pointwise import PointwiseConfig, Rows
from anycalo.showers import Beam, Incident
from sameshowers import assert_same
from toyshowers import toy_showers

ALL_TOLD = tuple(reversed(CONDITIONS))
DESIGNS: dict[str, dict[str, object]] = {
    "as shipped": {"network": PointwiseConfig(hidden=(16, 40, 24), time_features=8)},
    "wide": {
        "network": PointwiseConfig(hidden=(150,), time_features=8),
        "flow": FlowConfig(blocks=2, affine=1, bins=5, bound=2.0, hidden=(9, 14, 11)),
        "conditions": ALL_TOLD,
        "radial_scale_mm": 2.0,
        "centre_scale_mm": 4.0,
        "width_scale_mm": 11.0,
    },
    "no moments": {"network": PointwiseConfig(hidden=(300, 260), time_features=8), "lateral_moments": False},
}


def untrained(detector: Detector, design: str = "as shipped", **changes: object) -> CaloClouds:
    """Scales from showers, weights at random and large, so that every one of them is felt."""
    common = {"flow": FlowConfig(blocks=1, affine=2, hidden=(16,)), "distill": DistillConfig(), "sampler": "consistency"}
    config = CaloCloudsConfig(**{**common, "steps": 1, **DESIGNS[design], **changes})  # type: ignore[arg-type]
    showers = toy_showers(detector, 300, seed=1, max_angle_rad=0.4)
    torch.manual_seed(0)
    model = CaloClouds(config, Domain.of([showers]))
    model.stages([showers[:250]], [showers[250:]], seed=1)
    model.features.more_points.copy_(torch.tensor([0.15, -0.05]))
    with torch.no_grad():
        for coupling in model.flow.couplings:
            coupling.hyper[-1].weight.normal_(std=0.15)  # type: ignore[index, union-attr]
            coupling.hyper[-1].bias.normal_(std=0.15)  # type: ignore[index, union-attr]
        if model.consistency is not None:
            for squash in model.consistency.student.network.layers:  # type: ignore[union-attr]
                squash.gate.weight.mul_(3)  # type: ignore[union-attr]
    return model.eval()


def slanted(n: int) -> Incident:
    return Beam(particle=("gamma", "electron"), energy_mev=(2e3, 9e3), max_angle_rad=0.5).sample(n, 5)


@pytest.mark.parametrize("design", DESIGNS)
def test_showers_are_those_of_the_networks(small_detector: Detector, design: str) -> None:
    model, incident = untrained(small_detector, design), slanted(40)
    expected = model.sample_in_torch(small_detector, incident, Noise(2, range(40)))
    assert expected.n_points > 1000
    made = model.sample(small_detector, incident, Noise(2, range(40)))
    assert_same(made, expected)
    assert made.provenance == expected.provenance
    # A weight a little different, and the showers are others: the comparison sees it, and so does the engine.
    for change in (model.consistency.student.network.layers[1].linear, model.flow.couplings[0].hyper[0]):  # type: ignore[index, union-attr]
        with torch.no_grad():
            change.weight.mul_(1.3)  # type: ignore[union-attr]
        with pytest.raises(AssertionError):
            assert_same(model.sample(small_detector, incident, Noise(2, range(40))), expected)
        with torch.no_grad():
            change.weight.div_(1.3)  # type: ignore[union-attr]


def test_showers_of_the_shipped_model_are_those_of_its_networks() -> None:
    model = load_model("caloclouds-ild")
    assert isinstance(model, CaloClouds)
    assert model.jumps
    detector, incident = Detector.load("ild-ecal"), Beam(energy_mev=(1e4, 9e4), max_angle_rad=0.3).sample(6, 5)
    assert_same(
        model.sample(detector, incident, Noise(2, range(6))), model.sample_in_torch(detector, incident, Noise(2, range(6)))
    )


@pytest.mark.parametrize("design", DESIGNS)
def test_the_flow_and_what_is_made_of_its_numbers(small_detector: Detector, design: str) -> None:
    model = untrained(small_detector, design)
    engine, incident = Engine(model), slanted(200)
    z = 1.5 * torch.randn(200, model.features.dimension, generator=torch.Generator().manual_seed(3))
    z[0, -1] = 40.0  # far beyond the splines and the knots
    condition, basis = model._incident(incident)
    with torch.no_grad():
        wanted = model.flow.inverse(z, condition)
        decoded = model.features.decode(wanted, torch.from_numpy(incident.energy_mev), basis)
    found = np.stack([flow_inverse(*row, engine._flow) for row in zip(z.numpy(), condition.numpy(), strict=True)])
    assert float((wanted - z).abs().mean()) > 0.3
    np.testing.assert_allclose(found, wanted.numpy(), rtol=1e-3, atol=2e-5)
    rows = zip(wanted.numpy(), incident.energy_mev, basis.numpy(), strict=True)
    good, n, e, extras = (np.array(part) for part in zip(*(decode(*row, engine._scales) for row in rows), strict=True))
    np.testing.assert_array_equal(good, decoded[3].numpy())
    assert 0 < (~good).sum() < 100
    same = good & (n == decoded[0].numpy()).all(axis=1)
    assert same.sum() >= good.sum() - 1
    np.testing.assert_allclose(e[same], decoded[1].numpy()[same], rtol=1e-4)
    np.testing.assert_allclose(extras[same], decoded[2].numpy()[same], rtol=1e-4, atol=1e-4)


def test_layers_are_told_what_the_networks_are_told(small_detector: Detector) -> None:
    assert set(CONDITIONS) == {*SHOWER_CONDITIONS, *LAYER_CONDITIONS}
    model, incident = untrained(small_detector), slanted(30)
    n, e, extras, _ = model.sample_layers(incident, Noise(4, range(30)))
    assert bool((n == 0).any())
    event = model._event(incident, n, e, extras[:, 2])
    wanted = condition_table(CONDITIONS, event).reshape(30, -1, len(CONDITIONS)).numpy()
    for b in range(30):
        own = (n[b].long().numpy(), e[b].numpy(), np.float32(extras[b, 2]), model.z_mm.numpy())
        found = quantities(incident.energy_mev[b], incident.direction[b], np.float32(event.charge[b]), *own)
        np.testing.assert_allclose(found, wanted[b], rtol=1e-5, atol=1e-5)


def test_points_are_those_of_the_denoiser(small_detector: Detector) -> None:
    """A layer alone: positions and shares of the energy, before anything is imposed on them."""
    model = untrained(small_detector, "no moments")
    n, e = torch.tensor([[0.0, 70.0, 0.0, 3.0, 0.0, 0.0]]), torch.tensor([[0.0, 5.0, 0.0, 2.0, 0.0, 0.0]])
    incident = Incident("gamma", energy_mev=4000.0)
    normal = torch.randn(73, 3, generator=torch.Generator().manual_seed(1))
    row = torch.tensor([1] * 70 + [3] * 3)
    with torch.no_grad():
        table = condition_table(model.config.conditions, model._event(incident, n, e, torch.zeros(1)))
        x = model.point_scale.inverse(model._draw(Rows(model.condition_scale(table), row), normal))
        share = model.energy_shape.inverse(x[:, 2:])[:, 0].exp()
        radius = model.config.radial_scale_mm * torch.sinh(torch.linalg.vector_norm(x[:, :2], dim=1))
        model.largest_radius_mm.copy_(radius.median())
    found = np.empty((3, 73), np.float32)
    told = (incident.energy_mev[0], incident.direction[0], np.float32(0), n[0].long().numpy(), e[0].numpy())
    draw_points(*told, np.empty(0, np.float32), normal.numpy(), Engine(model)._student, *found)
    wanted = torch.minimum(radius, model.largest_radius_mm)
    np.testing.assert_allclose(np.hypot(*found[:2]), wanted.numpy(), rtol=1e-4)
    np.testing.assert_allclose(np.arctan2(found[1], found[0]), torch.atan2(x[:, 1], x[:, 0]).numpy(), atol=1e-4)
    np.testing.assert_allclose(found[2, :70], (5 * share[:70] / share[:70].sum()).numpy(), rtol=1e-4)
    np.testing.assert_allclose(found[2, 70:].sum(), 2, rtol=1e-5)


def test_a_shower_is_the_same_to_the_last_bit_in_any_batch(small_detector: Detector) -> None:
    model, incident = untrained(small_detector), slanted(8)
    together = model.sample(small_detector, incident, Noise(5, range(8)))
    for k in (0, 7):
        alone = model.sample(small_detector, incident[k : k + 1], Noise(5, [k]))
        for name in ("layer", "energy_mev", "x_mm", "y_mm"):
            np.testing.assert_array_equal(getattr(alone, name), getattr(together[k], name))


def test_what_the_flow_draws_is_what_comes_out(small_detector: Detector) -> None:
    model, incident = untrained(small_detector), slanted(30)
    n, e, extras, _ = model.sample_layers(incident, Noise(3, range(30)))
    showers = model.sample(small_detector, incident, Noise(3, range(30)))
    same = np.flatnonzero((showers.layer_counts() == n.numpy()).all(axis=1))
    assert len(same) >= 29
    np.testing.assert_allclose(showers.layer_energy_mev()[same], e.numpy()[same], rtol=1e-4, atol=1e-5)
    energy, shower = torch.from_numpy(showers.energy_mev), torch.from_numpy(showers.shower)
    xy = model._relative_to_axis(showers)
    moments = model.lateral.measure(xy, energy, shower, 30)
    # The untrained network's far points are moved to the largest radius, which moves centres a little.
    away = (moments[:, :2] - extras[:, :2]).abs()
    assert float(away.median()) < 1e-3
    assert float(extras[:, :2].std()) > 0.05
    assert float(torch.linalg.vector_norm(xy, dim=1).max()) <= float(model.largest_radius_mm) * (1 + 1e-5)


def test_unphysical_draws_are_made_again(small_detector: Detector) -> None:
    model = untrained(small_detector)
    with torch.no_grad():
        model.features.plain.log_spread[0, 0] += 4.0
    incident = Incident("gamma", energy_mev=5000.0, n=40)
    showers = model.sample(small_detector, incident, Noise(1, range(40)))
    assert (showers.visible_mev() <= incident.energy_mev * (1 + 1e-5)).all()
    assert showers.provenance["flow_draws_rejected"] > 10
    assert showers.provenance == model.sample_in_torch(small_detector, incident, Noise(1, range(40))).provenance
    with torch.no_grad():
        model.features.plain.mean[0, 0] += 100.0
    for sample in (model.sample, model.sample_in_torch):
        with pytest.raises(ModelError, match="no physical shower in 50 draws for a particle of 5000 MeV"):
            sample(small_detector, incident, Noise(1, range(40)))


class Louder(torch.nn.Module):
    """A parametrisation, as fine-tuning of low rank attaches them."""

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        """Half as much again."""
        return 1.5 * weight


def test_a_change_that_is_attached_to_weights_is_felt(small_detector: Detector) -> None:
    model, incident = untrained(small_detector), slanted(10)
    before = model.sample(small_detector, incident, Noise(1, range(10)))
    for part in (model.consistency.student.network.layers[1].linear, model.flow.couplings[0].hyper[0]):  # type: ignore[index, union-attr]
        parametrize.register_parametrization(part, "weight", Louder())  # type: ignore[arg-type]
    after = model.sample(small_detector, incident, Noise(1, range(10)))
    assert_same(after, model.sample_in_torch(small_detector, incident, Noise(1, range(10))))
    with pytest.raises(AssertionError):
        assert_same(after, before)


GENERATED = {"depth": "generated", "conditions": ("log_energy", "log_points")}
UNCOVERED: dict[str, Callable[[Detector], CaloClouds]] = {
    "a teacher's steps": lambda d: untrained(d).with_sampler("heun-angle", 2),
    "two jumps": lambda d: untrained(d).with_sampler("consistency", 2),
    "depth": lambda d: untrained(d, **GENERATED),
    "mean velocities": lambda d: untrained(d, mean_flow=MeanFlowConfig(), sampler="mean-flow"),
}


@pytest.mark.parametrize("name", UNCOVERED)
def test_other_models_generate_in_torch_and_say_nothing(small_detector: Detector, name: str) -> None:
    model = UNCOVERED[name](small_detector)
    assert not model.jumps
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        made = model.sample(small_detector, slanted(4), Noise(1, range(4)))
    assert model._engine is None
    expected = model.sample_in_torch(small_detector, slanted(4), Noise(1, range(4)))
    np.testing.assert_array_equal(made.x_mm, expected.x_mm)

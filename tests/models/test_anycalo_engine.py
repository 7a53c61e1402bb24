"""The engine makes the showers that the networks make: the law that keeps speed from costing fidelity."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from anycalo.geometry import Detector
from anycalo.models import Noise, load_model, shipped_models
from anycalo.models.anycalo import AnyCalo, AnyCaloConfig
from anycalo.models.model import Domain
from anycalo.models.point_flow import PointFlowConfig
from anycalo.models.point_kernels import place
from anycalo.models.recurrent import RecurrentConfig
from anycalo.models.told_kernels import describe, tell, tell_of_tensors
from anycalo.models.totals import DEPTHS, TotalsConfig
from anycalo.models.universal import COORDINATES, Geometry, layer_mip_mev, particle_table
from anycalo.showers import Beam, Incident
from anycaloreference import reference_showers
from sameshowers import assert_same
from toyshowers import toy_showers
from toyzoo import stack, toy_zoo

SIZES = {
    "totals": TotalsConfig(layer_hidden=6, hidden=10, components=3, members=3),
    "layers": RecurrentConfig(embedding=7, hidden=9, head=5, components=3),
}


def untrained(coordinates: str, depth: int, bins: int) -> AnyCalo:
    """Scales from showers, weights at random and large, so that every one of them is felt."""
    torch.manual_seed(3)
    points = PointFlowConfig(hidden=9, depth=depth, bins=bins, angle_bins=max(bins - 2, 1), radius_features=7)
    showers = [toy_showers(d, 20, k, max_angle_rad=0.4) for k, d in enumerate(toy_zoo())]
    model = AnyCalo(AnyCaloConfig(**SIZES, points=points, coordinates=coordinates), Domain.of(showers))  # type: ignore[arg-type]
    model.stages(showers[:-1], showers[-1:], seed=1)
    with torch.no_grad():
        for head in (model.points.radius, model.points.angle, model.points.energy):
            head.weight.mul_(20)
        model.surroundings.head.weight.mul_(20)
        model.surroundings.of_point.weight.mul_(2)
        model.balance.head.weight.mul_(20)
        for mixture in (model.layers.count_mixture, model.layers.energy_mixture):
            mixture.linear.weight.mul_(4)
        # Depths that showers can have, for none is to be drawn again.
        model.totals.std[DEPTHS] *= 0.3
    return model.eval()


def slanted(n: int) -> Incident:
    return Beam(particle=("gamma", "electron"), energy_mev=(2e3, 9e3), max_angle_rad=0.5).sample(n, 5)


@pytest.mark.parametrize(("coordinates", "depth", "bins"), [("universal", 1, 5), ("raw", 3, 1)])
def test_showers_are_those_of_the_networks(coordinates: str, depth: int, bins: int) -> None:
    model = untrained(coordinates, depth, bins)
    detector = stack(11, 3.0, absorber="G4_Pb", sensor_mm=0.4, field_tesla=1.0)
    incident = slanted(25)
    expected = reference_showers(model, detector, incident, Noise(2, range(25)))
    assert expected.n_points > 1000
    made = model.sample(detector, incident, Noise(2, range(25)))
    assert_same(made, expected)
    # A weight a little different, and the showers are others: the comparison sees it, and so does the engine.
    with torch.no_grad():
        model.layers.memory.weight_hh_l0.mul_(1.05)
    with pytest.raises(AssertionError):
        assert_same(model.sample(detector, incident, Noise(2, range(25))), expected)


def test_showers_of_the_shipped_model_are_those_of_its_networks() -> None:
    model = load_model(next(name for name in shipped_models() if name.startswith("anycalo")))
    assert isinstance(model, AnyCalo)
    detector, incident = Detector.load("ild-ecal"), Beam(energy_mev=(1e3, 5e4), max_angle_rad=0.5).sample(12, 5)
    expected = reference_showers(model, detector, incident, Noise(2, range(12)))
    assert_same(model.sample(detector, incident, Noise(2, range(12))), expected, walked=True)


def test_a_shower_is_the_same_to_the_last_bit_in_any_batch() -> None:
    model, detector, incident = untrained("universal", 2, 4), stack(6, 4.0), slanted(8)
    together = model.sample(detector, incident, Noise(5, range(8)))
    for k in (0, 7):
        alone = model.sample(detector, incident[k : k + 1], Noise(5, [k]))
        for name in ("layer", "energy_mev", "x_mm", "y_mm"):
            np.testing.assert_array_equal(getattr(alone, name), getattr(together[k], name))


def test_a_copy_with_other_weights_makes_other_showers() -> None:
    model, detector, incident = untrained("universal", 2, 4), stack(6, 4.0), slanted(3)
    first = model.sample(detector, incident, Noise(5, range(3)))
    other = copy.deepcopy(model)
    with torch.no_grad():
        other.totals.mean[0] += 0.1
    assert other.sample(detector, incident, Noise(5, range(3))).visible_mev()[0] > 1.05 * first.visible_mev()[0]
    np.testing.assert_array_equal(model.sample(detector, incident, Noise(5, range(3))).x_mm, first.x_mm)


def test_a_model_is_looked_at_once_where_it_stays_unchanged() -> None:
    model = untrained("universal", 1, 4)
    before = model.state()
    with model.unchanged():
        model.totals.mean.add_(0.1)  # nobody should
        assert model.state() is model.state()
    assert model.state() != before
    assert model.digest() != untrained("universal", 1, 4).digest()


@pytest.mark.parametrize("name", sorted(COORDINATES))
def test_a_shower_alone_is_told_what_tensors_are(name: str) -> None:
    coordinates, incident = COORDINATES[name](), slanted(6)
    for detector in [*toy_zoo(), stack(1, 2.0)]:
        which = torch.zeros(len(incident), dtype=torch.long)
        tensors = coordinates.told(Geometry([detector]), which, particle_table(incident))
        mip = layer_mip_mev(detector, incident)
        for b in range(len(incident)):
            told = tell_of_tensors(coordinates, detector, incident)[b]
            if name == "universal":
                told = tell(describe(detector), incident.energy_mev[b], incident.direction[b], incident.charge[b])
            for field in told._fields:
                wanted = mip[b] if field == "mip_mev" else getattr(tensors, field)[b]
                found = getattr(told, field)
                assert found.dtype == np.float32, field
                np.testing.assert_allclose(found, wanted.numpy(), rtol=2e-5, atol=2e-5, err_msg=field)


def test_points_are_placed_as_the_coordinates_say() -> None:
    coordinates, incident, counts = COORDINATES["universal"](), slanted(3), np.array([3, 0, 4])
    z = np.array([1.0, 20.0, 30.0], np.float32)
    xy = np.random.default_rng(1).normal(size=(7, 2)).astype(np.float32)
    for direction in [*incident.direction, np.array([0, 0, 1], np.float32)]:
        x, y, layer = xy[:, 0].copy(), xy[:, 1].copy(), np.empty(7, np.int16)
        place(counts, direction, z, np.float32(13), True, x, y, layer)
        np.testing.assert_array_equal(layer, np.repeat(np.arange(3), counts))
        slope = torch.from_numpy(direction[:2] / direction[2]).expand(7, -1)
        wanted = coordinates.stretch(torch.from_numpy(13 * xy), slope) + slope * torch.from_numpy(z[layer])[:, None]
        np.testing.assert_allclose(np.column_stack([x, y]), wanted.numpy(), rtol=1e-5, atol=1e-5)

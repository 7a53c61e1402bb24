"""The caloclouds family: what the flow draws is what comes out, the axis, files, refusals."""

from __future__ import annotations

import dataclasses
import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from anycalo.errors import DomainWarning, ModelError, OutputError
from anycalo.geometry import Detector
from anycalo.models import FAMILIES, CaloClouds, CaloCloudsConfig, Domain, Noise, load_model, parameter_count
from anycalo.models.flow import FlowConfig
from anycalo.models.mean_flow import AverageVelocity, MeanFlowConfig
from anycalo.models.model import CARD, WEIGHTS
from anycalo.models.pointwise import PointwiseConfig, Rows
from anycalo.models.solvers import euler
from anycalo.showers import Incident
from toyshowers import toy_showers

SMALL_FLOW = FlowConfig(blocks=1, affine=2, hidden=(16,))
SMALL_NETWORK = PointwiseConfig(hidden=(16, 16), time_features=8)
GENERATED = {"depth": "generated", "conditions": ("log_energy", "log_points"), "lateral_moments": False, "merge_radius_mm": 0.0}


def fitted(detector: Detector, **changes: object) -> CaloClouds:
    """Scales set from toy showers, networks as they start."""
    config = CaloCloudsConfig(flow=SMALL_FLOW, network=SMALL_NETWORK, steps=4, **changes)  # type: ignore[arg-type]
    showers = toy_showers(detector, 400, seed=1, max_angle_rad=0.4)
    torch.manual_seed(0)
    model = CaloClouds(config, Domain.of([showers]))
    model.stages([showers[:350]], [showers[350:]], seed=1)
    return model.eval()


@pytest.fixture(scope="module")
def model(small_detector: Detector) -> CaloClouds:
    return fitted(small_detector)


@pytest.mark.parametrize("design", [{}, GENERATED])
def test_counts_and_energies_are_what_the_flow_drew(small_detector: Detector, design: dict[str, object]) -> None:
    model = fitted(small_detector, **design)
    incident = Incident("gamma", energy_mev=np.linspace(1500, 9000, 30))
    n, e, extras, _ = model.sample_layers(incident, Noise(3, range(30)))
    showers = model.sample(small_detector, incident, Noise(3, range(30)))
    np.testing.assert_array_equal(showers.layer_counts(), n.numpy())
    np.testing.assert_allclose(showers.layer_energy_mev(), e.numpy(), rtol=2e-5, atol=1e-6)
    assert (n.numpy() == 0).any()
    assert (np.diff(showers.layer)[np.diff(showers.shower) == 0] >= 0).all()
    if not design:
        xy = torch.from_numpy(np.stack([showers.x_mm, showers.y_mm], axis=1))
        moments = model.lateral.measure(xy, torch.from_numpy(showers.energy_mev), torch.from_numpy(showers.shower), 30)
        torch.testing.assert_close(moments[:, :2], extras[:, :2], atol=0.02, rtol=0)
        # The width is imposed nearly; an untrained network's far points are moved to the largest radius besides.
        widths = torch.stack([moments[:, 2], extras[:, 2]])
        assert float(torch.corrcoef(widths)[0, 1]) > 0.95
        assert float(extras[:, :2].std()) > 0.05
        assert float(extras[:, 2].std()) > 0.1


def test_showers_follow_the_axis(model: CaloClouds, small_detector: Detector) -> None:
    direction = np.array([0.3, -0.1, 0.0])
    direction[2] = np.sqrt(1 - (direction**2).sum())
    straight = toy_showers(small_detector, 40, seed=4)
    shift = (direction[:2] / direction[2])[None] * small_detector.layer_z_mm[straight.layer][:, None]
    slanted = type(straight)(
        detector=small_detector,
        incident=Incident("gamma", energy_mev=straight.incident.energy_mev, direction=direction),
        offsets=straight.offsets,
        x_mm=straight.x_mm + shift[:, 0],
        y_mm=straight.y_mm + shift[:, 1],
        layer=straight.layer,
        energy_mev=straight.energy_mev,
    )
    torch.testing.assert_close(model._relative_to_axis(slanted), model._relative_to_axis(straight), atol=1e-4, rtol=1e-4)
    made = model.sample(small_detector, slanted.incident, Noise(1, range(40)))
    # Generated points have the drawn centre relative to the axis of their layer, and not relative to the normal.
    _, _, extras, _ = model.sample_layers(slanted.incident, Noise(1, range(40)))
    energy, shower = torch.from_numpy(made.energy_mev), torch.from_numpy(made.shower)
    centre = model.lateral.measure(model._relative_to_axis(made), energy, shower, 40)[:, :2]
    torch.testing.assert_close(centre, extras[:, :2], atol=0.02, rtol=0)
    xy = torch.from_numpy(np.stack([made.x_mm, made.y_mm], axis=1))
    assert float((model.lateral.measure(xy, energy, shower, 40)[:, 0] - extras[:, 0]).min()) > 0.1


def test_a_shower_does_not_depend_on_its_batch(model: CaloClouds, small_detector: Detector) -> None:
    incident = Incident("gamma", energy_mev=np.linspace(1500, 9000, 12))
    together = model.sample(small_detector, incident, Noise(5, range(12)))
    alone = model.sample(small_detector, incident[7:8], Noise(5, [7]))
    np.testing.assert_array_equal(alone.layer, together[7].layer)
    np.testing.assert_allclose(alone.energy_mev, together[7].energy_mev, rtol=1e-3)
    np.testing.assert_allclose(alone.x_mm, together[7].x_mm, rtol=1e-2, atol=1e-2)
    other = model.sample(small_detector, incident[7:8], Noise(6, [7]))
    assert len(other.x_mm) != len(alone.x_mm) or not np.allclose(other.x_mm, alone.x_mm)


def test_unphysical_draws_are_made_again(small_detector: Detector) -> None:
    model = fitted(small_detector)
    with torch.no_grad():
        model.features.plain.log_spread[0, 0] += 4.0
    incident = Incident("gamma", energy_mev=5000.0, n=50)
    showers = model.sample(small_detector, incident, Noise(1, range(50)))
    assert (showers.visible_mev() <= incident.energy_mev * (1 + 1e-5)).all()
    assert showers.provenance["flow_draws_rejected"] > 0
    assert showers.provenance["flow_draws"] == 50 + showers.provenance["flow_draws_rejected"]
    with torch.no_grad():
        model.features.plain.mean[0, 0] += 100.0
    with pytest.raises(ModelError, match="no physical shower in 50 draws"):
        model.sample(small_detector, incident, Noise(1, range(50)))


def test_another_detector_is_refused(model: CaloClouds, small_detector: Detector) -> None:
    other = dataclasses.replace(small_detector, name="other")
    with pytest.raises(ModelError, match="showers of that detector only; asked for 'other'"):
        model.sample(other, Incident(energy_mev=2000.0, n=1), Noise(0, [0]))


def test_published_configurations_count_as_published(small_detector: Detector) -> None:
    domain = Domain(particles=("gamma",), energy_mev=(1e3, 1e4), max_angle_rad=0.0, detectors=(small_detector.to_toml(),))
    third = CaloCloudsConfig(**{**GENERATED, "conditions": ("log_energy", "dx", "dy", "dz")})  # type: ignore[arg-type]
    assert parameter_count(CaloClouds(third, domain).denoiser) == 69_608
    second = CaloCloudsConfig(network=PointwiseConfig(hidden=(128, 256, 512, 256, 128)), **GENERATED)  # type: ignore[arg-type]
    assert parameter_count(CaloClouds(second, domain).denoiser) == 504_920


def test_saved_and_loaded_is_identical(model: CaloClouds, small_detector: Detector, tmp_path: Path) -> None:
    model.save(tmp_path / "m", card={"metrics": {"loss": 1.5}})
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m"]
    again = load_model(tmp_path / "m")
    assert isinstance(again, CaloClouds)
    assert again.config == model.config
    assert again.domain == model.domain
    assert again.card["metrics"] == {"loss": 1.5}
    assert again.digest() == model.digest()
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name]), name
    incident = Incident("gamma", energy_mev=4000.0, n=5)
    one, two = (m.sample(small_detector, incident, Noise(1, range(5))) for m in (model, again))
    np.testing.assert_array_equal(one.x_mm, two.x_mm)
    np.testing.assert_array_equal(one.energy_mev, two.energy_mev)


def test_saving_over_something_is_refused(model: CaloClouds, tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    with pytest.raises(OutputError, match="exists already"):
        model.save(tmp_path / "m")
    model.save(tmp_path / "m", overwrite=True)
    assert (tmp_path / "m" / WEIGHTS).is_file()


def edit_card(folder: Path, **changes: object) -> None:
    card = json.loads((folder / CARD).read_text())
    card.update(changes)
    (folder / CARD).write_text(json.dumps(card))


def test_damaged_directories_are_refused(model: CaloClouds, tmp_path: Path) -> None:
    def fresh(name: str) -> Path:
        model.save(tmp_path / name)
        return tmp_path / name

    folder = fresh("weights")
    (folder / WEIGHTS).unlink()
    with pytest.raises(ModelError, match=r"model\.safetensors is missing"):
        load_model(folder)
    folder = fresh("cut")
    (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:5000])
    with pytest.raises(ModelError, match="damaged"):
        load_model(folder)
    folder = fresh("json")
    (folder / CARD).write_text("{")
    with pytest.raises(ModelError, match="damaged"):
        load_model(folder)
    folder = fresh("foreign")
    edit_card(folder, format="something")
    with pytest.raises(ModelError, match="not an AnyCalo model"):
        load_model(folder)
    folder = fresh("family")
    edit_card(folder, family="calomancy")
    with pytest.raises(ModelError, match="family 'calomancy' is unknown"):
        load_model(folder)
    folder = fresh("config")
    edit_card(folder, config={"stepz": 3})
    with pytest.raises(ModelError, match=r"unknown key 'stepz'.*Did you mean 'steps'"):
        load_model(folder)
    folder = fresh("shape")
    tensors = load_file(folder / WEIGHTS)
    name = "denoiser.network.layers.0.gate.weight"
    save_file({**tensors, name: tensors[name][:, :3].contiguous()}, folder / WEIGHTS)
    with pytest.raises(ModelError, match=f"'{name}' is of shape"):
        load_model(folder)
    folder = fresh("lacking")
    save_file({k: v for k, v in tensors.items() if k != "flow.permutations"}, folder / WEIGHTS)
    with pytest.raises(ModelError, match=r"'flow\.permutations' is missing"):
        load_model(folder)


def test_unknown_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="neither a shipped model nor a directory"):
        load_model(tmp_path / "nothing")
    assert set(FAMILIES) >= {"caloclouds"}


def test_domain_names_what_is_outside(model: CaloClouds, small_detector: Detector) -> None:
    domain = model.domain
    inside = Incident("gamma", energy_mev=[domain.energy_mev[0], domain.energy_mev[1]])
    assert domain.breaches(small_detector, inside) == []
    other = dataclasses.replace(small_detector, name="other")
    outside = Incident([22, 11], energy_mev=[100.0, 5e4], direction=[0.8, 0.0, 0.6])
    found = domain.breaches(other, outside)
    assert len(found) == 4
    for sentence, words in zip(found, ("electron", "100 to 50000 MeV", "angle", "'other'"), strict=True):
        assert words in sentence
    assert issubclass(DomainWarning, UserWarning)


@pytest.mark.parametrize(
    "wrong", [{"depth": "random"}, {"sampler": "hein"}, {"steps": 0}, {"conditions": ("nothing",)}, {"radial_scale_mm": 0.0}]
)
def test_wrong_configuration_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ModelError):
        CaloCloudsConfig(**wrong)  # type: ignore[arg-type]


def following(average: AverageVelocity, condition: Rows, z: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    out: torch.Tensor = average(z, t, t, condition)
    return out


def test_the_sampler_of_flow_matching_alone_is_eulers(small_detector: Detector) -> None:
    """A network of mean velocities jumps; one that knows velocities alone follows them."""
    made = {}
    generator = torch.Generator().manual_seed(4)
    normal = torch.randn(50, 3, generator=generator)
    for different in (0.0, 0.75):
        model = fitted(small_detector, mean_flow=MeanFlowConfig(different=different), sampler="mean-flow")
        assert model.mean_flow is not None
        average = model.mean_flow.average
        for parameter in average.parameters():
            parameter.data += 0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(5))
        condition = Rows(torch.randn(1, 6, generator=torch.Generator().manual_seed(6)), torch.zeros(50, dtype=torch.long))
        with torch.no_grad():
            made[different] = model._draw(condition, normal)
            velocity = partial(following, average, condition)
            followed = euler(velocity, normal, torch.linspace(1, 0, model.config.steps + 1))
        assert torch.allclose(made[different], followed, atol=1e-5) == (different == 0)

"""The `anycalo` family on toy showers of several small detectors: training, showers of an unseen detector, files, refusals."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from anycalo.errors import ModelError
from anycalo.geometry import Detector
from anycalo.geometry.detector import Slab
from anycalo.models import Domain, Noise, load_model, parameter_count
from anycalo.models.anycalo import AnyCalo, AnyCaloConfig
from anycalo.models.anycalo_data import TYPICAL_LOG_WIDTH, Prepared, _lateral, prepare
from anycalo.models.layer_tokens import decode_totals
from anycalo.models.model import axis_slopes
from anycalo.models.point_flow import PointFlowConfig
from anycalo.models.profile import STEEPEST, bent, measure
from anycalo.models.recurrent import RecurrentConfig
from anycalo.models.totals import DEPTHS, TotalsConfig
from anycalo.models.totals import NOISE as OF_TOTALS
from anycalo.models.universal import Geometry, layer_mip_mev, particle_table
from anycalo.showers import Incident, Showers
from anycalo.train import Recipe
from anycaloreference import draw_totals, turn_of
from toyshowers import toy_showers
from toyzoo import stack, toy_zoo

SMALL = {
    "totals": TotalsConfig(layer_hidden=8, hidden=16, components=2, members=2),
    "layers": RecurrentConfig(embedding=12, hidden=16, head=8, components=2),
    "points": PointFlowConfig(hidden=16, depth=1, bins=5, angle_bins=3, radius_features=8),
}


@pytest.fixture(scope="module")
def zoo_showers() -> list[Showers]:
    return [toy_showers(d, 40, k, max_angle_rad=0.4) for k, d in enumerate(toy_zoo())]


def fitted(showers: list[Showers], **changes: object) -> AnyCalo:
    """Scales set from all but the last detector, networks as they start."""
    torch.manual_seed(0)
    model = AnyCalo(AnyCaloConfig(**{**SMALL, **changes}), Domain.of(showers))  # type: ignore[arg-type]
    model.stages(showers[:-1], showers[-1:], seed=1)
    return model.eval()


@pytest.fixture(scope="module")
def model(zoo_showers: list[Showers]) -> AnyCalo:
    return fitted(zoo_showers)


@pytest.fixture(scope="module")
def unseen_detector() -> Detector:
    """Thirteen layers, more than any detector of the zoo has."""
    return stack(13, 3.0, absorber="G4_Pb", sensor_mm=0.4, name="unseen", field_tesla=1.0)


def some(n: int) -> Incident:
    angles = np.linspace(0, 0.4, n)
    direction = np.stack([np.sin(angles), np.zeros(n), np.cos(angles)], axis=1)
    return Incident("gamma", energy_mev=np.geomspace(2e3, 9e3, n), direction=direction)


@pytest.mark.parametrize("coordinates", ["universal", "raw"])
def test_a_few_steps_lower_every_loss(zoo_showers: list[Showers], coordinates: str) -> None:
    torch.manual_seed(0)
    model = AnyCalo(AnyCaloConfig(**SMALL, coordinates=coordinates), Domain.of(zoo_showers))  # type: ignore[arg-type]
    stages = model.stages(zoo_showers[:-1], zoo_showers[-1:], seed=1)
    names = ["totals", "means", "layers", "points", "clusters", "surroundings", "balance", "tracks", "cells"]
    assert [s.name for s in stages] == names
    with torch.no_grad():
        model.clusters.head.bias[: model.config.clusters.kinds] = 1.0  # too many children, which can be learnt in a few steps
    for stage in stages:
        if stage.objective is None:
            with pytest.raises(ModelError, match="is solved, not trained"):
                stage.loss((), torch.zeros(0))
            continue
        assert stage.validation_size > 0
        generator = torch.Generator().manual_seed(1)
        size = min(stage.size, 400 if stage.name in ("points", "clusters", "surroundings", "balance", "tracks") else 60)
        chosen = torch.randperm(stage.size, generator=generator)[:size]
        noise = torch.randn(size, stage.noise_features, generator=generator)
        batch = stage.batch(chosen)
        optimiser = torch.optim.Adam(stage.module.parameters(), lr=1e-2)
        losses = []
        for _ in range(6):
            loss = stage.loss(batch, noise)
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            losses.append(float(loss.detach()))
        assert np.isfinite(losses).all(), stage.name
        assert losses[-1] < losses[0] - 0.01, stage.name
        # Every parameter is trained.
        assert all(p.grad is not None for p in stage.module.parameters()), stage.name
        held_out = stage.loss(stage.batch(stage.size + torch.arange(5)), noise[:5])
        assert torch.isfinite(held_out), stage.name


def test_energies_and_places_are_what_was_drawn(model: AnyCalo, unseen_detector: Detector) -> None:
    incident, model = some(25), copy.deepcopy(model)
    model.totals.std[DEPTHS] *= 0.3  # depths that showers can have
    showers = model.sample(unseen_detector, incident, Noise(3, range(25)))
    assert showers.detector.n_layers == 13
    assert showers.provenance == {"draws": 25, "draws_rejected": 0}
    normal, particle = Noise(3, range(25)).normal(OF_TOTALS), particle_table(incident)
    turn = turn_of(model, normal)
    particle[:, 1] *= turn
    told = model.coordinates.told(Geometry([unseen_detector]), torch.zeros(25, dtype=torch.long), particle)
    with torch.no_grad():
        totals = draw_totals(model.totals, told, normal)
        totals[:, 2] *= turn
    n_total, e_total = decode_totals(told, totals)
    calibrated = showers.layer_energy_mev() * told.calibration.numpy()
    np.testing.assert_allclose(calibrated.sum(axis=1), e_total, rtol=1e-4)
    # Rounding, layers that keep their only point, and points with two ends, at most all of them.
    assert (showers.counts >= n_total.numpy() - 13).all()
    assert (showers.counts <= 2 * (n_total.numpy() + 13)).all()
    assert (showers.energy_mev > 0).all()
    # The centre that was drawn, across the axis and in Moliere radii, is that of the points.
    moments, _ = _lateral(model, showers)
    torch.testing.assert_close(moments[:, :2], totals[:, 2:4], rtol=0, atol=0.02)
    both = torch.stack([moments[:, 2], totals[:, 4]])
    assert float(torch.corrcoef(both)[0, 1]) > 0.9
    assert float(totals[:, 2:4].std()) > 0.05
    assert pytest.approx(-1.0) == TYPICAL_LOG_WIDTH


def test_a_depth_that_no_shower_can_have_is_drawn_again(model: AnyCalo, unseen_detector: Detector) -> None:
    def made(spread: float) -> Showers:
        wide = copy.deepcopy(model)
        wide.totals.std[DEPTHS] *= spread
        return wide.sample(unseen_detector, some(100), Noise(3, range(100)))

    def steepness(showers: Showers) -> Tensor:
        geometry, which = Geometry([unseen_detector]), torch.zeros(len(showers), dtype=torch.long)
        told = model.coordinates.told(geometry, which, particle_table(showers.incident))
        energy = torch.from_numpy(showers.layer_energy_mev()).float() * told.calibration
        return bent(told.phi, told.energy_mev, measure(told.phi, energy))[1]

    assert made(0.1).provenance["draws_rejected"] == 0
    showers = made(3.0)
    assert showers.provenance["draws_rejected"] > 30
    # What is kept has whole points in the layers, so its own depth is not quite the one that was drawn.
    assert float((steepness(showers) > 1.5 * STEEPEST).double().mean()) < 0.05


def test_showers_follow_the_axis(model: AnyCalo) -> None:
    detector = stack(9, 5.0, name="deep")
    angle = 0.4
    direction = [np.sin(angle), 0.0, np.cos(angle)]
    made = model.sample(detector, Incident("gamma", energy_mev=8e3, direction=direction, n=40), Noise(1, range(40)))
    shift = axis_slopes(made.incident)[made.shower, 0] * detector.layer_z_mm[made.layer]
    far = made.layer >= 4
    assert np.median((made.x_mm - shift)[far]) == pytest.approx(0, abs=0.3 * np.median(shift[far]))
    assert np.median(made.x_mm[far]) > 0.7 * np.median(shift[far])


def test_the_name_of_a_detector_does_not_matter(model: AnyCalo) -> None:
    one, two = (model.sample(stack(7, 4.0, name=name), some(4), Noise(1, range(4))) for name in ("one", "two"))
    np.testing.assert_array_equal(one.x_mm, two.x_mm)
    np.testing.assert_array_equal(one.energy_mev, two.energy_mev)


def test_unphysical_draws_are_made_again(model: AnyCalo, unseen_detector: Detector) -> None:
    wild = copy.deepcopy(model)
    n = 20
    incident = Incident("gamma", energy_mev=2e3, n=n)
    noise = lambda: Noise(1, range(n))  # noqa: E731
    quiet = model.sample(unseen_detector, incident, noise())
    # Half of the draws see more than there is.
    fraction = np.median(quiet.visible_mev() / incident.energy_mev)
    with torch.no_grad():
        wild.totals.mean[0] -= float(np.log(fraction))
    showers = wild.sample(unseen_detector, incident, noise())
    assert (showers.visible_mev() <= incident.energy_mev * (1 + 1e-5)).all()
    assert 3 < showers.provenance["draws_rejected"] < 10 * n
    assert showers.provenance["draws"] == n + showers.provenance["draws_rejected"]
    with torch.no_grad():
        wild.totals.mean[0] += 100.0
    with pytest.raises(ModelError, match=r"no physical shower in 50 draws for a particle of 2000 MeV\."):
        wild.sample(unseen_detector, incident[:2], Noise(1, range(2)))


def test_saved_and_loaded_is_identical(model: AnyCalo, tmp_path: Path) -> None:
    model.save(tmp_path / "m", card={"metrics": {"loss": 1.5}})
    again = load_model(tmp_path / "m")
    assert isinstance(again, AnyCalo)
    assert again.config == model.config
    assert again.domain == model.domain
    assert again.domain.ranges == model.domain.ranges
    assert again.digest() == model.digest()
    detector = stack(4, 6.0)
    one, two = (m.sample(detector, some(5), Noise(1, range(5))) for m in (model, again))
    np.testing.assert_array_equal(one.x_mm, two.x_mm)
    np.testing.assert_array_equal(one.energy_mev, two.energy_mev)
    with torch.no_grad():
        again.totals.mean[0] += 1
    assert again.digest() != model.digest()


def mirrored(showers: Showers) -> Showers:
    """x, and y together with the charge, turned around; what `prepare` merges and divides is left alone by toy detectors."""
    return Showers(
        detector=showers.detector,
        incident=Incident(
            showers.incident.pdg, energy_mev=showers.incident.energy_mev, direction=showers.incident.direction * [-1, 1, 1]
        ),
        offsets=showers.offsets,
        x_mm=-showers.x_mm,
        y_mm=showers.y_mm,
        layer=showers.layer,
        energy_mev=showers.energy_mev,
    )


def test_turning_a_batch_around_is_training_on_mirrored_showers() -> None:
    model = fitted([toy_showers(d, 12, 9, max_angle_rad=0.4) for d in toy_zoo()[:2]], split_mips=1e9, grouped=0.0)
    detector = stack(6, 5.0, field_tesla=2.0)
    straight = toy_showers(detector, 12, 9, max_angle_rad=0.4)
    incident = straight.incident
    straight = toy_showers(
        detector, 12, 9, incident=Incident("electron", energy_mev=incident.energy_mev, direction=incident.direction)
    )
    turned = mirrored(straight)
    data, other = (prepare(model, [s], n_training=1, seed=1, fit=False) for s in (straight, turned))
    noise = -torch.ones(12, 1)
    (told, totals, n, e), (told_, totals_, n_, e_) = (
        model._flipped(data.batch(torch.arange(12)), noise),
        Prepared.unpack(other.batch(torch.arange(12))),
    )
    for one, two in ((told.shower, told_.shower), (told.layer, told_.layer), (totals, totals_), (n, n_), (e, e_)):
        torch.testing.assert_close(one, two, rtol=1e-3, atol=1e-3)
    assert not torch.allclose(told.shower, data.told.shower)
    # Points: the same radius, energy and context, the angle of the mirrored place.
    turn = -torch.ones(len(data.points))
    kept = model._point_features(data.points, turn)
    found = model._point_features(other.points, -turn)
    difference = kept - found
    difference[:, 1] = (difference[:, 1] + 1) % 2 - 1
    assert float(difference.abs().quantile(0.99)) < 0.01
    context = model._flip_context(data.context, -torch.ones(len(data.context)))
    torch.testing.assert_close(context, other.context, rtol=1e-3, atol=1e-3)


def test_prepared_rows_are_those_of_the_points(model: AnyCalo, zoo_showers: list[Showers]) -> None:
    plain = copy.copy(model)
    plain.config = AnyCaloConfig(**SMALL, grouped=0.0, merge_radius_mm=0.0, split_mips=1e9)  # type: ignore[arg-type]
    if hasattr(plain.config, "merge_radius_slope"):
        plain.config = AnyCaloConfig(**SMALL, grouped=0.0, merge_mips=0.0, split_mips=1e9)  # type: ignore[arg-type]
    data = prepare(plain, zoo_showers, n_training=3, seed=1, fit=False)
    assert data.showers == 120
    assert len(data.totals) == 160
    assert len(data.points) == sum(s.n_points for s in zoo_showers)
    assert data.n_points == sum(s.n_points for s in zoo_showers[:3])
    assert len(data.context) == int((data.n > 0).sum())
    # How many points a row of the context has is what it says.
    told_count = torch.expm1(3 * data.context[:, plain.coordinates.shower_features + plain.coordinates.layer_features])
    held = torch.bincount(data.row.long(), minlength=len(data.context)).float()
    torch.testing.assert_close(told_count, held, rtol=1e-3, atol=0.01)
    visible = (data.e / data.told.calibration).sum(1)
    np.testing.assert_allclose(visible, np.concatenate([s.visible_mev() for s in zoo_showers]), rtol=1e-4)


def test_points_are_told_the_same_in_training_and_afterwards(zoo_showers: list[Showers]) -> None:
    """The scale of the totals is set before anything is told of them."""
    model = AnyCalo(AnyCaloConfig(**SMALL), Domain.of(zoo_showers))  # type: ignore[arg-type]
    first, again = (model.stages(zoo_showers[:3], zoo_showers[3:], seed=1, fit=fit)[2] for fit in (True, False))
    index = torch.arange(0, first.size, 7)
    torch.testing.assert_close(first.batch(index)[1], again.batch(index)[1])
    assert float((model.totals.std - 1).abs().max()) > 0.1


def test_some_detectors_are_also_shown_grouped(zoo_showers: list[Showers]) -> None:
    model = fitted(zoo_showers, grouped=1.0)
    data = prepare(model, zoo_showers, n_training=3, seed=1, fit=False)
    assert data.showers == 240
    assert len(data.totals) == 280
    # Grouping keeps a shower's energy, and the validation detectors are shown as they are.
    visible = (data.e / data.told.calibration).sum(1)
    torch.testing.assert_close(visible[:40], visible[40:80], rtol=1e-4, atol=0)
    assert int(data.told.valid[40].sum()) < int(data.told.valid[0].sum())
    assert int(data.told.valid[-1].sum()) == 5


def test_a_mip_is_that_of_one_sensor_along_the_axis() -> None:
    detector = stack(3, 5.0, sensor_mm=1.0)
    slanted = Incident("gamma", energy_mev=1e3, direction=[0.6, 0.0, 0.8], n=2)
    np.testing.assert_allclose(layer_mip_mev(detector, slanted), np.full((2, 3), 0.3876 / 0.8), rtol=0.01)


def test_nothing_of_a_zoo_is_in_the_weights() -> None:
    sizes = set()
    for detectors in (toy_zoo()[:2], toy_zoo()):
        showers = [toy_showers(d, 10, 1) for d in detectors]
        model = AnyCalo(AnyCaloConfig(**SMALL), Domain.of(showers))  # type: ignore[arg-type]
        sizes.add((parameter_count(model), tuple((k, tuple(v.shape)) for k, v in model.state_dict().items())))
    assert len(sizes) == 1


def test_the_default_model_is_small() -> None:
    model = AnyCalo(AnyCaloConfig(), Domain.of([toy_showers(d, 10, 1) for d in toy_zoo()]))
    assert sum(t.numel() * t.element_size() for t in model.state_dict().values()) < 5e6


def test_the_ablation_differs_in_its_coordinates_alone() -> None:
    recipe, ablation = Recipe.load("anycalo"), Recipe.load("anycalo-raw")
    assert ablation.model.coordinates == "raw"
    assert dataclasses.replace(ablation, model=dataclasses.replace(ablation.model, coordinates="universal")) == recipe


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"coordinates": "polar"}, "coordinates is 'polar'; expected one of universal, raw"),
        ({"core_scale": 0.0}, "core_scale is 0.0; expected a number above 0"),
        ({"quantum_mips": -1.0}, "quantum_mips is -1.0"),
        ({"grouped": 1.5}, "grouped is 1.5; expected a share from 0 to 1"),
        ({"merge_mips": -1.0}, "merge_mips is -1.0; expected a number of at least 0"),
    ],
)
def test_wrong_configuration_is_refused(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        AnyCaloConfig(**wrong)  # type: ignore[arg-type]


def test_wrong_sizes_of_the_totals_are_refused() -> None:
    with pytest.raises(ModelError, match="members is 0; expected at least 1"):
        TotalsConfig(members=0)
    with pytest.raises(ModelError, match=r"response_weight is -1\.0; expected a number of at least 0"):
        TotalsConfig(response_weight=-1.0)


def test_points_are_told_of_the_gas_beside_their_sensors(model: AnyCalo, unseen_detector: Detector) -> None:
    """Slow electrons cross it, and land where a detector with the same layers in radiation lengths has none."""

    def context(gas_mm: float) -> Tensor:
        section = unseen_detector.sections[0]
        slabs = (*section.layers[0].stack, Slab(material="G4_AIR", thickness_mm=gas_mm))
        layers = (dataclasses.replace(section.layers[0], stack=slabs),)
        detector = dataclasses.replace(unseen_detector, sections=(dataclasses.replace(section, layers=layers),))
        told = model.coordinates.told(Geometry([detector]), torch.zeros(1, dtype=torch.long), particle_table(some(1)))
        known = torch.full((1, 13), 8.0), torch.full((1, 13), 4.0), torch.full((1, 13), 0.2)
        return model.layer_context(told, torch.zeros(1, 7), *known)[0]

    thin, again, thick = context(0.5), context(0.5), context(2.0)
    # The last five of what a layer is told.
    end = model.coordinates.shower_features + model.coordinates.layer_features
    gas = slice(end - 5, end)
    torch.testing.assert_close(thin, again, rtol=0, atol=0)
    assert float((thin[:, gas] - thick[:, gas]).abs().amax(1).min()) > 0.5

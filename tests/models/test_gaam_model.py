"""The gaam family: showers of cells in any segmentation of one stack, its training data, what it refuses."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from anycalo.errors import ModelError
from anycalo.geometry import Detector, atlas_like
from anycalo.models import Domain, Noise, load_model
from anycalo.models.gaam import Gaam, GaamConfig
from anycalo.models.made import CellNetworkConfig
from anycalo.models.segmentation import segment
from anycalo.readout import cell_index, read_out
from anycalo.showers import Incident, Showers
from anycalo.train import Recipe
from toyshowers import toy_showers

ATLAS = atlas_like()
GRIDS = (("6x6", "12x4"), ("8x8", "4+2x8"), ("4x4",))
SMALL = CellNetworkConfig(hidden=16, sums=12, window=1, classes=24, bumps=8)
INCIDENT = Incident("gamma", energy_mev=np.linspace(2000, 9000, 120))


def showers(n: int = 120, seed: int = 1) -> Showers:
    return toy_showers(ATLAS, n, seed, incident=INCIDENT[:n])


def fitted(*, steps: int = 0, aware: bool = True, **config: object) -> Gaam:
    torch.manual_seed(1)
    data = showers()
    arguments = {"network": SMALL, "masked_layers": (1, 2, 1), "grids": GRIDS, "turn": True, **config}
    model = Gaam(GaamConfig(aware=aware, **arguments), Domain.of([data]))  # type: ignore[arg-type]
    for stage in model.stages([data[:90]], [data[90:]], seed=1):
        optimiser = torch.optim.Adam(stage.module.parameters(), lr=1e-2)
        generator = torch.Generator().manual_seed(1)
        for _ in range(steps):
            loss = stage.objective(stage.batch(torch.randint(stage.size, (24,), generator=generator)), torch.zeros(24, 0))
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    return model.eval()


@pytest.fixture(scope="module")
def model() -> Gaam:
    return fitted(steps=60)


def test_training_lowers_the_loss_on_other_showers(model: Gaam) -> None:
    data, before = showers(), fitted()
    for trained, untrained in zip(
        *(m.stages([data[:90]], [data[90:]], seed=1, fit=False) for m in (model, before)), strict=True
    ):
        held_out = torch.arange(trained.size, trained.size + trained.validation_size)
        with torch.no_grad():
            losses = [float(s.objective(s.batch(held_out), torch.zeros(len(held_out), 0))) for s in (trained, untrained)]
        assert losses[0] < 0.7 * losses[1], trained.name


def test_examples_are_showers_in_every_segmentation(model: Gaam) -> None:
    data = showers()
    stages = model.stages([data[:90]], [data[90:]], seed=1, fit=False)
    assert [s.name for s in stages] == ["layer0", "layer1", "layer2"]
    assert {s.size for s in stages} == {180}
    assert {s.validation_size for s in stages} == {60}
    assert [Detector.from_toml(t) for t in model.domain.detectors] == [
        atlas_like(inner=(6, 6), middle=(8, 8), outer=(4, 4)),
        atlas_like(inner=(12, 4), middle=((4, 2), 8), outer=(4, 4)),
    ]


def test_a_batch_is_the_mean_over_its_showers(model: Gaam) -> None:
    """Showers of different segmentations in one batch do not touch each other, and none weighs twice."""
    data = showers()
    for stage in model.stages([data[:90]], [data[90:]], seed=1, fit=False):
        index = torch.tensor([3, 100, 200, 40, 239, 3])
        with torch.no_grad():
            whole = float(stage.objective(stage.batch(index), torch.zeros(6, 0)))
            single = [float(stage.objective(stage.batch(index[k : k + 1]), torch.zeros(1, 0))) for k in range(6)]
        assert whole == pytest.approx(np.mean(single), rel=1e-4)
        assert len(set(single)) == 5


def test_classes_are_bins_of_the_root(model: Gaam) -> None:
    width = float(model.bin_width[1])
    energy = torch.tensor([0.0, (0.2 * width) ** 2, (1.5 * width) ** 2, (23.2 * width) ** 2, (99 * width) ** 2])
    assert model.classify(1, energy).tolist() == [0, 1, 2, 24, 24]


@pytest.mark.parametrize("grids", [("6x6", "8x8", "4x4"), ("5x9", "3+1x6", "7x2")])
def test_showers_are_cells_of_the_segmentation_asked_for(model: Gaam, grids: tuple[str, ...]) -> None:
    detector = segment(ATLAS, grids)
    made = model.sample(detector, INCIDENT, Noise(1, range(120)))
    assert len(made) == 120
    assert made.detector == detector
    cells = read_out(made)
    # One point for each cell, at its centre.
    assert len(cells) == made.n_points
    for layer in range(3):
        here = made.layer == layer
        number = cell_index(detector.layers[layer].readout, detector.size_mm, made.x_mm[here], made.y_mm[here])
        assert number.min() >= 0
    np.testing.assert_allclose(cells.energy_mev.sum(), made.energy_mev.sum(), rtol=1e-5)


def test_mean_energies_follow_the_training_showers(model: Gaam) -> None:
    """Coarse: 60 steps of a small network; the twin that was not trained is far off."""
    detector = segment(ATLAS, ("6x6", "8x8", "4x4"))
    truth = showers().seen_by(detector).layer_energy_mev().mean(0)
    made, raw = (m.sample(detector, INCIDENT, Noise(1, range(120))).layer_energy_mev().mean(0) for m in (model, fitted()))
    ratio = made / truth
    assert np.abs(np.log(ratio)).max() < 0.35, ratio
    assert np.abs(np.log(raw / truth)).max() > 0.35


def test_a_shower_does_not_depend_on_its_batch(model: Gaam) -> None:
    detector = segment(ATLAS, ("6x6", "8x8", "4x4"))
    together = model.sample(detector, INCIDENT[:12], Noise(5, range(12)))
    alone = model.sample(detector, INCIDENT[7:8], Noise(5, [7]))
    np.testing.assert_array_equal(alone.x_mm, together[7].x_mm)
    np.testing.assert_allclose(alone.energy_mev, together[7].energy_mev, rtol=1e-3)
    other = model.sample(detector, INCIDENT[7:8], Noise(6, [7]))
    assert other.n_points != alone.n_points or not np.allclose(other.energy_mev, alone.energy_mev)


def test_only_the_aware_model_sees_sizes() -> None:
    """48 x 4 cells and 4 + 44 x 4 cells: equal in columns and rows, different in millimetres."""
    uniform, skewed = (segment(ATLAS, (grid, "4x4", "4x4")) for grid in ("12x4", "6+6x4"))
    stretched = dataclasses.replace(
        uniform.layers[0].readout,
        x_edges_mm=tuple(x * (1.0 if abs(x) < 100 else 0.9) for x in uniform.layers[0].readout.x_edges_mm),  # type: ignore[union-attr]
    )
    section = uniform.sections[0]
    layers = (dataclasses.replace(section.layers[0], readout=stretched), *section.layers[1:])
    other = dataclasses.replace(uniform, sections=(dataclasses.replace(section, layers=layers),))
    assert uniform == skewed
    for aware in (True, False):
        twin = fitted(aware=aware, turn=False)
        one, two = (twin.sample(d, INCIDENT[:30], Noise(1, range(30))).energy_mev for d in (uniform, other))
        assert (len(one) == len(two) and np.array_equal(one, two)) is not aware


def test_saved_and_loaded_is_identical(model: Gaam, tmp_path: Path) -> None:
    model.save(tmp_path / "m")
    again = load_model(tmp_path / "m")
    assert isinstance(again, Gaam)
    assert again.config == model.config
    assert again.domain.detectors == model.domain.detectors
    assert again.digest() == model.digest()
    detector = segment(ATLAS, ("5x9", "6x6", "4x4"))
    one, two = (m.sample(detector, INCIDENT[:5], Noise(1, range(5))) for m in (model, again))
    np.testing.assert_array_equal(one.energy_mev, two.energy_mev)


def test_other_stacks_and_readouts_are_refused(model: Gaam) -> None:
    model.check(segment(ATLAS, ("1x1", "2x3", "100x1")))
    with pytest.raises(ModelError, match="these layers only, in any segmentation; asked for 'ild-ecal'"):
        model.check(Detector.load("ild-ecal"))
    thinner = dataclasses.replace(ATLAS, size_mm=(400.0, 400.0))
    with pytest.raises(ModelError, match="these layers only"):
        model.check(segment(thinner, ("4x4", "4x4", "4x4")))


def test_training_data_that_do_not_fit_are_refused() -> None:
    domain = Domain.of([showers(10)])
    with pytest.raises(ModelError, match=r"along the normal; found gamma up to 0\.3"):
        Gaam(GaamConfig(), dataclasses.replace(domain, max_angle_rad=0.3))
    several = dataclasses.replace(domain, detectors=(), n_detectors=3)
    with pytest.raises(ModelError, match=r"showers are of 3 detectors.*'grids'"):
        Gaam(GaamConfig(), several)
    with pytest.raises(ModelError, match="masked_layers has 2 entries; expected 1, or one for each of the 3 layers"):
        Gaam(GaamConfig(masked_layers=(1, 2)), domain)
    with pytest.raises(ModelError, match="grids holds an empty list"):
        GaamConfig(grids=((), ("4x4",)))
    with pytest.raises(ModelError, match="at least 1"):
        GaamConfig(masked_layers=(0,))


def test_the_recipe_is_the_published_experiment() -> None:
    recipe = Recipe.load("gaam")
    config = recipe.model
    assert isinstance(config, GaamConfig)
    assert config.masked_layers == (1, 5, 5)
    assert list(recipe.stages) == ["layer0", "layer1", "layer2"]
    detectors = Gaam(config, Domain.of([showers(10)])).domain.detectors
    assert len(detectors) == 8
    assert detectors[7] == atlas_like(inner=(192, 48), middle=((24, 12), 48), outer=(24, 24)).to_toml()

"""The one-step stages in the loop: trained, saved, loaded, resumed, and generating."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from anycalo.errors import ModelError
from anycalo.generate import generate
from anycalo.geometry import Detector
from anycalo.models import CaloClouds, CaloCloudsConfig, load_model
from anycalo.models.consistency import DistillConfig
from anycalo.models.mean_flow import MeanFlowConfig
from anycalo.models.starts import StartConfig
from anycalo.showers import Showers
from anycalo.train import Recipe, StageRecipe, train
from toyshowers import toy_showers

SHORT = StageRecipe(steps=6, batch_size=256, ema_decay=0.5, validate_every=3, validation_batch=512)
DISTILL = DistillConfig(method="trajectory", pairs=500, solver_steps=3)
LEARNED = MeanFlowConfig(velocity="predicted", start=StartConfig(components=2, hidden=(8,)), physics_weight=0.1)


def recipe(*further: str, **changes: object) -> Recipe:
    base = Recipe.load("caloclouds-tiny")
    model = dataclasses.replace(base.model, **changes)
    return dataclasses.replace(base, model=model, stages={name: SHORT for name in ("flow", "denoiser", *further)})


@pytest.fixture(scope="module")
def showers(small_detector: Detector) -> Showers:
    return toy_showers(small_detector, 150, seed=1)


def test_all_stages_train_and_every_sampler_generates(showers: Showers, tmp_path: Path) -> None:
    what = recipe("distill", "start", "mean-flow", distill=DISTILL, mean_flow=LEARNED, sampler="mean-flow", steps=1)
    model = train(what, showers, tmp_path / "run", device="cpu", threads=1)
    assert set(model.card["metrics"]) >= {f"{s}_loss" for s in ("flow", "denoiser", "distill", "start", "mean-flow")}
    again = load_model(tmp_path / "run")
    assert isinstance(again, CaloClouds)
    made = {}
    for sampler, steps in (("mean-flow", 1), ("mean-flow", 3), ("consistency", 1), ("euler-angle", 1), ("heun-angle", 2)):
        for m in (model, again):
            m.config = dataclasses.replace(m.config, sampler=sampler, steps=steps)
        one, two = (generate(m, showers.detector, showers.incident[:3], seed=1) for m in (model, again))
        np.testing.assert_array_equal(one.x_mm, two.x_mm)
        assert np.isfinite(one.energy_mev).all()
        made[sampler, steps] = one.x_mm
    # The flow draws the same points for each; where they lie depends on the sampler.
    assert len({len(x) for x in made.values()}) == 1
    assert not np.allclose(made["mean-flow", 1], made["consistency", 1])
    assert not np.allclose(made["mean-flow", 1], made["mean-flow", 3])


@pytest.mark.parametrize("method", ["trajectory", "consistency"])
def test_a_student_that_was_interrupted_is_the_same(method: str, showers: Showers, tmp_path: Path) -> None:
    what = recipe("distill", distill=dataclasses.replace(DISTILL, method=method), sampler="consistency", steps=1)
    what = dataclasses.replace(what, checkpoint_seconds=1e-9)
    whole = train(what, showers, tmp_path / "whole", device="cpu", threads=1)

    def stop(done: int, total: int) -> None:
        if done == total - 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(what, showers, tmp_path / "parts", device="cpu", threads=1, progress=stop)
    resumed = train(what, showers, tmp_path / "parts", device="cpu", threads=1)
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name]), name
    # The student is no copy of the teacher any more.
    student, teacher = whole.state_dict()["consistency.student.network.layers.0.linear.weight"], whole.denoiser
    assert isinstance(whole, CaloClouds)
    assert not torch.equal(student, teacher.network.layers[0].linear.weight)  # type: ignore[union-attr, index]


def test_physics_reaches_the_network(showers: Showers) -> None:
    """The gradient with the physics-informed term is another than without it."""
    gradients = []
    for weight in (0.0, 1.0):
        config = CaloCloudsConfig(
            **{
                **vars(recipe().model),
                "mean_flow": MeanFlowConfig(velocity="conditional", teacher_start=False, physics_weight=weight),
            }
        )
        torch.manual_seed(0)
        from anycalo.models import Domain

        model = CaloClouds(config, Domain.of([showers]))
        stage = model.stages([showers[:120]], [showers[120:]], seed=1)[-2]
        assert stage.name == "mean-flow"
        noise = torch.randn(64, stage.noise_features, generator=torch.Generator().manual_seed(1))
        stage.objective(stage.batch(torch.arange(64)), noise).backward()  # type: ignore[no-untyped-call]
        gradients.append(torch.cat([p.grad.flatten() for p in stage.module.parameters() if p.grad is not None]))
    assert bool(torch.isfinite(gradients[1]).all())
    assert float((gradients[0] - gradients[1]).abs().max()) > 1e-4


def test_samplers_without_their_network_are_refused() -> None:
    for wrong in (
        {"sampler": "consistency"},
        {"sampler": "mean-flow"},
        {"sampler": "consistency", "steps": 2, "distill": DISTILL},
        {"depth": "generated", "conditions": ("log_energy",), "mean_flow": MeanFlowConfig(physics_weight=1.0)},
    ):
        with pytest.raises(ModelError):
            CaloCloudsConfig(**wrong)  # type: ignore[arg-type]
    assert CaloCloudsConfig(sampler="consistency", steps=2, distill=DistillConfig()).steps == 2


@pytest.mark.parametrize("name", ["caloclouds3", "caloclouds-mean-flow"])
def test_recipes_of_one_step(name: str) -> None:
    loaded = Recipe.load(name)
    assert loaded.model.steps == 1
    assert loaded.model.sampler in ("consistency", "mean-flow")
    assert {"distill", "mean-flow"} & set(loaded.stages)

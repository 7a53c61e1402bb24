"""Fine-tuning: it helps where there is something to learn, cannot hurt where there is not, and adapters come back."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from anycalo.adapt import Method
from anycalo.errors import ModelError, OutputError, TrainingError
from anycalo.geometry import Detector
from anycalo.models import FAMILIES, CaloClouds, CaloCloudsConfig, Domain, Model, load_model
from anycalo.models.adapter import ADAPTER_CARD, ADAPTER_WEIGHTS, save_adapter
from anycalo.models.flow import FlowConfig
from anycalo.models.pointwise import PointwiseConfig
from anycalo.train import FinetuneConfig, finetune, from_scratch
from anycalo.train.finetune import _folds, _Run, widened
from anycalo.train.loop import step_generator
from toymodels import small_anycalo
from toyshowers import toy_showers

QUICK = {"steps": 10, "validate_every": 5, "batch_points": 128, "batch_showers": 24, "validation_points": 400}


@pytest.fixture(scope="module")
def base_folder(small_detector: Detector, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small caloclouds model: scales from toy showers, networks as they start."""
    folder = tmp_path_factory.mktemp("base") / "base"
    config = CaloCloudsConfig(
        flow=FlowConfig(blocks=1, affine=2, hidden=(16,)), network=PointwiseConfig(hidden=(8, 8), time_features=4), steps=2
    )
    showers = toy_showers(small_detector, 150, 1)
    torch.manual_seed(0)
    model = CaloClouds(config, Domain.of([showers]))
    model.stages([showers], [showers[:1]], seed=1)
    model.save(folder)
    return folder


@pytest.fixture(scope="module")
def base(base_folder: Path) -> Model:
    return load_model(base_folder)


@pytest.fixture(scope="module")
def aware(small_detector: Detector) -> Model:
    return small_anycalo(small_detector)


def config(method: str = "full", **changes: object) -> FinetuneConfig:
    return FinetuneConfig(**{"method": Method.parse(method), **QUICK, **changes})  # type: ignore[arg-type]


def test_a_model_with_much_to_learn_learns(aware: Model, small_detector: Detector) -> None:
    """Networks at their random start, with a fifth held out."""
    calls: list[tuple[int, int]] = []
    before = aware.digest()
    showers = toy_showers(small_detector, 40, 5)
    options = config(few=0, learning_rate=1e-2, sigmas=1.0)
    tuned = finetune(aware, showers, options, progress=lambda a, b: calls.append((a, b)))
    assert list(tuned.stages) == [
        "totals",
        "means",
        "layers",
        "points",
        "clusters",
        "surroundings",
        "balance",
        "tracks",
        "cells",
    ]
    # Which points stand together is left to many detectors, but for the constants, which are fitted to cells.
    assert not tuned.stages["clusters"].accepted
    assert {key for key in tuned.changes if "clusters" in key} == {"replaced:clusters.head.bias"}
    for name, numbers in (("means", 7), ("cells", 25)):
        report = tuned.stages[name]
        assert (report.accepted, report.trained, report.total, report.steps) == (True, numbers, 0, 0)
        assert report.loss < report.base_loss
    for name, report in tuned.stages.items():
        if name in ("clusters", "means", "cells"):
            continue
        assert report.accepted, name
        assert report.steps == 10
        assert report.base_loss - report.loss > options.sigmas * report.gain_error > 0
    assert aware.digest() == before != tuned.model.digest()
    assert calls[-1][0] == calls[-1][1]
    assert [done for done, _ in calls] == sorted(done for done, _ in calls)
    assert tuned.card["finetuning"]["showers"] == 40
    assert tuned.model.domain.n_detectors == 1


def test_few_showers_are_held_out_in_turn(base: Model, small_detector: Detector) -> None:
    calls: list[tuple[int, int]] = []
    asked = config(held_out=0.5, learning_rate=1e-2)
    tuned = finetune(base, toy_showers(small_detector, 20, 5), asked, progress=lambda a, b: calls.append((a, b)))
    report = tuned.stages["denoiser"]
    assert report.accepted
    assert report.base_loss - report.loss > asked.sigmas * report.gain_error > 0
    # Two folds and, where accepted, once more on all showers; `cells`, without steps, counts as much as another stage.
    assert calls[-1] == (3 * 3 * 10, 3 * 3 * 10)
    assert any(key.startswith("replaced:denoiser.") for key in tuned.changes)


def test_every_shower_is_held_out_once_where_they_are_few(aware: Model, small_detector: Detector) -> None:
    """And each tells a gain of its own: the error of the mean is over showers."""
    showers = toy_showers(small_detector, 30, 5)
    few, many = (_folds(aware, showers, config(few=limit), fit=False) for limit in (31, 30))
    assert [held_out for _, held_out in few] == [6] * 5
    assert [held_out for _, held_out in many] == [6]
    run = _Run(aware, few, showers, config(), None)
    losses = [run._validate(stages[0], held_out) for stages, held_out in few]
    assert [len(each) for each in losses] == [6] * 5
    stages, held_out = _folds(aware, showers, config(held_out=0.5, few=0), fit=False)[0]
    stage = stages[0]
    noise = torch.randn(15, 1, generator=step_generator(1, 1_000_000, 0))
    chosen = [torch.tensor([stage.size + k]) for k in range(held_out)]
    with torch.no_grad():
        one_by_one = [float(stage.objective(stage.batch(c), noise[k : k + 1])) for k, c in enumerate(chosen)]
    torch.testing.assert_close(run._validate(stage, held_out), torch.tensor(one_by_one))


def test_what_does_not_become_better_stays(base: Model, small_detector: Detector) -> None:
    """A rate at which every step is a step too far: no step is accepted, networks and scales are the base's, bit for bit."""
    tuned = finetune(base, toy_showers(small_detector, 30, 6), config(learning_rate=3.0, towards_base=0.0, held_out=0.5))
    assert not any(tuned.stages[name].accepted for name in ("flow", "denoiser"))
    # What takes no steps is not refused: points are more, or fewer, so that numbers of cells are nearer.
    assert set(tuned.changes) == {"replaced:features.more_points"}
    assert tuned.stages["cells"].loss < tuned.stages["cells"].base_loss
    assert all(torch.equal(v, tuned.model.state_dict()[k]) for k, v in base.state_dict().items() if "more_points" not in k)
    # Its twin, without the rule, is spoilt.
    spoilt = finetune(
        base, toy_showers(small_detector, 30, 6), config(learning_rate=3.0, towards_base=0.0, sigmas=-float("inf"), few=0)
    )
    stepped = [spoilt.stages[name] for name in ("flow", "denoiser")]
    assert all(report.accepted for report in stepped)
    assert sum(report.loss for report in stepped) > sum(report.base_loss for report in stepped) + 0.1


def test_the_pull_towards_the_base(base: Model, small_detector: Detector) -> None:
    showers = toy_showers(small_detector, 40, 5)
    distances = []
    for strength in (0.0, 1000.0):
        tuned = finetune(
            base, showers, config(learning_rate=3e-3, towards_base=strength, sigmas=-float("inf"), few=20, steps=5)
        )
        pairs = zip(tuned.model.parameters(), base.parameters(), strict=True)
        distances.append(sum(float((a - b).detach().square().sum()) for a, b in pairs) ** 0.5)
    assert distances[1] < 0.8 * distances[0]


@pytest.mark.parametrize(
    ("family", "method"),
    [
        ("caloclouds", "full"),
        ("caloclouds", "bitfit"),
        ("caloclouds", "lora-2"),
        ("anycalo", "bitfit-hyper"),
        ("anycalo", "lora-1"),
    ],
)
def test_an_adapter_comes_back_as_the_model(
    base: Model, base_folder: Path, aware: Model, small_detector: Detector, tmp_path: Path, family: str, method: str
) -> None:
    model = base if family == "caloclouds" else aware
    folder = base_folder if family == "caloclouds" else tmp_path / "aware"
    if family == "anycalo":
        aware.save(folder)
    changed = config(method, sigmas=-float("inf"), few=0, steps=2, validate_every=2, learning_rate=1e-3)
    tuned = finetune(model, toy_showers(small_detector, 40, 7), changed)
    save_adapter(
        tmp_path / "adapter",
        base=folder,
        base_sha256=model.digest(),
        domain=tuned.model.domain,
        changes=tuned.changes,
        card=tuned.card,
    )
    back = load_model(tmp_path / "adapter")
    assert back.domain == tuned.model.domain
    named = dict(tuned.model.named_parameters())
    for name, parameter in back.named_parameters():
        torch.testing.assert_close(parameter, named[name], rtol=1e-6, atol=1e-7)
    assert back.digest() != model.digest()
    stored = sum(t.numel() for t in load_file(tmp_path / "adapter" / ADAPTER_WEIGHTS).values())
    # Stages without steps store whole tensors of which they choose a few numbers.
    assert stored == sum(t.numel() for t in tuned.changes.values())
    if family == "caloclouds":
        # Buffers of a stage without steps are not among what is trained.
        assert stored - sum(t.numel() for k, t in tuned.changes.items() if "more_points" in k) == tuned.trained
    assert tuned.card["finetuning"]["parameters"]["trained"] == tuned.trained


def test_an_adapter_refuses_another_base(base: Model, base_folder: Path, small_detector: Detector, tmp_path: Path) -> None:
    tuned = finetune(base, toy_showers(small_detector, 40, 7), config("bitfit", sigmas=-float("inf"), few=0))
    adapter = tmp_path / "adapter"
    kinds = {"base": base_folder, "base_sha256": base.digest(), "domain": base.domain, "changes": tuned.changes}
    save_adapter(adapter, **kinds)  # type: ignore[arg-type]
    assert (adapter / ADAPTER_WEIGHTS).stat().st_size < 0.4 * (base_folder / "model.safetensors").stat().st_size
    with pytest.raises(OutputError, match="exists already"):
        save_adapter(adapter, **kinds)  # type: ignore[arg-type]
    card = json.loads((adapter / ADAPTER_CARD).read_text())
    other = tmp_path / "other"
    shutil.copytree(base_folder, other)
    (adapter / ADAPTER_CARD).write_text(json.dumps({**card, "base": "../other"}))
    load_model(adapter)  # the same base at another place
    model = load_model(other)
    with torch.no_grad():
        next(model.parameters()).add_(1e-3)
    model.save(other, overwrite=True)
    with pytest.raises(ModelError, match=r"was made for a base of digest .* Give it back its own base"):
        load_model(adapter)
    (adapter / ADAPTER_CARD).write_text(json.dumps({**card, "base": "nowhere"}))
    with pytest.raises(ModelError, match=r"its base 'nowhere' cannot be read: .* Or correct 'base' in adapter\.json"):
        load_model(adapter)
    (adapter / ADAPTER_CARD).write_text(json.dumps({**card, "format": "other"}))
    with pytest.raises(ModelError, match="not an AnyCalo adapter of version 1"):
        load_model(adapter)
    (adapter / ADAPTER_WEIGHTS).write_bytes(b"nothing")
    with pytest.raises(ModelError, match="damaged adapter"):
        load_model(adapter)


def test_from_scratch_starts_anew(base: Model, small_detector: Detector) -> None:
    showers = toy_showers(small_detector, 30, 8)
    made = from_scratch(base, showers, config("bitfit", few=0))
    assert made.model.config == base.config
    assert made.model.domain == Domain.of([showers])
    assert all(made.stages[name].accepted for name in ("flow", "denoiser"))
    assert all(report.trained == report.total for report in made.stages.values())
    again = from_scratch(base, showers, config("bitfit", few=0))
    assert again.model.digest() == made.model.digest()


def test_the_domain_of_base_and_showers_together(base: Model, aware: Model, small_detector: Detector) -> None:
    high = toy_showers(small_detector, 20, 9, max_angle_rad=0.4)
    assert widened(base, high) == base.domain
    same = widened(aware, high)
    assert same.max_angle_rad > aware.domain.max_angle_rad
    assert (same.detectors, same.n_detectors) == (aware.domain.detectors, 1)
    other = toy_showers(dataclasses.replace(small_detector, name="other", threshold_mip=0.3), 20, 9)
    both = widened(aware, other)
    assert (both.detectors, both.n_detectors) == ((), 2)
    assert both.ranges
    assert FAMILIES["anycalo"](aware.config, both).domain == both
    assert both.breaches(other.detector, other.incident) == []


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: config(steps=0), "steps is 0; expected at least 1"),
        (lambda: config(held_out=0.9), "held_out is 0.9"),
        (lambda: config(towards_base=-1.0), "must be at least 0"),
    ],
)
def test_settings_that_make_no_sense(make: object, message: str) -> None:
    with pytest.raises(TrainingError, match=message):
        make()  # type: ignore[operator]


def test_what_cannot_be_tuned(base: Model, small_detector: Detector) -> None:
    showers = toy_showers(small_detector, 30, 8)
    with pytest.raises(TrainingError, match="9 showers with visible energy; expected at least 10"):
        finetune(base, showers[:9], config())
    other = dataclasses.replace(small_detector, name="other")
    with pytest.raises(ModelError, match="showers of that detector only"):
        finetune(base, toy_showers(other, 30, 8), config())


def test_the_same_seed_gives_the_same_model(base: Model, small_detector: Detector) -> None:
    showers = toy_showers(small_detector, 30, 8)
    digests = [finetune(base, showers, config("lora-1", sigmas=-9.0, seed=s, few=0, steps=5)).model.digest() for s in (1, 1, 2)]
    assert digests[0] == digests[1] != digests[2]

"""Fine-tuning of a distilled model: the student follows its teacher, and is left alone where the teacher is."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from anycalo.adapt import Method
from anycalo.errors import TrainingError
from anycalo.geometry import Detector
from anycalo.models import CaloClouds, CaloCloudsConfig, Domain, load_model
from anycalo.models.adapter import save_adapter
from anycalo.models.consistency import Consistency, DistillConfig
from anycalo.models.flow import FlowConfig
from anycalo.models.pointwise import PointwiseConfig
from anycalo.train import FinetuneConfig, Finetuned, finetune
from anycalo.train.finetune import Compare
from anycalo.train.finetune_report import Comparison
from toyshowers import toy_showers


def distilled(detector: Detector, method: str = "trajectory") -> CaloClouds:
    """Scales from toy showers; networks as they start, the student a copy of the denoiser, which it imitates badly."""
    config = CaloCloudsConfig(
        flow=FlowConfig(blocks=1, affine=2, hidden=(16,)),
        network=PointwiseConfig(hidden=(8, 8), time_features=4),
        distill=DistillConfig(method=method, pairs=600, solver_steps=2),
        sampler="consistency",
        steps=1,
    )
    showers = toy_showers(detector, 150, 1)
    torch.manual_seed(0)
    model = CaloClouds(config, Domain.of([showers]))
    model.stages([showers], [showers[:1]], seed=1)
    assert model.consistency is not None
    model.consistency.advance(model.denoiser)
    return model.eval()


def tuned(model: CaloClouds, method: str = "full", compare: Compare | None = None, **changes: object) -> Finetuned:
    quick = {"steps": 20, "validate_every": 5, "batch_points": 256, "batch_showers": 24, "validation_points": 400, "few": 0}
    config = FinetuneConfig(**{"method": Method.parse(method), "learning_rate": 1e-2, **quick, **changes})  # type: ignore[arg-type]
    return finetune(model, toy_showers(model.domain.detector, 40, 5), config, compare=compare)


def miss(model: CaloClouds, student: Consistency) -> float:
    """Mean squared distance of a student's points to those of the denoiser's own sampler, from the same noise."""
    generator = torch.Generator().manual_seed(3)
    normal, condition = (torch.randn(500, n, generator=generator) for n in (3, len(model.config.conditions)))
    clean: Tensor = student.solved(model.denoiser, condition, normal)
    with torch.no_grad():
        return float(student.trajectory_loss(model.denoiser, condition, normal, clean))


def test_the_student_follows_a_changed_teacher(small_detector: Detector) -> None:
    base = distilled(small_detector)
    found = tuned(base, steps=60)
    assert found.stages["denoiser"].accepted
    assert found.stages["distill"].accepted
    assert isinstance(found.model, CaloClouds)
    assert found.model.consistency is not None
    assert base.consistency is not None
    # The old student beside the new teacher is the must-fail twin.
    now, before = miss(found.model, found.model.consistency), miss(found.model, base.consistency)
    assert now < 0.8 * before


def test_a_teacher_is_looked_at_through_its_student(small_detector: Detector) -> None:
    """Showers do not show what the denoiser has learnt before the student is distilled anew: it is not taken back for that."""
    same, nearer = (Comparison(before=2.0, after=2.0 + change, change=change, error=0.1) for change in (0.0, -0.5))
    for last, stays in ((nearer, True), (same, False)):
        answers = [same, same, last, same]
        stages = tuned(
            distilled(small_detector), steps=60, sigmas=-math.inf, compare=lambda _, left=answers: left.pop(0)
        ).stages
        assert {name: report.taken_back for name, report in stages.items()} == {
            "flow": True,
            "denoiser": False,
            "distill": not stays,
            "cells": stays,  # farther than what the student had reached
        }


def test_the_student_of_an_unchanged_teacher_stays(small_detector: Detector) -> None:
    """It could still learn, as the test above shows; but not from these showers."""
    found = tuned(distilled(small_detector), learning_rate=3.0, towards_base=0.0)
    assert not found.stages["denoiser"].accepted
    report = found.stages["distill"]
    assert (report.accepted, report.trained, report.steps) == (False, 0, 0)
    assert report.loss == report.base_loss > 0
    assert not any("consistency" in key for key in found.changes)


@pytest.mark.parametrize("method", ["bitfit", "lora-2"])
def test_an_adapter_brings_the_student(small_detector: Detector, tmp_path: Path, method: str) -> None:
    base = distilled(small_detector)
    base.save(tmp_path / "base")
    found = tuned(base, method, sigmas=-float("inf"))
    assert any("consistency.student" in key for key in found.changes)
    save_adapter(
        tmp_path / "adapter",
        base=tmp_path / "base",
        base_sha256=base.digest(),
        domain=found.model.domain,
        changes=found.changes,
        card=found.card,
    )
    back, named = load_model(tmp_path / "adapter"), dict(found.model.named_parameters())
    for name, parameter in back.named_parameters():
        torch.testing.assert_close(parameter, named[name], rtol=1e-6, atol=1e-7)
    assert isinstance(back, CaloClouds)
    assert not torch.equal(
        back.state_dict()["consistency.student.network.layers.0.linear.bias"],
        base.state_dict()["consistency.student.network.layers.0.linear.bias"],
    ) or method.startswith("lora")


def test_low_rank_changes_and_consistency_distillation_are_refused(small_detector: Detector) -> None:
    with pytest.raises(TrainingError, match="take another method"):
        tuned(distilled(small_detector, "consistency"), "lora-2")

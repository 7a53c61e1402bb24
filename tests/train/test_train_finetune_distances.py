"""The last check of fine-tuning: a change by which showers come no nearer to the given ones is taken back."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch

from anycalo.adapt import Method
from anycalo.evaluate.validation import DistanceCheck
from anycalo.generate import generate
from anycalo.geometry import Detector
from anycalo.models import Model
from anycalo.train import FinetuneConfig, Finetuned, finetune
from anycalo.train.finetune_report import Comparison
from toymodels import small_anycalo
from toyshowers import toy_showers

BETTER = Comparison(before=2.0, after=1.5, change=-0.29, error=0.1)
WORSE = Comparison(before=2.0, after=2.5, change=0.22, error=0.1)
NONE = Comparison(before=2.0, after=None, change=None, error=0.0)


@pytest.fixture(scope="module")
def aware(small_detector: Detector) -> Model:
    return small_anycalo(small_detector)


def config(**changes: object) -> FinetuneConfig:
    settings = {
        "method": Method.parse("full"), "steps": 10, "validate_every": 5, "batch_points": 128, "batch_showers": 24,
        "validation_points": 400, "few": 0, "learning_rate": 1e-2, "sigmas": 1.0,
    }  # fmt: skip
    return FinetuneConfig(**{**settings, **changes})  # type: ignore[arg-type]


def told(base: Model, detector: Detector, *answers: Comparison | None, **changes: object) -> Finetuned:
    """Fine-tuned, where the check of totals, means, layers, points, tracks and cells answers so, in the end with nothing."""
    left = [*answers, *[None] * 6]
    return finetune(base, toy_showers(detector, 40, 5), config(**changes), compare=lambda _: left.pop(0))


def verdicts(tuned: Finetuned) -> list[tuple[bool, bool]]:
    """Whether totals, means, layers and points were accepted, and whether they were taken back."""
    return [(r.accepted, r.taken_back) for r in list(tuned.stages.values())[:4]]


@pytest.mark.parametrize("method", ["full", "lora-1"])
def test_what_is_taken_back_is_the_base_bit_for_bit(aware: Model, small_detector: Detector, method: str) -> None:
    answers, enough = (WORSE, WORSE, BETTER, NONE, NONE, WORSE, WORSE), {"steps": 40, "learning_rate": 3e-3}
    tuned = told(aware, small_detector, *answers, method=Method.parse(method), **enough)
    stages = tuned.stages
    assert {name: (r.accepted, r.taken_back) for name, r in stages.items()} == {
        "totals": (False, True),
        "means": (False, True),
        "layers": (True, False),
        "points": (False, True),
        "clusters": (False, False),
        "surroundings": (False, True),
        "balance": (False, False),
        "tracks": (False, True),
        "cells": (False, True),
    }
    before = aware.state_dict()
    changed = {name.split(".")[0] for name, v in tuned.model.state_dict().items() if not torch.equal(v, before[name])}
    assert changed == {"layers"}
    assert {key.partition(":")[2].split(".")[0] for key in tuned.changes} == {"layers"}
    assert (stages["totals"].steps, stages["totals"].loss) == (0, stages["totals"].base_loss)
    assert tuned.validation_loss < sum(r.base_loss for r in stages.values() if r.total)
    card = json.loads(json.dumps(tuned.card, allow_nan=False))["finetuning"]
    assert card["stages"]["totals"]["taken_back"] is True
    assert card["stages"]["totals"]["distances"] == dataclasses.asdict(WORSE)
    assert card["stages"]["clusters"]["distances"] is None
    assert card["config"]["distance_sigmas"] == config().distance_sigmas


def test_without_an_answer_a_change_stays_and_within_noise_it_does_not(aware: Model, small_detector: Detector) -> None:
    tuned = told(aware, small_detector, None, BETTER, BETTER, BETTER, distance_sigmas=3.0)
    assert verdicts(tuned) == [(True, False), (True, False), (False, True), (False, True)]


def test_a_change_that_loses_what_an_earlier_one_gained_is_taken_back(aware: Model, small_detector: Detector) -> None:
    """All are nearer than the base: the second less than the first alone, the third more."""
    less, more = (dataclasses.replace(BETTER, change=change) for change in (-0.2, -0.4))
    tuned = told(aware, small_detector, BETTER, None, less, more)
    assert verdicts(tuned) == [(True, False), (True, False), (False, True), (True, False)]


def test_a_stage_without_steps_stays_within_noise_and_is_taken_back_beyond(aware: Model, small_detector: Detector) -> None:
    """Its estimate cannot go far, so that it need not be seen to help; but showers may not be farther by more than an error."""
    within, beyond = (dataclasses.replace(BETTER, change=change) for change in (-0.2, -0.15))
    for answer, verdict in ((within, (True, False)), (beyond, (False, True))):
        assert verdicts(told(aware, small_detector, BETTER, answer))[1] == verdict


def test_likelihood_rises_and_distances_grow(aware: Model, small_detector: Detector) -> None:
    """Likelihoods are of toy showers; the check compares with what the base itself makes, which no change can better."""
    given = toy_showers(small_detector, 40, 5)
    own = generate(aware, small_detector, toy_showers(small_detector, 40, 2).incident, seed=9)
    far = config(steps=20, validate_every=10, learning_rate=3e-2)
    back = finetune(aware, given, far, compare=DistanceCheck(aware, own)).stages
    # The same changes, compared with the showers that they were learnt from, stay.
    kept = finetune(aware, given, far, compare=DistanceCheck(aware, given)).stages
    for stages, taken_back in ((back, True), (kept, False)):
        totals = stages["totals"]
        assert totals.taken_back == taken_back == (not totals.accepted)
        assert totals.distances is not None
        assert totals.distances.change is not None
        assert abs(totals.distances.change) > 2 * totals.distances.error

"""The check of distances in fine-tuning: what is nearer, what is not, and how often chance alone looks nearer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from anycalo.errors import ModelError
from anycalo.evaluate import validation
from anycalo.evaluate.validation import GENERATED, MOST, SLOW, DistanceCheck
from anycalo.geometry import Detector
from anycalo.models import CaloClouds, CaloCloudsConfig, Domain
from anycalo.showers import Incident, Showers
from anycalo.train.finetune_report import Comparison
from toyshowers import toy_showers


@dataclass
class Toy:
    """Stands in for a model: toy showers, `width` times as wide as they should be, or none at all."""

    width: float = 1.0
    numbers: int = 77


@pytest.fixture(autouse=True)
def pretend(monkeypatch: pytest.MonkeyPatch) -> None:
    def generate(model: Toy, detector: Detector, incident: Incident, *, seed: int) -> Showers:
        if model.width == 0:
            raise ModelError("no physical shower in 50 draws")
        fast = toy_showers(detector, len(incident), model.numbers + seed, incident=incident)
        fast.x_mm, fast.y_mm = (np.float32(model.width) * v for v in (fast.x_mm, fast.y_mm))
        return fast

    monkeypatch.setattr(validation, "generate", generate)


def compare(base: Toy, changed: Toy, showers: Showers) -> Comparison:
    found = DistanceCheck(base, showers)(changed)  # type: ignore[arg-type]
    assert found is not None
    return found


@pytest.mark.parametrize("n", [20, 50])
def test_right_showers_are_nearer_and_wider_ones_are_not(small_detector: Detector, n: int) -> None:
    given = toy_showers(small_detector, n, 5)
    worse = compare(Toy(), Toy(width=1.4), given)
    assert worse.after is not None
    assert worse.change == pytest.approx(np.log(worse.after / worse.before))
    assert not worse.nearer(0.0)
    better = compare(Toy(width=1.4), Toy(), given)
    assert better.change is not None
    assert better.change < -2 * better.error < 0
    assert better.nearer(2.0)
    # Not than a change that did as much.
    assert not better.nearer(2.0, than=better.change)
    same = compare(Toy(), Toy(), given)
    assert (same.change, same.nearer(0.0)) == (0.0, False)


def test_chance_alone_seldom_looks_nearer_or_farther(small_detector: Detector) -> None:
    """The same model with other random numbers, 40 times: beyond two errors on either side once or twice.

    With a probability of 0.05 each, more than 8 are found once in a thousand such tests. The twin, of changed width, is found.
    """
    given = toy_showers(small_detector, 20, 5)
    check = DistanceCheck(Toy(), given)  # type: ignore[arg-type]
    found: list[Any] = [check(Toy(numbers=1000 + k)) for k in range(40)]  # type: ignore[arg-type]
    assert sum(abs(c.change) > 2 * c.error for c in found) <= 8
    twins: list[Any] = [check(Toy(width=1.3, numbers=1000 + k)) for k in range(10)]  # type: ignore[arg-type]
    assert sum(c.change > 2 * c.error for c in twins) >= 9


def test_a_change_that_makes_nothing_is_not_nearer(small_detector: Detector) -> None:
    found = compare(Toy(), Toy(width=0), toy_showers(small_detector, 20, 5))
    assert (found.after, found.change) == (None, None)
    assert not found.nearer(0.0)


def test_a_base_that_makes_nothing_cannot_be_compared(small_detector: Detector) -> None:
    assert DistanceCheck(Toy(width=0), toy_showers(small_detector, 20, 5))(Toy()) is None  # type: ignore[arg-type]


def test_how_many_are_generated(small_detector: Detector) -> None:
    few, many = toy_showers(small_detector, 30, 5), toy_showers(small_detector, MOST + 1, 5)
    copies = GENERATED // 30
    assert DistanceCheck(Toy(), few).copies == copies  # type: ignore[arg-type]
    every = DistanceCheck(Toy(), many)  # type: ignore[arg-type]
    assert (len(every.truth), every.copies) == (MOST, 1)
    solver = CaloClouds(CaloCloudsConfig(), Domain.of([few]))
    slow = DistanceCheck(solver, many)
    assert (len(slow.truth), slow.copies) == (SLOW, 1)

"""Distances during training: of a model that is right, one that is wrong, and one that makes nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from anycalo.errors import ModelError
from anycalo.evaluate import validation
from anycalo.geometry import Detector
from anycalo.showers import Incident, Showers
from toyshowers import toy_showers


def pretend(monkeypatch: pytest.MonkeyPatch, width: float) -> None:
    """A model that makes toy showers, `width` times as wide as they should be."""

    def generate(model: Any, detector: Detector, incident: Incident) -> Showers:
        fast = toy_showers(detector, len(incident), 77, incident=incident)
        fast.x_mm, fast.y_mm = (np.float32(width) * v for v in (fast.x_mm, fast.y_mm))
        return fast

    monkeypatch.setattr(validation, "generate", generate)


def test_a_right_model_is_at_the_floor_and_a_wrong_one_is_not(
    small_detector: Detector, monkeypatch: pytest.MonkeyPatch
) -> None:
    held_out = toy_showers(small_detector, 80, 5)
    pretend(monkeypatch, 1.0)
    right = validation.held_out_distances(None, [held_out])  # type: ignore[arg-type]
    pretend(monkeypatch, 1.5)
    wrong = validation.held_out_distances(None, [held_out])  # type: ignore[arg-type]
    assert 0.5 < right["ratio_to_floor"] < 2
    assert wrong["ratio_to_floor"] > 1.5 * right["ratio_to_floor"]
    assert wrong["ratio_of_radial_profile"] > 3
    # What does not depend on the width is as it was.
    assert wrong["ratio_of_longitudinal_profile"] == pytest.approx(right["ratio_of_longitudinal_profile"], rel=0.3)


def test_a_model_that_makes_nothing_yet_is_no_reason_to_stop(small_detector: Detector, monkeypatch: pytest.MonkeyPatch) -> None:
    def generate(*_: object) -> Showers:
        raise ModelError("no physical shower in 50 draws")

    monkeypatch.setattr(validation, "generate", generate)
    with pytest.warns(RuntimeWarning, match="no distances to held-out showers yet: no physical shower"):
        assert validation.held_out_distances(None, [toy_showers(small_detector, 60, 5)]) == {}  # type: ignore[arg-type]


def test_too_few_showers_say_nothing(small_detector: Detector) -> None:
    assert validation.held_out_distances(None, [toy_showers(small_detector, 49, 5)]) == {}  # type: ignore[arg-type]

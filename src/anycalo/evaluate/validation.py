"""Distances during training: what `anycalo.train.train` may call on a model that is being trained."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np

from anycalo.errors import EvaluationError, ModelError
from anycalo.evaluate.evaluate import evaluate
from anycalo.evaluate.floors import geometric_mean
from anycalo.generate import generate
from anycalo.models import Model
from anycalo.showers import Showers

FEWEST, MOST = 50, 500
"""Held-out showers compared: fewer say nothing, and these show a model improve within seconds."""


def held_out_distances(model: Model, held_out: Sequence[Showers]) -> dict[str, float]:
    """How far a model's showers are from showers that it was not trained on, of the same incident particles.

    Args:
        model: that is being trained.
        held_out: validation showers, one batch a detector; the first `MOST` of each are used.

    Returns:
        `ratio_to_floor`, the headline of `evaluate`, and `ratio_of_<observable>` for each observable, geometric means over
        the detectors with at least `FEWEST` showers; nothing, with a warning, while the model makes no physical
        showers, and nothing where no detector has enough.
    """
    found: list[dict[str, float]] = []
    for batch in held_out:
        if len(batch) < FEWEST:
            continue
        truth = batch[:MOST]
        try:
            result = evaluate(truth, generate(model, truth.detector, truth.incident), n_bootstrap=100, metrics="none")
        except (ModelError, EvaluationError) as error:
            warnings.warn(f"no distances to held-out showers yet: {error}", RuntimeWarning, stacklevel=2)
            return {}
        ratios = {f"ratio_of_{name}": observable.w1_ratio for name, observable in result.observables.items()}
        found.append({"ratio_to_floor": result.summary.ratio_to_floor, **ratios})
    if not found:
        return {}
    return {key: float(geometric_mean(np.array([entry[key] for entry in found]))) for key in found[0]}

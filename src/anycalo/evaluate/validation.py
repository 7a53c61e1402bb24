"""Distances during training: what `anycalo.train.train` may call on a model that is being trained."""

from __future__ import annotations

import warnings

from anycalo.errors import EvaluationError, ModelError
from anycalo.evaluate.evaluate import evaluate
from anycalo.generate import generate
from anycalo.models import Model
from anycalo.showers import Showers

FEWEST, MOST = 50, 500
"""Held-out showers compared: fewer say nothing, and these show a model improve within seconds."""


def held_out_distances(model: Model, held_out: Showers) -> dict[str, float]:
    """How far a model's showers are from showers that it was not trained on, of the same incident particles.

    Args:
        model: that is being trained.
        held_out: validation showers; the first `MOST` are used.

    Returns:
        `ratio_to_floor`, the headline of `evaluate`, and `ratio_of_<observable>` for each observable; nothing, with a
        warning, while the model makes no physical showers, and nothing for fewer than `FEWEST` showers.
    """
    if len(held_out) < FEWEST:
        return {}
    truth = held_out[:MOST]
    try:
        found = evaluate(truth, generate(model, truth.detector, truth.incident), n_bootstrap=100, metrics="none")
    except (ModelError, EvaluationError) as error:
        warnings.warn(f"no distances to held-out showers yet: {error}", RuntimeWarning, stacklevel=2)
        return {}
    ratios = {f"ratio_of_{name}": result.w1_ratio for name, result in found.observables.items()}
    return {"ratio_to_floor": found.summary.ratio_to_floor, **ratios}

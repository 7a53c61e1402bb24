"""Distances during training: what `anycalo.train.train` and `finetune` may call on a model that is being trained."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence

import numpy as np

from anycalo.errors import DomainWarning, EvaluationError, ModelError
from anycalo.evaluate.evaluate import N_DIVISIONS, evaluate
from anycalo.evaluate.floors import geometric_mean, mean_of_members, measure_floors
from anycalo.evaluate.observables import OBSERVABLES, measure
from anycalo.evaluate.resampling import Divisions, bootstrap
from anycalo.evaluate.ruler import Ruler
from anycalo.generate import generate
from anycalo.models import CaloClouds, Model
from anycalo.showers import Incident, Showers
from anycalo.train.finetune_report import Comparison

FEWEST, MOST = 50, 500
"""Held-out showers compared: fewer say nothing, and these show a model improve within seconds."""
GENERATED, SLOW = 400, 100
"""Showers that `DistanceCheck` generates with each model; of a model that solves for its points step by step."""
N_RESAMPLES = 200


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


class DistanceCheck:
    """What `anycalo.train.finetune` calls on a model with a change: are its showers nearer to the given ones?

    Base and changed model generate for the particles of the given showers, with the same random numbers: each particle as
    often as makes `GENERATED` showers in all, or once, where there are more. The distance is the headline of `evaluate`, the
    geometric mean over the observables of W1 over its floor. The error of its change is the standard deviation over resamples
    of the particles, the same for both models. A `caloclouds` model without a student solves for its points step by step, some
    50 ms a shower; of such the first `SLOW` showers are compared, each generated once or more, up to as many.

    Args:
        base: before any change; left as it is.
        showers: that the model is fine-tuned on; those with visible energy, `MOST` of them at most, are compared.
        seed: of generation, floors and resamples.
    """

    def __init__(self, base: Model, showers: Showers, *, seed: int = 0) -> None:
        slow = isinstance(base, CaloClouds) and not base.jumps
        visible = showers[np.flatnonzero(showers.visible_mev() > 0)]
        self.base, self.seed = base, seed
        self.truth = visible[: SLOW if slow else MOST]
        self.copies = max(1, (SLOW if slow else GENERATED) // max(1, len(self.truth)))
        self._reference: _Reference | None = None

    def __call__(self, model: Model) -> Comparison | None:
        """Compare; none where the base makes nothing to compare with, and a change of none where the model makes nothing."""
        try:
            if self._reference is None:
                self._reference = _Reference(self.truth, self._measured(self.base), seed=self.seed)
        except (ModelError, EvaluationError):
            return None
        reference = self._reference
        try:
            after = reference.log_ratios(self._measured(model))
        except (ModelError, EvaluationError):
            after = np.full_like(reference.before, np.nan)
        change = after - reference.before
        known = bool(np.isfinite(change[0]))
        draws = change[1:][np.isfinite(change[1:])]
        return Comparison(
            before=float(np.exp(reference.before[0])),
            after=float(np.exp(after[0])) if known else None,
            change=float(change[0]) if known else None,
            error=float(draws.std()) if known and len(draws) > 1 else 0.0,
        )

    def _measured(self, model: Model) -> dict[str, np.ndarray]:
        one, n = self.truth.incident, self.copies
        particles = Incident(
            np.tile(one.pdg, n), energy_mev=np.tile(one.energy_mev, n), direction=np.tile(one.direction, (n, 1))
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DomainWarning)  # few showers are given just where a model leaves its domain
            return measure(generate(model, self.truth.detector, particles, seed=self.seed))


class _Reference:
    """The given showers, and the base's distance to them, as they are and resampled."""

    def __init__(self, truth: Showers, base: Mapping[str, np.ndarray], *, seed: int) -> None:
        n, m = len(truth), len(base["response"])
        self.truth = measure(truth)
        rulers = {name: Ruler(o, truth.detector, self.truth[name]) for name, o in OBSERVABLES.items()}
        self.rulers = {name: ruler for name, ruler in rulers.items() if ruler.usable(base[name])}
        if not self.rulers:
            raise EvaluationError("no observable varies in the given showers; expected more, or different, showers")
        divide, resample = (np.random.default_rng([seed, k]) for k in (1, 2))
        divisions = Divisions.of(truth.incident, n, m, matched=True)
        floors = measure_floors(self.rulers, [self.truth], divisions, N_DIVISIONS, divide, lambda _: None)
        self.floors = {name: float(np.nanmean(mean_of_members(d.w1))) for name, d in floors.distances.items()}
        # The first row is the showers as they are; every copy of a particle counts as often as the particle.
        drawn = np.concatenate([a[:, :n] for a, _ in bootstrap(n, n, N_RESAMPLES, resample, matched=True)])
        counts = np.concatenate([np.ones((1, n), dtype=np.float32), drawn])
        none = np.zeros((len(counts), m), dtype=np.float32), np.zeros_like(counts)
        self.a = np.concatenate([counts, none[0]], axis=1)
        self.b = np.concatenate([none[1], np.tile(counts, (1, m // n))], axis=1)
        self.before = self.log_ratios(base)

    def log_ratios(self, fast: Mapping[str, np.ndarray]) -> np.ndarray:
        """Logarithm of the ratio to the floor, as it is and resampled: shape (1 + N_RESAMPLES,)."""
        ratios = []
        for name, ruler in self.rulers.items():
            w1 = mean_of_members(ruler.pool(self.truth[name], fast[name]).w1(self.a, self.b))
            ratios.append(w1 / self.floors[name])
        return np.asarray(np.log(geometric_mean(np.array(ratios))))

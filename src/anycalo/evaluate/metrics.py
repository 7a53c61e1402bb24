"""The metrics of whole showers: classifiers, Fréchet and kernel distances, coverage, angles, with floors.

All but the angles compare high-level features (`high_level.py`) of the truth with those of the fast
showers, and Geant4 with Geant4 by the same procedure. Distances on features are averages over pairs
of random halves, so that the samples compared with fast showers and with one another are of the same size; the
scatter between halves drawn without replacement is that of the whole sample, and so gives the interval.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

import numpy as np

from anycalo.errors import EvaluationError
from anycalo.evaluate.classifier import Verdict, gradient_boosting
from anycalo.evaluate.coverage import measure_coverage
from anycalo.evaluate.frechet import fpd, kpd
from anycalo.evaluate.high_level import Scale
from anycalo.evaluate.resampling import Divisions
from anycalo.evaluate.results import MetricResult
from anycalo.geometry import Detector
from anycalo.showers import Incident

Which = Literal["quick", "all", "none"]
WHICH: tuple[Which, ...] = ("quick", "all", "none")
"""Which metrics `evaluate` measures: `all` adds the neural classifiers, which are slow."""

MIN_SHOWERS = 200
"""Fewest showers of a sample; with fewer, nothing would be found in its halves."""
N_HALVES = 20
"""Pairs of halves behind a distance on features, and as many behind its floor."""
N_BOOSTED = 3
"""Pairs of Geant4 halves behind the spread of the boosted trees' floor."""
_NORMAL_95 = 1.96


@dataclass(frozen=True, kw_only=True)
class Metric:
    """What a metric is.

    Args:
        name: key in the results.
        title: for tables.
        unit: of its value, empty for a pure number.
        group: `classifier`, `features` or `angles`.
        sees: what moves it, in a few words.
    """

    name: str
    title: str
    unit: str
    group: str
    sees: str


_ALL = (
    Metric(
        name="auc",
        title="Classifier AUC (boosted trees)",
        unit="",
        group="classifier",
        sees="any difference of the high-level features and of their correlations, also locally; 0.5 if none",
    ),
    Metric(
        name="fpd",
        title="Fréchet physics distance",
        unit="",
        group="features",
        sees="means, widths and linear correlations of the features; 0 if none differ",
    ),
    Metric(
        name="kpd",
        title="Kernel physics distance",
        unit="",
        group="features",
        sees="moments of the features up to the fourth, most of all their means; 0 if none differ",
    ),
    Metric(
        name="precision",
        title="Precision",
        unit="",
        group="features",
        sees="fast showers unlike any truth shower (too low) or too typical (too high)",
    ),
    Metric(
        name="recall",
        title="Recall",
        unit="",
        group="features",
        sees="truth showers unlike any fast shower (too low), or fast showers too widely spread (too high)",
    ),
    Metric(
        name="density",
        title="Density",
        unit="",
        group="features",
        sees="fast showers crowded where truth showers are (too high) or outside (too low)",
    ),
    Metric(
        name="coverage",
        title="Coverage",
        unit="",
        group="features",
        sees="neighbourhoods of truth showers that no fast shower enters (too low)",
    ),
    Metric(
        name="auc_neural_high",
        title="Classifier AUC (neural, high-level)",
        unit="",
        group="classifier",
        sees="any difference of the high-level features; the CaloChallenge's classifier",
    ),
    Metric(
        name="jsd_neural_high",
        title="JSD by that classifier",
        unit="bit",
        group="classifier",
        sees="the same, as the information on average gained from one shower",
    ),
    Metric(
        name="auc_neural_low",
        title="Classifier AUC (neural, cells)",
        unit="",
        group="classifier",
        sees="any difference of the cells; the CaloChallenge's classifier",
    ),
    Metric(
        name="jsd_neural_low",
        title="JSD by that classifier",
        unit="bit",
        group="classifier",
        sees="the same, as the information on average gained from one shower",
    ),
)
METRICS: Mapping[str, Metric] = MappingProxyType({m.name: m for m in _ALL})
"""Every metric but the angles by its name."""


class Halves:
    """Random halves of two samples, and of a pool of Geant4 showers, all of the same two sizes.

    Args:
        pool: particles of the Geant4 showers: those of truth, and of a floor sample after them.
        n_truth: showers of truth.
        n_fast: showers of the fast sample.
        matched: whether shower k of both is of the same particle; then halves are of pairs, and pairs of
            Geant4 showers are neighbours in energy.
    """

    def __init__(self, pool: Incident, n_truth: int, n_fast: int, *, matched: bool) -> None:
        self.n_truth, self.n_fast, self.n_pool, self.matched = n_truth, n_fast, len(pool), matched
        a = n_truth // 2
        self.sizes = (a, min(n_fast // 2, len(pool) - a))
        self._strata = Divisions.of(pool, n_truth, n_fast, matched=matched).strata
        # The spread of a difference of samples goes with the root of the sum of their inverse sizes.
        self.factor = float(np.sqrt((1 / n_truth + 1 / n_fast) / (1 / self.sizes[0] + 1 / self.sizes[1])))

    def truth_and_fast(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Indices into truth and into fast."""
        a = rng.permutation(self.n_truth)[: self.sizes[0]]
        return (a, a) if self.matched else (a, rng.permutation(self.n_fast)[: self.sizes[1]])

    def geant4(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Indices into the pool, of two disjoint samples."""
        a, b = self.sizes
        if self._strata is None:
            order = rng.permutation(self.n_pool)
            return order[:a], order[a : a + b]
        pairs = self._strata[: self.n_pool // 2 * 2].reshape(-1, 2)
        pairs = rng.permuted(pairs[rng.permutation(len(pairs))[:a]], axis=1)
        return pairs[:, 0], pairs[:, 1]


def check_which(which: str) -> None:
    """Refuse a choice of metrics that there is not.

    Raises:
        EvaluationError: naming those that there are.
    """
    if which not in WHICH:
        raise EvaluationError(f"metrics are {which!r}; expected one of {', '.join(WHICH)}")


def feature_metrics(
    detector: Detector,
    features: Sequence[np.ndarray],
    halves: Halves,
    *,
    seed: int,
    n_bootstrap: int,
    progress: Callable[[int], None] = lambda n: None,
) -> dict[str, MetricResult]:
    """AUC, FPD, KPD, precision, recall, density and coverage.

    Args:
        detector: where the showers happened.
        features: high-level features of the truth, the fast and, if there is one, the floor sample, each (B, F).
        halves: how samples are divided.
        seed: of every random choice.
        n_bootstrap: resamples behind the interval of the AUC.
        progress: called with the number of steps just done.
    """
    scale = Scale.of(detector, features[0])
    x, y, *more = map(scale, features)
    pool = np.concatenate([x, *more])
    matched = halves.matched
    rng = np.random.default_rng([seed, 3])
    verdict = gradient_boosting(x, y, matched=matched, rng=rng, n_bootstrap=n_bootstrap)
    progress(1)
    floors = []
    for i, j in (halves.geant4(rng) for _ in range(N_BOOSTED)):
        floors.append(gradient_boosting(pool[i], pool[j], matched=matched, rng=rng, n_bootstrap=100))
        progress(1)
    results = {"auc": classifier_result("auc", verdict, floors, halves)}

    rng = np.random.default_rng([seed, 4])
    found: dict[str, list[float]] = {}
    between: dict[str, list[float]] = {}
    for _ in range(N_HALVES):
        for into, (a, b) in (
            (found, _take(x, y, halves.truth_and_fast(rng))),
            (between, _take(pool, pool, halves.geant4(rng))),
        ):
            for name, value in _on_features(a, b, rng):
                into.setdefault(name, []).append(value)
        progress(1)
    for name, values in found.items():
        # FPD vanishes to first order for equal distributions, and its spread falls with the square. So does that of KPD
        # in the limit of many showers; before, single outliers make most of it, which fall with the first power.
        power = 2 if name == "fpd" else 1
        spread = float(np.std(between[name], ddof=1)) * halves.factor**power
        half_width = _NORMAL_95 * float(np.std(values, ddof=1))
        value = float(np.mean(values))
        results[name] = result(
            METRICS[name], value, (value - half_width, value + half_width), float(np.mean(between[name])), spread
        )
    return results


def classifier_result(name: str, verdict: Verdict, floors: list[Verdict], halves: Halves) -> MetricResult:
    """A classifier's verdict beside those of the same classifier on Geant4 halves."""
    spread = float(np.mean([f.spread for f in floors])) * halves.factor
    # Showers that a classifier has not seen are of either kind with equal chance if both are Geant4: 0.5 is exact.
    floor = 0.5 if name.startswith("auc") else float(np.mean([f.value for f in floors]))
    half_width = _NORMAL_95 * verdict.spread
    return result(METRICS[name], verdict.value, (verdict.value - half_width, verdict.value + half_width), floor, spread)


def result(metric: Metric, value: float, ci: tuple[float, float], floor: float, spread: float) -> MetricResult:
    """A value beside that of Geant4 against Geant4, which scatters about `floor` with this standard deviation."""
    expected = spread * float(np.sqrt(2 / np.pi))  # of the absolute deviation, normally distributed
    return MetricResult(
        name=metric.name,
        title=metric.title,
        unit=metric.unit,
        group=metric.group,
        sees=metric.sees,
        value=value,
        ci=ci,
        floor=floor,
        floor_range=(floor - _NORMAL_95 * spread, floor + _NORMAL_95 * spread),
        ratio=abs(value - floor) / expected if expected > 0 else float("nan"),
    )


def _take(x: np.ndarray, y: np.ndarray, chosen: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    return x[chosen[0]], y[chosen[1]]


def _on_features(a: np.ndarray, b: np.ndarray, rng: np.random.Generator) -> Iterator[tuple[str, float]]:
    yield "fpd", fpd(a, b, rng=rng)
    # Sums over millions of pairs of showers: the rounding of single ones averages out.
    a, b = a.astype(np.float32), b.astype(np.float32)
    yield "kpd", kpd(a, b, rng=rng)
    yield from vars(measure_coverage(a, b)).items()

"""How far two samples of showers are apart, with floors and error bars."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import version

import numpy as np

from anycalo.errors import EvaluationError
from anycalo.evaluate.angles import N_STEPS as N_ANGLES
from anycalo.evaluate.angles import angle_errors, angle_metrics
from anycalo.evaluate.calochallenge import separation_powers
from anycalo.evaluate.checks import check_comparable, incident_warnings, shared_showers
from anycalo.evaluate.floors import Distances, floors_apart, geometric_mean, mean_of_members, measure_floors
from anycalo.evaluate.high_level import high_level_features
from anycalo.evaluate.metrics import MIN_SHOWERS, N_BOOSTED, N_HALVES, Halves, Which, check_which, feature_metrics
from anycalo.evaluate.observables import OBSERVABLES, measure
from anycalo.evaluate.resampling import Divisions, bootstrap, centred_interval, match, together
from anycalo.evaluate.results import Evaluation, MetricResult, ObservableResult, SeparationResult, Summary
from anycalo.evaluate.ruler import Ruler
from anycalo.showers import Showers

N_DIVISIONS = 400
"""Random divisions that a floor is averaged over: about 2% of the floor of a scalar."""
LEVEL = 0.95
"""Nominal coverage of every interval."""


def evaluate(
    truth: Showers,
    fast: Showers,
    *,
    floor: Showers | None = None,
    metrics: Which = "quick",
    seed: int = 0,
    n_bootstrap: int = 1000,
    progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Compare fast showers with Geant4 showers, observable by observable and as whole showers.

    A floor is the distance between two random disjoint parts of the Geant4 showers at hand, averaged
    over `N_DIVISIONS` divisions: halves of truth, scaled to the sizes compared; or parts of truth and
    `floor` together, which are of the very sizes compared once `floor` has n_fast showers. Where fast was
    generated for the particles of truth, floors and bootstrap keep that pairing (`resampling.py`);
    showers of the larger sample without a partner are left out. An interval says where the expectation
    of the distance at these sample sizes lies, the floor taken as known.

    Args:
        truth: Geant4 showers, the reference of every scale and bin.
        fast: showers to judge, of the same detector and particles.
        floor: more Geant4 showers, independent of truth.
        metrics: of whole showers, beside the observables: `quick`, `all` (the neural classifiers too, which take minutes,
            with many cells and no GPU hours) or `none`.
        seed: at least 0, of the divisions and the bootstrap; the same seed gives the same result.
        n_bootstrap: bootstrap resamples of whole showers behind every interval.
        progress: called with the steps done and their total.

    Raises:
        EvaluationError: for samples that cannot be compared (detector, particles, too few showers, no
            cells), or a floor sample that shares showers with truth.
    """
    if n_bootstrap < 100:
        raise EvaluationError(f"n_bootstrap is {n_bootstrap}; expected at least 100 for a {LEVEL:.0%} interval")
    if seed < 0:
        raise EvaluationError(f"seed is {seed}; expected a whole number of at least 0")
    check_which(metrics)
    warnings = _check(truth, fast, floor)
    pairs = match(truth.incident, fast.incident)
    if pairs is None:
        warnings += incident_warnings(truth, fast, "fast")
    else:
        if len(truth) != len(fast):
            larger, n = ("truth", len(truth)) if len(truth) > len(fast) else ("fast", len(fast))
            warnings.append(
                f"only {len(pairs[0])} of {n} {larger} showers have a partner that started from the same particle;"
                " the others are left out"
            )
        truth, fast = truth[pairs[0]], fast[pairs[1]]
    n_truth, n_fast = len(truth), len(fast)

    if metrics != "none" and min(n_truth, n_fast) < MIN_SHOWERS:
        warnings.append(
            f"metrics of whole showers are left out: they take at least {MIN_SHOWERS} showers, and there are"
            f" {n_truth} and {n_fast}"
        )
        metrics = "none"
    also = {} if metrics == "none" else {"high_level": high_level_features, "angles": angle_errors}
    geant4 = [truth] if floor is None else [truth, floor]
    steps = _Steps(progress, n_fast + sum(map(len, geant4)) + N_DIVISIONS + n_bootstrap + _metric_steps(metrics))
    geant4_values = [measure(s, steps.add, also) for s in geant4]
    truth_values, fast_values = geant4_values[0], measure(fast, steps.add, also)
    rulers = {name: Ruler(o, truth.detector, truth_values[name]) for name, o in OBSERVABLES.items()}
    for name in [name for name, ruler in rulers.items() if not ruler.usable(fast_values[name])]:
        warnings.append(f"{name} is left out: it does not vary in the truth sample, or hardly any fast shower has it")
        del rulers[name]
    if not rulers:
        raise EvaluationError("no observable varies in the truth sample; expected more, or different, showers")

    matched = pairs is not None
    divide, resample = (np.random.default_rng([seed, k]) for k in (1, 2))
    incident = truth.incident if floor is None else together(truth.incident, floor.incident)
    divisions = Divisions.of(incident, n_truth, n_fast, matched=matched)
    floors = measure_floors(rulers, geant4_values, divisions, N_DIVISIONS, divide, steps.add)
    if floor is not None:
        apart = floors_apart(rulers, geant4_values, truth.incident, floor.incident, N_DIVISIONS, divide)
        if apart is not None:
            warnings.append(
                f"the truth and floor samples are {apart:.2f} floors apart, more than any random division of both;"
                " expected two samples of one Geant4 set-up and beam"
            )
    pools = {name: ruler.pool(truth_values[name], fast_values[name]) for name, ruler in rulers.items()}
    blocks: dict[str, list[np.ndarray]] = {name: [] for name in rulers}
    for a, b in bootstrap(n_truth, n_fast, n_bootstrap, resample, matched=matched):
        for name, pool in pools.items():
            blocks[name].append(mean_of_members(pool.w1(a, b)))
        steps.add(len(a))
    draws = {name: np.concatenate(block) for name, block in blocks.items()}

    whole = (np.arange(n_truth + n_fast) < n_truth)[None].astype(np.float32)
    results = {
        name: _result(
            ruler,
            Distances.of(pools[name], whole, 1 - whole),
            floors.distances[name],
            draws[name],
            truth_values[name],
            fast_values[name],
        )
        for name, ruler in rulers.items()
    }
    whole_showers: dict[str, MetricResult] = {}
    calochallenge: dict[str, SeparationResult] = {}
    if metrics != "none":
        halves = Halves(incident, n_truth, n_fast, matched=matched)
        tables = [v["high_level"] for v in (truth_values, fast_values, *geant4_values[1:])]
        whole_showers = feature_metrics(
            truth.detector, tables, halves, seed=seed, n_bootstrap=n_bootstrap, progress=steps.add
        ) | angle_metrics(truth_values["angles"], fast_values["angles"], matched=matched, seed=seed, progress=steps.add)
        spectra = [v["cell_energy"] for v in (truth_values, fast_values, *geant4_values[1:])]
        calochallenge = separation_powers(truth.detector, tables, spectra, halves, seed=seed)
    if metrics == "all":
        from anycalo.evaluate.neural import neural_metrics

        samples = [truth, fast] if floor is None else [truth, fast, floor]
        neural, left_out = neural_metrics(samples, tables, halves, seed=seed, n_bootstrap=n_bootstrap, progress=steps.add)
        whole_showers |= neural
        warnings += left_out
    headline = float(geometric_mean(np.array([r.w1_ratio for r in results.values()])))
    headline_draws = geometric_mean(np.array([draws[name] / r.w1_floor for name, r in results.items()]))
    low, high = np.quantile(floors.headline, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Evaluation(
        observables=results,
        summary=Summary(
            ratio_to_floor=headline,
            ratio_to_floor_ci=centred_interval(headline, headline_draws, LEVEL),
            perfect_ratio=float(floors.headline.mean()),
            perfect_ratio_range=(float(low), float(high)),
            n_truth=n_truth,
            n_fast=n_fast,
            design="matched" if matched else "independent",
            floor_from="truth" if floor is None else "truth and floor",
        ),
        metrics=whole_showers,
        calochallenge=calochallenge,
        warnings=tuple(warnings),
        provenance={
            "anycalo": version("anycalo"),
            "detector": truth.detector.name,
            "truth": truth.provenance,
            "fast": fast.provenance,
            "floor": None if floor is None else floor.provenance,
            "seed": seed,
            "n_bootstrap": n_bootstrap,
            "n_divisions": N_DIVISIONS,
            "interval": LEVEL,
        },
    )


def _metric_steps(metrics: Which) -> int:
    if metrics == "none":
        return 0
    quick = N_HALVES + N_BOOSTED + 1 + N_ANGLES
    if metrics == "quick":
        return quick
    from anycalo.evaluate.neural import count_steps  # torch takes a second to import, and few ask for it

    return quick + count_steps()


def _check(truth: Showers, fast: Showers, floor: Showers | None) -> list[str]:
    check_comparable(truth, fast, "fast")
    warnings = []
    if shared := shared_showers(truth, fast):
        warnings.append(
            f"{shared} fast showers are also in the truth sample; expected independent showers, distances are too small"
        )
    if floor is not None:
        check_comparable(truth, floor, "floor")
        if shared := shared_showers(truth, floor):
            raise EvaluationError(
                f"{shared} showers of the floor sample are also in the truth sample; expected independent Geant4 showers"
            )
        warnings += incident_warnings(truth, floor, "floor")
    return warnings


def _result(
    ruler: Ruler, direct: Distances, floor: Distances, draws: np.ndarray, truth: np.ndarray, fast: np.ndarray
) -> ObservableResult:
    observable = ruler.observable
    family = observable.kind == "family"
    w1, w1_floor = float(np.nanmean(direct.w1)), float(np.nanmean(mean_of_members(floor.w1)))
    low, high = centred_interval(w1, draws, LEVEL)
    truth_density, truth_error = ruler.density(truth)
    fast_density, fast_error = ruler.density(fast)
    return ObservableResult(
        name=observable.name,
        title=observable.title,
        unit=observable.unit,
        kind=observable.kind,
        w1=w1,
        w1_floor=w1_floor,
        w1_ratio=w1 / w1_floor,
        w1_ci=(low, high),
        w1_ratio_ci=(low / w1_floor, high / w1_floor),
        jsd=float(np.nanmean(direct.jsd)),
        jsd_floor=float(np.nanmean(floor.jsd)),
        separation=float(np.nanmean(direct.separation)),
        separation_floor=float(np.nanmean(floor.separation)),
        edges=ruler.edges,
        truth_density=truth_density,
        truth_error=truth_error,
        fast_density=fast_density,
        fast_error=fast_error,
        members_w1=direct.w1[0] if family else None,
        members_w1_floor=floor.w1.mean(axis=0) if family else None,
    )


class _Steps:
    """Counts showers measured and resamples compared, and tells the caller."""

    def __init__(self, progress: Callable[[int, int], None] | None, total: int) -> None:
        self._progress, self._done, self._total = progress, 0, total

    def add(self, n: int) -> None:
        self._done += n
        if self._progress is not None:
            self._progress(self._done, self._total)

"""Classifiers that try to tell fast showers from Geant4: what no histogram shows, they find.

The area under the ROC curve (AUC) on showers that a classifier has not seen is 0.5 where it finds
nothing and 1 where it is always right. Two samples of the same incident particles are split pair by
pair: otherwise a classifier could learn that the twin of a training shower is of the other kind.

References:
    CaloChallenge, arXiv 2410.21611 (the neural classifier: network, split, calibration).
    Krause and Shih, arXiv 2106.05285 (classifiers as a measure of generated showers).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier

from anycalo.evaluate.resampling import bootstrap

FOLDS = 5
"""Each fold is tested once; the one after it chooses the number of trees, the other three train."""
FOLDS_SPREAD = (5 / 3) ** 0.5
"""How much more the mean of the folds scatters than if they were independent.

A classifier carries what its training showers have in common into the test, and most folds test one another: of the
10 pairs of 5 folds, 5 are counted twice and 5 once, with a variance of 5 x 4 + 5 in place of 15.
"""
TREES = 150
"""Most trees; the validation fold stops earlier."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Verdict:
    """What a classifier scores on showers that it has not seen.

    Args:
        value: AUC or divergence.
        draws: the same for bootstrap resamples of the test showers, shape (R,); the classifier stays as trained.
        spread: standard deviation of the value from sample to sample.
    """

    value: float
    draws: np.ndarray
    spread: float = float("nan")


def auc(scores: np.ndarray, truth: np.ndarray, fast: np.ndarray) -> np.ndarray:
    """Probability that a fast shower scores higher than a truth shower, ties counting half.

    Args:
        scores: of N showers, shape (N,).
        truth: how often each counts as a truth shower, shape (R, N).
        fast: how often each counts as a fast shower, shape (R, N).

    Returns:
        Shape (R,).
    """
    order = np.argsort(scores, kind="stable")
    ordered = scores[order]
    starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
    a, b = (np.add.reduceat(w[:, order].astype(np.float64), starts, axis=1) for w in (truth, fast))
    below = np.cumsum(a, axis=1) - a
    return np.asarray((b * (below + a / 2)).sum(axis=1) / (a.sum(axis=1) * b.sum(axis=1)))


def gradient_boosting(
    truth: np.ndarray, fast: np.ndarray, *, matched: bool, rng: np.random.Generator, n_bootstrap: int = 0
) -> Verdict:
    """AUC of gradient-boosted trees, each shower tested once: the mean over `FOLDS` folds.

    Args:
        truth: features, shape (N, F).
        fast: features, shape (M, F).
        matched: whether row k of both is of the same incident particle.
        rng: draws the folds and the resamples.
        n_bootstrap: resamples of the test showers of each fold.
    """
    fold_truth = _folds(len(truth), rng)
    fold_fast = fold_truth if matched else _folds(len(fast), rng)
    x = np.concatenate([truth, fast])
    y = np.concatenate([np.zeros(len(truth)), np.ones(len(fast))])
    fold = np.concatenate([fold_truth, fold_fast])
    values, draws = [], []
    for k in range(FOLDS):
        test, check = fold == k, fold == (k + 1) % FOLDS
        train = ~(test | check)
        model = HistGradientBoostingClassifier(
            max_iter=TREES, learning_rate=0.08, max_leaf_nodes=15, early_stopping=False, random_state=0
        ).fit(x[train], y[train])
        checked = np.array([_plain_auc(s.ravel(), y[check]) for s in model.staged_decision_function(x[check])])
        best = int(checked.argmax())
        stages = model.staged_decision_function(x[test])
        scores = next(s for stage, s in enumerate(stages) if stage == best).ravel()
        values.append(_plain_auc(scores, y[test]))
        if n_bootstrap:
            draws.append(bootstrap_auc(scores, y[test], n_bootstrap, rng, matched=matched))
    if not draws:
        return Verdict(value=float(np.mean(values)), draws=np.empty(0))
    together = np.mean(draws, axis=0)
    return Verdict(value=float(np.mean(values)), draws=together, spread=FOLDS_SPREAD * float(together.std(ddof=1)))


def bootstrap_auc(
    scores: np.ndarray, labels: np.ndarray, n_draws: int, rng: np.random.Generator, *, matched: bool
) -> np.ndarray:
    """AUC of resamples of the showers (of the pairs, in a matched design), shape (n_draws,).

    Args:
        scores: of the truth showers and then of the fast showers, shape (N,).
        labels: 0 for truth, 1 for fast, ascending, shape (N,).
        n_draws: number of resamples.
        rng: draws them.
        matched: whether truth and fast showers are pairs, in the same order.
    """
    return over_resamples(labels, n_draws, rng, lambda a, b: auc(scores, a, b), matched=matched)


def over_resamples(
    labels: np.ndarray,
    n_draws: int,
    rng: np.random.Generator,
    measure: Callable[[np.ndarray, np.ndarray], np.ndarray],
    *,
    matched: bool,
) -> np.ndarray:
    """A number for each bootstrap resample of truth and fast showers, shape (n_draws,)."""
    n_truth, n_fast = int(np.count_nonzero(labels == 0)), int(np.count_nonzero(labels == 1))
    blocks = bootstrap(n_truth, n_fast, n_draws, rng, matched=matched)
    return np.concatenate([measure(a, b) for a, b in blocks])


def _plain_auc(scores: np.ndarray, labels: np.ndarray) -> float:
    fast = labels[None] == 1
    return float(auc(scores, ~fast, fast)[0])


def _folds(n: int, rng: np.random.Generator) -> np.ndarray:
    """The fold of each of n showers, all of the same size to within one."""
    return rng.permutation(np.arange(n) % FOLDS)

"""Known defects are found by the metrics of whole showers, and a perfect model is left in peace."""

import json

import numpy as np
import pytest
from defects import decorrelated, scaled, swapped

from anycalo.errors import EvaluationError
from anycalo.evaluate import Evaluation, classifier, evaluate, metrics
from anycalo.evaluate.metrics import METRICS
from anycalo.evaluate.results import CALOCLOUDS3
from anycalo.showers import Showers

QUICK = ("auc", "fpd", "kpd", "precision", "recall", "density", "coverage")


def _evaluate(truth: Showers, fast: Showers, **options) -> Evaluation:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(metrics, "N_HALVES", 8)
        patch.setattr(metrics, "N_BOOSTED", 1)
        patch.setattr(classifier, "TREES", 60)
        return evaluate(truth, fast, n_bootstrap=100, **options)


@pytest.fixture(scope="module")
def truth(toy) -> Showers:
    return toy(500, 1)


@pytest.fixture(scope="module")
def twin(toy, truth) -> Showers:
    """Independent showers of the very particles of truth: a perfect model."""
    return toy(500, 2, incident=truth.incident)


@pytest.fixture(scope="module")
def perfect(truth, twin) -> Evaluation:
    return _evaluate(truth, twin)


def test_a_perfect_model_lies_within_what_geant4_does(perfect: Evaluation) -> None:
    # A ratio is |z| / 0.8 of about a normal z whose spread is known to 20%: beyond 5 with a probability of 1e-3 each.
    for name in QUICK:
        assert perfect.metrics[name].ratio < 5, name
    auc = perfect.metrics["auc"]
    assert auc.floor == pytest.approx(0.5, abs=0.06)
    assert auc.ci[0] < auc.value < auc.ci[1]
    assert auc.ci[0] < 0.5 < auc.ci[1]


def test_energy_scaled_by_two_percent_is_found_by_the_classifier(truth, twin, perfect: Evaluation) -> None:
    # The toy's resolution is 5%: the best classifier has an AUC of Phi(0.4 / sqrt(2)) = 0.61.
    found = _evaluate(truth, scaled(twin)).metrics
    assert found["auc"].value > perfect.metrics["auc"].floor_range[1]
    assert found["auc"].value == pytest.approx(0.60, abs=0.05)
    assert found["auc"].ci[0] > 0.5
    # One feature of a hundred has moved by 0.4 standard deviations: neighbours do not notice (docs/metrics.md).
    assert found["coverage"].value == pytest.approx(perfect.metrics["coverage"].value, abs=0.02)


def test_a_swapped_layer_is_found_by_all_but_precision_and_recall(truth, twin) -> None:
    found = _evaluate(truth, swapped(twin, 1, 5)).metrics
    for name in ("auc", "fpd", "kpd"):
        assert found[name].ratio > 5, name
    assert found["auc"].value > 0.65


def test_lost_correlations_are_found_where_no_histogram_of_a_layer_differs(truth, twin, perfect: Evaluation) -> None:
    broken = decorrelated(twin)
    np.testing.assert_allclose(
        np.sort(broken.layer_energy_mev(), axis=0), np.sort(twin.layer_energy_mev(), axis=0), rtol=1e-4, atol=1e-5
    )
    result = _evaluate(truth, broken)
    # The distributions in each layer are no farther from the truth than a perfect model's.
    name = "layer_energy"
    assert result.observables[name].w1 == pytest.approx(perfect.observables[name].w1, rel=0.01)
    assert result.metrics["auc"].value > 0.7
    assert result.metrics["auc"].ratio > 5
    assert result.metrics["fpd"].ratio > 3


def test_the_json_holds_every_metric_and_the_tables_of_other_papers(perfect: Evaluation) -> None:
    found = json.loads(json.dumps(perfect.to_dict(), allow_nan=False))
    assert set(QUICK) <= set(found["metrics"])
    for name, metric in found["metrics"].items():
        assert set(metric) == {"title", "unit", "group", "sees", "value", "ci", "floor", "floor_range", "ratio"}, name
        assert metric["ci"][0] <= metric["value"] <= metric["ci"][1], name
        assert metric["floor_range"][0] <= metric["floor"] <= metric["floor_range"][1], name
    assert set(QUICK) <= set(METRICS)
    assert set(found["caloclouds3"]) == set(CALOCLOUDS3)
    assert found["caloclouds3"]["occupancy"]["jsd"] == found["observables"]["occupancy"]["jsd"]
    assert set(found["calochallenge"]) >= {"response", "layer_energy", "centre_x", "width_y", "cell_energy"}
    assert any(name.startswith("angle_hot_opening") for name in found["metrics"])


def test_metrics_are_only_measured_where_asked_for_and_possible(toy, truth, twin) -> None:
    assert evaluate(truth, twin, n_bootstrap=100, metrics="none").metrics == {}
    few = evaluate(toy(150, 1), toy(150, 2), n_bootstrap=100)
    assert few.metrics == {}
    assert any("metrics of whole showers are left out: they take at least 200 showers" in w for w in few.warnings)
    with pytest.raises(EvaluationError, match="metrics are 'fast'; expected one of quick, all, none"):
        evaluate(truth, twin, metrics="fast")


def test_a_seed_fixes_the_metrics_and_progress_counts_them(toy) -> None:
    truth, fast, more = toy(200, 1), toy(220, 2), toy(200, 3)
    seen: list[tuple[int, int]] = []
    first = _evaluate(truth, fast, floor=more, progress=lambda done, total: seen.append((done, total)))
    assert len({total for _, total in seen}) == 1
    again = _evaluate(truth, fast, floor=more)
    assert first.to_dict() == again.to_dict()

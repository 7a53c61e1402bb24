"""Classifiers: the area under the curve, no leak between pairs, what is found and what is refused."""

import numpy as np
import pytest
from defects import swapped
from sklearn.metrics import roc_auc_score

from anycalo.errors import EvaluationError
from anycalo.evaluate import classifier
from anycalo.evaluate.classifier import auc, bootstrap_auc, gradient_boosting
from anycalo.evaluate.neural import MAX_CELLS, NeuralSettings, cell_inputs, count_cells, neural_classifier
from anycalo.geometry import Detector
from anycalo.readout import read_out

SMALL_NETWORK = NeuralSettings(hidden=(32, 32), epochs=15, batch=100, rate=3e-3, device="cpu")


def test_the_area_is_that_of_scikit_learn_with_ties_and_multiplicities() -> None:
    rng = np.random.default_rng(0)
    scores = np.round(rng.normal(size=200), 1)
    labels = (np.arange(200) >= 120).astype(float)
    counts = rng.integers(0, 4, size=(5, 200))
    found = auc(scores, counts * (labels == 0), counts * (labels == 1))
    expected = [roc_auc_score(np.repeat(labels, c), np.repeat(scores, c)) for c in counts]
    np.testing.assert_allclose(found, expected)


def test_the_interval_is_as_wide_as_the_area_scatters() -> None:
    # Equal scores' distributions: the standard deviation of the area is sqrt((n + m + 1) / (12 n m)).
    rng = np.random.default_rng(1)
    labels = np.repeat([0.0, 1.0], 300)
    draws = bootstrap_auc(rng.normal(size=600), labels, 400, rng, matched=False)
    assert draws.std() == pytest.approx(np.sqrt(601 / (12 * 300**2)), rel=0.15)


def test_trees_find_what_differs_and_nothing_else() -> None:
    rng = np.random.default_rng(2)
    x, y = rng.normal(size=(2, 400, 5))
    # Under the null, the mean over 5 folds has the spread of one test of all showers.
    spread = np.sqrt(801 / (12 * 400**2))
    assert gradient_boosting(x, y, matched=False, rng=rng).value == pytest.approx(0.5, abs=4 * spread)
    # Only the sign of a product differs: every one-dimensional distribution, and every covariance, is the same.
    y[:, 0] = np.abs(y[:, 0]) * np.sign(x[:, 0])
    x[:, 0] = np.abs(x[:, 0]) * np.sign(x[:, 1] * x[:, 2])
    assert gradient_boosting(x, y, matched=False, rng=rng).value > 0.6


def test_pairs_are_split_together() -> None:
    # Each particle's energy is in the sample twice, once a kind. A classifier that has seen one of a pair knows the
    # other; pairs must not be torn.
    rng = np.random.default_rng(3)
    energy = np.repeat(rng.uniform(size=30), 20)[:, None] + 1e-4 * rng.normal(size=(600, 1))
    truth = energy[rng.permutation(600)]
    fast = truth.copy()
    spread = np.sqrt(1201 / (12 * 600**2))
    kept = gradient_boosting(truth, fast, matched=True, rng=rng).value
    assert kept == pytest.approx(0.5, abs=4 * spread)
    # The twin that must fail: torn pairs, of fine energies that trees can resolve.
    torn = gradient_boosting(truth, fast, matched=False, rng=rng).value
    assert torn < 0.5 - 2 * spread


def test_the_network_finds_a_difference_and_its_divergence() -> None:
    rng = np.random.default_rng(4)
    x, y = rng.normal(size=(2, 1500, 2))
    y[:, 0] += 2.0
    area, divergence = neural_classifier(x, y, matched=False, rng=rng, n_bootstrap=100, settings=SMALL_NETWORK)
    # Two unit normal distributions 2 apart: AUC = Phi(sqrt(2)) = 0.921, and the divergence by numerical integration.
    z = np.linspace(-8, 10, 20_001)
    p, q = (np.exp(-((z - m) ** 2) / 2) / np.sqrt(2 * np.pi) for m in (0.0, 2.0))
    exact = np.trapezoid((p * np.log2(2 * p / (p + q)) + q * np.log2(2 * q / (p + q))) / 2, z)
    assert area.value == pytest.approx(0.921, abs=0.04)
    assert divergence.value == pytest.approx(exact, abs=0.1)
    assert area.draws.min() < area.value < area.draws.max()
    assert divergence.draws.min() < divergence.value < divergence.draws.max()


def test_the_network_finds_nothing_where_nothing_is() -> None:
    rng = np.random.default_rng(5)
    x, y = rng.normal(size=(2, 1000, 2))
    area, divergence = neural_classifier(x, y, matched=False, rng=rng, settings=SMALL_NETWORK)
    assert area.value == pytest.approx(0.5, abs=4 * np.sqrt(401 / (12 * 200**2)))
    assert abs(divergence.value) < 0.1


def test_inputs_of_the_low_level_classifier_are_the_cells(toy) -> None:
    showers = toy(600, 1)  # more than one block
    inputs = cell_inputs(showers)
    assert inputs.shape == (600, 1 + count_cells(showers.detector))
    np.testing.assert_allclose(inputs[:, [0]].toarray().ravel(), np.log10(showers.incident.energy_mev), rtol=1e-6)
    cells = read_out(showers)
    sums = np.asarray(inputs[:, 1:].sum(axis=1)).ravel()
    relative = cells.read_mev() / showers.incident.energy_mev
    np.testing.assert_allclose(sums / sums[0], relative / relative[0], rtol=1e-4)
    assert inputs[:, 1:].nnz == len(cells)


def test_too_many_cells_are_refused_with_the_remedy(toy) -> None:
    large = Detector.load("ild-ecal")
    assert count_cells(large) > MAX_CELLS
    with pytest.raises(EvaluationError, match=r"'ild-ecal' has [\d,]+ cells; .* at most 50,000. Use the high-level one"):
        cell_inputs(toy(20, 1, detector=large))


def test_settings_that_make_no_network_are_refused() -> None:
    with pytest.raises(EvaluationError, match="expected positive sizes"):
        NeuralSettings(epochs=0)
    with pytest.raises(EvaluationError, match="device is 'tpu'; expected auto, cpu or cuda"):
        NeuralSettings(device="tpu")


def test_folds_are_of_equal_size() -> None:
    folds = classifier._folds(203, np.random.default_rng(0))
    assert np.ptp(np.bincount(folds)) <= 1


@pytest.mark.slow
def test_the_network_on_cells_finds_a_swapped_layer(toy) -> None:
    truth = toy(600, 1)
    twin = toy(600, 2, incident=truth.incident)
    settings = NeuralSettings(hidden=(64, 64), epochs=6, batch=100, rate=1e-3, device="cpu")
    found = [
        neural_classifier(cell_inputs(truth), cell_inputs(fast), matched=True, rng=np.random.default_rng(0), settings=settings)[
            0
        ].value
        for fast in (twin, swapped(twin, 1, 5))
    ]
    # 120 showers of each kind are tested: a spread of 0.037 where nothing is to be found.
    assert found[0] == pytest.approx(0.5, abs=4 * 0.037)
    assert found[1] > 0.7

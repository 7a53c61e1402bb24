"""High-level features: values by hand, a column for every name, a scale from the truth alone."""

import re
from pathlib import Path

import numpy as np
import pytest

from anycalo.evaluate import calochallenge, high_level, metrics
from anycalo.evaluate.calochallenge import separation_powers
from anycalo.evaluate.high_level import LAYER_COLUMNS, SHOWER_COLUMNS, Scale, feature_names, high_level_features, layer_features
from anycalo.evaluate.metrics import Halves
from anycalo.evaluate.observables import measure
from anycalo.geometry import Detector
from anycalo.geometry.derived import mip_mev
from anycalo.readout import read_out
from anycalo.readout.view import View, layer_depth_x0
from anycalo.showers import Incident, Showers

ALSO = {"features": high_level_features}


def _features(showers: Showers) -> np.ndarray:
    return measure(showers, also=ALSO)["features"]


def test_two_cells_by_hand(detector: Detector) -> None:
    # Cells of 5 mm with a corner at the origin: centres at (2.5, 2.5) and (12.5, -2.5), and another layer.
    mip, depth = mip_mev(detector), layer_depth_x0(detector)
    energy = [10 * mip[2], 30 * mip[2], 20 * mip[4]]
    showers = Showers(
        detector=detector,
        incident=Incident("gamma", energy_mev=1000.0),
        offsets=np.array([0, 3]),
        x_mm=np.array([1.0, 11.0, 1.0]),
        y_mm=np.array([1.0, -1.0, 1.0]),
        layer=np.array([2, 2, 4]),
        energy_mev=np.array(energy),
    )
    row = dict(zip(feature_names(detector), high_level_features(View(read_out(showers), showers.incident))[0], strict=True))
    assert row["log_incident_energy"] == pytest.approx(3)
    assert row["response"] == pytest.approx(sum(energy) / 1000)
    assert row["log_cells"] == pytest.approx(np.log10(4))
    assert row["mean_log_cell_energy"] == pytest.approx(np.mean(np.log10([10, 30, 20])))
    assert row["rms_log_cell_energy"] == pytest.approx(np.std(np.log10([10, 30, 20])))
    assert row["brightest_cell_share"] == pytest.approx(0.5)
    assert row["centre_depth"] == pytest.approx((40 * depth[2] + 20 * depth[4]) / 60)
    assert row["layer_2_energy_share"] == pytest.approx(40 / 60)
    assert row["layer_2_cell_share"] == pytest.approx(2 / 3)
    assert row["layer_2_centre_x"] == pytest.approx((10 * 2.5 + 30 * 12.5) / 40)
    assert row["layer_2_centre_y"] == pytest.approx((10 * 2.5 - 30 * 2.5) / 40)
    # Two weights p and 1 - p a distance d apart have an rms of d sqrt(p (1 - p)).
    assert row["layer_2_width_x"] == pytest.approx(10 * np.sqrt(3 / 16), rel=1e-5)
    assert row["layer_2_width_y"] == pytest.approx(5 * np.sqrt(3 / 16), rel=1e-5)
    assert row["layer_4_width_x"] == pytest.approx(0, abs=1e-6)
    assert row["layer_3_energy_share"] == row["layer_3_centre_x"] == 0


def test_every_column_has_one_name_and_belongs_to_its_shower(toy, detector: Detector) -> None:
    names = feature_names(detector)
    assert len(set(names)) == len(names) == len(SHOWER_COLUMNS) + 12 * len(LAYER_COLUMNS)
    showers = toy(600, 1)  # more than are measured at a time
    table = _features(showers)
    assert table.shape == (600, len(names))
    assert np.isfinite(table).all()
    order = np.random.default_rng(0).permutation(600)
    np.testing.assert_allclose(_features(showers[order]), table[order], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(layer_features(table, detector, "energy_share").sum(axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(layer_features(table, detector, "cell_share").sum(axis=1), 1, rtol=1e-5)


def test_a_shower_without_cells_is_a_row_of_zeros_but_for_its_particle(toy) -> None:
    showers = toy(20, 1)
    showers.energy_mev[:60] = 0
    row = dict(zip(feature_names(showers.detector), _features(showers)[0], strict=True))
    assert row.pop("log_incident_energy") > 0
    assert row.pop("start") > 0  # the depth of the detector
    assert not any(row.values())


def test_the_scale_comes_from_the_truth_and_drops_what_does_not_vary(toy, detector: Detector) -> None:
    truth, fast = _features(toy(300, 1)), _features(toy(300, 2, energy_scale=2.0))
    layer_features(truth, detector, "cell_share")[20:, 11] = 0  # few showers have a cell in the last layer
    layer_features(truth, detector, "cell_share")[:20, 11] = 0.1
    scale = Scale.of(detector, truth)
    kept = [feature_names(detector)[k] for k in scale.kept]
    assert "angle" not in kept  # all along the normal
    assert "response" in kept
    # The last layer has a cell in few showers.
    filled = (layer_features(truth, detector, "cell_share") > 0).mean(axis=0)
    assert [f"layer_{k}_energy_share" in kept for k in range(12)] == list(filled >= high_level.USUAL)
    assert not all(filled >= high_level.USUAL)
    x, y = scale(truth), scale(fast)
    inside = np.abs(x).max(axis=0) < high_level.CLIP
    np.testing.assert_allclose(x.mean(axis=0)[inside], 0, atol=1e-6)
    np.testing.assert_allclose(x.std(axis=0)[inside], 1, atol=1e-6)
    assert y[:, kept.index("response")].mean() > 5
    assert np.abs(y).max() <= high_level.CLIP


@pytest.mark.parametrize("matched", [False, True])
def test_halves_are_disjoint_and_of_the_sizes_compared(toy, matched: bool) -> None:
    incident = toy(101, 1).incident
    halves = Halves(incident, 101, 101, matched=matched)
    rng = np.random.default_rng(0)
    a, b = halves.geant4(rng)
    assert (len(a), len(b)) == halves.sizes == (50, 50)
    assert not set(a) & set(b)
    i, j = halves.truth_and_fast(rng)
    assert (len(set(i)), len(set(j))) == halves.sizes
    assert (set(i) == set(j)) == matched
    assert halves.factor == pytest.approx(np.sqrt(50 / 101))
    if matched:
        difference = np.abs(incident.energy_mev[a] - incident.energy_mev[b])
        assert difference.mean() < 0.05 * np.ptp(incident.energy_mev)


def test_the_separation_powers_are_those_of_histograms_in_the_stated_bins(toy, detector: Detector) -> None:
    samples = [measure(toy(300, k, energy_scale=s), also=ALSO) for k, s in ((1, 1.0), (2, 1.1))]
    tables, spectra = ([m[name] for m in samples] for name in ("features", "cell_energy"))
    halves = Halves(toy(300, 1).incident, 300, 300, matched=False)
    found = separation_powers(detector, tables, spectra, halves, seed=0)

    def power(a: np.ndarray, b: np.ndarray, edges: np.ndarray) -> float:
        p, q = (np.histogram(x, edges)[0] / np.histogram(x, edges)[0].sum() for x in (a, b))
        total = p + q
        return float((((p - q)[total > 0]) ** 2 / total[total > 0]).sum() / 2)

    response = [t[:, SHOWER_COLUMNS.index("response")].astype(float) for t in tables]
    mean = response[0].mean()
    expected = power(response[0] / mean, response[1] / mean, np.linspace(0.5, 1.5, 101))
    assert found["response"].separation == pytest.approx(expected, rel=1e-5)
    centre = [layer_features(t, detector, "centre_x")[:, 3] for t in tables]
    assert found["centre_x"].layers[3] == pytest.approx(power(*centre, np.linspace(-30, 30, 101)), rel=1e-5)
    energy = [m["layer_energy"][:, 3] for m in samples]
    edges = np.geomspace(detector.threshold_mip * mip_mev(detector)[3], energy[0].max(), 41)
    assert found["layer_energy"].layers[3] == pytest.approx(power(*energy, edges), rel=0.02)
    assert found["response"].separation > 2 * found["response"].separation_floor
    assert len(found["layer_energy"].layers) == 12
    known = [p for p in found["width_y"].layers if p is not None]
    assert found["width_y"].separation == pytest.approx(np.mean(known), rel=0.02)


def test_every_metric_and_feature_is_documented() -> None:
    text = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text()
    rows = re.findall(r"^\| `([^`]+)` \|", text, re.MULTILINE)
    expected = {*metrics.METRICS, *SHOWER_COLUMNS, *LAYER_COLUMNS, *calochallenge._TITLES}
    assert expected <= set(rows), sorted(expected - set(rows))

"""Means, widths and layer distances against closed forms; distances between samples with their floors."""

from __future__ import annotations

import numpy as np
import pytest

from anycalo.errors import EvaluationError
from anycalo.evaluate.segmentations import average_image, compare, compare_in, layer_distances, layer_observables
from anycalo.geometry import atlas_like
from anycalo.readout import read_out
from anycalo.showers import Incident, Showers
from toyshowers import toy_showers

ATLAS = atlas_like(inner=(48, 48), middle=(48, 48), outer=(48, 48))


def two_showers() -> Showers:
    """The first: 3 MeV at x = 15, 1 MeV at x = 35 in the middle layer, 2 MeV at x = -5 in the inner; the second: one cell."""
    return Showers(
        detector=ATLAS,
        incident=Incident(energy_mev=100.0, n=2),
        offsets=np.array([0, 3, 4]),
        x_mm=np.array([15.0, 35.0, -5.0, 5.0]),
        y_mm=np.array([5.0, 5.0, 25.0, 5.0]),
        layer=np.array([1, 1, 0, 1]),
        energy_mev=np.array([3.0, 1.0, 2.0, 4.0]),
    )


def test_means_and_widths_by_hand() -> None:
    seen = layer_observables(read_out(two_showers()), 1)
    np.testing.assert_allclose(seen["energy"], [4.0, 4.0])
    np.testing.assert_array_equal(seen["hits"], [2, 1])
    np.testing.assert_allclose(seen["mean_eta"], [20.0, 5.0])
    np.testing.assert_allclose(seen["mean_phi"], [5.0, 5.0])
    # (3 x 25 + 1 x 225) / (1/2 x 4) = 150; without the factor (M - 1) / M it would be 75.
    assert seen["width_eta"][0] == pytest.approx(np.sqrt(150.0))
    assert seen["width_phi"][0] == 0.0
    assert np.isnan(seen["width_eta"][1])
    assert np.isnan(layer_observables(read_out(two_showers()), 2)["mean_eta"]).all()


def test_layer_distances_by_hand() -> None:
    apart = layer_distances(read_out(two_showers()), 0, 1)
    assert apart["c_eta"][0] == pytest.approx(25.0)
    assert apart["c_phi"][0] == pytest.approx(-20.0)
    assert np.isnan(apart["c_eta"][1])


def test_an_average_image_holds_the_mean_energy() -> None:
    image = average_image(read_out(two_showers()), 1, 48 * 48).reshape(48, 48)
    assert image.sum() == pytest.approx(4.0)
    assert image[24, 25] == pytest.approx(1.5)
    assert image[24, 24] == pytest.approx(2.0)


def test_a_perfect_sample_is_at_its_floor_and_a_shifted_one_is_not() -> None:
    """Of 20,000 normal samples of these sizes, 0.03 % exceeded 3 floors and none was below 0.29."""
    rng = np.random.default_rng(4)
    a, b, c = ({"x": rng.normal(size=n)} for n in (150, 400, 300))
    wrong = {"x": c["x"] + 0.8}
    right, shifted = compare("s", 1, a, b, {"right": c, "wrong": wrong})
    assert 0.2 < right.ratio < 3.0
    assert shifted.ratio > 4
    assert shifted.w1 == pytest.approx(0.8, abs=0.25)
    assert shifted.interval[0] < shifted.w1 < shifted.interval[1]
    assert right.interval[0] < right.interval[1] < shifted.interval[0]


def test_floors_cover_the_sizes_compared() -> None:
    rng = np.random.default_rng(5)
    a, b = {"x": rng.normal(size=2000)}, {"x": rng.normal(size=2000)}
    (few,), (many,) = (compare("s", 1, {"x": a["x"][:n]}, b, {"m": {"x": b["x"][:n]}}) for n in (50, 2000))
    assert few.floor / many.floor == pytest.approx(np.sqrt(40), rel=0.3)


def test_values_that_do_not_exist_are_left_out_or_refused() -> None:
    some = {"x": np.array([1.0, np.nan, 2.0, 3.0])}
    (found,) = compare("s", 1, some, some, {"m": some})
    assert found.truth_mean == pytest.approx(2.0)
    constant = {"x": np.ones(5)}
    (same,) = compare("s", 1, constant, constant, {"m": {"x": np.full(5, 3.0)}})
    assert (same.w1, same.floor) == (2.0, 0.0)
    assert np.isnan(same.ratio)
    with pytest.raises(EvaluationError, match="x of 'm' in s is known for 1 showers"):
        compare("s", 1, some, some, {"m": {"x": np.array([1.0, np.nan])}})


def test_points_and_cells_stand_in_one_table() -> None:
    incident = Incident(energy_mev=5000.0, n=80)
    truth, other, points = (toy_showers(ATLAS, 80, seed, incident=incident) for seed in (1, 2, 3))
    cells = read_out(points)
    counts = np.bincount(cells.shower, minlength=80)
    centres = Showers(
        detector=ATLAS,
        incident=incident,
        offsets=np.concatenate([[0], np.cumsum(counts)]),
        x_mm=cells.x_mm,
        y_mm=cells.y_mm,
        layer=cells.layer,
        energy_mev=cells.energy_mev,
    )
    coarse = atlas_like(inner=(24, 24), middle=(12, 12), outer=(24, 24))
    results = compare_in("24 12 24", coarse, truth, other, {"points": points, "cells": centres})
    by_sample = {name: [r for r in results if r.sample == name] for name in ("points", "cells")}
    assert [(r.layer, r.observable) for r in by_sample["points"]] == [(r.layer, r.observable) for r in by_sample["cells"]]
    assert {r.observable for r in results} == {
        *("energy", "hits", "mean_eta", "mean_phi", "width_eta", "width_phi", "c_eta", "c_phi")
    }
    # Coarse cells are unions of fine ones: nothing changes.
    for one, two in zip(by_sample["points"], by_sample["cells"], strict=True):
        assert one.w1 == pytest.approx(two.w1, rel=1e-4, abs=1e-6)

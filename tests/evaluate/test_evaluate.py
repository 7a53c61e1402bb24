"""The whole comparison: a perfect twin scores about 1, known defects are found, bad input is refused."""

import json

import numpy as np
import pytest

from anycalo.errors import EvaluationError
from anycalo.evaluate import OBSERVABLES, Evaluation, evaluate
from anycalo.evaluate.floors import geometric_mean
from anycalo.showers import Incident, Showers

RESULT_KEYS = {"title", "unit", "w1", "w1_floor", "w1_ratio", "w1_ci", "jsd", "jsd_floor", "separation", "separation_floor"}


def _quick(truth, fast, **options) -> Evaluation:
    return evaluate(truth, fast, n_bootstrap=200, **{"metrics": "none"} | options)


@pytest.fixture(scope="module")
def truth(toy) -> Showers:
    return toy(500, 1)


@pytest.fixture(scope="module")
def twin(toy, truth) -> Showers:
    """Independent showers of the very particles of truth: a perfect model."""
    return toy(500, 2, incident=truth.incident)


@pytest.fixture(scope="module")
def perfect(truth, twin) -> Evaluation:
    return _quick(truth, twin)


def test_results_are_the_json_that_is_promised(perfect: Evaluation) -> None:
    found = json.loads(json.dumps(perfect.to_dict(), allow_nan=False))
    assert set(found["observables"]) == set(OBSERVABLES)
    for name, result in found["observables"].items():
        assert set(result) >= RESULT_KEYS, name
        assert result["w1_ratio"] == pytest.approx(result["w1"] / result["w1_floor"])
        assert result["w1_ci"][0] <= result["w1"] <= result["w1_ci"][1]
        histogram = result["histogram"]
        bins = len(histogram["edges"]) - 1
        assert [len(v) for v in histogram.values()] == [bins + 1, bins, bins, bins, bins], name
    assert set(found["summary"]) >= {"ratio_to_floor", "ratio_to_floor_ci", "n_truth", "n_fast"}
    assert len(found["observables"]["layer_energy"]["members"]["w1"]) == 12
    ratios = [r["w1_ratio"] for r in found["observables"].values()]
    assert found["summary"]["ratio_to_floor"] == pytest.approx(np.exp(np.mean(np.log(np.maximum(ratios, 0.1)))))
    assert found["provenance"]["truth"] == {"toy": 1}


def test_a_family_is_the_mean_of_its_members(perfect: Evaluation) -> None:
    result = perfect.observables["layer_energy"]
    assert result.w1 == pytest.approx(np.nanmean(result.members_w1))
    assert result.w1_floor == pytest.approx(np.nanmean(result.members_w1_floor))


@pytest.mark.parametrize("matched", [True, False])
def test_a_perfect_model_scores_about_one(toy, matched: bool) -> None:
    # 12 perfect models; each headline should fall into the 95% range of Geant4 itself. More than 4 outside by
    # chance: 2e-4 (binomial). Their mean has a standard error of about 0.06.
    headlines, inside = [], 0
    for k in range(12):
        truth = toy(200, 100 + k)
        fast = toy(200, 200 + k, incident=truth.incident if matched else None)
        summary = evaluate(truth, fast, n_bootstrap=100, metrics="none", seed=k).summary
        assert summary.design == ("matched" if matched else "independent")
        headlines.append(summary.ratio_to_floor)
        inside += summary.perfect_ratio_range[0] <= summary.ratio_to_floor <= summary.perfect_ratio_range[1]
    assert inside >= 8
    assert np.mean(headlines) == pytest.approx(summary.perfect_ratio, abs=0.25)
    assert summary.perfect_ratio == pytest.approx(0.95, abs=0.05)


def test_energy_scaled_by_two_percent_is_found(toy, truth, perfect: Evaluation) -> None:
    result = _quick(truth, toy(500, 2, incident=truth.incident, energy_scale=1.02))
    response = result.observables["response"]
    assert response.w1_ratio > 3
    assert response.w1_ratio_ci[0] > 1
    assert perfect.observables["response"].w1_ratio < 2
    # The resolution of the toy is 5%, so a shift by 2% is 0.4 standard deviations, known to 0.063 with 500 showers.
    assert response.w1 == pytest.approx(0.4, abs=0.2)
    # What does not depend on the scale stays clean.
    assert result.observables["cog_z"].w1_ratio == pytest.approx(perfect.observables["cog_z"].w1_ratio, abs=0.05)


def test_a_profile_reversed_in_depth_is_far_away(toy, truth, perfect: Evaluation) -> None:
    # The mean of the layer energies over layers, and their sorted values, are those of the truth.
    result = _quick(truth, toy(500, 2, incident=truth.incident, reverse=True))
    profile = result.observables["longitudinal_profile"]
    assert profile.w1_ratio > 30
    assert profile.w1 > 1
    assert profile.jsd > 0.3
    assert perfect.observables["longitudinal_profile"].w1_ratio < 3
    assert result.observables["visible_energy"].w1_ratio < 2


def test_the_order_of_showers_does_not_matter(truth, twin, perfect: Evaluation) -> None:
    rng = np.random.default_rng(0)
    shuffled = _quick(truth[rng.permutation(500)], twin[rng.permutation(500)])
    for name, result in shuffled.observables.items():
        expected = perfect.observables[name]
        # Profiles are summed in float32.
        for key in ("w1", "jsd", "separation"):
            assert getattr(result, key) == pytest.approx(getattr(expected, key), rel=1e-3, abs=1e-9), (name, key)
        assert result.w1_floor == pytest.approx(expected.w1_floor, rel=0.2)
    assert shuffled.summary.ratio_to_floor == pytest.approx(perfect.summary.ratio_to_floor, rel=0.1)


def test_parts_joined_again_are_the_whole(truth, twin, perfect: Evaluation) -> None:
    joined = Showers.concatenate([truth[:111], truth[111:]], truth.provenance)
    assert _quick(joined, twin).to_dict() == perfect.to_dict()


def test_a_seed_fixes_the_result_and_another_moves_it_little(truth, twin, perfect: Evaluation) -> None:
    assert _quick(truth, twin, seed=0).to_dict() == perfect.to_dict()
    other = _quick(truth, twin, seed=1)
    assert other.to_dict() != perfect.to_dict()
    assert other.summary.ratio_to_floor == pytest.approx(perfect.summary.ratio_to_floor, rel=0.1)
    assert other.observables["occupancy"].w1 == perfect.observables["occupancy"].w1


def test_more_geant4_gives_the_same_floors(toy, truth, twin, perfect: Evaluation) -> None:
    result = _quick(truth, twin, floor=toy(500, 3))
    assert result.summary.floor_from == "truth and floor"
    assert result.warnings == ()
    ratios = [r.w1_floor / perfect.observables[name].w1_floor for name, r in result.observables.items()]
    # Each floor is good to about 4% and depends on the tails of one sample or two.
    np.testing.assert_allclose(ratios, 1, atol=0.25)
    assert np.mean(ratios) == pytest.approx(1, abs=0.06)


def test_a_floor_sample_of_another_kind_is_noticed(toy, truth, twin) -> None:
    result = _quick(truth, twin, floor=toy(500, 3, energy_scale=1.1))
    assert any("floors apart" in w for w in result.warnings)


def test_a_floor_sample_that_overlaps_truth_is_refused(toy, truth, twin) -> None:
    overlapping = Showers.concatenate([toy(400, 3), truth[:30]])
    with pytest.raises(EvaluationError, match="30 showers of the floor sample are also in the truth sample"):
        _quick(truth, twin, floor=overlapping)


def test_the_truth_itself_is_at_distance_zero_with_a_warning(truth) -> None:
    result = _quick(truth, truth)
    assert max(r.w1_ratio for r in result.observables.values()) < 1e-3
    # Ratios below 0.1 count as 0.1 in the headline.
    assert result.summary.ratio_to_floor == pytest.approx(0.1)
    assert any("500 fast showers are also in the truth sample" in w for w in result.warnings)


def test_one_exact_agreement_does_not_make_the_headline_zero() -> None:
    assert geometric_mean(np.array([0.0, 1.0])) == pytest.approx(np.sqrt(0.1))
    np.testing.assert_allclose(geometric_mean(np.array([[2.0, 1.0], [8.0, np.nan]])), [4.0, np.nan])


def test_unequal_samples_of_the_same_particles_are_trimmed_to_pairs(truth, twin) -> None:
    result = _quick(truth, twin[:200])
    assert (result.summary.n_truth, result.summary.n_fast) == (200, 200)
    assert any("only 200 of 500 truth showers have a partner" in w for w in result.warnings)


def test_unequal_independent_samples_are_used_in_full(toy, truth) -> None:
    result = _quick(truth, toy(150, 8))
    assert (result.summary.n_truth, result.summary.n_fast) == (500, 150)
    assert result.summary.design == "independent"
    assert result.summary.perfect_ratio_range[0] < result.summary.ratio_to_floor < result.summary.perfect_ratio_range[1] * 1.2


def test_other_beams_are_warned_about(toy, truth) -> None:
    rng = np.random.default_rng(9)
    higher = Incident("gamma", energy_mev=rng.uniform(2000, 5000, 500))
    (warning,) = _quick(truth, toy(500, 9, incident=higher)).warnings
    assert "incident energies differ" in warning
    assert "--like" in warning
    inclined = Incident("gamma", energy_mev=rng.uniform(1000, 5000, 500), direction=(0.1, 0.0, np.sqrt(0.99)))
    (warning,) = _quick(truth, toy(500, 9, incident=inclined)).warnings
    assert "angles to the normal" in warning


def test_other_fractions_of_particles_are_warned_about(toy) -> None:
    energy = np.full(300, 2000.0)
    mixes = [np.where(np.arange(300) < n, 22, 11) for n in (150, 250)]
    truth, fast = (toy(300, k, incident=Incident(mix, energy_mev=energy)) for k, mix in enumerate(mixes))
    assert any("fractions of electron, gamma differ" in w for w in _quick(truth, fast).warnings)


def test_samples_that_cannot_be_compared_are_refused(toy, truth, twin, thicker_detector) -> None:
    with pytest.raises(EvaluationError, match=r"differ in 2 lines .*thickness_mm"):
        evaluate(truth, toy(50, 1, detector=thicker_detector))
    with pytest.raises(EvaluationError, match=r"truth particles are gamma and the fast ones electron; .*--like"):
        evaluate(truth, toy(50, 1, incident=Incident("electron", energy_mev=np.full(50, 2000.0))))
    with pytest.raises(EvaluationError, match="the fast sample has 9 showers; expected at least 10"):
        evaluate(truth, twin[:9])
    with pytest.raises(EvaluationError, match="n_bootstrap is 5; expected at least 100"):
        evaluate(truth, twin, n_bootstrap=5)
    with pytest.raises(EvaluationError, match="seed is -1"):
        evaluate(truth, twin, seed=-1)
    with pytest.raises(EvaluationError, match="none of the 50 showers"):
        evaluate(truth, toy(50, 1, energy_scale=1e-6))


def test_an_observable_that_does_not_vary_is_left_out_and_named(toy) -> None:
    def first_layer_bright(seed: int) -> Showers:
        showers = toy(100, seed)
        energy, layer = showers.energy_mev.copy(), showers.layer.copy()
        first = showers.offsets[:-1]
        layer[first], energy[first] = 0, 50.0
        return Showers(
            detector=showers.detector,
            incident=showers.incident,
            offsets=showers.offsets,
            x_mm=showers.x_mm,
            y_mm=showers.y_mm,
            layer=layer,
            energy_mev=energy,
        )

    result = _quick(first_layer_bright(1), first_layer_bright(2))
    assert "shower_start" not in result.observables
    assert any(w.startswith("shower_start is left out") for w in result.warnings)
    assert np.isfinite(result.summary.ratio_to_floor)


def test_progress_counts_up_to_its_total(truth, twin) -> None:
    seen: list[tuple[int, int]] = []
    _quick(truth, twin, progress=lambda done, total: seen.append((done, total)))
    done = [d for d, _ in seen]
    assert done == sorted(done)
    assert len({t for _, t in seen}) == 1
    assert seen[-1][0] == seen[-1][1]

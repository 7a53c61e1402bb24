"""Fréchet and kernel distances: closed forms, jetnet's numbers, no bias for equal distributions."""

import numpy as np
import pytest
from scipy.linalg import sqrtm

from anycalo.errors import EvaluationError
from anycalo.evaluate.frechet import fpd, fpd_sizes, frechet_distance, kernel_mmd, kpd

# What jetnet 0.2.5 gives for `_tables` (its `evaluation/gen_metrics.py`, with numpy 2; nothing else of it is needed):
#   _calculate_frechet_distance of means and covariances of the 50,000;
#   fpd(x, y, normalise=False), all else by default, which draws 20,000 to 50,000 with replacement, seed 42;
#   fpd(x[:4000], y[:4000], min_samples=1000, max_samples=4000, num_batches=5, num_points=6, normalise=False, seed=1);
#   _mmd_poly_quadratic_unbiased(x[:1000], y[:1000]);
#   kpd(x[:4000], y[:4000], num_batches=6, batch_size=500, normalise=False, seed=1), value and error.
JETNET_PLAIN = 0.047593504960646627
JETNET_FPD, JETNET_FPD_ERROR = 0.04792498120658753, 0.0004946414376196617
JETNET_FPD_SMALL = 0.03563872463947191
JETNET_MMD = 0.07783720271258687
JETNET_KPD, JETNET_KPD_ERROR = 0.10239149319515306, 0.04064559556867716


def _tables(n: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(2211_10295)
    mix = rng.normal(size=(6, 6)) / np.sqrt(6)
    x = rng.normal(size=(n, 6)) @ mix
    y = rng.normal(size=(n, 6)) @ mix * 1.05 + 0.05
    y[:, 0] += 0.1 * y[:, 1] ** 2
    return x, y


@pytest.fixture(scope="module")
def tables() -> tuple[np.ndarray, np.ndarray]:
    return _tables(50_000)


def test_the_frechet_distance_is_that_of_two_normal_distributions() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(400, 5)), rng.normal(0.3, 2.0, size=(300, 5)) @ rng.normal(size=(5, 5))
    c_x, c_y = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    by_formula = ((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(c_x + c_y - 2 * sqrtm(c_x @ c_y).real)
    assert frechet_distance(x, y) == pytest.approx(by_formula, rel=1e-9)
    assert frechet_distance(x, x) == pytest.approx(0, abs=1e-9)
    # One dimension: the difference of the means and that of the standard deviations, squared and added.
    a, b = x[:, :1], 3 * x[:, :1] + 1
    expected = (b.mean() - a.mean()) ** 2 + (b.std(ddof=1) - a.std(ddof=1)) ** 2
    assert frechet_distance(a, b) == pytest.approx(expected)


def test_a_singular_covariance_does_no_harm() -> None:
    rng = np.random.default_rng(0)
    x = np.repeat(rng.normal(size=(100, 2)), 2, axis=1)
    assert frechet_distance(x, x + 1.0) == pytest.approx(4.0)


def test_distances_are_those_of_jetnet(tables: tuple[np.ndarray, np.ndarray]) -> None:
    x, y = tables
    assert frechet_distance(x, y) == pytest.approx(JETNET_PLAIN, rel=1e-8)
    assert kernel_mmd(x[:1000], y[:1000]) == pytest.approx(JETNET_MMD, rel=1e-9)
    # Its very draws: the extrapolation is the same, to the precision of its iterative fit.
    small = fpd(x[:4000], y[:4000], rng=np.random.default_rng(1), sizes=fpd_sizes(1000, 4000, 6), draws=5, replace=True)
    assert small == pytest.approx(JETNET_FPD_SMALL, rel=1e-4)
    # Our own draws and sizes, within the error that jetnet states.
    assert fpd(x, y, rng=np.random.default_rng(2)) == pytest.approx(JETNET_FPD, abs=2 * JETNET_FPD_ERROR)
    ours = kpd(x[:4000], y[:4000], rng=np.random.default_rng(2), batch=500, draws=6)
    assert ours == pytest.approx(JETNET_KPD, abs=2 * JETNET_KPD_ERROR)


def test_equal_distributions_are_at_distance_zero_on_average() -> None:
    # 60 pairs of samples: the mean is known to its standard error, four of which are passed with a probability of 6e-5.
    rng = np.random.default_rng(3)
    found: dict[str, list[float]] = {"fpd": [], "kpd": [], "finite": []}
    for _ in range(60):
        x, y = rng.normal(size=(2, 400, 4))
        found["fpd"].append(fpd(x, y, rng=rng))
        found["kpd"].append(kpd(x, y, rng=rng))
        found["finite"].append(frechet_distance(x, y))
    for name in ("fpd", "kpd"):
        values = np.array(found[name])
        assert abs(values.mean()) < 4 * values.std(ddof=1) / np.sqrt(60), name
    # The twin that must fail: the distance between the samples themselves is biased by far more.
    finite = np.array(found["finite"])
    assert finite.mean() > 10 * finite.std(ddof=1) / np.sqrt(60)


def test_a_shift_is_found_with_its_size() -> None:
    rng = np.random.default_rng(4)
    x, y = rng.normal(size=(2, 2000, 3))
    assert fpd(x, y + 0.3, rng=rng) == pytest.approx(3 * 0.3**2, rel=0.2)
    assert kpd(x, y + 0.3, rng=rng) > 5 * abs(kpd(x, y, rng=rng))


def test_features_that_do_not_fit_are_refused() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(50, 3))
    with pytest.raises(EvaluationError, match=r"shapes \(50, 3\) and \(50, 2\); expected two tables of as many columns"):
        fpd(x, x[:, :2], rng=rng)
    with pytest.raises(
        EvaluationError, match=r"sizes for the extrapolation are \[60, 20\]; expected at least two, from 2 to 50"
    ):
        fpd(x, x, rng=rng, sizes=[60, 20])
    with pytest.raises(EvaluationError, match="batch of 60 showers is asked for; expected 2 to 50"):
        kpd(x, x, rng=rng, batch=60)

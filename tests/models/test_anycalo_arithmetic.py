"""Elementary functions of the compiled loops against NumPy's and SciPy's, in float64."""

from __future__ import annotations

from collections.abc import Callable

import numba
import numpy as np
import pytest
from scipy import special

from anycalo.models import arithmetic

rng = np.random.default_rng(1)
N = 20_000
CASES: dict[str, tuple[Callable[[np.ndarray], np.ndarray], np.ndarray, float, float]] = {
    # name: (what it is, where, largest relative error, largest absolute error)
    "exp": (np.exp, rng.uniform(-80, 80, N), 3e-7, 0),
    "log": (np.log, np.exp(rng.uniform(-60, 60, N)), 3e-7, 1e-7),
    "erf": (special.erf, rng.uniform(-6, 6, N), 1e-6, 0),
    "ndtr": (special.ndtr, rng.uniform(-6, 6, N), 0, 4e-7),
    "gelu": (lambda x: x * special.ndtr(x), rng.uniform(-8, 8, N), 3e-7, 1e-6),
    "sigmoid": (special.expit, rng.uniform(-20, 20, N), 5e-7, 0),
    "tanh": (np.tanh, rng.uniform(-20, 20, N), 0, 4e-7),
    "sinh": (np.sinh, np.exp(rng.uniform(-12, 4, N)), 5e-7, 0),
    "asinh": (np.arcsinh, np.exp(rng.uniform(-12, 12, N)), 5e-7, 0),
    "sin_pi": (lambda x: np.sin(np.pi * x), rng.uniform(-5, 5, N), 0, 4e-7),
    "atan": (np.arctan, rng.normal(size=N) * np.exp(rng.uniform(-8, 8, N)), 5e-7, 0),
    "cos_pi": (lambda x: np.cos(np.pi * x), rng.uniform(-5, 5, N), 0, 4e-7),
}


@numba.njit  # type: ignore[untyped-decorator]
def evaluate(x: np.ndarray, out: np.ndarray) -> None:
    """All at once, in the order of the cases: to compile costs more than to compute."""
    for i in range(x.shape[1]):
        out[0, i] = arithmetic.exp(x[0, i])
        out[1, i] = arithmetic.log(x[1, i])
        out[2, i] = arithmetic.erf(x[2, i])
        out[3, i] = arithmetic.ndtr(x[3, i])
        out[4, i] = arithmetic.gelu(x[4, i])
        out[5, i] = arithmetic.sigmoid(x[5, i])
        out[6, i] = arithmetic.tanh(x[6, i])
        out[7, i] = arithmetic.sinh(x[7, i])
        out[8, i] = arithmetic.asinh(x[8, i])
        out[9, i] = arithmetic.sin_pi(x[9, i])
        out[10, i] = arithmetic.atan(x[10, i])
        out[11, i] = arithmetic.cos_pi(x[11, i])


@pytest.fixture(scope="module")
def found() -> dict[str, np.ndarray]:
    x = np.stack([where.astype(np.float32) for _, where, _, _ in CASES.values()])
    out = np.empty((len(CASES), N), np.float32)
    evaluate(x, out)
    return dict(zip(CASES, out, strict=True))


@pytest.mark.parametrize("name", CASES)
def test_functions(found: dict[str, np.ndarray], name: str) -> None:
    what, where, relative, absolute = CASES[name]
    wanted = what(where.astype(np.float32).astype(np.float64))
    np.testing.assert_allclose(found[name], wanted, rtol=relative, atol=absolute)


def test_a_perceptron_is_that_of_its_matrices() -> None:
    shapes = {"own": (5, 4), "shared": (3, 4), "weights": (2, 4, 4), "biases": (3, 4)}
    net = arithmetic.Perceptron(**{k: rng.normal(size=s).astype(np.float32) for k, s in shapes.items()})
    own, shared = rng.normal(size=(7, 5)).astype(np.float32), rng.normal(size=3).astype(np.float32)
    h = own @ net.own + shared @ net.shared + net.biases[0]
    for weight, bias in zip(net.weights, net.biases[1:], strict=True):
        h = h * special.ndtr(h) @ weight + bias
    np.testing.assert_allclose(arithmetic.perceptron(own, shared, net), h * special.ndtr(h), rtol=1e-4, atol=1e-5)
    empty = arithmetic.Perceptron(own=net.own, shared=net.shared, weights=net.weights[:0], biases=net.biases[:1])
    assert arithmetic.perceptron(own[:0], shared, empty).shape == (0, 4)


def test_many_rows_are_multiplied_in_parts() -> None:
    x, weight = (rng.normal(size=s).astype(np.float32) for s in ((300, 90), (90, 80)))
    bias = np.arange(80, dtype=np.float32)
    assert x.size * 80 > 2 * arithmetic._ONE_THREAD
    np.testing.assert_allclose(arithmetic.affine(x, weight, bias), x @ weight + bias, rtol=1e-4, atol=1e-4)

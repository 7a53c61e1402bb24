"""Elementary functions for compiled loops (numba): float32, without branches, so that loops over them run on vector registers.

Exponential, logarithm, sinh, asinh and atan after Cephes (Moshier), the error function as a rational function (Eigen's); all
within a few units in the last place of float32, which a test holds them to. Arguments and results are float32 numbers.

Compiled loops are kept on disk beside the source, or in the user's cache where that cannot be written. They are compiled again
when their own file changes, not when this one does: after editing it, remove `__pycache__/*.nbi`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar, cast

import numba
import numpy as np

Array = np.ndarray
Number = Any
"""A float32."""
F = TypeVar("F", bound=Callable[..., Any])
_f = np.float32


def compiled(function: F) -> F:
    """A loop, compiled when it is first called and kept on disk; sums may be taken in any order."""
    options: dict[str, Any] = {"error_model": "numpy", "fastmath": {"contract", "reassoc", "nsz"}}
    try:
        return cast(F, numba.njit(cache=True, **options)(function))
    except RuntimeError:  # nowhere to keep it: compiled again in every process
        return cast(F, numba.njit(**options)(function))


def inlined(function: F) -> F:
    """A function that is written into the loops that call it, in which the order of operations is kept."""
    return cast(F, numba.njit(forceinline=True, error_model="numpy", fastmath={"contract"})(function))


ZERO, HALF, ONE, TWO = _f(0), _f(0.5), _f(1), _f(2)
_ROOT_HALF, _PI = _f(math.sqrt(0.5)), _f(math.pi)
_LOG2_E, _LN2_HIGH, _LN2_LOW = _f(1.44269504), _f(0.693359375), _f(-2.12194440e-4)
_LEAST, _MOST = _f(-87), _f(88)
_E0, _E1, _E2, _E3, _E4, _E5 = map(_f, (1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 0.16666665459, 0.5))


@inlined
def exp(x: Number) -> Number:
    """e^x, from e^-87 to e^88."""
    x = min(max(x, _LEAST), _MOST)
    n = np.floor(x * _LOG2_E + HALF)
    r = (x - n * _LN2_HIGH) - n * _LN2_LOW
    p = ((((_E0 * r + _E1) * r + _E2) * r + _E3) * r + _E4) * r + _E5
    power = np.int32((np.int32(n) + np.int32(127)) << np.int32(23)).view(np.float32)
    return (p * r * r + r + ONE) * power


_L0, _L1, _L2, _L3, _L4, _L5, _L6, _L7, _L8 = map(
    _f,
    (
        7.0376836292e-2,
        -1.1514610310e-1,
        1.1676998740e-1,
        -1.2420140846e-1,
        1.4249322787e-1,
        -1.6668057665e-1,
        2.0000714765e-1,
        -2.4999993993e-1,
        3.3333331174e-1,
    ),
)
_FRACTION, _EXPONENT, _BITS, _BIAS = np.int32(0x7FFFFF), np.int32(0x3F000000), np.int32(23), np.int32(126)


@inlined
def log(x: Number) -> Number:
    """The natural logarithm of positive numbers that are not denormal."""
    bits = np.float32(x).view(np.int32)
    exponent = _f((bits >> _BITS) - _BIAS)
    fraction = np.int32((bits & _FRACTION) | _EXPONENT).view(np.float32)
    low = fraction < _ROOT_HALF
    exponent = exponent - ONE if low else exponent
    m = (fraction + fraction if low else fraction) - ONE
    p = (((((((_L0 * m + _L1) * m + _L2) * m + _L3) * m + _L4) * m + _L5) * m + _L6) * m + _L7) * m + _L8
    square = m * m
    y = p * m * square + exponent * _LN2_LOW - HALF * square
    return (m + y) + exponent * _LN2_HIGH


_N1, _N3, _N5, _N7, _N9, _N11, _N13 = map(
    _f,
    (
        -1.60960333262415e-2,
        -2.95459980854025e-3,
        -7.34990630326855e-4,
        -5.69250639462346e-5,
        -2.10102402082508e-6,
        2.77068142495902e-8,
        -2.72614225801306e-10,
    ),
)
_D0, _D2, _D4, _D6, _D8 = map(
    _f, (-1.42647390514189e-2, -7.37332916720468e-3, -1.68282697438203e-3, -2.13374055278905e-4, -1.45660718464996e-5)
)
_FOUR = _f(4)


@inlined
def erf(x: Number) -> Number:
    """The error function."""
    x = min(max(x, -_FOUR), _FOUR)
    s = x * x
    p = (((((_N13 * s + _N11) * s + _N9) * s + _N7) * s + _N5) * s + _N3) * s + _N1
    return x * p / ((((_D8 * s + _D6) * s + _D4) * s + _D2) * s + _D0)


@inlined
def ndtr(x: Number) -> Number:
    """The standard normal distribution function."""
    return HALF * (ONE + erf(x * _ROOT_HALF))


@inlined
def gelu(x: Number) -> Number:
    """The Gaussian error linear unit, x times `ndtr` of x."""
    return x * ndtr(x)


@inlined
def sigmoid(x: Number) -> Number:
    """1 / (1 + e^-x)."""
    return ONE / (ONE + exp(-x))


@inlined
def tanh(x: Number) -> Number:
    """The hyperbolic tangent, to an absolute error of float32."""
    return ONE - TWO / (ONE + exp(x + x))


_S3, _S5, _S7 = map(_f, (1.66667160211e-1, 8.33028376239e-3, 2.03721912945e-4))
_A3, _A5, _A7, _A9 = map(_f, (-1.6666288134e-1, 7.4847586088e-2, -4.2699340972e-2, 2.0122003309e-2))


@inlined
def sinh(x: Number) -> Number:
    """The hyperbolic sine of a number from 0 up."""
    s = x * x
    up = exp(x)
    return ((_S7 * s + _S5) * s + _S3) * s * x + x if x < ONE else HALF * (up - ONE / up)


@inlined
def asinh(x: Number) -> Number:
    """The inverse hyperbolic sine of a number from 0 up."""
    s = min(x * x, ONE)
    small = (((_A9 * s + _A7) * s + _A5) * s + _A3) * s * x + x
    return small if x < HALF else log(x + np.sqrt(x * x + ONE))


_T1, _T3, _T5, _T7, _T9, _T11 = map(_f, [(-1) ** (k // 2) * math.pi**k / math.factorial(k) for k in range(1, 12, 2)])


@inlined
def _half_turn(x: Number) -> Number:
    """sin(pi x) from -1/2 to 1/2."""
    s = x * x
    return (((((_T11 * s + _T9) * s + _T7) * s + _T5) * s + _T3) * s + _T1) * x


@inlined
def sin_pi(x: Number) -> Number:
    """sin(pi x)."""
    x = x - TWO * np.floor(x * HALF + HALF)
    folded = ONE - x if x > HALF else x
    return _half_turn(-ONE - x if x < -HALF else folded)


@inlined
def cos_pi(x: Number) -> Number:
    """cos(pi x)."""
    x = x - TWO * np.floor(x * HALF + HALF)
    return _half_turn(HALF - abs(x))


_P3, _P5, _P7, _P9 = map(_f, (-3.33329491539e-1, 1.99777106478e-1, -1.38776856032e-1, 8.05374449538e-2))
_EIGHTH, _THREE_EIGHTHS, _HALF_PI, _QUARTER_PI = map(
    _f, (math.tan(math.pi / 8), math.tan(3 * math.pi / 8), math.pi / 2, math.pi / 4)
)


@inlined
def atan(x: Number) -> Number:
    """The inverse tangent."""
    a = abs(x)
    large, middle = a > _THREE_EIGHTHS, a > _EIGHTH
    t = -ONE / max(a, _EIGHTH) if large else ((a - ONE) / (a + ONE) if middle else a)
    start = _HALF_PI if large else (_QUARTER_PI if middle else ZERO)
    s = t * t
    y = start + ((((_P9 * s + _P7) * s + _P5) * s + _P3) * s * t + t)
    return -y if x < ZERO else y


@inlined
def from_normal(h: Number, knots: Array, edge: Number) -> Number:
    """`layer_features.Gaussianise.inverse` of one number."""
    steps = knots.shape[0] - 1
    outer = max(knots.shape[0] // 6, 1)
    step = TWO * edge / _f(steps)
    at = (h + edge) / step
    k = min(max(int(at), 0), steps - 1)
    inner = knots[k] + (at - _f(k)) * (knots[k + 1] - knots[k])
    low = (knots[outer] - knots[0]) / _f(outer)
    high = (knots[steps] - knots[steps - outer]) / _f(outer)
    outside = knots[0] + low * at if at < ZERO else knots[steps] + high * (at - _f(steps))
    return outside if at < ZERO or at > _f(steps) else inner


class Perceptron(NamedTuple):
    """Weights of a `mixture.perceptron` of K maps to H numbers, whose input is a part of each row and a part that rows share.

    Args:
        own: of the first map, (inputs of a row, H).
        shared: of the first map, (inputs that rows share, H).
        weights: of the others, (K - 1, H, H).
        biases: (K, H).
    """

    own: Array
    shared: Array
    weights: Array
    biases: Array


_ONE_THREAD = 1 << 18
"""Products of matrices with more multiplications are shared among threads by OpenBLAS."""


@compiled
def product(x: Array, weight: Array, out: Array) -> None:
    """Rows (N, K) @ weight (K, M) into `out` (N, M)."""
    rows = max(_ONE_THREAD // (weight.shape[0] * weight.shape[1]), 1)
    for start in range(0, x.shape[0], rows):
        np.dot(x[start : start + rows], weight, out[start : start + rows])


@compiled
def affine(x: Array, weight: Array, bias: Array) -> Array:
    """Rows (N, K) @ weight (K, M) + bias (M,)."""
    out = np.empty((x.shape[0], weight.shape[1]), np.float32)
    product(x, weight, out)
    for i in range(x.shape[0]):
        for j in range(weight.shape[1]):
            out[i, j] += bias[j]
    return out


@compiled
def affine_row(x: Array, weight: Array, bias: Array, out: Array) -> None:
    """One row of `affine`, without the calls of a library."""
    width, inputs = weight.shape[1], x.shape[0]
    for j in range(width):
        out[j] = bias[j]
    last = inputs - inputs % 4
    for k in range(0, last, 4):
        for j in range(width):
            out[j] += (x[k] * weight[k, j] + x[k + 1] * weight[k + 1, j]) + (
                x[k + 2] * weight[k + 2, j] + x[k + 3] * weight[k + 3, j]
            )
    for k in range(last, inputs):
        for j in range(width):
            out[j] += x[k] * weight[k, j]


@compiled
def gelu_all(x: Array) -> None:
    """In place."""
    for i in range(x.shape[0]):
        for j in range(x.shape[1]):
            x[i, j] = gelu(x[i, j])


@compiled
def perceptron(own: Array, shared: Array, net: Perceptron) -> Array:
    """Rows (N, own inputs) and what they share (inputs,) through a network: (N, H)."""
    bias = np.empty(net.biases.shape[1], np.float32)
    affine_row(shared, net.shared, net.biases[0], bias)
    h = affine(own, net.own, bias)
    gelu_all(h)
    for k in range(net.weights.shape[0]):
        h = affine(h, net.weights[k], net.biases[k + 1])
        gelu_all(h)
    return h

"""One observable of many showers, compared under many resamplings at once.

A resample is a vector of multiplicities, how often each shower counts; showers, never cells, are
resampled, since the cells of one shower are not independent.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from anycalo.evaluate.checks import MIN_SHOWERS
from anycalo.evaluate.distances import jensen_shannon, separation_power, signed_w1
from anycalo.evaluate.observables import Observable
from anycalo.geometry import Detector

BINS = 50
"""Bins between the 0.1% and 99.9% quantiles of the truth sample, where an observable has no fixed edges."""


class Pool(Protocol):
    """N showers of one observable with M members (one unless a family), to be divided into two samples.

    Multiplicities a and b are of shape (R, N), at least 0; members that have no distance (constant in
    the truth sample, or undefined in a whole sample) give not a number.
    """

    def w1(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Wasserstein-1 distances over the truth sample's standard deviation, shape (R, M)."""

    def divergences(self, a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Jensen-Shannon divergences and separation powers, each of shape (R, M)."""


class Ruler:
    """Scale and bins of an observable, both from the truth sample alone so that no other sample moves them.

    Args:
        observable: what is compared.
        detector: where the showers happened.
        truth: values of the truth sample, as `Observable.measure` gives them.
    """

    def __init__(self, observable: Observable, detector: Detector, truth: np.ndarray) -> None:
        self.observable = observable
        edges = None if observable.edges is None else observable.edges(detector)
        if observable.coordinate is not None and edges is not None:
            self.coordinate = observable.coordinate(detector)
            self.bins = [edges]
            self.scale = np.array([_weighted_std(self.coordinate, truth.sum(axis=0, dtype=np.float64))])
            self.edges = edges
        else:
            columns = _columns(truth)
            fixed = edges if observable.kind == "scalar" else None
            self.bins = [range_edges(column) if fixed is None else fixed for column in columns.T]
            self.scale = np.array([_spread(column[np.isfinite(column)]) for column in columns.T])
            self.edges = self.bins[0] if edges is None else edges
        # A spread at the level of rounding is none.
        self.scale = np.where(self.scale > 1e-12, self.scale, np.nan)

    def usable(self, fast: np.ndarray) -> bool:
        """Whether the truth sample gives a scale and at least `MIN_SHOWERS` fast showers have the observable."""
        return bool(np.isfinite(self.scale).any() and np.isfinite(_columns(fast)).all(axis=1).sum() >= MIN_SHOWERS)

    def pool(self, *samples: np.ndarray) -> Pool:
        """The showers of these samples, one after the other."""
        values = np.concatenate(samples)
        if self.observable.coordinate is not None:
            return _Weights(self, values)
        return _Values(self, _columns(values))

    def density(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The distribution of one sample in `edges`, and its standard error with showers as the sampling unit.

        Of a family: the mean of each member instead.

        Returns:
            Density per unit (the part outside the edges is left out, the norm is the whole) and its error.
        """
        if self.observable.kind == "family":
            n = np.isfinite(values).sum(axis=0)
            return np.nanmean(values, axis=0), np.nanstd(values, axis=0) / np.sqrt(n)
        if self.observable.coordinate is not None:
            binned = _rebin(self.coordinate, values.astype(np.float64), self.edges)
        else:
            binned = _one_hot(values, self.edges).astype(np.float64)
        norm = binned.sum()
        total = binned.sum(axis=0) / norm
        # Error of a ratio of sums over showers, to first order.
        error = np.sqrt(((binned - total * binned.sum(axis=1, keepdims=True)) ** 2).sum(axis=0)) / norm
        width = np.diff(self.edges)
        return total[1:-1] / width, error[1:-1] / width


class _Values:
    """Pool of scalars: M values a shower, shape (N, M)."""

    def __init__(self, ruler: Ruler, values: np.ndarray) -> None:
        self._scale, self._bins = ruler.scale, ruler.bins
        self._defined = np.isfinite(values)
        # Undefined values carry no weight, so any finite stand-in does.
        self._values = np.where(self._defined, values, 0.0)
        self._order = np.argsort(self._values, axis=0, kind="stable")

    def w1(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        out = np.full((len(a), self._values.shape[1]), np.nan)
        for m in np.flatnonzero(np.isfinite(self._scale)):
            order, defined = self._order[:, m], self._defined[:, m]
            everywhere = defined.all()
            p, q = (a, b) if everywhere else (a * defined, b * defined)
            p_sum, q_sum = p.sum(axis=1, keepdims=True), q.sum(axis=1, keepdims=True)
            usable = ((p_sum > 0) & (q_sum > 0))[:, 0]
            difference = p[usable] / p_sum[usable] - q[usable] / q_sum[usable]
            out[usable, m] = signed_w1(self._values[order, m], difference[:, order]) / self._scale[m]
        return out

    def divergences(self, a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        shape = len(a), self._values.shape[1]
        jsd, separation = np.full(shape, np.nan), np.full(shape, np.nan)
        for m in np.flatnonzero(np.isfinite(self._scale)):
            values = np.where(self._defined[:, m], self._values[:, m], np.nan)
            one_hot = _one_hot(values, self._bins[m])
            jsd[:, m], separation[:, m] = _divergences(a @ one_hot, b @ one_hot)
        return jsd, separation


class _Weights:
    """Pool of profiles or spectra: weights over the coordinate, shape (N, K)."""

    def __init__(self, ruler: Ruler, weights: np.ndarray) -> None:
        self._coordinate, self._scale, self._weights = ruler.coordinate, ruler.scale[0], weights
        self._binned = _rebin(ruler.coordinate, weights, ruler.edges)

    def w1(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        p, q = a @ self._weights, b @ self._weights
        with np.errstate(invalid="ignore", divide="ignore"):
            p = p / p.sum(axis=1, keepdims=True, dtype=np.float64)
            q = q / q.sum(axis=1, keepdims=True, dtype=np.float64)
        return np.asarray((signed_w1(self._coordinate, p - q) / self._scale)[:, None])

    def divergences(self, a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        jsd, separation = _divergences(a @ self._binned, b @ self._binned)
        return jsd[:, None], separation[:, None]


def range_edges(values: np.ndarray) -> np.ndarray:
    """Bins for values without fixed edges: `BINS` equal ones between their 0.1% and 99.9% quantiles.

    Whole numbers get bins of a whole width with edges half-way between numbers. What lies outside is
    counted in two more bins, below and above.

    Args:
        values: shape (n,); those that are not finite are ignored.

    Returns:
        Ascending edges, shape (number of bins + 1,).
    """
    values = values[np.isfinite(values)]
    if not len(values):
        return np.array([0.0, 1.0])
    low, high = np.quantile(values, [0.001, 0.999])
    if low == high:
        low, high = values.min(), values.max()
    if low == high:
        return np.array([low - 0.5, high + 0.5])
    if (values == np.round(values)).all():
        low = np.floor(low)
        width = max(1.0, np.ceil((high - low + 1) / BINS))
        return np.asarray(low - 0.5 + width * np.arange(np.ceil((high - low + 1) / width) + 1))
    return np.linspace(low, high, BINS + 1)


def _columns(values: np.ndarray) -> np.ndarray:
    return values[:, None] if values.ndim == 1 else values


def _spread(values: np.ndarray) -> float:
    """Standard deviation; 0 where a random half may well miss all variation: fewer than `MIN_SHOWERS`, or all but one alike."""
    if len(values) < MIN_SHOWERS:
        return 0.0
    ordered = np.sort(values)
    return 0.0 if ordered[0] == ordered[-2] or ordered[1] == ordered[-1] else float(values.std())


def _weighted_std(coordinate: np.ndarray, weights: np.ndarray) -> float:
    mean = np.average(coordinate, weights=weights)
    return float(np.sqrt(np.average((coordinate - mean) ** 2, weights=weights)))


def _bin_index(values: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """0 below the edges, the last above them; the upper edge belongs to its bin."""
    index = np.searchsorted(edges, values, side="right")
    index[values == edges[-1]] = len(edges) - 1
    return index


def _one_hot(values: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Bin of each shower with under- and overflow, shape (N, bins + 2); no bin for undefined values."""
    out = np.zeros((len(values), len(edges) + 1), dtype=np.float32)
    defined = np.flatnonzero(np.isfinite(values))
    out[defined, _bin_index(values[defined], edges)] = 1
    return out


def _rebin(coordinate: np.ndarray, weights: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Weights over a coordinate summed into bins with under- and overflow, shape (N, bins + 2)."""
    sums = np.zeros((len(coordinate), len(edges) + 1), dtype=weights.dtype)
    sums[np.arange(len(coordinate)), _bin_index(coordinate, edges)] = 1
    return np.asarray(weights @ sums)


def _divergences(p: np.ndarray, q: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    with np.errstate(invalid="ignore"):
        return jensen_shannon(p, q), separation_power(p, q)

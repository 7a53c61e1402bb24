"""Layer counts and energies as nearly normal, uncorrelated numbers, and back.

A flow learns best what is left when everything known has been taken out. Each step is invertible and
its constants are buffers:

1. totals apart from shares: T = ln(E_vis / E_incident), M = ln(E_vis / N_total), and for each layer
   a = ln(N + u + c) with a dequantising u in [0, 1), m = ln(E / N) - M;
2. mean and spread of each as polynomials of ln E_incident (those of m also of ln N);
3. a monotone map of each residual to a standard normal;
4. principal axes, each scaled to unit variance.

Points may be asked for in other numbers than they were learnt in, `more_points`, so that as many cells are hit as should be.

Totals are redundant with the layers. So that the density does not collapse onto the surface where they
agree, the common factors of all N and of all E are blurred by `GAUGE` when encoding and divided out when
decoding. Empty layers (N = 0) have no m: it is filled with noise when encoding and ignored when decoding.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn

GAUGE = 0.05
COUNT_OFFSET = 2.0
EDGE = 3.0
"""Where the knots of `Gaussianise` end."""
FARTHEST = 6.0
"""Features farther out are learnt as this, so that one odd energy in a layer that is seldom hit does not outweigh all else."""
RIDGE, LEAST_OF_MEANS = 1e-4, 2.0
"""Of the scales, in terms of the number of showers; and at least, of the energies of points, for some layers are hit at high
energies alone, below which nothing else holds a cubic."""


def energy_basis(log_energy: Tensor, slant: Tensor, degree: int = 3) -> Tensor:
    """Powers of the scaled ln E and the relative path length minus 1 (slant): (B, degree + 2)."""
    return torch.stack([*(log_energy**k for k in range(degree + 1)), slant], dim=1)


class ConditionalScale(nn.Module):
    """Mean and spread of D quantities as linear functions of a basis (B, K): x -> (x - mean) / spread.

    The spread is exp(basis @ coefficients). Fitted by ridge regression, the spread on the logarithms of
    the absolute residuals.
    """

    mean: Tensor
    log_spread: Tensor

    def __init__(self, dimension: int, basis: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(dimension, basis))
        self.register_buffer("log_spread", torch.zeros(dimension, basis))

    def fit(self, column: int, x: Tensor, basis: Tensor, least: float = 0.0) -> None:
        """Fit quantity `column` to values x (B,) on a basis (B, K), with a ridge of at least so much, however few they are."""
        mean = _ridge(basis, x, least)
        residual = (x.double() - basis.double() @ mean).abs()
        residual = residual.clamp_min(1e-3 * float(residual.mean()) + 1e-9)
        log_spread = _ridge(basis, residual.log(), least)
        # E[ln|residual|] lies below ln(rms); set the scale so that the standardised residuals have unit rms.
        shape = (x.double() - basis.double() @ mean) / (basis.double() @ log_spread).exp()
        log_spread[0] += math.log(max(float(shape.square().mean().sqrt()), 1e-6))
        self.mean[column] = mean.float()
        self.log_spread[column] = log_spread.float()

    def parameters_of(self, basis: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and spread: (B, D) each, from a basis (B, K) or one for each quantity (B, D, K)."""
        if basis.ndim == 2:
            return basis @ self.mean.T, (basis @ self.log_spread.T).exp()
        return (basis * self.mean).sum(-1), (basis * self.log_spread).sum(-1).exp()


def _ridge(basis: Tensor, x: Tensor, least: float) -> Tensor:
    a, y = basis.double(), x.double()
    penalty = max(RIDGE * len(y), least) * torch.eye(a.shape[1], dtype=torch.float64)
    penalty[0, 0] = 1e-9
    solution: Tensor = torch.linalg.solve(a.T @ a + penalty, a.T @ y)
    return solution


class Gaussianise(nn.Module):
    """A monotone piecewise linear map of each of D quantities to a standard normal; linear beyond its last knots."""

    knots: Tensor
    levels: Tensor

    def __init__(self, dimension: int, *, knots: int = 49) -> None:
        super().__init__()
        levels = torch.linspace(-EDGE, EDGE, knots)
        self.register_buffer("levels", levels)
        self.register_buffer("knots", levels.repeat(dimension, 1))

    def fit(self, column: int, x: Tensor) -> None:
        """Quantiles of values x (B,), at the probabilities of equally spaced normal levels."""
        probabilities = torch.special.ndtr(self.levels.double()).numpy()
        quantiles = np.quantile(x.double().numpy(), probabilities)
        # Where few showers reach, steps between quantiles are noise: never steeper than a hundredth of the whole.
        step = np.maximum(np.diff(quantiles), 1e-3 * (quantiles[-1] - quantiles[0]) / len(quantiles) + 1e-6)
        centre = len(quantiles) // 2
        rising = np.concatenate([[0.0], np.cumsum(step)])
        self.knots[column] = torch.from_numpy(rising - rising[centre] + quantiles[centre]).float()

    def forward(self, x: Tensor) -> Tensor:
        """(B, D) -> (B, D)."""
        return _interpolate(x, self.knots, self.levels.expand_as(self.knots))

    def inverse(self, h: Tensor) -> Tensor:
        """(B, D) -> (B, D)."""
        return _interpolate(h, self.levels.expand_as(self.knots), self.knots)


def _interpolate(x: Tensor, xs: Tensor, ys: Tensor) -> Tensor:
    """Piecewise linear ys(xs) at x, column by column: (B, D), (D, K), (D, K) -> (B, D).

    Beyond the ends the line goes on with the mean slope of the outer sixth of the knots.
    """
    columns = x.T.contiguous()
    k = torch.searchsorted(xs.contiguous(), columns).clamp(1, xs.shape[1] - 1)
    x0, x1, y0, y1 = xs.gather(1, k - 1), xs.gather(1, k), ys.gather(1, k - 1), ys.gather(1, k)
    slope = (y1 - y0) / (x1 - x0)
    out = y0 + slope * (columns - x0)
    wide = max(xs.shape[1] // 6, 1)
    low = (ys[:, wide] - ys[:, 0]) / (xs[:, wide] - xs[:, 0])
    high = (ys[:, -1] - ys[:, -1 - wide]) / (xs[:, -1] - xs[:, -1 - wide])
    out = torch.where(columns < xs[:, :1], ys[:, :1] + low[:, None] * (columns - xs[:, :1]), out)
    out = torch.where(columns > xs[:, -1:], ys[:, -1:] + high[:, None] * (columns - xs[:, -1:]), out)
    return out.T


class LayerFeatures(nn.Module):
    """Encodes N (B, L), E (B, L) and extra numbers (B, X) a shower into D = 2 + 2 L + X numbers, and back.

    Args:
        layers: L.
        extras: X, numbers a shower that are only standardised (lateral moments).
    """

    rotation: Tensor
    unrotation: Tensor
    largest: Tensor
    more_points: Tensor

    def __init__(self, layers: int, extras: int) -> None:
        super().__init__()
        self.layers, self.extras = layers, extras
        self.dimension = 2 + 2 * layers + extras
        self.noise_features = 2 * layers + 2
        basis = energy_basis(torch.zeros(1), torch.zeros(1)).shape[1]
        self.plain = ConditionalScale(2 + layers + extras, basis)
        self.means = ConditionalScale(layers, basis + 2)
        self.shape = Gaussianise(self.dimension)
        self.register_buffer("rotation", torch.eye(self.dimension))
        self.register_buffer("unrotation", torch.eye(self.dimension))
        self.register_buffer("largest", torch.full((layers,), math.inf))
        self.register_buffer("more_points", torch.zeros(2))

    # Order of the D columns: T, M, a (L), extras (X), m (L).

    def _raw(self, n: Tensor, e: Tensor, incident_mev: Tensor, extras: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """The plain columns (B, 2 + L + X) and m (B, L); m is meaningless where n is 0."""
        L = self.layers
        visible, total = e.sum(1), n.sum(1)
        T, M = (visible / incident_mev).log(), (visible / total).log()
        u = torch.special.ndtr(noise[:, :L])
        a = ((n + u) * (GAUGE * noise[:, -2, None]).exp() + COUNT_OFFSET).log()
        m = (e / n.clamp_min(1)).clamp_min(1e-12).log() - M[:, None] + GAUGE * noise[:, -1, None]
        return torch.cat([torch.stack([T, M], dim=1), a, extras], dim=1), m

    def _mean_basis(self, basis: Tensor, n: Tensor) -> Tensor:
        """The basis of m: also ln(1 + N) and its square, (B, L, K + 2)."""
        log_n = (1 + n).log() / 3
        shared = basis[:, None, :].expand(-1, self.layers, -1)
        return torch.cat([shared, log_n[..., None], (log_n**2)[..., None]], dim=-1)

    @torch.no_grad()
    def fit(self, n: Tensor, e: Tensor, incident_mev: Tensor, basis: Tensor, extras: Tensor, noise: Tensor) -> None:
        """Set every constant from training showers; arguments as for `encode`."""
        self.more_points.zero_()
        plain, m = self._raw(n, e, incident_mev, extras, noise)
        for column in range(plain.shape[1]):
            self.plain.fit(column, plain[:, column], basis)
        mean_basis = self._mean_basis(basis, n)
        for layer in range(self.layers):
            seen = n[:, layer] > 0
            if int(seen.sum()) > 50:
                self.means.fit(layer, m[seen, layer], mean_basis[seen, layer], LEAST_OF_MEANS)
        residuals, filled = self._residuals(n, e, incident_mev, basis, extras, noise)
        for column in range(self.dimension):
            real = residuals[~filled[:, column], column]
            if len(real) > 50:
                self.shape.fit(column, real)
        h = self._shaped(residuals, filled, noise)
        covariance = torch.cov(h.double().T) + 1e-4 * torch.eye(self.dimension, dtype=torch.float64)
        values, vectors = torch.linalg.eigh(covariance)
        self.rotation.copy_(vectors / values.sqrt())
        self.unrotation.copy_((vectors * values.sqrt()).T)
        self.largest.copy_(n.max(dim=0).values)

    def _residuals(
        self, n: Tensor, e: Tensor, incident_mev: Tensor, basis: Tensor, extras: Tensor, noise: Tensor
    ) -> tuple[Tensor, Tensor]:
        plain, m = self._raw(n, e, incident_mev, extras, noise)
        mean, spread = self.plain.parameters_of(basis)
        mean_m, spread_m = self.means.parameters_of(self._mean_basis(basis, n))
        residuals = torch.cat([(plain - mean) / spread, (m - mean_m) / spread_m], dim=1)
        filled = torch.zeros_like(residuals, dtype=torch.bool)
        filled[:, -self.layers :] = n == 0
        return residuals, filled

    def _shaped(self, residuals: Tensor, filled: Tensor, noise: Tensor) -> Tensor:
        h = self.shape(residuals)
        filling = torch.zeros_like(h)
        filling[:, -self.layers :] = noise[:, self.layers : 2 * self.layers]
        return torch.where(filled, filling, h.clamp(-FARTHEST, FARTHEST))

    def log_more(self, basis: Tensor) -> Tensor:
        """Logarithm of the factor by which showers get more points than learnt, (B,), given `energy_basis` (B, K)."""
        return basis[:, : len(self.more_points)] @ self.more_points

    def encode(self, n: Tensor, e: Tensor, incident_mev: Tensor, basis: Tensor, extras: Tensor, noise: Tensor) -> Tensor:
        """Features z (B, D) of showers, which `decode` takes back but for what lay beyond `FARTHEST`.

        Args:
            n: points of each layer, (B, L), at least one a shower.
            e: visible energy of each layer in MeV, (B, L).
            incident_mev: (B,).
            basis: `energy_basis`, (B, K).
            extras: (B, X).
            noise: standard normal numbers, (B, 2 L + 2): dequantisation, filling, gauge.
        """
        residuals, filled = self._residuals(n, e, incident_mev, basis, extras, noise)
        return self._shaped(residuals, filled, noise) @ self.rotation

    def decode(self, z: Tensor, incident_mev: Tensor, basis: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Showers of features z (B, D).

        Returns:
            n (B, L), whole numbers; e (B, L) in MeV, 0 where n is 0; extras (B, X); and whether the shower is
            physical (B,): finite, at least one point, no more visible than incident energy, no layer with
            more than twice the points of any training shower.
        """
        L = self.layers
        residuals = self.shape.inverse(z @ self.unrotation)
        mean, spread = self.plain.parameters_of(basis)
        plain = residuals[:, : 2 + L + self.extras] * spread + mean
        T, M, a, extras = plain[:, 0], plain[:, 1] - self.log_more(basis), plain[:, 2 : 2 + L], plain[:, 2 + L :]
        visible = T.exp() * incident_mev
        total = visible / M.exp()
        blurred = (a.exp() - COUNT_OFFSET).clamp_min(0)
        # Sum of N + u is the total and half a point a layer.
        n = (blurred * ((total + L / 2) / blurred.sum(1).clamp_min(1e-6))[:, None]).floor()
        mean_m, spread_m = self.means.parameters_of(self._mean_basis(basis, n))
        share = n * (residuals[:, -L:] * spread_m + mean_m).clamp(-20, 20).exp()
        e = share * (visible / share.sum(1).clamp_min(1e-12))[:, None]
        finite = torch.isfinite(e).all(1) & torch.isfinite(n).all(1) & torch.isfinite(extras).all(1)
        physical = finite & (n.sum(1) >= 1) & (T <= 0) & (n <= 2 * self.largest + 10).all(1)
        return n, e, extras, physical

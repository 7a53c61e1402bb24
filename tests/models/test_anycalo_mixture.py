"""Gaussian mixtures: densities that integrate to 1, an explicit oracle, and draws that follow them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from anycalo.models.mixture import GaussianMixture

DRAWS = 20_000


def wide(features: int, dimension: int, components: int, seed: int = 1) -> GaussianMixture:
    """A mixture whose parameters differ strongly with the features, in float64."""
    torch.manual_seed(seed)
    mixture = GaussianMixture(features, dimension, components).double()
    with torch.no_grad():
        mixture.linear.weight.mul_(8.0)
    return mixture.requires_grad_(False)


def normal(*shape: int, seed: int = 2) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_densities_integrate_to_one() -> None:
    h = normal(5, 3)
    grid = torch.linspace(-40, 40, 8001, dtype=torch.float64)
    one = wide(3, 1, 4).log_prob(h[:, None].expand(5, len(grid), 3), grid[None, :, None].expand(5, -1, -1)).exp()
    torch.testing.assert_close(one.sum(1) * 0.01, torch.ones(5, dtype=torch.float64), rtol=0, atol=2e-3)
    side = torch.linspace(-15, 15, 301, dtype=torch.float64)
    plane = torch.cartesian_prod(side, side)
    two = wide(3, 2, 3).log_prob(h[:1].expand(len(plane), 3), plane).exp()
    assert float(two.sum()) * 0.1**2 == pytest.approx(1, abs=2e-3)


def test_density_is_that_of_an_explicit_mixture() -> None:
    mixture, h, x = wide(4, 3, 5), normal(6, 4), normal(6, 3, seed=3)
    weight, mean, diagonal, below = mixture.parameters_of(h)
    for b in range(6):
        total = first = 0.0
        for k in range(5):
            root = np.diag(diagonal[b, k].exp().numpy())
            root[np.tril_indices(3, -1)] = below[b, k].numpy()
            covariance = np.linalg.inv(root.T @ root)
            total += float(weight[b, k].exp()) * stats.multivariate_normal(mean[b, k].numpy(), covariance).pdf(x[b].numpy())
            spread = np.sqrt(covariance[0, 0])
            first += float(weight[b, k].exp()) * stats.norm(mean[b, k, 0].numpy(), spread).pdf(x[b, 0].numpy())
        assert float(mixture.log_prob(h[b], x[b])) == pytest.approx(np.log(total), abs=1e-8)
        assert float(mixture.log_probs(h[b], x[b])[1]) == pytest.approx(np.log(first), abs=1e-8)


def test_draws_of_one_component_have_its_moments() -> None:
    """Mean and covariance within five standard errors each: false alarm below 1e-5."""
    mixture, h = wide(2, 3, 1), normal(1, 2)
    x = mixture.sample(h.expand(DRAWS, 2), normal(DRAWS, 4, seed=5)).numpy()
    _, mean, diagonal, below = (t[0, 0].numpy() if t.ndim == 3 else t for t in mixture.parameters_of(h))
    root = np.diag(np.exp(diagonal))
    root[np.tril_indices(3, -1)] = below
    covariance = np.linalg.inv(root.T @ root)
    std = np.sqrt(np.diag(covariance))
    assert (np.abs(x.mean(0) - mean) < 5 * std / np.sqrt(DRAWS)).all()
    assert (np.abs(np.cov(x.T) - covariance) < 5 * np.sqrt(2 / DRAWS) * np.outer(std, std)).all()
    assert np.abs(covariance / np.outer(std, std) - np.eye(3)).max() > 0.1


def levels(mixture: GaussianMixture, h: torch.Tensor, x: torch.Tensor) -> np.ndarray:
    """The cumulative distribution of a one-dimensional mixture at x (B,)."""
    weight, mean, diagonal, _ = mixture.parameters_of(h)
    z = (x[:, None] - mean[..., 0]) * diagonal[..., 0].exp()
    return np.asarray((weight.exp() * torch.special.ndtr(z)).sum(-1))


def test_draws_follow_the_density() -> None:
    """Kolmogorov-Smirnov on levels that are uniform if draws follow the density; false alarm 1e-4, seed fixed.

    The twin, widths 10 % off, is rejected.
    """
    mixture, h = wide(3, 1, 4), normal(DRAWS, 3)
    x = mixture.sample(h, normal(DRAWS, 2, seed=7))[:, 0]
    assert stats.kstest(levels(mixture, h, x), "uniform").pvalue > 1e-4
    with torch.no_grad():
        mixture.linear.bias[8:12] += 0.1
    assert stats.kstest(levels(mixture, h, x), "uniform").pvalue < 1e-4


def test_widths_stay_bounded() -> None:
    mixture = wide(2, 2, 3)
    _, _, diagonal, _ = mixture.parameters_of(1e6 * normal(10, 2))
    assert float(diagonal.abs().max()) <= 4.0
    assert torch.isfinite(mixture.log_prob(1e6 * normal(10, 2), normal(10, 2))).all()


@given(seed=st.integers(0, 10_000), finest=st.floats(1e-4, 3.0))
def test_probabilities_of_intervals_are_those_of_the_density(seed: int, finest: float) -> None:
    """Intervals that tile the line have probabilities that add up to one, each that of scipy's distribution functions."""
    torch.manual_seed(seed)
    mixture, h = GaussianMixture(4, 1, 3), torch.randn(2, 4)
    with torch.no_grad():
        mixture.linear.weight.mul_(20)
    edges = torch.cat([torch.linspace(-6, 6, 25), torch.arange(1, 9) * finest / 8 + 6, torch.tensor([1e4])])
    below = torch.cat([torch.tensor([-torch.inf]), edges[:-1]])
    found = mixture.log_interval(h[:, None].expand(-1, len(edges), -1), below.expand(2, -1), edges.expand(2, -1)).exp()
    torch.testing.assert_close(found.sum(1), torch.ones(2), rtol=2e-4, atol=0)
    weight, mean, diagonal, _ = (t.double().detach() for t in mixture.parameters_of(h))
    cdf = stats.norm.cdf(edges.double()[:, None, None].numpy(), mean[..., 0], (-diagonal[..., 0]).exp())
    expected = np.diff((weight.exp().numpy() * cdf).sum(-1), axis=0, prepend=0.0).T
    np.testing.assert_allclose(found.detach(), expected, rtol=2e-3, atol=2e-5)


def test_an_interval_far_from_everything_still_teaches() -> None:
    torch.manual_seed(1)
    mixture, h = GaussianMixture(4, 1, 3), torch.randn(6, 4)
    below = torch.tensor([-torch.inf, -torch.inf, -60.0, 40.0, 3.0, 3.0])
    above = torch.tensor([-60.0, 60.0, -59.0, 41.0, 3.0 + 1e-6, 4.0])
    found = mixture.log_interval(h, below, above)
    assert torch.isfinite(found).all()
    assert (found[[0, 2, 3]] < -100).all()
    found.sum().backward()
    gradient = mixture.linear.weight.grad
    assert gradient is not None
    assert torch.isfinite(gradient).all()
    assert gradient.any()

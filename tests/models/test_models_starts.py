"""The learned start: densities, draws, and a coupling that leaves the target as it is."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, distributions

from anycalo.errors import ModelError
from anycalo.models import solvers
from anycalo.models.starts import ConditionalMixture, StartConfig


def shaken(features: int = 3, components: int = 4) -> ConditionalMixture:
    torch.manual_seed(0)
    start = ConditionalMixture(features, 2, StartConfig(components=components, hidden=(16,)), spread=0.5, seed=1)
    with torch.no_grad():
        for p in start.parameters():
            p.add_(0.5 * torch.randn(p.shape))
    return start


def reference(start: ConditionalMixture, condition: Tensor) -> distributions.Distribution:
    log_weight, mean, factor = start.parts(condition)
    parts = distributions.MultivariateNormal(mean, scale_tril=factor, validate_args=False)
    return distributions.MixtureSameFamily(distributions.Categorical(logits=log_weight), parts, validate_args=False)


def test_density_is_that_of_a_mixture() -> None:
    start = shaken()
    x, condition = torch.randn(50, 3), torch.randn(50, 2)
    expected = reference(start, condition).log_prob(x)
    torch.testing.assert_close(start.log_density(x, condition), expected, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(start.loss(x, condition), -expected.mean() / 3, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(start.responsibilities(x, condition).sum(1), torch.ones(50))


def test_draws_have_its_mean_and_covariance() -> None:
    """Five standard errors of 100,000 draws; the twin, without correlations, fails."""
    start, n = shaken(), 100_000
    condition = torch.tensor([[0.3, -0.7]])
    row = torch.zeros(n, dtype=torch.long)
    drawn = start.sample(condition, torch.randn(n, 4, generator=torch.Generator().manual_seed(2)), row).detach()
    law = reference(start, condition)
    spread = law.variance.detach()[0].sqrt()
    assert float(((drawn.mean(0) - law.mean.detach()[0]) / spread).abs().max()) < 5 / math.sqrt(n)
    weight, mean, factor = (t.detach()[0] for t in start.parts(condition))
    second = (weight.exp()[:, None, None] * (factor @ factor.mT + mean[:, :, None] * mean[:, None, :])).sum(0)
    centre = (weight.exp()[:, None] * mean).sum(0)
    expected = second - centre[:, None] * centre[None]
    unit = spread[:, None] * spread[None]
    # Mixtures have heavier tails than a Gaussian: twice its standard error.
    assert float(((torch.cov(drawn.T) - expected) / unit).abs().max()) < 10 / math.sqrt(n)
    assert float(((torch.diag(drawn.var(0)) - expected) / unit).abs().max()) > 10 / math.sqrt(n)


def test_rows_choose_the_condition() -> None:
    start, normal = shaken(), torch.randn(6, 4)
    table, row = torch.randn(3, 2), torch.tensor([0, 0, 1, 2, 2, 2])
    torch.testing.assert_close(start.sample(table, normal, row), start.sample(table[row], normal), atol=1e-5, rtol=1e-5)


def test_maximum_likelihood_finds_two_clumps() -> None:
    generator = torch.Generator().manual_seed(3)
    start = ConditionalMixture(1, 1, StartConfig(components=2, hidden=(8,)), spread=1.0)
    optimiser = torch.optim.Adam(start.parameters(), lr=3e-2)
    for _ in range(150):
        condition = torch.rand(400, 1, generator=generator)
        side = (torch.rand(400, 1, generator=generator) < condition).float() * 2 - 1
        x = 2 * side + 0.3 * torch.randn(400, 1, generator=generator)
        optimiser.zero_grad()
        start.loss(x, condition).backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    for wanted in (0.2, 0.8):
        weight, mean, factor = (t.detach()[0] for t in start.parts(torch.tensor([[wanted]])))
        upper = int(mean[:, 0].argmax())
        assert float(weight.exp()[upper]) == pytest.approx(wanted, abs=0.1)
        assert float(mean[upper]) == pytest.approx(2, abs=0.15)
        assert float(factor[upper]) == pytest.approx(0.3, abs=0.1)


def fixed(weights: Tensor, means: Tensor, scales: Tensor) -> ConditionalMixture:
    """A mixture in one dimension that does not depend on its condition."""
    start = ConditionalMixture(1, 1, StartConfig(components=len(weights), hidden=(2,)), spread=1.0).double()
    raw = torch.stack([weights.log(), means, 4 * torch.atanh(scales.log() / 4)], dim=1)
    with torch.no_grad():
        for p in start.parameters():
            p.zero_()
        start.network[-1].bias.copy_(raw.flatten())  # type: ignore[union-attr, operator]
    return start


MEANS, SCALES = torch.tensor([-1.0, 0.8], dtype=torch.float64), torch.tensor([0.5, 0.9], dtype=torch.float64)


def clumps(n: int, seed: int) -> Tensor:
    """Data that the mixture above does not fit: 70 % near -2, 30 % near 1.5."""
    generator = torch.Generator().manual_seed(seed)
    upper = (torch.rand(n, 1, generator=generator, dtype=torch.float64) < 0.3).double()
    return -2 + 3.5 * upper + (0.4 + 0.3 * upper) * torch.randn(n, 1, generator=generator, dtype=torch.float64)


def refitted(weights: Tensor, x: Tensor) -> Tensor:
    """Weights at the stationary point of the likelihood, means and scales as they are: w = E[p(k | x)], iterated."""
    condition = torch.zeros(len(x), 1, dtype=torch.float64)
    for _ in range(100):
        weights = fixed(weights, MEANS, SCALES).responsibilities(x, condition).mean(0).detach()
    return weights


def test_coupled_starts_are_distributed_as_drawn_ones() -> None:
    """Where the weights are stationary, however badly the rest fits: Kolmogorov and Smirnov at a false alarm rate of 1e-6.

    The twin draws with weights that are not stationary.
    """
    from scipy.stats import ks_2samp

    n = 10_000
    x, condition = clumps(n, 4), torch.zeros(n, 1, dtype=torch.float64)
    weights = torch.tensor([0.5, 0.5], dtype=torch.float64)
    generator = torch.Generator().manual_seed(5)
    normal = torch.randn(2, n, 2, generator=generator, dtype=torch.float64)
    for chosen, alike in ((refitted(weights, x), True), (weights, False)):
        start = fixed(chosen, MEANS, SCALES)
        coupled, drawn = start.coupled(x, condition, normal[0]), start.sample(condition, normal[1]).detach()
        assert (ks_2samp(coupled[:, 0].numpy(), drawn[:, 0].numpy()).pvalue > 1e-6) == alike
    # And the coupling brings start and datum together: independent, they would be 2.4 apart (root mean square).
    start = fixed(refitted(weights, x), MEANS, SCALES)
    near = (start.coupled(x, condition, normal[0]) - x).square().mean().sqrt()
    far = (start.sample(condition, normal[1]).detach() - x).square().mean().sqrt()
    assert float(near) < 0.8 * float(far)


def test_the_flow_of_the_coupling_makes_the_data() -> None:
    """The exact velocity of the coupled law, solved from drawn starts, ends in the data; from a standard normal it does not.

    Data are two Gaussians and so are the starts, component by component independent: the velocity E[e - x | z_t] is a mean over
    the components of Gaussian velocities. Kolmogorov and Smirnov, false alarm rate 1e-6.
    """
    from scipy.stats import ks_2samp

    w = torch.tensor([0.7, 0.3], dtype=torch.float64)
    mx, sx = torch.tensor([-2.0, 1.5], dtype=torch.float64), torch.tensor([0.4, 0.7], dtype=torch.float64)

    def velocity(z: Tensor, t: Tensor) -> Tensor:
        mean, variance = (1 - t) * mx + t * MEANS, (1 - t) ** 2 * sx**2 + t**2 * SCALES**2
        share = (w.log() - 0.5 * (z[:, None] - mean) ** 2 / variance - 0.5 * variance.log()).softmax(1)
        own = MEANS - mx + (t * SCALES**2 - (1 - t) * sx**2) / variance * (z[:, None] - mean)
        return (share * own).sum(1)

    n = 20_000
    x = clumps(n, 6)[:, 0]
    normal = torch.randn(n, 2, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
    start = fixed(w, MEANS, SCALES).sample(torch.zeros(n, 1, dtype=torch.float64), normal)[:, 0].detach()
    times = torch.linspace(1, 0, 101, dtype=torch.float64)
    made = solvers.heun(velocity, start, times)
    assert ks_2samp(made.numpy(), x.numpy()).pvalue > 1e-6
    assert ks_2samp(solvers.heun(velocity, normal[:, 0], times).numpy(), x.numpy()).pvalue < 1e-6


@pytest.mark.parametrize("wrong", [{"components": 0}, {"hidden": ()}, {"hidden": (0,)}])
def test_wrong_configuration_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ModelError, match="expected"):
        StartConfig(**wrong)  # type: ignore[arg-type]

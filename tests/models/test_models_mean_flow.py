"""MeanFlow against the Gaussian, for which the mean velocity is known, and the network around it."""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch
from torch import Tensor

from anycalo.errors import ModelError
from anycalo.models.edm import EDM, Denoiser
from anycalo.models.mean_flow import GAP_FEATURES, TIME_SCALE, AverageVelocity, MeanFlowConfig, average_velocity_loss
from anycalo.models.objectives import flow_matching_loss, mean_flow_loss
from anycalo.models.paths import linear_point, velocity_from_denoiser
from anycalo.models.pointwise import Pointwise, PointwiseConfig, Rows
from anycalo.models.samplers import mean_flow
from anycalo.models.starts import StartConfig

DATA, DATA_CENTRE, START, START_CENTRE = 0.4, 0.6, 1.3, -0.5


def state(t: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of z_t from N(DATA_CENTRE, DATA^2) to N(START_CENTRE, START^2)."""
    return (1 - t) * DATA_CENTRE + t * START_CENTRE, ((1 - t) ** 2 * DATA**2 + t**2 * START**2).sqrt()


def velocity(z: Tensor, t: Tensor) -> Tensor:
    t = t.reshape(-1, *(1,) * (z.ndim - 1))
    mean, spread = state(t)
    return START_CENTRE - DATA_CENTRE + (t * START**2 - (1 - t) * DATA**2) / spread**2 * (z - mean)


def average(z: Tensor, r: Tensor, t: Tensor) -> Tensor:
    """(z_t - z_r) / (t - r) along the flow; the velocity where r = t."""
    gap = (t - r).reshape(-1, *(1,) * (z.ndim - 1))
    (mean_t, spread_t), (mean_r, spread_r) = (state(v.reshape(gap.shape)) for v in (t, r))
    moved = mean_r + spread_r / spread_t * (z - mean_t)
    same = gap.abs() < 1e-12
    # The second `where` keeps the division by 0 out of the derivative.
    return torch.where(same, velocity(z, t), (z - moved) / torch.where(same, torch.ones_like(gap), gap))


def batch(n: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x, e = torch.randn(2, n, 2, generator=generator, dtype=torch.float64)
    times = torch.rand(n, 2, generator=generator, dtype=torch.float64)
    x, e = DATA_CENTRE + DATA * x, START_CENTRE + START * e
    return x, e, times.min(1).values, times.max(1).values


def test_the_identity_holds_for_the_gaussian() -> None:
    """With the flow's own velocity the loss of the exact u is 0; of u scaled by 1.01, or of the velocity, it is not."""
    x, e, r, t = batch(500)
    z = linear_point(x, e, t)
    v = velocity(z, t)
    assert float(mean_flow_loss(average, z, v, r, t)) < 1e-20
    assert float(mean_flow_loss(lambda *given: 1.01 * average(*given), z, v, r, t)) > 1e-5
    assert float(mean_flow_loss(lambda z, r, t: velocity(z, t), z, v, r, t)) > 1e-3


@pytest.mark.parametrize("improved", [False, True])
def test_the_exact_average_velocity_is_stationary(improved: bool) -> None:
    """With the noisy velocity e - x the expected pull on the exact u is 0: along z, a constant, t and r.

    Five standard errors of 200,000 examples; a u that is off by 5 % of z must fail.
    """
    x, e, r, t = batch(200_000, seed=1)
    z, v = linear_point(x, e, t), e - x
    directions = [z, torch.ones_like(z), t[:, None] * z, r[:, None] * z]

    def pulls(error: float) -> list[float]:
        def u(z: Tensor, r: Tensor, t: Tensor) -> Tensor:
            return average(z, r, t) + error * z

        tangent = u(z, t, t) if improved else v
        value, change = torch.func.jvp(u, (z, r, t), (tangent, torch.zeros_like(r), torch.ones_like(t)))
        residual = value - (v - (t - r)[:, None] * change)
        significance = []
        for direction in directions:
            pull = (residual * direction).sum(1)
            significance.append(abs(float(pull.mean() / pull.std())) * math.sqrt(len(pull)))
        return significance

    assert max(pulls(0.0)) < 5
    assert max(pulls(0.05)) > 5


def test_gradient_is_that_of_the_residual() -> None:
    """The target is held fixed: the gradient is 2 (u - target) du, by hand for u = w z (r + t)."""
    x, e, r, t = batch(50, seed=2)
    z, v = linear_point(x, e, t), e - x
    w = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    loss = mean_flow_loss(lambda z, r, t: w * z * (r + t)[:, None], z, v, r, t)
    (found,) = torch.autograd.grad(loss, w)
    shape = z * (r + t)[:, None]
    change = 0.7 * (v * (r + t)[:, None] + z)
    expected = (2 * (0.7 * shape - v + (t - r)[:, None] * change) * shape).mean()
    torch.testing.assert_close(found, expected)


def test_adaptive_weight() -> None:
    x, e, _, t = batch(40, seed=3)
    z, v = linear_point(x, e, t), e - x
    error = (velocity(z, t) - v) ** 2

    def u(z: Tensor, r: Tensor, t: Tensor) -> Tensor:
        return velocity(z, t)

    weighted = mean_flow_loss(u, z, v, t, t, power=1.0, floor=0.01)
    torch.testing.assert_close(weighted, (error / (error.sum(1, keepdim=True) + 0.01)).mean())
    torch.testing.assert_close(mean_flow_loss(u, z, v, t, t), error.mean())


def test_padding_has_no_influence() -> None:
    generator = torch.Generator().manual_seed(4)
    z, v = torch.randn(2, 3, 5, 2, generator=generator)
    r, t = torch.rand(3, generator=generator) / 2, torch.rand(3, generator=generator) / 2 + 0.5
    mask = torch.ones(3, 5, 1)
    mask[1, 3:] = 0

    def u(z: Tensor, r: Tensor, t: Tensor) -> Tensor:
        return torch.sin(z) * (t + r)[:, None, None]

    first = mean_flow_loss(u, z, v, r, t, mask=mask, power=1.0)
    v[1, 3:] = 1e5
    assert float(mean_flow_loss(u, z, v, r, t, mask=mask, power=1.0)) == float(first)
    v[1, 0] = 1e5
    assert float(mean_flow_loss(u, z, v, r, t, mask=mask, power=1.0)) != float(first)


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_sampling_is_exact_in_any_number_of_steps(steps: int) -> None:
    normal = torch.randn(30, 2, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    made = mean_flow(
        lambda z, r, t: average(z, r.expand(len(z)), t.expand(len(z))),
        START_CENTRE + START * normal,
        torch.linspace(1, 0, steps + 1, dtype=torch.float64),
    )
    torch.testing.assert_close(made, DATA_CENTRE + DATA * normal)


def network(more: int, **sizes: float) -> Pointwise:
    torch.manual_seed(6)
    return Pointwise(3, 2 + more, PointwiseConfig(hidden=(16, 16), time_features=32, **sizes))  # type: ignore[arg-type]


def test_a_network_with_a_denoisers_weights_begins_as_its_velocity() -> None:
    """But for how the time is embedded: the difference is a fifth of that to a network of other weights, at most."""
    denoiser = Denoiser(network(0), EDM())
    u = AverageVelocity(network(GAP_FEATURES, time_scale=TIME_SCALE), data_spread=0.5)
    generator = torch.Generator().manual_seed(7)
    z, condition = torch.randn(200, 3, generator=generator), torch.randn(200, 2, generator=generator)
    t = torch.linspace(0.05, 0.95, 200)
    expected = velocity_from_denoiser(lambda x, sigma: denoiser(x, sigma, condition))(z, t)

    def distance(r: Tensor) -> float:
        return float((u(z, r, t, condition) - expected).detach().square().mean().sqrt())

    before = distance(t)
    u.adopt(denoiser.network)  # type: ignore[arg-type]
    assert max(distance(r) for r in (t, 0 * t, t / 2)) < 0.2 * before


def test_rows_of_a_table_are_the_same_as_conditions() -> None:
    u = AverageVelocity(network(GAP_FEATURES), data_spread=0.5, start_spread=0.5)
    z, table, row = torch.randn(9, 3), torch.randn(4, 2), torch.tensor([0, 0, 1, 1, 1, 2, 3, 3, 3])
    for times in ((torch.tensor(0.2), torch.tensor(0.9)), (torch.full((9,), 0.2), torch.full((9,), 0.9))):
        found = u(z, *times, Rows(table, row))
        expected = u(z, torch.full((9,), 0.2), torch.full((9,), 0.9), table[row])
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_best_guess_without_a_network_is_linear_regression() -> None:
    """A silent network leaves E[e - x | z] of data and start with the given spreads."""

    class Silent(torch.nn.Module):
        def forward(self, x: Tensor, time: Tensor, condition: Tensor) -> Tensor:
            return torch.zeros_like(x)

    generator = torch.Generator().manual_seed(8)
    x, e = torch.randn(2, 100_000, 1, generator=generator) * torch.tensor([0.5, 0.8])[:, None, None]
    t = torch.tensor(0.3)
    z = linear_point(x, e, t)
    slope = float((z * (e - x)).mean() / (z**2).mean())
    u = AverageVelocity(Silent(), data_spread=0.5, start_spread=0.8)
    found = float(u(torch.ones(1, 1), t, t, torch.zeros(1, 0)))
    # The slope is known to about 1 / sqrt(100,000) of its scale, 2.5.
    assert found == pytest.approx(slope, abs=5 * 2.5 / math.sqrt(100_000))


@pytest.mark.parametrize("times", ["uniform", "log-normal"])
def test_times(times: str) -> None:
    config = MeanFlowConfig(times=times, different=0.75)
    r, t = config.draw_times(torch.randn(20_000, 3, generator=torch.Generator().manual_seed(9)))
    assert bool((r <= t).all())
    assert float(r.min()) >= 0
    assert float(t.max()) <= 1
    # 5 binomial standard errors.
    assert float((r < t).float().mean()) == pytest.approx(0.75, abs=5 * math.sqrt(0.75 * 0.25 / 20_000))
    # The larger of two uniform numbers is 2/3 on average; of the published log-normal ones, below.
    mean = float(t[r < t].mean())
    assert (mean == pytest.approx(2 / 3, abs=0.01)) == (times == "uniform")


def test_without_different_times_it_is_flow_matching() -> None:
    config = MeanFlowConfig(different=0.0, velocity="conditional")
    draws = torch.randn(20_000, 3, generator=torch.Generator().manual_seed(9))
    r, t = config.draw_times(draws)
    assert torch.equal(r, t)
    # A uniform number; the larger of two, as where times differ, would be 2/3 on average.
    assert float(t.mean()) == pytest.approx(0.5, abs=5 * math.sqrt(1 / 12 / 20_000))
    u = AverageVelocity(network(GAP_FEATURES, time_scale=TIME_SCALE), data_spread=0.5)
    generator = torch.Generator().manual_seed(12)
    x, e = torch.randn(2, 200, 3, generator=generator)
    condition = torch.randn(200, 2, generator=generator)

    def loss(config: MeanFlowConfig) -> Tensor:
        return average_velocity_loss(u, config, x, e, condition, draws[:200], Denoiser(network(0), EDM()))

    expected = flow_matching_loss(lambda z, time: u(z, time, time, condition), x, e, t[:200]).detach()
    torch.testing.assert_close(loss(config).detach(), expected)
    assert float((loss(MeanFlowConfig(velocity="conditional")).detach() - expected).abs()) > 1e-2


@pytest.mark.parametrize("velocity_of", ["predicted", "teacher"])
def test_training_makes_one_step_better(velocity_of: str) -> None:
    """Gaussians of spread 0.2 and 0.7 in one evaluation: the wide one to 40 %, the narrow one within a factor of 3.

    The exact denoiser stands in as teacher. The twin, untrained, makes a hundredth of either.
    """
    spreads = torch.tensor([0.2, 0.7])

    class Exact(torch.nn.Module):
        schedule = EDM()

        def forward(self, x: Tensor, sigma: Tensor, condition: Tensor) -> Tensor:
            return spreads**2 / (spreads**2 + sigma[:, None] ** 2) * x

    torch.manual_seed(10)
    sizes = PointwiseConfig(hidden=(32, 32), time_features=16, time_scale=TIME_SCALE)
    u = AverageVelocity(Pointwise(2, GAP_FEATURES, sizes), data_spread=0.5)
    config = MeanFlowConfig(velocity=velocity_of)
    optimiser = torch.optim.Adam(u.parameters(), lr=4e-3)
    generator = torch.Generator().manual_seed(11)
    empty, zero, one = torch.zeros(1000, 0), torch.zeros(1000), torch.ones(1000)
    normal = torch.randn(1000, 2, generator=generator)

    def made() -> Tensor:
        with torch.no_grad():
            return (normal - u(normal, zero, one, empty)).std(0)

    before = made()
    for _ in range(220):
        x, e = torch.randn(2, 250, 2, generator=generator)
        draws = torch.randn(250, 3, generator=generator)
        optimiser.zero_grad()
        average_velocity_loss(u, config, x * spreads, e, empty[:250], draws, Exact()).backward()  # type: ignore[arg-type]
        optimiser.step()
    narrow, wide = (made() / spreads).tolist()
    assert 1 / 3 < narrow < 3
    assert 0.6 < wide < 1.4
    assert float((before / spreads).max()) < 0.1


@pytest.mark.parametrize(
    "wrong",
    [
        {"different": 1.5},
        {"times": "always"},
        {"velocity": "none"},
        {"time_std": 0.0},
        {"physics_weight": -1.0},
        {"start": StartConfig()},
    ],
)
def test_wrong_configuration_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ModelError, match="expected"):
        partial(MeanFlowConfig, **wrong)()  # type: ignore[arg-type]

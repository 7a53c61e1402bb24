"""Energy scores of a model's own points, made standard normal at every radius; and sums settled on the largest."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from anycalo.errors import ModelError
from anycalo.geometry import Detector
from anycalo.models.anycalo_data import prepare
from anycalo.models.balance import Balance, BalanceConfig
from anycalo.models.balance_kernels import balance
from anycalo.models.drawn import DrawnPoints
from anycalo.models.engine import _per_point
from anycalo.models.point_features import settle, sum_by
from anycalo.models.point_kernels import settle as compiled_settle
from toymodels import small_anycalo
from toyshowers import toy_showers

CONTEXT, LAYERS = 5, 4


@pytest.fixture
def net() -> Balance:
    torch.manual_seed(3)
    net = Balance(CONTEXT, BalanceConfig(hidden=7, features=6, bins=5))
    with torch.no_grad():
        net.head.weight.mul_(20)
    return net.requires_grad_(False)


def test_the_density_integrates_to_one_and_its_scores_come_out_normal(net: Balance) -> None:
    told, radius = torch.tensor([[0.3, -1.0, 0.8, 0.1, 2.0]]), torch.tensor([0.4])
    z = torch.linspace(-8, 8, 8001)
    log_ratio = -net.negative_log_likelihood(told.expand(len(z), -1), radius.expand(len(z)), z)
    share = (log_ratio - 0.5 * z**2).exp().double() * (0.002 / np.sqrt(2 * np.pi))
    assert abs(float(share.sum()) - 1) < 1e-3
    level = np.random.default_rng(4).random(4000)
    score = torch.from_numpy(np.interp(level, share.cumsum(0).numpy(), z.numpy())).float()
    normal = net(net.of_layer(told).expand(len(score), -1), radius.expand(len(score)), score)
    # False alarms: one in a thousand, for numbers that are always the same. Scores as they were are seen.
    assert stats.kstest(normal.numpy(), stats.norm.cdf).pvalue > 1e-3
    assert stats.kstest(score.numpy(), stats.norm.cdf).pvalue < 1e-6


def test_the_compiled_balance_is_the_networks(net: Balance) -> None:
    generator = torch.Generator().manual_seed(5)
    n = np.array([70, 0, 90, 3])
    told = torch.randn(LAYERS, CONTEXT, generator=generator)
    told[:, 3:] = told[0, 3:]  # what all layers are told
    row = torch.arange(LAYERS).repeat_interleave(torch.from_numpy(n))
    radius, score = torch.randn(len(row), generator=generator), 2 * torch.randn(len(row), generator=generator)
    expected = net(net.of_layer(told)[row], radius, score)
    assert (expected - score).abs().max() > 0.1
    found = score.numpy().copy()
    own, shared = np.ascontiguousarray(told[:, :3].numpy()), told[0, 3:].numpy()
    balance(own, shared, n, radius.numpy(), _per_point(net, range(3)), found)
    np.testing.assert_allclose(found, expected, atol=2e-4)


def test_scores_that_hang_on_the_radius_are_learnt() -> None:
    generator = torch.Generator().manual_seed(6)
    radius = torch.randn(20_000, generator=generator)
    score = 0.4 * radius + (0.15 * radius).exp() * torch.randn(len(radius), generator=generator)
    torch.manual_seed(1)
    net, told = Balance(1, BalanceConfig(hidden=4)), torch.zeros(len(radius), 1)
    optimiser = torch.optim.Adam(net.parameters(), lr=0.01)
    for _ in range(800):
        index = torch.randint(len(radius), (2048,), generator=generator)
        loss = net.negative_log_likelihood(told[index], radius[index], score[index]).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    with torch.no_grad():
        normal = net(net.of_layer(told), radius, score)
    for inside, raw in ((radius < -0.8, -0.5), (radius.abs() < 0.3, 0.0), (radius > 0.8, 0.5)):
        assert abs(float(score[inside].mean()) - raw) < 0.1
        # Four standard errors of the mean are 0.06.
        assert abs(float(normal[inside].mean())) < 0.07
        assert abs(float(normal[inside].std()) - 1) < 0.07


def test_points_are_drawn_in_the_given_layers(small_detector: Detector) -> None:
    model = small_anycalo(small_detector)
    data = prepare(model, [toy_showers(small_detector, 30, 4)], n_training=1, seed=1, fit=False)
    everything = torch.arange(len(data.points))
    told, radius, score = DrawnPoints(model, data, seed=1).batch(everything)
    rows = data.context[data.row.long()]
    # As many in every layer as were given, in another order within a shower.
    for column in (told, rows):
        assert len(column) == len(everything)
    torch.testing.assert_close(told.sort(dim=0).values, rows.sort(dim=0).values)
    assert torch.isfinite(radius).all()
    assert torch.isfinite(score).all()
    again = DrawnPoints(model, data, seed=1).batch(everything)
    torch.testing.assert_close(again[1:], (radius, score), rtol=0, atol=0)
    assert not torch.equal(DrawnPoints(model, data, seed=2).batch(everything)[1], radius)


def groups(seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Values over orders of magnitude, their groups (one of them empty, one of one value), and sums from a third to thrice."""
    generator = torch.Generator().manual_seed(seed)
    count = torch.tensor([1, 2, 0, 5, 30, 400])
    group = torch.arange(len(count)).repeat_interleave(count)
    values = (2.2 * torch.randn(len(group), generator=generator)).exp()
    factor = (torch.rand(len(count), generator=generator) * 2 - 1).mul(1.1).exp()
    return values, group, sum_by(values, group, len(count)) * factor


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_sums_are_settled_on_the_largest(seed: int) -> None:
    values, group, target = groups(seed)
    found = settle(values, group, target)
    torch.testing.assert_close(sum_by(found, group, len(target)), target, rtol=1e-5, atol=0)
    by_hand = values.numpy().copy()
    for k in range(len(target)):
        mine = (group == k).numpy()
        part = by_hand[mine]
        compiled_settle(part, float(target[k]))
        by_hand[mine] = part
        order = np.argsort(values[group == k].numpy())
        assert (np.diff(found.numpy()[mine][order]) >= 0).all()
        # All by as much, in what they are one over.
        change = 1 / values[group == k].double() - 1 / found[group == k].double()
        if mine.sum() > 1:
            large = values[group == k] > 0.1 * values[group == k].max()
            assert float(change[large].std(correction=0)) < 2e-3 * float(change[large].abs().mean())
    np.testing.assert_allclose(by_hand, found.numpy(), rtol=2e-4)


def test_what_is_small_stays_as_it_was() -> None:
    values, group = torch.tensor([1e-3, 0.01, 0.1, 10.0]), torch.zeros(4, dtype=torch.long)
    for target in (5.0, 15.0):
        found = settle(values, group, torch.tensor([target]))
        assert (found[:2] / values[:2] - 1).abs().max() < 2e-3
        assert abs(float(found[3]) - (target - 0.11)) < 0.02
    torch.testing.assert_close(settle(values, group, values.sum()[None]), values)


def test_nothing_can_be_settled_on_nothing() -> None:
    values, group = torch.tensor([1.0, 2.0]), torch.tensor([0, 2])
    found = settle(values, group, torch.tensor([0.0, 5.0, 3.0]))
    torch.testing.assert_close(found, torch.tensor([0.0, 3.0]))


@pytest.mark.parametrize("name", ["hidden", "depth", "features", "bins"])
def test_sizes_are_checked(name: str) -> None:
    with pytest.raises(ModelError, match=f"{name} is 0; expected at least 1"):
        BalanceConfig(**{name: 0})

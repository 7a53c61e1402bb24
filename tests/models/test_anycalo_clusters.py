"""Clusters: single points keep their distribution, likelihoods are densities, and all three ways to draw agree."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from anycalo.errors import ModelError
from anycalo.models.cluster_kernels import Kinds as Weights
from anycalo.models.cluster_kernels import draw_scores as compiled_scores
from anycalo.models.clusters import OF_POINT, Clusters, ClustersConfig, Pairs, draw_scores, normal_ratio, wrapped_ratio
from anycalo.models.engine import _linear, _perceptron
from anycaloreference import one_by_one

CONTEXT, LAYERS = 4, 3


@pytest.fixture(scope="module")
def clusters() -> Clusters:
    """Weights at random and large, children at least as many as independent points."""
    torch.manual_seed(4)
    made = Clusters(CONTEXT, ClustersConfig(hidden=6, same=2, before=1))
    with torch.no_grad():
        made.head.weight.mul_(12)
        made.head.bias[:3] = 0.5
    return made.requires_grad_(False)


def draws(clusters: Clusters, counts: list[int], showers: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Scores (P, 3), the normal numbers they were drawn from, and what each layer was told (R, C), the same in all showers."""
    generator = torch.Generator().manual_seed(seed)
    told = torch.randn(LAYERS, CONTEXT, generator=generator).repeat(showers, 1)
    number = torch.tensor(counts).repeat(showers)
    normal = torch.randn(int(number.sum()), OF_POINT, generator=generator)
    row = torch.repeat_interleave(torch.arange(len(number)), number)
    kinds = clusters.kinds(torch.cat([told, told[-1:]]))
    padded = torch.cat([number, number.new_zeros(1)])
    return draw_scores(kinds, clusters.config.same, padded, LAYERS, row, normal), normal, told


def test_single_points_keep_their_distribution(clusters: Clusters) -> None:
    """Of every place in the order; Kolmogorov-Smirnov, false alarms once in 1,000 seeds for all 14 together."""
    counts, showers = [4, 0, 3], 3000
    scores = draws(clusters, counts, showers, 1)[0].reshape(showers, sum(counts), 3).double().numpy()
    level = 1e-3 / 14
    for place in range(sum(counts)):
        assert stats.kstest(scores[:, place, 0], "norm").pvalue > level
        assert stats.kstest((scores[:, place, 1] + 1) / 2, "uniform").pvalue > level
    # Not so with a child that keeps too much of its own.
    wider = scores[:, 3, 0] * 1.2
    assert stats.kstest(wider, "norm").pvalue < level


def test_children_stand_near_their_parents_and_carry_no_energy_of_theirs(clusters: Clusters) -> None:
    scores, normal, _ = draws(clusters, [12, 9, 6], 800, 2)
    torch.testing.assert_close(scores[:, 2], normal[:, 2], rtol=0, atol=0)
    of_shower = scores.reshape(800, 27, 3)
    # Points of a layer are nearer to each other than to those of the next shower, which was told the same.
    for layer in (slice(0, 12), slice(12, 21)):
        radius, angle = of_shower[:, layer, 0], of_shower[:, layer, 1] * math.pi
        own = (angle[:, :1] - angle[:, 1:]).cos()[(radius[:, :1] - radius[:, 1:]).abs() < 0.5].mean()
        other = (angle[:-1, :1] - angle[1:, 1:]).cos()[(radius[:-1, :1] - radius[1:, 1:]).abs() < 0.5].mean()
        assert own > other + 0.1


def test_the_three_ways_to_draw_agree(clusters: Clusters) -> None:
    counts, showers = [7, 0, 25], 3
    expected, normal, told = draws(clusters, counts, showers, 3)
    number = torch.tensor(counts).repeat(showers)
    torch.testing.assert_close(one_by_one(clusters, told, number, LAYERS, normal), expected, rtol=0, atol=2e-5)
    head, bias = _linear(clusters.head)
    weights = Weights(trunk=_perceptron(clusters.trunk, range(CONTEXT)), head=head, head_bias=bias, same=clusters.config.same)
    first = slice(0, sum(counts))
    found = compiled_scores(told[:LAYERS].numpy(), np.zeros(0, np.float32), np.array(counts), normal[first].numpy(), weights)
    np.testing.assert_allclose(found.T, expected[first].numpy(), atol=2e-5)
    # Padding behind the last layer changes nothing.
    row = torch.cat([torch.repeat_interleave(torch.arange(3), torch.tensor(counts)), torch.full((5,), 3)])
    padded = draw_scores(
        clusters.kinds(torch.cat([told[:3], told[:1]])),
        clusters.config.same,
        torch.tensor([*counts, 0]),
        LAYERS,
        row,
        torch.cat([normal[first], torch.randn(5, OF_POINT)]),
    )
    torch.testing.assert_close(padded[first], expected[first], rtol=0, atol=2e-5)


def test_long_chains_are_followed_to_their_end(clusters: Clusters) -> None:
    """Hardly a point independent, one child of each point of the layer before, 40 layers."""
    clusters = copy.deepcopy(clusters)
    with torch.no_grad():
        clusters.head.weight.zero_()
        clusters.head.bias[2] = 6
    generator = torch.Generator().manual_seed(8)
    layers = 40
    told, counts = torch.zeros(layers, CONTEXT), torch.full((layers,), 2)
    normal, row = torch.randn(2 * layers, OF_POINT, generator=generator), torch.arange(layers).repeat_interleave(2)
    kinds = clusters.kinds(torch.cat([told, told[-1:]]))
    found = draw_scores(kinds, clusters.config.same, torch.cat([counts, counts.new_zeros(1)]), layers, row, normal)
    torch.testing.assert_close(found, one_by_one(clusters, told, counts, layers, normal), rtol=0, atol=2e-5)


def pairs(told: Tensor, scores: Tensor, earlier: Tensor, same: Tensor) -> Pairs:
    """Each of P points after all the earlier ones (Q, 3)."""
    p, q = len(scores), len(earlier)
    return Pairs(told.expand(p, -1), scores, earlier.repeat(p, 1), torch.arange(p).repeat_interleave(q), same.repeat(p))


def test_the_likelihood_of_a_place_integrates_to_one(clusters: Clusters) -> None:
    """Over radius and angle, at any energy, with parents in both layers."""
    clusters = Clusters(CONTEXT, clusters.config).double()
    torch.manual_seed(1)
    with torch.no_grad():
        clusters.head.weight.mul_(8)
        clusters.head.bias[:3] = 1.0
        clusters.head.bias[9:15] = 0.5  # not too near, for the grid
    clusters.requires_grad_(False)
    told = torch.tensor([[0.3, -1.0, 0.7, 0.1]], dtype=torch.float64)
    earlier = torch.tensor([[0.4, 0.3, -1.0], [-1.2, 0.9, 0.8], [0.1, -0.7, 1.7]], dtype=torch.float64)
    same = torch.tensor([True, False, True])
    n, m = 240, 120
    radius = (torch.arange(n, dtype=torch.float64) + 0.5) / n * 12 - 6
    angle = (torch.arange(m, dtype=torch.float64) + 0.5) / m * 2 - 1
    for energy in (-1.5, 0.0, 2.0):
        place = torch.cartesian_prod(radius, angle)
        scores = torch.cat([place, torch.full((len(place), 1), energy, dtype=torch.float64)], dim=1)
        ratio = (-clusters.negative_log_likelihood(pairs(told, scores, earlier, same))).exp()
        density = ratio * (-0.5 * place[:, 0] ** 2).exp() / math.sqrt(2 * math.pi) / 2
        assert float(density.sum()) * (12 / n) * (2 / m) == pytest.approx(1, abs=2e-3)
        assert float(ratio.max()) > 1.5


def test_a_point_without_earlier_ones_is_independent(clusters: Clusters) -> None:
    nothing = torch.zeros(0, 3)
    found = clusters.negative_log_likelihood(
        pairs(torch.ones(1, CONTEXT), torch.randn(5, 3), nothing, torch.zeros(0, dtype=bool))
    )
    torch.testing.assert_close(found, torch.zeros(5), rtol=0, atol=1e-6)
    # One earlier point of the same layer: children of the layer before are independent, those of this one are not.
    near = torch.tensor([[0.5, 0.2, 0.0]])
    same, before = (
        clusters.negative_log_likelihood(pairs(torch.ones(1, CONTEXT), near, near, torch.tensor([which])))
        for which in (True, False)
    )
    assert float(same) < -0.1
    assert float(before) != pytest.approx(float(same), abs=1e-3)


def test_ratios_of_densities_have_their_closed_forms() -> None:
    z, parent, rho = (torch.tensor(v, dtype=torch.float64) for v in (0.7, -0.4, 0.6))
    expected = (
        stats.multivariate_normal([0, 0], [[1, 0.6], [0.6, 1]]).logpdf([0.7, -0.4]) - stats.norm.logpdf([0.7, -0.4]).sum()
    )
    assert float(normal_ratio(z, parent, rho)) == pytest.approx(expected, abs=1e-12)
    turn = torch.tensor(0.3, dtype=torch.float64)
    expected = stats.wrapcauchy(0.6).logpdf(0.3 * math.pi) + math.log(2 * math.pi)
    assert float(wrapped_ratio(turn, rho)) == pytest.approx(expected, abs=1e-12)


def test_wrong_sizes_are_refused() -> None:
    with pytest.raises(ModelError, match="same is 0; expected at least 1"):
        ClustersConfig(same=0)

"""The pointwise network and the flow: sizes as published, points on their own, an exact inverse and Jacobian."""

import math

import pytest
import torch

from anycalo.errors import ModelError
from anycalo.models import parameter_count
from anycalo.models.flow import FlowConfig, ShowerFlow
from anycalo.models.pointwise import ContextSquash, Pointwise, PointwiseConfig


def test_published_sizes() -> None:
    third = Pointwise(4, 4, PointwiseConfig(hidden=(32, 64, 128, 64, 32)))
    assert parameter_count(third) == 69_608
    second = Pointwise(4, 2, PointwiseConfig(hidden=(128, 256, 512, 256, 128)))
    assert parameter_count(second) == 504_920
    biases = sum(m.bias.numel() for m in second.modules() if isinstance(m, torch.nn.Linear) and m.bias is not None)
    assert biases == 2_632
    hyper = sum(layer.shift.weight.numel() for layer in second.layers)
    assert hyper + biases == 87_376


def test_context_squash_is_its_formula() -> None:
    torch.manual_seed(0)
    layer = ContextSquash(3, 5, 2)
    x, c = torch.randn(4, 3), torch.randn(4, 2)
    by_hand = torch.empty(4, 5)
    for p in range(4):
        linear = layer.linear.weight @ x[p] + layer.linear.bias
        gate = 1 / (1 + torch.exp(-(layer.gate.weight @ c[p] + layer.gate.bias)))
        by_hand[p] = linear * gate + layer.shift.weight @ c[p]
    torch.testing.assert_close(layer(x, c), by_hand)


def test_points_do_not_see_one_another() -> None:
    torch.manual_seed(0)
    network = Pointwise(3, 2, PointwiseConfig(hidden=(16, 16)))
    x, time, c = torch.randn(6, 3), torch.randn(6), torch.randn(6, 2)
    whole = network(x, time, c)
    alone = torch.cat([network(x[p : p + 1], time[p : p + 1], c[p : p + 1]) for p in range(6)])
    torch.testing.assert_close(whole, alone)
    torch.testing.assert_close(network(x, time[0], c)[0], whole[0])


def shaken_flow(dimension: int = 5, conditions: int = 2, **config: object) -> ShowerFlow:
    """A flow far from the identity that it starts as."""
    flow = ShowerFlow(dimension, conditions, FlowConfig(blocks=2, affine=2, hidden=(16,), **config))  # type: ignore[arg-type]
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for p in flow.parameters():
            p.add_(0.3 * torch.randn(p.shape, generator=generator))
    return flow.double().requires_grad_(False)


def test_flow_starts_as_a_permutation() -> None:
    flow = ShowerFlow(6, 1, FlowConfig(hidden=(8,)))
    x = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))
    z, log_det = flow(x, torch.zeros(4, 1))
    torch.testing.assert_close(z.sort(dim=1).values, x.sort(dim=1).values, atol=1e-5, rtol=0)
    torch.testing.assert_close(log_det, torch.zeros(4), atol=1e-4, rtol=0)


@pytest.mark.parametrize("dimension", [2, 5, 8])
def test_flow_inverse(dimension: int) -> None:
    flow = shaken_flow(dimension)
    generator = torch.Generator().manual_seed(1)
    x = 3 * torch.randn(50, dimension, generator=generator, dtype=torch.float64)
    c = torch.randn(50, 2, generator=generator, dtype=torch.float64)
    z, _ = flow(x, c)
    assert float((z.sort(dim=1).values - x.sort(dim=1).values).abs().max()) > 0.1
    torch.testing.assert_close(flow.inverse(z, c), x, atol=1e-6, rtol=1e-6)


def test_flow_jacobian_against_autograd() -> None:
    flow = shaken_flow()
    generator = torch.Generator().manual_seed(2)
    x = 2 * torch.randn(5, 5, generator=generator, dtype=torch.float64)
    c = torch.randn(5, 2, generator=generator, dtype=torch.float64)
    _, log_det = flow(x, c)
    for b in range(5):
        jacobian = torch.autograd.functional.jacobian(lambda v, b=b: flow(v[None], c[b : b + 1])[0][0], x[b])
        assert float(log_det[b]) == pytest.approx(float(torch.linalg.slogdet(jacobian).logabsdet), abs=1e-8)


def test_likelihood_of_a_standard_normal() -> None:
    flow = ShowerFlow(4, 1, FlowConfig(hidden=(8,)))
    x = torch.zeros(3, 4)
    expected = 0.5 * math.log(2 * math.pi)
    torch.testing.assert_close(flow.negative_log_likelihood(x, torch.zeros(3, 1)), torch.full((3,), expected))


def test_permutations_are_saved_with_the_weights() -> None:
    one, other = (ShowerFlow(6, 1, FlowConfig(hidden=(8,), seed=s)) for s in (1, 2))
    assert not torch.equal(one.permutations, other.permutations)
    other.load_state_dict(one.state_dict())
    assert torch.equal(one.permutations, other.permutations)
    x = torch.randn(4, 6)
    torch.testing.assert_close(one(x, torch.zeros(4, 1))[0], other(x, torch.zeros(4, 1))[0])


def test_published_flow_is_ten_times_as_wide_as_its_dimension() -> None:
    flow = ShowerFlow(6, 1, FlowConfig(blocks=1, affine=1, hidden=(10, 10), hidden_per_dimension=True))
    assert flow.couplings[0].hyper[0].weight.shape == (60, 3 + 1)


@pytest.mark.parametrize(
    ("cls", "wrong"),
    [
        (FlowConfig, {"blocks": 0}),
        (FlowConfig, {"bound": 0.0}),
        (FlowConfig, {"hidden": ()}),
        (PointwiseConfig, {"hidden": (8, 0)}),
        (PointwiseConfig, {"time_features": 3}),
    ],
)
def test_wrong_configuration_is_refused(cls: type, wrong: dict[str, object]) -> None:
    with pytest.raises(ModelError, match="expected"):
        cls(**wrong)


def test_flow_needs_two_dimensions() -> None:
    with pytest.raises(ModelError, match="at least 2"):
        ShowerFlow(1, 1, FlowConfig())

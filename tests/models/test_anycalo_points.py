"""The point flow: a density that integrates to 1 and that draws have, by the Jacobian."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from anycalo.errors import ModelError
from anycalo.models.point_flow import PointFlow, PointFlowConfig
from anycaloreference import draw_points

CONTEXT = 3


@pytest.fixture(scope="module")
def flow() -> PointFlow:
    torch.manual_seed(2)
    made = PointFlow(CONTEXT, PointFlowConfig(hidden=12, depth=2, bins=5, angle_bins=3, radius_features=8)).double()
    with torch.no_grad():
        for head in (made.radius, made.angle, made.energy):
            head.weight.mul_(30)
            head.bias.normal_()
    return made.requires_grad_(False)


def grid(low: float, high: float, n: int) -> Tensor:
    """The middles of n equal steps."""
    return low + (torch.arange(n, dtype=torch.float64) + 0.5) * (high - low) / n


def test_the_density_integrates_to_one(flow: PointFlow) -> None:
    told = torch.tensor([[0.4, -1.2, 0.8]], dtype=torch.float64)
    radius, angle, energy = grid(-6, 6, 48), grid(-1, 1, 12), grid(-6, 6, 48)
    x = torch.cartesian_prod(radius, angle, energy)
    density = (-flow.negative_log_likelihood(told.expand(len(x), -1), x)).exp()
    cell = (12 / 48) ** 2 * (2 / 12)
    assert float(density.sum()) * cell == pytest.approx(1, abs=0.02)
    # It is not that of the untrained flow, a normal one.
    assert float(density.max()) > 2 / (2 * math.pi) / 2


def test_draws_have_the_density(flow: PointFlow) -> None:
    """ln p(x) = ln p(z) - ln |dx / dz| for draws x of normal numbers z."""
    generator = torch.Generator().manual_seed(6)
    told = torch.randn(4, CONTEXT, generator=generator, dtype=torch.float64)
    row = torch.arange(4).repeat(5)
    z = torch.randn(20, 3, generator=generator, dtype=torch.float64)

    def drawn(z: Tensor) -> Tensor:
        uniform = 2 * torch.special.ndtr(z[:, 1]) - 1
        return draw_points(flow, told, row, torch.stack([z[:, 0], uniform, z[:, 2]], dim=1))

    x = drawn(z)
    assert (x[:, 1].abs() <= 1).all()
    # Every point's own Jacobian by differences, for no point depends on another.
    by = 1e-6 * torch.eye(3, dtype=torch.float64)
    columns = [(drawn(z + d) - drawn(z - d)) / 2e-6 for d in by]
    volume = torch.linalg.det(torch.stack(columns, dim=2)).abs().log()
    expected = -0.5 * (z**2).sum(1) - 1.5 * math.log(2 * math.pi) - volume
    found = -flow.negative_log_likelihood(told[row], x)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    wrong = -flow.negative_log_likelihood(told[(row + 1) % 4], x)
    assert not torch.allclose(wrong, expected, atol=0.1)


def test_the_radius_of_a_point_changes_its_angle_and_energy(flow: PointFlow) -> None:
    told = torch.zeros(1, CONTEXT, dtype=torch.float64)
    z = torch.tensor([[-1.0, 0.3, 0.4], [1.5, 0.3, 0.4]], dtype=torch.float64)
    one, two = draw_points(flow, told, torch.zeros(2, dtype=torch.long), z)
    assert abs(float(one[1] - two[1])) > 1e-3
    assert abs(float(one[2] - two[2])) > 1e-3


def test_wrong_sizes_are_refused() -> None:
    with pytest.raises(ModelError, match="bins is 0; expected at least 1"):
        PointFlowConfig(bins=0)

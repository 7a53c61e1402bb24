"""Energies given the densities about points: counting them, and the mixture they are drawn from."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from anycalo.errors import ModelError
from anycalo.models.engine import _per_point
from anycalo.models.surroundings import DENSITIES, OF_ENERGY, SCALES, Surroundings, SurroundingsConfig, densities
from anycalo.models.surroundings_kernels import densities as compiled_densities
from anycalo.models.surroundings_kernels import draw_energies
from anycaloreference import counted

CONTEXT, LAYERS = 5, 6


def points(seed: int) -> tuple[Tensor, Tensor, np.ndarray]:
    """Places, rows and numbers of the points of two showers, with layers that hold none and points beyond all grids."""
    rng = np.random.default_rng(seed)
    n = rng.integers(0, 14, (2, LAYERS))
    n[0, 2], n[1, 0], n[1, 5] = 0, 0, 0
    row = np.repeat(np.arange(2 * LAYERS), n.ravel())
    place = rng.normal(size=(len(row), 2)) * np.exp(rng.normal(1.0, 1.5, (len(row), 1)))
    place[:2] = [[600.0, 3.0], [-70.0, 4.0]]  # beyond all grids, and beyond the finest
    return torch.from_numpy(place).float(), torch.from_numpy(row), n


@pytest.fixture
def net() -> Surroundings:
    torch.manual_seed(2)
    net = Surroundings(CONTEXT, SurroundingsConfig(hidden=7, features=6, normals=4))
    with torch.no_grad():
        net.head.weight.mul_(40)
    return net.requires_grad_(False)


@pytest.mark.parametrize("seed", [1, 2])
def test_densities_are_those_of_all_pairs(seed: int) -> None:
    place, row, n = points(seed)
    expected = counted(place.numpy(), row.numpy(), LAYERS)
    assert (expected[:, ::3] > 0).mean() > 0.3
    assert not expected[0].any()
    found = densities(place, row, 2 * LAYERS, LAYERS)
    np.testing.assert_allclose(found, expected, atol=2e-5)
    for shower in range(2):
        mine = (row // LAYERS == shower).numpy()
        out = np.empty((DENSITIES, mine.sum()), np.float32)
        x, y = np.ascontiguousarray(place.numpy()[mine].T)
        compiled_densities(x, y, n[shower], out)
        np.testing.assert_allclose(out.T, expected[mine], atol=2e-5)


def test_padding_changes_nothing() -> None:
    place, row, _ = points(3)
    expected = densities(place, row, 2 * LAYERS, LAYERS)
    padded = torch.cat([row, torch.full((4,), 2 * LAYERS)])
    found = densities(torch.cat([place, place[:4]]), padded, 2 * LAYERS + 1, LAYERS)
    torch.testing.assert_close(found[:-4], expected)


def test_densities_know_no_left_or_right_and_no_order() -> None:
    place, row, _ = points(4)
    expected = densities(place, row, 2 * LAYERS, LAYERS)
    for sign in ((-1.0, 1.0), (1.0, -1.0)):
        torch.testing.assert_close(densities(place * torch.tensor(sign), row, 2 * LAYERS, LAYERS), expected, atol=2e-5, rtol=0)
    torch.testing.assert_close(densities(place.flip(1), row, 2 * LAYERS, LAYERS), expected, atol=2e-5, rtol=0)
    mixed = torch.randperm(len(row), generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(densities(place[mixed], row[mixed], 2 * LAYERS, LAYERS), expected[mixed], atol=2e-5, rtol=0)


def test_an_even_carpet_is_as_dense_everywhere_as_it_is_laid() -> None:
    step = 0.25
    line = torch.arange(-16, 16, step) + step / 2
    place = torch.cartesian_prod(line, line)
    found = densities(place, torch.zeros(len(place), dtype=torch.long), 1, 1)
    middle = place.abs().amax(dim=1) < 1
    for s, scale in enumerate(SCALES):
        # The node's kernel and the point's own, folded: its sum over all is the square's area over that of a point, less the
        # point itself, which counts at most as a whole one.
        assert torch.all((found[middle, 3 * s] - (scale / step) ** 2).abs() < 1.0 + 1e-3 * (scale / step) ** 2)
        assert not found[:, 3 * s + 1 : 3 * s + 3].any()


def test_the_likelihood_integrates_to_one_and_is_what_is_drawn(net: Surroundings) -> None:
    told, radius = torch.tensor([[0.3, -1.0, 0.8, 0.1, 2.0]]), torch.tensor([0.4])
    density = torch.tensor([[0.0, 1.0, 2.0, 3.0, 0.5, 0.2, 9.0, 4.0, 1.0]])
    z = torch.linspace(-15, 15, 6001)
    log_ratio = -net.negative_log_likelihood(told.expand(len(z), -1), radius.expand(len(z)), density.expand(len(z), -1), z)
    share = (log_ratio - 0.5 * z**2).exp().double() * (0.005 / np.sqrt(2 * np.pi))
    assert abs(float(share.sum()) - 1) < 1e-3
    size = 4000
    normal = torch.randn(size, OF_ENERGY, generator=torch.Generator().manual_seed(7))
    drawn = net.draw(net.of_layer(told).expand(size, -1), radius.expand(size), density.expand(size, -1), normal)
    cumulative = share.cumsum(0).numpy()

    def distribution(x: np.ndarray) -> np.ndarray:
        return np.interp(x, z.numpy(), cumulative)

    # False alarms: one in a thousand, for numbers that are always the same. What is not drawn from it is seen.
    assert stats.kstest(drawn.numpy(), distribution).pvalue > 1e-3
    assert stats.kstest(normal[:, 1].numpy(), distribution).pvalue < 1e-6


def test_the_compiled_draw_is_the_networks(net: Surroundings) -> None:
    place, row, n = points(5)
    mine = row < LAYERS
    place, row = place[mine], row[mine]
    generator = torch.Generator().manual_seed(3)
    told = torch.randn(LAYERS, CONTEXT, generator=generator)
    told[:, 3:] = told[0, 3:]  # what all layers are told
    radius, normal = torch.randn(len(row), generator=generator), torch.randn(len(row), OF_ENERGY, generator=generator)
    expected = net.draw(net.of_layer(told)[row], radius, densities(place, row, LAYERS, LAYERS), normal)
    out = np.empty(len(row), np.float32)
    x, y = np.ascontiguousarray(place.numpy().T)
    own, shared = np.ascontiguousarray(told[:, :3].numpy()), told[0, 3:].numpy()
    draw_energies(own, shared, n[0], x, y, radius.numpy(), normal.numpy(), _per_point(net, range(3)), out)
    np.testing.assert_allclose(out, expected, atol=2e-4)


def test_hot_points_are_learnt_to_stand_in_dense_places() -> None:
    """Energies that rise with the density about a point: learnt, and drawn again; without surroundings they would not."""
    generator = torch.Generator().manual_seed(4)
    showers, each = 60, 40
    row = torch.arange(showers).repeat_interleave(each)
    # Half of the points in a clump somewhere, the others anywhere.
    clump = (torch.randn(showers, 2, generator=generator) * 8)[row]
    near = torch.rand(len(row), 1, generator=generator) < 0.5
    place = torch.where(
        near, clump + torch.randn(len(row), 2, generator=generator), 12 * torch.randn(len(row), 2, generator=generator)
    )
    density = densities(place, row, showers, 1)
    energy = 0.8 * (density[:, 0].log1p() - 1) + 0.6 * torch.randn(len(row), generator=generator)
    torch.manual_seed(1)
    net, told, radius = (
        Surroundings(1, SurroundingsConfig(hidden=4, features=8)),
        torch.zeros(len(row), 1),
        torch.zeros(len(row)),
    )
    optimiser = torch.optim.Adam(net.parameters(), lr=0.02)
    first = float(net.negative_log_likelihood(told, radius, density, energy).mean().detach())
    for _ in range(150):
        loss = net.negative_log_likelihood(told, radius, density, energy).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert float(loss.detach()) < first - 0.15
    with torch.no_grad():
        drawn = net.draw(net.of_layer(told), radius, density, torch.randn(len(row), OF_ENERGY, generator=generator))
    seen = [float(np.corrcoef(density[:, 0].log1p(), z)[0, 1]) for z in (energy, drawn)]
    assert seen[0] > 0.5
    assert abs(seen[1] - seen[0]) < 0.1
    assert abs(float(np.corrcoef(density[:, 0].log1p(), torch.randn(len(row), generator=generator))[0, 1])) < 0.1


def test_sizes_are_checked() -> None:
    with pytest.raises(ModelError, match="normals is 0; expected at least 1"):
        SurroundingsConfig(normals=0)

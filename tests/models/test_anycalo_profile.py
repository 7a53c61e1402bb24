"""The depth of a shower: orthonormal directions, bent profiles with the depth asked for, nearest in relative entropy."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from anycalo.models import layer_kernels
from anycalo.models.profile import PRIOR, STEEPEST, bent, directions, measure

LAYERS = 30


def gamma_profile(a: Tensor, b: Tensor, depth: Tensor) -> Tensor:
    """t^a exp(-b t) of depths (B, L), a and b (B,)."""
    return torch.exp(a[:, None] * depth.log() - b[:, None] * depth)


def toy(showers: int = 8) -> tuple[Tensor, Tensor]:
    """Depths [X0] and an expected profile, float64."""
    depth = torch.linspace(0.4, 22, LAYERS, dtype=torch.float64).expand(showers, -1)
    return depth, gamma_profile(torch.full((showers,), 3.0).double(), torch.full((showers,), 0.5).double(), depth)


def test_directions_are_orthonormal_under_the_expected_profile() -> None:
    depth, energy = toy()
    phi, weight = directions(depth, energy), energy / energy.sum(1, keepdim=True)
    torch.testing.assert_close(measure(phi, energy), torch.zeros(8, 2).double(), rtol=0, atol=1e-9)
    second = torch.einsum("bl,blj,blk->bjk", weight, phi, phi)
    torch.testing.assert_close(second, torch.eye(2).double().expand(8, -1, -1), rtol=0, atol=1e-9)
    # The first is depth: a profile moved backwards has more of it.
    assert (phi[:, 1:, 0] > phi[:, :-1, 0]).all()


@given(rise=st.floats(-1.0, 1.5), fall=st.floats(-0.1, 0.1))
def test_a_bent_profile_has_the_depth_of_the_shower(rise: float, fall: float) -> None:
    depth, expected = toy(1)
    shower = gamma_profile(torch.tensor([3.0 + rise]).double(), torch.tensor([0.5 + fall]).double(), depth)
    phi = directions(depth, expected)
    wanted = measure(phi, shower)
    found = expected * bent(phi, expected, wanted)[0]
    torch.testing.assert_close(found.sum(1), expected.sum(1))
    # Short of it by what the prior on b costs.
    torch.testing.assert_close(measure(phi, found), wanted, rtol=0, atol=0.02)
    # And it is nearly the shower: what is left is the difference between ln t and ln (1 + t).
    gone = (found / found.sum() - shower / shower.sum()).abs().sum() / 2
    assert float(gone) < 0.35 * float((expected / expected.sum() - shower / shower.sum()).abs().sum() / 2) + 0.004


def test_no_other_profile_of_that_depth_is_nearer() -> None:
    """Any change that keeps the sum and both means raises the relative entropy to the expected profile."""
    depth, expected = toy(1)
    phi = directions(depth, expected)
    shower = gamma_profile(torch.tensor([3.8]).double(), torch.tensor([0.52]).double(), depth)
    p = expected / expected.sum()
    q = p * bent(phi, expected, measure(phi, shower))[0]

    def entropy(q: Tensor) -> float:
        return float((q * (q / p).log()).sum())

    constraints = torch.cat([torch.ones(1, LAYERS).double(), phi[0].T])
    basis = torch.linalg.qr(constraints.T).Q
    generator = torch.Generator().manual_seed(3)
    for _ in range(20):
        change = torch.randn(LAYERS, generator=generator, dtype=torch.float64)
        change -= basis @ (basis.T @ change)
        change *= 0.05 * float((q[0] / change.abs()).min())
        assert entropy(q + change) > entropy(q)


def test_nothing_asked_nothing_bent() -> None:
    depth, expected = toy()
    phi = directions(depth, expected)
    factors, steepness = bent(phi, expected, torch.zeros(8, 2).double())
    torch.testing.assert_close(factors, torch.ones(8, LAYERS).double())
    torch.testing.assert_close(steepness, torch.zeros(8).double(), rtol=0, atol=1e-9)


def test_a_depth_that_no_shower_has_stays_finite() -> None:
    """Behind the last layer, in a detector padded with layers that are not there, and of a single layer."""
    depth, expected = toy(2)
    padded = torch.cat([expected, torch.zeros(2, 4).double()], dim=1)
    phi = directions(torch.cat([depth, torch.zeros(2, 4).double()], dim=1), padded)
    assert not phi[:, LAYERS:].any()
    factors, steepness = bent(phi, padded, torch.tensor([[40.0, 0.0], [-40.0, 9.0]]).double())
    assert (steepness > STEEPEST).all()
    assert torch.isfinite(factors).all()
    assert (factors[:, LAYERS:] == 1).all()
    torch.testing.assert_close((padded * factors).sum(1), padded.sum(1))
    # Nothing to bend, and so nothing unphysical.
    single = torch.ones(1, 1).double()
    factors, steepness = bent(directions(single, single), single, torch.tensor([[1.0, 1.0]]).double())
    assert torch.equal(factors, single)
    assert float(steepness) == 0


@given(seed=st.integers(0, 10_000), layers=st.integers(3, 40), size=st.sampled_from([0.5, 3.0, 30.0, 300.0]))
def test_the_nearest_profile_is_found_in_reach_and_out_of_it(seed: int, layers: int, size: float) -> None:
    """The D at which a given b solves the equations is known in closed form; beyond the reach of the detector it is far off."""
    rng = np.random.default_rng(seed)
    depth = torch.from_numpy(np.sort(rng.uniform(0.3, 25, (1, layers))))
    energy = torch.from_numpy(rng.dirichlet(np.full(layers, 0.5), 1)).clamp_min(1e-4)
    phi, b = directions(depth, energy), torch.from_numpy(rng.normal(0, size, (1, 2)))
    shares = (energy.log() + torch.einsum("bk,blk->bl", b, phi)).softmax(1)
    factors, steepness = bent(phi, energy, measure(phi, shares) + PRIOR * b)
    found = energy * factors
    torch.testing.assert_close(found / found.sum(), shares, rtol=0, atol=0.003)
    torch.testing.assert_close(steepness, b.norm(dim=1), rtol=0.01, atol=0.01)


def test_three_layers_and_a_depth_beside_those_they_can_have() -> None:
    """As in `atlas-like`: nearly nothing in the last layer, and a drawn depth that asks for less than nothing in the first."""
    depth, expected = torch.tensor([[3.0, 15.0, 26.0]]).double(), torch.tensor([[0.25, 0.74, 0.01]]).double()
    phi = directions(depth, expected)
    wanted = measure(phi, torch.tensor([[-0.05, 1.0, 0.05]]).double())
    factors, steepness = bent(phi, expected, wanted)
    assert float(steepness) > STEEPEST
    shares = (expected * factors)[0] / (expected * factors).sum()
    assert float(shares[1]) > 0.9
    assert float(shares[0]) < 0.01


@given(seed=st.integers(0, 10_000))
def test_the_compiled_twin_bends_alike(seed: int) -> None:
    """Also on sparse profiles; out of reach it stays finite."""
    rng = np.random.default_rng(seed)
    depth, expected = toy(1)
    phi = directions(depth, expected).float()
    energy = rng.lognormal(0, 1, LAYERS) * expected[0].numpy() * (rng.random(LAYERS) < rng.choice([0.2, 1.0]))
    energy = torch.from_numpy(energy).float()
    wanted = torch.from_numpy(rng.normal(0, 0.3, 2)).float()
    found, steepness = layer_kernels.bent(phi[0].numpy(), energy.numpy(), *wanted.numpy())
    factors, steepness_of_other = bent(phi, energy[None], wanted[None])
    other = factors[0].numpy()
    assert (steepness > STEEPEST) == (float(steepness_of_other) > STEEPEST)
    # Few layers leave b hardly determined, and rounding in float32 is felt; most of all far out of reach.
    if steepness < 3 * STEEPEST:
        atol = 0.01 * float(energy.sum()) + 1e-9
        np.testing.assert_allclose(energy.numpy() * found, energy.numpy() * other, rtol=0, atol=atol)
    assert (found[energy.numpy() == 0] == 1).all()
    far, steepness = layer_kernels.bent(phi[0].numpy(), expected[0].float().numpy(), np.float32(30), np.float32(-30))
    assert np.isfinite(far).all()
    assert steepness > STEEPEST

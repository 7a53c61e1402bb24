"""Counts and energies of layers as totals and tokens: back exactly, what totals leave, progress by brute force."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from anycalo.models.layer_tokens import (
    GAUGE,
    NOISE_OF_SHOWER,
    OFFSET,
    Shares,
    decode_layers,
    decode_totals,
    encode_layers,
    encode_totals,
    progress_features,
)
from anycalo.models.profile import directions, measure
from anycalo.models.universal import Told


def toy_told(showers: int, layers: int, seed: int, lacking: int = 0) -> Told:
    """Random expectations; the last `lacking` layers are not there. float64, so that exact means exact."""
    rng = np.random.default_rng(seed)
    valid = torch.arange(layers).expand(showers, -1) < layers - lacking
    points = torch.from_numpy(rng.lognormal(2, 1.5, (showers, layers))) * valid
    energy = points * torch.from_numpy(rng.lognormal(-2, 0.5, (showers, layers)))
    told = {"shower": torch.zeros(showers, 1), "layer": torch.zeros(showers, layers, 1), "valid": valid}
    told["calibration"], told["detail"] = torch.ones(showers, layers), torch.zeros(showers, layers, 0)
    told["phi"] = directions(torch.arange(layers).double().expand(showers, -1), energy)
    return Told(**told, points=points, energy_mev=energy)  # type: ignore[arg-type]


def toy_layers(showers: int, layers: int, seed: int, lacking: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng([seed, 1])
    n = rng.negative_binomial(0.7, 0.01, (showers, layers)) * (np.arange(layers) < layers - lacking)
    n[:, 0] += n.sum(1) == 0
    e = np.where(n > 0, n * rng.lognormal(-1, 0.6, n.shape), 0.0)
    return torch.from_numpy(n.astype(np.float64)), torch.from_numpy(e)


@given(seed=st.integers(0, 10_000), layers=st.integers(1, 40), blur=st.tuples(st.floats(-3, 3), st.floats(-3, 3)))
def test_layers_come_back_exactly(seed: int, layers: int, blur: tuple[float, float]) -> None:
    lacking = seed % layers
    told, (n, e) = toy_told(3, layers, seed, lacking), toy_layers(3, layers, seed, lacking)
    n_total, e_total = n.sum(1), e.sum(1)
    depths = measure(told.phi, e)
    shares = Shares.of(told, n_total, e_total, depths)
    # Dequantised at the middle, which is what decoding takes for the mean; blurred as it comes.
    noise = torch.zeros(3, layers + NOISE_OF_SHOWER, dtype=torch.float64)
    noise[:, -2:] = torch.tensor(blur)
    nu, a, m = encode_layers(shares, n, e, noise)
    # As `RecurrentLayers.sample` reads tokens.
    count = (a + (shares.count + OFFSET).log()).exp() - OFFSET
    torch.testing.assert_close(count, nu)
    energy = torch.where(count < 1, 0.0, count * (m + shares.mean_mev.log()).exp())
    n_again, e_again = decode_layers(told, count, energy, n_total, e_total, depths)
    assert torch.equal(n_again, n)
    torch.testing.assert_close(e_again, e, rtol=1e-9, atol=1e-9)
    totals = encode_totals(told, n_total, e_total)
    for again, total in zip(decode_totals(told, totals), (n_total, e_total), strict=True):
        torch.testing.assert_close(again, total, rtol=1e-9, atol=0)


@given(seed=st.integers(0, 10_000), layers=st.integers(1, 40))
def test_whatever_is_drawn_adds_up(seed: int, layers: int) -> None:
    rng = np.random.default_rng([seed, 2])
    told = toy_told(4, layers, seed, lacking=seed % layers)
    nu = torch.from_numpy(rng.lognormal(1, 2, (4, layers)))
    e_total = torch.from_numpy(rng.lognormal(3, 1, 4))
    n_total = torch.from_numpy(rng.integers(1, 5000, 4).astype(np.float64))
    depths = torch.from_numpy(rng.normal(0, 0.5, (4, 2)))
    n, e = decode_layers(told, nu, nu * 0.3, n_total, e_total, depths)
    assert torch.equal(n, n.floor())
    assert (n >= 0).all()
    assert not n[~told.valid].any()
    assert not e[n == 0].any()
    # Rounding down takes half a point a layer on average, and from none to one.
    assert ((n.sum(1) - n_total).abs() <= told.valid.sum(1) / 2 + 1e-6).all()
    some = n.sum(1) > 0
    torch.testing.assert_close(e.sum(1)[some], e_total[some], rtol=1e-9, atol=0)


def test_no_point_is_without_energy() -> None:
    told = toy_told(1, 3, seed=1)
    nu, e = torch.tensor([[0.98, 5.0, 3.0]]), torch.tensor([[0.0, 2.0, 1.0]])
    depths = measure(told.phi, e.double())
    n, shared = decode_layers(told, nu, e, torch.tensor([9.0]), torch.tensor([7.0]), depths)
    assert n.tolist() == [[0, 5, 3]]
    assert torch.equal(n > 0, shared > 0)
    # With an energy, the first layer would have held a point.
    more = e + 0.1
    depths = measure(told.phi, more.double())
    assert decode_layers(told, nu, more, torch.tensor([9.0]), torch.tensor([7.0]), depths)[0].tolist() == [[1, 5, 3]]


def test_shares_are_those_of_the_totals() -> None:
    told = toy_told(5, 12, seed=3, lacking=2)
    n_total, e_total = torch.full((5,), 700.0), torch.full((5,), 42.0)
    shares = Shares.of(told, n_total, e_total, torch.zeros(5, 2, dtype=torch.float64))
    torch.testing.assert_close(shares.count.sum(1), n_total.double())
    torch.testing.assert_close((shares.count * shares.mean_mev).sum(1), e_total.double())
    torch.testing.assert_close(shares.count[:, 3] / shares.count[:, 0], told.points[:, 3] / told.points[:, 0])
    depths = torch.tensor([0.2, -0.1]).double().expand(5, -1)
    deeper = Shares.of(told, n_total, e_total, depths)
    torch.testing.assert_close(deeper.count.sum(1), n_total.double())
    torch.testing.assert_close((deeper.count * deeper.mean_mev).sum(1), e_total.double())
    torch.testing.assert_close(measure(told.phi, deeper.count * deeper.mean_mev), depths, rtol=0, atol=0.02)


def test_the_blur_is_shared_by_the_layers_of_a_shower() -> None:
    told, (n, e) = toy_told(2, 6, seed=4), toy_layers(2, 6, seed=4)
    shares = Shares.of(told, n.sum(1), e.sum(1), measure(told.phi, e))
    plain, blurred = torch.zeros(2, 8, dtype=torch.float64), torch.zeros(2, 8, dtype=torch.float64)
    blurred[:, -2:] = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    (nu, _, m), (nu_b, _, m_b) = (encode_layers(shares, n, e, noise) for noise in (plain, blurred))
    torch.testing.assert_close(nu_b / nu, torch.tensor([[math.exp(GAUGE)], [1.0]]).double().expand(2, 6))
    shift = torch.where(n > 0, torch.tensor([[0.0], [2 * GAUGE]]).double(), 0.0)
    torch.testing.assert_close(m_b - m, shift)
    assert (nu[0] == n[0] + 0.5).all()


def test_progress_by_brute_force() -> None:
    told, (n, e) = toy_told(3, 7, seed=5, lacking=1), toy_layers(3, 7, seed=5, lacking=1)
    e_total = e.sum(1)
    shares = Shares.of(told, n.sum(1), e_total, measure(told.phi, e))
    found = progress_features(shares, n, e, e_total)
    for b in range(3):
        for layer in range(7):
            past, past_expected = float(n[b, :layer].sum()), float(shares.count[b, :layer].sum())
            total = float(shares.count[b].sum())
            wanted = (shares.count * shares.mean_mev)[b]
            share, share_expected = float(e[b, :layer].sum() / e_total[b]), float(wanted[:layer].sum() / wanted.sum())
            expected = [
                math.log((past + OFFSET) / (past_expected + OFFSET)),
                math.log((max(total - past, 0) + OFFSET) / (max(total - past_expected, 0) + OFFSET)),
                math.log((share + 0.01) / (share_expected + 0.01)),
                math.log((max(1 - share, 0) + 0.01) / (max(1 - share_expected, 0) + 0.01)),
            ]
            assert found[b, layer].tolist() == pytest.approx(expected, abs=1e-6)
    assert found[:, 0].abs().max() < 1e-9

"""Counts and energies of layers as totals and tokens: back exactly, what totals leave, progress by brute force."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from anycalo.models.layer_tokens import (
    GAUGE,
    OFFSET,
    Shares,
    blurred,
    decode_layers,
    decode_totals,
    encode_layers,
    encode_totals,
    interval,
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
    told["calibration"] = torch.ones(showers, layers)
    told["phi"] = directions(torch.arange(layers).double().expand(showers, -1), energy)
    return Told(**told, points=points, energy_mev=energy)  # type: ignore[arg-type]


def toy_layers(showers: int, layers: int, seed: int, lacking: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng([seed, 1])
    n = rng.negative_binomial(0.7, 0.01, (showers, layers)) * (np.arange(layers) < layers - lacking)
    n[:, 0] += n.sum(1) == 0
    e = np.where(n > 0, n * rng.lognormal(-1, 0.6, n.shape), 0.0)
    return torch.from_numpy(n.astype(np.float64)), torch.from_numpy(e)


@given(seed=st.integers(0, 10_000), layers=st.integers(1, 40))
def test_layers_come_back_exactly(seed: int, layers: int) -> None:
    lacking = seed % layers
    told, (n, e) = toy_told(3, layers, seed, lacking), toy_layers(3, layers, seed, lacking)
    n_total, e_total = n.sum(1), e.sum(1)
    depths = measure(told.phi, e)
    shares = Shares.of(told, n_total, e_total, depths)
    a, m = encode_layers(shares, n, e)
    below, above = interval(shares, n)
    assert ((below < a) & (a < above)).all()
    # As a walk reads tokens, from anywhere between the two.
    for share in (0.001, 0.5, 0.999):
        within = torch.where(n > 0, below + share * (above - below), above - 0.001 - share)
        count = ((within + (shares.count + OFFSET).log()).exp() - OFFSET).clamp_min(0).floor()
        torch.testing.assert_close(count, n)
    energy = n * (m + shares.mean_mev.log()).exp()
    n_again, e_again = decode_layers(told, n, energy, n_total, e_total, depths)
    assert torch.equal(n_again, n)
    torch.testing.assert_close(e_again, e, rtol=1e-9, atol=1e-9)
    totals = encode_totals(told, n_total, e_total)
    for again, total in zip(decode_totals(told, totals), (n_total, e_total), strict=True):
        torch.testing.assert_close(again, total, rtol=1e-9, atol=0)


@given(seed=st.integers(0, 10_000), layers=st.integers(1, 40))
def test_whatever_is_drawn_adds_up(seed: int, layers: int) -> None:
    rng = np.random.default_rng([seed, 2])
    told = toy_told(4, layers, seed, lacking=seed % layers)
    drawn = torch.from_numpy(np.floor(rng.lognormal(1, 2, (4, layers))))
    e_total = torch.from_numpy(rng.lognormal(3, 1, 4))
    drawn[:, 0] += 1
    n_total = torch.from_numpy(rng.integers(1, 5000, 4).astype(np.float64))
    depths = torch.from_numpy(rng.normal(0, 0.5, (4, 2)))
    n, e = decode_layers(told, drawn, drawn * 0.3, n_total, e_total, depths)
    assert torch.equal(n, n.floor())
    assert torch.equal(n > 0, told.valid & (drawn > 0))
    assert torch.equal(e > 0, n > 0)
    # Rounding, and layers that would have lost their only point.
    assert ((n.sum(1) - n_total).abs() <= told.valid.sum(1)).all()
    some = n.sum(1) > 0
    torch.testing.assert_close(e.sum(1)[some], e_total[some], rtol=1e-9, atol=0)
    # However much too much was drawn in one layer.
    wild = drawn.clone()
    wild[:, 0] += 1e8
    n, _ = decode_layers(told, wild, wild * 0.3, n_total + 50, e_total, depths)
    assert ((n.sum(1) - n_total - 50).abs() <= told.valid.sum(1)).all()


def test_what_few_particles_leave_stays_as_it_was_drawn() -> None:
    """A shower that is too shallow, too weak and too short of points: the first layer, of one point, hardly takes part."""
    n = torch.tensor([[1.0, 30.0, 400.0, 700.0, 300.0, 40.0]]).double()
    e = n * 0.2
    told = replace(toy_told(1, 6, seed=7), phi=directions(torch.arange(6).double()[None], e))
    wanted = measure(told.phi, e) + torch.tensor([[0.15, 0.0]]).double()
    found, energy = decode_layers(told, n, e, 1.1 * n.sum(1), 1.1 * e.sum(1), wanted)
    assert found[0, 0] == 1
    assert float(energy[0, 0] / e[0, 0]) == pytest.approx(1, abs=0.12)
    assert float(energy[0, -1] / e[0, -1]) > 1.3
    torch.testing.assert_close(measure(told.phi, energy), wanted, rtol=0, atol=0.01)
    # The twin, in which every layer takes part as if it held a thousand points, moves the first, too.
    _, twin = decode_layers(told, 1000 * n, e, 1100 * n.sum(1), 1.1 * e.sum(1), wanted)
    assert abs(float(twin[0, 0] / e[0, 0]) - 1) > 0.2


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
    nu, a = blurred(shares, n, torch.tensor([0.0, 2.0]).double())
    assert torch.equal(nu[0], n[0] + 0.5)
    torch.testing.assert_close(nu[1], (n[1] + 0.5) * math.exp(2 * GAUGE))
    torch.testing.assert_close(a[0], encode_layers(shares, n, e)[0][0])
    torch.testing.assert_close((a + (shares.count + OFFSET).log()).exp(), nu + OFFSET)


def test_a_crossing_is_what_particles_are_expected_to_leave() -> None:
    """Twice the energy in the same points are crossings of twice the energy, in every layer."""
    told, (n, e) = toy_told(2, 6, seed=4), toy_layers(2, 6, seed=4)
    depths = measure(told.phi, e)
    once, twice = (Shares.of(told, n.sum(1), factor * e.sum(1), depths) for factor in (1, 2))
    torch.testing.assert_close(twice.crossing, 2 * once.crossing)
    torch.testing.assert_close(once.mean_mev, once.crossing[:, None] * told.energy_mev / told.points)


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

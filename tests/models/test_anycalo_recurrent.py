"""The recurrent layer model: padding is inert, nothing later is seen, draws follow the conditionals of the likelihood."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from anycalo.errors import ModelError
from anycalo.models.engine import walk_weights
from anycalo.models.layer_kernels import walk
from anycalo.models.layer_tokens import OFFSET, Shares
from anycalo.models.mixture import GaussianMixture
from anycalo.models.profile import measure
from anycalo.models.recurrent import RecurrentConfig, RecurrentLayers, of_walk
from anycalo.models.totals import QUANTITIES
from anycalo.models.universal import Geometry, Told, UniversalCoordinates, particle_table
from anycalo.showers import Beam
from toyzoo import stack

LAYERS, SHOWERS = 7, 5
CONFIG = RecurrentConfig(embedding=12, hidden=16, head=8, components=3)


@pytest.fixture(scope="module")
def model() -> RecurrentLayers:
    torch.manual_seed(4)
    coordinates = UniversalCoordinates()
    made = RecurrentLayers(coordinates.shower_features, coordinates.layer_features, QUANTITIES, CONFIG).double()
    with torch.no_grad():
        for mixture in (made.count_mixture, made.energy_mixture):
            mixture.linear.weight.mul_(10)
        # Untrained, a layer hardly depends on those before it.
        for weight in (made.memory.weight_ih_l0, made.count[0].weight, made.energy[0].weight):
            weight.mul_(4)
    return made.requires_grad_(False)


def toy_told() -> Told:
    particle = particle_table(Beam(energy_mev=(1e4, 1e5), max_angle_rad=0.5).sample(SHOWERS, 1))
    told = UniversalCoordinates().told(Geometry([stack(LAYERS, 5.0)]), torch.zeros(SHOWERS, dtype=torch.long), particle)
    double = {k: getattr(told, k).double() for k in ("shower", "layer", "points", "energy_mev", "calibration", "phi")}
    return Told(**double, valid=told.valid)


def normal(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def inputs(told: Told) -> dict[str, Tensor | Shares]:
    """Random layers, some of them empty, as `negative_log_likelihood` takes them."""
    rng = np.random.default_rng(3)
    n = torch.from_numpy(rng.poisson(40, (SHOWERS, LAYERS)) * (rng.random((SHOWERS, LAYERS)) > 0.2)).double()
    e = n * torch.from_numpy(rng.lognormal(-1, 0.3, n.shape))
    shares = Shares.of(told, n.sum(1), e.sum(1), measure(told.phi, e))
    totals = normal(SHOWERS, QUANTITIES, seed=9)
    return {"totals": totals, "shares": shares, "n": n, "e": e, "e_total": e.sum(1), "normal": normal(SHOWERS)}


def test_padding_is_inert(model: RecurrentLayers) -> None:
    told = toy_told()
    given = inputs(told)

    def padded(t: Tensor, value: float) -> Tensor:
        return torch.cat([t, torch.full((SHOWERS, 3, *t.shape[2:]), value, dtype=t.dtype)], dim=1)

    longer = Told(
        shower=told.shower,
        layer=padded(told.layer, 0.0),
        valid=padded(told.valid, False),
        points=padded(told.points, 0.0),
        energy_mev=padded(told.energy_mev, 0.0),
        calibration=padded(told.calibration, 1.0),
        phi=padded(told.phi, 0.0),
    )
    shares = Shares.of(longer, torch.ones(SHOWERS), torch.ones(SHOWERS), torch.zeros(SHOWERS, 2).double())
    assert not shares.count[:, LAYERS:].any()
    old: Shares = given["shares"]  # type: ignore[assignment]
    shares = replace(old, count=padded(old.count, 0.0), mean_mev=padded(old.mean_mev, 1.0))
    tokens = {k: padded(given[k], 7.0) for k in ("n", "e")}  # type: ignore[arg-type]
    alone = model.negative_log_likelihood(told, **given)  # type: ignore[arg-type]
    among = model.negative_log_likelihood(longer, **{**given, **tokens, "shares": shares})  # type: ignore[arg-type]
    torch.testing.assert_close(among, alone)
    # What a layer holds counts: the same values in layers that are there change the likelihood.
    there = replace(longer, valid=torch.ones_like(longer.valid))
    other = model.negative_log_likelihood(there, **{**given, **tokens, "shares": shares})  # type: ignore[arg-type]
    assert not torch.allclose(other, alone)


def halved(told: Told, layers: int) -> Told:
    """The first layers, in float32."""
    parts = {k: getattr(told, k)[:, :layers].float().clone() for k in ("layer", "points", "energy_mev", "calibration", "phi")}
    return Told(shower=told.shower.float(), valid=told.valid[:, :layers], **parts)


@pytest.mark.parametrize("layer", [0, 3, LAYERS - 1])
def test_a_layer_does_not_see_later_ones(model: RecurrentLayers, layer: int) -> None:
    told = toy_told()
    given = inputs(told)
    tokens = {k: given[k].clone().requires_grad_() for k in ("n", "e")}  # type: ignore[union-attr]
    # The density of the first layers, up to and with this one.
    up_to = replace(told, valid=torch.arange(LAYERS).expand(SHOWERS, -1) <= layer)
    model.negative_log_likelihood(up_to, **{**given, **tokens}).sum().backward()  # type: ignore[arg-type]
    for name, token in tokens.items():
        gradient = token.grad
        assert gradient is not None
        assert not gradient[:, layer + 1 :].any(), name
        if layer:
            assert (gradient[:, :layer] != 0).any(), name
    assert tokens["n"].grad is not None
    assert (tokens["n"].grad[:, layer] != 0).all()


def test_draws_follow_the_conditionals_of_the_likelihood(model: RecurrentLayers) -> None:
    """Levels of draws in the distributions that the likelihood gives them are uniform; Kolmogorov-Smirnov, false alarm 1e-4.

    The twin, in which the layers before held a hundredth, is rejected.
    """
    few, repeats = toy_told(), 400
    told = halved(few, LAYERS)[torch.arange(SHOWERS).repeat(repeats)]
    showers = SHOWERS * repeats
    n_total, e_total = torch.full((showers,), 5e4), torch.full((showers,), 200.0)
    shares, totals = Shares.of(told, n_total, e_total, torch.zeros(showers, 2)), normal(showers, QUANTITIES, seed=9).float()
    single = copy.deepcopy(model).float()
    noise = normal(showers, of_walk(LAYERS)).float()
    n, e = drawn(single, told, totals, shares, e_total, noise)
    held = n > 0
    assert held.float().mean() > 0.9

    def p_values(factor: float) -> list[float]:
        """Of counts and of energies, of all layers and of the last, with so many times as much before the last."""
        last = torch.arange(LAYERS) == LAYERS - 1
        mixed = [torch.where(last, t, t * factor) for t in (n, e)]
        with recorded(single.count_mixture, "log_interval") as counts, recorded(single.energy_mixture, "log_prob") as energies:
            single.negative_log_likelihood(told, totals, shares, *mixed, e_total, noise[:, 0])
        (h, below, above), (of_energy, m) = counts[0], energies[0]
        # Anywhere between the two, evenly.
        within = torch.rand(n.shape, generator=torch.Generator().manual_seed(2))
        lower, upper = (level(single.count_mixture, h, x) for x in (below, above))
        levels = (
            (lower + within * (upper - lower), torch.ones_like(held)),
            (level(single.energy_mixture, of_energy, m[..., 0]), held),
        )
        found = []
        for each, used in levels:
            found.append(float(stats.kstest(each[used].numpy(), "uniform").pvalue))
            found.append(float(stats.kstest(each[:, -1][used[:, -1]].numpy(), "uniform").pvalue))
        return found

    assert min(p_values(1.0)) > 1e-4
    assert p_values(0.01)[1] < 1e-4


def level(mixture: GaussianMixture, h: Tensor, x: Tensor) -> Tensor:
    """Probability below x (...), of a mixture of one dimension with these features (..., F)."""
    weight, mean, diagonal, _ = mixture.parameters_of(h)
    return (weight.exp() * torch.special.ndtr((x[..., None] - mean[..., 0]) * diagonal[..., 0].exp())).sum(-1)


def drawn(
    net: RecurrentLayers, told: Told, totals: Tensor, shares: Shares, e_total: Tensor, noise: Tensor
) -> tuple[Tensor, Tensor]:
    """Points and energies from the compiled walk, as `engine` calls it."""
    first = told.shower.shape[1] + totals.shape[1]
    expected = torch.stack([(shares.count + OFFSET).log() / 3, shares.mean_mev.log()], dim=-1)
    own, shared = torch.cat([told.layer, expected], dim=-1), torch.cat([told.shower, totals], dim=1)
    tables = [t.numpy() for t in (own, shared, shares.count, shares.mean_mev, shares.crossing, e_total, noise)]
    weights = walk_weights(net, range(first, first + own.shape[-1]))
    n, e = zip(*(walk(*arguments, weights) for arguments in zip(*tables, strict=True)), strict=True)
    return torch.from_numpy(np.stack(n)), torch.from_numpy(np.stack(e))


@contextmanager
def recorded(mixture: GaussianMixture, name: str) -> Iterator[list[tuple[Tensor, ...]]]:
    """The features and values that a method of a mixture is asked about."""
    seen: list[tuple[Tensor, ...]] = []
    original = getattr(mixture, name)

    def asked(*given: Tensor) -> Tensor:
        seen.append(given)
        return original(*given)  # type: ignore[no-any-return]

    setattr(mixture, name, asked)
    try:
        yield seen
    finally:
        delattr(mixture, name)


def test_wrong_sizes_are_refused() -> None:
    with pytest.raises(ModelError, match="hidden is 0; expected at least 1"):
        RecurrentConfig(hidden=0)

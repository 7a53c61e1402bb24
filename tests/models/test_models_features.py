"""Layer and point features: inverse pairs, empty layers, sums imposed."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from anycalo.errors import ModelError
from anycalo.geometry import Detector
from anycalo.models import layer_features
from anycalo.models.conditions import Event, check_conditions, condition_table
from anycalo.models.layer_features import LEAST_OF_MEANS, ConditionalScale, Gaussianise, LayerFeatures, energy_basis
from anycalo.models.merging import merge_tracks
from anycalo.models.point_features import (
    Lateral,
    Standardise,
    compress,
    expand,
    impose_energy,
    sum_by,
)
from anycalo.showers import Incident, Showers
from toyshowers import toy_showers


def fitted(detector: Detector, n: int = 800) -> tuple[LayerFeatures, tuple[torch.Tensor, ...]]:
    showers = toy_showers(detector, n, seed=1)
    incident_mev = torch.from_numpy(showers.incident.energy_mev)
    basis = energy_basis((incident_mev.log() - 8) / 1.2, torch.zeros(n))
    generator = torch.Generator().manual_seed(0)
    extras = torch.randn(n, 3, generator=generator)
    features = LayerFeatures(detector.n_layers, 3)
    noise = torch.randn(n, features.noise_features, generator=generator)
    data = torch.from_numpy(showers.layer_counts()).float(), torch.from_numpy(showers.layer_energy_mev()).float()
    columns = (*data, incident_mev, basis, extras, noise)
    features.fit(*columns)
    return features, columns


def test_layer_features_are_nearly_standard_normal(small_detector: Detector) -> None:
    features, columns = fitted(small_detector)
    z = features.encode(*columns)
    assert z.shape == (800, 2 + 2 * 6 + 3)
    covariance = torch.cov(z.T)
    # Whitened with the data's own covariance (plus 1e-4 on its diagonal).
    torch.testing.assert_close(covariance, torch.eye(len(covariance)), atol=0.05, rtol=0)
    assert float(z.abs().max()) < 7


def test_layer_features_come_back(small_detector: Detector) -> None:
    features, columns = fitted(small_detector)
    n, e, incident_mev, basis, extras, noise = columns
    # With u = 1/2 in every layer, which the decoder assumes on average, and no gauge, the round trip is exact.
    noise = noise.clone()
    noise[:, : features.layers] = noise[:, -2:] = 0
    n2, e2, extras2, physical = features.decode(features.encode(n, e, incident_mev, basis, extras, noise), incident_mev, basis)
    assert physical.all()
    assert float((n2 == n).float().mean()) > 0.999
    torch.testing.assert_close(extras2, extras, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(e2.sum(1), e.sum(1), rtol=2e-3, atol=0)
    same = (n2 == n).all(1)
    torch.testing.assert_close(e2[same], e[same], rtol=5e-3, atol=1e-3)
    blurred = features.decode(features.encode(*columns), incident_mev, basis)
    torch.testing.assert_close(blurred[1].sum(1), e.sum(1), rtol=2e-3, atol=0)
    assert (e2[n2 == 0] == 0).all()


def test_empty_layers_come_back_as_often(small_detector: Detector) -> None:
    features, columns = fitted(small_detector, n=3000)
    n, _, incident_mev, basis, *_ = columns
    z = torch.randn(3000, features.dimension, generator=torch.Generator().manual_seed(5))
    drawn, *_ = features.decode(z, incident_mev, basis)
    found, expected = (drawn == 0).float().mean(0), (n == 0).float().mean(0)
    assert float(expected.max()) > 0.1
    # Normal numbers instead of a trained flow: the marginals come from the scales alone. 5 binomial standard
    # errors of 3,000 against 3,000, and 3 % for what a polynomial in ln E cannot follow.
    allowed = 5 * (2 * expected * (1 - expected) / 3000).sqrt() + 0.03
    assert ((found - expected).abs() < allowed).all()
    assert not (((drawn == 0).float().mean(0) + 0.1 - expected).abs() < allowed).all()


def test_one_odd_energy_in_a_layer_is_no_farther_than_the_farthest(
    small_detector: Detector, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A spread that a layer seldom hit has made far too small cannot make one shower outweigh all others."""
    features, columns = fitted(small_detector)
    plain = features.encode(*columns) @ features.unrotation
    features.means.log_spread[0, 0] -= 9.0
    far = features.encode(*columns) @ features.unrotation
    assert far.abs().max() < layer_features.FARTHEST + 0.01
    assert far.abs().max() > layer_features.FARTHEST - 0.01
    layer = far.shape[1] - features.layers
    torch.testing.assert_close(far[:, :layer], plain[:, :layer], rtol=0, atol=1e-3)
    monkeypatch.setattr(layer_features, "FARTHEST", 1e9)
    assert (features.encode(*columns) @ features.unrotation).abs().max() > 100


def test_drawn_showers_conserve_what_is_drawn(small_detector: Detector) -> None:
    features, columns = fitted(small_detector)
    incident_mev, basis = columns[2], columns[3]
    z = torch.randn(800, features.dimension, generator=torch.Generator().manual_seed(6))
    n, e, _, physical = features.decode(z, incident_mev, basis)
    assert (n == n.floor()).all()
    assert (n >= 0).all()
    assert (e[n > 0] > 0).all()
    assert (e.sum(1)[physical] <= incident_mev[physical]).all()
    z[0, 0] = float("nan")
    z[1] = 1e6
    assert not features.decode(z, incident_mev, basis)[3][:2].any()


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(-50, 50), min_size=60, max_size=60), st.floats(-100, 100))
def test_gaussianise_is_invertible_and_rising(values: list[float], probe: float) -> None:
    x = torch.tensor(values, dtype=torch.float64)
    shape = Gaussianise(1).double()
    shape.fit(0, x)
    points = torch.sort(torch.cat([x, torch.tensor([probe - 1e-3, probe], dtype=torch.float64)])).values[:, None]
    h = shape(points)
    assert (torch.diff(h[:, 0]) >= 0).all()
    spread = max(float(x.max() - x.min()), 1.0)
    torch.testing.assert_close(shape.inverse(h), points, atol=1e-4 * spread, rtol=1e-4)


def test_gaussianise_makes_normal_numbers() -> None:
    x = torch.from_numpy(np.random.default_rng(0).exponential(1.0, 20_000))
    shape = Gaussianise(1).double()
    shape.fit(0, x)
    h = shape(x[:, None])[:, 0]
    assert float(h.mean()) == pytest.approx(0, abs=0.03)
    assert float(h.std()) == pytest.approx(1, abs=0.03)
    assert float(((h - h.mean()) ** 3).mean()) == pytest.approx(0, abs=0.1)


coordinates = st.floats(-400, 400, allow_nan=False, width=32)


@given(st.lists(st.tuples(coordinates, coordinates), min_size=1, max_size=20), st.floats(0.5, 20))
def test_compress_and_expand(points: list[tuple[float, float]], scale: float) -> None:
    xy = torch.tensor(points, dtype=torch.float64)
    u = compress(xy, scale)
    torch.testing.assert_close(expand(u, scale, 1e4), xy, atol=1e-6, rtol=1e-6)
    # The direction stays.
    torch.testing.assert_close(u[:, 0] * xy[:, 1], u[:, 1] * xy[:, 0], atol=1e-6, rtol=1e-6)
    assert (torch.linalg.vector_norm(expand(u, scale, 50.0), dim=1) <= 50 * (1 + 1e-9)).all()


def test_centre_and_width_are_imposed_and_removed() -> None:
    generator = torch.Generator().manual_seed(0)
    lateral = Lateral(3.0, 20.0)
    shower = torch.arange(4).repeat_interleave(torch.tensor([50, 70, 0, 60]))
    xy = 15 * torch.randn(180, 2, generator=generator, dtype=torch.float64)
    weight = torch.rand(180, generator=generator, dtype=torch.float64) + 0.1
    wanted = torch.tensor([[0.1, -0.2, -0.5], [0.0, 0.3, 0.2], [0.0, 0.0, 0.0], [0.4, 0.0, 0.0]], dtype=torch.float64)
    moved = lateral.impose(xy, wanted, weight, shower)
    found = lateral.measure(moved, weight, shower, 4)
    seen = [0, 1, 3]
    torch.testing.assert_close(found[seen, :2], wanted[seen, :2], atol=1e-6, rtol=0)
    torch.testing.assert_close(found[seen, 2], wanted[seen, 2], atol=0.02, rtol=0)
    removed = lateral.measure(lateral.remove(moved, found, shower), weight, shower, 4)
    torch.testing.assert_close(removed[seen], torch.zeros(3, 3, dtype=torch.float64), atol=0.02, rtol=0)
    assert float((lateral.measure(xy, weight, shower, 4) - wanted)[seen].abs().min(1).values.max()) > 0.05
    # What is removed can be put back.
    back = lateral.shift(lateral.scale(lateral.remove(xy, wanted, shower), wanted[:, 2].exp(), shower), wanted[:, :2], shower)
    torch.testing.assert_close(back, xy, atol=1e-6, rtol=1e-6)


def test_a_distant_deposit_moves_the_width_not_the_centre() -> None:
    xy = torch.cat([0.5 * torch.randn(200, 2, generator=torch.Generator().manual_seed(1)), torch.tensor([[300.0, 0.0]])])
    weight = torch.cat([torch.ones(200), torch.tensor([2.0])])
    shower = torch.zeros(201, dtype=torch.long)
    lateral = Lateral(3.0, 20.0)
    without = lateral.measure(xy[:200], weight[:200], shower[:200], 1)[0]
    found = lateral.measure(xy, weight, shower, 1)[0]
    # The centre of gravity moves by 3 mm.
    assert abs(float(found[0] - without[0])) * 3 < 0.25
    assert float(found[2] - without[2]) > 1


def test_energy_is_imposed() -> None:
    group = torch.tensor([0, 0, 2, 2, 2])
    energy = torch.tensor([1.0, 3.0, 0.5, 0.5, 1.0])
    target = torch.tensor([8.0, 0.0, 1.0])
    imposed = impose_energy(energy, group, target)
    torch.testing.assert_close(sum_by(imposed, group, 3), target)
    torch.testing.assert_close(imposed[:2], torch.tensor([2.0, 6.0]))


def test_standardise() -> None:
    x = torch.randn(500, 3, generator=torch.Generator().manual_seed(0)) * torch.tensor([1.0, 5.0, 0.0]) + 2
    scale = Standardise(3, 0.5)
    scale.fit(x)
    y = scale(x)
    torch.testing.assert_close(y.std(0, correction=0), torch.tensor([0.5, 0.5, 0.0]), atol=1e-5, rtol=0)
    torch.testing.assert_close(scale.inverse(y), x, atol=1e-5, rtol=1e-5)


def test_conditions_by_name(small_detector: Detector) -> None:
    event = Event(
        energy_mev=torch.tensor([10.0, 20.0]),
        direction=torch.tensor([[0.0, 0.0, 1.0], [0.6, 0.0, 0.8]]),
        charge=torch.tensor([0.0, -1.0]),
        n=torch.tensor([[2.0, 0.0], [4.0, 8.0]]),
        e=torch.tensor([[1.0, 0.0], [2.0, 2.0]]),
        log_width=torch.zeros(2),
        z_mm=torch.tensor([3.0, 9.0]),
    )
    table = condition_table(("log_energy", "dx", "depth", "spacing", "log_mean_energy", "log_points"), event)
    assert table.shape == (4, 6)
    torch.testing.assert_close(
        table[3], torch.tensor([np.log(20.0), 0.6, 9.0, 6.0, np.log(0.25), np.log(12.0)], dtype=torch.float32)
    )
    assert torch.isfinite(table).all()


def test_unknown_condition_is_refused() -> None:
    with pytest.raises(ModelError, match="Did you mean 'log_energy'"):
        check_conditions(("log_enery",), of_layer=True)
    with pytest.raises(ModelError, match="not known while depth is generated"):
        check_conditions(("depth",), of_layer=False)


def deposits(detector: Detector, rows: list[tuple[float, float, int, float]]) -> Showers:
    x, y, layer, energy = (np.array(c) for c in zip(*rows, strict=True))
    incident = Incident("gamma", energy_mev=1000.0, n=1)
    return Showers(
        detector=detector, incident=incident, offsets=np.array([0, len(x)]), x_mm=x, y_mm=y, layer=layer, energy_mev=energy
    )


def test_neighbours_are_joined_at_their_centre_of_gravity(small_detector: Detector) -> None:
    showers = deposits(small_detector, [(0, 0, 1, 0.3), (1, 0, 1, 0.1), (5, 0, 1, 0.2), (0, 0, 2, 0.1), (5, 0.9, 1, 2.0)])
    merged = merge_tracks(showers, radius_mm=1.2, energy_mev=1.0)
    rows = sorted(zip(merged.layer.tolist(), merged.x_mm.tolist(), merged.energy_mev.tolist(), strict=True))
    expected = [(1, 0.25, 0.4), (1, 5.0, 0.2), (1, 5.0, 2.0), (2, 0.0, 0.1)]
    for found, wanted in zip(rows, expected, strict=True):
        assert found == pytest.approx(wanted)


def test_merging_keeps_energy_and_never_crosses_layers_or_showers(small_detector: Detector) -> None:
    showers = toy_showers(small_detector, 300, seed=2)
    merged = merge_tracks(showers, radius_mm=2.0, energy_mev=1.0)
    assert 0.3 * showers.n_points < merged.n_points < 0.95 * showers.n_points
    np.testing.assert_allclose(merged.layer_energy_mev(), showers.layer_energy_mev(), rtol=1e-5, atol=1e-6)
    assert ((merged.layer_counts() > 0) == (showers.layer_counts() > 0)).all()
    whole = merge_tracks(showers[10:12], radius_mm=2.0, energy_mev=1.0)
    np.testing.assert_array_equal(whole.energy_mev, merged[10:12].energy_mev)
    assert merge_tracks(showers, radius_mm=0.0, energy_mev=1.0) is showers


def test_scales_of_a_layer_hit_at_high_energies_alone_stay_within_bounds_below() -> None:
    """Forty values at the upper fifth of the energies, many times: how far mean and spread are off at the lowest.

    The twin is without a least ridge.
    """
    at_lowest = energy_basis(torch.full((1,), -1.0), torch.zeros(1))

    def off(least: float) -> tuple[float, float]:
        means, spreads = [], []
        for seed in range(40):
            generator = torch.Generator().manual_seed(seed)
            basis = energy_basis(0.6 + 0.4 * torch.rand(40, generator=generator), torch.zeros(40))
            scale = ConditionalScale(1, basis.shape[1])
            scale.fit(0, 0.3 * torch.randn(40, generator=generator) - 0.5, basis, least)
            mean, spread = scale.parameters_of(at_lowest)
            means.append(float(mean) + 0.5)
            spreads.append(float(spread.log()) - float(np.log(0.3)))
        return float(np.std(means)), float(np.std(spreads))

    mean, spread = off(LEAST_OF_MEANS)
    assert mean < 0.25
    assert spread < 1
    twin_mean, twin_spread = off(0.0)
    assert twin_mean > 2.5 * mean
    assert twin_spread > 2.5 * spread

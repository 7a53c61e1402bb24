"""Points become the two ends of a track again: energy and centre are kept, likelihoods are densities, parameters are found."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from anycalo.errors import ModelError
from anycalo.geometry import Detector
from anycalo.models.merging import join_tracks, merge_tracks
from anycalo.models.tracks import NUMBERS, OF_TRACK, Ends, Tracks, TracksConfig, inclined
from anycalo.showers import Incident, Showers
from toyshowers import toy_showers

CONTEXT = 3


def test_two_ends_have_the_energy_the_centre_and_the_line_of_their_deposits(small_detector: Detector) -> None:
    """Three deposits on a line, and one alone: worked out by hand."""
    rows = [(0.0, 0.0, 1, 0.3), (1.0, 0.0, 1, 0.12), (1.9, 0.0, 1, 0.1), (30.0, 0.0, 1, 0.2)]
    x, y, layer, energy = (np.array(c) for c in zip(*rows, strict=True))
    showers = Showers(
        detector=small_detector,
        incident=Incident("gamma", energy_mev=1000.0, n=1),
        offsets=np.array([0, 4]),
        x_mm=x,
        y_mm=y,
        layer=layer,
        energy_mev=energy,
    )
    joined = join_tracks(showers, radius_mm=1.2, energy_mev=1.0)
    # The centre is at 0.596 mm: 0.3 MeV before it, and behind it 0.22 MeV at 1.41 mm.
    assert joined.showers.x_mm == pytest.approx([0.31 / 0.52, 30.0])
    assert joined.share == pytest.approx([0.22 / 0.52, 0.0])
    assert joined.way_mm[0] == pytest.approx([0.31 / 0.22, 0.0], abs=1e-6)
    assert joined.way_mm[1] == pytest.approx([0.0, 0.0])


def test_ends_together_are_the_point(small_detector: Detector) -> None:
    """The centre of a point and the spread of its deposits along its line, before and after; and nothing else has changed."""
    showers = toy_showers(small_detector, 200, seed=3)
    joined = join_tracks(showers, radius_mm=2.0, energy_mev=1.0)
    plain = merge_tracks(showers, radius_mm=2.0, energy_mev=1.0)
    np.testing.assert_array_equal(joined.showers.x_mm, plain.x_mm)
    two = joined.share > 0
    assert 0.1 < two.mean() < 0.9
    assert (joined.share <= 0.5).all()
    assert not joined.way_mm[~two].any()
    length = np.hypot(*joined.way_mm.T)
    assert (length[two] > 0).all()
    # Ends are centres of what lies within the distance of joining, or in chains a few times that.
    assert np.median(length[two]) < 2.0
    alone = join_tracks(showers, radius_mm=0.0, energy_mev=1.0)
    assert alone.showers is showers
    assert not alone.share.any()


def tracks(bias: dict[int, float]) -> Tracks:
    """Parameters that are the same in every layer, by their place among the numbers of the head."""
    torch.manual_seed(2)
    net = Tracks(CONTEXT, TracksConfig(hidden=4, depth=1))
    with torch.no_grad():
        net.head.weight.zero_()
        for place, value in bias.items():
            net.head.bias[place] = value
        net.share_shape.knots.copy_(torch.linspace(0.02, 0.5, 129)[None])
        net.length_shape.knots.copy_(torch.linspace(-2.0, 1.5, 129)[None])
    return net.requires_grad_(False)


TRUE = {0: 0.4, 1: 0.3, 5: -0.2, 15: 0.5, 16: 0.4, 20: -0.6, 25: -0.3, 30: 1.2, NUMBERS - 2: 0.3, NUMBERS - 1: 0.4}
"""Places of the first coefficients of divided (with its slope in the energy), share, length, its spread, heading, nearness."""


def drawn(net: Tracks, n: int, seed: int) -> tuple[Tensor, Tensor, Ends]:
    """Radius, energy and ends of n points."""
    generator = torch.Generator().manual_seed(seed)
    radius, energy, turn = torch.randn(3, n, generator=generator)
    outwards = (turn * 2) % (2 * math.pi)
    slope = torch.rand(n, 2, generator=generator) - 0.5
    coefficients = net.head(net.trunk(torch.zeros(n, CONTEXT)))
    share, way = net.draw(coefficients, radius, energy, outwards, slope, torch.randn(n, OF_TRACK, generator=generator))
    return radius, energy, Ends(share, way.norm(dim=1), torch.atan2(way[:, 1], way[:, 0]), outwards, slope)


def test_drawn_ends_are_likeliest_under_their_own_parameters() -> None:
    """20,000 points; any parameter changed by 0.1 or 0.15 makes them less likely (two false alarms in 100 seeds)."""
    radius, energy, ends = drawn(tracks(TRUE), 20_000, 5)
    assert 0.5 < float((ends.share > 0).float().mean()) < 0.7

    def loss(changes: dict[int, float]) -> float:
        net = tracks({**TRUE, **{place: TRUE[place] + by for place, by in changes.items()}})
        return float(net.negative_log_likelihood(torch.zeros(len(radius), CONTEXT), radius, energy, ends).double().mean())

    best = loss({})
    for place in TRUE:
        step = 0.15 if place in (25, 30) else 0.1
        for by in (-step, step):
            assert loss({place: by}) > best, place


def test_the_direction_is_a_density_of_lines() -> None:
    net = tracks({**TRUE, 30: 3.0})
    n = 720
    angle = (torch.arange(n) + 0.5) / n * 2 * math.pi
    same = torch.zeros(n)
    ends = Ends(same + 0.3, same + 1.0, angle, same + 0.7, torch.tensor([[0.1, 0.2]]).expand(n, 2))
    given = net.negative_log_likelihood(torch.zeros(n, CONTEXT), same, same, ends)
    flat = tracks({**TRUE, 30: -30.0}).negative_log_likelihood(torch.zeros(n, CONTEXT), same, same, ends)
    density = (flat - given).exp()
    assert float(density.mean()) == pytest.approx(1, abs=1e-3)
    assert float(density.max()) > 5
    # A line has no head: turned by half a turn it is the same.
    torch.testing.assert_close(density, density.roll(n // 2), rtol=1e-4, atol=1e-5)
    v, _ = inclined(same[:1] + 0.7, ends.slope[:1], torch.tensor([math.exp(-0.3)]))
    assert float(angle[density.argmax()]) % math.pi == pytest.approx(float(v) % math.pi, abs=2 * math.pi / n)


def test_points_without_two_ends_do_not_move() -> None:
    net = tracks({**TRUE, 0: -60.0, 1: 0.0})
    _, _, ends = drawn(net, 500, 1)
    assert not ends.share.any()


def test_sizes_below_one_are_refused() -> None:
    with pytest.raises(ModelError, match="hidden is 0; expected at least 1"):
        TracksConfig(hidden=0)

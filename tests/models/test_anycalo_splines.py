"""Splines in numpy against zuko's."""

import numpy as np
import torch
from zuko.transforms import MonotonicRQSTransform

from anycalo.models.splines import Splines


def test_draws_are_those_of_zuko() -> None:
    rng = np.random.default_rng(1)
    knots = rng.normal(0, 2, (7, 3 * 5 - 1))
    row = rng.integers(0, 7, 400)
    y = rng.normal(0, 3, 400)
    widths, heights, slopes = torch.split(torch.from_numpy(knots[row]), [5, 5, 4], dim=1)
    expected = MonotonicRQSTransform(widths, heights, slopes, bound=4.5).inv(torch.from_numpy(y)).numpy()
    assert (np.abs(y) > 4.5).any()
    np.testing.assert_allclose(Splines(knots, 4.5).inverse(y, row), expected, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(Splines(knots[row], 4.5).inverse(y), expected, rtol=1e-9, atol=1e-9)
    # Another spline gives another draw.
    assert np.abs(Splines(knots, 4.5).inverse(y, (row + 1) % 7) - expected).max() > 0.1

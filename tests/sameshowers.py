"""Whether two ways to compute make the same showers."""

from __future__ import annotations

import numpy as np

from anycalo.showers import Showers


def assert_same(one: Showers, two: Showers, *, walked: bool = False) -> None:
    """Up to rounding in float32, which may move a count by one in a few of a thousand layers.

    Where layers are walked through (`walked`), a count that is moved moves all behind it: the first of a shower counts.
    """
    same = one.layer_counts() == two.layer_counts()
    moved = ~same.all(axis=1) if walked else ~same
    assert moved.sum() <= 2 + 0.003 * same.size
    whole = np.flatnonzero(same.all(axis=1))
    assert len(whole) > 0.8 * len(one)
    one, two = one[whole], two[whole]
    np.testing.assert_allclose(one.layer_energy_mev(), two.layer_energy_mev(), rtol=3e-3, atol=1e-5)
    for name, atol in (("energy_mev", 1e-5), ("x_mm", 2e-3), ("y_mm", 2e-3)):
        found, wanted = getattr(one, name), getattr(two, name)
        np.testing.assert_allclose(found, wanted, rtol=1e-2, atol=atol, err_msg=name)
        # Nearly all of them are much closer.
        assert np.quantile(np.abs(found - wanted) / (np.abs(wanted) + 1e-2), 0.9) < 1e-4, name

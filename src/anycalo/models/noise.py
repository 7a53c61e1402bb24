"""The randomness of generation: one stream a shower, so that a shower does not depend on its batch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


class Noise:
    """Independent standard normal streams, one for each of B showers.

    Shower k of a run draws from the Philox stream with key (seed, k), whichever batch it is generated in.
    Numbers are drawn on the CPU, so that they do not depend on the device either; what a network makes of
    them still varies in the last bits with the batch size.

    Args:
        seed: of the run, at least 0.
        indices: of the showers in the run, shape (B,).

    Example:
        >>> a, b = Noise(1, [4, 5]), Noise(1, [5])
        >>> bool((a.normal(3)[1] == b.normal(3)[0]).all())
        True
    """

    def __init__(self, seed: int, indices: Sequence[int] | np.ndarray) -> None:
        self._streams = [np.random.Generator(np.random.Philox(key=np.array([seed, k], dtype=np.uint64))) for k in indices]

    def __len__(self) -> int:
        return len(self._streams)

    def normal(self, features: int, *, only: np.ndarray | None = None) -> Tensor:
        """One row a shower, float32 (B, features), or (len(only), features) for the showers chosen."""
        chosen = range(len(self)) if only is None else only
        out = np.empty((len(chosen), features), dtype=np.float32)
        for row, k in enumerate(chosen):
            self._streams[k].standard_normal(out=out[row], dtype=np.float32)
        return torch.from_numpy(out)

    def normal_points(self, counts: np.ndarray, features: int) -> Tensor:
        """`counts[b]` rows for shower b, one after the other: float32 (counts.sum(), features)."""
        out = np.empty((int(counts.sum()), features), dtype=np.float32)
        start = 0
        for stream, count in zip(self._streams, counts.tolist(), strict=True):
            stream.standard_normal(out=out[start : start + count], dtype=np.float32)
            start += count
        return torch.from_numpy(out)

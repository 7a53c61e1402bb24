"""Columns: what is appended in any pieces is read back, as plain shuffle and gzip."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from anycalo.showers.column import Column, create_column


@given(pieces=st.lists(st.integers(0, 70), max_size=8), width=st.sampled_from([None, 3]), seed=st.integers(0, 99))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50, deadline=None)
def test_pieces_are_read_back_in_order(pieces: list[int], width: int | None, seed: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(seed)
    values = [rng.normal(size=n if width is None else (n, width)).astype(np.float32) for n in pieces]
    with h5py.File(tmp_path / "a.h5", "w") as file:
        column = Column(create_column(file, "a", np.float32, width, chunk=16))
        for piece in values:
            column.append(piece)
        column.finish()
    with h5py.File(tmp_path / "a.h5", "r") as file:
        expected = np.concatenate([np.zeros((0,) if width is None else (0, width), dtype=np.float32), *values])
        assert np.array_equal(file["a"][...], expected)
        assert file["a"].compression == "gzip"


@pytest.mark.parametrize("dtype", [np.int16, np.int32, np.int64, np.float32])
def test_every_type_of_the_file_and_later_changes_of_the_caller(dtype: type, tmp_path: Path) -> None:
    values = np.arange(10, dtype=np.int64)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        column = Column(create_column(file, "a", dtype, None, chunk=64))
        column.append(values)
        values[:] = -1
        column.finish()
        column.finish()
        assert np.array_equal(file["a"][...], np.arange(10))
        assert file["a"].dtype == dtype

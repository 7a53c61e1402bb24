"""A growing, compressed column of an HDF5 file, written chunk by chunk.

Deposits are random numbers: the search for repeated strings, on which deflate spends its time, finds
nothing in their mantissas. After HDF5's byte shuffle, deflate restricted to run lengths and Huffman codes
(`Z_RLE`) writes as small a file in about half the time. What it writes is plain shuffle and gzip, which
every HDF5 library reads.
"""

from __future__ import annotations

import zlib
from typing import Any

import h5py
import numpy as np

_LEVEL = 4


def create_column(file: h5py.File, name: str, dtype: type, width: int | None, chunk: int) -> Any:
    """An empty data set of shape (0,) or (0, width) that can grow."""
    tail = () if width is None else (width,)
    return file.create_dataset(
        name,
        shape=(0, *tail),
        maxshape=(None, *tail),
        dtype=dtype,
        chunks=(chunk, *tail),
        compression="gzip",
        compression_opts=_LEVEL,
        shuffle=True,
    )


class Column:
    """What is appended to a data set of `create_column`, held back until it fills a chunk."""

    def __init__(self, dataset: Any) -> None:
        self._dataset = dataset
        self._chunk = int(dataset.chunks[0])
        self._rest: list[np.ndarray] = []
        self._waiting = 0
        self._written = 0

    def append(self, values: np.ndarray) -> None:
        """Add values at the end, converted to the type of the data set."""
        values = np.array(values, dtype=self._dataset.dtype)  # a copy, for the caller may change theirs
        self._rest.append(values)
        self._waiting += len(values)
        if self._waiting >= self._chunk:
            rest = np.concatenate(self._rest)
            whole = len(rest) // self._chunk * self._chunk
            self._dataset.resize(self._written + whole, axis=0)
            for start in range(0, whole, self._chunk):
                self._write(rest[start : start + self._chunk])
            self._rest = [rest[whole:].copy()]  # a copy, so that the whole is let go
            self._waiting = len(rest) - whole

    def finish(self) -> None:
        """Write what is left; nothing may be appended after."""
        if not self._waiting:
            return
        rest = np.concatenate(self._rest)
        self._dataset.resize(self._written + len(rest), axis=0)
        padding = np.zeros((self._chunk - len(rest), *rest.shape[1:]), dtype=rest.dtype)
        self._write(np.concatenate([rest, padding]))
        self._rest, self._waiting = [], 0

    def _write(self, chunk: np.ndarray) -> None:
        planes = chunk.reshape(-1).view(np.uint8).reshape(chunk.size, chunk.itemsize).T
        deflate = zlib.compressobj(_LEVEL, zlib.DEFLATED, zlib.MAX_WBITS, zlib.DEF_MEM_LEVEL, zlib.Z_RLE)
        packed = deflate.compress(planes.tobytes()) + deflate.flush()
        self._dataset.id.write_direct_chunk((self._written, *[0] * (chunk.ndim - 1)), packed)
        self._written += len(chunk)

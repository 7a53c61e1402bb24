"""The shower file: what is written is read, and what is broken is refused."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from anycalo.errors import OutputError, ShowerFileError, ShowersError
from anycalo.geometry import Detector
from anycalo.showers import ShowerFile, Showers, ShowerWriter
from anycalo.showers.file import DATASETS, round_to_bits
from samples import SMALL, random_showers, same

DETECTOR = Detector.from_toml(SMALL)


@given(n=st.integers(1, 20), seed=st.integers(0, 10**6), pieces=st.integers(1, 4))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25, deadline=None)
def test_written_piece_by_piece_read_by_slices(n: int, seed: int, pieces: int, tmp_path: Path) -> None:
    showers = random_showers(DETECTOR, n, seed)
    path = tmp_path / "a.h5"
    with ShowerWriter(path, DETECTOR, showers.provenance, overwrite=True) as writer:
        for part in np.array_split(np.arange(n), min(pieces, n)):
            writer.append(showers[part])
    whole = Showers.open(path)
    assert same(whole, showers)
    assert whole.detector == DETECTOR
    assert whole.provenance == showers.provenance
    start = seed % n
    with ShowerFile(path) as file:
        assert len(file) == n
        assert file.n_points == showers.n_points
        assert same(file[start:], showers[start:])
        assert same(file[start : start + 1], showers[start])


def test_a_slice_reads_no_more_than_it_needs(tmp_path: Path) -> None:
    """A file whose later chunks are damaged still gives its first showers."""
    showers = random_showers(DETECTOR, 3000, 1, mean_points=100)
    path = tmp_path / "a.h5"
    showers.write(path)
    with h5py.File(path, "r") as file:
        data = file["points/energy_mev"]
        last = data.id.get_chunk_info(data.id.get_num_chunks() - 1)
        assert data.id.get_num_chunks() > 2
    with path.open("r+b") as raw:
        raw.seek(last.byte_offset)
        raw.write(b"\xff" * last.size)
    assert same(Showers.open(path, 0, 10), showers[:10])
    with pytest.raises(ShowerFileError, match="damaged"):
        Showers.open(path)


def test_a_compact_file_is_close_and_says_so(tmp_path: Path) -> None:
    showers = random_showers(DETECTOR, 50, 1)
    with ShowerWriter(tmp_path / "a.h5", DETECTOR, {"seed": 1}, compact=True) as writer:
        writer.append(showers)
    read = Showers.open(tmp_path / "a.h5")
    assert read.provenance == {"seed": 1, "compact": True}
    np.testing.assert_allclose(read.x_mm, showers.x_mm, atol=1 / 512)
    np.testing.assert_allclose(read.energy_mev, showers.energy_mev, rtol=2**-11)
    assert not np.array_equal(read.energy_mev, showers.energy_mev)


def test_rounding_is_to_nearest_and_idempotent() -> None:
    values = np.random.default_rng(0).lognormal(size=10_000).astype(np.float32)
    once = round_to_bits(values, 10)
    assert np.array_equal(round_to_bits(once, 10), once)
    assert np.abs(once / values - 1).max() <= 2**-11
    assert abs((once / values - 1).mean()) < 2e-5  # to nearest, so without bias


def test_a_failed_writing_leaves_nothing(tmp_path: Path) -> None:
    def fail() -> None:
        with ShowerWriter(tmp_path / "a.h5", DETECTOR, {}) as writer:
            writer.append(random_showers(DETECTOR, 2, 1))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_outputs_that_exist_or_cannot_be_written_are_refused(tmp_path: Path) -> None:
    showers = random_showers(DETECTOR, 2, 1)
    path = tmp_path / "a.h5"
    showers.write(path)
    with pytest.raises(OutputError, match="exists already; choose another name"):
        showers.write(path)
    showers[:1].write(path, overwrite=True)
    assert len(Showers.open(path)) == 1
    with pytest.raises(OutputError, match="is a directory"):
        showers.write(tmp_path)
    with pytest.raises(OutputError, match="cannot be written"):
        showers.write(path / "b.h5")


def test_showers_of_another_detector_cannot_join(tmp_path: Path) -> None:
    other = Detector.from_toml(SMALL.replace('"small"', '"other"'))

    def join() -> None:
        with ShowerWriter(tmp_path / "a.h5", DETECTOR, {}) as writer:
            writer.append(random_showers(other, 2, 1))

    with pytest.raises(ShowersError, match="'other' cannot join a file of 'small'"):
        join()
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    path = tmp_path / "a.h5"
    random_showers(DETECTOR, 30, 1).write(path)
    return path


@pytest.mark.parametrize("keep", [0, 10, 600, 0.5, 0.99])
def test_truncated_files_are_refused(whole: Path, keep: float) -> None:
    content = whole.read_bytes()
    whole.write_bytes(content[: int(keep if keep > 1 else keep * len(content))])
    with pytest.raises(ShowerFileError, match=r"truncated|not an HDF5 file|attribute|missing|damaged"):
        Showers.open(whole)


def test_foreign_files_are_refused_naming_what_is_missing(tmp_path: Path, whole: Path) -> None:
    (tmp_path / "text.h5").write_text("energy, layer\n")
    with pytest.raises(ShowerFileError, match="not an HDF5 file"):
        Showers.open(tmp_path / "text.h5")
    with h5py.File(tmp_path / "foreign.h5", "w") as file:
        file["showers"] = np.zeros(3)
    with pytest.raises(ShowerFileError, match=r"'format' is None; expected 'anycalo-showers'. It holds showers"):
        Showers.open(tmp_path / "foreign.h5")
    with pytest.raises(ShowerFileError, match="no such file"):
        Showers.open(tmp_path / "nowhere.h5")
    with h5py.File(whole, "r+") as file:
        file.attrs["version"] = 2
    with pytest.raises(ShowerFileError, match="version 2; this AnyCalo reads version 1"):
        Showers.open(whole)


@pytest.mark.parametrize("name", sorted(DATASETS))
def test_every_data_set_is_needed_and_of_its_type(whole: Path, name: str) -> None:
    with h5py.File(whole, "r+") as file:
        kept = file[name][...]
        del file[name]
    with pytest.raises(ShowerFileError, match=f"'/{name}' is missing"):
        Showers.open(whole)
    with h5py.File(whole, "r+") as file:
        file[name] = kept.astype(np.float64)
    with pytest.raises(ShowerFileError, match=f"'/{name}' holds float64; expected"):
        Showers.open(whole)
    with h5py.File(whole, "r+") as file:
        del file[name]
        file[name] = kept[:-1]
    with pytest.raises(ShowerFileError, match=r"shape|offsets"):
        Showers.open(whole)


@pytest.mark.parametrize("name", ["detector", "provenance"])
def test_attributes_are_needed_and_must_parse(whole: Path, name: str) -> None:
    with h5py.File(whole, "r+") as file:
        file.attrs[name] = "{ not ="
    with pytest.raises(ShowerFileError, match=str(whole)):
        Showers.open(whole)
    with h5py.File(whole, "r+") as file:
        del file.attrs[name]
    with pytest.raises(ShowerFileError, match=f"attribute '{name}' is missing"):
        Showers.open(whole)


def test_slices_must_hold_something(whole: Path) -> None:
    with ShowerFile(whole) as file:
        with pytest.raises(ShowersError, match=r"selection 30:30 of .* is empty; it holds 30 showers"):
            file[30:]
        with pytest.raises(ShowersError, match="step 1"):
            file[::2]

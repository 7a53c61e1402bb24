"""The spiral order: a permutation of any grid, from the middle outwards, and what is known of each cell on it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anycalo.errors import ModelError
from anycalo.geometry import Detector, Edges, Hexagonal, Rectangular, atlas_like
from anycalo.models.segmentation import layer_cells, segment, turned
from anycalo.models.spiral import spiral, spiral_path
from anycalo.readout import cell_centre, read_out
from anycalo.showers import Incident
from toyshowers import toy_showers

ATLAS = atlas_like()


@given(st.integers(1, 12), st.integers(1, 12), st.data())
def test_a_spiral_is_a_permutation_ring_by_ring(columns: int, rows: int, data: st.DataObject) -> None:
    start = (data.draw(st.integers(0, columns - 1)), data.draw(st.integers(0, rows - 1)))
    order = spiral(columns, rows, start)
    assert sorted(order.tolist()) == list(range(columns * rows))
    ring = np.maximum(np.abs(order % columns - start[0]), np.abs(order // columns - start[1]))
    assert order[0] == start[1] * columns + start[0]
    assert (np.diff(ring) >= 0).all()


def test_neighbours_on_a_whole_spiral_touch() -> None:
    order = spiral(9, 9, (4, 4))
    steps = np.abs(np.diff(order % 9)) + np.abs(np.diff(order // 9))
    # From cell to cell along a ring; only the step outwards to the next ring may go by a corner.
    assert (steps == 1).sum() >= len(steps) - 4
    assert steps.max() <= 2


def test_a_start_outside_is_refused() -> None:
    with pytest.raises(ModelError, match="column 3, row 0"):
        spiral(3, 2, (3, 0))


@pytest.mark.parametrize("cells", [(192, 4), (48, 48), (6, 6), ((24, 12), 48), ((6, 3), 12)])
def test_a_path_and_its_inverse(cells: tuple[int | tuple[int, int], int]) -> None:
    detector = atlas_like(middle=cells)  # type: ignore[arg-type]
    readout = detector.layers[1].readout
    path = spiral_path(readout, detector.size_mm, window=2)
    np.testing.assert_array_equal(path.inverse[path.cell], np.arange(len(path)))
    np.testing.assert_array_equal(path.cell[path.inverse], np.arange(len(path)))
    x, y = cell_centre(readout, detector.size_mm, path.cell)
    np.testing.assert_allclose(path.x, x)
    np.testing.assert_allclose(path.y, y)
    assert (path.dx * path.dy).sum() == pytest.approx(480.0**2)
    # The cell nearest to the axis comes first.
    assert np.hypot(x[0], y[0]) == pytest.approx(np.hypot(x, y).min())


def test_neighbours_are_near_and_earlier() -> None:
    detector = atlas_like(middle=((6, 3), 12))
    path = spiral_path(detector.layers[1].readout, detector.size_mm, window=2)
    step, which = np.nonzero(path.neighbours < len(path))
    other = path.neighbours[step, which]
    assert (other < step).all()
    apart = [np.abs(path.cell[step] % 9 - path.cell[other] % 9), np.abs(path.cell[step] // 9 - path.cell[other] // 9)]
    assert max(a.max() for a in apart) == 2
    # Each pair of near cells appears once, at the later of the two.
    near = sum(1 for a in range(108) for b in range(a) if abs(a % 9 - b % 9) <= 2 and abs(a // 9 - b // 9) <= 2)
    assert len(step) == near


def test_an_unaware_path_knows_no_sizes() -> None:
    fine, coarse = (
        spiral_path(atlas_like(middle=cells).layers[1].readout, (480.0, 480.0), window=1, aware=False)
        for cells in ((24, 24), ((12, 12), (12, 12)))
    )
    np.testing.assert_array_equal(fine.x, coarse.x)
    assert set(fine.dx) == set(fine.dy) == {1.0}
    assert float(fine.x[0]) == float(fine.y[0]) == 0.0
    # Unequal cells look equal: neighbours are one apart.
    skewed = spiral_path(atlas_like(middle=((6, 3), 12)).layers[1].readout, (480.0, 480.0), window=1, aware=False)
    assert sorted(set(np.diff(np.unique(skewed.x)))) == [1.0]


def test_other_readouts_are_refused() -> None:
    with pytest.raises(ModelError, match=r"hexagons.*'edges'"):
        spiral_path(Hexagonal(pitch_mm=5.0), (100.0, 100.0), window=1)
    with pytest.raises(ModelError, match="without wafers"):
        spiral_path(Rectangular(pitch_mm=(5.0, 5.0), wafer_cells=(4, 4)), (100.0, 100.0), window=1)
    assert len(spiral_path(Rectangular(pitch_mm=(5.0, 10.0)), (100.0, 100.0), window=1)) == 200


def test_segmentations_are_those_of_the_preset() -> None:
    made = segment(Detector.load("atlas-like"), ("48x12", "24+12x48", "24x24"))
    assert made == atlas_like(inner=(48, 12), middle=((24, 12), 48), outer=(24, 24))
    assert isinstance(made.layers[0].readout, Edges)


@pytest.mark.parametrize("grid", ["48", "0x4", "4x", "4x4x4", "+4x4", "a x b", ""])
def test_a_grid_that_cannot_be_read_is_refused(grid: str) -> None:
    with pytest.raises(ModelError, match="cannot be read"):
        segment(ATLAS, [grid, "4x4", "4x4"])


def test_a_grid_for_each_layer_is_asked_for() -> None:
    with pytest.raises(ModelError, match="2 grids for the 3 layers"):
        segment(ATLAS, ["4x4", "4x4"])


def test_projection_conserves_energy() -> None:
    showers = toy_showers(ATLAS, 20, 1, incident=Incident(energy_mev=5000.0, n=20))
    for grids in (("192x4", "24+12x48", "24x24"), ("48x48", "6x6", "1x1"), ("7x3+4", "5+6x9", "2x2")):
        other = showers.seen_by(segment(ATLAS, grids))
        cells = read_out(other)
        paths = [spiral_path(layer.readout, other.detector.size_mm, window=1) for layer in other.detector.layers]
        images = layer_cells(other, paths)
        inside = showers.layer_energy_mev().sum(1) - cells.lost_outside_mev
        assert cells.lost_gap_mev.max() == 0
        np.testing.assert_allclose(sum(image.sum(1) for image in images), inside, rtol=1e-5)
        # Coarser cells hold the sums of finer ones: the image of every layer is the read-out cell by cell.
        for layer, (path, image) in enumerate(zip(paths, images, strict=True)):
            here = (cells.layer == layer) & (cells.shower == 3)
            np.testing.assert_allclose(image[3][path.inverse[cells.cell[here]]], cells.energy_mev[here], rtol=1e-6)
            assert (image[3] > 0).sum() == here.sum()


def test_turning_keeps_radii_and_changes_places() -> None:
    showers = toy_showers(ATLAS, 60, 2, incident=Incident(energy_mev=5000.0, n=60))
    other = turned(showers, 3)
    radius = [np.sort(np.maximum(np.abs(s.x_mm), np.abs(s.y_mm))) for s in (showers, other)]
    np.testing.assert_array_equal(*radius)
    np.testing.assert_allclose(np.hypot(showers.x_mm, showers.y_mm), np.hypot(other.x_mm, other.y_mm), rtol=1e-6)
    first = showers.offsets[:-1]
    kinds = {
        (bool(a * b > 0), bool(c * d > 0), bool(abs(a) == abs(b)))
        for a, b, c, d in zip(showers.x_mm[first], other.x_mm[first], showers.y_mm[first], other.y_mm[first], strict=True)
    }
    assert len(kinds) == 8
    np.testing.assert_array_equal(turned(showers, 3).x_mm, other.x_mm)


def test_turning_is_refused_where_it_changes_the_physics() -> None:
    slanted = toy_showers(ATLAS, 5, 1, max_angle_rad=0.4)
    with pytest.raises(ModelError, match="turn = false"):
        turned(slanted, 1)

"""Laws of one layer's cells: centre and index are inverse, areas and gaps have closed forms."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anycalo.errors import ShowersError
from anycalo.geometry import Edges, Hexagonal, Polar, Rectangular
from anycalo.readout import GAP, OUTSIDE, cell_centre, cell_index, n_cells

SIZE = (97.0, 61.0)
offsets = st.tuples(st.floats(-30, 30), st.floats(-30, 30))
fractions = st.floats(0.0, 0.8)


@st.composite
def rectangulars(draw):
    pitch = draw(st.tuples(st.floats(0.5, 40), st.floats(0.5, 40)))
    gap = tuple(p * draw(fractions) for p in pitch)
    wafer = draw(st.none() | st.tuples(st.integers(1, 7), st.integers(1, 7)))
    wafer_gap = draw(st.tuples(st.floats(0, 5), st.floats(0, 5))) if wafer else (0.0, 0.0)
    return Rectangular(pitch_mm=pitch, offset_mm=draw(offsets), gap_mm=gap, wafer_cells=wafer, wafer_gap_mm=wafer_gap)


@st.composite
def edges(draw):
    axes = [np.cumsum([draw(st.floats(-50, 0)), *draw(st.lists(st.floats(0.5, 20), min_size=1, max_size=8))]) for _ in "xy"]
    gap = tuple(float(np.min(np.diff(a))) * draw(fractions) for a in axes)
    return Edges(x_edges_mm=tuple(axes[0].tolist()), y_edges_mm=tuple(axes[1].tolist()), gap_mm=gap, offset_mm=draw(offsets))


@st.composite
def polars(draw):
    r = np.cumsum([draw(st.sampled_from([0.0, 3.0])), *draw(st.lists(st.floats(0.5, 20), min_size=1, max_size=8))])
    return Polar(r_edges_mm=tuple(r.tolist()), n_phi=draw(st.integers(1, 50)), offset_mm=draw(offsets))


hexagonals = st.builds(
    lambda pitch, offset, gap: Hexagonal(pitch_mm=pitch, offset_mm=offset, gap_mm=gap * pitch),
    st.floats(0.5, 40),
    offsets,
    fractions,
)
readouts = st.one_of(rectangulars(), edges(), polars(), hexagonals)


@given(readouts)
@settings(deadline=None)
def test_the_centre_of_every_cell_falls_in_that_cell(readout):
    cells = np.arange(n_cells(readout, SIZE))
    x, y = cell_centre(readout, SIZE, cells)
    np.testing.assert_array_equal(cell_index(readout, SIZE, x, y), cells)


@given(readouts, st.integers(0, 2**32 - 1))
@settings(deadline=None)
def test_every_position_has_a_numbered_cell_or_a_stated_loss(readout, seed):
    rng = np.random.default_rng(seed)
    x, y = ((rng.random(500) - 0.5) * size for size in SIZE)
    cell = cell_index(readout, SIZE, x, y)
    assert cell.dtype == np.int64
    assert cell.min() >= OUTSIDE
    assert cell.max() < n_cells(readout, SIZE)
    if isinstance(readout, Rectangular | Hexagonal):
        assert (cell != OUTSIDE).all(), "grids that cover the plane have a cell or a gap everywhere on the slab"


@given(rectangulars(), st.integers(0, 2**32 - 1))
@settings(deadline=None)
def test_a_position_is_never_farther_than_half_a_cell_from_the_centre_of_its_cell(readout, seed):
    rng = np.random.default_rng(seed)
    x, y = ((rng.random(300) - 0.5) * size for size in SIZE)
    cell = cell_index(readout, SIZE, x, y)
    cx, cy = cell_centre(readout, SIZE, cell[cell >= 0])
    for position, centre, pitch, gap in zip((x, y), (cx, cy), readout.pitch_mm, readout.gap_mm, strict=True):
        assert (np.abs(position[cell >= 0] - centre) <= (pitch - gap) / 2 + 1e-9).all()


@given(hexagonals, st.integers(0, 2**32 - 1))
@settings(deadline=None, max_examples=50)
def test_a_hexagon_is_where_its_centre_is_the_nearest(readout, seed):
    rng = np.random.default_rng(seed)
    x, y = ((rng.random(50) - 0.5) * size for size in SIZE)
    cx, cy = cell_centre(readout, SIZE, np.arange(n_cells(readout, SIZE)))
    distance = np.hypot(x[:, None] - cx, y[:, None] - cy)
    cell = cell_index(readout, SIZE, x, y)
    live = cell >= 0
    np.testing.assert_allclose(distance[live, cell[live]], distance[live].min(axis=1), atol=1e-9)
    # The gap is what lies within half its width of the border between the two nearest centres.
    if distance.shape[1] > 1:
        nearest = np.argsort(distance, axis=1)[:, :2]
        first, second = (np.take_along_axis(distance, nearest[:, [k]], axis=1)[:, 0] for k in (0, 1))
        to_border = (second**2 - first**2) / (2 * readout.pitch_mm)
        sure = np.abs(to_border - readout.gap_mm / 2) > 1e-6
        # A second nearest on the rim of the numbered cells may lack its true neighbour; the check is for the inside.
        inside = (np.abs(x) < SIZE[0] / 2 - readout.pitch_mm) & (np.abs(y) < SIZE[1] / 2 - readout.pitch_mm)
        np.testing.assert_array_equal((cell == GAP)[sure & inside], (to_border < readout.gap_mm / 2)[sure & inside])


def test_neighbouring_hexagons_are_one_pitch_apart_and_one_lies_at_the_origin():
    readout = Hexagonal(pitch_mm=5.0)
    origin = cell_index(readout, SIZE, 0.0, 0.0)
    x, y = cell_centre(readout, SIZE, np.arange(n_cells(readout, SIZE)))
    assert np.hypot(*cell_centre(readout, SIZE, origin)).item() == 0.0
    distance = np.sort(np.hypot(x, y))
    np.testing.assert_allclose(distance[1:7], 5.0)
    assert distance[7] == pytest.approx(5.0 * math.sqrt(3))
    # Two sides are parallel to y: the flat sides lie half a pitch away along x, the tips pitch/sqrt(3) along y.
    assert cell_index(readout, SIZE, 2.499, 0.0) == origin != cell_index(readout, SIZE, 2.501, 0.0)
    assert cell_index(readout, SIZE, 0.0, 2.88) == origin != cell_index(readout, SIZE, 0.0, 2.89)


def uniform_lattice(width, height, n=1200):
    """Positions in the middle of n x n equal tiles: a uniform illumination without statistical error."""
    x, y = np.meshgrid((np.arange(n) + 0.5) / n * width - width / 2, (np.arange(n) + 0.5) / n * height - height / 2)
    return x.ravel(), y.ravel()


@pytest.mark.parametrize(
    ("readout", "period", "live"),
    [
        (Rectangular(pitch_mm=(5.0, 4.0)), (50.0, 40.0), 1.0),
        (Rectangular(pitch_mm=(5.0, 4.0), gap_mm=(0.5, 1.0)), (50.0, 40.0), 0.9 * 0.75),
        (
            Rectangular(pitch_mm=(5.0, 4.0), gap_mm=(0.5, 1.0), wafer_cells=(3, 2), wafer_gap_mm=(5.0, 2.0)),
            (60.0, 40.0),  # 3 wafers of 15 + 5 mm, 4 of 8 + 2 mm
            (3 * 4.5 / 20) * (2 * 3 / 10),
        ),
        (Hexagonal(pitch_mm=6.0, gap_mm=1.0), (60.0, 60.0 * math.sqrt(3)), (5 / 6) ** 2),
        (Hexagonal(pitch_mm=6.0), (60.0, 60.0 * math.sqrt(3)), 1.0),
    ],
)
@pytest.mark.parametrize("shift", [(0.0, 0.0), (1.3, -2.7)])
def test_uniform_illumination_loses_the_area_of_the_gaps(readout, period, live, shift):
    readout = type(readout)(**{**readout.__dict__, "offset_mm": shift})
    x, y = uniform_lattice(*period)
    cell = cell_index(readout, period, x, y)
    # The lattice resolves a border to one tile in 1200 on each side: 0.2 % at these gap counts, per axis.
    assert np.mean(cell >= 0) == pytest.approx(live, rel=0.01 if live < 1 else 1e-12)
    assert (cell != OUTSIDE).all()


def test_edges_lose_inner_gaps_and_what_lies_beyond_them():
    readout = Edges(x_edges_mm=(-10.0, -2.0, 4.0, 10.0), y_edges_mm=(-5.0, 5.0), gap_mm=(1.0, 2.0))
    x, y = uniform_lattice(40.0, 40.0)
    cell = cell_index(readout, (40.0, 40.0), x, y)
    areas = np.bincount(cell[cell >= 0]) / len(cell) * 1600
    np.testing.assert_allclose(areas, [7.5 * 10, 5 * 10, 5.5 * 10], rtol=0.02)  # one row: y has no inner edge
    assert np.mean(cell == GAP) * 1600 == pytest.approx(2 * 1.0 * 10, rel=0.02)
    assert np.mean(cell == OUTSIDE) * 1600 == pytest.approx(1600 - 200, rel=0.02)


def test_polar_cells_have_the_area_of_ring_sectors_and_come_in_calochallenge_order():
    readout = Polar(r_edges_mm=(0.0, 4.65, 9.3, 20.0), n_phi=16)
    x, y = uniform_lattice(50.0, 50.0)
    cell = cell_index(readout, (50.0, 50.0), x, y)
    assert n_cells(readout, (50.0, 50.0)) == 48
    ring = np.pi * np.diff(np.square(readout.r_edges_mm)) / 16
    areas = np.bincount(cell[cell >= 0], minlength=48).reshape(16, 3) / len(cell) * 2500
    np.testing.assert_allclose(areas, np.broadcast_to(ring, (16, 3)), rtol=0.02)
    # alpha first, r fastest; sector 0 starts at the +x axis and turns towards +y
    assert cell_index(readout, SIZE, [10.0, 10.0, 0.1], [0.1, -0.1, 10.0]).tolist() == [2, 15 * 3 + 2, 3 * 3 + 2]


def test_polar_holes_and_turns():
    ring = Polar(r_edges_mm=(5.0, 10.0), n_phi=4)
    assert cell_index(ring, SIZE, [0.0, 7.0, 12.0], [0.0, 0.0, 0.0]).tolist() == [OUTSIDE, 0, OUTSIDE]
    assert cell_index(ring, SIZE, [7.0], [-1e-300]).tolist() == [3], "an angle just below a whole turn is in the last sector"
    disc = Polar(r_edges_mm=(0.0, 10.0), n_phi=1)
    assert [c.item() for c in cell_centre(disc, SIZE, [0])] == [0.0, 0.0]


def test_rectangular_cells_count_row_by_row_from_the_corner_of_the_slab():
    readout = Rectangular(pitch_mm=(10.0, 5.0))
    assert n_cells(readout, (40.0, 20.0)) == 16
    found = cell_index(readout, (40.0, 20.0), [-19.0, -9.0, -19.0, 19.0], [-9.0, -9.0, -4.0, 9.0])
    assert found.tolist() == [0, 1, 4, 15]


def test_a_whole_number_of_pitches_needs_no_sliver():
    assert n_cells(Rectangular(pitch_mm=(0.1, 0.3)), (30.0, 30.0)) == 300 * 100
    assert n_cells(Rectangular(pitch_mm=(10.0, 10.0), offset_mm=(5.0, 0.0)), (40.0, 40.0)) == 5 * 4


def test_wafers_start_with_half_their_gap():
    readout = Rectangular(pitch_mm=(5.0, 5.0), wafer_cells=(2, 2), wafer_gap_mm=(2.0, 2.0))
    size = (48.0, 48.0)
    x = np.array([0.5, 1.5, 6.5, 10.9, 11.5, 12.5, 13.5])
    cell = cell_index(readout, size, x, np.full(7, 1.5))
    assert (cell == GAP).tolist() == [True, False, False, False, True, True, False]
    np.testing.assert_allclose(cell_centre(readout, size, cell[cell >= 0])[0], [3.5, 8.5, 8.5, 15.5])


@pytest.mark.parametrize("cell", [-1, 16, 10**9])
def test_a_number_that_no_cell_has_is_refused(cell):
    with pytest.raises(ShowersError, match=rf"cell {cell} asked for; this rectangular layer has cells 0 to 15"):
        cell_centre(Rectangular(pitch_mm=(10.0, 5.0)), (40.0, 20.0), [3, cell])

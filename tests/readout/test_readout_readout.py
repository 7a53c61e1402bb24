"""Laws of the readout as a whole: energy is conserved, and cells do not depend on how they are computed."""

import numpy as np
import pytest

from anycalo.errors import ShowersError
from anycalo.geometry import Detector, Edges, Hexagonal, Layer, Polar, Rectangular, Section, Slab
from anycalo.geometry.derived import mip_mev
from anycalo.readout import cell_centre, cell_index, read_out, readout
from anycalo.showers import Incident, Showers

STACK = (Slab(material="G4_W", thickness_mm=2.0), Slab(material="G4_Si", thickness_mm=0.5, sensitive=True))
KINDS = {
    "rectangular": Rectangular(pitch_mm=(5.0, 7.0), gap_mm=(0.5, 0.5), wafer_cells=(4, 3), wafer_gap_mm=(2.0, 2.0)),
    "edges": Edges(x_edges_mm=(-20.0, -3.0, 4.0, 30.0), y_edges_mm=(-30.0, 0.0, 30.0), gap_mm=(1.0, 1.0)),
    "polar": Polar(r_edges_mm=(1.0, 5.0, 12.0, 40.0), n_phi=7),
    "hexagonal": Hexagonal(pitch_mm=6.0, gap_mm=0.4, offset_mm=(1.0, 2.0)),
}


def detector(*readouts, size_mm=(100.0, 80.0), threshold_mip=0.0):
    layers = tuple(Layer(stack=STACK, readout=r) for r in readouts)
    return Detector(name="test", sections=(Section(layers=layers),), size_mm=size_mm, threshold_mip=threshold_mip)


def random_showers(where, *, n=20, seed=1, spread_mm=25.0):
    """Showers of 0 to 399 points, some of them beyond the detector and some without energy."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(0, 400, n)
    counts[n // 2] = 0
    points = counts.sum()
    return Showers(
        detector=where,
        incident=Incident("gamma", energy_mev=1000.0, n=n),
        offsets=np.concatenate([[0], np.cumsum(counts)]),
        x_mm=rng.normal(0, spread_mm, points),
        y_mm=rng.normal(0, spread_mm, points),
        layer=rng.integers(0, where.n_layers, points),
        energy_mev=rng.exponential(0.2, points) * (rng.random(points) > 0.1),
    )


def accounted(cells):
    return cells.read_mev() + cells.lost_gap_mev + cells.lost_outside_mev + cells.lost_threshold_mev


@pytest.mark.parametrize("kind", [*KINDS, "mixed"])
@pytest.mark.parametrize("threshold_mip", [0.0, 2.0])
def test_energy_is_conserved(kind, threshold_mip):
    chosen = list(KINDS.values()) if kind == "mixed" else [KINDS[kind]] * 3
    showers = random_showers(detector(*chosen, threshold_mip=threshold_mip))
    cells = read_out(showers)
    np.testing.assert_allclose(accounted(cells), showers.visible_mev(), rtol=1e-12)
    assert cells.lost_outside_mev.sum() > 0
    assert (cells.lost_threshold_mev.sum() > 0) == (threshold_mip > 0)
    assert (cells.lost_gap_mev.sum() > 0) == (kind != "polar")
    assert (cells.energy_mev > 0).all()


def test_a_readout_that_forgets_the_losses_would_be_caught():
    showers = random_showers(detector(KINDS["rectangular"]))
    cells = read_out(showers)
    with pytest.raises(AssertionError):
        np.testing.assert_allclose(accounted(cells) - cells.lost_gap_mev, showers.visible_mev(), rtol=1e-12)


def test_cells_are_the_sums_of_their_points(monkeypatch):
    where = detector(*KINDS.values())
    showers = random_showers(where)
    expected: dict[tuple[int, int, int], float] = {}
    for b, layer, x, y, e in zip(showers.shower, showers.layer, showers.x_mm, showers.y_mm, showers.energy_mev, strict=True):
        cell = cell_index(where.layers[layer].readout, where.size_mm, x, y).item()
        if cell >= 0 and abs(x) <= 50 and abs(y) <= 40 and e > 0:
            expected[b, layer, cell] = expected.get((b, layer, cell), 0.0) + float(e)
    for block in (7, 1 << 16):  # the result does not depend on the block of points worked on
        monkeypatch.setattr(readout, "_BLOCK", block)
        cells = read_out(showers)
        found = list(zip(cells.shower, cells.layer, cells.cell, strict=True))
        assert found == sorted(expected)
        np.testing.assert_allclose(cells.energy_mev, [expected[k] for k in found], rtol=1e-12)
    for k in range(len(cells)):
        x, y = cell_centre(where.layers[cells.layer[k]].readout, where.size_mm, cells.cell[k : k + 1])
        assert (x.item(), y.item()) == (cells.x_mm[k], cells.y_mm[k])
    np.testing.assert_allclose(cells.z_mm, where.layer_z_mm[cells.layer])


@pytest.mark.parametrize("kind", list(KINDS))
def test_points_at_the_centres_of_cells_come_back_as_those_cells(kind):
    where = detector(KINDS[kind])
    x, y = cell_centre(KINDS[kind], where.size_mm, np.arange(6))
    x, y = x.astype(np.float32), y.astype(np.float32)
    on_slab = (np.abs(x) < 50) & (np.abs(y) < 40)
    showers = Showers(
        detector=where,
        incident=Incident(energy_mev=1.0),
        offsets=np.array([0, 6]),
        x_mm=x,
        y_mm=y,
        layer=np.zeros(6),
        energy_mev=np.arange(1, 7),
    )
    cells = read_out(showers)
    np.testing.assert_array_equal(cells.cell, np.flatnonzero(on_slab))
    np.testing.assert_array_equal(cells.energy_mev, np.arange(1, 7)[on_slab])


def test_staggering_shifts_the_cells_by_the_offset():
    plain = detector(Rectangular(pitch_mm=(5.0, 5.0)), size_mm=(200.0, 200.0))
    staggered = detector(Rectangular(pitch_mm=(5.0, 5.0), offset_mm=(2.5, -1.0)), size_mm=(200.0, 200.0))
    showers = random_showers(plain, spread_mm=10.0)
    moved = Showers(
        detector=staggered,
        incident=showers.incident,
        offsets=showers.offsets,
        x_mm=showers.x_mm + np.float32(2.5),
        y_mm=showers.y_mm - np.float32(1.0),
        layer=showers.layer,
        energy_mev=showers.energy_mev,
    )
    a, b = read_out(showers), read_out(moved)
    np.testing.assert_allclose(b.x_mm, a.x_mm + 2.5)
    np.testing.assert_allclose(b.y_mm, a.y_mm - 1.0)
    np.testing.assert_allclose(b.energy_mev, a.energy_mev)
    unmoved = read_out(showers, staggered)
    assert len(unmoved) != len(a) or not np.allclose(unmoved.energy_mev, a.energy_mev), "the same points fall differently"


def test_the_slab_ends_where_the_detector_says():
    where = detector(Rectangular(pitch_mm=(7.0, 7.0)), size_mm=(20.0, 20.0))
    showers = Showers(
        detector=where,
        incident=Incident(energy_mev=1.0),
        offsets=np.array([0, 3]),
        x_mm=np.array([9.9, 10.1, 0.0]),
        y_mm=np.array([0.0, 0.0, -10.1]),
        layer=np.zeros(3),
        energy_mev=np.array([1.0, 2.0, 4.0]),
    )
    cells = read_out(showers)
    assert cells.energy_mev.tolist() == [1.0]
    assert cells.lost_outside_mev.tolist() == [6.0]


def test_the_threshold_is_in_mips_of_the_layer_and_can_be_left_out():
    thick = (STACK[0], Slab(material="G4_Si", thickness_mm=2.0, sensitive=True))
    readout_ = Rectangular(pitch_mm=(5.0, 5.0))
    layers = (Layer(stack=STACK, readout=readout_), Layer(stack=thick, readout=readout_))
    where = Detector(name="two", sections=(Section(layers=layers),), size_mm=(100.0, 100.0), threshold_mip=0.5)
    mip = mip_mev(where)
    assert mip.shape == (2,)
    energy = np.array([0.49 * mip[0], 0.51 * mip[0], 0.49 * mip[1], 0.51 * mip[1], 0.3 * mip[0], 0.3 * mip[0]])
    showers = Showers(
        detector=where,
        incident=Incident(energy_mev=1.0),
        offsets=np.array([0, 6]),
        x_mm=np.array([1.0, 6.0, 1.0, 6.0, 11.0, 12.0]),
        y_mm=np.ones(6),
        layer=np.array([0, 0, 1, 1, 0, 0]),
        energy_mev=energy,
    )
    cells = read_out(showers)
    np.testing.assert_allclose(cells.energy_mev, [energy[1], energy[4] + energy[5], energy[3]], rtol=1e-6)
    assert cells.lost_threshold_mev.item() == pytest.approx(energy[0] + energy[2], rel=1e-6)
    everything = read_out(showers, threshold=False)
    assert len(everything) == 5
    assert everything.lost_threshold_mev.tolist() == [0.0]


def test_showers_without_points_have_no_cells():
    where = detector(*KINDS.values(), threshold_mip=0.5)
    none = np.zeros(0)
    showers = Showers(
        detector=where,
        incident=Incident(energy_mev=1.0, n=3),
        offsets=np.zeros(4),
        x_mm=none,
        y_mm=none,
        layer=none,
        energy_mev=none,
    )
    cells = read_out(showers)
    assert len(cells) == 0
    assert cells.n_showers == 3
    assert accounted(cells).tolist() == [0.0, 0.0, 0.0]
    assert cells.cell.dtype == np.int64


def test_another_readout_needs_as_many_layers():
    showers = random_showers(detector(KINDS["polar"]))
    again = read_out(showers, detector(KINDS["hexagonal"]))
    np.testing.assert_allclose(accounted(again), showers.visible_mev(), rtol=1e-12)
    assert again.detector.layers[0].readout == KINDS["hexagonal"]
    with pytest.raises(ShowersError, match="has 2 layers and the showers were made in 1"):
        read_out(showers, detector(KINDS["polar"], KINDS["polar"]))

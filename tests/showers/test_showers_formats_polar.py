"""Voxels to points and back: nothing changes voxel, whatever the rings; the order is the challenge's."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anycalo.errors import ConversionError
from anycalo.geometry import Detector
from anycalo.geometry.detector import Layer, Section, Slab
from anycalo.geometry.readouts import Polar, Rectangular
from anycalo.readout import read_out
from anycalo.showers import Incident, Showers
from anycalo.showers.formats import PolarGrid, Rings, atlas_detector

rings = st.builds(
    lambda first, steps, sectors: Rings(r_edges_mm=tuple(np.cumsum([first, *steps])), n_sectors=sectors),
    first=st.sampled_from([0.0, 0.3, 100.0]),
    steps=st.lists(st.floats(60.0, 900.0), min_size=1, max_size=6),
    sectors=st.sampled_from([1, 2, 10, 16, 50, 1000]),
)
grids = st.builds(lambda layers: PolarGrid(layers=tuple(layers)), st.lists(rings, min_size=1, max_size=4))


@given(grid=grids, seed=st.integers(0, 10**6))
@settings(max_examples=60, deadline=None)
def test_a_point_lies_in_the_voxel_it_came_from(grid: PolarGrid, seed: int) -> None:
    rng = np.random.default_rng(seed)
    voxel = rng.integers(0, grid.n_voxels, 2000)
    layer, x, y = grid.points(voxel, rng)
    assert x.dtype == y.dtype == np.float32
    assert np.array_equal(grid.voxels(layer.astype(np.int64), x, y), voxel)


@pytest.mark.parametrize("name", ["calochallenge-2", "calochallenge-3", "photons", "pions"])
def test_no_voxel_of_a_data_set_loses_a_point_even_at_its_corners(name: str) -> None:
    """The extreme positions that smearing may give: the four corners of every voxel, and a thousand random points."""

    class Corner:
        def __init__(self, u: float, v: float) -> None:
            self.corner = np.float32([u, v])

        def random(self, shape: tuple[int, int], dtype: type) -> np.ndarray:
            return np.tile(self.corner, (shape[0], 1)).astype(dtype)

    grid = PolarGrid.of(atlas_detector(name) if name.startswith("p") else Detector.load(name))
    voxel = np.arange(grid.n_voxels)
    just_below_1 = float(np.nextafter(np.float32(1), np.float32(0)))
    for u in (0.0, just_below_1):
        for v in (0.0, just_below_1):
            layer, x, y = grid.points(voxel, Corner(u, v))  # type: ignore[arg-type]
            assert np.array_equal(grid.voxels(layer.astype(np.int64), x, y), voxel)


def test_voxels_are_ordered_layer_alpha_r_with_r_fastest_from_minus_pi() -> None:
    """Against a loop that follows the challenge's description word by word."""
    detector = atlas_detector("pions")
    grid = PolarGrid.of(detector)
    layers, x, y = [], [], []
    for i, layer in enumerate(detector.layers):
        edges, n = layer.readout.r_edges_mm, layer.readout.n_phi  # type: ignore[union-attr]
        for a in range(n):
            for low, high in pairwise(edges):
                alpha = -math.pi + (a + 0.5) * 2 * math.pi / n
                layers.append(i)
                x.append((low + high) / 2 * math.cos(alpha))
                y.append((low + high) / 2 * math.sin(alpha))
    found = grid.voxels(np.array(layers), np.array(x), np.array(y))
    assert np.array_equal(found, np.arange(533))


def test_smearing_is_uniform_in_area_and_seeded() -> None:
    """False alarms: 4 sigma on two means, below 1e-4. The twin, uniform in radius, is 30 sigma off."""
    grid = PolarGrid(layers=(Rings(r_edges_mm=(0.0, 10.0), n_sectors=2),))
    n = 20_000
    voxel = np.ones(n, dtype=np.int64)
    _, x, y = grid.points(voxel, np.random.default_rng(1))
    share = np.hypot(x, y) ** 2 / 100
    sigma = 1 / math.sqrt(12 * n)
    assert abs(share.mean() - 0.5) < 4 * sigma
    assert abs(np.arctan2(y, x).mean() / math.pi - 0.5) < 4 * sigma
    assert abs((np.random.default_rng(2).random(n) ** 2).mean() - 0.5) > 30 * sigma
    again = grid.points(voxel, np.random.default_rng(1))[1]
    assert np.array_equal(again, x)
    assert not np.array_equal(grid.points(voxel, np.random.default_rng(2))[1], x)


def test_smearing_does_not_depend_on_the_blocks() -> None:
    grid = PolarGrid.of(Detector.load("calochallenge-2"))
    voxel = np.random.default_rng(0).integers(0, grid.n_voxels, 1001)
    whole = grid.points(voxel, np.random.default_rng(5))
    rng = np.random.default_rng(5)
    parts = [grid.points(part, rng) for part in np.split(voxel, [3, 500, 777])]
    for k in range(3):
        assert np.array_equal(np.concatenate([part[k] for part in parts]), whole[k])


def test_the_readout_sees_the_voxels() -> None:
    """Cells of the polar readout are the voxels of the file, counted from +x instead of -x."""
    detector = Detector.load("calochallenge-3")
    grid = PolarGrid.of(detector)
    rng = np.random.default_rng(3)
    voxel = np.sort(rng.choice(grid.n_voxels, 3000, replace=False))
    layer, x, y = grid.points(voxel, rng)
    energy = rng.exponential(size=3000).astype(np.float32)
    showers = Showers(
        detector=detector,
        incident=Incident("electron", energy_mev=1e4, n=1),
        offsets=np.array([0, 3000]),
        x_mm=x,
        y_mm=y,
        layer=layer,
        energy_mev=energy,
    )
    cells = read_out(showers, threshold=False)
    assert len(cells) == 3000
    sector, ring = np.divmod(cells.cell, 18)
    back = cells.layer * 900 + (sector + 25) % 50 * 18 + ring
    order = np.argsort(back)
    assert np.array_equal(back[order], voxel)
    np.testing.assert_allclose(cells.energy_mev[order], energy, rtol=1e-6)


def test_points_outside_have_no_voxel_and_their_energy_is_counted() -> None:
    grid = PolarGrid(layers=(Rings(r_edges_mm=(5.0, 10.0), n_sectors=4),))
    x = np.array([1.0, 7.0, 10.5, -7.0])
    voxel = grid.voxels(np.zeros(4, dtype=np.int64), x, np.zeros(4))
    assert list(voxel) == [-1, 2, -1, 0]
    filled, lost = grid.fill(np.array([0, 0, 1, 1]), 2, voxel, np.array([1.0, 2.0, 4.0, 8.0]))
    assert filled.tolist() == [[0, 0, 2, 0], [8, 0, 0, 0]]
    assert lost == 5.0


@pytest.mark.parametrize(
    ("edges", "sectors", "message"),
    [
        ((0.0,), 1, "expected at least two"),
        ((0.0, 5.0, 5.0), 1, "rising from at least 0"),
        ((-1.0, 5.0), 1, "rising from at least 0"),
        ((0.0, float("nan")), 1, "rising from at least 0"),
        ((0.0, 1000.0, 1000.1), 1, "thinner than 1% of its radius"),
        ((0.0, 5.0), 3, "3 sectors in a layer; expected 1, or an even number"),
        ((0.0, 5.0), 0, "0 sectors"),
        ((0.0, 5.0), 2000, "2000 sectors"),
    ],
)
def test_rings_that_cannot_be(edges: tuple[float, ...], sectors: int, message: str) -> None:
    with pytest.raises(ConversionError, match=message):
        Rings(r_edges_mm=edges, n_sectors=sectors)


def test_detectors_without_rings_are_refused() -> None:
    slab = Slab(material="G4_Si", thickness_mm=1.0, sensitive=True)
    good = Layer(stack=(slab,), readout=Polar(r_edges_mm=(0.0, 1.0), n_phi=2))
    for readout in (Rectangular(pitch_mm=(5.0, 5.0)), Polar(r_edges_mm=(0.0, 1.0), n_phi=2, offset_mm=(1.0, 0.0))):
        layers = (good, Layer(stack=(slab,), readout=readout))
        with pytest.raises(ConversionError, match=r"layer 1 of 'd' is read out in .*; expected a polar readout"):
            PolarGrid.of(Detector(name="d", sections=(Section(layers=layers),)))

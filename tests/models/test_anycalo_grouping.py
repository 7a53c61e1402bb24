"""Layers read out together, and hot deposits divided: what is kept, what changes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from anycalo.errors import ModelError
from anycalo.geometry import Detector, derived
from anycalo.geometry.descriptors import cell_mm, layer_descriptors
from anycalo.geometry.detector import Layer, Section, Slab
from anycalo.geometry.readouts import Edges, Hexagonal, Polar, Readout, Rectangular
from anycalo.models.anycalo import AnyCalo, AnyCaloConfig
from anycalo.models.anycalo_data import joined_points, prepare
from anycalo.models.grouping import grouped, with_cells
from anycalo.models.merging import Joined, split_hot
from anycalo.models.model import Domain
from anycalo.models.universal import UniversalCoordinates
from anycalo.showers import Showers
from samples import random_showers
from toyzoo import READOUT, stack


@pytest.fixture(scope="module")
def sections() -> Detector:
    """Seven equal layers, then four that face forward and backward in turn, then two thicker ones."""
    si = Slab(material="G4_Si", thickness_mm=0.5, sensitive=True)
    thin, thick = Slab(material="G4_W", thickness_mm=2.0), Slab(material="G4_W", thickness_mm=4.0)
    forward, backward = Layer(stack=(thin, si), readout=READOUT), Layer(stack=(si, thin), readout=READOUT)
    parts = (
        Section(repeat=7, layers=(forward,)),
        Section(repeat=2, layers=(forward, backward)),
        Section(repeat=2, layers=(Layer(stack=(thick, si), readout=READOUT),)),
    )
    return Detector(name="sections", sections=parts, size_mm=(200.0, 200.0), field_tesla=1.0)


def test_energy_is_that_of_the_layers_together(sections: Detector) -> None:
    showers = random_showers(sections, 20, 1, mean_points=200.0)
    coarse = grouped(showers, 3)
    # Seven layers become 3 + 3 + 1, the four that alternate stay, two become one thinner than three.
    members = [[0, 1, 2], [3, 4, 5], [6], [7], [8], [9], [10], [11, 12]]
    assert coarse.detector.n_layers == len(members)
    fine, found = showers.layer_energy_mev(), coarse.layer_energy_mev()
    expected = np.stack([fine[:, group].sum(axis=1) for group in members], axis=1)
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    np.testing.assert_array_equal(coarse.layer_counts().sum(axis=1), showers.layer_counts().sum(axis=1))
    assert coarse.detector.name == "sections-by-3"
    assert coarse.detector.field_tesla == sections.field_tesla
    thickness = derived.layer_thickness_x0(sections)
    np.testing.assert_allclose(
        derived.layer_thickness_x0(coarse.detector), [thickness[group].sum() for group in members], rtol=1e-12
    )
    assert coarse.detector.depth_mm == pytest.approx(sections.depth_mm)
    assert derived.depth_x0(coarse.detector) == pytest.approx(derived.depth_x0(sections))
    np.testing.assert_allclose(derived.mip_mev(coarse.detector)[0], 3 * derived.mip_mev(sections)[0])


def test_one_layer_at_a_time_changes_nothing(sections: Detector) -> None:
    showers = random_showers(sections, 5, 2)
    same = grouped(showers, 1)
    assert same.detector.layers == sections.layers
    np.testing.assert_array_equal(same.layer, showers.layer)


def hot_showers() -> Showers:
    showers = random_showers(stack(6, 5.0), 30, 3, mean_points=60.0)
    energy = showers.energy_mev * np.random.default_rng(4).lognormal(0, 1.5, showers.n_points)
    return Showers(
        detector=showers.detector,
        incident=showers.incident,
        offsets=showers.offsets,
        x_mm=showers.x_mm,
        y_mm=showers.y_mm,
        layer=showers.layer,
        energy_mev=energy,
    )


def moments(showers: Showers) -> np.ndarray:
    """Energy and energy-weighted position of every layer of every shower, (B L, 3)."""
    row = showers.shower * showers.detector.n_layers + showers.layer
    e = showers.energy_mev.astype(np.float64)
    size = len(showers) * showers.detector.n_layers
    return np.stack([np.bincount(row, w, minlength=size) for w in (e, e * showers.x_mm, e * showers.y_mm)], axis=1)


def test_divided_deposits_keep_energy_and_place() -> None:
    showers = hot_showers()
    jitter, above, quantum = 0.3, 1.0, 0.4
    parts = split_hot(Joined.single(showers), above_mev=above, quantum_mev=quantum, jitter_mm=jitter, seed=5).showers
    hot = showers.energy_mev > above
    assert 20 < hot.sum() < showers.n_points
    assert parts.n_points == (~hot).sum() + np.ceil(showers.energy_mev[hot] / quantum).sum()
    np.testing.assert_allclose(moments(parts), moments(showers), rtol=1e-4, atol=1e-4)
    assert np.array_equal(parts.incident.energy_mev, showers.incident.energy_mev)
    # The energies of parts vary by half; what is not divided is as it was.
    untouched = np.isin(parts.energy_mev, showers.energy_mev[~hot])
    assert untouched.sum() == (~hot).sum()
    spread = parts.energy_mev[~untouched].std() / parts.energy_mev[~untouched].mean()
    assert 0.3 < spread < 0.7
    # The twin: parts that were moved without moving their centre back do not keep it.
    by = np.random.default_rng(6).uniform(-jitter, jitter, parts.n_points)
    moved = replace_x(parts, parts.x_mm + np.where(untouched, 0.0, by))
    assert np.abs(moments(moved) - moments(showers)).max() > 0.01
    # Nothing moves farther than twice the jitter, and something moves.
    again = split_hot(Joined.single(showers), above_mev=above, quantum_mev=quantum, jitter_mm=0.0, seed=5).showers
    shift = np.abs(parts.x_mm - again.x_mm)
    assert 0.5 * jitter < shift.max() <= 2 * jitter


def replace_x(showers: Showers, x_mm: np.ndarray) -> Showers:
    return Showers(
        detector=showers.detector,
        incident=showers.incident,
        offsets=showers.offsets,
        x_mm=x_mm,
        y_mm=showers.y_mm,
        layer=showers.layer,
        energy_mev=showers.energy_mev,
    )


def test_nothing_hot_is_left_as_it_is() -> None:
    showers = hot_showers()
    assert split_hot(Joined.single(showers), above_mev=1e6, quantum_mev=1.0, jitter_mm=0.3, seed=1).showers is showers


def test_the_same_seed_divides_the_same_way() -> None:
    one, two, other = (
        split_hot(Joined.single(hot_showers()), above_mev=1.0, quantum_mev=0.4, jitter_mm=0.3, seed=seed).showers.energy_mev
        for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(one, two)
    assert not np.array_equal(one, other)


def test_a_grouped_detector_reads_back_from_its_text(sections: Detector) -> None:
    coarse = grouped(random_showers(sections, 3, 1), 2).detector
    assert Detector.from_toml(coarse.to_toml()) == coarse
    assert replace(coarse, name="sections") != sections


def test_other_cells_change_nothing_but_the_cells(sections: Detector) -> None:
    showers = random_showers(sections, 5, 1)
    coarse = with_cells(showers, 17.0)
    assert cell_mm(coarse.detector) == pytest.approx(17.0)
    assert cell_mm(sections) != pytest.approx(17.0)
    assert np.array_equal(layer_descriptors(coarse.detector), layer_descriptors(sections))
    for name in ("offsets", "x_mm", "y_mm", "layer", "energy_mev"):
        assert np.array_equal(getattr(coarse, name), getattr(showers, name))


@pytest.mark.parametrize(
    ("readout", "side"),
    [
        (Rectangular(pitch_mm=(4.0, 9.0)), 6.0),
        (Edges(x_edges_mm=(-8.0, 0.0, 4.0, 8.0), y_edges_mm=(-3.0, 3.0)), (16 / 3 * 6) ** 0.5),
        (Polar(r_edges_mm=(0.0, 5.0, 10.0), n_phi=50), np.pi**0.5),
        (Hexagonal(pitch_mm=2.0), (2 * 3**0.5) ** 0.5),
    ],
)
def test_the_side_of_a_cell_is_that_of_a_square_of_its_mean_area(readout: Readout, side: float) -> None:
    assert readout.cell_mm == pytest.approx(side)


def test_coarser_cells_join_more_points(sections: Detector) -> None:
    """As the recipe says; without the power, cells do not count."""
    showers = random_showers(sections, 10, 2, mean_points=2000.0)
    config = AnyCaloConfig(merge_radius_mm=0.6)
    for power, joins in ((0.45, True), (0.0, False)):
        model = AnyCalo(replace(config, merge_cell_power=power), Domain.of([showers]))
        counts = [joined_points(model, with_cells(showers, side), 1).showers.n_points for side in (2.0, 20.0)]
        assert (counts[1] < counts[0]) is joins


def test_training_detectors_are_shown_again_with_other_cells(sections: Detector) -> None:
    batches = [random_showers(sections, 4, k, mean_points=300.0) for k in range(4)]
    config = AnyCaloConfig(grouped=0.0, other_cells=0.0)
    cells = UniversalCoordinates.shower_features - 1
    for views in (1, 3):
        model = AnyCalo(replace(config, views=views), Domain.of(batches))
        data = prepare(model, batches, n_training=3, seed=1, fit=False)
        # Three detectors of four showers in training, each as often as asked for; the one held out once, as it is.
        assert data.showers == 12 * views
        assert len(data.told.shower) == 12 * views + 4
        shown = data.told.shower[:, cells]
        own = shown == shown[-1]
        assert own[-4:].all()
        assert int(own[:-4].sum()) == 12
    with pytest.raises(ModelError, match="views is 0; expected at least 1"):
        replace(config, views=0)

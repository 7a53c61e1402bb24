"""What a few showers of one detector say without steps: means of the totals, cells, and what sides have cut off."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch

from anycalo.generate import generate
from anycalo.geometry import Detector
from anycalo.models import load_model
from anycalo.models.anycalo import AnyCalo
from anycalo.models.anycalo_data import joined_points, prepare
from anycalo.models.cells import MOST_DETECTORS, Seen, fit_to_cells, numbers_of_cells, seen_cells
from anycalo.models.shift import SCATTER, SURE, differences, shift_totals
from anycalo.models.sides import MOST, whole
from anycalo.models.totals import QUANTITIES
from anycalo.models.universal import Geometry, particle_table
from anycalo.readout import read_out
from anycalo.showers import Beam, Incident, Showers
from anycalo.showers.samples import locate
from toyzoo import stack

pytestmark = pytest.mark.filterwarnings("ignore::anycalo.errors.DomainWarning")


@pytest.fixture(scope="module")
def base() -> AnyCalo:
    model = load_model("anycalo-base")
    assert isinstance(model, AnyCalo)
    return model


@pytest.fixture(scope="module")
def detector() -> Detector:
    return replace(stack(16, 4.0, sensor_mm=0.5), size_mm=(2000.0, 2000.0))


def beam(n: int, seed: int, angle: float = 0.5) -> Incident:
    return Beam(particle=("gamma", "electron"), energy_mev=(2e3, 3e4), spectrum="log", max_angle_rad=angle).sample(n, seed)


def test_moments_are_those_of_draws(base: AnyCalo, detector: Detector) -> None:
    """Of 40,000 draws for one particle: means within 4.5 standard errors, a false alarm once in 10,000 seeds."""
    told = base.coordinates.told(Geometry([detector]), torch.zeros(1, dtype=torch.long), particle_table(beam(1, 3)))
    mean, variance = base.totals.moments(told)
    members, n = len(base.totals.members), 40_000
    normal = torch.randn(members, n // members, QUANTITIES + 1, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        h = [m(told).expand(n // members, -1) for m in base.totals.members]
        drawn = torch.cat([m.mixture.sample(a, z) for m, a, z in zip(base.totals.members, h, normal, strict=True)])
    drawn = (drawn * base.totals.std + base.totals.mean).double()
    assert ((drawn.mean(0) - mean[0]).abs() < 4.5 * (variance[0] / n).sqrt()).all()
    np.testing.assert_allclose(drawn.var(0), variance[0], rtol=0.08)


def test_totals_move_by_what_is_asked(base: AnyCalo, detector: Detector) -> None:
    told = base.coordinates.told(Geometry([detector]), torch.zeros(5, dtype=torch.long), particle_table(beam(5, 3)))
    moved, by = copy.deepcopy(base), torch.linspace(-0.03, 0.03, QUANTITIES)
    moved.totals.move(by)
    (before, spread), (after, same) = base.totals.moments(told), moved.totals.moments(told)
    torch.testing.assert_close(after - before, by.expand(5, -1), rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(same, spread, rtol=1e-3, atol=1e-6)


def test_few_showers_move_the_means_as_far_as_they_are_known(base: AnyCalo, detector: Detector) -> None:
    """Showers of a model and, of the same random numbers, of one whose totals were moved: that is found."""
    other = copy.deepcopy(base)
    true = torch.tensor([0.03, -0.04, 0.0, 0.0, 0.05, 0.0, 0.0])
    other.totals.move(true)
    for n in (30, 300):
        data, own = (
            prepare(base, [generate(m, detector, beam(n, 7), seed=2)], n_training=1, seed=1, fit=False) for m in (other, base)
        )
        tuned = copy.deepcopy(base)
        found, error = differences(base, data)
        # What joining the points of a model once more does to it is the same in both.
        torch.testing.assert_close((found - differences(base, own)[0])[[0, 4]].float(), true[[0, 4]], rtol=0.3, atol=0.004)
        solved = shift_totals(tuned, data)
        assert solved.numbers == QUANTITIES
        assert solved.after < solved.before
        moved = (tuned.totals.moments(data.told)[0] - base.totals.moments(data.told)[0]).mean(0).double()
        scatter = torch.tensor(SCATTER, dtype=torch.float64)
        wanted = torch.where(found.abs() > SURE * error, found * scatter**2 / (scatter**2 + error**2), 0.0)
        torch.testing.assert_close(moved, wanted, rtol=1e-3, atol=1e-5)
        assert float(moved.abs().max()) > 0.01
        assert float(moved[2]) == pytest.approx(0, abs=1e-6)  # by symmetry


def test_cells_say_how_tight_clusters_are(base: AnyCalo) -> None:
    """A copy with too few children is seen, and its constants are moved to where cells are nearer, of others too."""
    geant4 = Showers.open(locate("ild-photons-reference"), 0, 260)
    given, others = geant4[:60], geant4[60:]
    loose = copy.deepcopy(base)
    kinds = loose.clusters.config.kinds
    with torch.no_grad():
        loose.clusters.head.bias[:kinds] -= 4
    seen = Seen(base, others, seed=6, drawn=180)
    before = float(np.square(seen.residuals(loose)).sum())
    solved = fit_to_cells(loose, [given], seed=1)
    assert solved.numbers == 16 + 9
    assert solved.after < 0.8 * solved.before
    assert float(np.square(seen.residuals(loose)).sum()) < 0.9 * before
    # The comparison itself: with the cells of the model's own points nothing is left, and too few children are seen.
    seen.mean = numbers_of_cells(seen.forced.showers(base)).mean(0)
    assert not seen.residuals(base).any()
    with torch.no_grad():
        loose.load_state_dict(base.state_dict())
        loose.clusters.head.bias[:kinds] -= 4
    assert np.square(seen.residuals(loose)).sum() > 20
    fit_to_cells(loose, [given], seed=1)
    # Nothing but the constants has changed.
    before = base.state_dict()
    changed = [name for name, value in loose.state_dict().items() if not torch.equal(value, before[name])]
    assert changed == ["clusters.head.bias", "surroundings.head.bias"]


def test_numbers_of_cells_are_all_cells(base: AnyCalo, detector: Detector) -> None:
    showers = generate(base, detector, beam(10, 1), seed=1)
    numbers, cells = numbers_of_cells(showers), np.bincount(read_out(showers).shower, minlength=10)
    assert (numbers[:, -1] == cells).all()
    assert (numbers[:, :26].sum(1) == cells).all()
    assert (numbers[:, 26:-1].sum(1) == cells).all()


def test_points_in_the_layers_of_given_showers_have_their_energies(base: AnyCalo, detector: Detector) -> None:
    given = generate(base, detector, beam(15, 2), seed=3)
    seen = Seen(base, given, seed=1, drawn=15)
    made = seen.forced.showers(base)
    np.testing.assert_allclose(made.layer_energy_mev(), given.layer_energy_mev(), rtol=1e-4, atol=1e-5)
    again = seen.forced.showers(base)
    np.testing.assert_array_equal(made.x_mm, again.x_mm)


def test_of_many_detectors_some_showers_are_taken_of_some(detector: Detector) -> None:
    one = Showers(
        detector=detector,
        incident=Incident(energy_mev=1000.0, n=20),
        offsets=np.arange(21),
        x_mm=np.zeros(20),
        y_mm=np.zeros(20),
        layer=np.zeros(20, int),
        energy_mev=np.ones(20),
    )
    chosen = seen_cells([one] * (MOST_DETECTORS + 10), 0.5, seed=1)
    assert len(chosen) == MOST_DETECTORS
    assert all(len(batch) == 8 for batch in chosen)
    assert 0.3 < np.mean([batch.detector != detector for batch in chosen]) < 0.7
    assert [len(batch) for batch in seen_cells([one], 0.5, seed=1)] == [20]


def test_a_detector_alone_is_learnt_as_it_is(base: AnyCalo, detector: Detector) -> None:
    """Cells of other sizes and grouped layers are for many detectors; one is, whatever the seed, joined as it is."""
    showers = generate(base, detector, beam(12, 5), seed=1)
    for seed in range(6):
        data = prepare(base, [showers], n_training=1, seed=seed, fit=False)
        assert (data.showers, len(data.totals)) == (12, 12)
        wanted = joined_points(base, showers, seed).showers
        assert data.n_points == wanted.n_points
        np.testing.assert_array_equal(data.n.numpy(), wanted.layer_counts())
    several = [prepare(base, [showers, showers], n_training=2, seed=seed, fit=False) for seed in range(6)]
    assert any(data.n_points != 2 * wanted.n_points for data in several)


def test_what_sides_have_cut_is_given_back(base: AnyCalo, detector: Detector) -> None:
    uncut = generate(base, detector, beam(80, 11, 0.9), seed=8)
    narrow = replace(detector, size_mm=(60.0, 60.0))
    cut = uncut.seen_by(narrow).contained()
    assert whole(base, uncut, seed=1) is uncut
    made = whole(base, cut, seed=1)
    assert 20 < len(made) < len(cut)  # slanted ones have left through a side
    assert made.detector.size_mm[0] > 1e4
    kept = np.flatnonzero(np.isin(cut.incident.energy_mev, made.incident.energy_mev))
    before, after, true = (s.visible_mev()[kept].sum() for s in (cut, _wide(made, len(cut), kept), uncut))
    assert before < 0.985 * true
    assert abs(after / true - 1) < 0.4 * abs(before / true - 1)
    assert (cut.visible_mev()[kept] > (1 - 2 * MOST) * uncut.visible_mev()[kept]).all()


def _wide(made: Showers, n: int, kept: np.ndarray) -> Showers:
    """The showers made whole among n, the others empty."""
    counts = np.zeros(n, np.int64)
    counts[kept] = made.counts
    energy = np.ones(n)
    energy[kept] = made.incident.energy_mev
    return Showers(
        detector=made.detector,
        incident=Incident(energy_mev=energy, n=n),
        offsets=np.concatenate([[0], np.cumsum(counts)]),
        x_mm=made.x_mm,
        y_mm=made.y_mm,
        layer=made.layer,
        energy_mev=made.energy_mev,
    )

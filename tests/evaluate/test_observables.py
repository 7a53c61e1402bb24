"""Observables of showers whose answer is known by hand, and their invariances."""

from pathlib import Path

import numpy as np
import pytest

from anycalo.errors import EvaluationError
from anycalo.evaluate import OBSERVABLES, measure
from anycalo.evaluate.observables import Observable, visible_energy
from anycalo.geometry import Detector
from anycalo.geometry.derived import mip_mev, moliere_radius_mm
from anycalo.readout.view import layer_depth_x0, layer_edges_x0
from anycalo.showers import Incident, Showers


def _one(
    detector: Detector, points: list[tuple[float, float, int, float]], direction=(0.0, 0.0, 1.0), energy_mev=1000.0
) -> Showers:
    x, y, layer, energy = (np.array(column) for column in zip(*points, strict=True))
    return Showers(
        detector=detector,
        incident=Incident("gamma", energy_mev=energy_mev, direction=direction),
        offsets=np.array([0, len(points)]),
        x_mm=x,
        y_mm=y,
        layer=layer,
        energy_mev=energy,
    )


def _values(showers: Showers) -> dict[str, np.ndarray]:
    return {name: v[0] for name, v in measure(showers).items()}


def test_two_cells_by_hand(detector: Detector) -> None:
    # Cells of 5 mm with a corner at the origin: centres at (2.5, 2.5) and (12.5, -2.5).
    got = _values(_one(detector, [(1.0, 4.0, 2, 3.0), (2.0, 1.0, 2, 3.0), (11.0, -1.0, 4, 2.0)], energy_mev=400.0))
    depth = layer_depth_x0(detector)
    assert got["visible_energy"] == pytest.approx(8)
    assert got["response"] == pytest.approx(8 / 400)
    assert got["occupancy"] == 2
    assert got["cog_x"] == pytest.approx((6 * 2.5 + 2 * 12.5) / 8)
    assert got["cog_y"] == pytest.approx((6 * 2.5 - 2 * 2.5) / 8)
    assert got["cog_z"] == pytest.approx((6 * depth[2] + 2 * depth[4]) / 8)
    # Two weights p and 1 - p a distance d apart have an rms of d sqrt(p (1 - p)).
    assert got["width_x"] == pytest.approx(10 * np.sqrt(3 / 16))
    assert got["width_y"] == pytest.approx(5 * np.sqrt(3 / 16))
    assert got["width_z"] == pytest.approx((depth[4] - depth[2]) * np.sqrt(3 / 16))
    assert got["shower_max"] == pytest.approx(depth[2])
    np.testing.assert_allclose(got["layer_energy"][[2, 4]], [6, 2])
    np.testing.assert_allclose(got["longitudinal_profile"], got["layer_energy"])
    assert got["layer_energy"].sum() == pytest.approx(8)
    np.testing.assert_array_equal(np.flatnonzero(got["layer_occupancy"]), [2, 4])


def test_profiles_and_spectrum_sit_where_their_coordinate_says(detector: Detector) -> None:
    mip = mip_mev(detector)[3]
    got = _values(_one(detector, [(1.0, 1.0, 3, 10 * mip), (21.0, 1.0, 3, 100 * mip)]))
    for name, where, weight in (
        ("radial_profile", [np.hypot(2.5, 2.5), np.hypot(22.5, 2.5)], [10 * mip, 100 * mip]),
        ("cell_energy", [1.0, 2.0], [1, 1]),
    ):
        coordinate = OBSERVABLES[name].coordinate(detector)
        filled = np.flatnonzero(got[name])
        np.testing.assert_allclose(coordinate[filled], where, atol=np.diff(coordinate)[0])
        np.testing.assert_allclose(got[name][filled], weight, rtol=1e-6)
    rings = np.array([np.hypot(2.5, 2.5), np.hypot(22.5, 2.5)]) / moliere_radius_mm(detector)
    edges = OBSERVABLES["ring_occupancy"].edges(detector) / moliere_radius_mm(detector)
    np.testing.assert_array_equal(got["ring_occupancy"], np.histogram(rings, edges)[0])


def test_shower_starts_where_five_mips_are(detector: Detector) -> None:
    mip, depth = mip_mev(detector)[0], layer_depth_x0(detector)
    # Layer 1 has 4.9 MIPs in one cell, layer 3 has 5.1 in two.
    start = _values(_one(detector, [(1, 1, 1, 4.9 * mip), (1, 1, 3, 2.5 * mip), (9, 1, 3, 2.6 * mip), (1, 1, 5, 9 * mip)]))
    assert start["shower_start"] == pytest.approx(depth[3])
    never = _values(_one(detector, [(1, 1, 1, 2 * mip)]))
    assert never["shower_start"] == pytest.approx(layer_edges_x0(detector)[-1])


def test_oblique_showers_are_measured_from_their_axis(detector: Detector, toy) -> None:
    straight = Incident("gamma", energy_mev=np.full(400, 3000.0))
    oblique = Incident("gamma", energy_mev=np.full(400, 3000.0), direction=(0.3, 0.0, np.sqrt(1 - 0.09)))
    a, b = (measure(toy(400, 1, incident=i)) for i in (straight, oblique))
    for name in ("cog_x", "cog_y", "width_x"):
        # The same showers in another place of the same grid: half a cell is all that may change.
        assert abs(a[name].mean() - b[name].mean()) < 0.5, name
    shift = 0.3 / np.sqrt(1 - 0.09) * detector.layer_z_mm
    assert shift[5] > 10  # without the axis the centres of gravity would be this far apart


def test_a_shower_without_cells_is_counted_but_has_no_centre(detector: Detector) -> None:
    full = _one(detector, [(1.0, 1.0, 2, 5.0)])
    both = measure(Showers.concatenate([full, _one(detector, [(1.0, 1.0, 2, 0.0)])]))
    assert both["occupancy"].tolist() == [1, 0]
    assert both["response"][1] == 0
    assert np.isnan([both[name][1] for name in ("cog_x", "cog_z", "width_y", "shower_max")]).all()
    assert both["shower_start"][1] == pytest.approx(layer_edges_x0(detector)[-1])


def test_every_observable_belongs_to_its_shower(toy) -> None:
    showers = toy(700, 3)  # more than are measured at a time
    order = np.random.default_rng(0).permutation(700)
    whole, shuffled = measure(showers), measure(showers[order])
    parts = [measure(showers[:123]), measure(showers[123:])]
    for name, values in whole.items():
        np.testing.assert_allclose(shuffled[name], values[order], rtol=1e-5, atol=1e-9, err_msg=name)
        np.testing.assert_array_equal(np.concatenate([p[name] for p in parts]), values, err_msg=name)


def test_shapes_are_as_their_kind_says(toy, detector: Detector) -> None:
    for name, values in measure(toy(20, 4)).items():
        observable = OBSERVABLES[name]
        assert observable.name == name
        if observable.kind == "scalar":
            assert values.shape == (20,)
        elif observable.kind == "family":
            assert values.shape == (20, len(observable.edges(detector)) - 1)
        else:
            coordinate = observable.coordinate(detector)
            assert values.shape == (20, len(coordinate))
            assert (np.diff(coordinate) > 0).all()


def test_energy_is_shared_out_and_nothing_lost(toy) -> None:
    values = measure(toy(50, 5))
    for name in ("layer_energy", "longitudinal_profile", "radial_profile"):
        np.testing.assert_allclose(values[name].sum(axis=1), values["visible_energy"], rtol=1e-5)
    for name in ("layer_occupancy", "cell_energy"):
        np.testing.assert_array_equal(values[name].sum(axis=1), values["occupancy"])


def test_no_cell_at_all_is_refused(detector: Detector) -> None:
    with pytest.raises(EvaluationError, match=r"none of the 1 showers in 'small' has a cell above the threshold of 0.1 MIP"):
        measure(_one(detector, [(1.0, 1.0, 2, 0.0)]))


def test_an_observable_without_what_its_kind_needs_is_refused() -> None:
    with pytest.raises(EvaluationError, match="is a profile; expected a coordinate"):
        Observable(name="wrong", title="", unit="", kind="profile", measure=visible_energy)


def test_every_observable_is_documented() -> None:
    text = (Path(__file__).parents[2] / "docs" / "observables.md").read_text()
    for name, observable in OBSERVABLES.items():
        row = next((line for line in text.splitlines() if line.startswith(f"| `{name}` |")), None)
        assert row is not None, f"{name} has no row in docs/observables.md"
        assert [cell.strip() for cell in row.split("|")[2:4]] == [observable.kind, observable.unit or "1"]

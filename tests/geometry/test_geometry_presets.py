"""Presets: the numbers that their sources document."""

import numpy as np
import pytest

from anycalo.errors import DetectorError
from anycalo.geometry import Detector, Edges, Hexagonal, Polar, Rectangular, atlas_like, derived, presets

NAMES = [
    "atlas-like",
    "calochallenge-2",
    "calochallenge-3",
    "cu-si",
    "fe-scint",
    "ild-ecal",
    "pb-scint",
    "testem3",
    "u-scint",
]


def test_the_presets_are_these() -> None:
    assert list(presets()) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_every_preset_is_named_explained_and_deep_enough(name: str) -> None:
    d = Detector.load(name)
    assert d.name == name
    assert d.description
    assert presets()[name].startswith("# ")
    assert derived.depth_x0(d) > 20
    assert Detector.from_toml(d.to_toml()) == d


def total_mm(d: Detector, material: str) -> float:
    return sum(s.thickness_mm for layer in d.layers for s in layer.slabs if s.material == material)


def test_ild_ecal() -> None:
    d = Detector.load("ild-ecal")
    assert d.n_layers == 30
    assert total_mm(d, "G4_W") == pytest.approx(20 * 2.1 + 10 * 4.2)
    np.testing.assert_allclose(derived.sensitive_thickness_mm(d), 0.525)
    assert d.layers[0].readout == Rectangular(pitch_mm=(5.088, 5.088))
    assert d.field_tesla == 3.5


@pytest.mark.parametrize(
    ("name", "rings", "step", "sectors"), [("calochallenge-2", 9, 4.65, 16), ("calochallenge-3", 18, 2.325, 50)]
)
def test_calochallenge(name: str, rings: int, step: float, sectors: int) -> None:
    d = Detector.load(name)
    assert d.n_layers == 45
    np.testing.assert_allclose(d.layer_thickness_mm, 3.4)
    assert total_mm(d, "G4_W") == pytest.approx(90 * 1.4)
    assert total_mm(d, "G4_Si") == pytest.approx(90 * 0.3)
    for layer in d.layers:
        assert isinstance(layer.readout, Polar)
        np.testing.assert_allclose(layer.readout.r_edges_mm, np.arange(rings + 1) * step, atol=1e-9)
        assert layer.readout.n_phi == sectors
    # 15.15 keV over the dataset's scale of 1 / 0.033 is 0.5 keV in the silicon.
    np.testing.assert_allclose(d.threshold_mip * derived.mip_mev(d), 0.5e-3, rtol=1e-3)
    assert d.field_tesla == 0


def test_testem3() -> None:
    d = Detector.load("testem3")
    assert (d.n_layers, d.size_mm) == (50, (400.0, 400.0))
    assert total_mm(d, "G4_Pb") == pytest.approx(50 * 2.3)
    assert total_mm(d, "G4_lAr") == pytest.approx(50 * 5.7)


def test_pb_scint_has_the_depth_that_lhcb_quotes() -> None:
    d = Detector.load("pb-scint")
    assert d.depth_mm == pytest.approx(420, rel=0.03)
    assert derived.depth_x0(d) == pytest.approx(25, rel=0.05)
    assert derived.moliere_radius_mm(d) == pytest.approx(35, rel=0.1)


def test_fe_scint_and_cu_si() -> None:
    fe, cu = Detector.load("fe-scint"), Detector.load("cu-si")
    assert total_mm(fe, "G4_STAINLESS-STEEL") == 24 * 20
    assert total_mm(cu, "G4_Cu") == 30 * 12
    readout = cu.layers[0].readout
    assert isinstance(readout, Hexagonal)
    assert np.sqrt(3) / 2 * readout.pitch_mm**2 == pytest.approx(110, rel=0.01)  # area of a hexagon, 1.1 cm2


def test_u_scint_has_the_depth_that_zeus_quotes() -> None:
    d = Detector.load("u-scint")
    assert d.n_layers == 25
    assert derived.depth_x0(d) == pytest.approx(25, rel=0.1)
    assert float(derived.layer_thickness_x0(d)[0]) == pytest.approx(1.0, rel=0.1)


def test_atlas_like_is_80_pairs_cut_at_90_and_437_mm() -> None:
    d = Detector.load("atlas-like")
    assert d.layer_thickness_mm.tolist() == [90.0, 347.0, 43.0]
    assert d.size_mm == (480.0, 480.0)
    merged: list[list[object]] = []
    for slab in [s for layer in d.layers for s in layer.slabs]:
        if merged and merged[-1][0] == slab.material:
            merged[-1][1] += slab.thickness_mm  # type: ignore[operator]
        else:
            merged.append([slab.material, slab.thickness_mm])
    assert merged == [["G4_Pb", 2.0], ["G4_lAr", 4.0]] * 80


def cells(d: Detector) -> list[tuple[int, int]]:
    return [
        (len(r.x_edges_mm) - 1, len(r.y_edges_mm) - 1) for r in (layer.readout for layer in d.layers) if isinstance(r, Edges)
    ]


def test_atlas_like_in_the_segmentations_of_the_paper() -> None:
    assert atlas_like() == Detector.load("atlas-like")
    for inner in [(48, 4), (48, 12), (48, 24), (48, 48), (192, 4), (192, 12), (192, 24), (192, 48)]:
        assert cells(atlas_like(inner=inner)) == [inner, (24, 24), (24, 24)]
    for middle in [(12, 12), (48, 24), (48, 48), (24, 24), (24, 12), (96, 24), (6, 6)]:
        assert cells(atlas_like(middle=middle))[1] == middle
    uneven = atlas_like(middle=((24, 12), 48))
    readout = uneven.layers[1].readout
    assert isinstance(readout, Edges)
    assert cells(uneven)[1] == (36, 48)
    np.testing.assert_allclose(np.diff(readout.x_edges_mm), [10.0] * 24 + [20.0] * 12)
    np.testing.assert_allclose(np.diff(readout.y_edges_mm), 10.0)
    for d in (uneven, atlas_like(middle=((6, 3), 12))):
        for layer in d.layers:
            assert isinstance(layer.readout, Edges)
            assert layer.readout.x_edges_mm[0] == layer.readout.y_edges_mm[0] == -240
            assert layer.readout.x_edges_mm[-1] == layer.readout.y_edges_mm[-1] == 240
        assert [layer.stack for layer in d.layers] == [layer.stack for layer in Detector.load("atlas-like").layers]


@pytest.mark.parametrize("bad", [(0, 4), (4, -1), (2.5, 4), ((3, 4, 5), 4), (True, 4)])
def test_atlas_like_refuses_impossible_cells(bad: tuple[int, int]) -> None:
    with pytest.raises(DetectorError, match=r"outer .*expected a"):
        atlas_like(outer=bad)

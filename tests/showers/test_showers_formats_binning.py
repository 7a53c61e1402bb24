"""Binning files: the challenge's layout read, ours written, what is wrong named."""

from __future__ import annotations

from pathlib import Path

import pytest

from anycalo.errors import ConversionError
from anycalo.geometry import Detector
from anycalo.geometry.derived import sampling_fraction
from anycalo.showers.formats import PolarGrid, atlas_detector, binning_xml, read_binning

# The layout of the challenge's files: one Bin a particle, a Layer element for every layer of ATLAS, most of them empty.
ATLAS = """<Bins>
   <Bin pid="22" etaMin="0" etaMax="130" name="photon">
      <Layer id="0" r_edges="0,5,10,30,50,100,200,400,600" n_bin_alpha="1" />
      <Layer id="1" r_edges="0,2,4,6,8,10,12,15,20,30,40,50,70,90,120,150,200" n_bin_alpha="10"/>
      <Layer id="2" r_edges="0,2,5,10,15,20,25,30,40,50,60,80,100,130,160,200,250,300,350,400" n_bin_alpha="10"/>
      <Layer id="3" r_edges="0,50,100,200,400,600" n_bin_alpha="1" />
      <Layer id="4" r_edges="0" n_bin_alpha="1" />
      <Layer id="12" r_edges="0,100,200,400,1000,2000" n_bin_alpha="1" />
      <Layer id="13" r_edges="0" n_bin_alpha="1" />
   </Bin>
</Bins>
"""


def test_the_challenges_file_is_the_built_in_binning(tmp_path: Path) -> None:
    path = tmp_path / "binning.xml"
    path.write_text(ATLAS)
    binning = read_binning(path)
    assert (binning.particle, binning.pdg, binning.layer_ids) == ("photon", 22, (0, 1, 2, 3, 12))
    assert binning.grid.n_voxels == 368
    assert binning.grid.difference(PolarGrid.of(atlas_detector("photons"))) == ""


@pytest.mark.parametrize(
    ("detector", "voxels", "layers"),
    [
        (atlas_detector("photons"), 368, 5),
        (atlas_detector("pions"), 533, 7),
        (Detector.load("calochallenge-2"), 6480, 45),
        (Detector.load("calochallenge-3"), 40500, 45),
    ],
)
def test_published_sizes_and_the_way_back_through_xml(detector: Detector, voxels: int, layers: int, tmp_path: Path) -> None:
    grid = PolarGrid.of(detector)
    assert (grid.n_voxels, len(grid.layers)) == (voxels, layers)
    path = tmp_path / "binning.xml"
    path.write_text(binning_xml(grid, particle="electron", pdg=11))
    again = read_binning(path)
    assert again.grid.difference(grid) == ""
    assert (again.particle, again.pdg) == ("electron", 11)


def test_the_detector_of_data_set_1_says_that_it_is_approximate() -> None:
    for particle in ("photons", "pions"):
        detector = atlas_detector(particle)
        assert "approximate" in detector.description
        assert sampling_fraction(detector) == pytest.approx(1)
        assert Detector.from_toml(detector.to_toml()) == detector
        widest = max(layer.readout.r_edges_mm[-1] for layer in detector.layers)  # type: ignore[union-attr]
        assert min(detector.size_mm) >= 2 * widest


def test_one_of_several_particles_is_chosen_by_its_code(tmp_path: Path) -> None:
    path = tmp_path / "binning.xml"
    pion = '<Bin pid="211" name="pion"><Layer id="0" r_edges="0,1,2" n_bin_alpha="2"/></Bin>'
    path.write_text(ATLAS.replace("</Bins>", f"{pion}</Bins>"))
    assert read_binning(path, 211).grid.n_voxels == 4
    with pytest.raises(ConversionError, match="describes photon, pion; give the particle"):
        read_binning(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("r_edges", "not XML"),
        ("<Layers/>", "its root is <Layers>; expected <Bins>"),
        ("<Bins/>", "<Bins> is empty"),
        ('<Bins><Bin name="photon"/></Bins>', "has no layer with voxels"),
        ('<Bins><Bin name="photon"><Layer id="0" r_edges="0,1"/></Bin></Bins>', "<Layer id='0'> lacks 'n_bin_alpha'"),
        ('<Bins><Bin name="photon"><Layer id="0" r_edges="0,a" n_bin_alpha="1"/></Bin></Bins>', "<Layer id='0'>: could not"),
        ('<Bins><Bin name="photon"><Layer id="7" r_edges="0,2,1" n_bin_alpha="1"/></Bin></Bins>', "<Layer id='7'>: ring edges"),
        ('<Bins><Bin name="photon" pid="gamma"/></Bins>', "pid is 'gamma'; expected a PDG code"),
    ],
)
def test_wrong_files_are_refused_naming_the_element(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "binning.xml"
    path.write_text(text)
    with pytest.raises(ConversionError, match=message):
        read_binning(path)
    with pytest.raises(ConversionError, match="no such file"):
        read_binning(tmp_path / "nowhere.xml")

"""The voxels of the CaloChallenge's data sets, and the XML files that describe voxels.

A binning file holds one `Bin` element a particle, with one `Layer` element a layer of the calorimeter: its
`r_edges` in mm and `n_bin_alpha`. A layer with a single edge holds no voxel and is skipped. The numbers below
are those of the challenge's own files (arXiv 2410.21611).
"""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from anycalo.errors import ConversionError
from anycalo.geometry import CustomMaterial, Detector, Layer, Polar, Section, Slab
from anycalo.showers.formats.polar import PolarGrid, Rings

PARTICLES = {"photon": 22, "pion": 211, "electron": 11}


@dataclass(frozen=True, kw_only=True)
class Binning:
    """What a binning file says.

    Args:
        particle: its name for the particle.
        pdg: the particle's code, if it is known.
        layer_ids: numbers of the layers that hold voxels, as the calorimeter counts them.
        grid: their voxels.
    """

    particle: str
    pdg: int | None
    layer_ids: tuple[int, ...]
    grid: PolarGrid


def read_binning(path: str | Path, particle: int | None = None) -> Binning:
    """Read a binning file.

    Args:
        path: of the XML file.
        particle: PDG code of the particle wanted, where the file describes several.

    Raises:
        ConversionError: for a file that is not one, naming the element that is wrong.
    """
    path = Path(path)
    if not path.is_file():
        raise ConversionError(f"{path}: no such file; expected the XML file of a CaloChallenge binning")
    try:
        root = ElementTree.parse(path).getroot()
    except ElementTree.ParseError as error:
        raise ConversionError(f"{path}: not XML: {error}") from error
    if root.tag != "Bins":
        raise ConversionError(f"{path}: its root is <{root.tag}>; expected <Bins> with one <Bin> a particle")
    found = [_bin(path, element) for element in root]
    if not found:
        raise ConversionError(f"{path}: <Bins> is empty; expected one <Bin> a particle")
    wanted = [b for b in found if b.pdg == particle] if len(found) > 1 else found
    if len(wanted) != 1:
        names = ", ".join(b.particle for b in found)
        raise ConversionError(f"{path}: describes {names}; give the particle that is wanted")
    return wanted[0]


def _bin(path: Path, element: ElementTree.Element) -> Binning:
    name = element.get("name", "")
    try:
        pdg = int(element.get("pid", "")) if element.get("pid") else PARTICLES.get(name)
    except ValueError as error:
        raise ConversionError(f"{path}: pid is {element.get('pid')!r}; expected a PDG code") from error
    ids, layers = [], []
    for layer in element:
        where = f"{path}: <Layer id={layer.get('id')!r}>"
        try:
            edges = tuple(float(text) for text in layer.attrib["r_edges"].split(","))
            sectors = int(layer.attrib["n_bin_alpha"])
            number = int(layer.attrib["id"])
        except KeyError as error:
            raise ConversionError(f"{where} lacks {error}; expected id, r_edges and n_bin_alpha") from error
        except ValueError as error:
            raise ConversionError(f"{where}: {error}; expected numbers in id, r_edges and n_bin_alpha") from error
        if len(edges) == 1:
            continue
        try:
            layers.append(Rings(r_edges_mm=edges, n_sectors=sectors))
        except ConversionError as error:
            raise ConversionError(f"{where}: {error}") from error
        ids.append(number)
    if not layers:
        raise ConversionError(f"{path}: <Bin name={name!r}> has no layer with voxels")
    return Binning(particle=name, pdg=pdg, layer_ids=tuple(ids), grid=PolarGrid(layers=tuple(layers)))


def binning_xml(grid: PolarGrid, *, particle: str, pdg: int) -> str:
    """The text of the binning file that describes a grid, for the challenge's own evaluation."""
    root = ElementTree.Element("Bins")
    inside = ElementTree.SubElement(root, "Bin", pid=str(pdg), name=particle)
    for i, rings in enumerate(grid.layers):
        edges = ",".join(f"{edge:.9g}" for edge in rings.r_edges_mm)
        ElementTree.SubElement(inside, "Layer", id=str(i), r_edges=edges, n_bin_alpha=str(rings.n_sectors))
    ElementTree.indent(root, "   ")
    return ElementTree.tostring(root, encoding="unicode") + "\n"


# --- data set 1 -----------------------------------------------------------------------------------

# Layer of the ATLAS barrel: (ring edges, sectors).
_PHOTONS = {
    0: ((0, 5, 10, 30, 50, 100, 200, 400, 600), 1),
    1: ((0, 2, 4, 6, 8, 10, 12, 15, 20, 30, 40, 50, 70, 90, 120, 150, 200), 10),
    2: ((0, 2, 5, 10, 15, 20, 25, 30, 40, 50, 60, 80, 100, 130, 160, 200, 250, 300, 350, 400), 10),
    3: ((0, 50, 100, 200, 400, 600), 1),
    12: ((0, 100, 200, 400, 1000, 2000), 1),
}
_PIONS = {
    0: ((0, 5, 10, 30, 50, 100, 200, 400, 600), 1),
    1: ((0, 1, 4, 7, 10, 15, 30, 50, 90, 150, 200), 10),
    2: ((0, 5, 10, 20, 30, 50, 80, 130, 200, 300, 400), 10),
    3: ((0, 50, 100, 200, 400, 600), 1),
    12: ((0, 10, 20, 30, 50, 80, 100, 130, 160, 200, 250, 300, 350, 400, 1000, 2000), 10),
    13: ((0, 10, 20, 30, 50, 80, 100, 130, 160, 200, 250, 300, 350, 400, 600, 1000, 2000), 10),
    14: ((0, 50, 100, 150, 200, 250, 300, 400, 600, 1000, 2000), 1),
}
# Depth of each layer in mm: 11 mm of liquid argon in the presampler, the 90, 347 and 43 mm of `atlas-like`, and the
# three layers of the tile calorimeter (ATLAS, JINST 3 S08003: 1.5, 4.1 and 1.8 interaction lengths).
_ATLAS = {
    0: ("G4_lAr", 11.0),
    1: ("LeadArgon", 90.0),
    2: ("LeadArgon", 347.0),
    3: ("LeadArgon", 43.0),
    12: ("SteelScintillator", 300.0),
    13: ("SteelScintillator", 840.0),
    14: ("SteelScintillator", 380.0),
}
# Mixtures by volume: the plates of `atlas-like` (2 mm lead, 4 mm argon), and 4.7 parts of iron to one of scintillator.
_MATERIALS = {
    "LeadArgon": CustomMaterial(density_g_cm3=4.714, mass_fractions={"G4_Pb": 0.8026, "G4_lAr": 0.1974}),
    "SteelScintillator": CustomMaterial(
        density_g_cm3=6.674, mass_fractions={"G4_Fe": 0.9729, "G4_PLASTIC_SC_VINYLTOLUENE": 0.0271}
    ),
}


@lru_cache(maxsize=2)
def atlas_detector(particle: str) -> Detector:
    """The calorimeter of data set 1, `photons` or `pions`: the layers of the ATLAS barrel, flat and approximate.

    The data set's energies are calibrated to what the particle deposits in the whole layer, so each layer is
    one sheet of a mixture, sensitive throughout, and the sampling fraction is 1.
    """
    layers = []
    for number, (edges, sectors) in (_PHOTONS if particle == "photons" else _PIONS).items():
        material, thickness = _ATLAS[number]
        readout = Polar(r_edges_mm=tuple(float(edge) for edge in edges), n_phi=sectors)
        layers.append(Layer(stack=(Slab(material=material, thickness_mm=thickness, sensitive=True),), readout=readout))
    used = {slab.material for layer in layers for slab in layer.stack}
    return Detector(
        name=f"calochallenge-1-{particle}",
        description=(
            f"CaloChallenge dataset 1, {particle}: {len(layers)} layers of the ATLAS barrel, voxels as published"
            " (arXiv 2410.21611); materials and depths approximate: homogeneous mixtures, flat, no dead material"
        ),
        sections=(Section(layers=tuple(layers)),),
        materials={name: _MATERIALS[name] for name in _MATERIALS if name in used},
        size_mm=(4000.0, 4000.0),
    )

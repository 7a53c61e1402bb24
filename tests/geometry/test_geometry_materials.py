"""Materials against Geant4's and PDG's own numbers, laws of mixtures, and what is refused."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anycalo.errors import DetectorError
from anycalo.geometry import CustomMaterial, Detector, Layer, Rectangular, Section, Slab, material
from anycalo.geometry.fields import InvalidField
from anycalo.geometry.materials import mass_fractions_of_atoms, nist_names
from anycalo.simulate import find_data

# Geant4 11.4.1: G4Material::GetRadlen [mm], and the least of G4EmCalculator::ComputeElectronicDEDX over muons of
# 180 to 450 MeV [MeV/cm]. `test_geant4_agrees_today` makes the same numbers anew.
GEANT4 = {
    "G4_W": (3.504180, 21.96303),
    "G4_Pb": (5.612533, 12.65294),
    "G4_Fe": (17.574935, 11.40699),
    "G4_Cu": (14.355780, 12.54511),
    "G4_Si": (93.660703, 3.873015),
    "G4_lAr": (140.034387, 2.102023),
    "G4_PLASTIC_SC_VINYLTOLUENE": (425.441996, 2.017316),
    "G4_POLYSTYRENE": (413.125056, 2.050458),
    "G4_BRASS": (13.674648, 11.937704),
    "G4_PbWO4": (8.924532, 10.249761),
    "G4_AIR": (303920.7005, 0.002184813),
}

# Atomic and nuclear properties of materials, Review of Particle Physics: X0 [g/cm2], minimum dE/dx [MeV cm2/g],
# critical energy of electrons [MeV], Moliere radius [mm].
PDG = {
    "G4_W": (6.76, 1.145, 7.97, 9.327),
    "G4_Pb": (6.37, 1.122, 7.43, 16.02),
    "G4_Fe": (13.84, 1.451, 21.68, 17.19),
    "G4_Cu": (12.86, 1.403, 19.42, 15.68),
    "G4_Si": (21.82, 1.664, 40.19, 49.44),
    "G4_PbWO4": (7.39, 1.229, 9.64, 19.59),
}

_DEDX = """
import json, sys
import geant4_pybind as g
names = sys.argv[1:]
nist = g.G4NistManager.Instance()
keep = []
class Construction(g.G4VUserDetectorConstruction):
    def Construct(self):
        box = g.G4Box("world", 1000, 1000, 1000)
        world = g.G4LogicalVolume(box, nist.FindOrBuildMaterial("G4_Galactic"), "world")
        keep.extend([box, world])
        for i, name in enumerate(names):
            solid = g.G4Box(name, 1, 1, 1)
            logical = g.G4LogicalVolume(solid, nist.FindOrBuildMaterial(name), name)
            keep.extend([solid, logical, g.G4PVPlacement(None, g.G4ThreeVector(10 * i, 0, 0), logical, name, world, False, 0)])
        return g.G4PVPlacement(None, g.G4ThreeVector(), world, "world", None, False, 0)
class Physics(g.G4VModularPhysicsList):
    def __init__(self):
        super().__init__()
        self.constructor = g.G4EmStandardPhysics()
        self.RegisterPhysics(self.constructor)
class Gun(g.G4VUserPrimaryGeneratorAction):
    def GeneratePrimaries(self, event):
        pass
class Actions(g.G4VUserActionInitialization):
    def Build(self):
        self.gun = Gun()
        self.SetUserAction(self.gun)
manager = g.G4RunManager()
parts = (Construction(), Physics(), Actions())
for part in parts:
    manager.SetUserInitialization(part)
manager.Initialize()
manager.BeamOn(1)
calculator, muon, found = g.G4EmCalculator(), g.G4MuonMinus.Definition(), {}
for name in names:
    m = nist.FindOrBuildMaterial(name)
    losses = [calculator.ComputeElectronicDEDX(t * g.MeV, muon, m) / (g.MeV / g.cm) for t in range(180, 451, 15)]
    found[name] = [m.GetRadlen() / g.mm, min(losses)]
print("RESULT" + json.dumps(found))
"""


def alloy(name: str, **kwargs: object) -> dict[str, CustomMaterial]:
    return {name: CustomMaterial(**kwargs)}


@pytest.mark.parametrize("name", GEANT4)
def test_radiation_length_and_mip_loss_are_those_of_geant4(name: str) -> None:
    x0_mm, mip = GEANT4[name]
    assert material({}, name).x0_mm == pytest.approx(x0_mm, rel=1e-5)  # the same formula, so only constants differ
    assert material({}, name).mip_mev_per_cm == pytest.approx(mip, rel=0.01)


@pytest.mark.parametrize("name", PDG)
def test_values_are_those_of_the_review_of_particle_physics(name: str) -> None:
    x0, loss, critical, moliere = PDG[name]
    m = material({}, name)
    assert m.x0_g_cm2 == pytest.approx(x0, rel=0.002)
    assert m.mip_mev_per_cm / m.density_g_cm3 == pytest.approx(loss, rel=0.012)
    # PDG tabulates the integrals behind its fits; the fits used here scatter about them by 2.2% rms.
    assert m.critical_energy_mev == pytest.approx(critical, rel=0.05)
    assert m.moliere_mm == pytest.approx(moliere, rel=0.05)


@pytest.mark.geant4
def test_geant4_agrees_today() -> None:
    run = subprocess.run(
        [sys.executable, "-c", _DEDX, *GEANT4],
        env=os.environ | find_data(),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    lines = [line for line in run.stdout.splitlines() if line.startswith("RESULT")]
    assert lines, run.stderr[-2000:]
    for name, (x0_mm, mip) in json.loads(lines[0].removeprefix("RESULT")).items():
        assert material({}, name).x0_mm == pytest.approx(x0_mm, rel=0.02), name
        assert material({}, name).mip_mev_per_cm == pytest.approx(mip, rel=0.02), name


def test_table_holds_every_element_and_what_calorimeters_are_made_of() -> None:
    elements = [m for m in (material({}, n) for n in nist_names()) if len(m.mass_fractions) == 1]
    assert {m.mass_fractions[0][0] for m in elements} >= set(range(1, 93))
    wanted = "AIR Galactic lAr lKr KAPTON PLEXIGLASS MYLAR WATER BGO CESIUM_IODIDE SODIUM_IODIDE BARIUM_FLUORIDE CONCRETE"
    wanted += (
        " POLYETHYLENE LUCITE GLASS_PLATE STAINLESS-STEEL BRONZE SILICON_DIOXIDE GRAPHITE TEFLON Pyrex_Glass ALUMINUM_OXIDE"
    )
    assert {f"G4_{name}" for name in wanted.split()} <= set(nist_names())


def test_every_material_of_the_table_is_sane() -> None:
    for name in nist_names():
        m = material({}, name)
        assert sum(w for _, w in m.mass_fractions) == pytest.approx(1, abs=1e-12)
        assert 5.5 < m.x0_g_cm2 < 95  # uranium to helium
        assert 1.0 < m.mip_mev_per_cm / m.density_g_cm3 < 4.3  # heavy metals to hydrogen
        assert 6 < m.critical_energy_mev < 400


def test_minimum_is_where_a_minimum_ionising_muon_is() -> None:
    beta_gamma = np.geomspace(0.5, 100, 1000)
    loss = material({}, "G4_Si").muon_loss_mev_per_cm(beta_gamma)
    assert beta_gamma[loss.argmin()] == pytest.approx(3.5, abs=0.5)
    assert material({}, "G4_Si").mip_mev_per_cm == pytest.approx(loss.min(), rel=1e-4)


def test_density_effect_is_what_tames_the_relativistic_rise() -> None:
    m = material({}, "G4_Cu")
    x = np.array([10**m.sternheimer.x1 * 0.999999, 10**m.sternheimer.x1 * 1.000001])
    below, above = m.density_effect(x)
    assert below == pytest.approx(above, abs=1e-4)  # continuous where the fit ends
    assert m.density_effect(np.array([1e6]))[0] == pytest.approx(2 * np.log(1e6) - m.sternheimer.c)


@given(st.sampled_from([n for n in nist_names() if n != "G4_Galactic"]))
def test_a_mixture_of_one_is_that_material(name: str) -> None:
    pure = material({}, name)
    mixed = material(alloy("A", density_g_cm3=pure.density_g_cm3, mass_fractions={name: 1.0}), "A")
    assert mixed.x0_mm == pytest.approx(pure.x0_mm, rel=1e-12)
    assert mixed.moliere_mm == pytest.approx(pure.moliere_mm, rel=1e-12)
    assert mixed.effective_z == pytest.approx(pure.effective_z, rel=1e-12)
    assert mixed.mean_excitation_ev == pytest.approx(pure.mean_excitation_ev, rel=1e-12)
    assert mixed.mip_mev_per_cm == pytest.approx(pure.mip_mev_per_cm, rel=0.03)  # general density effect instead of a fit


@given(st.floats(0.01, 0.99), st.floats(0.1, 25.0))
def test_mixture_rules(w: float, density: float) -> None:
    a, b = material({}, "G4_W"), material({}, "G4_POLYSTYRENE")
    m = material(alloy("A", density_g_cm3=density, mass_fractions={"G4_W": w, "G4_POLYSTYRENE": 1 - w}), "A")
    assert 1 / m.x0_g_cm2 == pytest.approx(w / a.x0_g_cm2 + (1 - w) / b.x0_g_cm2)
    # PDG: 1 / R_M = (1 / E_s) sum_j w_j E_cj / X_j, in g/cm2.
    rule = w * a.critical_energy_mev / a.x0_g_cm2 + (1 - w) * b.critical_energy_mev / b.x0_g_cm2
    assert 1 / m.moliere_mm == pytest.approx(rule / 21.2052 * density / 10)
    assert b.effective_z < m.effective_z < a.effective_z


def test_halving_the_density_doubles_the_lengths() -> None:
    dense = material(alloy("A", density_g_cm3=10.0, mass_fractions={"G4_Pb": 1.0}), "A")
    light = material(alloy("A", density_g_cm3=5.0, mass_fractions={"G4_Pb": 1.0}), "A")
    assert light.x0_mm == pytest.approx(2 * dense.x0_mm)
    assert light.moliere_mm == pytest.approx(2 * dense.moliere_mm)
    assert light.critical_energy_mev == dense.critical_energy_mev


def test_formula_gives_the_fractions_of_the_table() -> None:
    fractions = mass_fractions_of_atoms({"Pb": 1, "W": 1, "O": 4})
    expected = {
        f"G4_{symbol}": w for symbol, (_, w) in zip(("O", "W", "Pb"), material({}, "G4_PbWO4").mass_fractions, strict=True)
    }
    assert fractions == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("name", ["G4_H", "G4_W"])
def test_a_vacuum_keeps_its_loss_per_mass(name: str) -> None:
    thin, thinner = (material(alloy("A", density_g_cm3=d, mass_fractions={name: 1.0}), "A") for d in (1e-20, 1e-25))
    assert thin.mip_mev_per_cm / 1e-20 == pytest.approx(thinner.mip_mev_per_cm / 1e-25)


@pytest.mark.parametrize(
    ("name", "hint"),
    [("G4_WW", "G4_W"), ("Pb", "G4_Pb"), ("g4_pb", "G4_Pb"), ("tungsten", "G4_W"), ("LAr", "G4_lAr"), ("Bord", "Board")],
)
def test_unknown_material_is_refused_with_a_suggestion(name: str, hint: str) -> None:
    with pytest.raises(DetectorError, match=rf"material '{name}' is unknown. Did you mean '{hint}'\?.*density_g_cm3"):
        material(alloy("Board", density_g_cm3=1.7, mass_fractions={"G4_Si": 1.0}), name)


def detector(**changes: object) -> Detector:
    slabs = (Slab(material="G4_W", thickness_mm=1.0), Slab(material="G4_Si", thickness_mm=1.0, sensitive=True))
    layer = Layer(stack=slabs, readout=Rectangular(pitch_mm=(5, 5)))
    return Detector(**{"name": "d", "sections": [Section(layers=(layer,))]} | changes)


def test_a_detector_built_in_python_is_checked_too() -> None:
    slab = Slab(material="G4_Sj", thickness_mm=1.0, sensitive=True)
    section = Section(layers=(Layer(stack=(slab,), readout=Rectangular(pitch_mm=(5, 5))),))
    with pytest.raises(InvalidField, match=r"section 1, layer 1, slab 1: material 'G4_Sj' is unknown. Did you mean") as caught:
        detector(sections=[section])
    assert caught.value.key == ("section", 0, "layer", 0, "stack", 0, "material")


def test_other_places_that_name_materials_are_checked() -> None:
    with pytest.raises(InvalidField, match=r"world_material 'G4_AIRR' is unknown\. Did you mean 'G4_AIR'"):
        detector(world_material="G4_AIRR")
    with pytest.raises(InvalidField, match="mass_fractions of 'A' names 'Lead'; expected Geant4 NIST names"):
        detector(materials=alloy("A", density_g_cm3=1.0, mass_fractions={"Lead": 1.0}))
    with pytest.raises(InvalidField, match="material 'G4_W' has the name of a NIST material"):
        detector(materials=alloy("G4_W", density_g_cm3=1.0, mass_fractions={"G4_W": 1.0}))
    with pytest.raises(InvalidField, match=r"materials\['A'\] is 3; expected a CustomMaterial"):
        detector(materials={"A": 3})
    with pytest.raises(InvalidField, match=r"atoms names 'Wo'; expected the symbol of an element"):
        mass_fractions_of_atoms({"Wo": 1})
    for bad in (0, -1, True, float("nan"), "1"):
        with pytest.raises(InvalidField, match=r"atoms\.W is .*; expected a number above 0"):
            mass_fractions_of_atoms({"W": bad})

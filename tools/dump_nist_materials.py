"""Write `src/anycalo/geometry/nist.json` from the NIST material table of Geant4.

Run once for a Geant4 version, with Geant4's Python binding installed:

    python tools/dump_nist_materials.py src/anycalo/geometry/nist.json

The package itself reads the JSON file and needs no Geant4.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from anycalo.simulate.environment import find_data


def row(g4: Any, material: Any) -> str:
    """One material as one line of JSON; fractions are keyed by atomic number, the density effect is C, x0, x1, a, m, delta0."""
    fractions = {}
    for index, fraction in enumerate(material.GetFractionVector()[: material.GetNumberOfElements()]):
        z = round(material.GetElement(index).GetZ())
        fractions[str(z)] = float(f"{fractions.get(str(z), 0.0) + fraction:.8g}")
    ion = material.GetIonisation()
    names = ("Cdensity", "X0density", "X1density", "Adensity", "Mdensity", "D0density")
    effect = [getattr(ion, f"Get{name}")() for name in names]
    values = {
        "density_g_cm3": float(f"{material.GetDensity() / (g4.g / g4.cm3):.8g}"),
        "mean_excitation_ev": float(f"{ion.GetMeanExcitationEnergy() / g4.eV:.6g}"),
        "mass_fractions": fractions,
        "density_effect": [float(f"{value:.6g}") for value in effect],
    }
    return f"    {json.dumps(str(material.GetName()))}: {json.dumps(values)}"


def main(path: Path) -> None:
    """Write the table of elements and the table of materials."""
    os.environ.update(find_data())
    import geant4_pybind as g4  # it prompts or downloads where its data are not told of before

    manager = g4.G4NistManager.Instance()
    elements = []
    for z in range(1, 99):
        element = manager.FindOrBuildElement(z)
        elements.append(f'    "{z}": {json.dumps([str(element.GetName()), float(f"{element.GetA() / (g4.g / g4.mole):.8g}")])}')
    materials = [row(g4, manager.FindOrBuildMaterial(name)) for name in manager.GetNistMaterialNames()]
    version = str(g4.G4Version).replace("$Name:", "").replace("$", "").split("[")[0].strip()
    source = f"G4NistManager of {version}; data of NIST (physics.nist.gov/PhysRefData) and ICRU reports 37 and 49;"
    source += " density effect of R. M. Sternheimer, M. J. Berger and S. M. Seltzer, At. Data Nucl. Data Tables 30 (1984) 261"
    text = f'{{\n  "source": {json.dumps(source)},\n  "elements": {{\n' + ",\n".join(elements) + "\n  },\n"
    text += '  "materials": {\n' + ",\n".join(materials) + "\n  }\n}\n"
    path.write_text(text, "utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))

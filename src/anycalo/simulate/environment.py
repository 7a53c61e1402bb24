"""Is Geant4 here, with its tables? Asked before importing it, since it would prompt or download."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

from anycalo.errors import SimulationError

_REMEDY = (
    "Install Geant4 with 'pip install anycalo[geant4]'. Its data files: either point G4LEDATA at a G4EMLOW folder and"
    " G4ENSDFSTATEDATA at a G4ENSDFSTATE folder, or let geant4_pybind download them once into ~/.geant4_pybind by running"
    " 'python -c \"import geant4_pybind\"' in a terminal and answering yes."
)
_NEEDED = {"G4LEDATA": "G4EMLOW", "G4ENSDFSTATEDATA": "G4ENSDFSTATE"}


def find_data() -> dict[str, str]:
    """The variables that Geant4 needs for electromagnetic showers, with their folders.

    Looks at the environment, then in `~/.geant4_pybind`, where geant4_pybind keeps its downloads.

    Raises:
        SimulationError: naming what is missing, and how to get it.
    """
    if importlib.util.find_spec("geant4_pybind") is None:
        raise SimulationError(f"simulating needs the package geant4_pybind, which is not installed. {_REMEDY}")
    downloads = Path.home() / ".geant4_pybind"
    found = {}
    for variable, stem in _NEEDED.items():
        given = os.environ.get(variable)
        if given is None:
            folders = sorted(downloads.glob(f"{stem}[0-9]*")) if downloads.is_dir() else []
            if not folders:
                raise SimulationError(f"simulating needs Geant4's {stem} data: {variable} is not set. {_REMEDY}")
            given = str(folders[-1])
        if not Path(given).is_dir():
            raise SimulationError(f"{variable} is '{given}', which is not a folder. {_REMEDY}")
        found[variable] = given
    if not any(Path(found["G4LEDATA"]).glob("brem_SB/br*")):
        raise SimulationError(f"G4LEDATA is '{found['G4LEDATA']}', which holds no brem_SB/br* tables. {_REMEDY}")
    # geant4_pybind neither prompts nor downloads when this is set, and Geant4 asks the single variables first.
    found["GEANT4_DATA_DIR"] = os.environ.get("GEANT4_DATA_DIR", str(Path(found["G4LEDATA"]).parent))
    # Geant4 wants a folder of nuclear levels when it starts, and electromagnetic showers never read from it.
    found["G4LEVELGAMMADATA"] = os.environ.get("G4LEVELGAMMADATA", found["G4ENSDFSTATEDATA"])
    return found

"""AnyCalo: electromagnetic showers in any sampling calorimeter.

Example:
    import anycalo as ac

    detector = ac.Detector.load("ild-ecal")
    model = ac.load_model("caloclouds-ild")
    incident = ac.Incident("gamma", energy_mev=50_000, n=1000)
    fast = ac.generate(model, detector, incident, seed=1)
    cells = ac.read_out(fast)
    result = ac.evaluate(ac.Showers.open("truth.h5"), fast)
"""

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

from anycalo.version import __version__ as __version__

if TYPE_CHECKING:
    from anycalo.errors import AnyCaloError as AnyCaloError
    from anycalo.errors import DomainWarning as DomainWarning
    from anycalo.evaluate import Evaluation as Evaluation
    from anycalo.evaluate import evaluate as evaluate
    from anycalo.generate import generate as generate
    from anycalo.geometry import Detector as Detector
    from anycalo.geometry import presets as presets
    from anycalo.models import Model as Model
    from anycalo.models import load_model as load_model
    from anycalo.models import shipped_models as shipped_models
    from anycalo.readout import Cells as Cells
    from anycalo.readout import read_out as read_out
    from anycalo.report import event_display as event_display
    from anycalo.report import write_report as write_report
    from anycalo.showers import Beam as Beam
    from anycalo.showers import Incident as Incident
    from anycalo.showers import ShowerFile as ShowerFile
    from anycalo.showers import Showers as Showers
    from anycalo.showers import ShowerWriter as ShowerWriter
    from anycalo.showers import samples as samples
    from anycalo.simulate import Settings as Settings
    from anycalo.simulate import simulate as simulate
    from anycalo.train import train as train

_ROOM = {
    "AnyCaloError": "errors",
    "Beam": "showers",
    "Cells": "readout",
    "Detector": "geometry",
    "DomainWarning": "errors",
    "Evaluation": "evaluate",
    "Incident": "showers",
    "Model": "models",
    "Settings": "simulate",
    "ShowerFile": "showers",
    "ShowerWriter": "showers",
    "Showers": "showers",
    "evaluate": "evaluate",
    "event_display": "report",
    "generate": "generate",
    "load_model": "models",
    "presets": "geometry",
    "read_out": "readout",
    "samples": "showers",
    "shipped_models": "models",
    "simulate": "simulate",
    "train": "train",
    "write_report": "report",
}
__all__ = sorted([*_ROOM, "__version__"])


def __getattr__(name: str) -> Any:
    # Rooms are imported when something in them is first asked for: torch and matplotlib take seconds.
    if name not in _ROOM:
        raise AttributeError(f"module 'anycalo' has no attribute {name!r}")
    value = getattr(import_module(f"anycalo.{_ROOM[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__


class _Package(ModuleType):
    """Keeps `anycalo.evaluate` the function, also after the room `anycalo.evaluate` was imported.

    Importing a submodule binds it in its package, under the name that some rooms share with the function
    they are about. `from anycalo.evaluate import ...` finds the room as ever.
    """

    def __setattr__(self, name: str, value: object) -> None:
        if not (isinstance(value, ModuleType) and name in _ROOM):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package

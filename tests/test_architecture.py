"""The rooms import downwards only, Geant4 stays in its files, and files stay small."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import anycalo

SRC = Path(anycalo.__file__).parent
ROOMS = [
    "geometry",
    "showers",
    "readout",
    "simulate",
    "models",
    "adapt",
    "train",
    "generate",
    "embed",
    "evaluate",
    "report",
    "study",
    "cli",
]
FOUNDATION = {"errors", "version"}  # below every room
GEANT4_FILES = ("simulate/geant4.py", "simulate/geant4_detector.py")
FORBIDDEN = ("NotImplementedError", "pickle", "torch.load")
LONGEST = 400


def sources(root: Path) -> dict[str, str]:
    return {path.relative_to(root).as_posix(): path.read_text("utf-8") for path in sorted(root.rglob("*.py"))}


def imports(name: str, text: str) -> Iterator[tuple[int, str]]:
    """Line and full dotted name of everything that a module imports, in functions too."""
    package = ["anycalo", *name.split("/")[:-1]]
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            yield from ((node.lineno, f"{module}.{alias.name}") for alias in node.names)


def wrong_arrows(files: dict[str, str]) -> list[str]:
    """Imports of a room from one above it, and of the package's front, which reaches all rooms."""
    found = []
    for name, text in files.items():
        room = name.split("/")[0]
        if room not in ROOMS:
            continue
        for line, target in imports(name, text):
            parts = target.split(".")
            if parts[0] != "anycalo" or (len(parts) > 1 and parts[1] in FOUNDATION):
                continue
            if len(parts) == 1 or parts[1] not in ROOMS:
                found.append(f"{name}:{line} imports {target}, through which every room can be reached")
            elif ROOMS.index(parts[1]) > ROOMS.index(room):
                found.append(f"{name}:{line} imports {target}, upwards")
    return found


def strays(files: dict[str, str]) -> list[str]:
    """Geant4 outside its file, files that are too long, `utils`, and words that have no place here."""
    found = []
    for name, text in files.items():
        if name not in GEANT4_FILES:
            found += [f"{name}:{line} imports Geant4" for line, t in imports(name, text) if t.split(".")[0] == "geant4_pybind"]
        if (length := text.count("\n")) > LONGEST:
            found.append(f"{name} has {length} lines; expected at most {LONGEST}")
        if "utils" in (*name.split("/")[:-1], Path(name).stem):
            found.append(f"{name} is called utils")
        found += [f"{name} says {word}" for word in FORBIDDEN if re.search(rf"\b{re.escape(word)}\b", text)]
    return found


def test_every_room_is_known() -> None:
    rooms = {path.name for path in SRC.iterdir() if (path / "__init__.py").exists()}
    assert rooms <= set(ROOMS), "a new room needs a place in the order"
    assert len(rooms) >= 9


def test_imports_point_downwards() -> None:
    assert wrong_arrows(sources(SRC)) == []


def test_nothing_strays() -> None:
    assert strays(sources(SRC)) == []


def test_the_walk_sees_the_imports_that_are_there() -> None:
    """A walk that finds nothing would also find nothing wrong."""
    seen = {target for name, text in sources(SRC).items() for _, target in imports(name, text)}
    assert {"anycalo.showers.Showers", "anycalo.geometry.Detector", "numpy", "geant4_pybind"} <= {
        t if not t.startswith("geant4_pybind") else "geant4_pybind" for t in seen
    }


@pytest.mark.parametrize(
    "text",
    [
        "from anycalo.readout import read_out",
        "import anycalo.readout",
        "def f():\n    from anycalo.readout.grid import n_cells",
        "from ..readout import read_out",
        "from .. import readout",
        "from anycalo import read_out",
        "import anycalo",
        "import anycalo as ac",
        "from anycalo import __version__",
    ],
)
def test_an_arrow_that_points_up_is_found(text: str) -> None:
    assert len(wrong_arrows({"geometry/wrong.py": text})) == 1
    assert (
        wrong_arrows({"geometry/right.py": "from anycalo.errors import AnyCaloError\nfrom anycalo.version import __version__"})
        == []
    )


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("models/wrong.py", "import geant4_pybind as g4"),
        ("models/wrong.py", "def f():\n    from geant4_pybind import G4Box"),
        ("models/wrong.py", "import pickle"),
        ("models/wrong.py", "torch.load('x')"),
        ("models/wrong.py", "raise NotImplementedError"),
        ("models/wrong.py", "\n" * (LONGEST + 1)),
        ("models/utils.py", ""),
        ("utils/wrong.py", ""),
    ],
)
def test_what_strays_is_found(name: str, text: str) -> None:
    assert strays({name: text})

"""The public names, pinned: a change here is a change for users."""

from __future__ import annotations

import inspect
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

import anycalo

NAMES = {
    "AnyCaloError",
    "Beam",
    "Cells",
    "Detector",
    "DomainWarning",
    "Evaluation",
    "Incident",
    "Model",
    "Settings",
    "ShowerFile",
    "ShowerWriter",
    "Showers",
    "__version__",
    "evaluate",
    "event_display",
    "generate",
    "load_model",
    "presets",
    "read_out",
    "samples",
    "shipped_models",
    "simulate",
    "train",
    "write_report",
}


def run(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True).stdout.strip()


def test_the_public_names() -> None:
    assert set(anycalo.__all__) == NAMES
    assert dir(anycalo) == sorted(NAMES)


@pytest.mark.parametrize("name", sorted(NAMES - {"__version__"}))
def test_each_is_a_documented_class_or_function(name: str) -> None:
    value = getattr(anycalo, name)
    assert inspect.isclass(value) or inspect.isfunction(value)
    assert value.__module__.startswith("anycalo.")
    assert inspect.getdoc(value)


def test_unknown_names_are_refused() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        anycalo.nothing  # noqa: B018


def test_importing_the_package_imports_nothing_heavy() -> None:
    assert run("import sys, anycalo; print([m for m in ('numpy', 'torch', 'matplotlib', 'h5py') if m in sys.modules])") == "[]"


def test_a_function_is_found_whatever_was_imported_before() -> None:
    """`evaluate`, `generate`, `simulate` and `train` are names of rooms too."""
    code = "import anycalo.evaluate, anycalo.simulate.production, anycalo.train.loop, anycalo.generate, anycalo as ac; "
    names = ("evaluate", "generate", "simulate", "train")
    assert run(code + f"print(all(type(getattr(ac, n)).__name__ == 'function' for n in {names}))") == "True"


def test_the_version_is_the_distributions() -> None:
    assert anycalo.__version__ == version("anycalo")


def test_data_travels_with_the_package() -> None:
    """What is read through importlib.resources lies inside the package."""
    root = Path(anycalo.__file__).parent
    for pattern in ("geometry/presets/*.toml", "geometry/*.json", "report/*.j2", "train/recipes/*.toml", "py.typed"):
        assert list(root.glob(pattern)), pattern

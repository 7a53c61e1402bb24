"""Every script that the documentation names starts: what it takes from the package is there."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest

SCRIPTS = sorted(
    path
    for folder in ("benchmarks", "tools")
    for path in (Path(__file__).parents[1] / folder).glob("*.py")
    if not path.name.startswith("test_")
)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_scripts_start(script: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(script.parent))
    before = set(sys.modules)
    try:
        runpy.run_path(str(script), run_name="a script that starts")
    finally:
        for name in {path.stem for path in SCRIPTS} - before:
            sys.modules.pop(name, None)  # scripts that this one imports

"""A study on the workers of a Dask scheduler: the cells of one that runs here."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from anycalo.cli import main
from anycalo.errors import TrainingError
from anycalo.study import StudyRecipe, run_scheduled, run_study
from anycalo.study.run import CELLS, Study, results

pytest.importorskip("distributed", reason="needs the extra 'dask'")

RECIPE = """
showers = [20, 30]
methods = ["full", "bitfit"]
seeds = [1]
learning_rates = [1e-3, 1e-2]
[[base]]
name = "toy"
model = "toy"
[[target]]
name = "small"
training = "train.h5"
test = "test.h5"
"""


@pytest.fixture
def recipe(tmp_path: Path) -> StudyRecipe:
    (tmp_path / "study.toml").write_text(RECIPE)
    return StudyRecipe.load(tmp_path / "study.toml")


@pytest.fixture
def order(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names in place of work, in the order in which they are asked for."""
    asked: list[str] = []

    def cell(self: Study, chosen: Any) -> dict[str, Any]:
        asked.append(chosen.key)
        return {"method": chosen.method, "showers": chosen.showers}

    monkeypatch.setattr(Study, "_start", lambda self, base, target: asked.append(f"start {base} {target}"))
    monkeypatch.setattr(Study, "rate", lambda self, base, target, method: asked.append(f"rate {method}"))
    monkeypatch.setattr(Study, "cell", cell)
    return asked


def cluster(threads: int) -> Iterator[str]:
    import distributed

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        inside = distributed.LocalCluster(
            n_workers=1, threads_per_worker=threads, processes=False, dashboard_address=None, protocol="tcp", host="127.0.0.1"
        )
        with inside:
            yield inside.scheduler_address


@pytest.fixture(scope="module")
def scheduler() -> Iterator[str]:
    yield from cluster(1)


def test_what_cells_share_is_made_before_them(recipe: StudyRecipe, order: list[str], tmp_path: Path, scheduler: str) -> None:
    seen: list[tuple[int, int]] = []
    out = tmp_path / "out"
    assert run_scheduled(recipe, out, scheduler, root=tmp_path, progress=lambda a, b: seen.append((a, b))) == 5
    assert seen[0] == (0, 5)
    assert seen[-1] == (5, 5)
    keys = {cell.key for cell in recipe.cells()}
    assert keys <= set(order)
    assert len(order) == len(set(order)) == len(keys) + 1 + 2
    for key in keys - {"toy/small/zero-shot-0-1"}:
        method = key.split("/")[-1].split("-")[0]
        assert order.index("start toy small") < order.index(f"rate {method}") < order.index(key)
    # Its files are those of a study without a scheduler, which finds nothing left to do.
    assert len(results(recipe, out)) == 5
    order.clear()
    assert run_study(recipe, out, root=tmp_path) == 5
    assert run_scheduled(recipe, out, scheduler, root=tmp_path) == 5
    assert order == []


def test_finished_cells_are_kept_when_one_fails(
    recipe: StudyRecipe, order: list[str], tmp_path: Path, scheduler: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def rate(self: Study, base: str, target: str, method: str) -> None:
        if method == "bitfit":
            raise TrainingError("bitfit diverges at every learning rate")

    monkeypatch.setattr(Study, "rate", rate)
    with pytest.raises(TrainingError, match="bitfit diverges"):
        run_scheduled(recipe, tmp_path / "out", scheduler, root=tmp_path)
    assert len(results(recipe, tmp_path / "out")) < 5
    assert not list((tmp_path / "out" / CELLS).rglob("bitfit*"))


def test_workers_that_cannot_do_it_are_refused(recipe: StudyRecipe, tmp_path: Path) -> None:
    for address in cluster(2):
        with pytest.raises(TrainingError, match="runs 2 tasks at a time; expected one"):
            run_scheduled(recipe, tmp_path / "out", address, root=tmp_path)
    with pytest.raises(TrainingError, match="no Dask scheduler answers at 'nowhere'"):
        run_scheduled(recipe, tmp_path / "out", "nowhere", root=tmp_path)
    assert not (tmp_path / "out").exists()


def test_the_command(recipe: StudyRecipe, tmp_path: Path, scheduler: str, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(tmp_path / "out")
    asked = ["study", str(tmp_path / "study.toml"), "--out", out, "--root", str(tmp_path), "--scheduler", scheduler]
    assert main([*asked, "--part", "1/2"]) != 0
    assert "expected no --part beside it" in capsys.readouterr().err
    # The recipe's files are missing here: the worker's message arrives.
    assert main([*asked, "--json"]) != 0
    assert "toy" in "".join(capsys.readouterr())
    assert json.loads((tmp_path / "out/recipe.json").read_text())["recipe"]["showers"] == [20, 30]

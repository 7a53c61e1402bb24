"""The study: cells that follow from the recipe, one file each, resumed where it stopped; distances and figures."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from anycalo.errors import OutputError, TrainingError
from anycalo.evaluate import measure
from anycalo.evaluate.observables import OBSERVABLES
from anycalo.evaluate.ruler import Ruler
from anycalo.geometry import Detector
from anycalo.models import CaloClouds, CaloCloudsConfig, Domain, load_model
from anycalo.models.consistency import DistillConfig
from anycalo.models.flow import FlowConfig
from anycalo.models.pointwise import PointwiseConfig
from anycalo.showers import Showers
from anycalo.study import StudyRecipe, run, run_study, write_summary
from anycalo.study.run import PAPER, paper_distance, results, weight_changes
from anycalo.study.summary import BY_PARAMETERS, BY_SHOWERS, TABLES, WEIGHTS, tables
from toyshowers import toy_showers

RECIPE = """
showers = [20, 30]
methods = ["scratch", "full", "lora-1"]
seeds = [1, 2]
learning_rates = [1e-3, 1e-2]
search_showers = 20
steps = 2
[[base]]
name = "toy"
model = "toy"
[[target]]
name = "small"
training = "train.h5"
test = "test.h5"
"""


@pytest.fixture
def recipe(tmp_path: Path, small_detector: Detector) -> StudyRecipe:
    """A recipe, and the files that it speaks of."""
    (tmp_path / "study.toml").write_text(RECIPE)
    config = CaloCloudsConfig(
        flow=FlowConfig(blocks=1, affine=1, hidden=(8,)), network=PointwiseConfig(hidden=(8,), time_features=4), steps=2
    )
    showers = toy_showers(small_detector, 100, 1)
    model = CaloClouds(config, Domain.of([showers]))
    model.stages([showers], [showers[:1]], seed=1)
    model.save(tmp_path / "toy")
    toy_showers(small_detector, 40, 2).write(tmp_path / "train.h5")
    toy_showers(small_detector, 60, 3).write(tmp_path / "test.h5")
    return StudyRecipe.load(tmp_path / "study.toml")


def result(recipe: StudyRecipe, method: str, showers: int, seed: int, paper: float) -> dict[str, Any]:
    weights = {"a.weight": {"relative": 0.1, "rank": 2, "full_rank": 8}}
    return {
        "base": "toy", "target": "small", "method": method, "showers": showers, "seed": seed, "trained": 10, "total": 100,
        "test_showers": 60, "paper": paper, "paper_floor": 0.01, "ratio_to_floor": 100 * paper, "weights": weights,
    }  # fmt: skip


def test_the_cells_of_a_recipe(recipe: StudyRecipe) -> None:
    cells = recipe.cells()
    assert len(cells) == 2 + 2 * 2 * 3
    assert len({cell.key for cell in cells}) == len(cells)
    assert [cell.method for cell in cells[:2]] == ["zero-shot", "zero-shot"]
    assert (cells[-1].key, cells[-1].showers) == ("toy/small/lora-1-30-2", 30)


def test_a_study_resumes_and_is_shared(recipe: StudyRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def cell(self: object, chosen: Any) -> dict[str, Any]:
        asked.append(chosen.key)
        if len(asked) == 4:
            raise KeyboardInterrupt
        return result(recipe, chosen.method, chosen.showers, chosen.seed, 0.1)

    monkeypatch.setattr(run.Study, "cell", cell)
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        run_study(recipe, out, root=tmp_path)
    assert len(results(recipe, out)) == 3
    assert run_study(recipe, out, root=tmp_path) == 14
    keys = [c.key for c in recipe.cells()]
    assert asked == [*keys[:4], *keys[3:]]
    # Two machines that share the work do every cell once.
    asked.clear()
    asked.extend(["", "", "", ""])
    run_study(recipe, tmp_path / "two", root=tmp_path, part=(1, 2))
    run_study(recipe, tmp_path / "two", root=tmp_path, part=(2, 2))
    assert sorted(asked[4:]) == sorted(keys)
    with pytest.raises(TrainingError, match="part is 3 of 2"):
        run_study(recipe, tmp_path / "two", root=tmp_path, part=(3, 2))


def test_another_recipe_and_another_folder_are_refused(recipe: StudyRecipe, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run.claim(out, recipe)
    run.claim(out, recipe)
    (tmp_path / "other.toml").write_text(RECIPE.replace("steps = 2", "steps = 3"))
    with pytest.raises(TrainingError, match="holds a study of another recipe"):
        run_study(StudyRecipe.load(tmp_path / "other.toml"), out, root=tmp_path)
    with pytest.raises(OutputError, match="is not a study"):
        run_study(recipe, tmp_path, root=tmp_path)
    with pytest.raises(OutputError, match="holds no finished cell"):
        write_summary(recipe, out)


def test_cells_in_earnest(recipe: StudyRecipe, tmp_path: Path) -> None:
    """Zero-shot and one method end to end, with its search for a learning rate."""
    study = run.Study(recipe, tmp_path / "out", tmp_path)
    cells = {(c.method, c.showers, c.seed): c for c in recipe.cells()}
    zero = study.cell(cells["zero-shot", 0, 1])
    tuned = study.cell(cells["full", 20, 1])
    assert zero["trained"] == 0 < tuned["trained"] == tuned["total"]
    assert zero["test_showers"] == 60
    assert zero["paper"] == paper_distance(zero["w1"])
    search = json.loads((tmp_path / "out/rates/toy/small/full.json").read_text())
    assert set(search["losses"]) == {"0.001", "0.01"}
    assert search["learning_rate"] == tuned["learning_rate"]
    assert search["losses"][f"{tuned['learning_rate']:g}"] == min(search["losses"].values())
    changed = any(stage["accepted"] for stage in tuned["stages"].values())
    # What accepted nothing is the base, to the last shower.
    assert changed or tuned["w1"] == zero["w1"]
    # Few are among many, and every seed has its own.
    few, many = study.chosen("small", 20, 1), study.chosen("small", 30, 1)
    np.testing.assert_array_equal(few.incident.energy_mev, many.incident.energy_mev[:20])
    assert not np.array_equal(few.incident.energy_mev, study.chosen("small", 20, 2).incident.energy_mev)
    with pytest.raises(TrainingError, match="holds 40 showers with visible energy, and the recipe asks for 41"):
        study.chosen("small", 41, 1)


def test_a_distilled_base_is_adapted_by_its_teacher(recipe: StudyRecipe, tmp_path: Path) -> None:
    plain = load_model(tmp_path / "toy")
    config = dataclasses.replace(plain.config, distill=DistillConfig(), sampler="consistency", steps=1)
    distilled = CaloClouds(config, plain.domain)
    distilled.load_state_dict({**distilled.state_dict(), **plain.state_dict()})
    distilled.save(tmp_path / "toy", overwrite=True)
    start = run.Study(recipe, tmp_path / "out", tmp_path).start("toy", "small")
    assert start.config.distill is None
    assert set(start.state_dict()) == set(plain.state_dict())


def test_a_profile_turned_around_is_far_away(small_detector: Detector) -> None:
    """Along depth the distance is over the coordinate: distances of layer means as a set would call this perfect."""
    truth = toy_showers(small_detector, 100, 5)
    turned = Showers(
        detector=small_detector,
        incident=truth.incident,
        offsets=truth.offsets,
        x_mm=truth.x_mm,
        y_mm=truth.y_mm,
        layer=small_detector.n_layers - 1 - truth.layer,
        energy_mev=truth.energy_mev,
    )
    profile = OBSERVABLES["longitudinal_profile"]
    assert profile.name in PAPER
    a, b = measure(truth)[profile.name], measure(turned)[profile.name]
    sample = (np.arange(200) < 100)[None].astype(np.float32)
    assert float(Ruler(profile, small_detector, a).pool(a, b).w1(sample, 1 - sample)[0, 0]) > 0.3
    np.testing.assert_allclose(np.sort(a.sum(0)), np.sort(b.sum(0)), rtol=1e-3)


def test_the_papers_distance_is_a_geometric_mean() -> None:
    w1 = dict.fromkeys(OBSERVABLES, 5.0) | dict.fromkeys(PAPER, 0.2)
    assert paper_distance(w1) == pytest.approx(0.2)
    assert paper_distance({**w1, "occupancy": 0.2 * 64}) == pytest.approx(0.4)


def test_the_change_of_a_matrix_and_its_rank() -> None:
    torch.manual_seed(0)
    base, model = nn.Linear(20, 10), nn.Linear(20, 10)
    model.load_state_dict(base.state_dict())
    assert weight_changes(base, model) == {}  # type: ignore[arg-type]
    with torch.no_grad():
        change = torch.outer(torch.randn(10), torch.randn(20))
        model.weight.add_(0.1 * base.weight.norm() * change / change.norm())
        model.bias.add_(1.0)
    found = weight_changes(base, model)  # type: ignore[arg-type]
    assert set(found) == {"weight"}
    assert found["weight"]["relative"] == pytest.approx(0.1, rel=1e-4)
    assert (found["weight"]["rank"], found["weight"]["full_rank"]) == (1, 10)


def test_tables_and_figures(recipe: StudyRecipe, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run.claim(out, recipe)
    for cell in recipe.cells()[:9]:
        value = 0.1 * cell.seed if cell.method == "zero-shot" else 0.02
        run.write(run.cell_file(out, cell), result(recipe, cell.method, cell.showers, cell.seed, value))
    page = write_summary(recipe, out).read_text()
    assert "9 of 14 cells are done." in page
    assert "| zero-shot | 0 | 0.15 (0.1 to 0.2) | 0.15 (0.1 to 0.2) |" in page
    assert "| scratch | 10.00% | 0.02 (0.02 to 0.02) | 0.02 |" in page
    assert {p.name for p in out.iterdir() if p.is_file()} >= {TABLES, BY_SHOWERS, BY_PARAMETERS, WEIGHTS}
    assert tables(recipe, {}) == "0 of 14 cells are done.\n"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("steps = 2", "stepps = 2"), "Did you mean 'steps'?"),
        (('"full"', '"fool"'), "Did you mean 'full'?"),
        (("seeds = [1, 2]", "seeds = []"), "seeds is empty"),
        (("showers = [20, 30]", "showers = [5]"), "must be at least 10"),
        (('name = "toy"', 'name = "a/b"'), "expected different ones without '/'"),
        (("steps = 2", "steps = ="), "not valid TOML"),
    ],
)
def test_recipes_that_make_no_sense(tmp_path: Path, change: tuple[str, str], message: str) -> None:
    (tmp_path / "wrong.toml").write_text(RECIPE.replace(*change))
    with pytest.raises(TrainingError, match=re.escape(message)):
        StudyRecipe.load(tmp_path / "wrong.toml")
    with pytest.raises(TrainingError, match="no recipe"):
        StudyRecipe.load(tmp_path / "nothing.toml")


def test_the_committed_recipes_are_read() -> None:
    folder = Path(__file__).parents[2] / "benchmarks"
    found = {path.name: StudyRecipe.load(path) for path in folder.glob("transfer*.toml")}
    assert "transfer.toml" in found
    assert "scratch" in found["transfer.toml"].methods
    assert len(found["transfer.toml"].targets) == 4

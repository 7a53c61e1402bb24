"""Training: learns, resumes exactly, refuses what does not fit, divides among processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from anycalo.errors import OutputError, TrainingError
from anycalo.generate import generate
from anycalo.geometry import Detector
from anycalo.models import Model, load_model
from anycalo.showers import Showers
from anycalo.train import Recipe, train
from anycalo.train.checkpoint import CHECKPOINT, data_digest, read_state
from anycalo.train.loop import build, learning_rate, step_generator
from anycalo.train.processes import Processes
from anycalo.train.recipe import StageRecipe
from toyshowers import toy_showers


def recipe(**changes: object) -> Recipe:
    table = Recipe.load("caloclouds-tiny").to_table()
    table["stages"]["flow"].update(steps=30, batch_size=32, validate_every=10)
    table["stages"]["denoiser"].update(steps=40, batch_size=64, validate_every=20, validation_batch=500)
    return Recipe.from_table({**table, **changes})


@pytest.fixture(scope="module")
def data(small_detector: Detector) -> Showers:
    return toy_showers(small_detector, 200, seed=3)


def same_weights(a: Model, b: Model) -> bool:
    return a.digest() == b.digest()


def log_of(folder: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def timeless(folder: Path) -> list[dict[str, object]]:
    return [{k: v for k, v in e.items() if k != "seconds"} for e in log_of(folder)]


def test_a_run_leaves_a_model_a_log_and_a_picture(data: Showers, tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    asked: list[Model] = []

    def validate(model: Model, held_out: Sequence[Showers]) -> dict[str, float]:
        asked.append(model)
        return {"distance": float(len(asked))}

    model = train(recipe(), data, tmp_path / "run", progress=lambda a, b: calls.append((a, b)), validate=validate)
    names = {p.name for p in (tmp_path / "run").iterdir()}
    assert names == {"run.json", "checkpoint.safetensors", "log.jsonl", "losses.png", "model.safetensors", "model.json"}
    assert calls[-1] == (70, 70)
    assert [c[0] for c in calls] == list(range(1, 71))
    loaded = load_model(tmp_path / "run")
    assert same_weights(loaded, model)
    entries = log_of(tmp_path / "run")
    assert [(e["stage"], e["step"]) for e in entries] == [
        ("flow", 10), ("flow", 20), ("flow", 30), ("denoiser", 20), ("denoiser", 40), ("cells", 1),
    ]  # fmt: skip
    # Validation at step 20 passes two quarters at once and is asked for once.
    assert len(asked) == 2
    assert entries[-2]["distance"] == 2.0
    card = loaded.card
    assert card["metrics"]["distance"] == 2.0
    assert card["metrics"]["flow_loss"] == min(float(e["validation"]) for e in entries[:3])  # type: ignore[arg-type]
    assert card["data"]["sha256"] == data_digest([data])
    assert card["data"]["showers"] + card["data"]["validation_showers"] == 200
    assert loaded.domain.energy_mev[0] >= 1e3
    # The same call again finds the run finished and trains nothing.
    assert same_weights(train(recipe(), data, tmp_path / "run"), model)
    assert log_of(tmp_path / "run") == entries


@pytest.mark.parametrize("stop_after", [17, 45])
def test_an_interrupted_run_ends_as_an_uninterrupted_one(data: Showers, tmp_path: Path, stop_after: int) -> None:
    whole = train(recipe(), data, tmp_path / "whole")

    def stop(done: int, total: int) -> None:
        if done == stop_after:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(recipe(), data, tmp_path / "parts", progress=stop)
    state = read_state(tmp_path / "parts")
    assert state is not None
    assert (state.stage, state.step) == ((0, 17) if stop_after == 17 else (1, 15))
    parts = train(recipe(), data, tmp_path / "parts")
    assert same_weights(parts, whole)
    assert timeless(tmp_path / "parts") == timeless(tmp_path / "whole")
    other = train(recipe(seed=2), data, tmp_path / "other")
    assert not same_weights(other, whole)


SCRIPT = """
import sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[3])
import torch
torch.set_num_threads(1)
from anycalo.showers import Showers
from anycalo.train import Recipe, train
import json
recipe = Recipe.from_table(json.loads(Path(sys.argv[2]).read_text()))
slow = float(sys.argv[5])
train(recipe, Showers.open(sys.argv[1]), sys.argv[4], device="cpu", progress=lambda a, b: time.sleep(slow))
"""


def command(tmp_path: Path, data: Showers, chosen: Recipe, out: str, slow: float) -> list[str]:
    if not (tmp_path / "data.h5").exists():
        data.write(tmp_path / "data.h5")
    (tmp_path / "script.py").write_text(SCRIPT)
    (tmp_path / "recipe.json").write_text(json.dumps(chosen.to_table()))
    here = str(Path(__file__).parent)
    return [*map(str, (tmp_path / "script.py", tmp_path / "data.h5", tmp_path / "recipe.json", here, tmp_path / out, slow))]


@pytest.mark.slow
def test_a_killed_run_goes_on(data: Showers, tmp_path: Path) -> None:
    chosen = recipe(checkpoint_seconds=0.01)
    run = [sys.executable, *command(tmp_path, data, chosen, "killed", 0.05)]
    process = subprocess.Popen(run)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        state = tmp_path / "killed" / CHECKPOINT
        if state.exists() and len(log_of(tmp_path / "killed")) >= 2:
            break
        time.sleep(0.05)
    assert process.poll() is None, "the run ended before it could be killed"
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "killed" / "model.json").exists()
    read_back = Showers.open(tmp_path / "data.h5")
    resumed = train(chosen, read_back, tmp_path / "killed")
    assert same_weights(resumed, train(chosen, read_back, tmp_path / "whole"))


@pytest.mark.slow
def test_two_processes_are_one_with_the_same_batch(data: Showers, tmp_path: Path) -> None:
    chosen = recipe()
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run([*launch, *command(tmp_path, data, chosen, "two", 0)], check=True, env=environment, capture_output=True)
    one = train(chosen, Showers.open(tmp_path / "data.h5"), tmp_path / "one")
    two = load_model(tmp_path / "two")
    untrained, _, _ = build(chosen, [Showers.open(tmp_path / "data.h5")])
    moved = []
    for name, parameter in one.named_parameters():
        torch.testing.assert_close(dict(two.named_parameters())[name], parameter, atol=2e-4, rtol=2e-3)
        moved.append(float((dict(untrained.named_parameters())[name] - parameter).detach().abs().max()))
    assert max(moved) > 0.02


def test_gradients_are_averaged_by_their_share() -> None:
    batch = torch.arange(7)
    parts = [Processes(rank=r, count=2).share(batch) for r in range(2)]
    assert [p.tolist() for p in parts] == [[0, 1, 2, 3], [4, 5, 6]]
    alone = [torch.ones(3)]
    Processes().average(alone, weight=0.5)
    assert torch.equal(alone[0], torch.ones(3))


def test_another_recipe_or_other_data_are_refused(data: Showers, tmp_path: Path) -> None:
    train(recipe(), data, tmp_path / "run")
    with pytest.raises(TrainingError, match="another recipe"):
        train(recipe(seed=9), data, tmp_path / "run")
    with pytest.raises(TrainingError, match="another data"):
        train(recipe(), data[:150], tmp_path / "run")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("!")
    with pytest.raises(OutputError, match="not a training run"):
        train(recipe(), data, tmp_path / "full")
    assert [p.name for p in (tmp_path / "full").iterdir()] == ["thesis.txt"]


def test_a_damaged_checkpoint_is_refused(data: Showers, tmp_path: Path) -> None:
    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(recipe(), data, tmp_path / "run", progress=stop)
    (tmp_path / "run" / CHECKPOINT).write_bytes(b"x" * 100)
    with pytest.raises(TrainingError, match=r"damaged.*remove it to train from the beginning"):
        train(recipe(), data, tmp_path / "run")


def test_what_cannot_be_trained_is_refused(data: Showers, small_detector: Detector, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="10 showers with visible energy; expected at least 20"):
        train(recipe(), data[:10], tmp_path / "few")
    table = recipe().to_table()
    table["stages"]["extra"] = table["stages"]["flow"]
    with pytest.raises(TrainingError, match="stages flow, denoiser, extra; expected flow, denoiser"):
        train(Recipe.from_table(table), data, tmp_path / "stages")
    with pytest.raises(TrainingError, match="at least one shower file"):
        train(recipe(), [], tmp_path / "none")


def test_a_time_budget_ends_the_run(data: Showers, tmp_path: Path) -> None:
    table = recipe().to_table()
    for stage in table["stages"].values():
        stage["steps"] = 1_000_000
    started = time.monotonic()
    train(Recipe.from_table(table), data, tmp_path / "run", max_minutes=3 / 60)
    assert time.monotonic() - started < 60
    entries = log_of(tmp_path / "run")
    for name in ("flow", "denoiser"):
        rates = [e["learning_rate"] for e in entries if e["stage"] == name]
        assert rates[-1] < 0.2 * max(rates)


def test_learning_rate_rises_and_falls() -> None:
    stage = StageRecipe(steps=100, batch_size=1, learning_rate=2.0, warmup=0.1)
    assert learning_rate(stage, 0.05) == pytest.approx(1.0)
    assert learning_rate(stage, 0.1) == pytest.approx(2.0)
    assert learning_rate(stage, 0.55) == pytest.approx(1.0)
    assert learning_rate(stage, 1.0) == pytest.approx(0.0)


def test_steps_have_random_numbers_of_their_own() -> None:
    draws = {float(torch.rand(1, generator=step_generator(*key))) for key in ((1, 0, 0), (1, 0, 1), (1, 1, 0), (2, 0, 0))}
    assert len(draws) == 4
    assert torch.rand(1, generator=step_generator(1, 0, 0)) == torch.rand(1, generator=step_generator(1, 0, 0))


@pytest.mark.slow
def test_a_trained_model_beats_its_untrained_twin(small_detector: Detector, tmp_path: Path) -> None:
    table = Recipe.load("caloclouds-tiny").to_table()
    table["stages"]["denoiser"].update(steps=600)
    table["model"]["merge_radius_mm"] = 0.0
    chosen = Recipe.from_table(table)
    data = toy_showers(small_detector, 1000, seed=5)
    truth = toy_showers(small_detector, 400, seed=6)
    trained = train(chosen, data, tmp_path / "run")
    untrained, _, _ = build(chosen, [data])

    def apart(fast: Showers, values: Callable[[Showers], np.ndarray]) -> float:
        """Largest difference of the cumulative distributions, averaged over layers."""
        found = []
        for layer in range(small_detector.n_layers):
            a, b = (np.sort(values(s)[s.layer == layer]) for s in (truth, fast))
            grid = np.concatenate([a, b])
            fractions = [np.searchsorted(v, grid, side="right") / len(v) for v in (a, b)]
            found.append(float(np.abs(fractions[0] - fractions[1]).max()))
        return float(np.mean(found))

    good, bad = (generate(m, small_detector, truth.incident, seed=1) for m in (trained, untrained))
    assert apart(bad, lambda s: np.hypot(s.x_mm, s.y_mm)) > 0.15
    assert apart(good, lambda s: np.hypot(s.x_mm, s.y_mm)) < 0.1
    assert apart(good, lambda s: s.energy_mev) < 0.06
    # Both response and counts: 400 showers each, five standard errors and 2 % for the short training.
    for of in (Showers.visible_mev, lambda s: s.counts):
        ratio = of(good) / of(truth)
        assert abs(float(np.mean(of(good)) / np.mean(of(truth))) - 1) < 5 * float(np.std(ratio)) / np.sqrt(400) + 0.02

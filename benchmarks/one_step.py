"""One network evaluation a point: distillation and MeanFlow beside their teacher, on `ild-ecal`.

    python benchmarks/one_step.py train distilled          # one method; --list names them
    python benchmarks/one_step.py validate                 # distances to the held-out showers of the training file
    python benchmarks/one_step.py test                     # the same on the test showers, classifier AUC, time: once
    python benchmarks/one_step.py table                    # docs/results-one-step.md from what the two have measured

Every method starts from the weights of the shipped model's flow and denoiser, so that all share one teacher and one layer
model, and is trained by `anycalo.train.train` as a further stage of its recipe. Nothing is chosen on the test showers.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch

from anycalo.evaluate import evaluate
from anycalo.generate import generate
from anycalo.models import CaloClouds, load_model
from anycalo.models.consistency import DistillConfig
from anycalo.models.mean_flow import MeanFlowConfig
from anycalo.models.starts import StartConfig
from anycalo.showers import Incident, Showers
from anycalo.train import Recipe, StageRecipe, train
from anycalo.train.checkpoint import State, claim, data_digest, write_state
from anycalo.train.loop import read_showers, split

ROOT = Path(__file__).parent.parent
TRAINING, TEST = ROOT / "data/ild-photons-train.h5", ROOT / "data/ild-photons-test.h5"
RUNS, MEASURED, PAGE = ROOT / "runs/one-step", ROOT / "runs/one-step/measured.json", ROOT / "docs/results-one-step.md"
TEACHER = "caloclouds-ild"

SHORT = StageRecipe(steps=1500, batch_size=2048, learning_rate=2e-3, ema_decay=0.995, validate_every=500, validation_batch=8192)
TRAJECTORY = StageRecipe(
    steps=4000, batch_size=4096, learning_rate=2e-3, ema_decay=0.998, validate_every=500, validation_batch=8192
)
START = StageRecipe(steps=400, batch_size=2048, learning_rate=5e-3, ema_decay=0.95, validate_every=200, validation_batch=8192)
MIXTURE = StartConfig()

METHODS: dict[str, tuple[dict[str, Any], dict[str, StageRecipe]]] = {
    "trajectory": (
        {"distill": DistillConfig(method="trajectory"), "sampler": "consistency", "steps": 1},
        {"distill": TRAJECTORY},
    ),
    "consistency": ({"distill": DistillConfig()}, {"distill": SHORT}),
    "mean-flow": ({"mean_flow": MeanFlowConfig()}, {"mean-flow": SHORT}),
    "mean-flow-improved": ({"mean_flow": MeanFlowConfig(velocity="predicted")}, {"mean-flow": SHORT}),
    "mean-flow-start": (
        {"mean_flow": MeanFlowConfig(velocity="predicted", start=MIXTURE)},
        {"start": START, "mean-flow": SHORT},
    ),
    "mean-flow-start-physics": (
        {"mean_flow": MeanFlowConfig(velocity="predicted", start=MIXTURE, physics_weight=0.1)},
        {"start": START, "mean-flow": SHORT},
    ),
}
SAMPLER = {"trajectory": "consistency", "consistency": "consistency"}


def recipe_of(method: str, teacher: CaloClouds) -> Recipe:
    """The teacher's recipe with the stages of a method after its own."""
    changes, stages = METHODS[method]
    base = Recipe.from_table(teacher.card["recipe"])
    config = dataclasses.replace(base.model, **changes)
    own = {name: base.stages[name] for name in ("flow", "denoiser")}
    return dataclasses.replace(base, model=config, stages={**own, **stages})


def train_method(method: str) -> None:
    """Train the stages of a method; flow and denoiser are the teacher's."""
    teacher = load_model(TEACHER)
    assert isinstance(teacher, CaloClouds)
    recipe, out, showers = recipe_of(method, teacher), RUNS / method, read_showers(TRAINING)
    if not out.exists():
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(recipe.seed)
            model = CaloClouds(recipe.model, teacher.domain)
        tensors = model.state_dict() | teacher.state_dict()
        claim(out, {"recipe": recipe.to_table(), "recipe_sha256": recipe.digest(), "data_sha256": data_digest(showers)})
        losses = {k.removesuffix("_loss"): v for k, v in teacher.card["metrics"].items() if k in ("flow_loss", "denoiser_loss")}
        write_state(out, State(stage=2, losses=losses, tensors={f"model/{k}": v for k, v in tensors.items()}))
    began, processor = time.monotonic(), time.process_time()
    train(recipe, showers, out, device="cpu", threads=1)
    cost = {"minutes": (time.monotonic() - began) / 60, "core_minutes": (time.process_time() - processor) / 60}
    (out / "cost.json").write_text(json.dumps(cost))
    print(method, cost)


def held_out() -> Showers:
    """The 540 showers of the training file that no stage was trained on."""
    teacher = load_model(TEACHER)
    _, validation = split(Recipe.from_table(teacher.card["recipe"]), read_showers(TRAINING))
    return validation[0]


def configured(method: str, sampler: str, steps: int) -> CaloClouds:
    """A trained method (or the teacher) with a sampler."""
    model = load_model(TEACHER if method == "teacher" else RUNS / method)
    assert isinstance(model, CaloClouds)
    model.config = dataclasses.replace(model.config, sampler=sampler, steps=steps)
    return model


def variants(evaluations: list[int]) -> list[tuple[str, str, int, int]]:
    """Method, sampler, its steps, and the number of network evaluations, of all methods trained so far."""
    found = [("teacher", "euler-angle", n, n) for n in evaluations] + [("teacher", "heun-angle", 10, 19)]
    for method in METHODS:
        if (RUNS / method / "model.json").is_file():
            counts = [1] if method == "trajectory" else evaluations
            found += [(method, SAMPLER.get(method, "mean-flow"), n, n) for n in counts]
    return found


def measure(truth: Showers, model: CaloClouds, *, whole: bool) -> dict[str, Any]:
    """Distances of generated showers, and their AUC where the sample is large enough to ask."""
    fast = generate(model, truth.detector, truth.incident, seed=1)
    found = evaluate(truth, fast, n_bootstrap=1000 if whole else 200, metrics="quick" if whole else "none")
    result: dict[str, Any] = {
        "ratio": found.summary.ratio_to_floor,
        "interval": list(found.summary.ratio_to_floor_ci),
        "observables": {k: v.w1_ratio for k, v in found.observables.items()},
    }
    if whole:
        auc = found.metrics["auc"]
        result |= {"auc": auc.value, "auc_interval": list(auc.ci)}
    return result


def milliseconds(model: CaloClouds, batch: int, repeats: int) -> float:
    """Processor time of one thread for a 50 GeV photon in a whole call of `generate`: the median of `repeats` calls."""
    incident = Incident("gamma", energy_mev=50_000.0, n=batch)
    times = []
    for k in range(repeats + 2):
        began = time.thread_time()
        generate(model, model.domain.detector, incident, seed=k)
        times.append((time.thread_time() - began) / batch)
    return float(1e3 * np.median(times[2:]))


def load() -> dict[str, Any]:
    """What has been measured so far."""
    return json.loads(MEASURED.read_text()) if MEASURED.is_file() else {}


def run(kind: str, evaluations: list[int], again: bool) -> None:
    """Measure every variant that is not yet measured."""
    truth = held_out() if kind == "validate" else Showers.open(TEST)
    for method, sampler, steps, count in variants(evaluations):
        done, name = load(), f"{method} {sampler} {count}"
        if name in done.get(kind, {}) and not again:
            continue
        model = configured(method, sampler, steps)
        result = measure(truth, model, whole=kind == "test")
        if kind == "test":
            result |= {"ms_1": milliseconds(model, 1, 30), "ms_100": milliseconds(model, 100, 3)}
        done = load()
        done.setdefault(kind, {})[name] = result
        MEASURED.write_text(json.dumps(done, indent=1))
        print(kind, name, f"{result['ratio']:.3f}", [round(v, 3) for v in result["interval"]], flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["train", "validate", "test", "table"])
    parser.add_argument("method", nargs="?", choices=list(METHODS))
    parser.add_argument("--evaluations", type=int, nargs="+", default=[1, 2, 4, 18])
    parser.add_argument("--again", action="store_true")
    given = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    if given.what == "train":
        train_method(given.method)
    elif given.what in ("validate", "test"):
        run(given.what, given.evaluations, given.again)

"""One network evaluation a point: distillation and MeanFlow beside their teacher, on `ild-ecal`.

    python benchmarks/one_step.py train trajectory         # one method; goes on where it was stopped
    python benchmarks/one_step.py validate                 # distances to the held-out sixth of the same showers
    python benchmarks/one_step.py obstacle                 # what stands in MeanFlow's way: the same network, two objectives
    python benchmarks/one_step.py test --only teacher,trajectory       # the same on the test showers, AUC, time: once
    python benchmarks/one_step.py times                    # the times of the latter alone, anew
    python benchmarks/one_step.py table                    # the tables of docs/results-one-step.md from what was measured
    python benchmarks/one_step.py all                      # all of it

Every method starts from the weights and scales of the shipped model's flow and denoiser, so that all share one teacher and one
layer model, and is trained by `anycalo.train.train` as further stages of its recipe, on showers that the teacher never saw.
Nothing is chosen on the test showers.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch

from anycalo.evaluate import evaluate
from anycalo.evaluate import measure as measured
from anycalo.evaluate.classifier import gradient_boosting
from anycalo.evaluate.high_level import Scale, high_level_features
from anycalo.generate import generate
from anycalo.models import FAMILIES, CaloClouds, CaloCloudsConfig, Domain, Stage, load_model
from anycalo.models.consistency import DistillConfig
from anycalo.models.mean_flow import MeanFlowConfig, average_velocity_loss
from anycalo.models.pointwise import Rows
from anycalo.models.starts import StartConfig
from anycalo.showers import Incident, Showers
from anycalo.train import Recipe, StageRecipe, train
from anycalo.train.checkpoint import RUN, State, claim, data_digest, write_state
from anycalo.train.data import read_showers, split

ROOT = Path(__file__).parent.parent
TRAINING, TEST = ROOT / "data/ild-photons-3000.h5", ROOT / "data/ild-photons-test.h5"
HELD_OUT = 1 / 6
"""Fraction of the showers that no stage is trained on."""
RUNS, MEASURED, PAGE = ROOT / "runs/one-step", ROOT / "runs/one-step/measured.json", ROOT / "docs/results-one-step.md"
TEACHER = "caloclouds-ild"


def stage(steps: int, **changes: Any) -> StageRecipe:
    """A stage of this benchmark."""
    usual = StageRecipe(
        steps=steps, batch_size=2048, learning_rate=2e-3, ema_decay=0.998, validate_every=250, validation_batch=8192
    )
    return dataclasses.replace(usual, **changes)


def moving(steps: int, **changes: Any) -> StageRecipe:
    """A stage whose target moves with the network: losses of different moments do not compare, so the last weights are kept."""
    return stage(steps, validate_every=steps, **changes)


MIXTURE = StartConfig()
START = stage(400, learning_rate=5e-3, ema_decay=0.95, validate_every=100)
PUBLISHED = MeanFlowConfig(different=0.25, times="log-normal", power=1.0, velocity="conditional", teacher_start=False)

# Numbers of steps are such that each takes about a minute of one core.
METHODS: dict[str, tuple[dict[str, Any], dict[str, StageRecipe]]] = {
    "trajectory": (
        {"distill": DistillConfig(method="trajectory"), "sampler": "consistency", "steps": 1},
        {"distill": stage(2000, batch_size=4096)},
    ),
    "consistency": ({"distill": DistillConfig()}, {"distill": moving(2000)}),
    "flow-matching": (
        {"mean_flow": MeanFlowConfig(different=0.0, velocity="conditional", teacher_start=False)},
        {"mean-flow": stage(3000, learning_rate=4e-3)},
    ),
    "mean-flow-data": ({"mean_flow": PUBLISHED}, {"mean-flow": moving(1250)}),
    "mean-flow": ({"mean_flow": MeanFlowConfig()}, {"mean-flow": moving(1250)}),
    "mean-flow-start": (
        {"mean_flow": MeanFlowConfig(velocity="predicted", start=MIXTURE)},
        {"start": START, "mean-flow": moving(1250)},
    ),
    **{
        f"mean-flow-start-physics{name}": (
            {"mean_flow": MeanFlowConfig(velocity="predicted", start=MIXTURE, physics_weight=weight)},
            {"start": START, "mean-flow": moving(600)},
        )
        for name, weight in (("", 0.1), ("-0.02", 0.02), ("-0.5", 0.5))
    },
}
WORDS = {
    "teacher": "teacher",
    "shipped": "student of whole trajectories, as shipped",
    "trajectory": "student of whole trajectories",
    "consistency": "consistency distillation, 18 levels",
    "flow-matching": "flow matching from data",
    "mean-flow-data": "MeanFlow from data, as published",
    "mean-flow": "MeanFlow along the teacher's velocity",
    "mean-flow-start": "MeanFlow with a learned start",
    "mean-flow-start-physics": "MeanFlow with a learned start and the physics loss",
    "mean-flow-start-physics-0.02": "the same, weight of the physics loss 0.02 instead of 0.1",
    "mean-flow-start-physics-0.5": "the same, weight of the physics loss 0.5",
}
TRIALS = {
    "solutions, one jump from pure noise": None,
    "MeanFlow, teacher's velocity": MeanFlowConfig(),
    "MeanFlow, e - x, along the network's own velocity": MeanFlowConfig(velocity="predicted"),
    "MeanFlow, e - x": MeanFlowConfig(velocity="conditional"),
    "MeanFlow, e - x, as published (log-normal times, 25 %, weight)": dataclasses.replace(PUBLISHED, teacher_start=True),
}
"""Objectives with which `obstacle` trains one network, beginning with the teacher's weights: settings, or none for regression
on the solutions of the teacher's flow."""
TRIAL_STEPS = 1500
SPREADS = ("response", "occupancy", "cog_x", "cog_z", "width_x", "width_z")
"""Observables whose spread between showers, and correlations, a loss on observables might take away."""
SAMPLER = {"shipped": "consistency", "trajectory": "consistency", "consistency": "consistency"}


def base_recipe(teacher: CaloClouds) -> Recipe:
    """The teacher's recipe, with more showers held out."""
    return dataclasses.replace(Recipe.from_table(teacher.card["recipe"]), validation_fraction=HELD_OUT)


def recipe_of(method: str, teacher: CaloClouds) -> Recipe:
    """The teacher's recipe with the stages of a method after its own."""
    changes, stages = METHODS[method]
    base = base_recipe(teacher)
    plain = dataclasses.replace(base.model, sampler="heun-angle", steps=10, distill=None, mean_flow=None)
    own = {name: base.stages[name] for name in ("flow", "denoiser")}
    return dataclasses.replace(base, model=dataclasses.replace(plain, **changes), stages={**own, **stages})


def train_method(method: str) -> None:
    """Train the stages of a method; flow, denoiser, scales and domain are the teacher's."""
    teacher = shipped()
    recipe, out, showers = recipe_of(method, teacher), RUNS / method, read_showers(TRAINING)
    cost, began = out / "cost.json", 0.0
    before = json.loads(cost.read_text())["core_minutes"] if cost.is_file() else 0.0

    class OnTeacher(CaloClouds):
        """A model of this recipe with all that the teacher knows."""

        def __init__(self, config: CaloCloudsConfig, _: Domain) -> None:
            super().__init__(config, teacher.domain)
            known = {k: v for k, v in teacher.state_dict().items() if not k.startswith("consistency.")}
            self.load_state_dict(self.state_dict() | known)

        def stages(self, training: Sequence[Showers], validation: Sequence[Showers], **settings: Any) -> list[Stage]:
            nonlocal began
            stages = super().stages(training, validation, **settings | {"fit": False})
            began = time.process_time()
            return stages

    def count(done: int, total: int) -> None:
        """Processor time since the data are ready, kept about as often as the checkpoint is written."""
        if done % 200 == 0 or done == total:
            cost.write_text(json.dumps({"core_minutes": before + (time.process_time() - began) / 60}))

    if not (out / RUN).exists():
        claim(out, {"recipe": recipe.to_table(), "recipe_sha256": recipe.digest(), "data_sha256": data_digest(showers)})
        losses = {name: teacher.card["metrics"][f"{name}_loss"] for name in ("flow", "denoiser")}
        write_state(out, State(stage=2, losses=losses))
    with mock.patch("anycalo.train.loop.FAMILIES", {**FAMILIES, "caloclouds": OnTeacher}):
        train(recipe, showers, out, device="cpu", threads=1, progress=count)
    print(method, cost.read_text(), flush=True)


def shipped() -> CaloClouds:
    """The shipped model: flow, denoiser, and perhaps more."""
    model = load_model(TEACHER)
    assert isinstance(model, CaloClouds)
    return model


def held_out() -> Showers:
    """The 500 showers that no stage was trained on."""
    path = RUNS / "held-out.h5"
    if not path.is_file():
        _, validation = split(base_recipe(shipped()), read_showers(TRAINING))
        validation[0].write(path)
    return Showers.open(path)


def configured(method: str, sampler: str, steps: int) -> CaloClouds:
    """A trained method, the teacher, or the student that the shipped model holds, with a sampler."""
    model = shipped() if method in ("teacher", "shipped") else load_model(RUNS / method)
    assert isinstance(model, CaloClouds)
    return model.with_sampler(sampler, steps)


def points_of(teacher: CaloClouds, incident: Incident) -> tuple[Rows, torch.Tensor]:
    """What the points of these showers are made of: conditions, and normal numbers (P, 3)."""
    table, rows, normals, before = [], [], [], 0
    plain = teacher.with_sampler("euler-angle", 1)

    def draw(condition: Rows, normal: torch.Tensor) -> torch.Tensor:
        nonlocal before
        table.append(condition.table)
        rows.append(condition.row + before)
        normals.append(normal)
        before += len(condition.table)
        return CaloClouds._draw(plain, condition, normal)

    plain._draw = draw  # type: ignore[method-assign]
    generate(plain, plain.domain.detector, incident, seed=5)
    return Rows(torch.cat(table), torch.cat(rows)), torch.cat(normals)


@torch.no_grad()
def beside_teacher(model: CaloClouds, truth: Showers) -> tuple[float | None, list[float]]:
    """Points beside those that the teacher makes in many steps, for the same conditions.

    Returns:
        The rms distance to the teacher's points for the same noise, over the spread of points, or none where more noise
        goes into a point (a learned start, several jumps); and the spread of each feature over the teacher's.
    """
    condition, normal = points_of(shipped(), truth.incident[:10])
    more = torch.randn(len(normal), model._normals() - 3, generator=torch.Generator().manual_seed(5))
    theirs = shipped().with_sampler("heun-angle", 10)._draw(condition, normal)
    ours = model._draw(condition, torch.cat([normal, more], dim=1))
    away = float((ours - theirs).square().mean().sqrt() / model.config.schedule.sigma_data)
    return None if more.shape[1] else away, (ours.std(0) / theirs.std(0)).tolist()


def obstacle() -> None:
    """Train the network of MeanFlow, beginning with the teacher's weights, with the objectives of `TRIALS`.

    Measured is the miss of one evaluation, as in `beside_teacher`.
    """
    teacher = shipped().with_sampler("heun-angle", 10)
    training, _ = split(base_recipe(teacher), read_showers(TRAINING))
    condition, normal = points_of(teacher, training[0].incident[:200])
    pieces = len(normal) // 8192 + 1
    with torch.no_grad():
        clean = torch.cat(
            [
                teacher._draw(Rows(condition.table, row), n)
                for row, n in zip(condition.row.tensor_split(pieces), normal.tensor_split(pieces), strict=True)
            ]
        )
    told = condition.table[condition.row]
    held = slice(len(normal) - 20_000, len(normal))
    size = len(normal) - 20_000
    zero, one = torch.zeros(2048), torch.ones(2048)
    for name, config in TRIALS.items():
        done = load()
        if name in done.get("obstacle", {}):
            continue
        torch.manual_seed(0)
        made = CaloClouds(dataclasses.replace(teacher.config, mean_flow=MeanFlowConfig()), teacher.domain)
        assert made.mean_flow is not None
        average = made.mean_flow.average
        average.adopt(teacher.denoiser.network)  # type: ignore[arg-type]
        optimiser = torch.optim.Adam(average.parameters(), lr=2e-3)
        curve: dict[str, float] = {}
        began = time.process_time()
        for step in range(TRIAL_STEPS + 1):
            if step % 500 == 0:
                with torch.no_grad():
                    zeros = torch.zeros(20_000)
                    jumped = normal[held] - average(normal[held], zeros, zeros + 1, told[held])
                curve[str(step)] = float((jumped - clean[held]).square().mean().sqrt() / teacher.config.schedule.sigma_data)
            for group in optimiser.param_groups:
                group["lr"] = 2e-3 * (1 + np.cos(np.pi * step / TRIAL_STEPS)) / 2
            generator = torch.Generator().manual_seed(step)
            k = torch.randint(size, (2048,), generator=generator)
            if config is None:
                loss = (normal[k] - average(normal[k], zero, one, told[k]) - clean[k]).square().mean()
            else:
                e, times = torch.randn(2048, 3, generator=generator), torch.randn(2048, 3, generator=generator)
                loss = average_velocity_loss(average, config, clean[k], e, told[k], times, teacher.denoiser)
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(average.parameters(), 10.0)
            optimiser.step()
        minutes = (time.process_time() - began) / 60
        done = load()
        done.setdefault("obstacle", {})[name] = {"miss": curve, "core_minutes": minutes}
        MEASURED.write_text(json.dumps(done, indent=1))
        print(name, curve, f"{minutes:.1f} minutes", flush=True)


def variants(evaluations: list[int]) -> list[tuple[str, str, int, int]]:
    """Method, sampler, its steps, and the number of network evaluations, of all methods trained so far."""
    found = [("teacher", "euler-angle", n, n) for n in evaluations] + [("teacher", "heun-angle", 10, 19)]
    for method in ("shipped", *METHODS):
        if method == "shipped" or (RUNS / method / "model.json").is_file():
            counts = [1] if method in ("shipped", "trajectory") else evaluations
            found += [(method, SAMPLER.get(method, "mean-flow"), n, n) for n in counts]
    return found


def measure(truth: Showers, model: CaloClouds, *, whole: bool) -> dict[str, Any]:
    """Distances of generated showers, spread and correlations beside Geant4's, and the AUC on the test showers."""
    fast = generate(model, truth.detector, truth.incident, seed=1)
    found = evaluate(truth, fast, n_bootstrap=1000 if whole else 200, metrics="none")
    result: dict[str, Any] = {
        "ratio": found.summary.ratio_to_floor,
        "interval": list(found.summary.ratio_to_floor_ci),
        "observables": {k: v.w1_ratio for k, v in found.observables.items()},
    }
    both = [measured(s, also={"features": high_level_features}) for s in (truth, fast)]
    real, made = (np.stack([m[name] for name in SPREADS]) for m in both)
    result["spreads"] = dict(zip(SPREADS, (np.nanstd(made, 1) / np.nanstd(real, 1)).tolist(), strict=True))
    finite = np.isfinite(real).all(0) & np.isfinite(made).all(0)
    result["correlation_error"] = float(np.abs(np.corrcoef(real[:, finite]) - np.corrcoef(made[:, finite])).max())
    result["miss"], result["points"] = beside_teacher(model, truth)
    # As `evaluate` does it, without its other metrics of whole showers, which take longer.
    scale, rng = Scale.of(truth.detector, both[0]["features"]), np.random.default_rng([0, 3])
    samples = (scale(m["features"]) for m in both)
    verdict = gradient_boosting(*samples, matched=True, rng=rng, n_bootstrap=1000 if whole else 200)
    return result | {"auc": verdict.value, "auc_spread": verdict.spread}


def milliseconds(model: CaloClouds, batch: int, repeats: int) -> float:
    """Processor time of one thread for a 50 GeV photon in a whole call of `generate`: the median of `repeats` calls."""
    incident = Incident("gamma", energy_mev=50_000.0, n=batch)
    times = []
    for k in range(repeats + 1):
        began = time.thread_time()
        generate(model, model.domain.detector, incident, seed=k)
        times.append((time.thread_time() - began) / batch)
    return float(1e3 * np.median(times[1:]))


def taken(model: CaloClouds) -> dict[str, list[float]]:
    """`milliseconds` at batch 1 and 100, in PyTorch and, where there are, in compiled loops."""
    with mock.patch.object(CaloClouds, "jumps", False):
        found = {"torch_ms": [milliseconds(model, 1, 30), milliseconds(model, 100, 3)]}
    return found | ({"compiled_ms": [milliseconds(model, 1, 100), milliseconds(model, 100, 3)]} if model.jumps else {})


def times(evaluations: list[int]) -> None:
    """Take the times of every variant that was measured anew, one after another."""
    for method, sampler, steps, count in variants(evaluations):
        done, name = load(), f"{method} {sampler} {count}"
        found = taken(configured(method, sampler, steps))
        for kind in ("validate", "test"):
            if name in done.get(kind, {}):
                done[kind][name] |= found
        MEASURED.write_text(json.dumps(done, indent=1))


def load() -> dict[str, Any]:
    """What has been measured so far."""
    return json.loads(MEASURED.read_text()) if MEASURED.is_file() else {}


def run(kind: str, evaluations: list[int], only: list[str], again: bool) -> None:
    """Measure every variant that is not yet measured."""
    truth = held_out() if kind == "validate" else Showers.open(TEST)
    for method, sampler, steps, count in variants(evaluations):
        done, name = load(), f"{method} {sampler} {count}"
        if (only and method not in only) or (name in done.get(kind, {}) and not again):
            continue
        model = configured(method, sampler, steps)
        result = measure(truth, model, whole=kind == "test")
        result |= taken(model)
        done = load()
        done.setdefault(kind, {})[name] = result
        MEASURED.write_text(json.dumps(done, indent=1))
        print(kind, name, f"{result['ratio']:.3f}", [round(v, 3) for v in result["interval"]], flush=True)


def cost(method: str) -> str:
    """Processor time of training, in minutes; of the teacher with its flow, from its card."""
    path = RUNS / method / "cost.json"
    return f"{json.loads(path.read_text())['core_minutes']:.1f}" if path.is_file() else ""


def row(kind: str, name: str, r: dict[str, Any]) -> list[str]:
    """Cells of one row of a table."""
    method, sampler, evaluations = name.split()
    cells = [WORDS[method] + (f", {sampler}" if method == "teacher" else ""), evaluations, cost(method)]
    cells += [f"{r['ratio']:.2f}", f"{r['interval'][0]:.2f} to {r['interval'][1]:.2f}"]
    times = [" / ".join(f"{t:.1f}" for t in r.get(key, [])) for key in ("torch_ms", "compiled_ms")]
    if kind == "test":
        return [*cells, f"{r['auc']:.3f}", *times]
    away = "" if r.get("miss") is None else f"{r['miss']:.3f}"
    showers, points = (f"{min(v):.2f} to {max(v):.2f}" for v in (r["spreads"].values(), r["points"]))
    return [*cells, f"{r['auc']:.2f}", times[0], showers, f"{r['correlation_error']:.2f}", points, away]


def tables() -> None:
    """Write the tables into the page, between their marks."""
    done, page = load(), PAGE.read_text("utf-8")
    head = ["method", "evaluations", "core minutes of training", "ratio to floor", "95 % interval"]
    judged = ["AUC", "ms at batch 1 / 100, PyTorch"]
    more = {
        "validate": [*judged, "spread of showers", "correlations off by", "spread of points", "miss"],
        "test": [*judged, "the same, compiled loops"],
    }
    order = list(WORDS)
    written = {}
    for kind, columns in more.items():
        rows = sorted(done.get(kind, {}).items(), key=lambda item: (order.index(item[0].split()[0]), int(item[0].split()[2])))
        written[kind] = [[*head, *columns], *(row(kind, name, r) for name, r in rows)]
    trials = done.get("obstacle", {})
    written["obstacle"] = [
        ["objective", "core minutes", *(f"miss after {k} steps" for r in list(trials.values())[:1] for k in r["miss"])],
        *([name, f"{r['core_minutes']:.1f}", *(f"{v:.3f}" for v in r["miss"].values())] for name, r in trials.items()),
    ]
    for kind, cells in written.items():
        if len(cells) == 1:  # nothing measured: the page keeps what it has
            continue
        page = with_table(page, kind, cells)
    PAGE.write_text(page, "utf-8")


def with_table(page: str, mark: str, cells: Sequence[Sequence[str]]) -> str:
    """The page with this table, whose first row is its head, between the marks of that name."""
    lines = [f"| {' | '.join(c)} |" for c in cells]
    lines.insert(1, f"|{'---|' * len(cells[0])}")
    before, rest = page.split(f"<!-- {mark} -->\n")
    _, after = rest.split(f"<!-- end of {mark} -->")
    return f"{before}<!-- {mark} -->\n" + "\n".join(lines) + f"\n<!-- end of {mark} -->{after}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["train", "validate", "obstacle", "test", "times", "table", "all"])
    parser.add_argument("method", nargs="?", choices=list(METHODS))
    parser.add_argument("--evaluations", type=int, nargs="+", default=[1, 2, 4, 18])
    parser.add_argument("--only", type=lambda text: text.split(","), default=[], help="methods to measure, with commas")
    parser.add_argument("--again", action="store_true", help="also what has been measured before")
    given = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    RUNS.mkdir(parents=True, exist_ok=True)
    if given.what in ("train", "all"):
        for chosen in [given.method] if given.method else METHODS:
            train_method(chosen)
    if given.what in ("obstacle", "all"):
        obstacle()
    for kind in ("validate", "test"):
        if given.what in (kind, "all"):
            run(kind, given.evaluations, given.only, given.again)
    if given.what == "times":
        times(given.evaluations)
    if given.what in ("table", "all"):
        tables()

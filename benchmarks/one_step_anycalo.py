"""One-step roads for the geometry-aware family, on detectors that none was trained on: points of a layer, totals of a shower.

    python benchmarks/one_step_anycalo.py data                # showers of the zoos, put into the family's coordinates, once
    python benchmarks/one_step_anycalo.py train points edm    # one method; `edm` goes first, others learn from it
    python benchmarks/one_step_anycalo.py measure points      # distances to Geant4 in the held-out detectors
    python benchmarks/one_step_anycalo.py times               # of all methods in turn; wants a quiet machine
    python benchmarks/one_step_anycalo.py table               # the tables of docs/results-one-step.md
    python benchmarks/one_step_anycalo.py all                 # all of it; what is there already is not made again

Every method (`one_step_methods.py`) has the same data, about as many parameters, the trunk of the exact network for what it is
told, and the same processor time. Measured is the conditional alone: points given Geant4's layers, totals given its particles.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from one_step import with_table
from one_step_methods import DATA, RUNS, SETTINGS, SHOWER, SIGMA, Flowing, Method, Task, base, built, fit, sizes, trained
from safetensors.torch import save_file
from torch import Tensor

from anycalo.evaluate.classifier import gradient_boosting
from anycalo.evaluate.distances import signed_w1
from anycalo.evaluate.floors import geometric_mean
from anycalo.evaluate.resampling import centred_interval
from anycalo.generate import generate
from anycalo.models.anycalo import AnyCalo
from anycalo.models.anycalo_data import prepare
from anycalo.models.pointwise import Rows
from anycalo.train.data import read_showers

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs/results-one-step.md"
TRAINING, VALIDATION, HELD_OUT = slice(0, 200), slice(200, 220), slice(220, 300)
"""Detectors of `data/zoo`,"""
GAPS, CHECKED = slice(0, 41), slice(0, 2)
"""of `data/zoo-gaps` to train on as well, and of `data/zoo-validation`, held out."""
KEPT_POINTS, KEPT_VALIDATION, PAIRS = 4_000_000, 65_536, 20_000
SECONDS = 75.0
"""Processor time of each method,"""
START_SHARE = 0.2
"""of which a learned start has this share."""
TAUGHT = ("consistency", "mean-flow", "mean-flow-start")
"""Methods that need the teacher's training as well."""
SELECTED = ("exact", "edm", "flow-matching")
"""Methods whose losses of different moments compare: the weights of lowest validation loss are kept, of others the last."""
WORDS = {
    "exact": "exact likelihood, as in `anycalo-base`",
    "edm": "EDM denoiser (teacher)",
    "consistency": "consistency distillation, 18 levels",
    "flow-matching": "flow matching from data",
    "mean-flow-data": "MeanFlow from data, as published",
    "mean-flow": "MeanFlow along the teacher's velocity",
    "mean-flow-start": "MeanFlow with a learned start",
}
COUNTS = (1, 2, 4, 18)
GRID, SWAPS, RESAMPLES = 400, 10, 300
CLASSIFIED = 12_000


# --- data ---------------------------------------------------------------------------------------------------------------------


def make_data() -> None:
    """Prepare the showers as the family does and keep what is needed of them, with pairs of held-out examples."""
    files = [sorted((ROOT / "data" / name).glob("*.h5")) for name in ("zoo", "zoo-gaps", "zoo-validation")]
    parts = [files[0][TRAINING] + files[1][GAPS], files[0][VALIDATION], files[0][HELD_OUT] + files[2][CHECKED]]
    train, check, held = ([b[b.visible_mev() > 0] for b in read_showers(part)] for part in parts)
    model = base()
    data = prepare(model, [*train, *check, *held], n_training=len(train), seed=1, fit=False)
    first = data.showers + sum(map(len, check))
    detector = torch.repeat_interleave(torch.arange(len(held)), torch.tensor([len(b) for b in held]))
    rng = np.random.default_rng(0)

    told = data.told
    weights = [told.energy_mev / told.energy_mev.sum(1, keepdim=True), told.valid / told.valid.sum(1, keepdim=True)]
    of_layers = torch.cat([told.layer, torch.stack(weights, -1)], -1).flatten(1)
    key = np.lexsort([told.shower[first:, 0], told.shower[first:, 5], detector])
    pairs = first + torch.from_numpy(key[: len(key) // 2 * 2].reshape(-1, 2))
    pairs = pairs[detector[pairs[:, 0] - first] == detector[pairs[:, 1] - first]]
    scaled = SIGMA * (data.totals - model.totals.mean) / model.totals.std
    out = {
        "totals/x": scaled[:first],
        "totals/row": torch.arange(first),
        "totals/table": torch.cat([told.shower, of_layers], 1),
        "totals/held_x": scaled[pairs.T],
        "totals/held_row": pairs.T,
        "totals/held_detector": detector[pairs[:, 0] - first],
        "totals/timed": first + torch.arange(100),
        "totals/training": torch.tensor(data.showers),
        "totals/unit": torch.tensor(1.0),
    }

    shower_of = torch.nonzero((data.n > 0).flatten())[:, 0] // data.n.shape[1]
    begin = int(torch.searchsorted(shower_of[data.row.long()][data.n_points :].contiguous(), first)) + data.n_points
    x = plane(data.points, model)
    unit = x[: data.n_points, :2].std() / SIGMA
    x[:, :2] /= unit
    chosen = torch.from_numpy(np.sort(rng.choice(data.n_points, min(KEPT_POINTS, data.n_points), replace=False)))
    checked = data.n_points + torch.from_numpy(np.sort(rng.choice(begin - data.n_points, KEPT_VALIDATION, replace=False)))
    kept = torch.cat([chosen, checked])
    order = begin + torch.from_numpy(rng.permutation(len(x) - begin))
    order = order[torch.argsort(data.row[order], stable=True)]
    pairs = torch.stack([order[:-1], order[1:]], 1)[::2]
    pairs = pairs[data.row[pairs[:, 0]] == data.row[pairs[:, 1]]]
    pairs = pairs[torch.from_numpy(rng.choice(len(pairs), PAIRS, replace=False))]
    out |= {
        "points/x": x[kept],
        "points/row": data.row[kept].long(),
        "points/table": data.context,
        "points/held_x": x[pairs.T],
        "points/held_row": data.row[pairs.T].long(),
        "points/held_detector": detector[shower_of[data.row[pairs[:, 0]].long()] - first],
        "points/timed": data.row[begin : begin + 20_000].long(),
        "points/training": torch.tensor(len(chosen)),
        "points/unit": unit,
    }
    save_file({k: v.contiguous() for k, v in out.items()}, DATA)
    print({k: tuple(v.shape) for k, v in out.items()}, len(train), len(check), len(held))


def plane(points: Tensor, model: AnyCalo) -> Tensor:
    """Position in the plane at the compressed radius, and scaled energy, (P, 3), from radius, angle / pi and ln energy."""
    angle = torch.pi * points[:, 1]
    energy = SIGMA * model.energy_shape(points[:, 2:])[:, 0]
    return torch.stack([points[:, 0] * angle.cos(), points[:, 0] * angle.sin(), energy], 1)


def train(task: Task, name: str) -> None:
    """Train a method for `SECONDS` of processor time, a fifth of it for a learned start; keep weights, cost and size."""
    method = built(task, name)
    minutes, cost = 0.0, {}
    if isinstance(method, Flowing) and method.start is not None:
        minutes = fit(task, method.start, method.start_loss, START_SHARE * SECONDS, selected=True)
        method.start.requires_grad_(False)
        cost["start_minutes"] = minutes
    minutes += fit(task, method, method.loss, SECONDS - 60 * minutes, selected=name in SELECTED)
    save_file({k: v.contiguous() for k, v in method.state_dict().items()}, RUNS / f"{task.name}-{name}.safetensors")
    note("cost", f"{task.name} {name}", {"core_minutes": minutes, **cost, **sizes(method)})


# --- measurements -------------------------------------------------------------------------------------------------------------


def variants(name: str) -> list[tuple[int, str]]:
    """Evaluations and sampler with which a method is measured."""
    if name == "exact":
        return [(1, "")]
    if name == "edm":
        return [*((n, "euler-angle") for n in COUNTS), (19, "heun-angle")]
    return [*((0, "") for _ in range(name == "mean-flow-start")), *((n, "") for n in COUNTS)]


@torch.no_grad()
def drawn(task: Task, method: Method, evaluations: int, sampler: str, row: Tensor, seed: int = 0) -> Tensor:
    """A state for each row of the table, (P, F)."""
    rows, place = torch.unique(row, return_inverse=True)
    steps = 10 if sampler == "heun-angle" else evaluations
    generator = torch.Generator().manual_seed(seed)
    return method.draw(Rows(task.table[rows], place), steps, generator, sampler)


def projections(task: Task, x: Tensor) -> dict[str, np.ndarray]:
    """What distributions are compared of, each (...): features, and products that see their correlation."""
    f = task.seen(x).double().numpy()
    if task.name == "points":
        across = {"x": x[..., 0].double().numpy(), "radius x energy": f[..., 0] * f[..., 2]}
        return {"radius": f[..., 0], "angle": f[..., 1], "energy": f[..., 2], **across}
    names = ("T", "M", "centre x", "centre y", "width", "depth", "depth 2")
    pairs = ((0, 1), (0, 5), (1, 5), (4, 5), (5, 6), (1, 4))
    single = {name: f[..., k] for k, name in enumerate(names)}
    return single | {f"{names[a]} x {names[b]}": f[..., a] * f[..., b] for a, b in pairs}


def bins(task: Task) -> dict[str, np.ndarray]:
    """Fourths of what is told, of the held-out examples (2, N): where a mistake in the conditioning shows."""
    columns = {"energy": 0, "Moliere radius": 10, "sampling fraction": 12}
    if task.name == "points":
        columns = {"energy": 0, "depth": SHOWER, "expected flux": SHOWER + 3, "points of the layer": SHOWER + 19}
    out = {}
    for name, column in columns.items():
        value = task.table[task.held_row, column].numpy()
        out[name] = np.searchsorted(np.quantile(value, [0.25, 0.5, 0.75]), value)
    return out


def distances(task: Task, x: Tensor) -> dict[str, Any]:
    """W1 between Geant4 and drawn states x (2, N, F) over that between Geant4 and Geant4, in projections and fourths.

    Of each pair of held-out examples, of one layer or of like particles in one detector, one stands for Geant4, and of the
    other what was drawn for it, or, for the floor, Geant4 again: a perfect model has a ratio of 1. Bootstrap over detectors.
    """
    rng, n = np.random.default_rng(3), x.shape[1]
    fourths: dict[str, np.ndarray] = {"": np.zeros((2, n), np.int64), **bins(task)}
    truth, made = projections(task, task.held_x), projections(task, x)
    detector, detectors = task.held_detector.numpy(), int(task.held_detector.max()) + 1
    again = rng.multinomial(detectors, np.full(detectors, 1 / detectors), RESAMPLES).astype(np.float64)
    again = np.concatenate([np.ones((1, detectors)), again])
    side, pair = rng.integers(0, 2, (SWAPS, n)), np.arange(n)
    ratios = {}
    for name, values in truth.items():
        edges = np.linspace(*np.quantile(values, [0.001, 0.999]), GRID - 1)
        index = [np.searchsorted(edges, v) for v in (values, made[name])]
        for by, of in fourths.items():
            if by and (name in ("x", "angle") or (task.name == "totals" and " x " in name)):
                continue
            for quarter in range(of.max() + 1):
                found = np.zeros((2, len(again)))
                for s in side:
                    a, b, c = (
                        again @ histogram(index[k][t, pair], of[t, pair] == quarter, detector, detectors)
                        for k, t in ((0, s), (1, 1 - s), (0, 1 - s))
                    )
                    a, b, c = (h / h.sum(1, keepdims=True).clip(1e-9) for h in (a, b, c))
                    coordinate = np.concatenate([edges, edges[-1:]])
                    found += [signed_w1(coordinate, a - b), signed_w1(coordinate, a - c)]
                ratios[f"{name} {by} {quarter if by else ''}".strip()] = found[0] / found[1, 0]
    whole = geometric_mean(np.array(list(ratios.values())))
    own = {name: float(r[0]) for name, r in ratios.items()}
    return {"ratio": float(whole[0]), "interval": centred_interval(float(whole[0]), whole[1:]), "projections": own}


def histogram(index: np.ndarray, used: np.ndarray, detector: np.ndarray, detectors: int) -> np.ndarray:
    """Counts (D, GRID) of examples, by detector."""
    flat = detector[used] * GRID + index[used]
    return np.bincount(flat, minlength=detectors * GRID).reshape(detectors, GRID).astype(np.float64)


def measure(task: Task) -> None:
    """Measure every variant of every method that has been trained and not yet been measured."""
    told = task.table[task.held_row.flatten()]
    seen = {"truth": task.seen(task.held_x).flatten(0, 1)}
    for name in WORDS:
        if not (RUNS / f"{task.name}-{name}.safetensors").is_file():
            continue
        method = trained(task, name)
        for evaluations, sampler in variants(name):
            key = f"{task.name} {name} {evaluations}"
            if key in load("measured"):
                continue
            x = drawn(task, method, evaluations, sampler, task.held_row.flatten())
            result = distances(task, x.unflatten(0, (2, -1)))
            seen["made"] = task.seen(x)
            both = [np.cov(seen[k].numpy().T) for k in ("truth", "made")]
            deviations = [np.sqrt(np.diag(c)) for c in both]
            result["spreads"] = (deviations[1] / deviations[0]).tolist()
            away = [c / np.outer(d, d) for c, d in zip(both, deviations, strict=True)]
            result["correlation_error"] = float(np.abs(away[1] - away[0]).max())
            if (evaluations, sampler) in ((1, ""), (19, "heun-angle"), (18, "")) or evaluations == 0:
                context = told[:, :SHOWER] if task.name == "totals" else told
                k = np.random.default_rng(4).permutation(len(told))[:CLASSIFIED]
                real, fake = (torch.cat([context, seen[s]], 1).numpy()[k] for s in ("truth", "made"))
                verdict = gradient_boosting(real, fake, matched=True, rng=np.random.default_rng(5), n_bootstrap=100)
                result |= {"auc": verdict.value, "auc_spread": verdict.spread}
            if name == "exact":
                with torch.no_grad():
                    result["nll"] = float(method.loss(task.held_x.flatten(0, 1), told, torch.Generator()))
            note("measured", key, result)
            print(key, round(result["ratio"], 3), np.round(result["interval"], 3), result.get("auc"), flush=True)


def times(rounds: int = 5) -> None:
    """Processor time of one thread, methods in turn: a point among 20,000, and a shower's totals alone and in a hundred."""
    kinds: dict[str, list[float]] = {}
    calls: list[tuple[str, Callable[[], Any], int]] = []
    for task in map(Task, SETTINGS):
        for name in WORDS:
            method = trained(task, name)
            for evaluations, sampler in variants(name):
                for rows in [task.timed] if task.name == "points" else [task.timed[:1], task.timed]:
                    call = partial(drawn, task, method, evaluations, sampler, rows)
                    calls.append((f"{task.name} {name} {evaluations} {len(rows)}", call, len(rows)))
    calls += compiled_calls()
    for turn in range(rounds + 1):
        for key, call, count in calls:
            repeats = 20 if count == 1 else 1
            began = time.thread_time()
            for _ in range(repeats):
                call()
            if turn:
                kinds.setdefault(key, []).append(1e6 * (time.thread_time() - began) / count / repeats)
    note("times", "microseconds", {key: float(np.median(values)) for key, values in kinds.items()})


def compiled_calls() -> list[tuple[str, Callable[[], Any], int]]:
    """The shipped model's compiled loops: points with their clusters, centre and sums imposed; totals of one member."""
    from anycalo.models import engine, layer_kernels

    showers = read_showers(sorted((ROOT / "data/zoo-validation").glob("*.h5")))[0][:20]
    kept: dict[str, list[Any]] = {"draw_points": [], "draw_layers": []}

    def spy(name: str) -> Any:
        inner = getattr(engine, name)
        return mock.patch.object(engine, name, lambda *given: (kept[name].append(given), inner(*given))[1])

    with spy("draw_points"), spy("draw_layers"):
        generate(base(), showers.detector, showers.incident, seed=1)
    points, layers = kept["draw_points"], kept["draw_layers"]
    return [
        ("points compiled 1", lambda: [engine.draw_points(*g) for g in points], sum(len(g[4]) for g in points)),
        ("totals compiled 1", lambda: [layer_kernels.draw_totals(g[0], g[2], g[3]) for g in layers], len(layers)),
    ]


# --- results ------------------------------------------------------------------------------------------------------------------


def load(kind: str) -> dict[str, Any]:
    """What has been measured of a kind so far, by key."""
    return {p.stem: json.loads(p.read_text()) for p in sorted((RUNS / kind).glob("*.json"))}


def note(kind: str, key: str, value: Any) -> None:
    """Keep what has been measured, each in a file of its own, since several processes may measure."""
    (RUNS / kind).mkdir(parents=True, exist_ok=True)
    (RUNS / kind / f"{key}.json").write_text(json.dumps(value, indent=1))


def tables() -> None:
    """Write the tables into the page, between their marks."""
    page, costs, measured = PAGE.read_text("utf-8"), load("cost"), load("measured")
    taken = load("times").get("microseconds", {})
    head = ["method", "evaluations", "parameters", "core minutes of training", "ratio to floor", "95 % interval", "AUC"]
    for kind in SETTINGS:
        unit = "µs a point" if kind == "points" else "µs a shower at batch 1 / 100"
        lines = [[*head, "spread", "correlations off by", unit]]
        for name in WORDS:
            for evaluations, sampler in variants(name):
                r = measured.get(f"{kind} {name} {evaluations}")
                if r is None:
                    continue
                cost = costs[f"{kind} {name}"]
                words = WORDS[name] + (f", {sampler}" if sampler else "")
                size, spent_minutes = cost["parameters"], cost["core_minutes"]
                if not evaluations:
                    words, size, spent_minutes = "the learned start alone", cost["start_parameters"], cost["start_minutes"]
                minutes = f"{spent_minutes:.1f}" + (f" + {costs[f'{kind} edm']['core_minutes']:.1f}" if name in TAUGHT else "")
                rows = ("20000",) if kind == "points" else ("1", "100")
                spent = [taken.get(f"{kind} {name} {evaluations} {rows_of}") for rows_of in rows]
                fast = taken.get(f"{kind} compiled 1") if name == "exact" else None
                compiled = "" if fast is None else f" (shipped, compiled loops: {fast:.2g})"
                lines.append([
                    words, str(evaluations), f"{size:,}", minutes, f"{r['ratio']:.2f}",
                    f"{r['interval'][0]:.2f} to {r['interval'][1]:.2f}",
                    f"{r['auc']:.3f} ± {r['auc_spread']:.3f}" if "auc" in r else "",
                    f"{min(r['spreads']):.2f} to {max(r['spreads']):.2f}", f"{r['correlation_error']:.2f}",
                    " / ".join(f"{s:.2g}" if s < 10 else f"{s:.0f}" for s in spent if s is not None) + compiled,
                ])  # fmt: skip
        page = with_table(page, f"anycalo-{kind}", lines)
    PAGE.write_text(page, "utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["data", "train", "measure", "times", "table", "all"])
    parser.add_argument("task", nargs="?", choices=list(SETTINGS))
    parser.add_argument("method", nargs="?", choices=list(WORDS))
    given = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    RUNS.mkdir(parents=True, exist_ok=True)
    whole = given.what == "all"
    if given.what == "data" or (whole and not DATA.is_file()):
        make_data()
    for chosen in [given.task] if given.task else SETTINGS:
        if whole or given.what in ("train", "measure"):
            task = Task(chosen)
            for name in [given.method] if given.method else WORDS:
                if given.what == "train" or (whole and not (RUNS / f"{chosen}-{name}.safetensors").is_file()):
                    train(task, name)
            if given.what != "train":
                measure(task)
    if given.what in ("times", "all"):
        times()
    if given.what in ("table", "all"):
        tables()

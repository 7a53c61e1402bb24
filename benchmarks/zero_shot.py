"""A geometry-aware model on detectors it was not trained on, against Geant4: the table of docs/results.md.

    python benchmarks/zero_shot.py anycalo-base data/*-test.h5 --out runs/zero-shot

Each file is of one detector; the model generates showers for the same incident particles. For every detector: `ratio_to_floor`
in total and by observable with intervals, the AUC of the classifier, mean response and resolution from 5 to 80 GeV, time.
Further shower files to be judged in the same way (another model's, rescaled showers) are given as `--also NAME=FILE`.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch

from anycalo.evaluate import evaluate
from anycalo.evaluate.results import Evaluation
from anycalo.generate import generate
from anycalo.models import load_model
from anycalo.showers import Showers

RANGE_MEV = (5_000.0, 80_000.0)
BOOTSTRAP = 400


def calorimetry(truth: Showers, fast: Showers) -> dict[str, list[float]]:
    """Mean response and resolution of fast over those of truth, each with its 95 % interval from resampled showers.

    The resolution is the spread of ln(visible / incident) about a parabola in ln E, for showers of `RANGE_MEV`.
    """

    def table(showers: Showers) -> np.ndarray:
        energy = showers.incident.energy_mev.astype(np.float64)
        chosen = (energy >= RANGE_MEV[0]) & (energy <= RANGE_MEV[1]) & (showers.visible_mev() > 0)
        return np.column_stack([np.log(energy[chosen]), showers.visible_mev()[chosen] / energy[chosen]])

    def numbers(rows: np.ndarray) -> tuple[float, float]:
        log_response = np.log(rows[:, 1])
        fit = np.polynomial.Polynomial.fit(rows[:, 0], log_response, 2)
        return float(rows[:, 1].mean()), float((log_response - fit(rows[:, 0])).std())

    a, b = table(truth), table(fast)
    rng = np.random.default_rng(1)
    resampled = []
    for _ in range(BOOTSTRAP):
        # Truth and fast hold the same particles: a resample takes both of one particle.
        pick = rng.integers(0, len(a), len(a))
        (mean_a, width_a), (mean_b, width_b) = (
            numbers(a[pick]),
            numbers(b[pick if len(b) == len(a) else rng.integers(0, len(b), len(b))]),
        )
        resampled.append((mean_b / mean_a, width_b / width_a))
    (mean_a, width_a), (mean_b, width_b) = numbers(a), numbers(b)
    low, high = np.quantile(resampled, [0.025, 0.975], axis=0)
    return {
        "response": [mean_b / mean_a, float(low[0]), float(high[0])],
        "resolution": [width_b / width_a, float(low[1]), float(high[1])],
        "resolution_geant4": [width_a],
    }


def judged(truth: Showers, fast: Showers) -> dict[str, Any]:
    """Every figure of one comparison."""
    found: Evaluation = evaluate(truth, fast, n_bootstrap=BOOTSTRAP)
    auc = found.metrics["auc"]
    return {
        "ratio_to_floor": found.summary.ratio_to_floor,
        "interval": list(found.summary.ratio_to_floor_ci),
        "observables": {k: v.w1_ratio for k, v in found.observables.items()},
        "auc": auc.value,
        **calorimetry(truth, fast),
    }


def main() -> None:
    """Evaluate and write `results.json` and `table.md`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("truth", nargs="+", type=Path)
    parser.add_argument("--also", action="append", default=[], metavar="NAME=FILE")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=3)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    model = load_model(arguments.model)
    others: dict[str, list[Showers]] = {}
    for entry in arguments.also:
        name, path = entry.split("=", 1)
        others.setdefault(name, []).append(Showers.open(path))
    results: dict[str, Any] = {}
    for path in arguments.truth:
        truth = Showers.open(path)
        truth = truth[truth.visible_mev() > 0]
        start = time.perf_counter()
        fast = generate(model, truth.detector, truth.incident, seed=arguments.seed)
        seconds = time.perf_counter() - start
        entry = {"showers": len(truth), "ms": 1e3 * seconds / len(truth), "zero-shot": judged(truth, fast)}
        for name, samples in others.items():
            for sample in samples:
                if sample.detector == truth.detector:
                    entry[name] = judged(truth, sample)
        results[truth.detector.name] = entry
        arguments.out.mkdir(parents=True, exist_ok=True)
        (arguments.out / "results.json").write_text(json.dumps(results, indent=2) + "\n")
        (arguments.out / "table.md").write_text(markdown(results))
        print((arguments.out / "table.md").read_text(), flush=True)


def markdown(results: dict[str, Any]) -> str:
    """The results as two tables."""
    lines = [
        "| detector | showers | what | ratio to floor | 95 % interval | worst observable | AUC | response | resolution |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for detector, entry in results.items():
        for name, found in entry.items():
            if not isinstance(found, dict):
                continue
            worst = max(found["observables"], key=lambda k: found["observables"][k])
            response, resolution = ("{:.3f} ({:.3f} to {:.3f})".format(*found[k]) for k in ("response", "resolution"))
            low, high = found["interval"]
            lines.append(
                f"| {detector} | {entry['showers']:,} | {name} | {found['ratio_to_floor']:.2f} | {low:.2f} to {high:.2f} |"
                f" {worst} {found['observables'][worst]:.1f} | {found['auc']:.2f} | {response} | {resolution} |"
            )
    names = list(results)
    lines += ["", "| W1 / floor, zero-shot | " + " | ".join(names) + " |", "|---|" + "---|" * len(names)]
    for observable in results[names[0]]["zero-shot"]["observables"]:
        row = [f"{results[n]['zero-shot']['observables'][observable]:.2f}" for n in names]
        lines.append(f"| {observable} | " + " | ".join(row) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()

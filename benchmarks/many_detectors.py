"""Many detectors with few showers each, or few with many: the same number of showers, the same training.

    python benchmarks/many_detectors.py data/zoo data/zoo-validation --out runs/many-detectors

Trains the recipe `anycalo`, shortened, on `--showers` showers: `--each` of each detector, so of many detectors or of few.
Judges each model, zero-shot, on detectors of the validation zoo: ratio to floor and AUC.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from anycalo.evaluate import evaluate
from anycalo.generate import generate
from anycalo.showers import Showers
from anycalo.train import Recipe, train
from anycalo.train.data import shower_files


def shortened(recipe: Recipe, factor: float) -> Recipe:
    """The recipe with this many times its steps."""
    stages = {name: replace(stage, steps=max(1, int(factor * stage.steps))) for name, stage in recipe.stages.items()}
    return replace(recipe, stages=stages)


def main() -> None:
    """Train, judge, print, and write `table.md` and `results.json`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("zoo", type=Path)
    parser.add_argument("validation", type=Path)
    parser.add_argument("--showers", type=int, default=2400, help="in all, of each training")
    parser.add_argument("--each", type=int, nargs="+", default=[6, 25], help="showers of a detector")
    parser.add_argument("--steps", type=float, default=0.2, help="times the recipe's")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    files = shower_files(arguments.zoo)
    recipe = shortened(Recipe.load("anycalo"), arguments.steps)
    truths = [Showers.open(path) for path in shower_files(arguments.validation)]
    truths = [truth[truth.visible_mev() > 0] for truth in truths]
    results = []
    for each in arguments.each:
        count = arguments.showers // each
        if count > len(files):
            parser.error(f"{count} detectors asked for; {arguments.zoo} holds {len(files)}")
        # Spread over the zoo, whose detectors come in random order anyway.
        chosen = [files[k] for k in np.linspace(0, len(files) - 1, count).astype(int)]
        start = time.process_time()
        model = train(recipe, [Showers.open(path, 0, each) for path in chosen], arguments.out / f"each-{each}", threads=1)
        minutes = (time.process_time() - start) / 60
        found = [evaluate(truth, generate(model, truth.detector, truth.incident, seed=3), n_bootstrap=100) for truth in truths]
        ratios = [f.summary.ratio_to_floor for f in found]
        results.append(
            {
                "detectors": count,
                "each": each,
                "minutes": minutes,
                "ratios": ratios,
                "mean": float(np.exp(np.mean(np.log(ratios)))),
                "auc": [f.metrics["auc"].value for f in found],
            }
        )
        print(json.dumps(results[-1]), flush=True)
    lines = ["| detectors | showers of each | ratio to floor | geometric mean | AUC | minutes |", "|---|---|---|---|---|---|"]
    for row in results:
        ratios_of, aucs_of = (", ".join(f"{x:.2f}" for x in row[k]) for k in ("ratios", "auc"))  # type: ignore[attr-defined]
        lines.append(
            f"| {row['detectors']} | {row['each']} | {ratios_of} | **{row['mean']:.2f}** | {aucs_of} | {row['minutes']:.0f} |"
        )
    (arguments.out / "results.json").write_text(json.dumps(results, indent=2) + "\n")
    (arguments.out / "table.md").write_text("\n".join(lines) + "\n")
    print((arguments.out / "table.md").read_text())


if __name__ == "__main__":
    main()

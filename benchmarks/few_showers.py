"""Fine-tuning with 20, 50 and 100 showers: is it ever worse than zero-shot? The first table of docs/results-transfer.md.

    python benchmarks/few_showers.py anycalo-base data/zoo-validation --out runs/few-showers

From each file (one detector) showers are drawn to fine-tune with; up to 150 others (`--others`) are generated for their own
particles by the model before and after. `ratio_to_floor` of both, and how much it changes when only the random numbers of the
base's generation change: the noise against which a change for the worse is to be seen. Each finished run is a line of
`runs.jsonl`; the same command goes on where it stopped.
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

from anycalo.adapt import Method
from anycalo.evaluate import evaluate
from anycalo.evaluate.validation import DistanceCheck
from anycalo.generate import generate
from anycalo.models import Model, load_model
from anycalo.showers import Showers
from anycalo.train import FinetuneConfig, finetune
from anycalo.train.data import shower_files

OTHERS = 150


def ratio(model: Model, truth: Showers, seed: int) -> float:
    """`ratio_to_floor` of showers generated for the particles of these."""
    fast = generate(model, truth.detector, truth.incident, seed=seed)
    return evaluate(truth, fast, metrics="none", n_bootstrap=100).summary.ratio_to_floor


def one(base: Model, file: Path, count: int, method: str, seed: int, *, check: bool, others_at_most: int) -> dict[str, Any]:
    """One run; without `check` by likelihoods alone."""
    showers = Showers.open(file)
    showers = showers[showers.visible_mev() > 0]
    order = np.random.default_rng([seed, 7]).permutation(len(showers))
    given, others = showers[np.sort(order[:count])], showers[np.sort(order[count : count + others_at_most])]
    began = time.monotonic(), time.process_time()
    compare = DistanceCheck(base, given, seed=seed) if check else None
    tuned = finetune(base, given, FinetuneConfig(method=Method.parse(method), seed=seed), compare=compare)
    spent = time.monotonic() - began[0], time.process_time() - began[1]
    return {
        "detector": showers.detector.name,
        "showers": count,
        "method": method,
        "seed": seed,
        "base_sha256": base.digest(),
        "others": len(others),
        "seconds": round(spent[0], 1),
        "processor_seconds": round(spent[1], 1),
        "changed": [name for name, stage in tuned.stages.items() if stage.accepted],
        "taken_back": [name for name, stage in tuned.stages.items() if stage.taken_back],
        "distances": {name: dataclasses.asdict(s.distances) for name, s in tuned.stages.items() if s.distances is not None},
        "gains": {name: [stage.base_loss - stage.loss, stage.gain_error] for name, stage in tuned.stages.items()},
        "before": ratio(base, others, seed),
        "again": ratio(base, others, seed + 1000),
        "after": ratio(tuned.model, others, seed),
    }


def table(runs: list[dict[str, Any]]) -> str:
    """A row for each detector and number of showers, in brackets what was taken back; below, what chance alone does."""
    lines = [
        "| detector | showers | changed | W1 / floor zero-shot | fine-tuned | ratio, seed by seed |",
        "|---|---|---|---|---|---|",
    ]
    for key in sorted({(r["method"], r["detector"], r["showers"]) for r in runs}):
        mine = [r for r in runs if (r["method"], r["detector"], r["showers"]) == key]
        changed = "; ".join(
            ", ".join([*r["changed"], *(f"({name})" for name in r.get("taken_back", []))]) or "none" for r in mine
        )
        change = ", ".join(f"{r['after'] / r['before']:.2f}" for r in mine)
        before, after = (np.mean([r[name] for r in mine]) for name in ("before", "after"))
        lines.append(f"| `{key[1]}` | {key[2]} | {changed} | {before:.2f} | {after:.2f} | {change} |")
    noise = np.std([np.log(r["again"] / r["before"]) for r in runs])
    lines.append(f"\nThe same model with other random numbers: the ratio scatters by {noise:.1%}.\n")
    for method in sorted({r["method"] for r in runs}):
        for count in sorted({r["showers"] for r in runs}):
            change = np.log([r["after"] / r["before"] for r in runs if (r["method"], r["showers"]) == (method, count)])
            if len(change):
                lines.append(
                    f"- {method}, {count} showers: {np.exp(change.mean()):.2f} times the zero-shot ratio (geometric mean of"
                    f" {len(change)} runs), at worst {np.exp(change.max()):.2f}; {np.sum(change > 2 * noise)} worse by more"
                    f" than twice the scatter"
                )
    return "\n".join(lines)


def main() -> None:
    """See the module's text."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("data", nargs="+", help="shower files, or folders of them, of one detector each")
    parser.add_argument("--showers", type=int, nargs="+", default=[20, 50, 100])
    parser.add_argument("--others", type=int, default=OTHERS, help="showers compared with, at most")
    parser.add_argument("--method", default="bitfit")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2])
    parser.add_argument(
        "--unchecked", action="store_true", help="take no change back for its distances; into a directory of its own"
    )
    parser.add_argument("--minutes", type=float, default=600.0, help="start no run after so many")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    base = load_model(arguments.model)
    arguments.out.mkdir(parents=True, exist_ok=True)
    log = arguments.out / "runs.jsonl"
    lines = log.read_text().splitlines() if log.exists() else []
    runs = [run for run in map(json.loads, lines) if run["base_sha256"] == base.digest()]
    done = {(r["detector"], r["showers"], r["method"], r["seed"]) for r in runs}
    files = [file for source in arguments.data for file in shower_files(Path(source))]
    names = {file: Showers.open(file, 0, 1).detector.name for file in files}
    began = time.monotonic()
    for seed in arguments.seeds:
        for count in arguments.showers:
            for file in files:
                if (names[file], count, arguments.method, seed) in done:
                    continue
                if time.monotonic() - began > 60 * arguments.minutes:
                    break
                runs.append(
                    one(
                        base,
                        file,
                        count,
                        arguments.method,
                        seed,
                        check=not arguments.unchecked,
                        others_at_most=arguments.others,
                    )
                )
                with log.open("a") as out:
                    out.write(json.dumps(runs[-1]) + "\n")
    page = table(runs)
    (arguments.out / "table.md").write_text(page + "\n")
    print(page)


if __name__ == "__main__":
    main()

"""Time of a whole evaluation with its metrics, and what the metrics say of known defects.

    python benchmarks/metrics.py data/ild-photons-train.h5 --n 2000
    python benchmarks/metrics.py data/ild-photons-train.h5 --n 2000 --defects

The first n Geant4 showers of the file are the truth, the next n the fast sample: a perfect model. With --defects the
fast sample is also spoilt in known ways (tests/evaluate/defects.py) and every metric is printed for each, as its value
and its ratio to the floor: the table of docs/metrics.md.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from pathlib import Path

from anycalo.evaluate import Evaluation, evaluate
from anycalo.showers import Showers

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "evaluate"))
from defects import decorrelated, scaled, swapped


def run(what: str, truth: Showers, fast: Showers, metrics: str) -> Evaluation:
    """One evaluation, and its time and memory on standard output."""
    wall, cpu = time.perf_counter(), time.process_time()
    found = evaluate(truth, fast, metrics=metrics)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    times = f"{time.perf_counter() - wall:.0f} s, {time.process_time() - cpu:.0f} s of CPU"
    print(f"{what}, metrics {metrics}: {times}, at most {memory:.1f} GB so far", flush=True)
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file")
    parser.add_argument("--n", type=int, default=2000)
    parser.add_argument("--defects", action="store_true")
    arguments = parser.parse_args()
    truth = Showers.open(arguments.file, 0, arguments.n)
    fast = Showers.open(arguments.file, arguments.n, 2 * arguments.n)
    run("perfect", truth, fast, "none")
    found = {"perfect": run("perfect", truth, fast, "quick")}
    if arguments.defects:
        middle = truth.detector.n_layers // 2
        spoilt = {
            "energy x 1.02": scaled(fast),
            "energy x 1.005": scaled(fast, 1.005),
            "layers swapped": swapped(fast, middle, middle + 1),
            "decorrelated": decorrelated(fast),
        }
        for name, showers in spoilt.items():
            found[name] = run(name, truth, showers, "quick")
    print(f"\n| metric | {' | '.join(found)} |\n|---|{'---|' * len(found)}")
    for name in found["perfect"].metrics:
        cells = [f"{e.metrics[name].value:.4g} ({e.metrics[name].ratio:.1f})" for e in found.values()]
        print(f"| `{name}` | {' | '.join(cells)} |")
    headline = [f"{e.summary.ratio_to_floor:.2f}" for e in found.values()]
    print(f"| headline of the observables | {' | '.join(headline)} |")


if __name__ == "__main__":
    main()

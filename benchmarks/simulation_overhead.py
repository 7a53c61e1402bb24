"""How much of a Geant4 production is Geant4 itself.

Runs, in turn and several times, (A) `anycalo.simulate` of photons in `ild-ecal`, from nothing to a finished file,
and (B) bare Geant4 on the same particles and seeds in as many processes, with no sensitive detector, no points and no
file. Prints the wall time of each and the overhead A / B - 1.

    python benchmarks/simulation_overhead.py --n 1000 --energy-gev 10 --workers 2 --repeat 3
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import statistics
import tempfile
import time
from pathlib import Path

from anycalo.geometry import Detector
from anycalo.showers import Beam
from anycalo.simulate import Settings, find_data, simulate
from anycalo.simulate.points import shower_seed

SEED = 11


def bare(part: int, parts: int, n: int, beam: Beam) -> None:
    """One process of bare Geant4 with every `parts`-th shower."""
    os.environ.update(find_data())
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    from anycalo.simulate.geant4 import Geant4Run

    chosen = range(part, n, parts)
    incident = beam.sample(n, SEED)[slice(part, n, parts)]
    run = Geant4Run(Detector.load("ild-ecal"), Settings(), record=False)
    run.shoot(incident, [shower_seed(SEED, index) for index in chosen], lambda steps, neutral: None)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, default=1000)
    parser.add_argument("--energy-gev", type=float, default=10.0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--repeat", type=int, default=3)
    arguments = parser.parse_args()
    beam = Beam(energy_mev=(arguments.energy_gev * 1000, arguments.energy_gev * 1000))
    context = multiprocessing.get_context("spawn")
    full_s, bare_s = [], []
    for _ in range(arguments.repeat):
        with tempfile.TemporaryDirectory() as folder:
            start = time.perf_counter()
            out = Path(folder) / "a.h5"
            simulate(Detector.load("ild-ecal"), beam, arguments.n, out, seed=SEED, workers=arguments.workers)
            full_s.append(time.perf_counter() - start)
        start = time.perf_counter()
        sizes = (arguments.workers, arguments.n, beam)
        processes = [context.Process(target=bare, args=(part, *sizes)) for part in range(arguments.workers)]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
        bare_s.append(time.perf_counter() - start)
        print(
            f"simulate {full_s[-1]:.1f} s, bare Geant4 {bare_s[-1]:.1f} s, overhead {full_s[-1] / bare_s[-1] - 1:.1%}",
            flush=True,
        )
    ratio = statistics.median(a / b for a, b in zip(full_s, bare_s, strict=True))
    per_gev = 1000 * statistics.median(full_s) * arguments.workers / arguments.n / arguments.energy_gev
    print(
        f"{arguments.n} photons of {arguments.energy_gev:g} GeV, {arguments.workers} processes, {arguments.repeat} repeats:"
        f" median overhead {ratio - 1:.1%}, {1 / ratio:.1%} of the time in Geant4, {per_gev:.1f} ms per GeV and core"
    )


if __name__ == "__main__":
    main()

"""Where the time of one shower goes: the parts of a whole call of `generate`, one photon at a time, one thread.

    python benchmarks/where_time_goes.py anycalo-base           # 50 GeV in ild-ecal; writes a table
    python benchmarks/where_time_goes.py caloclouds-ild --calls 1000

Each part is timed where it stands in the call, by a clock around it, median of the calls. A part may hold others.
"""

from __future__ import annotations

import argparse
import statistics
import time
import warnings
from collections.abc import Callable
from typing import Any

import torch

from anycalo import generate, load_model
from anycalo.geometry import Detector
from anycalo.models import anycalo, caloclouds, caloclouds_engine, engine, model, noise
from anycalo.showers import Incident, Showers

PARTS: dict[str, list[tuple[Any, str, str]]] = {
    "anycalo": [
        (engine.Engine, "sample", "everything but checks"),
        (engine.Engine, "told", "what the networks are told"),
        (engine, "draw_layers", "totals and layers"),
        (engine, "draw_points", "points"),
        (engine, "place", "into the detector"),
        (engine, "divide", "tracks"),
        (anycalo.AnyCalo, "state", "has a weight been changed"),
        (engine, "Showers", "checks of the showers"),
    ],
    "caloclouds": [
        (caloclouds_engine.Engine, "sample", "everything but checks"),
        (caloclouds_engine, "draw_layers", "flow"),
        (caloclouds_engine, "draw_points", "points"),
        (caloclouds_engine, "place", "into the detector"),
        (caloclouds.CaloClouds, "state", "has a weight been changed"),
        (caloclouds_engine, "Showers", "checks of the showers"),
    ],
}
COMMON: list[tuple[Any, str, str]] = [
    (noise.Noise, "__init__", "streams of noise"),
    (noise.Noise, "normal", "normal numbers of the layers"),
    (noise.Noise, "normal_points", "normal numbers of the points"),
    (model.Domain, "breaches", "inside the domain"),
    (Showers, "contained", "inside the sides"),
]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--detector", default="ild-ecal")
    parser.add_argument("--energy-gev", type=float, default=50.0)
    parser.add_argument("--calls", type=int, default=500)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    loaded, detector = load_model(arguments.model), Detector.load(arguments.detector)
    incident = Incident(energy_mev=1e3 * arguments.energy_gev)

    def call(seed: int) -> Showers:
        return generate(loaded, detector, incident, seed=seed)

    points = statistics.mean(call(seed).n_points for seed in range(30))
    whole = timed(call, arguments.calls)
    times: dict[str, list[float]] = {}
    for owner, name, label in PARTS[loaded.family] + COMMON:
        setattr(owner, name, around(getattr(owner, name), times.setdefault(label, [])))
    watched = timed(call, arguments.calls)
    print(f"{arguments.model}, {arguments.energy_gev:g} GeV, {points:.0f} points: {whole:.0f} us ({watched:.0f} with clocks)\n")
    print("| part | us a call |\n|---|---|")
    for label, found in sorted(times.items(), key=lambda entry: -sum(entry[1])):
        # A part that is called several times a shower counts with its sum.
        each = len(found) // arguments.calls
        print(f"| {label} | {1e6 * statistics.median(sum(found[k : k + each]) for k in range(0, len(found), each)):.0f} |")


def timed(call: Callable[[int], Any], calls: int) -> float:
    """Median time of a call [us]."""
    found = []
    for seed in range(calls):
        start = time.perf_counter()
        call(seed)
        found.append(time.perf_counter() - start)
    return 1e6 * statistics.median(found)


def around(function: Callable[..., Any], times: list[float]) -> Callable[..., Any]:
    """The function, with the time of each call noted."""

    def watched(*arguments: Any, **options: Any) -> Any:
        start = time.perf_counter()
        try:
            return function(*arguments, **options)
        finally:
            times.append(time.perf_counter() - start)

    return watched


if __name__ == "__main__":
    main()

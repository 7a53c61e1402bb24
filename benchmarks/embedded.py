"""Events of several particles, in full and with a model taking over at the face: how far apart, and how long.

Particles enter at random places of a square. The same events, particle by particle, are simulated in full and with the
model; with --again also in full with other random numbers, from which the floor (Geant4 against Geant4) then comes, instead
of from halves of the first. What was simulated before in the folder of --out is used again, by the model as long as it is the
same.
Prints the mean and the spread of the energy and of the hits of an event with 95 % intervals (bootstrap over events), the
distances of all observables in units of the floor, and the processor's time of both.

    python benchmarks/embedded.py --events 150 --energy-gev 10 20 --out runs/embedded

With --max-distance-mm an event is two particles side by side, at distances up to this: how often are both found
(`anycalo separate`) in the events as they were simulated?

    python benchmarks/embedded.py --events 300 --energy-gev 10 10 --max-distance-mm 40 --again --out runs/embedded-pairs
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from anycalo.embed import EmbedRun, Events, Gun, embed
from anycalo.evaluate import PairSettings, Separation, evaluate
from anycalo.evaluate.separation import both_found
from anycalo.models import load_model
from anycalo.readout import read_out
from anycalo.showers import Showers
from anycalo.simulate.particles import Primary


def energy_mev(showers: Showers) -> np.ndarray:
    """Energy in cells above the threshold of each event."""
    return read_out(showers).read_mev()


def hits(showers: Showers) -> np.ndarray:
    """Cells above the threshold in each event."""
    return np.bincount(read_out(showers).shower, minlength=len(showers)).astype(float)


def depth(showers: Showers) -> np.ndarray:
    """Mean layer of each event, weighted with the energy."""
    energy = showers.layer_energy_mev()
    return np.asarray(energy @ np.arange(showers.detector.n_layers) / energy.sum(axis=1))


def interval(values: np.ndarray, statistic: Callable[[np.ndarray], float]) -> tuple[float, float, float]:
    """A statistic of events and its 95 % bootstrap interval."""
    rng = np.random.default_rng(1)
    draws = [statistic(values[rng.integers(0, len(values), len(values))]) for _ in range(1000)]
    low, high = np.quantile(draws, [0.025, 0.975])
    return float(statistic(values)), float(low), float(high)


def side_by_side(events: list[list[Primary]], largest_mm: float) -> list[list[Primary]]:
    """The second particle of each event moved beside the first, at evenly spread distances and random azimuths."""
    rng = np.random.default_rng(3)
    distances = rng.permutation((np.arange(len(events)) + 0.5) / len(events) * largest_mm)
    out = []
    for (first, second), distance, azimuth in zip(events, distances, rng.uniform(0, 2 * np.pi, len(events)), strict=True):
        x, y, z = first.position_mm
        beside = (x + float(distance * np.cos(azimuth)), y + float(distance * np.sin(azimuth)), z)
        out.append([first, dataclasses.replace(second, position_mm=beside)])
    return out


def compare_pairs(made: dict[str, Events], largest_mm: float) -> dict[str, dict[str, object]]:
    """How often both particles are found in each sample, against the first."""
    full = made["full"]
    place = full.primaries["position_mm"][:, :2].astype(float).reshape(-1, 2, 2)
    half, middle = (place[:, 1] - place[:, 0]) / 2, place.mean(axis=1)
    distance = 2 * np.linalg.norm(half, axis=1)
    settings = PairSettings(n_pairs=len(full), n_bins=8, max_distance_mm=largest_mm)
    found = {name: both_found(events.showers, half, settings, middle_mm=middle) for name, events in made.items()}
    out = {}
    for name, both in found.items():
        result = Separation.of((distance, found["full"]), (distance, both), settings, provenance={})
        rng = np.random.default_rng(1)
        draws = []
        for _ in range(500):
            k = rng.integers(0, len(both), len(both))
            draws.append(Separation.of((distance[k], both[k]), (distance[k], both[k]), settings, provenance={}).half_mm("fast"))
        low, high = np.nanquantile(draws, [0.025, 0.975])
        out[name] = {"half_mm": result.half_mm("fast"), "half_mm_ci": [low, high]} | result.to_dict()
        efficiency = " ".join(f"{e:.2f}" for e in result.efficiency("fast")[0])
        print(
            f"{name}: half of the pairs found at {result.half_mm('fast'):.1f} mm ({low:.1f} to {high:.1f}); efficiency in bins"
            f" of {largest_mm / 8:g} mm: {efficiency}; against full chi2 = {result.chi2:.1f}, p = {result.p_value:.2g}"
        )
    return out


def reading_ms(showers: Showers) -> float:
    """Processor's time to read an event out into cells."""
    events = [showers[k] for k in range(min(len(showers), 100))]
    start = time.process_time()
    for event in events:
        read_out(event)
    return 1000 * (time.process_time() - start) / len(events)


def main() -> None:
    """Simulate what is not there yet, compare and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--events", type=int, default=150)
    parser.add_argument("--photons", type=int, default=2, help="particles an event")
    parser.add_argument("--particles", nargs="+", default=["gamma"], help="several are drawn with equal probability")
    parser.add_argument("--energy-gev", type=float, nargs=2, default=(10.0, 20.0))
    parser.add_argument("--square-mm", type=float, default=60.0)
    parser.add_argument("--max-distance-mm", type=float, default=0.0)
    parser.add_argument("--detector", default="ild-ecal")
    parser.add_argument("--model", default="caloclouds-ild")
    parser.add_argument("--again", action="store_true")
    parser.add_argument("--full-from", type=Path, help="folder whose full simulations of the same events are used")
    parser.add_argument("--out", type=Path, default=Path("runs/embedded"))
    arguments = parser.parse_args()
    if arguments.max_distance_mm and arguments.photons != 2:
        parser.error("--max-distance-mm is for two particles an event")
    low, high = (1000 * e for e in arguments.energy_gev)
    half = arguments.square_mm / 2
    gun = Gun(energy_mev=(low, high), particle=tuple(arguments.particles), number=arguments.photons, spread_mm=(half, half))
    run = EmbedRun(detector=arguments.detector, model=arguments.model, events=arguments.events, gun=(gun,), seed=5)
    events = run.primaries()
    if arguments.max_distance_mm:
        events = side_by_side(events, arguments.max_distance_mm)
    # The same particles for all three: other random numbers, but not other particles, for the floor.
    table = arguments.out / "particles.csv"
    arguments.out.mkdir(parents=True, exist_ok=True)
    rows = [
        (k, p.pdg, repr(p.energy_mev), *map(repr, p.position_mm), *map(repr, p.direction))
        for k, event in enumerate(events)
        for p in event
    ]
    header = "event,pdg,energy_mev,x_mm,y_mm,z_mm,dx,dy,dz"
    table.write_text("\n".join([header, *(",".join(map(str, row)) for row in rows)]) + "\n", "utf-8")
    run = dataclasses.replace(run, gun=(), particles=str(table))
    made = {}
    for name, seed in (("full", 5), ("fast", 7), ("full again", 6))[: 3 if arguments.again else 2]:
        folder = arguments.full_from if name != "fast" and arguments.full_from else arguments.out
        path = folder / f"{name.replace(' ', '-')}.h5"
        digest = load_model(arguments.model).digest() if name == "fast" else None
        if not path.exists() or Showers.open(path, 0, 1).provenance["model_sha256"] != digest:
            embed(dataclasses.replace(run, seed=seed), path, full=name != "fast", overwrite=True)
        made[name] = Events.open(path)
    full, fast, again = made["full"], made["fast"], made.get("full again")
    if not all(np.array_equal(e.primaries[c], full.primaries[c]) for e in made.values() for c in full.primaries):
        parser.error(f"{arguments.out} and {arguments.full_from} hold samples of other particles; choose other folders")

    print(f"{len(full)} events of {arguments.photons} particles; {fast.fast_fraction():.1%} of the fast sample is the model's")
    summary: dict[str, object] = {}
    for title, quantity in (("energy [MeV]", energy_mev), ("hits", hits), ("mean layer", depth)):
        for what, statistic in (("mean", np.mean), ("spread", np.std)):
            found = {name: interval(quantity(e.showers), statistic) for name, e in made.items()}
            summary[f"{title}, {what}"] = found
            text = "; ".join(f"{name} {value:.4g} ({a:.4g} to {b:.4g})" for name, (value, a, b) in found.items())
            print(f"{title}, {what}: {text}")
    if arguments.max_distance_mm:
        summary["pairs"] = compare_pairs(made, arguments.max_distance_mm)
    result = evaluate(full.showers, fast.showers, floor=again.showers if again else None, metrics="none", seed=1)
    for entry in sorted(result.observables.values(), key=lambda o: -o.w1_ratio):
        print(f"{entry.title}: W1 / floor {entry.w1_ratio:.2f} ({entry.w1_ratio_ci[0]:.2f} to {entry.w1_ratio_ci[1]:.2f})")
    seconds = [e.showers.provenance["processor_seconds"] for e in (full, fast)]
    per_event = [1000 * s["events"] / len(full) for s in seconds]
    read = [reading_ms(e.showers) for e in (full, fast)]
    model = 1000 * seconds[1]["model"] / len(full)
    print(
        f"processor's time an event: full {per_event[0]:.0f} ms, fast {per_event[1]:.2f} ms (the model {model:.2f} ms):"
        f" {per_event[0] / per_event[1]:.1f} times faster; reading out into cells takes {read[0]:.2f} and {read[1]:.2f} ms"
        f" more: {(per_event[0] + read[0]) / (per_event[1] + read[1]):.1f} times faster with it"
    )
    summary |= {"milliseconds": per_event, "model_milliseconds": model, "reading_milliseconds": read}
    (arguments.out / "results.json").write_text(
        json.dumps({"summary": summary, "evaluation": result.to_dict()}, indent=1), "utf-8"
    )


if __name__ == "__main__":
    main()

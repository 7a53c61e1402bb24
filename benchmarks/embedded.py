"""Multi-photon events in `ild-ecal`, in full and with a model taking over at the face: how far apart, and how long.

Every event holds two photons that enter at random places of a square. The same events, particle by particle, are simulated
in full and with the model; with --again also in full with other random numbers, from which the floor (Geant4 against
Geant4) then comes, instead of from halves of the first.
Prints the mean and the spread of the energy and of the hits of an event with 95 % intervals (bootstrap over events), the
distances of all observables in units of the floor, and the processor's time of both.

    python benchmarks/embedded.py --events 150 --energy-gev 10 20 --out runs/embedded
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np

from anycalo.embed import EmbedRun, Events, Gun, embed
from anycalo.evaluate import evaluate
from anycalo.readout import read_out
from anycalo.showers import Showers


def energy_mev(showers: Showers) -> np.ndarray:
    """Energy in cells above the threshold of each event."""
    return read_out(showers).read_mev()


def hits(showers: Showers) -> np.ndarray:
    """Cells above the threshold in each event."""
    return np.bincount(read_out(showers).shower, minlength=len(showers)).astype(float)


def depth(showers: Showers) -> np.ndarray:
    """Mean layer of each event, weighted with the energy."""
    energy = showers.layer_energy_mev()
    return energy @ np.arange(showers.detector.n_layers) / energy.sum(axis=1)


def interval(values: np.ndarray, statistic: Callable[[np.ndarray], float]) -> tuple[float, float, float]:
    """A statistic of events and its 95 % bootstrap interval."""
    rng = np.random.default_rng(1)
    draws = [statistic(values[rng.integers(0, len(values), len(values))]) for _ in range(1000)]
    low, high = np.quantile(draws, [0.025, 0.975])
    return float(statistic(values)), float(low), float(high)


def main() -> None:
    """Simulate what is not there yet, compare and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--events", type=int, default=150)
    parser.add_argument("--photons", type=int, default=2)
    parser.add_argument("--energy-gev", type=float, nargs=2, default=(10.0, 20.0))
    parser.add_argument("--square-mm", type=float, default=60.0)
    parser.add_argument("--detector", default="ild-ecal")
    parser.add_argument("--model", default="caloclouds-ild")
    parser.add_argument("--again", action="store_true")
    parser.add_argument("--out", type=Path, default=Path("runs/embedded"))
    arguments = parser.parse_args()
    low, high = (1000 * e for e in arguments.energy_gev)
    half = arguments.square_mm / 2
    gun = Gun(energy_mev=(low, high), number=arguments.photons, spread_mm=(half, half))
    run = EmbedRun(detector=arguments.detector, model=arguments.model, events=arguments.events, gun=(gun,), seed=5)
    # The same particles for all three: other random numbers, but not other particles, for the floor.
    table = arguments.out / "particles.csv"
    arguments.out.mkdir(parents=True, exist_ok=True)
    rows = [
        (k, p.pdg, repr(p.energy_mev), *map(repr, p.position_mm), *map(repr, p.direction))
        for k, event in enumerate(run.primaries())
        for p in event
    ]
    header = "event,pdg,energy_mev,x_mm,y_mm,z_mm,dx,dy,dz"
    table.write_text("\n".join([header, *(",".join(map(str, row)) for row in rows)]) + "\n", "utf-8")
    run = dataclasses.replace(run, gun=(), particles=str(table))
    made = {}
    for name, seed, full in (("full", 5, True), ("fast", 7, False), ("full again", 6, True))[: 3 if arguments.again else 2]:
        path = arguments.out / f"{name.replace(' ', '-')}.h5"
        if not path.exists():
            embed(dataclasses.replace(run, seed=seed), path, full=full)
        made[name] = Events.open(path)
    full, fast, again = made["full"], made["fast"], made.get("full again")

    print(f"{len(full)} events of {arguments.photons} photons; {fast.fast_fraction():.1%} of the fast sample is the model's")
    for title, quantity in (("energy [MeV]", energy_mev), ("hits", hits), ("mean layer", depth)):
        for what, statistic in (("mean", np.mean), ("spread", np.std)):
            found = {name: interval(quantity(e.showers), statistic) for name, e in made.items()}
            text = "; ".join(f"{name} {value:.4g} ({a:.4g} to {b:.4g})" for name, (value, a, b) in found.items())
            print(f"{title}, {what}: {text}")
    result = evaluate(full.showers, fast.showers, floor=again.showers if again else None, metrics="none", seed=1)
    (arguments.out / "results.json").write_text(json.dumps(result.to_dict(), indent=1), "utf-8")
    for entry in sorted(result.observables.values(), key=lambda o: -o.w1_ratio):
        print(f"{entry.title}: W1 / floor {entry.w1_ratio:.2f} ({entry.w1_ratio_ci[0]:.2f} to {entry.w1_ratio_ci[1]:.2f})")
    seconds = [e.showers.provenance["processor_seconds"] for e in (full, fast)]
    per_event = [1000 * s["events"] / len(full) for s in seconds]
    model = 1000 * seconds[1]["model"] / len(full)
    print(
        f"processor's time an event: full {per_event[0]:.0f} ms, fast {per_event[1]:.1f} ms (the model {model:.1f} ms):"
        f" {per_event[0] / per_event[1]:.1f} times faster"
    )


if __name__ == "__main__":
    main()

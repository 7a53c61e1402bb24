"""Showers of `caloclouds-ild` by compiled loops and by PyTorch: the time of whole calls in turn, and how many layers differ.

python benchmarks/caloclouds_loops.py --out runs/loops --like data/ild-reference.h5
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch

from anycalo.generate import generate
from anycalo.models import CaloClouds, load_model
from anycalo.showers import Incident, Showers


class InTorch(CaloClouds):
    """The same model without its loops."""

    @property
    def jumps(self) -> bool:
        """Never."""
        return False


def both() -> dict[str, CaloClouds]:
    """The shipped model, twice."""
    loops, torches = load_model("caloclouds-ild"), load_model("caloclouds-ild")
    torches.__class__ = InTorch
    return {"PyTorch": torches, "compiled loops": loops}  # type: ignore[dict-item]


def times(models: dict[str, CaloClouds], energy_mev: float, batch: int, calls: int) -> dict[str, list[float]]:
    """Processor's ms a shower of every call."""
    found: dict[str, list[float]] = {name: [] for name in models}
    incident = Incident("gamma", energy_mev=energy_mev, n=batch)
    for seed in range(calls + 1):
        for name, model in models.items():
            start = time.process_time()
            generate(model, model.domain.detector, incident, seed=seed, batch_size=batch)
            found[name].append(1000 * (time.process_time() - start) / batch)
    return {name: each[1:] for name, each in found.items()}  # the first call compiles


def main() -> None:
    """Print both."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--calls", type=int, default=300, help="of one shower; of a hundred, a twentieth")
    parser.add_argument("--like", type=Path, help="showers whose particles are generated both ways")
    parser.add_argument("--out", type=Path, default=Path("runs/loops"), help="folder for these")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    models = both()
    for batch, calls in ((1, arguments.calls), (100, max(arguments.calls // 20, 1))):
        for gev in (10, 50, 90):
            for name, each in times(models, 1000.0 * gev, batch, calls).items():
                low, median, high = np.quantile(each, [0.25, 0.5, 0.75])
                print(f"{gev} GeV, batch {batch}, {name}: {median:.2f} ms ({low:.2f} to {high:.2f})")
    if arguments.like is None:
        return
    truth = Showers.open(arguments.like)
    made = {name: generate(model, truth.detector, truth.incident, seed=1) for name, model in models.items()}
    arguments.out.mkdir(parents=True, exist_ok=True)
    for name, showers in made.items():
        showers.write(arguments.out / f"{name.split()[-1].lower()}.h5", overwrite=True)
    counts = [showers.layer_counts() for showers in made.values()]
    print(f"layers with another number of points: {(counts[0] != counts[1]).sum()} of {counts[0].size}")


if __name__ == "__main__":
    main()

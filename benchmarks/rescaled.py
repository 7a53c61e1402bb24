"""Showers of training detectors rescaled by the universal coordinates alone: the baseline without a network.

    python benchmarks/rescaled.py data/zoo data/fe-scint-test.h5 runs/rescaled/fe-scint.h5
    anycalo evaluate data/fe-scint-test.h5 runs/rescaled/fe-scint.h5

The incident particles are those of the second file. With --nearest K, donors come from the K detectors most like the
new one alone: nearest in the mean of each layer descriptor's logarithm, in standard deviations over the donors.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from anycalo.geometry import Detector
from anycalo.geometry.descriptors import LAYER, RANGED, layer_descriptors
from anycalo.models.rescaled import rescaled
from anycalo.showers import ShowerFile, Showers
from anycalo.train.data import read_showers


def nearest(donors: Sequence[Showers], detector: Detector, count: int) -> list[Showers]:
    """The batches of the detectors most like this one."""

    def summary(one: Detector) -> np.ndarray:
        table = layer_descriptors(one)[:, [LAYER.index(name) for name in RANGED]]
        return np.log(np.maximum(table, 1e-3)).mean(axis=0)

    table = np.stack([summary(batch.detector) for batch in donors])
    distance = (((table - summary(detector)) / table.std(axis=0)) ** 2).sum(axis=1)
    return [donors[k] for k in np.argsort(distance)[:count]]


def main() -> None:
    """See the module's text."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("donors", type=Path, help="folder of shower files of other detectors")
    parser.add_argument("like", type=Path, help="shower file whose detector and incident particles are taken")
    parser.add_argument("out", type=Path)
    parser.add_argument("--nearest", type=int)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    with ShowerFile(asked.like) as file:
        detector, incident = file.detector, file.incident()
    donors = [batch for batch in read_showers(asked.donors) if batch.detector.layers != detector.layers]
    if asked.nearest:
        donors = nearest(donors, detector, asked.nearest)
        print("donors:", ", ".join(batch.detector.name for batch in donors[:10]))
    asked.out.parent.mkdir(parents=True, exist_ok=True)
    rescaled(donors, detector, incident, seed=asked.seed).write(asked.out)
    print(f"{len(incident)} showers of {len(donors)} detectors in {asked.out}")


if __name__ == "__main__":
    main()

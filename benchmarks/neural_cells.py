"""What the CaloChallenge's network says of single cells, on real showers read out in few enough cells.

    python benchmarks/neural_cells.py data/ild-photons-test.h5 runs/matched.h5 --epochs 30

Both samples are read out again with square cells of one size around the axis; deposits outside are left out. The
network is trained once on truth against fast and once on one half of the truth against the other, each within the
same number of epochs. One thread; prints AUC and divergence with their bootstrap errors, and the time.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace

import numpy as np
import torch

from anycalo.evaluate.neural import NeuralSettings, cell_inputs, count_cells, neural_classifier
from anycalo.evaluate.resampling import match
from anycalo.geometry import Detector, Rectangular
from anycalo.showers import Showers


def coarse(detector: Detector, pitch_mm: float, size_mm: float) -> Detector:
    """The same layers with square cells of one size, and nothing beyond a square around the axis."""
    cells = Rectangular(pitch_mm=(pitch_mm, pitch_mm))
    return replace(detector.with_readout(cells), name=f"{detector.name}-coarse", size_mm=(size_mm, size_mm))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("truth")
    parser.add_argument("fast")
    parser.add_argument("--pitch", type=float, default=10.0, help="width of a cell in mm")
    parser.add_argument("--size", type=float, default=100.0, help="width of the square of cells in mm")
    parser.add_argument("--epochs", type=int, default=50)
    parser.add_argument("--no-floor", action="store_true", help="leave out Geant4 against Geant4")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    truth, fast = Showers.open(arguments.truth), Showers.open(arguments.fast)
    pairs = match(truth.incident, fast.incident)
    detector = coarse(truth.detector, arguments.pitch, arguments.size)
    x, y = (cell_inputs(s.seen_by(detector)) for s in (truth, fast))
    if pairs is not None:
        x, y = x[pairs[0]], y[pairs[1]]
    lit, share = ([f(t) for t in (x, y)] for f in (lambda t: t.nnz / t.shape[0] - 1, lambda t: t[:, 1:].sum() / t.shape[0]))
    print(f"{count_cells(detector):,} cells; truth and fast: {lit[0]:.0f} and {lit[1]:.0f} of them lit in a shower,")
    print(f"which hold {share[0]:.1f}% and {share[1]:.1f}% of incident energy x sampling fraction")
    settings = NeuralSettings(epochs=arguments.epochs, device="cpu")
    order = np.random.default_rng(1).permutation(x.shape[0])
    half = len(order) // 2
    runs = {"truth against fast": (x, y, pairs is not None)}
    if not arguments.no_floor:
        runs["halves of truth"] = (x[order[:half]], x[order[half : 2 * half]], False)
    for name, (a, b, matched) in runs.items():
        cpu = time.process_time()
        area, divergence = neural_classifier(
            a, b, matched=matched, rng=np.random.default_rng(0), n_bootstrap=400, settings=settings
        )
        print(
            f"{name}, {a.shape[0]} and {b.shape[0]} showers: AUC {area.value:.3f} +- {area.spread:.3f},"
            f" JSD {divergence.value:.3f} +- {divergence.spread:.3f} bit, {time.process_time() - cpu:.0f} s of CPU",
            flush=True,
        )


if __name__ == "__main__":
    main()

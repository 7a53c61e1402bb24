"""How far a model's means lie from Geant4's on detectors that it never saw: bias and scatter over many of them.

    anycalo simulate --zoo zoo-unseen -n 1440 --out data/zoo-unseen
    python benchmarks/unseen_detectors.py data/zoo-unseen anycalo-base runs/another --out runs/unseen

A sample of one detector tells one error; what a user's own detector will meet is how errors scatter from detector to detector.
Each model generates `--draws` showers for each Geant4 shower, from the same particle; y is the mean logarithm of a quantity of
theirs minus that of Geant4's. Of the means of y over the showers of a detector, which are few, most is noise. It drops out of
the products of two different showers of one detector: the mean of w_i y_i w_j y_j over all pairs estimates the squared error
of a detector without bias, where the weights w follow from how y spreads at the energy of the shower. Intervals (68 %) come
from detectors drawn again.

Nothing of these detectors is trained on, but models and settings may be chosen here: they are not the test.
"""

from __future__ import annotations

import argparse
import json
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

from anycalo.generate import generate
from anycalo.models import Model, load_model
from anycalo.readout import read_out
from anycalo.readout.view import View
from anycalo.showers import Showers
from anycalo.train.data import shower_files

QUANTITIES: dict[str, Callable[[View], np.ndarray]] = {
    "visible energy": lambda view: view.visible_mev,
    "cells above threshold": lambda view: view.hits,
    "lateral width": lambda view: np.sqrt(view.mean(view.r_mm**2)),
    "mean depth": lambda view: view.mean(view.depth_x0),
}
RESAMPLED = 500


def measured(showers: Showers) -> np.ndarray:
    """Logarithms of the quantities of each shower, (B, Q)."""
    view = View(read_out(showers), showers.incident)
    return np.asarray(np.log(np.column_stack([of(view) for of in QUANTITIES.values()]).clip(1e-9)))


def logarithms(model: Model, truths: Sequence[Showers], seed: int) -> np.ndarray:
    """The same of showers that a model generates from the particles of others, all detectors together."""
    # Random numbers follow from the seed and the place of a shower: with one seed for all, detectors would share them.
    fast = [generate(model, truth.detector, truth.incident, seed=seed + k) for k, truth in enumerate(truths)]
    return np.concatenate([measured(showers) for showers in fast])


def weights(y: np.ndarray, log_energy: np.ndarray) -> np.ndarray:
    """One over the variance of y at the energy of each shower: a parabola in its logarithm."""
    fit = np.polynomial.Polynomial.fit(log_energy, np.log(np.abs(y - y.mean()) + 1e-4), 2)
    return np.asarray(np.exp(-2 * fit(log_energy)))


def errors(y: np.ndarray, weight: np.ndarray, detector: np.ndarray) -> dict[str, list[float]]:
    """Bias and root mean square error of the detectors' means, each with its interval.

    Args:
        y: of each shower, (B,).
        weight: of each shower, (B,).
        detector: number of its detector, (B,).
    """

    def sums(values: np.ndarray) -> np.ndarray:
        return np.bincount(detector, values)

    one, squares = sums(weight * y), sums((weight * y) ** 2)
    total, total_squares = sums(weight), sums(weight**2)
    pairs, pair_weight = one**2 - squares, total**2 - total_squares
    # A detector counts by how well it is measured, less than in proportion, as its own error is of the same size.
    share = np.sqrt(pair_weight)

    def figures(chosen: np.ndarray) -> tuple[float, float]:
        square = (share * pairs / pair_weight)[chosen].sum() / share[chosen].sum()
        return float((share * one / total)[chosen].sum() / share[chosen].sum()), float(np.sign(square) * np.sqrt(abs(square)))

    rng = np.random.default_rng(1)
    found = figures(np.arange(len(total)))
    low, high = np.quantile([figures(rng.integers(0, len(total), len(total))) for _ in range(RESAMPLED)], [0.16, 0.84], axis=0)
    return {name: [found[k], float(low[k]), float(high[k])] for k, name in enumerate(("bias", "error"))}


def main() -> None:
    """Generate, compare, print, and write `table.md` and `results.json`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("zoo", type=Path)
    parser.add_argument("models", nargs="+")
    parser.add_argument("--seed", type=int, default=3)
    parser.add_argument("--draws", type=int, default=4)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    truths = [Showers.open(path) for path in shower_files(arguments.zoo)]
    truths = [truth[truth.visible_mev() > 0] for truth in truths]
    truths = [truth for truth in truths if len(truth) > 1]
    detector = np.repeat(np.arange(len(truths)), [len(truth) for truth in truths])
    log_energy = np.log(np.concatenate([truth.incident.energy_mev for truth in truths]).astype(np.float64))
    geant4 = np.concatenate([measured(truth) for truth in truths])
    results: dict[str, dict[str, dict[str, list[float]]]] = {}
    for name in arguments.models:
        model = load_model(name)
        draws = [logarithms(model, truths, arguments.seed + k * len(truths)) for k in range(arguments.draws)]
        difference = np.mean(draws, axis=0) - geant4
        results[name] = {}
        for k, quantity in enumerate(QUANTITIES):
            y = difference[:, k]
            results[name][quantity] = errors(y, weights(y, log_energy), detector)
    lines = [f"| {len(truths)} detectors | " + " | ".join(results) + " |", "|---|" + "---|" * len(results)]
    for quantity in QUANTITIES:
        for figure in ("bias", "error"):
            percent = [[100 * x for x in found[quantity][figure]] for found in results.values()]
            row = ["{:+.1f} % ({:+.1f} to {:+.1f})".format(*values) for values in percent]
            lines.append(f"| {quantity}, {figure} | " + " | ".join(row) + " |")
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "results.json").write_text(json.dumps(results, indent=2) + "\n")
    (arguments.out / "table.md").write_text("\n".join(lines) + "\n")
    print((arguments.out / "table.md").read_text())


if __name__ == "__main__":
    main()

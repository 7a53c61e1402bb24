"""Which part of `ild-ecal` a model has trouble with: its means on variants of the detector, against Geant4's.

    python benchmarks/ild_variants.py anycalo-base --out runs/ild-variants

Photons of one energy at normal incidence in the preset, in it without a field, and, without a field, with some of its slabs
left out or with all sensors facing forward. Geant4 showers are made where they are missing. Of each variant: how far the means
of the model are from Geant4's, and the spread of the visible energy. Nothing of this is a test sample.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from anycalo.generate import generate
from anycalo.geometry import Detector
from anycalo.geometry.detector import Slab
from anycalo.models import load_model
from anycalo.readout import read_out
from anycalo.readout.view import View
from anycalo.showers import Beam, Showers
from anycalo.simulate import simulate

PLASTIC = {"CarbonFibre", "Board", "Epoxy", "G4_AIR"}
DRAWS = 3


def with_slabs(detector: Detector, kept: Callable[[Slab], bool]) -> Detector:
    """Without a field, and without the slabs that are not kept; sensors and tungsten always are."""

    def whole(slab: Slab) -> bool:
        return slab.sensitive or slab.material == "G4_W" or kept(slab)

    sections = tuple(
        replace(section, layers=tuple(replace(layer, stack=tuple(filter(whole, layer.stack))) for layer in section.layers))
        for section in detector.sections
    )
    return replace(detector, sections=sections, field_tesla=0.0)


def variants() -> dict[str, Detector]:
    """By name."""
    whole = Detector.load("ild-ecal")
    forward = tuple(replace(section, layers=section.layers[:1], repeat=2 * section.repeat) for section in whole.sections)
    found = {
        "as it is": whole,
        "no field": replace(whole, field_tesla=0.0),
        "no sheets": with_slabs(whole, lambda slab: False),
        "plastic sheets alone": with_slabs(whole, lambda slab: slab.material in PLASTIC),
        "metal sheets alone": with_slabs(whole, lambda slab: slab.material not in PLASTIC),
        "sensors forward": replace(whole, sections=forward, field_tesla=0.0),
    }
    return {name: replace(detector, name=f"ild-{name.replace(' ', '-')}") for name, detector in found.items()}


def measured(showers: Showers) -> dict[str, np.ndarray]:
    """Quantities of each shower, (B,) each."""
    view = View(read_out(showers), showers.incident)
    width = (view.rms(view.x_mm) + view.rms(view.y_mm)) / 2
    return {"visible energy": view.visible_mev, "cells": view.hits.astype(float), "width": width}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("-n", type=int, default=160)
    parser.add_argument("--energy-mev", type=float, default=20_000.0)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    model, beam = load_model(arguments.model), Beam(particle="gamma", energy_mev=(arguments.energy_mev,) * 2)
    arguments.out.mkdir(parents=True, exist_ok=True)
    print(
        "| variant | visible energy | cells | width | spread of the visible energy, Geant4 and model |\n|---|---|---|---|---|"
    )
    for name, detector in variants().items():
        path = arguments.out / f"{detector.name}-{arguments.n}.h5"
        if not path.exists():
            simulate(detector, beam, arguments.n, path, seed=9)
        truth = Showers.open(path)
        of_truth = measured(truth)
        drawn = [measured(generate(model, detector, truth.incident, seed=seed)) for seed in range(1, DRAWS + 1)]
        of_fast = {quantity: np.concatenate([one[quantity] for one in drawn]) for quantity in of_truth}
        columns = []
        for quantity, a in of_truth.items():
            b = of_fast[quantity]
            error = np.hypot(a.std() / len(a) ** 0.5 / a.mean(), b.std() / len(b) ** 0.5 / b.mean())
            columns.append(f"{100 * (b.mean() / a.mean() - 1):+.1f} +- {100 * error:.1f} %")
        a, b = of_truth["visible energy"], of_fast["visible energy"]
        columns.append(f"{a.std() / a.mean():.3f} and {b.std() / b.mean():.3f}")
        print(f"| {name} | {' | '.join(columns)} |", flush=True)


if __name__ == "__main__":
    main()

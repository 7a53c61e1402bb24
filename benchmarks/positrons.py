"""Positrons as electrons mirrored in y, which embedded runs make of them: how far from Geant4's own positrons?

anycalo simulate ild-ecal --particle electron --energy 5GeV -n 100 --seed 11 --out electrons.h5
anycalo simulate ild-ecal --particle positron --energy 5GeV -n 100 --seed 12 --out positrons.h5
python benchmarks/positrons.py electrons.h5 positrons.h5
"""

from __future__ import annotations

import argparse

import numpy as np

from anycalo.evaluate import evaluate
from anycalo.showers import Incident, Showers


def mirrored(electrons: Showers) -> Showers:
    """Positrons of the same energies, with y turned around."""
    incident = electrons.incident
    return Showers(
        detector=electrons.detector,
        incident=Incident("positron", energy_mev=incident.energy_mev, direction=incident.direction * [1, -1, 1]),
        offsets=electrons.offsets,
        x_mm=electrons.x_mm,
        y_mm=-electrons.y_mm,
        layer=electrons.layer,
        energy_mev=electrons.energy_mev,
    )


def main() -> None:
    """Compare and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("electrons")
    parser.add_argument("positrons")
    arguments = parser.parse_args()
    truth, fast = Showers.open(arguments.positrons), mirrored(Showers.open(arguments.electrons))
    for name, showers in (("positrons", truth), ("mirrored electrons", fast)):
        visible = showers.visible_mev()
        side = np.bincount(showers.shower, weights=showers.energy_mev * showers.y_mm, minlength=len(showers)) / visible
        columns = (("visible energy [MeV]", visible), ("points", showers.counts), ("centre in y [mm]", side))
        text = (f"{what} {np.mean(v):.2f} +- {np.std(v) / len(v) ** 0.5:.2f}" for what, v in columns)
        print(f"{name}: {', '.join(text)}")
    result = evaluate(truth, fast, metrics="none", seed=1)
    for entry in sorted(result.observables.values(), key=lambda o: -o.w1_ratio):
        print(f"{entry.title}: W1 / floor {entry.w1_ratio:.2f} ({entry.w1_ratio_ci[0]:.2f} to {entry.w1_ratio_ci[1]:.2f})")


if __name__ == "__main__":
    main()

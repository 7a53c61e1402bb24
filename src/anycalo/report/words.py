"""How samples, energies and events are named in titles and captions."""

from __future__ import annotations

import re

from anycalo.showers import PARTICLE, Showers


def energy(mev: float) -> str:
    """An energy in the unit that reads best.

    Example:
        >>> energy(50_000), energy(12.34)
        ('50 GeV', '12.3 MeV')
    """
    for factor, unit in ((1e6, "TeV"), (1e3, "GeV"), (1.0, "MeV")):
        if mev >= factor:
            return f"{mev / factor:.3g} {unit}"
    return f"{mev * 1e3:.3g} keV"


def sample(showers: Showers) -> str:
    """Where a sample comes from, in two or three words: the generator, for Geant4 with its version."""
    name = str(showers.provenance.get("generator") or "unknown origin")
    version = str(showers.provenance.get("geant4_version") or "")
    if name != "Geant4" or not version:
        return name
    tag = re.fullmatch(r"geant4-(\d+)-(\d+)(?:-patch-(\d+))?", version)
    return f"Geant4 {'.'.join(str(int(n)) for n in tag.groups() if n)}" if tag else f"Geant4 {version}"


def incident(showers: Showers) -> str:
    """Particles and the range of their energies."""
    low, high = float(showers.incident.energy_mev.min()), float(showers.incident.energy_mev.max())
    span = energy(low) if high <= low * 1.0001 else f"{energy(low)} to {energy(high)}"
    return f"{' and '.join(showers.incident.particles)}, {span}"


def event(showers: Showers, index: int) -> str:
    """Particle, energy, angle if it is not normal, and detector of one shower."""
    one = showers.incident[slice(index, index + 1)]
    angle = float(one.theta_rad[0])
    tilt = f" at {angle:.3f} rad" if angle > 1e-3 else ""
    return f"{PARTICLE[int(one.pdg[0])]}, {energy(float(one.energy_mev[0]))}{tilt}, {showers.detector.name}"

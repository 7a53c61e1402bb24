"""Whether two samples may be compared at all, and what limits the comparison."""

from __future__ import annotations

from difflib import unified_diff

import numpy as np
from scipy.stats import chi2_contingency, ks_2samp

from anycalo.errors import EvaluationError
from anycalo.showers import Showers

MIN_SHOWERS = 10
"""Fewest showers of a sample; fewer cannot be divided into halves that say anything."""
P_VALUE = 1e-4
"""Incident particles differ clearly below this probability."""
_SHARED = 0.01


def check_comparable(truth: Showers, other: Showers, what: str) -> None:
    """Refuse samples whose comparison would mean nothing.

    Args:
        truth: the Geant4 showers.
        other: the showers to compare them with.
        what: what to call them in the message, `fast` or `floor`.

    Raises:
        EvaluationError: for different detectors, different particles, or too few showers.
    """
    for name, showers in (("truth", truth), (what, other)):
        if len(showers) < MIN_SHOWERS:
            raise EvaluationError(f"the {name} sample has {len(showers)} showers; expected at least {MIN_SHOWERS}")
    if truth.detector != other.detector:
        lines = unified_diff(truth.detector.to_toml().splitlines(), other.detector.to_toml().splitlines(), lineterm="", n=0)
        changed = [line for line in lines if line[:1] in "+-" and line[:3] not in ("+++", "---")]
        raise EvaluationError(
            f"the truth showers are of '{truth.detector.name}' and the {what} showers of '{other.detector.name}', which"
            f" differ in {len(changed)} lines of their description, first '{changed[0][1:].strip()}';"
            " expected one detector: generate the showers with that of the truth file"
        )
    if truth.incident.particles != other.incident.particles:
        raise EvaluationError(
            f"the truth particles are {', '.join(truth.incident.particles)} and the {what} ones"
            f" {', '.join(other.incident.particles)};"
            " expected the same: generate the showers for the particles of the truth file (--like)"
        )


def incident_warnings(truth: Showers, other: Showers, what: str) -> list[str]:
    """Clear differences of the incident energies, directions or particle fractions, one sentence each."""
    found = []
    remedy = "distances then measure the beams too; generate the showers for the particles of the truth file (--like)"
    a, b = truth.incident, other.incident
    for quantity, x, y, unit in (
        ("energies", a.energy_mev, b.energy_mev, "MeV"),
        ("angles to the normal", a.theta_rad, b.theta_rad, "rad"),
    ):
        p = ks_2samp(x, y, method="asymp").pvalue
        if p < P_VALUE:
            found.append(
                f"incident {quantity} differ between truth (mean {x.mean():.6g} {unit}) and {what}"
                f" (mean {y.mean():.6g} {unit}), Kolmogorov-Smirnov p = {p:.1g}; {remedy}"
            )
    codes = np.unique(a.pdg)
    if len(codes) > 1:
        counts = np.array([[np.count_nonzero(i.pdg == c) for c in codes] for i in (a, b)])
        p = chi2_contingency(counts).pvalue
        if p < P_VALUE:
            found.append(f"fractions of {', '.join(a.particles)} differ between truth and {what}, chi2 p = {p:.1g}; {remedy}")
    return found


def shared_showers(truth: Showers, other: Showers) -> int:
    """How many showers of `other` are also in `truth`: those of exactly equal visible energy, if too many for chance."""
    both = np.intersect1d(truth.visible_mev(), other.visible_mev())
    shared = int(np.count_nonzero(both > 0))
    return shared if shared > _SHARED * min(len(truth), len(other)) else 0

"""What gives away a file whose energies are all in one wrong unit: how deep its showers are.

Visible over incident energy is right in such a file. But showers grow deeper with the logarithm of their energy,
by 6.9 radiation lengths for a factor of a thousand, whatever the calorimeter.

References:
    Longo and Sestili, Nucl. Instrum. Meth. 128 (1975) 283: the profile is a gamma distribution.
    Particle Data Group, "Passage of particles through matter": its maximum and its shape.
"""

from __future__ import annotations

import numpy as np
from scipy.special import gammainc

from anycalo.geometry import Detector
from anycalo.geometry.derived import critical_energy_mev, depth_x0, layer_front_x0, layer_thickness_x0
from anycalo.showers.incident import Incident
from anycalo.showers.showers import Showers

FACTOR = 1e3
"""Between keV, MeV, GeV and TeV."""
# Of the gamma distribution in depth, per X0 (PDG), and of the mean depth: ln(E / E_c) + 1.1, within 0.6 X0 of the Geant4
# showers of 41 different calorimeters, once cut at the end of the detector.
_FALL, _OFFSET = 0.5, 1.1
# Showers have another depth than they should, in X0, if they are this far from it, and a thousand times the energy comes this
# many times nearer.
_FAR, _NEARER = 3.0, 2.0
_SHOWERING = (22, 11, -11)


def expected_depth_x0(detector: Detector, incident: Incident, factor: float = 1.0) -> np.ndarray:
    """Mean depth of the energy of photons and electrons along the normal, in X0, cut at the end of the detector.

    Args:
        detector: whose critical energy and thickness.
        incident: B particles.
        factor: their energies are multiplied by it.

    Returns:
        Shape (B,).
    """
    slant = incident.direction[:, 2].astype(np.float64)
    energy = incident.energy_mev.astype(np.float64) * factor
    mean = np.maximum(np.log(energy / critical_energy_mev(detector)) + _OFFSET, 1.0)
    end = _FALL * depth_x0(detector) / slant
    return np.asarray(slant * mean * gammainc(_FALL * mean + 1, end) / gammainc(_FALL * mean, end))


def wrong_by(showers: Showers) -> tuple[float, float, float] | None:
    """The factor of a thousand by which all energies seem too small or too large, if they do.

    Only photons and electrons can tell; hadrons shower where they will. A detector too thin to hold a shower does not tell.

    Returns:
        The factor that mends them, the mean depth found and that expected [X0]; or None.
    """
    visible = showers.layer_energy_mev()
    total = visible.sum(axis=1)
    telling = np.isin(showers.incident.pdg, _SHOWERING) & (total > 0)
    if not telling.any():
        return None
    detector, incident = showers.detector, showers.incident[telling]
    depth = layer_front_x0(detector) + layer_thickness_x0(detector) / 2
    found = float((visible[telling] @ depth / total[telling]).mean())
    expected = float(expected_depth_x0(detector, incident).mean())
    for factor in (FACTOR, 1 / FACTOR):
        other = float(expected_depth_x0(detector, incident, factor).mean())
        if abs(found - expected) > max(_FAR, _NEARER * abs(found - other)):
            return factor, found, expected
    return None

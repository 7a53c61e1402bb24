"""Separation powers in the bins of the CaloChallenge, for comparison with published tables.

The bins are those of its evaluation of data sets 2 and 3 (arXiv 2410.21611 and its public code): 100
of the response from 0.5 to 1.5, 40 logarithmic ones of the energy of each layer, 100 from -30 to 30 mm
of each layer's centre of energy, 100 from 0 to 30 mm of its widths, 50 logarithmic ones of the energies
of cells. Logarithmic bins reach from the threshold to the highest value of the truth; what lies outside the bins is
left out. Two things differ, since its energies are corrected for the sampling fraction: the response is
divided by the truth's mean response, and cells are measured in MIPs.
"""

from __future__ import annotations

import numpy as np

from anycalo.evaluate.distances import separation_power
from anycalo.evaluate.high_level import SHOWER_COLUMNS, layer_features
from anycalo.evaluate.metrics import Halves
from anycalo.evaluate.observables import OBSERVABLES
from anycalo.evaluate.results import SeparationResult
from anycalo.geometry import Detector
from anycalo.geometry.derived import mip_mev

N_DIVISIONS = 50
"""Pairs of Geant4 halves behind every floor."""
_LAYER_BINS, _CELL_BINS, _LINEAR_BINS = 40, 50, 100
_REACH_MM = 30.0
_TITLES = {
    "response": "Response over its mean",
    "layer_energy": "Energy of each layer",
    "centre_x": "Centre of energy in x of each layer",
    "centre_y": "Centre of energy in y of each layer",
    "width_x": "Width in x of each layer",
    "width_y": "Width in y of each layer",
    "cell_energy": "Energies of cells",
}


def separation_powers(
    detector: Detector,
    features: list[np.ndarray],
    spectra: list[np.ndarray],
    halves: Halves,
    *,
    seed: int,
) -> dict[str, SeparationResult]:
    """Separation powers of the CaloChallenge's histograms, with floors.

    Args:
        detector: where the showers happened.
        features: high-level features of the truth, the fast and, if there is one, the floor sample, each (B, F).
        spectra: the observable `cell_energy` of the same samples, each (B, K).
        halves: how Geant4 showers are divided.
        seed: of the divisions.
    """
    rng = np.random.default_rng([seed, 5])
    # One row a comparison: first truth against fast, then Geant4 against Geant4, as multiplicities of all showers.
    n_truth, n_fast = halves.n_truth, halves.n_fast
    total = sum(map(len, features))
    a, b = (np.zeros((1 + N_DIVISIONS, total), dtype=np.float32) for _ in range(2))
    a[0, :n_truth], b[0, n_truth : n_truth + n_fast] = 1, 1
    geant4 = np.concatenate([np.arange(n_truth), np.arange(n_truth + n_fast, total)])
    for row in range(1, 1 + N_DIVISIONS):
        i, j = halves.geant4(rng)
        a[row, geant4[i]], b[row, geant4[j]] = 1, 1

    found = {}
    for name, contents in _histograms(detector, features, n_truth):
        powers = np.stack([separation_of(a @ c, b @ c) for c in contents], axis=1)
        floor = halves.factor**2 * powers[1:].mean(axis=0)
        found[name] = _result(name, powers[0], floor)
    coordinate = OBSERVABLES["cell_energy"].coordinate
    steps = coordinate(detector) if coordinate is not None else np.empty(0)
    top = 10 ** (steps[np.flatnonzero(spectra[0].sum(axis=0))[-1]] + 0.01)
    edges = np.log10(np.geomspace(detector.threshold_mip or 1e-3, top, _CELL_BINS + 1))
    cells = _binned(np.concatenate(spectra), steps, edges)
    powers = separation_of(a @ cells, b @ cells)[:, None]
    found["cell_energy"] = _result("cell_energy", powers[0], halves.factor**2 * powers[1:].mean(axis=0))
    return found


def separation_of(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """`separation_power` of histograms that may be empty: then not a number, shape (R, K) to (R,)."""
    with np.errstate(invalid="ignore"):
        return separation_power(p, q)


def _histograms(detector: Detector, features: list[np.ndarray], n_truth: int) -> list[tuple[str, list[np.ndarray]]]:
    """Every histogram: its name, and for each layer the bin of each shower, one-hot, shape (N, bins)."""
    table = np.concatenate(features).astype(np.float64)
    response = table[:, SHOWER_COLUMNS.index("response")]
    visible = response * 10 ** table[:, SHOWER_COLUMNS.index("log_incident_energy")]
    out = [("response", [one_hot(response / response[:n_truth].mean(), np.linspace(0.5, 1.5, _LINEAR_BINS + 1))])]
    energy = visible[:, None] * layer_features(table, detector, "energy_share")
    lowest = np.maximum(detector.threshold_mip * mip_mev(detector), 1e-6)
    highest = np.maximum(energy[:n_truth].max(axis=0), 2 * lowest)
    edges = np.geomspace(lowest, highest, _LAYER_BINS + 1)
    # Half a rounding of float32 above the highest value, which belongs to the last bin.
    edges[-1] *= 1 + 1e-6
    out.append(("layer_energy", [one_hot(energy[:, k], edges[:, k]) for k in range(detector.n_layers)]))
    for name in ("centre_x", "centre_y", "width_x", "width_y"):
        low = -_REACH_MM if name.startswith("centre") else 0.0
        bins = np.linspace(low, _REACH_MM, _LINEAR_BINS + 1)
        values = layer_features(table, detector, name)
        out.append((name, [one_hot(values[:, k], bins) for k in range(detector.n_layers)]))
    return out


def one_hot(values: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """The bin of each value, nothing outside the edges; the last bin holds its upper edge; shape (N, bins)."""
    index = np.searchsorted(edges, values, side="right") - 1
    index[values == edges[-1]] = len(edges) - 2
    inside = np.flatnonzero((index >= 0) & (index < len(edges) - 1))
    out = np.zeros((len(values), len(edges) - 1), dtype=np.float32)
    out[inside, index[inside]] = 1
    return out


def _binned(weights: np.ndarray, coordinate: np.ndarray, edges: np.ndarray) -> np.ndarray:
    return np.asarray(weights.astype(np.float32) @ one_hot(coordinate, edges))


def _result(name: str, powers: np.ndarray, floors: np.ndarray) -> SeparationResult:
    known = np.isfinite(powers) & np.isfinite(floors)
    layers = tuple(float(p) if k else None for p, k in zip(powers, known, strict=True)) if len(powers) > 1 else ()
    return SeparationResult(
        title=_TITLES[name],
        separation=float(powers[known].mean()) if known.any() else float("nan"),
        separation_floor=float(floors[known].mean()) if known.any() else float("nan"),
        layers=layers,
    )

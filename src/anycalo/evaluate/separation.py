"""Two photons side by side: how often both are found, against the distance between them.

Showers of one sample are laid over one another at random distances, read out together, projected along
their direction onto the front face and clustered with CLUE (`clue.py`). What a surrogate
gets wrong in the core of a shower, its tails and its clumps shows here as a wrong efficiency.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np
from scipy.stats import beta, chi2

from anycalo.errors import EvaluationError
from anycalo.evaluate.checks import check_comparable, incident_warnings
from anycalo.evaluate.clue import ClueSettings, clue
from anycalo.evaluate.resampling import match
from anycalo.geometry import Detector
from anycalo.geometry.derived import moliere_radius_mm
from anycalo.readout import Cells, cell_index, read_out
from anycalo.showers import Incident, Showers

MAX_SPREAD_RAD = 0.02
"""Largest angle between directions of a sample: two photons are projected along one direction."""
_BLOCK = 200
_LEVEL = 0.95


@dataclass(frozen=True, kw_only=True)
class PairSettings:
    """How pairs are made and when both photons count as found.

    Args:
        n_pairs: number of pairs.
        max_distance_mm: distances are uniform from 0 to this.
        n_bins: bins of the distance.
        density_radius_rm, seed_distance_rm, outlier_distance_rm: CLUE's distances in Molière radii of the detector.
        density_radius_cells, seed_distance_cells: the least that the first two may be, in widths of a cell.
        min_density_share: CLUE's smallest density of a seed, over the energy of all cells.
        min_energy_share: a cluster below this share of the energy of all cells is not a photon.
    """

    n_pairs: int = 2000
    max_distance_mm: float = 60.0
    n_bins: int = 24
    density_radius_rm: float = 0.35
    seed_distance_rm: float = 0.5
    outlier_distance_rm: float = 2.0
    density_radius_cells: float = 1.1
    seed_distance_cells: float = 1.6
    min_density_share: float = 0.04
    min_energy_share: float = 0.08

    def __post_init__(self) -> None:
        if self.n_pairs < self.n_bins or self.n_bins < 1 or not self.max_distance_mm > 0:
            raise EvaluationError(
                f"{self.n_pairs} pairs in {self.n_bins} bins up to {self.max_distance_mm} mm; expected at least one bin,"
                " as many pairs, and a distance above 0"
            )

    def clue(self, detector: Detector, energy_mev: float) -> ClueSettings:
        """CLUE's parameters for one event."""
        radius, cell = moliere_radius_mm(detector), cell_width_mm(detector)
        return ClueSettings(
            density_radius=max(self.density_radius_rm * radius, self.density_radius_cells * cell),
            min_density=self.min_density_share * energy_mev,
            seed_distance=max(self.seed_distance_rm * radius, self.seed_distance_cells * cell),
            outlier_distance=self.outlier_distance_rm * radius,
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Separation:
    """Efficiencies to find both photons.

    Args:
        edges_mm: of the bins of the distance, shape (K + 1,).
        n_truth, n_fast: pairs in each bin, shape (K,).
        found_truth, found_fast: of these, pairs with both photons found, shape (K,).
        chi2, p_value: of the two samples having the same efficiency in every bin.
        settings: how pairs were made.
        warnings: sentences about what limits the comparison.
        provenance: of both samples.
    """

    edges_mm: np.ndarray
    n_truth: np.ndarray
    n_fast: np.ndarray
    found_truth: np.ndarray
    found_fast: np.ndarray
    chi2: float
    p_value: float
    settings: PairSettings
    warnings: tuple[str, ...]
    provenance: dict[str, Any]

    @staticmethod
    def of(
        truth: tuple[np.ndarray, np.ndarray],
        fast: tuple[np.ndarray, np.ndarray],
        settings: PairSettings,
        *,
        warnings: tuple[str, ...] = (),
        provenance: dict[str, Any],
    ) -> Separation:
        """From the distance [mm] of each pair and whether both photons were found, of each sample."""
        edges = np.linspace(0, settings.max_distance_mm, settings.n_bins + 1)
        (n_truth, found_truth), (n_fast, found_fast) = (
            (np.histogram(distance, edges)[0], np.histogram(distance[found], edges)[0]) for distance, found in (truth, fast)
        )
        statistic, freedom = _chi2(found_truth, n_truth, found_fast, n_fast)
        return Separation(
            edges_mm=edges,
            n_truth=n_truth,
            n_fast=n_fast,
            found_truth=found_truth,
            found_fast=found_fast,
            chi2=statistic,
            p_value=float(chi2.sf(statistic, freedom)) if freedom else float("nan"),
            settings=settings,
            warnings=warnings,
            provenance=provenance,
        )

    def efficiency(self, sample: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Efficiency of `truth` or `fast` in each bin, and the ends of its 95% Clopper-Pearson interval, each (K,)."""
        n, found = (self.n_truth, self.found_truth) if sample == "truth" else (self.n_fast, self.found_fast)
        with np.errstate(invalid="ignore"):
            return found / n, *clopper_pearson(found, n)

    def half_mm(self, sample: str) -> float:
        """Distance at which the efficiency first crosses one half, between bin centres; not a number if it does not."""
        efficiency, _, _ = self.efficiency(sample)
        centres = (self.edges_mm[:-1] + self.edges_mm[1:]) / 2
        for k in range(1, len(centres)):
            low, high = efficiency[k - 1], efficiency[k]
            if low < 0.5 <= high:
                return float(centres[k - 1] + (0.5 - low) / (high - low) * (centres[k] - centres[k - 1]))
        return float("nan")

    def to_dict(self) -> dict[str, Any]:
        """JSON values, but for numbers that are not finite."""
        out: dict[str, Any] = {"edges_mm": self.edges_mm.tolist()}
        for sample, n, found in (("truth", self.n_truth, self.found_truth), ("fast", self.n_fast, self.found_fast)):
            efficiency, low, high = self.efficiency(sample)
            out[sample] = {
                "pairs": n.tolist(),
                "found": found.tolist(),
                "efficiency": efficiency.tolist(),
                "low": low.tolist(),
                "high": high.tolist(),
                "half_mm": self.half_mm(sample),
            }
        return {
            **out,
            "chi2": self.chi2,
            "p_value": self.p_value,
            "settings": vars(self.settings),
            "interval": _LEVEL,
            "warnings": list(self.warnings),
            "provenance": self.provenance,
        }


def clopper_pearson(found: np.ndarray, n: np.ndarray, level: float = _LEVEL) -> tuple[np.ndarray, np.ndarray]:
    """Ends of the exact binomial interval, each (K,)."""
    tail = (1 - level) / 2
    low = np.where(found > 0, beta.ppf(tail, np.maximum(found, 1), n - found + 1), 0.0)
    high = np.where(found < n, beta.ppf(1 - tail, found + 1, np.maximum(n - found, 1)), 1.0)
    return low, high


def separate(
    truth: Showers,
    fast: Showers,
    *,
    settings: PairSettings | None = None,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Separation:
    """Efficiency to find two photons against their distance, for truth and fast.

    Where both samples are of the same particles, the same pairs at the same distances are made of both.

    Args:
        truth: Geant4 showers.
        fast: showers to judge, of the same detector and particles.
        settings: how pairs are made.
        seed: of pairs, distances and azimuths.
        progress: called with the pairs done and their total.

    Raises:
        EvaluationError: for samples that cannot be compared or whose directions differ.
    """
    settings = PairSettings() if settings is None else settings
    if seed < 0:
        raise EvaluationError(f"seed is {seed}; expected a whole number of at least 0")
    check_comparable(truth, fast, "fast")
    for what, showers in (("truth", truth), ("fast", fast)):
        _check_directions(what, showers.incident)
    pairs = match(truth.incident, fast.incident)
    warnings = [] if pairs is not None else incident_warnings(truth, fast, "fast")
    if pairs is not None:
        truth, fast = truth[pairs[0]], fast[pairs[1]]
    distances, both = [], []
    for turn, showers in enumerate((truth, fast)):
        rng = np.random.default_rng([seed, 8, 0 if pairs is not None else turn])
        distance = rng.uniform(0, settings.max_distance_mm, settings.n_pairs)
        found = np.zeros(settings.n_pairs, dtype=bool)
        for start in range(0, settings.n_pairs, _BLOCK):
            here = slice(start, min(start + _BLOCK, settings.n_pairs))
            first, second = _draw_pairs(len(showers), len(distance[here]), rng)
            found[here] = find_both(showers, first, second, distance[here], rng, settings)
            if progress is not None:
                progress(turn * settings.n_pairs + here.stop, 2 * settings.n_pairs)
        distances.append(distance)
        both.append(found)
    return Separation.of(
        (distances[0], both[0]),
        (distances[1], both[1]),
        settings,
        warnings=tuple(warnings),
        provenance={"truth": truth.provenance, "fast": fast.provenance, "detector": truth.detector.name, "seed": seed},
    )


def find_both(
    showers: Showers,
    first: np.ndarray,
    second: np.ndarray,
    distance_mm: np.ndarray,
    rng: np.random.Generator,
    settings: PairSettings,
) -> np.ndarray:
    """Whether both photons are found: each has a cluster of its own nearest to it, bool (P,).

    Args:
        showers: to take photons from.
        first: of each of P pairs one shower, int64 (P,).
        second: the other, likewise.
        distance_mm: between their axes at the front face, shape (P,).
        rng: draws the azimuths.
        settings: of CLUE and of what counts as a photon.
    """
    azimuth = rng.uniform(0, 2 * np.pi, len(first))
    half = distance_mm[:, None] / 2 * np.column_stack([np.cos(azimuth), np.sin(azimuth)])
    return both_found(overlay(showers, first, second, half), half, settings)


def both_found(
    pairs: Showers, half_mm: np.ndarray, settings: PairSettings, *, middle_mm: np.ndarray | None = None
) -> np.ndarray:
    """Whether both photons of each pair are found: each has a cluster of its own nearest to it, bool (P,).

    Args:
        pairs: P showers of two photons each.
        half_mm: from the middle of a pair to one of its photons at the front face, (P, 2).
        settings: of CLUE and of what counts as a photon.
        middle_mm: the middle of each pair at the front face, (P, 2); the origin by default.
    """
    middle = np.zeros_like(half_mm) if middle_mm is None else middle_mm
    cells = read_out(pairs)
    x, y = project(cells, pairs.incident)
    starts = np.searchsorted(cells.shower, np.arange(len(pairs) + 1))
    found = np.zeros(len(pairs), dtype=bool)
    for pair, (a, b) in enumerate(pairwise(starts)):
        # Cells behind one another are one point.
        place, of_point = np.unique(np.round(np.column_stack([x[a:b], y[a:b]]), 3), axis=0, return_inverse=True)
        energy = np.bincount(of_point.ravel(), weights=cells.energy_mev[a:b], minlength=len(place))
        if len(place) < 2:
            continue
        total = float(energy.sum())
        cluster = clue(place, energy, settings.clue(pairs.detector, total))
        inside = cluster >= 0
        sums = np.bincount(cluster[inside], weights=energy[inside])
        with np.errstate(invalid="ignore"):
            centre = np.column_stack([np.bincount(cluster[inside], weights=(energy * p)[inside]) / sums for p in place.T])
        large = sums >= settings.min_energy_share * total
        # Which side of the middle of the two photons each cluster lies on.
        side = (centre[large] - middle[pair]) @ half_mm[pair]
        found[pair] = bool((side > 0).any() and (side < 0).any())
    return found


def overlay(showers: Showers, first: np.ndarray, second: np.ndarray, half_mm: np.ndarray) -> Showers:
    """P showers, each of two: the first moved by `half_mm`, shape (P, 2), the second by its opposite.

    The incident particle is the first with the energy of both, its direction that of the first.
    """
    a, b = showers[first], showers[second]
    shift = np.concatenate([np.repeat(half_mm, a.counts, axis=0), np.repeat(-half_mm, b.counts, axis=0)])
    pair = np.concatenate([a.shower, b.shower])
    order = np.argsort(pair, kind="stable")

    def joined(name: str) -> np.ndarray:
        return np.concatenate([getattr(a, name), getattr(b, name)])

    return Showers(
        detector=showers.detector,
        incident=Incident(
            a.incident.pdg, energy_mev=a.incident.energy_mev + b.incident.energy_mev, direction=a.incident.direction
        ),
        offsets=np.concatenate([[0], np.cumsum(a.counts + b.counts)]),
        x_mm=(joined("x_mm") + shift[:, 0])[order],
        y_mm=(joined("y_mm") + shift[:, 1])[order],
        layer=joined("layer")[order],
        energy_mev=joined("energy_mev")[order],
        provenance=showers.provenance,
    )


@lru_cache(maxsize=32)
def cell_width_mm(detector: Detector) -> float:
    """Width of the cells around the axis, of the coarsest layer: that of those crossed by lines along x and y."""
    reach = 4 * moliere_radius_mm(detector)
    along = np.linspace(-reach, reach, 2001)
    aside = np.full(len(along), reach / 1000)  # off the axis, where the sectors of a polar readout meet
    widths = []
    for readout in dict.fromkeys(layer.readout for layer in detector.layers):
        for x, y in ((along, aside), (aside, along)):
            cells = cell_index(readout, detector.size_mm, x, y)
            widths.append(2 * reach / max(1, len(np.unique(cells[cells >= 0]))))
    return max(widths)


def project(cells: Cells, incident: Incident) -> tuple[np.ndarray, np.ndarray]:
    """Positions of cells moved along the particle's direction to the front face [mm], each (C,)."""
    slope = incident.direction[:, :2].astype(np.float64) / incident.direction[:, 2:]
    moved = slope[cells.shower] * cells.z_mm[:, None]
    return cells.x_mm - moved[:, 0], cells.y_mm - moved[:, 1]


def _draw_pairs(n: int, n_pairs: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    first = rng.integers(0, n, n_pairs)
    return first, (first + rng.integers(1, n, n_pairs)) % n


def _check_directions(what: str, incident: Incident) -> None:
    mean = incident.direction.mean(axis=0)
    mean = mean / np.linalg.norm(mean)
    angle = float(np.arccos(np.clip(incident.direction @ mean, -1, 1)).max())
    if angle > MAX_SPREAD_RAD:
        raise EvaluationError(
            f"directions of the {what} showers lie up to {angle:.3f} rad from their mean; expected at most"
            f" {MAX_SPREAD_RAD} rad, since two photons are projected along one direction: simulate and generate showers of a"
            " fixed direction"
        )


def _chi2(found_a: np.ndarray, n_a: np.ndarray, found_b: np.ndarray, n_b: np.ndarray) -> tuple[float, int]:
    """Of equal efficiencies in every bin, and its degrees of freedom: bins in which they are not all found, or none."""
    total, found = n_a + n_b, found_a + found_b
    free = (n_a > 0) & (n_b > 0) & (found > 0) & (found < total)
    p = found[free] / total[free]
    difference = found_a[free] / n_a[free] - found_b[free] / n_b[free]
    return float((difference**2 / (p * (1 - p) * (1 / n_a[free] + 1 / n_b[free]))).sum()), int(free.sum())

"""Showers compared in several segmentations of the same layers, with the observables of arXiv 2305.11531.

Any showers in the same stack of layers can be compared: their points are read out in each segmentation anew, whatever
made them, so that Geant4, cell-wise and point-wise models stand in one table.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from anycalo.errors import EvaluationError
from anycalo.evaluate.distances import w1, wasserstein
from anycalo.geometry import Detector
from anycalo.readout import Cells, read_out
from anycalo.showers import Showers


def layer_observables(cells: Cells, layer: int) -> dict[str, np.ndarray]:
    """Energy-weighted means and widths over the cells of one layer, and what it holds, (B,) each.

    With M cells of energy E_i at x_i,

        mean = sum E_i x_i / sum E_i,   width^2 = sum E_i (x_i - mean)^2 / ((M - 1)/M sum E_i).

    Args:
        cells: of B showers; eta runs along x and phi along y, in mm.
        layer: number of the layer.

    Returns:
        `energy` in MeV and `hits`, and not a number where it has no meaning: `mean_eta` and `mean_phi` without a cell,
        `width_eta` and `width_phi` with fewer than two.

    References:
        J. Liu et al., JINST 18 P11003 (arXiv 2305.11531).
    """
    here = cells.layer == layer
    shower, energy = cells.shower[here], cells.energy_mev[here]

    def total(weights: np.ndarray) -> np.ndarray:
        return np.bincount(shower, weights=weights, minlength=cells.n_showers)

    sum_, hits = total(energy), np.bincount(shower, minlength=cells.n_showers).astype(np.float64)
    out = {"energy": sum_, "hits": hits}
    with np.errstate(divide="ignore", invalid="ignore"):
        for axis, x in (("eta", cells.x_mm[here]), ("phi", cells.y_mm[here])):
            mean = total(energy * x) / sum_
            variance = total(energy * (x - mean[shower]) ** 2) / ((hits - 1) / hits * sum_)
            out[f"mean_{axis}"] = np.where(hits > 0, mean, np.nan)
            out[f"width_{axis}"] = np.where(hits > 1, np.sqrt(variance), np.nan)
    return out


def layer_distances(cells: Cells, front: int, back: int) -> dict[str, np.ndarray]:
    """Distances C_eta and C_phi of the energy-weighted means of two layers in mm, (B,) each: back minus front."""
    a, b = layer_observables(cells, front), layer_observables(cells, back)
    return {f"c_{axis}": b[f"mean_{axis}"] - a[f"mean_{axis}"] for axis in ("eta", "phi")}


def average_image(cells: Cells, layer: int, n_cells: int) -> np.ndarray:
    """Mean energy of each cell of a layer over the showers in MeV, shape (n_cells,), by the cells' own numbers."""
    here = cells.layer == layer
    return np.asarray(np.bincount(cells.cell[here], weights=cells.energy_mev[here], minlength=n_cells) / cells.n_showers)


@dataclass(frozen=True, kw_only=True)
class SegmentationResult:
    """One observable of one sample in one segmentation.

    Args:
        segmentation, layer, observable, sample: what was compared.
        w1: Wasserstein-1 distance to the truth, in the observable's unit.
        interval: its 95 % bootstrap interval over showers of both samples.
        floor: the same distance between independent Geant4 samples of these sizes, on average.
        truth_mean, mean: of the observable in the truth and in the sample.
    """

    segmentation: str
    layer: int
    observable: str
    sample: str
    w1: float
    interval: tuple[float, float]
    floor: float
    truth_mean: float
    mean: float

    @property
    def ratio(self) -> float:
        """Distance in floors, about 1 for a perfect model; not a number where Geant4 has one value alone."""
        return self.w1 / self.floor if self.floor > 0 else float("nan")


def compare(
    segmentation: str,
    layer: int,
    truth: Mapping[str, np.ndarray],
    reference: Mapping[str, np.ndarray],
    samples: Mapping[str, Mapping[str, np.ndarray]],
    *,
    resamples: int = 200,
    seed: int = 1,
) -> list[SegmentationResult]:
    """Distances of each sample to the truth, for every observable, with floors.

    The floor pools truth and reference (both Geant4), draws from it, with replacement, two samples of the sizes compared,
    and averages their distance.

    Args:
        segmentation: its name, for the results.
        layer: likewise.
        truth: observables of Geant4 showers, (B,) each, as `layer_observables` gives them; numbers that are none are left out.
        reference: of independent Geant4 showers, for the floor.
        samples: by name, what is compared with the truth.
        resamples: of the bootstrap and of the floor.
        seed: of both.

    Raises:
        EvaluationError: if a sample has fewer than two values of an observable.
    """
    rng = np.random.default_rng(seed)
    out = []
    for name, values in truth.items():
        a = _known(values, f"the truth's {name} in {segmentation}")
        pool = np.concatenate([a, _known(reference[name], f"the reference's {name} in {segmentation}")])
        for sample, observed in samples.items():
            b = _known(observed[name], f"{name} of '{sample}' in {segmentation}")
            floors = _resampled_w1(pool, pool, len(a), len(b), resamples, rng)
            spread = _resampled_w1(a, b, len(a), len(b), resamples, rng)
            distance = wasserstein(a, b)
            # A bootstrap sample is farther from its origin than 0: what resampling adds is taken off again.
            low, high = np.quantile(spread, (0.025, 0.975)) - (spread.mean() - distance)
            out.append(
                SegmentationResult(
                    segmentation=segmentation,
                    layer=layer,
                    observable=name,
                    sample=sample,
                    w1=distance,
                    interval=(max(float(low), 0.0), float(high)),
                    floor=float(floors.mean()),
                    truth_mean=float(a.mean()),
                    mean=float(b.mean()),
                )
            )
    return out


def compare_in(
    segmentation: str, detector: Detector, truth: Showers, reference: Showers, samples: Mapping[str, Showers], *, seed: int = 1
) -> list[SegmentationResult]:
    """Read all showers out in one segmentation and compare every layer, and its distance to the layer before it.

    Args:
        segmentation: its name, for the results.
        detector: with these cells.
        truth: Geant4 showers.
        reference: independent Geant4 showers, for the floor.
        samples: by name, made in any segmentation.
        seed: of bootstrap and floor.

    Raises:
        EvaluationError: if fewer than two showers of a sample have cells in a layer.
        ShowersError: if a sample has another number of layers.
    """
    read = [read_out(s, detector) for s in (truth, reference, *samples.values())]
    results = []
    for layer in range(detector.n_layers):
        seen = [layer_observables(cells, layer) for cells in read]
        if layer:
            seen = [own | layer_distances(cells, layer - 1, layer) for own, cells in zip(seen, read, strict=True)]
        named = dict(zip(samples, seen[2:], strict=True))
        results += compare(segmentation, layer, seen[0], seen[1], named, seed=seed)
    return results


def _known(values: np.ndarray, what: str) -> np.ndarray:
    known = values[np.isfinite(values)]
    if len(known) < 2:
        raise EvaluationError(f"{what} is known for {len(known)} showers; expected at least 2")
    return np.asarray(known)


def _resampled_w1(a: np.ndarray, b: np.ndarray, n_a: int, n_b: int, times: int, rng: np.random.Generator) -> np.ndarray:
    """Distances between n_a values drawn from a and n_b from b, with replacement, (times,)."""
    values, place = np.unique(np.concatenate([a, b]), return_inverse=True)
    in_a, in_b = place[: len(a)], place[len(a) :]
    p, q = (
        np.stack([np.bincount(ids[rng.integers(len(ids), size=n)], minlength=len(values)) for _ in range(times)])
        for ids, n in ((in_a, n_a), (in_b, n_b))
    )
    return w1(values, p, q)

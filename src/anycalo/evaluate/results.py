"""What an evaluation found, and its JSON form."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np

CALOCLOUDS3: Mapping[str, str] = MappingProxyType(
    {
        "total energy": "visible_energy",
        "cell energy": "cell_energy",
        "energy per layer": "longitudinal_profile",
        "energy per radius": "radial_profile",
        "occupancy": "occupancy",
        "centre of gravity in x": "cog_x",
        "centre of gravity in y": "cog_y",
        "centre of gravity in depth": "cog_z",
    }
)
"""Rows of the table of CaloClouds3 (arXiv 2511.01460), Jensen-Shannon divergences, and the observables that hold them."""

_ARRAYS = ("edges", "truth_density", "truth_error", "fast_density", "fast_error")


@dataclass(frozen=True, kw_only=True, eq=False)
class ObservableResult:
    """Distances of one observable.

    Args:
        name, title, unit, kind: of the observable.
        w1: Wasserstein-1 distance in standard deviations of the truth sample; of a family the mean over members.
        w1_floor: the same, Geant4 against independent Geant4 at the same sample sizes (mean over random divisions).
        w1_ratio: w1 / w1_floor.
        w1_ci: 95% bootstrap interval of w1.
        w1_ratio_ci: w1_ci / w1_floor.
        jsd, jsd_floor: Jensen-Shannon divergence in bits and its floor.
        separation, separation_floor: separation power and its floor.
        edges: bins of the figures, shape (K + 1,).
        truth_density, truth_error, fast_density, fast_error: distribution per unit with its standard error, shape (K,);
            of a family the mean of each member.
        members_w1, members_w1_floor: of a family, each member's own distance and floor, shape (M,), not a number where the
            truth sample is constant.
    """

    name: str
    title: str
    unit: str
    kind: str
    w1: float
    w1_floor: float
    w1_ratio: float
    w1_ci: tuple[float, float]
    w1_ratio_ci: tuple[float, float]
    jsd: float
    jsd_floor: float
    separation: float
    separation_floor: float
    edges: np.ndarray
    truth_density: np.ndarray
    truth_error: np.ndarray
    fast_density: np.ndarray
    fast_error: np.ndarray
    members_w1: np.ndarray | None = None
    members_w1_floor: np.ndarray | None = None

    def to_dict(self) -> dict[str, Any]:
        """JSON values only."""
        out: dict[str, Any] = {
            "title": self.title,
            "unit": self.unit,
            "kind": self.kind,
            "w1": self.w1,
            "w1_floor": self.w1_floor,
            "w1_ratio": self.w1_ratio,
            "w1_ci": list(self.w1_ci),
            "w1_ratio_ci": list(self.w1_ratio_ci),
            "jsd": self.jsd,
            "jsd_floor": self.jsd_floor,
            "separation": self.separation,
            "separation_floor": self.separation_floor,
            "histogram": {key: getattr(self, key).tolist() for key in _ARRAYS},
        }
        if self.members_w1 is not None and self.members_w1_floor is not None:
            out["members"] = {"w1": _nullable(self.members_w1), "w1_floor": _nullable(self.members_w1_floor)}
        return out


@dataclass(frozen=True, kw_only=True)
class MetricResult:
    """One metric of whole showers, beside what Geant4 gives by the same procedure.

    Args:
        name, title, unit: of the metric.
        group: `classifier`, `features` or `angles`.
        sees: what moves it, in a few words.
        value: of fast against truth (of the fast showers themselves for angles).
        ci: its 95% interval.
        floor: mean of Geant4 against Geant4 (the truth's own value for angles).
        floor_range: where 95% of independent Geant4 samples of these sizes would lie.
        ratio: |value - floor| over its mean for independent Geant4 samples; 1 on average for a perfect model.
    """

    name: str
    title: str
    unit: str
    group: str
    sees: str
    value: float
    ci: tuple[float, float]
    floor: float
    floor_range: tuple[float, float]
    ratio: float

    def to_dict(self) -> dict[str, Any]:
        """JSON values only."""
        values = ((k, list(v) if isinstance(v, tuple) else v) for k, v in vars(self).items() if k != "name")
        return {k: None if isinstance(v, float) and not np.isfinite(v) else v for k, v in values}


@dataclass(frozen=True, kw_only=True)
class Summary:
    """The headline.

    Args:
        ratio_to_floor: geometric mean of w1_ratio over the observables, ratios below 0.1 counting as 0.1.
        ratio_to_floor_ci: its 95% bootstrap interval.
        perfect_ratio: the same mean for Geant4 against Geant4; a little below 1, since a geometric mean of ratios to
            an arithmetic mean is.
        perfect_ratio_range: where 95% of Geant4 samples would lie.
        n_truth, n_fast: showers compared.
        design: `matched` (same incident particles in both samples) or `independent`.
        floor_from: the showers that the floor was measured with, `truth` or `truth and floor`.
    """

    ratio_to_floor: float
    ratio_to_floor_ci: tuple[float, float]
    perfect_ratio: float
    perfect_ratio_range: tuple[float, float]
    n_truth: int
    n_fast: int
    design: str
    floor_from: str

    def to_dict(self) -> dict[str, Any]:
        """JSON values only."""
        return {key: list(v) if isinstance(v, tuple) else v for key, v in vars(self).items()}


@dataclass(frozen=True, kw_only=True)
class SeparationResult:
    """Separation power of one histogram, or the mean over those of the layers, in the CaloChallenge's bins.

    Args:
        title: for tables.
        separation: of fast against truth.
        separation_floor: of Geant4 against Geant4 at these sizes.
        layers: separation power of each layer, where there is one a layer; none for layers without a number.
    """

    title: str
    separation: float
    separation_floor: float
    layers: tuple[float | None, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """JSON values only."""
        out = {"title": self.title, "separation": self.separation, "separation_floor": self.separation_floor}
        return {**out, "layers": list(self.layers)} if self.layers else out


@dataclass(frozen=True, kw_only=True, eq=False)
class Evaluation:
    """How far fast showers are from Geant4.

    Args:
        observables: results by name, in the order of `OBSERVABLES`.
        summary: the headline.
        metrics: classifiers, distances on features and angles by name; empty if none were asked for.
        calochallenge: separation powers in the CaloChallenge's bins by name; likewise.
        warnings: sentences about what limits the comparison, each with its remedy.
        provenance: where both samples came from and how they were compared.
    """

    observables: Mapping[str, ObservableResult]
    summary: Summary
    warnings: tuple[str, ...]
    provenance: Mapping[str, Any]
    metrics: Mapping[str, MetricResult] = field(default_factory=dict)
    calochallenge: Mapping[str, SeparationResult] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """The content of `results.json`, JSON values only."""
        return {
            "summary": self.summary.to_dict(),
            "observables": {name: result.to_dict() for name, result in self.observables.items()},
            "metrics": {name: result.to_dict() for name, result in self.metrics.items()},
            "calochallenge": {name: result.to_dict() for name, result in self.calochallenge.items()},
            "caloclouds3": {
                row: {"observable": name, "jsd": result.jsd, "jsd_floor": result.jsd_floor}
                for row, name in CALOCLOUDS3.items()
                if (result := self.observables.get(name)) is not None
            },
            "warnings": list(self.warnings),
            "provenance": dict(self.provenance),
        }


def _nullable(values: np.ndarray) -> list[float | None]:
    return [float(v) if np.isfinite(v) else None for v in values]

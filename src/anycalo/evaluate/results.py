"""What an evaluation found, and its JSON form."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

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


@dataclass(frozen=True, kw_only=True, eq=False)
class Evaluation:
    """How far fast showers are from Geant4.

    Args:
        observables: results by name, in the order of `OBSERVABLES`.
        summary: the headline.
        warnings: sentences about what limits the comparison, each with its remedy.
        provenance: where both samples came from and how they were compared.
    """

    observables: Mapping[str, ObservableResult]
    summary: Summary
    warnings: tuple[str, ...]
    provenance: Mapping[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """The content of `results.json`, JSON values only."""
        return {
            "summary": self.summary.to_dict(),
            "observables": {name: result.to_dict() for name, result in self.observables.items()},
            "warnings": list(self.warnings),
            "provenance": dict(self.provenance),
        }


def _nullable(values: np.ndarray) -> list[float | None]:
    return [float(v) if np.isfinite(v) else None for v in values]

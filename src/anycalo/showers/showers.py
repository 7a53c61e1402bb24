"""Showers: a ragged batch of energy deposits with the particles and the detector they came from."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from anycalo.errors import ShowersError
from anycalo.geometry import Detector
from anycalo.showers.incident import Incident


class Showers:
    """A ragged batch of B showers with P points in all.

    Args:
        detector: where they happened.
        incident: the B particles.
        offsets: int64 (B + 1,); shower b owns the points offsets[b]:offsets[b + 1].
        x_mm, y_mm: float32 (P,), position within the layer in the shower frame.
        layer: int16 (P,), 0-based readout layer.
        energy_mev: float32 (P,), visible energy, at least 0.
        provenance: where they came from (JSON values only).

    Raises:
        ShowersError: if the arrays contradict one another or the detector.
    """

    def __init__(
        self,
        *,
        detector: Detector,
        incident: Incident,
        offsets: np.ndarray,
        x_mm: np.ndarray,
        y_mm: np.ndarray,
        layer: np.ndarray,
        energy_mev: np.ndarray,
        provenance: Mapping[str, Any] | None = None,
    ) -> None:
        self.detector = detector
        self.incident = incident
        self.offsets = np.asarray(offsets, dtype=np.int64)
        self.x_mm = np.asarray(x_mm, dtype=np.float32)
        self.y_mm = np.asarray(y_mm, dtype=np.float32)
        self.layer = np.asarray(layer, dtype=np.int16)
        self.energy_mev = np.asarray(energy_mev, dtype=np.float32)
        self.provenance = dict(provenance or {})
        self._check()

    def _check(self) -> None:
        points = len(self.energy_mev)
        for name in ("x_mm", "y_mm", "layer"):
            if len(getattr(self, name)) != points:
                raise ShowersError(f"{name} holds {len(getattr(self, name))} points and energy_mev {points}; expected as many")
        if len(self.offsets) != len(self.incident) + 1:
            raise ShowersError(f"{len(self.offsets)} offsets for {len(self.incident)} showers; expected one more than showers")
        if self.offsets[0] != 0 or self.offsets[-1] != points or (np.diff(self.offsets) < 0).any():
            raise ShowersError(f"offsets must rise from 0 to the number of points, {points}")
        if points:
            if not (np.isfinite(self.x_mm).all() and np.isfinite(self.y_mm).all() and np.isfinite(self.energy_mev).all()):
                raise ShowersError("points hold numbers that are not finite")
            if self.energy_mev.min() < 0:
                raise ShowersError(f"a point has {self.energy_mev.min()} MeV; expected at least 0")
            if self.layer.min() < 0 or self.layer.max() >= self.detector.n_layers:
                raise ShowersError(
                    f"points lie in layers {self.layer.min()} to {self.layer.max()};"
                    f" expected 0 to {self.detector.n_layers - 1}, the layers of {self.detector.name}"
                )

    def __len__(self) -> int:
        return len(self.incident)

    def __repr__(self) -> str:
        return f"Showers({len(self)} showers, {self.n_points} points, {self.detector.name})"

    @property
    def n_points(self) -> int:
        """Number of points in all showers, P."""
        return len(self.energy_mev)

    @property
    def counts(self) -> np.ndarray:
        """Points of each shower, shape (B,)."""
        return np.diff(self.offsets)

    @property
    def shower(self) -> np.ndarray:
        """The shower that each point belongs to, shape (P,)."""
        return np.repeat(np.arange(len(self)), self.counts)

    def visible_mev(self) -> np.ndarray:
        """Visible energy of each shower, shape (B,)."""
        return np.bincount(self.shower, weights=self.energy_mev, minlength=len(self))

    def layer_energy_mev(self) -> np.ndarray:
        """Visible energy of each shower in each layer, shape (B, L)."""
        layers = self.detector.n_layers
        flat = np.bincount(self.shower * layers + self.layer, weights=self.energy_mev, minlength=len(self) * layers)
        return flat.reshape(len(self), layers)

    def layer_counts(self) -> np.ndarray:
        """Points of each shower in each layer, shape (B, L)."""
        layers = self.detector.n_layers
        return np.bincount(self.shower * layers + self.layer, minlength=len(self) * layers).reshape(len(self), layers)

    def __getitem__(self, index: int | slice | np.ndarray | Sequence[int]) -> Showers:
        """The chosen showers, in the chosen order: an index, a slice, indices or a mask of shape (B,).

        Raises:
            ShowersError: if nothing is chosen or an index is out of range.
        """
        if isinstance(index, (int, np.integer)):
            index = [int(index)]
        if isinstance(index, slice):
            chosen = np.arange(len(self))[index]
        else:
            array = np.asarray(index)
            if array.dtype == bool and array.shape != (len(self),):
                raise ShowersError(f"a mask of shape {array.shape} for {len(self)} showers; expected ({len(self)},)")
            chosen = np.flatnonzero(array) if array.dtype == bool else array.astype(np.int64)
        if len(chosen) == 0:
            raise ShowersError(f"the selection is empty: none of the {len(self)} showers is chosen")
        if chosen.min() < -len(self) or chosen.max() >= len(self):
            raise ShowersError(
                f"shower {chosen.max() if chosen.max() >= len(self) else chosen.min()} asked for; there are {len(self)}"
            )
        chosen = chosen % len(self)
        counts = self.counts[chosen]
        offsets = np.concatenate([[0], np.cumsum(counts)])
        points = np.repeat(self.offsets[chosen] - offsets[:-1], counts) + np.arange(offsets[-1])
        return Showers(
            detector=self.detector,
            incident=self.incident[chosen],
            offsets=offsets,
            x_mm=self.x_mm[points],
            y_mm=self.y_mm[points],
            layer=self.layer[points],
            energy_mev=self.energy_mev[points],
            provenance=self.provenance,
        )

    def seen_by(self, detector: Detector, layer: np.ndarray | None = None) -> Showers:
        """The same deposits in a detector that differs in its readout alone, or with the layers (P,) that are given."""
        return Showers(
            detector=detector,
            incident=self.incident,
            offsets=self.offsets,
            x_mm=self.x_mm,
            y_mm=self.y_mm,
            layer=self.layer if layer is None else layer,
            energy_mev=self.energy_mev,
            provenance=self.provenance,
        )

    def contained(self) -> Showers:
        """The same showers without the points that lie beyond the sides of the detector, where there is nothing to see them."""
        inside = self.detector.between_sides(self.x_mm, self.y_mm)
        if inside.all():
            return self
        return Showers(
            detector=self.detector,
            incident=self.incident,
            offsets=np.concatenate([[0], np.cumsum(inside)])[self.offsets],
            x_mm=self.x_mm[inside],
            y_mm=self.y_mm[inside],
            layer=self.layer[inside],
            energy_mev=self.energy_mev[inside],
            provenance=self.provenance,
        )

    @staticmethod
    def concatenate(parts: Sequence[Showers], provenance: Mapping[str, Any] | None = None) -> Showers:
        """One batch from several of the same detector, in order.

        Raises:
            ShowersError: if there is no part, or the detectors differ.
        """
        if not parts:
            raise ShowersError("nothing to concatenate: expected at least one batch of showers")
        first = parts[0]
        for part in parts[1:]:
            if part.detector != first.detector:
                raise ShowersError(f"showers of '{first.detector.name}' and of another '{part.detector.name}' cannot be joined")
        if len(parts) == 1:
            alone = copy.copy(first)
            alone.provenance = dict(first.provenance if provenance is None else provenance)
            return alone
        starts = np.cumsum([0] + [p.n_points for p in parts[:-1]])
        return Showers(
            detector=first.detector,
            incident=Incident(
                np.concatenate([p.incident.pdg for p in parts]),
                energy_mev=np.concatenate([p.incident.energy_mev for p in parts]),
                direction=np.concatenate([p.incident.direction for p in parts]),
            ),
            offsets=np.concatenate([[0], *(p.offsets[1:] + s for p, s in zip(parts, starts, strict=True))]),
            x_mm=np.concatenate([p.x_mm for p in parts]),
            y_mm=np.concatenate([p.y_mm for p in parts]),
            layer=np.concatenate([p.layer for p in parts]),
            energy_mev=np.concatenate([p.energy_mev for p in parts]),
            provenance=first.provenance if provenance is None else provenance,
        )

    def split(self, fractions: Sequence[float], seed: int) -> tuple[Showers, ...]:
        """Disjoint random parts of the given fractions; the split is recorded in their provenance.

        Args:
            fractions: positive, adding up to at most 1; showers left over are in no part.
            seed: the same seed gives the same parts.

        Raises:
            ShowersError: if the fractions add up to more than 1 or a part would be empty.
        """
        if any(f <= 0 for f in fractions) or sum(fractions) > 1 + 1e-9:
            raise ShowersError(f"fractions are {list(fractions)}; expected positive numbers adding up to at most 1")
        order = np.random.default_rng(seed).permutation(len(self))
        edges = np.round(np.cumsum([0.0, *fractions]) * len(self)).astype(int)
        parts = []
        for k, (start, stop) in enumerate(pairwise(edges)):
            part = self[np.sort(order[start:stop])]
            part.provenance = {**self.provenance, "split": {"seed": seed, "fractions": list(fractions), "part": k}}
            parts.append(part)
        return tuple(parts)

    @staticmethod
    def open(path: str | Path, start: int = 0, stop: int | None = None) -> Showers:
        """Showers start:stop of a file (all by default), reading only what they need.

        Raises:
            ShowerFileError: if the file is not a whole shower file.
        """
        from anycalo.showers.file import ShowerFile

        with ShowerFile(path) as file:
            return file[start:stop]

    def write(self, path: str | Path, *, overwrite: bool = False) -> None:
        """Write a shower file; it appears under its name only when it is complete.

        Raises:
            OutputError: if the path exists and `overwrite` is false, or cannot be written.
        """
        from anycalo.showers.file import ShowerWriter

        with ShowerWriter(path, self.detector, self.provenance, overwrite=overwrite) as writer:
            writer.append(self)

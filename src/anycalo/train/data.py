"""Showers to train on: read from files, divided, and the domain that they widen."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from anycalo.errors import TrainingError
from anycalo.geometry import Detector
from anycalo.geometry.descriptors import descriptor_ranges
from anycalo.models import Domain, Model
from anycalo.showers import Showers
from anycalo.train.recipe import Recipe

Data = Showers | Sequence[Showers] | str | Path | Sequence[str | Path]


def read_showers(data: Data) -> list[Showers]:
    """Showers from files and folders, or as they are: one batch for each detector, in the order of their first file.

    Raises:
        TrainingError: if no file is given, or a folder holds none.
    """
    if isinstance(data, Showers):
        return [data]
    sources: Sequence[str | Path | Showers] = [data] if isinstance(data, (str, Path)) else list(data)
    batches: dict[Detector, list[Showers]] = {}
    for source in sources:
        for batch in [source] if isinstance(source, Showers) else [Showers.open(p) for p in shower_files(Path(source))]:
            batches.setdefault(batch.detector, []).append(batch)
    if not batches:
        raise TrainingError("no training data: expected at least one shower file")
    return [parts[0] if len(parts) == 1 else Showers.concatenate(parts) for parts in batches.values()]


def shower_files(source: Path) -> list[Path]:
    """A file itself; of a folder its shower files, sorted by name.

    Raises:
        TrainingError: if a folder holds none.
    """
    if not source.is_dir():
        return [source]
    found = sorted(source.glob("*.h5"))
    if not found:
        raise TrainingError(f"{source} holds no shower file (*.h5); expected a folder that 'anycalo simulate --zoo' has filled")
    return found


def split(recipe: Recipe, showers: Sequence[Showers]) -> tuple[list[Showers], list[Showers]]:
    """The showers to train on and those held out to validate with; empty showers are in neither.

    Of one detector, showers are held out; of several, whole detectors, so that validation says what the model makes
    of geometries that it has not seen.

    Raises:
        TrainingError: if there are too few showers.
    """
    used = []
    for batch in showers:
        visible = batch.visible_mev() > 0
        if visible.any():
            used.append(batch if visible.all() else batch[visible])
    count = sum(map(len, used))
    if count < 20:
        raise TrainingError(f"{count} showers with visible energy; expected at least 20 to train and validate on")
    if len(used) == 1:
        fraction = max(recipe.validation_fraction, 1 / count)
        training, validation = used[0].split([1 - fraction, fraction], recipe.seed)
        return [training], [validation]
    order = np.random.default_rng(recipe.seed).permutation(len(used))
    held_out = set(order[: max(1, round(recipe.validation_fraction * len(used)))].tolist())
    parts: tuple[list[Showers], list[Showers]] = ([], [])
    for k, batch in enumerate(used):
        parts[k in held_out].append(batch)
    return parts


def widened(base: Model, showers: Showers) -> Domain:
    """The domain of a base and of the showers that it was fine-tuned on.

    Of a model of one geometry it is the base's: the energies are built into its scales.
    """
    old, new = base.domain, Domain.of([showers])
    if base.family != "anycalo":
        return old
    detectors = {text: None for text in (*old.detectors, showers.detector.to_toml())}
    several = not old.detectors or len(detectors) > 1
    ranges = dict(old.ranges)
    if several:
        known = [old.detector] if old.detectors else []
        for detector in (*known, showers.detector):
            for name, (low, high) in descriptor_ranges(detector).items():
                lowest, highest = ranges.get(name, (low, high))
                ranges[name] = (min(low, lowest), max(high, highest))
    return Domain(
        particles=tuple(sorted({*old.particles, *new.particles})),
        energy_mev=(min(old.energy_mev[0], new.energy_mev[0]), max(old.energy_mev[1], new.energy_mev[1])),
        max_angle_rad=max(old.max_angle_rad, new.max_angle_rad),
        detectors=() if several else old.detectors,
        n_detectors=old.n_detectors + int(several),
        ranges=ranges,
    )

"""Model + Detector + incident particles -> Showers, batch by batch."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from anycalo.errors import DomainWarning, ModelError, OutputError
from anycalo.geometry import Detector
from anycalo.models import Model, Noise
from anycalo.showers import Incident, ShowerFile, Showers, ShowerWriter
from anycalo.version import __version__

Progress = Callable[[int, int], None]
_COPIED_AT_ONCE = 1000


def generate(
    model: Model,
    detector: Detector,
    incident: Incident,
    *,
    seed: int = 0,
    batch_size: int = 100,
    progress: Progress | None = None,
) -> Showers:
    """Showers of the incident particles.

    Shower k follows from the seed and k: the same in a batch of any size, up to rounding in the last bits
    (which may, rarely, move a count by one). What leaves through the sides of the detector is lost.

    Args:
        model: from `load_model` or `train`.
        detector: where.
        incident: B particles.
        seed: at least 0.
        batch_size: showers at once; it bounds the memory.
        progress: called with showers done and showers in all.

    Raises:
        ModelError: if the model cannot make showers of this detector.

    Warns:
        DomainWarning: for every quantity outside what the model was trained on.
    """
    with model.unchanged():
        parts = list(_batches(model, detector, incident, seed=seed, batch_size=batch_size, progress=progress))
        provenance = _provenance(model, seed)
    counts: dict[str, int] = {}
    for part in parts:
        _count(counts, part)
    return Showers.concatenate(parts, provenance=provenance | counts)


def generate_file(
    model: Model,
    detector: Detector,
    incident: Incident,
    path: str | Path,
    *,
    seed: int = 0,
    batch_size: int = 100,
    progress: Progress | None = None,
    overwrite: bool = False,
    command: str | None = None,
) -> Path:
    """The showers of `generate`, written to a file as they are made; it appears when it is complete.

    When interrupted (KeyboardInterrupt), the showers made so far are kept in `<path>.part`, and the same call goes on
    from there.

    Args:
        model: from `load_model` or `train`.
        detector: where.
        incident: B particles.
        path: of the file.
        seed: as for `generate`.
        batch_size: as for `generate`.
        progress: as for `generate`.
        overwrite: replace a file of that name.
        command: recorded in the provenance.

    Raises:
        ModelError: if the model cannot make showers of this detector.
        OutputError: if the path exists or cannot be written, or other showers were begun under that name.
    """
    path = Path(path)
    model.check(detector)
    provenance = _provenance(model, seed)
    request = {**provenance, "incident_sha256": _digest(incident)}
    part = path.with_name(f"{path.name}.part")
    with ShowerWriter(path, detector, provenance, overwrite=overwrite) as writer:
        start = _continue(writer, part, request) if part.exists() else 0
        counts = writer.provenance.pop("counts", {})
        try:
            batches = _batches(model, detector, incident, seed=seed, batch_size=batch_size, progress=progress, start=start)
            for batch in batches:
                writer.append(batch)
                _count(counts, batch)
        except KeyboardInterrupt:
            if writer.n_showers:
                writer.provenance = {**request, "counts": counts}
                writer.close_as(part)
            raise
        writer.provenance |= counts | ({"command": command} if command else {})
    part.unlink(missing_ok=True)
    return path


def _continue(writer: ShowerWriter, part: Path, request: Mapping[str, Any]) -> int:
    """Copy what an interrupted call has left; returns the number of showers."""
    with ShowerFile(part) as file:
        found = dict(file.provenance)
        counts = found.pop("counts", {})
        if found != request or file.detector != writer.detector:
            raise OutputError(
                f"{part} holds the beginning of other showers than these; repeat that command to finish them, remove the file,"
                " or choose another name"
            )
        for start in range(0, len(file), _COPIED_AT_ONCE):
            writer.append(file[start : start + _COPIED_AT_ONCE])
        writer.provenance["counts"] = counts
        return len(file)


def _batches(
    model: Model,
    detector: Detector,
    incident: Incident,
    *,
    seed: int,
    batch_size: int,
    progress: Progress | None,
    start: int = 0,
) -> Iterator[Showers]:
    if batch_size < 1 or seed < 0:
        raise ModelError(f"batch_size is {batch_size} and seed {seed}; expected at least 1 and at least 0")
    model.check(detector)
    warn_outside(model, detector, incident, stacklevel=5)
    training = model.training
    if training:
        model.eval()
    try:
        for first in range(start, len(incident), batch_size):
            stop = min(first + batch_size, len(incident))
            with torch.no_grad():
                some = incident if stop - first == len(incident) else incident[first:stop]
                yield model.sample(detector, some, Noise(seed, range(first, stop))).contained()
            if progress is not None:
                progress(stop, len(incident))
    finally:
        if training:
            model.train()


def warn_outside(model: Model, detector: Detector, incident: Incident, *, stacklevel: int = 3) -> None:
    """Warn of every quantity outside what the model was trained on."""
    for breach in model.domain.breaches(detector, incident):
        text = f"outside the training domain: {breach}. Treat these showers with care."
        warnings.warn(text, DomainWarning, stacklevel=stacklevel)


def _provenance(model: Model, seed: int) -> dict[str, Any]:
    return {
        "generator": f"AnyCalo {model.family}",
        "package_version": __version__,
        "seed": seed,
        "model_sha256": model.digest(),
    }


def _count(counts: dict[str, int], batch: Showers) -> None:
    """Add up what a model counts in the provenance of each batch, such as draws that were rejected."""
    for key, value in batch.provenance.items():
        if isinstance(value, (int, np.integer)):
            counts[key] = counts.get(key, 0) + int(value)


def _digest(incident: Incident) -> str:
    digest = hashlib.sha256()
    for array in (incident.pdg, incident.energy_mev, incident.direction):
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()

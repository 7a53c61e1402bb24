"""Model + Detector + incident particles -> Showers, batch by batch."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from anycalo.errors import DomainWarning, ModelError
from anycalo.geometry import Detector
from anycalo.models import Model, Noise
from anycalo.showers import Incident, Showers, ShowerWriter
from anycalo.version import __version__

Progress = Callable[[int, int], None]


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
    (which may, rarely, move a count by one).

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
    parts = list(_batches(model, detector, incident, seed=seed, batch_size=batch_size, progress=progress))
    return Showers.concatenate(parts, provenance=_provenance(model, seed, parts))


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
        OutputError: if the path exists or cannot be written.
    """
    model.check(detector)
    provenance = _provenance(model, seed, []) | ({"command": command} if command else {})
    with ShowerWriter(path, detector, provenance, overwrite=overwrite) as writer:
        for part in _batches(model, detector, incident, seed=seed, batch_size=batch_size, progress=progress):
            writer.append(part)
    return Path(path)


def _batches(
    model: Model, detector: Detector, incident: Incident, *, seed: int, batch_size: int, progress: Progress | None
) -> Iterator[Showers]:
    if batch_size < 1 or seed < 0:
        raise ModelError(f"batch_size is {batch_size} and seed {seed}; expected at least 1 and at least 0")
    model.check(detector)
    for breach in model.domain.breaches(detector, incident):
        warnings.warn(f"outside the training domain: {breach}. Treat these showers with care.", DomainWarning, stacklevel=4)
    training = model.training
    model.eval()
    try:
        for start in range(0, len(incident), batch_size):
            stop = min(start + batch_size, len(incident))
            with torch.no_grad():
                yield model.sample(detector, incident[start:stop], Noise(seed, range(start, stop)))
            if progress is not None:
                progress(stop, len(incident))
    finally:
        model.train(training)


def _provenance(model: Model, seed: int, parts: list[Showers]) -> dict[str, Any]:
    """Where generated showers come from; counts of the parts are added up."""
    provenance: dict[str, Any] = {
        "generator": f"AnyCalo {model.family}",
        "package_version": __version__,
        "seed": seed,
        "model_sha256": model.digest(),
    }
    counts = {k for p in parts for k, v in p.provenance.items() if isinstance(v, (int, np.integer))}
    provenance |= {k: int(sum(p.provenance.get(k, 0) for p in parts)) for k in sorted(counts)}
    return provenance

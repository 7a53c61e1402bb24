"""An embedded run: Geant4 with a model at the face of the calorimeter, in a process of its own."""

from __future__ import annotations

import multiprocessing
import os
import queue
import shutil
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from anycalo.embed.config import EmbedRun
from anycalo.embed.events import GEANT4, Events, entry_table, primary_table, stand_in
from anycalo.embed.takeover import Takeover
from anycalo.errors import DomainWarning, SimulationError
from anycalo.geometry import Detector
from anycalo.models import load_model
from anycalo.showers import Incident, Showers, check_output
from anycalo.simulate import PHYSICS, find_data
from anycalo.simulate.particles import Crossing, Primary
from anycalo.simulate.points import merge_steps, shower_seed
from anycalo.simulate.production import leave
from anycalo.version import __version__

_REPORT_S = 0.2


def embed(
    run: EmbedRun,
    out: str | Path,
    *,
    full: bool = False,
    progress: Callable[[int, int], None] | None = None,
    overwrite: bool = False,
    command: str = "",
) -> Path:
    """Simulate events with Geant4; at the face of the calorimeter the model takes over what is inside its domain.

    Args:
        run: what is simulated.
        out: the file of events, which appears when it is complete.
        full: simulate everything with Geant4, in a file of the same kind.
        progress: called with events done and events in all.
        overwrite: replace a file of that name.
        command: recorded in the provenance.

    Returns:
        The path of the file.

    Raises:
        SimulationError: if Geant4 or its tables are missing, the run cannot be read, or Geant4 stopped.
        ModelError: if the model cannot make showers of the detector.
        OutputError: if the file exists or cannot be written.

    Warns:
        DomainWarning: if the model was not trained on the detector.
    """
    out = check_output(out, overwrite=overwrite)
    detector, primaries = run.geometry(), run.primaries()
    if not full:
        model = load_model(run.model)
        model.check(detector)
        for breach in model.domain.detector_breaches(detector):
            warnings.warn(f"outside the training domain: {breach}. Treat these showers with care.", DomainWarning, stacklevel=2)
    variables = find_data()
    out.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    try:
        _simulate(run, detector, primaries, full, folder, variables, command, progress)
        os.replace(folder / "events.h5", out)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return out


def _simulate(
    run: EmbedRun,
    detector: Detector,
    primaries: list[list[Primary]],
    full: bool,
    folder: Path,
    variables: dict[str, str],
    command: str,
    progress: Callable[[int, int], None] | None,
) -> None:
    """One process, since it can hold one Geant4 and its caller may need another."""
    context = multiprocessing.get_context("spawn")
    reports = context.Queue()
    arguments = (run, detector, primaries, full, folder, variables, command, reports, os.getpid())
    process = context.Process(target=_work, args=arguments, daemon=True)
    process.start()
    done = 0
    try:
        while True:
            try:
                kind, value = reports.get(timeout=1.0)
            except queue.Empty:
                if process.exitcode is not None:
                    log_file = folder / "geant4.log"
                    log = log_file.read_text("utf-8", errors="replace") if log_file.exists() else ""
                    raise SimulationError(
                        f"the Geant4 process died (exit code {process.exitcode}). The end of its log:\n{log[-1000:]}"
                    ) from None
                continue
            if kind == "finished":
                return
            if kind == "failed":
                raise SimulationError(f"the Geant4 process failed.\n{value}")
            for _ in range(value):
                done += 1
                if progress:
                    progress(done, len(primaries))
    finally:
        process.terminate()
        process.join()


def _work(
    run: EmbedRun,
    detector: Detector,
    primaries: list[list[Primary]],
    full: bool,
    folder: Path,
    variables: dict[str, str],
    command: str,
    reports: Any,
    parent: int,
) -> None:
    """The process: builds the detector, shoots, and writes the file."""
    os.environ.update(variables)
    # Geant4 writes to the file descriptors, past Python.
    log = os.open(folder / "geant4.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    try:
        import torch

        torch.set_num_threads(1)
        _shoot(run, detector, primaries, full, folder, command, reports, parent)
        reports.put(("finished", None))
    except KeyboardInterrupt:
        os._exit(130)
    except Exception:
        reports.put(("failed", traceback.format_exc(limit=3)))
    leave(reports)


def _shoot(
    run: EmbedRun,
    detector: Detector,
    primaries: list[list[Primary]],
    full: bool,
    folder: Path,
    command: str,
    reports: Any,
    parent: int,
) -> None:
    from anycalo.simulate.geant4 import VERSION, Geant4Run

    takeover = None if full else Takeover(load_model(run.model), detector, run.seed, mirror=run.mirror_positrons)
    geant4 = Geant4Run(detector, run.settings, gap_mm=run.gap_mm, take=None if takeover is None else takeover.take)
    points: list[np.ndarray] = []
    origins: list[np.ndarray] = []
    entries: list[list[Crossing]] = []
    rows, told, when = 0, 0, 0.0

    def collect(steps: np.ndarray, neutral_mev: np.ndarray) -> None:
        nonlocal rows, told, when
        if os.getppid() != parent:
            os._exit(1)  # whoever asked for this was killed
        event = len(points)
        first = primaries[event][0]
        merged = merge_steps(
            steps,
            neutral_mev,
            detector=detector,
            direction=np.array(stand_in(primaries[event])[2]),
            merge_mm=run.settings.merge_mm,
            rng=np.random.default_rng([run.seed, event, 0x9817]),
            entry_mm=_on_face(first),
        )
        taken, made, owner = takeover.finish_event() if takeover else ([], np.zeros((0, 4)), np.zeros(0, dtype=np.int64))
        points.append(np.concatenate([merged, made]))
        origins.append(np.concatenate([np.full(len(merged), GEANT4), rows + owner]))
        entries.append(taken)
        rows += len(taken)
        # A message costs as much as Geant4's part of an event: a few a second are enough.
        if time.monotonic() > when + _REPORT_S or len(points) == len(primaries):
            reports.put(("events", len(points) - told))
            told, when = len(points), time.monotonic()

    start = time.process_time()
    geant4.prepare()
    if takeover is not None:
        takeover.prepare()
    prepared = time.process_time() - start
    start = time.process_time()
    geant4.shoot_events(primaries, [shower_seed(run.seed, event) for event in range(len(primaries))], collect)
    seconds = time.process_time() - start
    stands = [stand_in(event) for event in primaries]
    flat = np.concatenate(points)
    provenance = {
        "generator": "Geant4" if takeover is None else f"Geant4 and AnyCalo {takeover.model.family}",
        "geant4_version": VERSION,
        "physics_list": PHYSICS[run.settings.physics],
        "production_cut_mm": run.settings.cut_mm,
        "model_sha256": None if takeover is None else takeover.model.digest(),
        "incident": "stands for the event: energy of all its particles, kind and direction of the first",
        "run": run.to_table(),
        "processor_seconds": {"start": prepared, "events": seconds, "model": 0.0 if takeover is None else takeover.seconds},
        "lost_outside_mev": 0.0 if takeover is None else takeover.lost_mev,
        "command": command,
        "anycalo_version": __version__,
    }
    Events(
        showers=Showers(
            detector=detector,
            incident=Incident(
                np.array([pdg for pdg, _, _ in stands]),
                energy_mev=np.array([energy for _, energy, _ in stands]),
                direction=np.array([direction for _, _, direction in stands]),
            ),
            offsets=np.concatenate([[0], np.cumsum([len(p) for p in points])]),
            layer=flat[:, 0],
            x_mm=flat[:, 1],
            y_mm=flat[:, 2],
            energy_mev=flat[:, 3],
            provenance=provenance,
        ),
        origin=np.concatenate(origins).astype(np.int32),
        primaries=primary_table(primaries),
        entries=entry_table(entries),
    ).write(folder / "events.h5")


def _on_face(primary: Primary) -> tuple[float, float]:
    """Where a straight line from the start of a particle meets the face."""
    (x, y, z), (dx, dy, dz) = primary.position_mm, primary.direction
    return (x - z * dx / dz, y - z * dy / dz) if dz > 0 else (x, y)

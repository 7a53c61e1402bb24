"""A production over many detectors: one shower file for each, several detectors at a time."""

from __future__ import annotations

import json
import math
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

from anycalo.errors import OutputError, SimulationError
from anycalo.geometry import Zoo
from anycalo.showers import Beam, ShowerFile
from anycalo.simulate.environment import find_data
from anycalo.simulate.production import claim, simulate
from anycalo.simulate.settings import Settings


def simulate_zoo(
    zoo: Zoo,
    n: int,
    out: str | Path,
    *,
    seed: int = 1,
    workers: int | None = None,
    settings: Settings | None = None,
    progress: Callable[[int, int], None] | None = None,
    command: str = "",
) -> Path:
    """Simulate n showers over the detectors of a zoo, one file a detector, into a folder.

    Each file is complete or absent; after an interruption the same call goes on, and a call for more showers of a random zoo
    adds detectors to those that are there. Every detector runs in a process of its own, since a process can hold one Geant4.

    Args:
        zoo: the recipe.
        n: number of showers in all.
        out: the folder; files are named after their detectors.
        seed: of the showers; the detectors depend on the zoo's own seed.
        workers: detectors at a time; by default one for each core.
        settings: physics.
        progress: called with the number of showers done, and n.
        command: recorded in the provenance.

    Returns:
        The folder.

    Raises:
        OutputError: if the folder holds another production, or other numbers of showers than n asks for, or cannot be written.
        SimulationError: as `simulate`.
        DetectorError: if the zoo cannot give that many showers.
    """
    if n < 1:
        raise SimulationError(f"{n} showers asked for; expected at least 1")
    find_data()
    work = zoo.detectors(n)
    settings = settings or Settings()
    out = Path(out)
    _claim(out, {"zoo": json.loads(json.dumps(zoo.to_dict())), "seed": seed, "settings": settings.to_dict()})
    paths = [out / f"{k:05d}-{detector.name}.h5" for k, (detector, _) in enumerate(work)]
    _check_shares(paths, [share for _, share in work], n)
    beam = Beam(
        particle=zoo.beam.particles,
        energy_mev=zoo.beam.energy_mev,
        spectrum=zoo.beam.spectrum,
        max_angle_rad=math.radians(zoo.beam.max_angle_deg),
    )
    done = dict.fromkeys(range(len(work)), 0)
    lock = threading.Lock()
    stop = threading.Event()

    def report(k: int, count: int) -> None:
        with lock:
            done[k] = count
            if progress:
                progress(sum(done.values()), n)

    def one(k: int) -> None:
        detector, share = work[k]
        path = paths[k]
        if stop.is_set():
            return
        if not path.exists():
            # Seeds differ from detector to detector: the k-th production of the seed.
            simulate(
                detector,
                beam,
                share,
                path,
                seed=seed * 1_000_003 + k,
                workers=1,
                settings=settings,
                progress=lambda d, _: report(k, d),
                command=command,
            )
        report(k, share)

    with ThreadPoolExecutor(max(1, workers or len(os.sched_getaffinity(0)))) as pool:
        futures = [pool.submit(one, k) for k in range(len(work))]
        try:
            finished, _ = wait(futures, return_when=FIRST_EXCEPTION)
        except KeyboardInterrupt:
            stop.set()
            raise
        if any(f.exception() for f in finished):
            stop.set()
        for future in finished:
            future.result()
    return out


def _claim(out: Path, request: dict[str, Any]) -> None:
    """Make the folder, or check that it is of this very production."""
    record = out / "zoo.json"
    if not record.exists() and out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise OutputError(f"{out} exists and is not a production of a zoo; choose another folder")
    try:
        differing = claim(record, request)
    except OSError as error:
        raise OutputError(f"{out} cannot be written: {error.strerror or error}") from error
    if differing:
        raise OutputError(
            f"{out} holds another production: {', '.join(differing)} differ. Choose another folder or repeat that command."
        )


def _check_shares(paths: Sequence[Path], shares: Sequence[int], n: int) -> None:
    """Refuse a number of showers for which a finished detector would have to be simulated again."""
    for path, share in zip(paths, shares, strict=True):
        if not path.exists():
            continue
        with ShowerFile(path) as file:
            held = len(file)
        if held != share:
            raise OutputError(
                f"{path} holds {held} showers, where a production of {n} would hold {share}. Choose another folder or"
                " another number of showers."
            )

"""A production: many showers, several processes, shards that are complete or absent."""

from __future__ import annotations

import contextlib
import json
import math
import multiprocessing
import os
import queue
import shutil
import sys
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from anycalo.errors import OutputError, SimulationError
from anycalo.geometry import Detector
from anycalo.showers import Beam, Incident, ShowerFile, Showers, ShowerWriter, check_output
from anycalo.simulate.environment import find_data
from anycalo.simulate.points import merge_steps, shower_seed
from anycalo.simulate.settings import PHYSICS, Settings
from anycalo.version import __version__

_SHARD_GEV = 1000.0  # about a quarter of a minute of one core: what an interruption can cost


@dataclass(frozen=True, kw_only=True)
class Request:
    """Everything on which the showers of a production depend."""

    detector: Detector
    beam: Beam
    n: int
    seed: int
    settings: Settings

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        beam = json.loads(json.dumps(asdict(self.beam)))
        return {
            "detector": self.detector.to_toml(),
            "beam": beam,
            "n": self.n,
            "seed": self.seed,
            "settings": self.settings.to_dict(),
        }

    @property
    def shards(self) -> list[range]:
        """Which showers each shard holds; it does not depend on the number of workers."""
        size = round(_SHARD_GEV / (self.beam.mean_energy_mev / 1000))
        size = max(1, min(size, 500, math.ceil(self.n / 16)))
        return [range(start, min(start + size, self.n)) for start in range(0, self.n, size)]


def simulate(
    detector: Detector,
    beam: Beam,
    n: int,
    out: str | Path,
    *,
    seed: int = 1,
    workers: int | None = None,
    settings: Settings | None = None,
    progress: Callable[[int, int], None] | None = None,
    overwrite: bool = False,
    compact: bool = False,
    command: str = "",
) -> Path:
    """Simulate n showers with Geant4 into a shower file.

    Showers are made in shards under `<out>.parts`, each complete or absent; after an interruption, of any
    kind, the same call goes on where it stopped. The result does not depend on the number of workers.

    Args:
        detector: where.
        beam: what hits it.
        n: number of showers.
        out: the shower file, which appears when it is complete.
        seed: of the particles and of every shower.
        workers: processes; by default one for each core of this machine.
        settings: physics.
        progress: called with the number of showers done, and n.
        overwrite: replace an existing file.
        compact: round positions and energies so that the file is about half as large; see `ShowerWriter`.
        command: recorded in the provenance.

    Returns:
        The path of the file.

    Raises:
        SimulationError: if Geant4 or its tables are missing, a worker died, or the calling script was read from standard input.
        OutputError: if the file exists, cannot be written, or parts of another production lie beside it.
    """
    if n < 1:
        raise SimulationError(f"{n} showers asked for; expected at least 1")
    if not 0 <= seed < 2**63:
        raise SimulationError(f"seed is {seed}; expected from 0 to below 2^63")
    # A process that is spawned begins by importing the script that asks for it.
    if getattr(sys.modules["__main__"], "__file__", None) == "<stdin>":
        raise SimulationError(
            "a script on standard input cannot simulate, since the processes that simulate import it; expected a file that"
            ' calls under `if __name__ == "__main__":`, or the command `anycalo simulate`'
        )
    request = Request(detector=detector, beam=beam, n=n, seed=seed, settings=settings or Settings())
    out = check_output(out, overwrite=overwrite)
    variables = find_data()
    parts = _open_parts(out, request)
    todo = [k for k in range(len(request.shards)) if not _shard(parts, k).exists()]
    done = n - sum(len(request.shards[k]) for k in todo)
    if progress:
        progress(done, n)
    if todo:
        count = min(workers or len(os.sched_getaffinity(0)), len(todo))
        _run_workers(request, parts, todo, max(1, count), variables, done, progress)
    provenance = _provenance(request, (parts / "geant4-version").read_text().strip(), command)
    with ShowerWriter(out, detector, provenance, overwrite=overwrite, compact=compact) as writer:
        for k in range(len(request.shards)):
            with ShowerFile(_shard(parts, k)) as shard:
                writer.append(shard[:])
    shutil.rmtree(parts)
    return out


def _shard(parts: Path, k: int) -> Path:
    return parts / f"shard-{k:05d}.h5"


def _provenance(request: Request, version: str, command: str) -> dict[str, Any]:
    described = request.to_dict()
    del described["detector"]
    return {
        "generator": "Geant4",
        "geant4_version": version,
        "physics_list": PHYSICS[request.settings.physics],
        "production_cut_mm": request.settings.cut_mm,
        **described,
        "command": command,
        "anycalo_version": __version__,
    }


def claim(record: Path, request: dict[str, Any]) -> list[str]:
    """Record in a folder what it is for, or compare with what is recorded there.

    Args:
        record: the file; its folder is made where there is none.
        request: JSON values.

    Returns:
        The keys in which an earlier record differs: none where the folder is, or now becomes, of this request.
    """
    if record.exists():
        found = json.loads(record.read_text())
        return [key for key in {**request, **found} if found.get(key) != request.get(key)]
    record.parent.mkdir(parents=True, exist_ok=True)
    temporary = record.with_name(f".{record.name}.tmp")
    temporary.write_text(json.dumps(request, indent=1))
    os.replace(temporary, record)
    return []


def _open_parts(out: Path, request: Request) -> Path:
    """The folder of shards, checked to be of this very request."""
    parts = out.with_name(out.name + ".parts")
    if differing := claim(parts / "request.json", request.to_dict()):
        raise OutputError(
            f"{parts} holds parts of another production: {', '.join(differing)} differ. "
            "Repeat that command to finish it, remove the folder, or choose another name."
        )
    for leftover in parts.glob(".shard-*.tmp"):
        leftover.unlink()
    return parts


def _run_workers(
    request: Request,
    parts: Path,
    todo: list[int],
    count: int,
    variables: dict[str, str],
    done: int,
    progress: Callable[[int, int], None] | None,
) -> None:
    """Share the shards out among processes; each has its own Geant4."""
    context = multiprocessing.get_context("spawn")
    shards, reports = context.Queue(), context.Queue()
    for k in todo:
        shards.put(k)
    for _ in range(count):
        shards.put(None)
    arguments = (request, parts, shards, reports, variables, os.getpid())
    processes = [context.Process(target=_work, args=(w, *arguments), daemon=True) for w in range(count)]
    for process in processes:
        process.start()
    finished = 0
    try:
        while finished < count:
            try:
                kind, value = reports.get(timeout=1.0)
            except queue.Empty:
                dead = [p for p in processes if p.exitcode not in (None, 0)]
                if dead:
                    raise SimulationError(
                        f"a Geant4 process died (exit code {dead[0].exitcode}); finished showers are kept in {parts}, where its"
                        " log is too. The same command goes on from there."
                    ) from None
                continue
            if kind == "showers":
                done += value
                if progress:
                    progress(done, request.n)
            elif kind == "finished":
                finished += 1
            else:
                raise SimulationError(f"a Geant4 process failed; finished showers are kept in {parts}.\n{value}")
    finally:
        for process in processes:
            if finished < count:
                process.terminate()
            process.join()


def _work(
    number: int, request: Request, parts: Path, shards: Any, reports: Any, variables: dict[str, str], parent: int
) -> None:
    """A worker: builds the detector once, then makes shards until there are none left."""
    os.environ.update(variables)
    # Geant4 writes to the file descriptors, past Python; its banner and warnings go to a log beside the shards.
    log = os.open(parts / f"worker-{number}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    try:
        from anycalo.simulate.geant4 import VERSION, Geant4Run

        run = Geant4Run(request.detector, request.settings)
        (parts / "geant4-version").write_text(VERSION)
        incident = request.beam.sample(request.n, request.seed)
        while (k := shards.get()) is not None:
            _make_shard(run, request, incident, k, parts, reports, parent)
        reports.put(("finished", number))
    except KeyboardInterrupt:
        os._exit(130)
    except Exception:
        reports.put(("failed", traceback.format_exc(limit=3)))
    leave(reports)


def leave(reports: Any) -> None:
    """End a Geant4 process whose work is done, once its reports are on their way, without taking anything apart.

    At the end of the interpreter Geant4's objects go in no certain order, and now and then one that is gone is
    called: a crash that would count as one of the simulation.
    """
    reports.close()
    reports.join_thread()
    os._exit(0)


def _make_shard(run: Any, request: Request, incident: Incident, k: int, parts: Path, reports: Any, parent: int) -> None:
    chosen = request.shards[k]
    mine = incident[slice(chosen.start, chosen.stop)]
    points: list[np.ndarray] = []

    def collect(steps: np.ndarray, neutral_mev: np.ndarray) -> None:
        if os.getppid() != parent:
            os._exit(1)  # whoever asked for this was killed; nobody waits for the rest
        index = len(points)
        points.append(
            merge_steps(
                steps,
                neutral_mev,
                detector=request.detector,
                direction=mine.direction[index],
                merge_mm=request.settings.merge_mm,
                rng=np.random.default_rng([request.seed, chosen.start + index, 0x9817]),
            )
        )
        reports.put(("showers", 1))

    run.shoot(mine, [shower_seed(request.seed, index) for index in chosen], collect)
    flat = np.concatenate(points)
    showers = Showers(
        detector=request.detector,
        incident=mine,
        offsets=np.concatenate([[0], np.cumsum([len(p) for p in points])]),
        layer=flat[:, 0],
        x_mm=flat[:, 1],
        y_mm=flat[:, 2],
        energy_mev=flat[:, 3],
    )
    target = _shard(parts, k)
    with contextlib.suppress(FileNotFoundError):
        target.unlink()
    showers.write(target)

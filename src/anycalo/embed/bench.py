"""How long a shower takes: models and Geant4 in turn, on one machine, in one run."""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
import statistics
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from anycalo.errors import DomainWarning, ModelError, SimulationError
from anycalo.generate.generate import generate, warn_outside
from anycalo.geometry import Detector
from anycalo.models import Domain, Model
from anycalo.models.caloclouds import CaloClouds
from anycalo.models.consistency import DistillConfig
from anycalo.models.model import parameter_count
from anycalo.showers import Incident, ShowerFile, Showers, samples
from anycalo.simulate import Settings, find_data
from anycalo.simulate.points import shower_seed
from anycalo.train.recipe import Recipe

CONTENDERS = ("geant4", "caloclouds3")
GEANT4_BATCH = 1


@dataclass(frozen=True, kw_only=True)
class Timing:
    """Times a shower of one contender at one energy and batch size, in ms.

    Args:
        name: of the contender.
        energy_mev: of the photons.
        batch: showers a call.
        wall_ms: a shower, one entry a round.
        processor_ms: the same in time of the processor, which does not count what else the machine does.
        first_ms: time of the processor of the call before, the first of its turn, when the caches hold what others worked
            with; none for Geant4, which has one call a turn.
        points: mean points a shower.
    """

    name: str
    energy_mev: float
    batch: int
    wall_ms: tuple[float, ...]
    processor_ms: tuple[float, ...]
    first_ms: tuple[float, ...]
    points: float

    @staticmethod
    def spread(values: Sequence[float]) -> tuple[float, float, float]:
        """Median and the quartiles around it."""
        low, high = np.quantile(values, [0.25, 0.75])
        return statistics.median(values), float(low), float(high)

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        out: dict[str, Any] = dataclasses.asdict(self)
        for kind in ("wall_ms", "processor_ms", "first_ms"):
            if not out[kind]:
                del out[kind]
                continue
            median, low, high = self.spread(out[kind])
            out[kind] = {"median": median, "quartiles": [low, high], "rounds": list(out[kind])}
        return out


def caloclouds3(detector: Detector, like: Showers) -> Model:
    """A network of the sizes of CaloClouds3 (arXiv 2511.01460) with random weights, one evaluation a point as there.

    Its scales are set from showers, so that it draws as many points as they have; for timing alone.

    Args:
        detector: which fixes the size of the flow.
        like: at least 20 showers of this detector.
    """
    recipe = Recipe.load("caloclouds3")
    config = dataclasses.replace(recipe.model, sampler="consistency", steps=1, distill=DistillConfig())
    torch.manual_seed(0)
    model = CaloClouds(config, Domain.of([like]))
    if model.domain.detector != detector:
        raise ModelError(f"showers of '{like.detector.name}' cannot set the scales for '{detector.name}'")
    # Every other shower, since they may be sorted by energy.
    model.stages([like[::2]], [like[1::2]], seed=0)
    return model.eval()


def showers_like(model: Model, detector: Detector, energies_mev: Sequence[float], n: int = 200) -> Showers:
    """Showers to set scales from: a shipped Geant4 sample of the detector where there is one, else the model's own."""
    for path in samples().values():
        with ShowerFile(path) as file:
            if file.detector == detector and len(file) >= n:
                return file[0:n]
    low, high = min(energies_mev), max(energies_mev)
    ends = (low, high) if high > low else (0.8 * low, 1.2 * low)
    return generate(model, detector, Incident(energy_mev=np.geomspace(*ends, n)), seed=3, batch_size=10)


class _Geant4:
    """Geant4 in a process of its own, asked for one shower at a time."""

    def __init__(self, detector: Detector) -> None:
        context = multiprocessing.get_context("spawn")
        self._here, there = context.Pipe()
        self._process = context.Process(target=_serve, args=(detector, find_data(), there), daemon=True)
        self._process.start()
        there.close()
        self._ask((1000.0, 1))  # the first event fills tables

    def _ask(self, question: tuple[float, int]) -> tuple[float, float, int]:
        try:
            self._here.send(question)
            answer: tuple[float, float, int] = self._here.recv()
        except (EOFError, OSError) as error:
            self._process.join(5)
            raise SimulationError(f"the Geant4 process died (exit code {self._process.exitcode})") from error
        return answer

    def time(self, energy_mev: float, seed: int) -> tuple[float, float, int]:
        """Wall time and processor time of one photon in s, and its steps."""
        return self._ask((energy_mev, seed))

    def close(self) -> None:
        """End the process."""
        self._process.terminate()
        self._process.join()


def _serve(detector: Detector, variables: dict[str, str], pipe: Any) -> None:
    os.environ.update(variables)
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.dup2(null, 2)
    from anycalo.simulate.geant4 import Geant4Run

    run = Geant4Run(detector, Settings())
    seen: list[int] = []
    while True:
        energy, seed = pipe.recv()
        wall, processor = time.perf_counter(), time.process_time()
        run.shoot(Incident(energy_mev=energy), [shower_seed(1, seed)], lambda steps, neutral: seen.append(len(steps)))
        pipe.send((time.perf_counter() - wall, time.process_time() - processor, seen[-1]))


def bench(
    models: dict[str, Model],
    detector: Detector,
    energies_mev: Sequence[float],
    batches: Sequence[int],
    *,
    geant4: bool = False,
    rounds: int = 5,
    progress: Callable[[int, int], None] | None = None,
) -> list[Timing]:
    """Time photons at normal incidence: every contender a turn a round, one after another, so that none has the quiet hour.

    A model's turn is two calls, of which the second is its time and the first is kept beside it.

    Args:
        models: by name; the whole call of `generate` is timed.
        detector: which every model accepts.
        energies_mev: of the photons.
        batches: showers a call.
        geant4: also Geant4, one photon a round and energy, whatever the batch.
        rounds: at least 3.
        progress: called with calls done and their number.

    Raises:
        ModelError: if a model refuses the detector, or there are fewer than 3 rounds.
        SimulationError: if Geant4 or its tables are missing.
    """
    if rounds < 3 or not energies_mev or not batches or min(batches) < 1:
        raise ModelError(f"{rounds} rounds and batches {list(batches)}; expected at least 3 rounds, and batches of at least 1")
    for model in models.values():
        model.check(detector)
        warn_outside(model, detector, Incident(energy_mev=list(energies_mev)))
    found: dict[tuple[str, float, int], list[tuple[float, ...]]] = {}
    simulation = _Geant4(detector) if geant4 else None
    total = (rounds + 1) * len(models) * len(energies_mev) * len(batches) + (rounds * len(energies_mev) if geant4 else 0)
    done = 0

    def count() -> None:
        nonlocal done
        done += 1
        if progress:
            progress(done, total)

    try:
        for number in range(-1, rounds):  # round -1 warms up
            for energy in energies_mev:
                for batch in batches:
                    for name, model in models.items():
                        first, second = (_time_model(model, detector, energy, batch, seed=2 * number + k) for k in (2, 3))
                        if number >= 0:
                            found.setdefault((name, energy, batch), []).append((*second, first[1]))
                        count()
                if simulation is not None and number >= 0:
                    wall, processor, steps = simulation.time(energy, number)
                    found.setdefault(("geant4", energy, GEANT4_BATCH), []).append((1e3 * wall, 1e3 * processor, float(steps)))
                    count()
    finally:
        if simulation is not None:
            simulation.close()
    return [
        Timing(
            name=name,
            energy_mev=energy,
            batch=batch,
            wall_ms=tuple(t[0] for t in times),
            processor_ms=tuple(t[1] for t in times),
            first_ms=tuple(t[3] for t in times if len(t) > 3),
            points=statistics.mean(t[2] for t in times),
        )
        for (name, energy, batch), times in found.items()
    ]


def _time_model(model: Model, detector: Detector, energy_mev: float, batch: int, *, seed: int) -> tuple[float, float, float]:
    incident = Incident(energy_mev=energy_mev, n=batch)
    cuda = model.device.type == "cuda"
    if cuda:
        torch.cuda.synchronize()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DomainWarning)  # `bench` has said it
        wall, processor = time.perf_counter(), time.process_time()
        showers = generate(model, detector, incident, seed=seed, batch_size=batch)
    if cuda:
        torch.cuda.synchronize()
    wall, processor = time.perf_counter() - wall, time.process_time() - processor
    return 1e3 * wall / batch, 1e3 * processor / batch, showers.n_points / batch


def sizes(model: Model) -> dict[str, int]:
    """Trained numbers of each network of a model."""
    return {name: parameter_count(child) for name, child in model.named_children() if parameter_count(child)}

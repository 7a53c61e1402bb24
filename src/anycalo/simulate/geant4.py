"""One Geant4 run manager for one detector: particles in, deposits out.

This module and `geant4_detector` alone import geant4_pybind; they are imported only inside a process that
simulates, after `find_data` has found the tables, and such a process can hold one detector.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import geant4_pybind as g4
import numpy as np

from anycalo.errors import SimulationError
from anycalo.geometry import Detector
from anycalo.showers import Incident
from anycalo.simulate.geant4_detector import MARGIN_MM, Construction, Physics, Take
from anycalo.simulate.particles import Primary
from anycalo.simulate.settings import Settings

Collect = Callable[[np.ndarray, np.ndarray], None]

ELECTRON_MASS_MEV = 0.51099895
VERSION = str(g4.G4Version).strip("$ ").removeprefix("Name:").split("[")[0].strip()


@dataclass(frozen=True, kw_only=True)
class Account:
    """Where the energy of one event went, in MeV.

    Args:
        deposited_mev: by material name.
        leaked_mev: kinetic energy that left the calorimeter, plus two electron masses for each positron that left.
    """

    deposited_mev: dict[str, float]
    leaked_mev: float


class _Gun(g4.G4VUserPrimaryGeneratorAction):
    """Shoots the particles of the current event."""

    def __init__(self, run: Geant4Run) -> None:
        super().__init__()
        self._run = run
        self._gun = g4.G4ParticleGun(1)

    def GeneratePrimaries(self, event: Any) -> None:
        primaries, seed = self._run.next_event()
        # Seeding every event makes it depend on its own seed alone, whatever was simulated before it.
        g4.HepRandom.setTheSeed(seed)
        gun, front = self._gun, self._run.front_mm
        for primary in primaries:
            gun.SetParticleDefinition(g4.G4ParticleTable.GetParticleTable().FindParticle(primary.pdg))
            gun.SetParticleEnergy(primary.energy_mev)
            x, y, z = primary.position_mm
            gun.SetParticlePosition(g4.G4ThreeVector(x, y, front + z))
            gun.SetParticleMomentumDirection(g4.G4ThreeVector(*primary.direction))
            gun.GeneratePrimaryVertex(event)


class _Events(g4.G4UserEventAction):
    """Hands each finished event over."""

    def __init__(self, run: Geant4Run) -> None:
        super().__init__()
        self._run = run

    def EndOfEventAction(self, event: Any) -> None:
        self._run.finish_event(event)


class _Leakage(g4.G4UserSteppingAction):
    """Sums what leaves the world; used only for the energy account."""

    def __init__(self) -> None:
        super().__init__()
        self.energy_mev = 0.0

    def UserSteppingAction(self, step: Any) -> None:
        post = step.GetPostStepPoint()
        if post.GetStepStatus() == g4.fWorldBoundary:
            self.energy_mev += post.GetKineticEnergy()
            if step.GetTrack().GetDefinition().GetParticleName() == "e+":
                self.energy_mev += 2 * ELECTRON_MASS_MEV


class _Actions(g4.G4VUserActionInitialization):
    """Makes the actions when Geant4 asks for them: not before the physics list is there."""

    def __init__(self, run: Geant4Run, account: bool) -> None:
        super().__init__()
        self._run = run
        self._account = account
        self.made: list[Any] = []

    def Build(self) -> None:
        self.made = [_Gun(self._run), _Events(self._run)]
        if self._account:
            self._run.leakage = _Leakage()
            self.made.append(self._run.leakage)
        for action in self.made:
            self.SetUserAction(action)


class Geant4Run:
    """A detector built in Geant4, ready to be hit.

    Args:
        detector: what is built.
        settings: physics.
        account: also sum the energy deposited in every material and what leaves; slower.
        record: false leaves the slabs insensitive, to time Geant4 alone.
        gap_mm: room in front of the face, where particles may start.
        take: asked of every photon, electron and positron that comes to the face; those it takes end there.

    Raises:
        SimulationError: if this process has a run manager already, or Geant4 refuses a command.
    """

    def __init__(
        self,
        detector: Detector,
        settings: Settings,
        *,
        account: bool = False,
        record: bool = True,
        gap_mm: float = 0.0,
        take: Take | None = None,
    ) -> None:
        if g4.G4RunManager.GetRunManager() is not None:
            raise SimulationError("this process has a Geant4 run manager already; expected one detector a process")
        self.detector = detector
        self._queue: list[tuple[list[Primary], int]] = []
        self._collect: Collect | None = None
        self.accounts: list[Account] = []
        self._collection_ids: dict[int, int] = {}
        self._manager = g4.G4RunManager()
        self.leakage: _Leakage | None = None
        self._construction = Construction(detector, account=account, record=record, gap_mm=gap_mm, take=take)
        self.front_mm = self._construction.front_mm
        self._parts = (self._construction, Physics(settings), _Actions(self, account))
        for part in self._parts:
            self._manager.SetUserInitialization(part)
        self._manager.SetVerboseLevel(0)
        parameters = g4.G4EmParameters.Instance()
        parameters.SetVerbose(0)
        parameters.SetFluo(settings.fluorescence)
        self._manager.Initialize()

    def prepare(self) -> None:
        """Work out the tables of the physics, which the first event would otherwise wait for."""
        self._manager.BeamOn(0)

    def shoot(self, incident: Incident, seeds: Sequence[int], collect: Collect) -> None:
        """Simulate particles one after another.

        Args:
            incident: the particles.
            seeds: for each a positive integer below 2^63, on which alone its shower depends.
            collect: called after each with its charged steps, shape (S, 4): layer, x in mm, y in mm, energy in
                MeV, and with the energy that neutral particles left in each layer, shape (L,), in MeV.
        """
        events = []
        for pdg, energy, direction in zip(incident.pdg, incident.energy_mev, incident.direction, strict=True):
            dx, dy, dz = (float(v) for v in direction)
            # A hair in front of the face, on the line through its origin, so that the first step crosses into it.
            back = 1e-6 / dz
            start = (-dx * back, -dy * back, -dz * back)
            events.append([Primary(pdg=int(pdg), energy_mev=float(energy), position_mm=start, direction=(dx, dy, dz))])
        self.shoot_events(events, seeds, collect)

    def shoot_events(self, events: Sequence[Sequence[Primary]], seeds: Sequence[int], collect: Collect) -> None:
        """Simulate events of several particles each, one after another.

        Args:
            events: the particles of each, at least one, inside the world.
            seeds: as for `shoot`, one an event.
            collect: as for `shoot`, called after each event.

        Raises:
            SimulationError: if a particle starts outside the world.
        """
        half = [size / 2 for size in self.detector.size_mm]
        for primary in (p for event in events for p in event):
            x, y, z = primary.position_mm
            if abs(x) > half[0] or abs(y) > half[1] or not -self._construction.gap_mm - MARGIN_MM < z < self.detector.depth_mm:
                raise SimulationError(
                    f"a particle starts at ({x:g}, {y:g}, {z:g}) mm, outside the world: expected x within {half[0]:g} mm and y"
                    f" within {half[1]:g} mm of the axis, and z above {-self._construction.gap_mm:g} mm"
                )
        self._queue = [(list(event), int(seed)) for event, seed in zip(events, seeds, strict=True)][::-1]
        self._collect = collect
        self._manager.BeamOn(len(self._queue))

    def next_event(self) -> tuple[list[Primary], int]:
        """Called by the gun."""
        return self._queue.pop()

    def _scored(self, collections: Any, scorer: Any) -> float:
        """Sum of a C++ scorer over its copies, in MeV, from the collections of an event."""
        key = id(scorer)
        if key not in self._collection_ids:
            self._collection_ids[key] = scorer.GetCollectionID(0)
        hits = collections.GetHC(self._collection_ids[key])
        # Going through an empty one takes ten times as long as asking.
        return sum(value for _, value in hits) if hits is not None and hits.entries() else 0.0

    def finish_event(self, event: Any) -> None:
        """Called at the end of an event: moves what was collected out of Geant4."""
        blocks = []
        neutral = np.zeros(self.detector.n_layers)
        collections = event.GetHCofThisEvent()
        for index, (charged, scorer) in enumerate(zip(self._construction.layers, self._construction.neutral, strict=True)):
            if charged.values:
                values = np.array(charged.values).reshape(-1, 3)
                layer = np.full(len(values), float(index))
                blocks.append(np.stack([layer, values[:, 1] / 2, values[:, 2] / 2, values[:, 0]], axis=1))
                charged.values = []
            neutral[index] = self._scored(collections, scorer)
        steps = np.concatenate(blocks) if blocks else np.zeros((0, 4))
        if self.leakage is not None:
            deposited: dict[str, float] = {}
            for material, scorer in self._construction.totals:
                deposited[material] = deposited.get(material, 0.0) + self._scored(collections, scorer)
            self.accounts.append(Account(deposited_mev=deposited, leaked_mev=self.leakage.energy_mev))
            self.leakage.energy_mev = 0.0
        if self._collect is not None:
            self._collect(steps, neutral)

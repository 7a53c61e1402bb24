"""One Geant4 run manager for one detector: particles in, deposits out.

The only module that imports geant4_pybind; it is imported only inside a process that simulates, after
`find_data` has found the tables, and such a process can hold one detector.

Where the time goes: charged steps in sensitive slabs call back into Python, about one call per 2 MeV of
incident energy. Neutral steps are twice as many but deposit 0.02 % of the energy (atomic binding energies),
so a C++ scorer sums them for each layer and they are shared among that layer's points in proportion.
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
from anycalo.simulate.settings import PHYSICS, Settings

Collect = Callable[[np.ndarray, np.ndarray], None]

MARGIN_MM = 1.0
ELECTRON_MASS_MEV = 0.51099895
VERSION = str(g4.G4Version).strip("$ ").removeprefix("Name:").split("[")[0].strip()

_NAMES = {22: "gamma", 11: "e-", -11: "e+"}

# Looking attributes up once is a tenth of the cost of a step.
_deposit = g4.G4Step.GetTotalEnergyDeposit
_pre = g4.G4Step.GetPreStepPoint
_post = g4.G4Step.GetPostStepPoint
_position = g4.G4StepPoint.GetPosition
_x = g4.G4ThreeVector.x.fget
_y = g4.G4ThreeVector.y.fget


@dataclass(frozen=True, kw_only=True)
class Account:
    """Where the energy of one event went, in MeV.

    Args:
        deposited_mev: by material name.
        leaked_mev: kinetic energy that left the calorimeter, plus two electron masses for each positron that left.
    """

    deposited_mev: dict[str, float]
    leaked_mev: float


class _ChargedSteps(g4.G4VPrimitiveScorer):
    """Collects (energy, x before + after, y before + after) of the steps in one layer."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.values: list[float] = []
        self.SetFilter(g4.G4SDChargedFilter(name + "/charged"))

    def ProcessHits(self, step: Any, history: Any) -> bool:
        energy = _deposit(step)
        if energy > 0.0:
            middle = _position(_pre(step))
            middle += _position(_post(step))
            self.values += (energy, _x(middle), _y(middle))
        return True

    def Initialize(self, collections: Any) -> None:
        pass

    def EndOfEvent(self, collections: Any) -> None:
        pass

    def clear(self) -> None:
        pass


class _Construction(g4.G4VUserDetectorConstruction):
    """The stack of slabs in a world that ends just behind it: what leaves is gone."""

    def __init__(self, detector: Detector, account: bool, record: bool) -> None:
        super().__init__()
        self.detector = detector
        self.account = account
        self.record = record
        self.layers: list[_ChargedSteps] = []
        self.neutral: list[Any] = []
        self.totals: list[tuple[str, Any]] = []
        self._sensitive: list[list[Any]] = [[] for _ in detector.layers]
        self._passive: list[tuple[str, Any]] = []
        self._keep: list[Any] = []
        self._materials: dict[str, Any] = {}
        self._gases: dict[str, Any] = {}

    def _material(self, name: str) -> Any:
        if name not in self._materials:
            nist = g4.G4NistManager.Instance()
            custom = self.detector.materials.get(name)
            if custom is None:
                built = nist.FindOrBuildMaterial(name)
                if built is None:
                    raise SimulationError(
                        f"Geant4 knows no material '{name}'; use a NIST name or define it in the detector file"
                    )
            else:
                density = custom.density_g_cm3 * g4.g / g4.cm3
                built = g4.G4Material(name, density, len(custom.mass_fractions))
                for part, fraction in custom.mass_fractions.items():
                    built.AddMaterial(self._material(part), fraction)
            self._materials[name] = built
        return self._materials[name]

    def _box(self, name: str, thickness_mm: float, material: str, extra_mm: float = 0.0) -> Any:
        width, height = (s / 2 + extra_mm for s in self.detector.size_mm)
        solid = g4.G4Box(name, width, height, thickness_mm / 2)
        logical = g4.G4LogicalVolume(solid, self._material(material), name)
        self._keep += [solid, logical]
        return logical

    def Construct(self) -> Any:
        d = self.detector
        world = self._box("world", d.depth_mm + 2 * MARGIN_MM, d.world_material, extra_mm=MARGIN_MM)
        placed = g4.G4PVPlacement(None, g4.G4ThreeVector(), world, "world", None, False, 0)
        self._keep.append(placed)
        shared: dict[tuple[str, float], Any] = {}
        z = -d.depth_mm / 2  # a Geant4 box is centred on its origin
        for index, layer in enumerate(d.layers):
            for slab in layer.slabs:
                key = (slab.material, slab.thickness_mm)
                if slab.sensitive:
                    logical = self._box(f"layer{index}", slab.thickness_mm, slab.material)
                    self._sensitive[index].append(logical)
                else:
                    if key not in shared:
                        shared[key] = self._box(f"{slab.material}/{slab.thickness_mm}", slab.thickness_mm, slab.material)
                        self._passive.append((slab.material, shared[key]))
                    logical = shared[key]
                centre = g4.G4ThreeVector(0, 0, z + slab.thickness_mm / 2)
                self._keep.append(g4.G4PVPlacement(None, centre, logical, logical.GetName(), world, False, index))
                z += slab.thickness_mm
        if d.field_tesla > 0:
            field = g4.G4UniformMagField(g4.G4ThreeVector(d.field_tesla * g4.tesla, 0, 0))
            manager = g4.G4TransportationManager.GetTransportationManager().GetFieldManager()
            manager.SetDetectorField(field)
            manager.CreateChordFinder(field)
            self._keep.append(field)
        return placed

    def _total(self, detector: Any, name: str) -> Any:
        scorer = g4.G4PSEnergyDeposit(name)
        detector.RegisterPrimitive(scorer)
        self._keep.append(scorer)
        return scorer

    def ConstructSDandField(self) -> None:
        if not self.record:
            return
        register = g4.G4SDManager.GetSDMpointer().AddNewDetector
        for index, logicals in enumerate(self._sensitive):
            name = f"layer{index}"
            sensitive = g4.G4MultiFunctionalDetector(name)
            register(sensitive)
            charged = _ChargedSteps("charged")
            sensitive.RegisterPrimitive(charged)
            neutral = self._total(sensitive, "neutral")
            neutral_filter = g4.G4SDNeutralFilter(f"{name}/neutral")
            neutral.SetFilter(neutral_filter)
            self._keep += [sensitive, neutral_filter]
            self.layers.append(charged)
            self.neutral.append(neutral)
            if self.account:
                material = next(s.material for s in self.detector.layers[index].slabs if s.sensitive)
                self.totals.append((material, self._total(sensitive, "total")))
            for logical in logicals:
                logical.SetSensitiveDetector(sensitive)
        if self.account:
            for number, (material, logical) in enumerate(self._passive):
                passive = g4.G4MultiFunctionalDetector(f"passive{number}")
                register(passive)
                self.totals.append((material, self._total(passive, "total")))
                self._keep.append(passive)
                logical.SetSensitiveDetector(passive)


class _Physics(g4.G4VModularPhysicsList):
    """Electromagnetic physics alone: photons, electrons and positrons make nothing else that matters here."""

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self._constructor = getattr(g4, PHYSICS[settings.physics])()
        self._cut_mm = settings.cut_mm
        self.RegisterPhysics(self._constructor)

    def SetCuts(self) -> None:
        for particle in ("gamma", "e-", "e+", "proton"):
            self.SetCutValue(self._cut_mm, particle)


class _Gun(g4.G4VUserPrimaryGeneratorAction):
    """Shoots the particle of the current event at the origin of the front face."""

    def __init__(self, run: Geant4Run) -> None:
        super().__init__()
        self._run = run
        self._gun = g4.G4ParticleGun(1)

    def GeneratePrimaries(self, event: Any) -> None:
        pdg, energy, direction, seed = self._run.next_event()
        # Seeding every event makes a shower depend on its own seed alone, whatever was simulated before it.
        g4.HepRandom.setTheSeed(seed)
        gun = self._gun
        gun.SetParticleDefinition(g4.G4ParticleTable.GetParticleTable().FindParticle(_NAMES[pdg]))
        gun.SetParticleEnergy(energy)
        dx, dy, dz = direction
        # A hair in front of the face, on the line through its origin, so that the first step crosses into it.
        back = 1e-6 / dz
        front = -self._run.detector.depth_mm / 2
        gun.SetParticlePosition(g4.G4ThreeVector(-dx * back, -dy * back, front - dz * back))
        gun.SetParticleMomentumDirection(g4.G4ThreeVector(dx, dy, dz))
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
        post = _post(step)
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

    Raises:
        SimulationError: if this process has a run manager already, or Geant4 refuses a command.
    """

    def __init__(self, detector: Detector, settings: Settings, *, account: bool = False, record: bool = True) -> None:
        if g4.G4RunManager.GetRunManager() is not None:
            raise SimulationError("this process has a Geant4 run manager already; expected one detector a process")
        self.detector = detector
        self._queue: list[tuple[int, float, list[float], int]] = []
        self._collect: Collect | None = None
        self.accounts: list[Account] = []
        self._collection_ids: dict[int, int] = {}
        self._manager = g4.G4RunManager()
        self.leakage: _Leakage | None = None
        self._construction = _Construction(detector, account, record)
        self._parts = (self._construction, _Physics(settings), _Actions(self, account))
        for part in self._parts:
            self._manager.SetUserInitialization(part)
        self._manager.SetVerboseLevel(0)
        parameters = g4.G4EmParameters.Instance()
        parameters.SetVerbose(0)
        parameters.SetFluo(settings.fluorescence)
        self._manager.Initialize()

    def shoot(self, incident: Incident, seeds: Sequence[int], collect: Collect) -> None:
        """Simulate particles one after another.

        Args:
            incident: the particles.
            seeds: for each a positive integer below 2^63, on which alone its shower depends.
            collect: called after each with its charged steps, shape (S, 4): layer, x in mm, y in mm, energy in
                MeV, and with the energy that neutral particles left in each layer, shape (L,), in MeV.
        """
        self._queue = [
            (int(pdg), float(energy), [float(v) for v in direction], int(seed))
            for pdg, energy, direction, seed in zip(incident.pdg, incident.energy_mev, incident.direction, seeds, strict=True)
        ][::-1]
        self._collect = collect
        self._manager.BeamOn(len(incident))

    def next_event(self) -> tuple[int, float, list[float], int]:
        """Called by the gun."""
        return self._queue.pop()

    def _scored(self, event: Any, scorer: Any) -> float:
        """Sum of a C++ scorer over its copies, in MeV."""
        key = id(scorer)
        if key not in self._collection_ids:
            self._collection_ids[key] = scorer.GetCollectionID(0)
        hits = event.GetHCofThisEvent().GetHC(self._collection_ids[key])
        return sum(value for _, value in hits) if hits is not None else 0.0

    def finish_event(self, event: Any) -> None:
        """Called at the end of an event: moves what was collected out of Geant4."""
        blocks = []
        neutral = np.zeros(self.detector.n_layers)
        for index, (charged, scorer) in enumerate(zip(self._construction.layers, self._construction.neutral, strict=True)):
            if charged.values:
                values = np.array(charged.values).reshape(-1, 3)
                layer = np.full(len(values), float(index))
                blocks.append(np.stack([layer, values[:, 1] / 2, values[:, 2] / 2, values[:, 0]], axis=1))
                charged.values = []
            neutral[index] = self._scored(event, scorer)
        steps = np.concatenate(blocks) if blocks else np.zeros((0, 4))
        if self.leakage is not None:
            deposited: dict[str, float] = {}
            for material, scorer in self._construction.totals:
                deposited[material] = deposited.get(material, 0.0) + self._scored(event, scorer)
            self.accounts.append(Account(deposited_mev=deposited, leaked_mev=self.leakage.energy_mev))
            self.leakage.energy_mev = 0.0
        if self._collect is not None:
            self._collect(steps, neutral)

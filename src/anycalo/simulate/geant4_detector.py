"""The detector as Geant4 holds it: slabs in a world, what collects their deposits, and the physics.

Where the time goes: charged steps in sensitive slabs call back into Python, about one call per 2 MeV of
incident energy. Neutral steps are twice as many but deposit 0.02 % of the energy (atomic binding energies),
so a C++ scorer sums them for each layer and they are shared among that layer's points in proportion.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import geant4_pybind as g4

from anycalo.errors import SimulationError
from anycalo.geometry import Detector
from anycalo.simulate.particles import Crossing
from anycalo.simulate.settings import PHYSICS, Settings

Take = Callable[[Crossing], bool]

MARGIN_MM = 1.0
LONGEST_MM = 1e5
FACE_MM = 0.01

# Looking attributes up once is a tenth of the cost of a step.
_deposit = g4.G4Step.GetTotalEnergyDeposit
_pre = g4.G4Step.GetPreStepPoint
_post = g4.G4Step.GetPostStepPoint
_position = g4.G4StepPoint.GetPosition
_x = g4.G4ThreeVector.x.fget
_y = g4.G4ThreeVector.y.fget


class Called(g4.G4VPrimitiveScorer):
    """A scorer that is called for steps and keeps no collection of hits."""

    def Initialize(self, collections: Any) -> None:
        pass

    def EndOfEvent(self, collections: Any) -> None:
        pass

    def clear(self) -> None:
        pass


class ChargedSteps(Called):
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


class Lost(Called):
    """Ends charged particles that have gone `LONGEST_MM`, once they are outside the slabs.

    In a field, now and then, Geant4 throws a slow electron back from a surface a million times, by steps of no length into the
    matter and laps in the vacuum, which takes minutes.
    """

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.SetFilter(g4.G4SDChargedFilter(name + "/charged"))

    def ProcessHits(self, step: Any, history: Any) -> bool:
        track = step.GetTrack()
        if track.GetTrackLength() > LONGEST_MM:
            track.SetTrackStatus(g4.fStopAndKill)
        return True


class Face(Called):
    """Offers every photon, electron and positron that enters the calorimeter, and ends those that are taken.

    Scores in a film of the world's material on the front face, so that nothing is called elsewhere.
    """

    def __init__(self, name: str, front_mm: float, take: Take) -> None:
        super().__init__(name)
        self._front_mm = front_mm
        self._take = take

    def ProcessHits(self, step: Any, history: Any) -> bool:
        post = _post(step)
        position, direction = _position(post), post.GetMomentumDirection()
        if direction.z > 0.0 and abs(position.z - self._front_mm) < 1e-6:
            track = step.GetTrack()
            pdg = track.GetDefinition().GetPDGEncoding()
            if pdg in (22, 11, -11):
                crossing = Crossing(
                    pdg=pdg,
                    energy_mev=post.GetKineticEnergy(),
                    position_mm=(position.x, position.y),
                    direction=(direction.x, direction.y, direction.z),
                    primary=track.GetTrackID() - 1 if track.GetParentID() == 0 else -1,
                )
                if self._take(crossing):
                    track.SetTrackStatus(g4.fStopAndKill)
        return True


class Construction(g4.G4VUserDetectorConstruction):
    """The stack of slabs in a world that ends just behind it: what leaves is gone.

    Args:
        detector: what is built.
        account: also sum the energy in every material.
        record: false leaves the slabs insensitive.
        gap_mm: room in front of the face, of the world's material.
        take: asked at the face; see `Face`.
    """

    def __init__(
        self, detector: Detector, *, account: bool = False, record: bool = True, gap_mm: float = 0.0, take: Take | None = None
    ) -> None:
        super().__init__()
        self.detector = detector
        self.account = account
        self.record = record
        self.gap_mm = gap_mm
        self.front_mm = (gap_mm - detector.depth_mm) / 2  # a Geant4 box is centred on its origin
        self._take = take
        self._face: Any = None
        self.layers: list[ChargedSteps] = []
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
        world = self._box("world", d.depth_mm + 2 * MARGIN_MM + self.gap_mm, d.world_material, extra_mm=MARGIN_MM)
        placed = g4.G4PVPlacement(None, g4.G4ThreeVector(), world, "world", None, False, 0)
        self._world = world
        self._keep.append(placed)
        shared: dict[tuple[str, float], Any] = {}
        if self._take is not None:
            self._face = self._box("face", FACE_MM, d.world_material)
            before = g4.G4ThreeVector(0, 0, self.front_mm - FACE_MM / 2)
            self._keep.append(g4.G4PVPlacement(None, before, self._face, "face", world, False, 0))
        z = self.front_mm
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
        register = g4.G4SDManager.GetSDMpointer().AddNewDetector
        outside, lost = g4.G4MultiFunctionalDetector("outside"), Lost("lost")
        register(outside)
        outside.RegisterPrimitive(lost)
        self._world.SetSensitiveDetector(outside)
        self._keep += [outside, lost]
        if self._take is not None:
            sensitive = g4.G4MultiFunctionalDetector("face")
            register(sensitive)
            face = Face("crossings", self.front_mm, self._take)
            sensitive.RegisterPrimitive(face)
            self._face.SetSensitiveDetector(sensitive)
            self._keep += [sensitive, face]
        if not self.record:
            return
        for index, logicals in enumerate(self._sensitive):
            name = f"layer{index}"
            sensitive = g4.G4MultiFunctionalDetector(name)
            register(sensitive)
            charged = ChargedSteps("charged")
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


class Physics(g4.G4VModularPhysicsList):
    """Electromagnetic physics alone: photons, electrons and positrons make nothing else that matters here."""

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self._constructor = getattr(g4, PHYSICS[settings.physics])()
        self._cut_mm = settings.cut_mm
        self.RegisterPhysics(self._constructor)

    def SetCuts(self) -> None:
        for particle in ("gamma", "e-", "e+", "proton"):
            self.SetCutValue(self._cut_mm, particle)

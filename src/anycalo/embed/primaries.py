"""Where the particles of the events come from: guns, a CSV list, or a HepMC3 file."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from anycalo.errors import SimulationError
from anycalo.showers import Beam
from anycalo.simulate.particles import Primary, Vector

MASS_MEV = {22: 0.0, 11: 0.51099895, -11: 0.51099895, 13: 105.6583755, -13: 105.6583755}
NEUTRINOS = (12, 14, 16)
COLUMNS = ("event", "pdg", "energy_mev", "x_mm", "y_mm", "z_mm", "dx", "dy", "dz")


@dataclass(frozen=True, kw_only=True)
class Gun:
    """Particles added to every event.

    Args:
        energy_mev: lowest and highest kinetic energy.
        particle: gamma, electron or positron; several are drawn with equal probability.
        number: of particles an event.
        spectrum: `uniform` or `log`.
        position_mm: where they start, in the shower frame: z below 0 is in front of the face.
        spread_mm: half widths in x and y of the square from which starts are drawn.
        direction: unit vector into the calorimeter.
        max_angle_deg: directions uniform in solid angle up to this angle from the normal.
    """

    energy_mev: tuple[float, float]
    particle: tuple[str, ...] = ("gamma",)
    number: int = 1
    spectrum: str = "uniform"
    position_mm: tuple[float, float, float] = (0.0, 0.0, -10.0)
    spread_mm: tuple[float, float] = (0.0, 0.0)
    direction: tuple[float, float, float] = (0.0, 0.0, 1.0)
    max_angle_deg: float = 0.0

    def __post_init__(self) -> None:
        if self.number < 1:
            raise SimulationError(f"number is {self.number}; expected at least 1")
        if self.position_mm[2] >= 0:
            raise SimulationError(f"position_mm is {list(self.position_mm)}; expected z below 0, in front of the face")
        if min(self.spread_mm) < 0:
            raise SimulationError(f"spread_mm is {list(self.spread_mm)}; expected at least 0")
        self.beam  # noqa: B018  (checks the rest)

    @property
    def beam(self) -> Beam:
        """Energies, kinds and directions."""
        return Beam(
            particle=self.particle,
            energy_mev=self.energy_mev,
            spectrum=self.spectrum,
            direction=self.direction,
            max_angle_rad=math.radians(self.max_angle_deg),
        )

    def sample(self, events: int, seed: int) -> list[list[Primary]]:
        """The particles of each event; those of the first events do not depend on how many follow."""
        count = events * self.number
        incident = self.beam.sample(count, seed)
        away = np.random.default_rng([seed, 0x5B0]).uniform(-1, 1, (count, 2)) * self.spread_mm
        x0, y0, z0 = self.position_mm
        particles = [
            Primary(
                pdg=int(incident.pdg[k]),
                energy_mev=float(incident.energy_mev[k]),
                position_mm=(x0 + float(away[k, 0]), y0 + float(away[k, 1]), z0),
                direction=_unit(incident.direction[k].astype(float)),
            )
            for k in range(count)
        ]
        return [particles[start : start + self.number] for start in range(0, count, self.number)]


def read_particles(path: str | Path, *, origin_mm: Vector = (0.0, 0.0, 0.0)) -> list[list[Primary]]:
    """The particles of the events in a CSV file, or the final ones in a HepMC3 file (`.hepmc`, `.hepmc3`).

    Neutrinos of a HepMC3 file are left out, and events without any other particle. A CSV file has a header with the
    columns `event` (whole numbers that do not fall), `pdg`, `energy_mev` (kinetic), `x_mm`, `y_mm`, `z_mm`, `dx`, `dy`, `dz`.

    Args:
        path: of the file.
        origin_mm: added to every position: where the file's origin lies in the shower frame.

    Raises:
        SimulationError: naming the line that cannot be read, or a particle that the electromagnetic physics lacks.
    """
    path = Path(path)
    if not path.is_file():
        raise SimulationError(f"{path}: no such file; expected particles in CSV or HepMC3")
    try:
        lines = path.read_text("utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise SimulationError(f"{path}: not a text file; expected particles in CSV or HepMC3 (Asciiv3)") from error
    if path.suffix in (".hepmc", ".hepmc3") or (lines and lines[0].startswith("HepMC::")):
        events = _read_hepmc3(path, lines)
    else:
        events = _read_csv(path, lines)
    events = [event for event in events if event]
    if not events:
        raise SimulationError(f"{path} holds no particle; expected at least one event with one")
    ox, oy, oz = origin_mm
    return [
        [
            Primary(
                pdg=p.pdg,
                energy_mev=p.energy_mev,
                position_mm=(p.position_mm[0] + ox, p.position_mm[1] + oy, p.position_mm[2] + oz),
                direction=p.direction,
            )
            for p in event
        ]
        for event in events
    ]


def _read_csv(path: Path, lines: Sequence[str]) -> list[list[Primary]]:
    rows = csv.DictReader(lines)
    missing = [c for c in COLUMNS if c not in (rows.fieldnames or ())]
    if missing:
        raise SimulationError(f"{path}: column {', '.join(missing)} missing; expected the header {','.join(COLUMNS)}")
    events: list[list[Primary]] = []
    last = None
    for row in rows:
        where = f"{path}, line {rows.line_num}"
        try:
            event, pdg = int(row["event"]), int(row["pdg"])
            energy, *rest = (float(row[c]) for c in COLUMNS[2:])
        except (TypeError, ValueError) as error:
            raise SimulationError(f"{where}: {error}; expected numbers") from error
        if last is not None and event < last:
            raise SimulationError(f"{where}: event {event} after event {last}; expected numbers that do not fall")
        if event != last:
            events.append([])
            last = event
        events[-1].append(_primary(pdg, energy, (rest[0], rest[1], rest[2]), np.array(rest[3:]), where))
    return events


def _read_hepmc3(path: Path, lines: Sequence[str]) -> list[list[Primary]]:
    """Final particles (status 1) of HepMC3's Asciiv3: lines E (event), U (units), V (vertex), P (particle)."""
    events: list[list[Primary]] = []
    mev, mm = 1000.0, 1.0
    places: dict[int, Vector] = {}
    zero = (0.0, 0.0, 0.0)
    for number, line in enumerate(lines, 1):
        words = line.split()
        where = f"{path}, line {number}"
        try:
            match words[:1]:
                case ["E"]:
                    events.append([])
                    # A vertex without a position of its own is where the event is.
                    places = {0: _place(words, mm) or zero}
                case ["U"]:
                    mev, scale = {"GEV": 1000.0, "MEV": 1.0}[words[1]], {"MM": 1.0, "CM": 10.0}[words[2]]
                    x, y, z = (value * scale / mm for value in places[0])  # the event's own line comes before its units
                    places[0], mm = (x, y, z), scale
                case ["V"]:
                    places[int(words[1])] = _place(words, mm) or places[0]
                case ["P"] if words[-1] == "1" and abs(int(words[3])) not in NEUTRINOS:
                    parent, pdg = int(words[2]), int(words[3])
                    momentum = np.array([float(w) for w in words[4:7]]) * mev
                    # A positive parent is a particle whose end vertex is implied; its place is the event's.
                    place = places.get(parent, places[0])
                    mass = MASS_MEV.get(pdg, 0.0)
                    kinetic = math.hypot(*momentum, mass) - mass
                    events[-1].append(_primary(pdg, kinetic, place, momentum, where))
        except (IndexError, KeyError, ValueError) as error:
            raise SimulationError(f"{where}: cannot be read ({error}); expected HepMC3's Asciiv3 format") from error
    return events


def _place(words: Sequence[str], mm: float) -> Vector | None:
    if "@" not in words:
        return None
    x, y, z = (float(w) * mm for w in words[words.index("@") + 1 :][:3])
    return x, y, z


def _primary(pdg: int, energy_mev: float, position_mm: Vector, direction: np.ndarray, where: str) -> Primary:
    if pdg not in MASS_MEV:
        raise SimulationError(
            f"{where}: particle {pdg} is unknown to electromagnetic physics; expected one of {', '.join(map(str, MASS_MEV))}"
        )
    norm = float(np.linalg.norm(direction))
    if not (math.isfinite(energy_mev) and energy_mev > 0 and math.isfinite(norm) and norm > 0):
        raise SimulationError(f"{where}: energy {energy_mev} MeV and direction {direction}; expected finite and above 0")
    return Primary(pdg=pdg, energy_mev=energy_mev, position_mm=position_mm, direction=_unit(direction))


def _unit(vector: np.ndarray) -> Vector:
    x, y, z = (float(v) for v in vector / np.linalg.norm(vector))
    return x, y, z

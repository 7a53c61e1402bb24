"""The TOML file of an embedded run."""

from __future__ import annotations

import dataclasses
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from anycalo.embed.primaries import Gun, read_particles
from anycalo.errors import SimulationError
from anycalo.geometry import Detector
from anycalo.models.config import from_table, to_table
from anycalo.simulate import Settings
from anycalo.simulate.particles import Primary


@dataclass(frozen=True, kw_only=True)
class EmbedRun:
    """A Geant4 run in which a model may take over at the face of the calorimeter.

    Args:
        detector: a preset's name or the path of a detector file.
        events: number of events; with `particles`, all of the file where it is 0.
        model: a shipped model's name or the directory of a trained one.
        gun: what each event begins with; either guns or `particles`.
        particles: a CSV or HepMC3 file; see `read_particles`.
        origin_mm: where that file's origin lies in the shower frame.
        gap_mm: room in front of the face.
        field_tesla: instead of the detector's own.
        mirror_positrons: take positrons as mirrored electrons where the model knows only these; see `Takeover`.
        seed: of the particles, the simulation and the model.
        settings: physics.
    """

    detector: str
    model: str
    events: int = 0
    gun: tuple[Gun, ...] = ()
    particles: str | None = None
    origin_mm: tuple[float, float, float] = (0.0, 0.0, 0.0)
    gap_mm: float = 100.0
    field_tesla: float | None = None
    mirror_positrons: bool = True
    seed: int = 1
    settings: Settings = field(default_factory=Settings)

    def __post_init__(self) -> None:
        if bool(self.gun) == (self.particles is not None):
            raise SimulationError('expected one source of particles: [[gun]] tables, or particles = "FILE"')
        if self.events < 0 or (self.gun and self.events < 1):
            raise SimulationError(f"events is {self.events}; expected at least 1")
        if not 0 <= self.gap_mm <= 1e5:
            raise SimulationError(f"gap_mm is {self.gap_mm}; expected from 0 to 100000")
        if not 0 <= self.seed < 2**63:
            raise SimulationError(f"seed is {self.seed}; expected from 0 to below 2^63")

    def geometry(self) -> Detector:
        """The detector, in the field that is asked for.

        Raises:
            DetectorError: as `Detector.load`.
        """
        detector = Detector.load(self.detector)
        return detector if self.field_tesla is None else dataclasses.replace(detector, field_tesla=self.field_tesla)

    def primaries(self) -> list[list[Primary]]:
        """The particles of every event.

        Raises:
            SimulationError: if the file cannot be read or holds fewer events.
        """
        if self.particles is not None:
            events = read_particles(self.particles, origin_mm=self.origin_mm)
            if self.events > len(events):
                raise SimulationError(f"{self.particles} holds {len(events)} events; {self.events} were asked for")
            return events[: self.events or None]
        shots = [gun.sample(self.events, self.seed + k) for k, gun in enumerate(self.gun)]
        return [[p for particles in event for p in particles] for event in zip(*shots, strict=True)]

    def to_table(self) -> dict[str, Any]:
        """Plain values, for the provenance."""
        return to_table(self)

    @staticmethod
    def load(path: str | Path) -> EmbedRun:
        """Read a TOML file; paths in it count from its folder.

        Raises:
            SimulationError: if it is missing, is not TOML, or a key is unknown, missing or of the wrong kind.
        """
        path = Path(path)
        try:
            table = tomllib.loads(path.read_text("utf-8"))
        except OSError as error:
            raise SimulationError(f"{path} cannot be read: {error.strerror or error}; expected a TOML file") from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise SimulationError(f"{path}: not valid TOML: {error}") from error
        run = from_table(EmbedRun, table, where=str(path), error=SimulationError)
        near: dict[str, Any] = {
            key: str(path.parent / value)
            for key in ("detector", "model", "particles")
            if (value := getattr(run, key)) is not None and (path.parent / value).exists()
        }
        return dataclasses.replace(run, **near)

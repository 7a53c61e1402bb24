"""Zoos: recipes that draw random detectors, or name fixed ones, to train and test across geometries."""

from __future__ import annotations

import dataclasses
import math
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from anycalo.errors import DetectorError
from anycalo.geometry.detector import Detector, Layer, Section, Slab
from anycalo.geometry.file import presets, suggest
from anycalo.geometry.materials import material
from anycalo.geometry.readouts import Rectangular

Range = tuple[float, float]


def _range(table: Mapping[str, Any], key: str, *, lowest: float = 0.0) -> Range:
    value = table.get(key)
    if not isinstance(value, list) or len(value) != 2 or not lowest <= value[0] <= value[1] < math.inf:
        raise DetectorError(f"{key} is {value!r}; expected [lowest, highest] with {lowest} <= lowest <= highest")
    return float(value[0]), float(value[1])


def _only(table: Any, what: str, required: list[str], optional: Sequence[str] = ()) -> Mapping[str, Any]:
    if not isinstance(table, dict):
        raise DetectorError(f"{what} is {table!r}; expected a table")
    allowed = [*required, *optional]
    for key in table:
        if key not in allowed:
            raise DetectorError(f"unknown key '{key}' in {what}.{suggest(key, allowed)} Allowed: {', '.join(allowed)}.")
    for key in required:
        if key not in table:
            raise DetectorError(f"{what} lacks '{key}'. Required: {', '.join(required)}.")
    return table


@dataclass(frozen=True, kw_only=True)
class BeamRanges:
    """What hits every detector of a zoo; `anycalo.showers.Beam` with an angle in degrees."""

    particles: tuple[str, ...]
    energy_mev: Range
    spectrum: str
    max_angle_deg: float


@dataclass(frozen=True, kw_only=True)
class Stacks:
    """The ranges from which random stacks are drawn; see `zoos/zoo-train.toml` for each.

    Thicknesses of absorbers and sensors are log-uniform, everything else is uniform.
    """

    depth_x0: Range
    n_layers: Range
    field_tesla: Range
    pitch_mm: Range
    size_mm: tuple[float, float]
    absorbers: tuple[str, ...]
    absorber_x0: Range
    coarser_probability: float
    coarser_factor: Range
    sensors: Mapping[str, Range]
    passive_probability: float
    passives: Mapping[str, float]
    front_probability: float = 0.0
    fronts: Mapping[str, float] = field(default_factory=dict)
    alternating_probability: float = 0.0
    no_field_probability: float = 0.0
    sheets: tuple[int, int] = (1, 1)

    def draw(self, name: str, rng: np.random.Generator) -> Detector:
        """One detector; draws again until depth and number of layers are both in range."""
        for _ in range(1000):
            detector = self._draw(name, rng)
            if detector is not None:
                return detector
        raise DetectorError(
            f"no stack of {self.n_layers} layers and {self.depth_x0} X0 in 1,000 draws; widen the ranges of the zoo"
        )

    def _draw(self, name: str, rng: np.random.Generator) -> Detector | None:
        def sheet(materials: Mapping[str, float]) -> Slab:
            chosen = str(rng.choice(list(materials)))
            return Slab(material=chosen, thickness_mm=round(float(materials[chosen] * (1 - rng.random())) + 1e-4, 4))

        def several(materials: Mapping[str, float]) -> list[Slab]:
            # Their number is drawn only where there is a choice, so that recipes without one draw what they always drew.
            fewest, most = self.sheets
            return [sheet(materials) for _ in range(int(rng.integers(fewest, most + 1)) if most > fewest else fewest)]

        def log_uniform(limits: Range) -> float:
            return float(limits[0] * (limits[1] / limits[0]) ** rng.random())

        absorber = str(rng.choice(self.absorbers))
        sensor = str(rng.choice(list(self.sensors)))
        absorber_mm = log_uniform(self.absorber_x0) * material({}, absorber).x0_mm
        slabs = [Slab(material=sensor, thickness_mm=round(log_uniform(self.sensors[sensor]), 4), sensitive=True)]
        if rng.random() < self.passive_probability:
            slabs += several(self.passives)
        # Drawn only where asked for, so that recipes without these draw what they always drew.
        if self.front_probability and rng.random() < self.front_probability:
            slabs = several(self.fronts) + slabs
        alternating = bool(self.alternating_probability) and len(slabs) > 1 and rng.random() < self.alternating_probability
        factor = float(rng.uniform(*self.coarser_factor)) if rng.random() < self.coarser_probability else 1.0
        change = rng.uniform(0.2, 0.8)
        depth, wanted = 0.0, rng.uniform(*self.depth_x0)
        behind = sum(s.thickness_mm / material({}, s.material).x0_mm for s in slabs)
        counts = [0, 0]
        thicknesses = [round(absorber_mm, 4), round(absorber_mm * factor, 4)]
        while depth < wanted and sum(counts) <= self.n_layers[1]:
            part = int(factor > 1 and depth > change * wanted)
            depth += thicknesses[part] / material({}, absorber).x0_mm + behind
            counts[part] += 1
        thickest = max(t for t, c in zip(thicknesses, counts, strict=True) if c) / material({}, absorber).x0_mm
        inside = self.n_layers[0] <= sum(counts) <= self.n_layers[1] and self.depth_x0[0] <= depth <= self.depth_x0[1]
        if not inside or thickest > self.absorber_x0[1]:
            return None
        pitch = round(log_uniform(self.pitch_mm), 3)
        readout = Rectangular(pitch_mm=(pitch, pitch))
        sections: list[Section] = []
        for t, c in zip(thicknesses, counts, strict=True):
            plate = Slab(material=absorber, thickness_mm=t)
            ways = [Layer(stack=(plate, *order), readout=readout) for order in (slabs, slabs[::-1])]
            pairs, single = divmod(c, 2) if alternating else (0, c)
            if pairs:
                sections.append(Section(repeat=pairs, layers=tuple(ways)))
            if single:
                sections.append(Section(repeat=single, layers=(ways[0],)))
        tesla = round(float(rng.uniform(*self.field_tesla)), 3)
        if self.no_field_probability and rng.random() < self.no_field_probability:
            tesla = 0.0
        return Detector(name=name, sections=tuple(sections), size_mm=self.size_mm, field_tesla=tesla)


@dataclass(frozen=True, kw_only=True)
class Zoo:
    """A recipe for many detectors and the particles that hit them.

    Args:
        name: of the recipe.
        seed: detector k depends on it and on k alone.
        showers_per_detector: how the showers of a production are shared out.
        beam: what hits every detector.
        stacks: ranges for random detectors, or none.
        held_out: fixed detectors with their kind (`inside`, `edge` or `outside` the training ranges).
    """

    name: str
    seed: int
    showers_per_detector: int
    beam: BeamRanges
    stacks: Stacks | None = None
    held_out: tuple[tuple[str, str], ...] = field(default=())

    def detectors(self, n_showers: int) -> list[tuple[Detector, int]]:
        """The detectors of a production, each with its number of showers (the last may have fewer).

        Raises:
            DetectorError: if fixed detectors cannot hold so many showers.
        """
        each = self.showers_per_detector
        count = math.ceil(n_showers / each)
        if self.stacks is None:
            # Fixed detectors share a smaller production equally, so that none goes without.
            count = len(self.held_out)
            if n_showers > each * count:
                raise DetectorError(f"{n_showers} showers asked of {self.name}; it holds {count} detectors of {each} at most")
            shares = [n_showers // count + (k < n_showers % count) for k in range(count)]
        else:
            shares = [min(each, n_showers - k * each) for k in range(count)]
        return [(self.detector(k), share) for k, share in enumerate(shares) if share]

    def detector(self, k: int) -> Detector:
        """Detector number k, the same whatever was drawn before."""
        if self.stacks is None:
            return Detector.load(self.held_out[k][0])
        return self.stacks.draw(f"{self.name}-{k:05d}", np.random.default_rng([self.seed, k]))

    @staticmethod
    def load(source: str | Path) -> Zoo:
        """A zoo of the package by its name, or a recipe by its path.

        Raises:
            DetectorError: if there is neither, or the recipe is wrong.
        """
        folder = resources.files("anycalo.geometry") / "zoos"
        known = {f.name.removesuffix(".toml"): f.read_text("utf-8") for f in folder.iterdir() if f.name.endswith(".toml")}
        if str(source) in known:
            return _parse(known[str(source)], str(source))
        path = Path(source)
        if not path.is_file():
            raise DetectorError(
                f"no zoo '{source}': it is neither a recipe of the package nor a file.{suggest(str(source), known)}"
                f" Recipes: {', '.join(sorted(known))}."
            )
        return _parse(path.read_text("utf-8"), str(path))

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return dataclasses.asdict(self)


def _parse(text: str, source: str) -> Zoo:
    try:
        return _zoo(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise DetectorError(f"{source}: not valid TOML: {error}") from error
    except DetectorError as error:
        raise DetectorError(f"{source}: {error}") from error


def _zoo(table: dict[str, Any]) -> Zoo:
    common = ["name", "seed", "showers_per_detector", "beam"]
    beam = _only(table.get("beam"), "beam", ["particles", "energy_mev", "spectrum", "max_angle_deg"])
    values: dict[str, Any] = {
        "name": str(table.get("name")),
        "seed": table.get("seed"),
        "showers_per_detector": table.get("showers_per_detector"),
        "beam": BeamRanges(
            particles=tuple(beam["particles"]),
            energy_mev=_range(beam, "energy_mev"),
            spectrum=str(beam["spectrum"]),
            max_angle_deg=float(beam["max_angle_deg"]),
        ),
    }
    for key, least in (("seed", 0), ("showers_per_detector", 1)):
        if not isinstance(values[key], int) or values[key] < least:
            raise DetectorError(f"{key} is {values[key]!r}; expected a whole number of at least {least}")
    if "held_out" in table:
        _only(table, "zoo", [*common, "held_out"])
        return Zoo(**values, held_out=tuple(_held_out(entry) for entry in table["held_out"]))
    required = ["depth_x0", "n_layers", "field_tesla", "pitch_mm", "size_mm", "absorber", "sensor", "passive"]
    _only(table, "zoo", [*common, *required], optional=["front", "sheets", "alternating_probability", "no_field_probability"])
    return Zoo(**values, stacks=_stacks(table))


def _held_out(entry: Any) -> tuple[str, str]:
    entry = _only(entry, "held_out", ["detector", "kind"])
    if entry["kind"] not in ("inside", "edge", "outside"):
        raise DetectorError(f"kind is {entry['kind']!r}; expected inside, edge or outside")
    if entry["detector"] not in presets():
        raise DetectorError(f"detector '{entry['detector']}' is not a preset.{suggest(entry['detector'], presets())}")
    return str(entry["detector"]), str(entry["kind"])


def _stacks(table: Mapping[str, Any]) -> Stacks:
    absorber = _only(table["absorber"], "absorber", ["materials", "thickness_x0", "coarser_probability", "coarser_factor"])
    passive, front = dict(table["passive"]), dict(table.get("front", {"probability": 0.0}))
    probability, front_probability = passive.pop("probability", None), front.pop("probability", None)
    chances = {
        "coarser_probability": absorber["coarser_probability"],
        "passive.probability": probability,
        "front.probability": front_probability,
        "alternating_probability": table.get("alternating_probability", 0.0),
        "no_field_probability": table.get("no_field_probability", 0.0),
    }
    for name, value in chances.items():
        if not isinstance(value, (int, float)) or not 0 <= value <= 1:
            raise DetectorError(f"{name} is {value!r}; expected from 0 to 1")
    for name in (*absorber["materials"], *table["sensor"], *passive, *front):
        material({}, name)
    size = _range(table, "size_mm")
    sheets = table.get("sheets", [1, 1])
    if not isinstance(sheets, list) or [type(n) for n in sheets] != [int, int] or not 1 <= sheets[0] <= sheets[1]:
        raise DetectorError(f"sheets is {sheets!r}; expected [fewest, most], whole numbers with 1 <= fewest <= most")
    return Stacks(
        depth_x0=_range(table, "depth_x0"),
        n_layers=_range(table, "n_layers", lowest=1),
        field_tesla=_range(table, "field_tesla"),
        pitch_mm=_range(table, "pitch_mm"),
        size_mm=size,
        absorbers=tuple(absorber["materials"]),
        absorber_x0=_range(absorber, "thickness_x0"),
        coarser_probability=float(absorber["coarser_probability"]),
        coarser_factor=_range(absorber, "coarser_factor", lowest=1),
        sensors={name: _range(table["sensor"], name) for name in table["sensor"]},
        passive_probability=float(probability),
        passives={name: float(value) for name, value in passive.items()},
        front_probability=float(chances["front.probability"]),
        fronts={name: float(value) for name, value in front.items()},
        alternating_probability=float(chances["alternating_probability"]),
        no_field_probability=float(chances["no_field_probability"]),
        sheets=(sheets[0], sheets[1]),
    )

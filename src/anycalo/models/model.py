"""What every family of models has in common: a domain, showers from noise, and a directory on disk."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import operator
import os
import shutil
import uuid
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from anycalo.errors import ModelError, OutputError
from anycalo.geometry import Detector
from anycalo.geometry.descriptors import descriptor_ranges
from anycalo.models.config import from_table, to_table
from anycalo.models.noise import Noise
from anycalo.models.stage import Stage
from anycalo.showers import Incident, Showers
from anycalo.version import __version__

WEIGHTS, CARD = "model.safetensors", "model.json"
FORMAT, VERSION = "anycalo-model", 1
_DETECTORS_KNOWN = 64
_version = operator.attrgetter("_version")


@dataclass(frozen=True, kw_only=True)
class Domain:
    """What a model was trained on; outside it showers may be asked for, with a warning.

    Args:
        particles: names.
        energy_mev: lowest and highest incident energy.
        max_angle_rad: largest angle to the normal of the front face.
        detectors: the detector seen, as TOML text, where there was one; none where there were several.
        n_detectors: how many there were.
        ranges: lowest and highest value of every descriptor (`anycalo.geometry.descriptors`) over several detectors.
    """

    particles: tuple[str, ...]
    energy_mev: tuple[float, float]
    max_angle_rad: float
    detectors: tuple[str, ...]
    n_detectors: int = 1
    ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    @staticmethod
    def of(showers: Sequence[Showers]) -> Domain:
        """The domain that these showers span."""
        ranges: dict[str, tuple[float, float]] = {}
        detectors = list(dict.fromkeys(batch.detector for batch in showers))
        several = len(detectors) > 1
        for detector in detectors if several else ():
            for name, (low, high) in descriptor_ranges(detector).items():
                lowest, highest = ranges.get(name, (low, high))
                ranges[name] = (min(low, lowest), max(high, highest))
        return Domain(
            particles=tuple(sorted({name for batch in showers for name in batch.incident.particles})),
            energy_mev=(
                min(float(batch.incident.energy_mev.min()) for batch in showers),
                max(float(batch.incident.energy_mev.max()) for batch in showers),
            ),
            max_angle_rad=max(float(batch.incident.theta_rad.max()) for batch in showers),
            detectors=() if several else (detectors[0].to_toml(),),
            n_detectors=len(detectors),
            ranges=ranges,
        )

    @cached_property
    def detector(self) -> Detector:
        """The one detector.

        Raises:
            ModelError: if there were several.
        """
        if not self.detectors:
            raise ModelError(f"the model was trained on {self.n_detectors} detectors; say which one is meant")
        return Detector.from_toml(self.detectors[0], source="the model's detector")

    def breaches(self, detector: Detector, incident: Incident) -> list[str]:
        """Sentences on what is asked for outside the domain, each naming the quantity and the range.

        Energies within 0.1 %, angles within 0.001 rad and descriptors within 1 % of the range count as inside.
        """
        return self.particle_breaches(incident) + self.detector_breaches(detector)

    def particle_breaches(self, incident: Incident) -> list[str]:
        """Those of `breaches` about the particles."""
        found = []
        strange = sorted(set(incident.particles) - set(self.particles))
        if strange:
            found.append(f"particles {', '.join(strange)} were not trained on (trained: {', '.join(self.particles)})")
        low, high = float(incident.energy_mev.min()), float(incident.energy_mev.max())
        if low < self.energy_mev[0] * 0.999 or high > self.energy_mev[1] * 1.001:
            trained = f"{self.energy_mev[0]:.6g} to {self.energy_mev[1]:.6g} MeV"
            found.append(f"incident energy {low:.6g} to {high:.6g} MeV reaches outside the trained range, {trained}")
        angle = float(incident.theta_rad.max())
        if angle > self.max_angle_rad + 1e-3:
            found.append(
                f"incident angle up to {angle:.3g} rad is above the largest trained angle, {self.max_angle_rad:.3g} rad"
            )
        return found

    def detector_breaches(self, detector: Detector) -> list[str]:
        """Those of `breaches` about the detector."""
        known = self._known_breaches
        if detector not in known:
            if len(known) >= _DETECTORS_KNOWN:
                known.clear()
            known[detector] = self._detector_breaches(detector)
        return list(known[detector])

    @cached_property
    def _known_breaches(self) -> dict[Detector, list[str]]:
        return {}

    def _detector_breaches(self, detector: Detector) -> list[str]:
        if self.detectors:
            return [] if detector.to_toml() in self.detectors else [f"detector '{detector.name}' was not trained on"]
        found = []
        for name, (low, high) in descriptor_ranges(detector).items():
            lowest, highest = self.ranges[name]
            if low < lowest - 0.01 * abs(lowest) or high > highest + 0.01 * abs(highest):
                asked = f"{low:.4g}" if low == high else f"{low:.4g} to {high:.4g}"
                found.append(
                    f"'{name}' of {detector.name}, {asked}, reaches outside the trained range, {lowest:.4g} to {highest:.4g}"
                )
        return found


class Model(nn.Module, ABC):
    """A generative model of showers; one subclass a family.

    A subclass is built from its configuration and domain alone, sets its scales from data in `stages` and
    hands these to the training loop. Everything learned is a parameter or a buffer.

    Args:
        config: of the family, an instance of its `config_class`.
        domain: what it is (to be) trained on.
    """

    family: ClassVar[str]
    config_class: ClassVar[type]

    def __init__(self, config: Any, domain: Domain) -> None:
        super().__init__()
        if not isinstance(config, self.config_class):
            raise ModelError(f"config is a {type(config).__name__}; expected {self.config_class.__name__}")
        self.config = config
        self.domain = domain
        self.card: dict[str, Any] = {}
        self._known_digest: tuple[tuple[Any, ...], str] | None = None
        self._unchanged: tuple[Any, ...] | None = None

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    def state(self) -> tuple[Any, ...]:
        """Equal before and after only if neither the configuration nor a weight or buffer was changed in between."""
        if self._unchanged is not None:
            return self._unchanged
        # `parameters()` and `buffers()` take several times as long, which for a shower alone counts.
        modules: list[nn.Module] = [self]
        held: list[Tensor | None] = []
        for module in modules:  # grows on the way
            parts = module.__dict__
            if parts["_parameters"]:
                held += parts["_parameters"].values()
            if parts["_buffers"]:
                held += parts["_buffers"].values()
            if parts["_modules"]:
                modules += [child for child in parts["_modules"].values() if child is not None]
        tensors = [t for t in held if t is not None]
        return (self.config, *map(Tensor.data_ptr, tensors), *map(_version, tensors))

    @contextmanager
    def unchanged(self) -> Iterator[None]:
        """Inside, the model is taken not to be changed by anybody: `state` looks at it once."""
        before = self._unchanged
        self._unchanged = self.state()
        try:
            yield
        finally:
            self._unchanged = before

    def digest(self) -> str:
        """A hash of family, configuration, weights and buffers; computed again only when one of them has changed."""
        state = self.state()
        if self._known_digest is None or self._known_digest[0] != state:
            self._known_digest = (state, self._hash())
        return self._known_digest[1]

    def _hash(self) -> str:
        digest = hashlib.sha256(json.dumps([self.family, to_table(self.config)], sort_keys=True).encode())
        for name, tensor in sorted(self.state_dict().items()):
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()

    @abstractmethod
    def stages(self, training: Sequence[Showers], validation: Sequence[Showers], *, seed: int, fit: bool = True) -> list[Stage]:
        """What is to be trained, in order, with its data.

        Args:
            training: showers inside the domain, one batch a detector, each shower with some visible energy.
            validation: others.
            seed: of what is random in preparing the data.
            fit: set the scales (buffers) from the training showers; otherwise keep them.
        """

    def whole(self, showers: Showers, *, seed: int) -> Showers:
        """Showers of one detector as this model is to be fine-tuned on: the same, unless it makes something of them.

        Args:
            showers: given.
            seed: of what is made.
        """
        return showers

    @abstractmethod
    def check(self, detector: Detector) -> None:
        """Refuse a detector that this model cannot make showers of.

        Raises:
            ModelError: with the remedy.
        """

    @abstractmethod
    def sample(self, detector: Detector, incident: Incident, noise: Noise) -> Showers:
        """One batch of showers, made from one noise stream a shower.

        Args:
            detector: accepted by `check`.
            incident: B particles.
            noise: B streams.
        """

    def save(self, folder: str | Path, *, card: Mapping[str, Any] | None = None, overwrite: bool = False) -> None:
        """Write `model.safetensors` and `model.json` into a directory, which appears when it is complete.

        Args:
            folder: to be made; with `overwrite`, the two files are replaced in a directory that exists.
            card: more entries for `model.json` (JSON values): data hashes, metrics.
            overwrite: see `folder`.

        Raises:
            OutputError: if it exists or cannot be written.
        """
        folder = Path(folder)
        if folder.exists() and not overwrite:
            raise OutputError(f"{folder} exists already; choose another name or remove it")
        self.card = {**self.card, **(card or {})}
        content = {
            "format": FORMAT,
            "version": VERSION,
            "family": self.family,
            "config": to_table(self.config),
            "domain": dataclasses.asdict(self.domain),
            "package_version": __version__,
            **self.card,
        }
        tensors = {k: v.detach().cpu().contiguous().clone() for k, v in self.state_dict().items()}
        temporary = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}.tmp")
        try:
            temporary.mkdir(parents=True)
            save_file(tensors, temporary / WEIGHTS)
            (temporary / CARD).write_text(json.dumps(content, indent=2) + "\n", "utf-8")
            if folder.exists():
                for name in (WEIGHTS, CARD):
                    os.replace(temporary / name, folder / name)
            else:
                os.replace(temporary, folder)
        except OSError as error:
            raise OutputError(f"{folder} cannot be written: {error.strerror or error}") from error
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def read_model(folder: Path, families: Mapping[str, type[Model]], *, device: str = "cpu") -> Model:
    """The model in a directory.

    Raises:
        ModelError: if a file is missing or damaged, the family is unknown, or weights and configuration differ.
    """
    for name in (CARD, WEIGHTS):
        if not (folder / name).is_file():
            raise ModelError(
                f"{folder}: {name} is missing; expected a directory with {CARD} and {WEIGHTS}, as training writes it"
            )
    try:
        card: dict[str, Any] = json.loads((folder / CARD).read_text("utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ModelError(f"{folder / CARD}: damaged: {error}. Restore it from a copy, or train again.") from error
    if not isinstance(card, dict) or card.get("format") != FORMAT or card.get("version") != VERSION:
        raise ModelError(f"{folder / CARD}: not an AnyCalo model of version {VERSION}; expected format '{FORMAT}'")
    family = str(card.get("family"))
    if family not in families:
        raise ModelError(f"{folder}: family {family!r} is unknown to this version; known: {', '.join(families)}")
    cls = families[family]
    config: Any = from_table(cls.config_class, card.get("config"), where=f"{folder / CARD}, config", error=ModelError)
    domain = from_table(Domain, card.get("domain"), where=f"{folder / CARD}, domain", error=ModelError)
    model = cls(config, domain)
    try:
        tensors = load_file(folder / WEIGHTS)
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{folder / WEIGHTS}: damaged: {error}. Restore it from a copy, or train again.") from error
    _load_exactly(model, tensors, where=str(folder / WEIGHTS))
    extra = {"format", "version", "family", "config", "domain", "package_version"}
    model.card = {k: v for k, v in card.items() if k not in extra}
    return model.to(device).eval()


def _load_exactly(model: Model, tensors: dict[str, Tensor], *, where: str) -> None:
    expected = model.state_dict()
    for name, tensor in expected.items():
        if name not in tensors:
            raise ModelError(f"{where}: tensor '{name}' is missing; weights and {CARD} are not of one model")
        if tensors[name].shape != tensor.shape:
            shapes = f"{list(tensors[name].shape)}; the configuration asks for {list(tensor.shape)}"
            raise ModelError(f"{where}: tensor '{name}' is of shape {shapes}. Weights and {CARD} are not of one model.")
    strange = sorted(set(tensors) - set(expected))
    if strange:
        raise ModelError(f"{where}: tensor '{strange[0]}' is unknown to the configuration in {CARD}")
    model.load_state_dict(tensors)


def axis_slopes(incident: Incident) -> np.ndarray:
    """Transverse over longitudinal direction, (dx / dz, dy / dz): shape (B, 2)."""
    direction = incident.direction.astype(np.float64)
    return np.asarray(direction[:, :2] / direction[:, 2:])


def parameter_count(module: nn.Module) -> int:
    """Number of trainable numbers in a network."""
    return sum(math.prod(p.shape) for p in module.parameters())

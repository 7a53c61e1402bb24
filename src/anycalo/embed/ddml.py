"""Exports for DDML, the library of key4hep that runs shower models inside DD4hep's Geant4 (arXiv 2511.01460 ran there).

DDML passes kinetic energy in GeV and the local angles theta = acos(z) and phi = atan2(y, x) in degrees, with z into the
calorimeter and x along the field of a barrel, which are the axes of the shower frame. It expects one flat float32
array: the number of points of each layer, then x and y in mm relative to the entry point, the layer and the energy in MeV
of each point. How long the array is, and whether a count takes one number or a row of four, is fixed in DDML's source
and differs among its versions: 35,000 numbers with plain counts, later 6,868 with a count at the head of each row.
"""

from __future__ import annotations

import json
import math
import os
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from anycalo.embed.halves import ATTEMPTS, in_layers, take_apart
from anycalo.embed.request import ExportRequest
from anycalo.errors import ModelError
from anycalo.geometry import Detector
from anycalo.models import Model, Noise, load_model
from anycalo.showers import Incident, Showers

_REQUEST = "request.json"


@dataclass(frozen=True, kw_only=True)
class DdmlLayout:
    """The flat array that DDML reads.

    Args:
        length: numbers in the array; DDML copies exactly as many, unchecked.
        layers: how many counts it begins with.
        count_stride: numbers that a count takes: 1, or 4 where counts stand at the head of rows.
    """

    length: int = 35_000
    layers: int = 30
    count_stride: int = 1

    def __post_init__(self) -> None:
        if self.count_stride not in (1, 4):
            raise ModelError(f"count_stride is {self.count_stride}; expected 1 (plain counts) or 4 (a row for each)")
        if self.layers < 1 or self.capacity < 1:
            raise ModelError(f"{self.length} numbers hold no point after {self.layers} counts; expected a longer array")

    @property
    def capacity(self) -> int:
        """How many points fit."""
        return (self.length - self.layers * self.count_stride) // 4

    def check(self, model: Model, detector: Detector, request: ExportRequest) -> None:
        """Refuse what does not fit.

        Raises:
            ModelError: for another number of layers, or showers with more points than fit.
        """
        if detector.n_layers != self.layers:
            raise ModelError(
                f"'{detector.name}' has {detector.n_layers} layers and this DDML reads {self.layers}; expected a DDML built for"
                f" {detector.n_layers} (option layers), or another detector"
            )
        most = request.most_points(model, detector)
        if most > self.capacity:
            needed = most * 4 + self.layers * self.count_stride
            raise ModelError(
                f"showers of {request.energy_mev[1]:g} MeV have up to {most} points and {self.capacity} fit into {self.length}"
                f" numbers; expected a lower highest energy, or a DDML that reads at least {needed} numbers (option length)"
            )

    def pack(self, showers: Showers) -> np.ndarray:
        """One shower as the flat array."""
        out = np.zeros(self.length, dtype=np.float32)
        out[: self.layers * self.count_stride : self.count_stride] = showers.layer_counts()[0]
        start = self.layers * self.count_stride
        body = np.stack([showers.x_mm, showers.y_mm, showers.layer, showers.energy_mev], axis=1)
        out[start : start + body.size] = body.ravel()
        return out

    def unpack(self, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Counts (L,) and points (N, 4), read as DDML reads them."""
        counts = np.asarray(numbers[: self.layers * self.count_stride : self.count_stride]).astype(int)
        start = self.layers * self.count_stride
        return counts, np.asarray(numbers[start : start + 4 * counts.sum()]).reshape(-1, 4)


class _TwoAngle(nn.Module):
    """`forward(energy, theta, phi)` as DDML calls it; scripted around two traced halves."""

    def __init__(self, layers: nn.Module, points: nn.Module, sizes: dict[str, int], request: dict[str, float]) -> None:
        super().__init__()
        self.layers = layers
        self.points = points
        self.n_layers, self.length, self.stride = sizes["layers"], sizes["length"], sizes["count_stride"]
        self.capacity = sizes["capacity"]
        self.layer_normals, self.point_normals = sizes["layer_normals"], sizes["point_normals"]
        self.attempts = sizes["attempts"]
        self.low, self.high = request["low"], request["high"]
        self.max_angle, self.charge = request["max_angle"], request["charge"]

    def forward(self, energy: Tensor, theta: Tensor, phi: Tensor) -> Tensor:
        mev = energy.reshape(1).float() * 1000.0
        angle = theta.reshape(1).float() * (math.pi / 180)
        turn = phi.reshape(1).float() * (math.pi / 180)
        if float(mev[0]) < self.low or float(mev[0]) > self.high or float(angle[0]) > self.max_angle:
            raise ValueError("energy or angle outside what this model was exported for")
        sin = torch.sin(angle)
        direction = torch.stack([sin * torch.cos(turn), sin * torch.sin(turn), torch.cos(angle)], dim=1)
        charge = torch.full((1,), self.charge)
        left = self.attempts
        row, x, y, deposit = torch.empty(0, dtype=torch.long), torch.empty(0), torch.empty(0), torch.empty(0)
        while left > 0:
            left -= 1
            n, e, extras, good = self.layers(torch.randn(1, self.layer_normals), mev, direction, charge)
            if not bool(good[0]):
                continue
            row = torch.repeat_interleave(torch.arange(self.n_layers), n[0].long())
            normal = torch.randn(row.shape[0], self.point_normals)
            row, x, y, deposit = self.points(normal, row, n, e, extras, mev, direction, charge)
            order = in_layers(row, self.n_layers)
            row, x, y, deposit = row[order], x[order], y[order], deposit[order]
            if row.shape[0] <= self.capacity:
                break
            row = row[:0]
        if row.shape[0] == 0:
            raise ValueError("no physical shower that fits was drawn")
        out = torch.zeros(self.length)
        out[0 : self.n_layers * self.stride : self.stride] = torch.bincount(row, minlength=self.n_layers).float()
        start = self.n_layers * self.stride
        body = torch.stack([x, y, row.float(), deposit], dim=1).reshape(-1)
        out[start : start + body.shape[0]] = body
        return out


def export_torchscript(model: Model, detector: Detector, request: ExportRequest, out: Path, layout: DdmlLayout) -> None:
    """Write a TorchScript file for DDML's `CaloCloudsTwoAngleModel`.

    The halves are traced, since a flow cannot be scripted; what is random in size is scripted around them. A particle
    outside the request makes the file raise instead of guessing.

    Raises:
        ModelError: if the layout cannot hold the showers, or the family cannot be taken apart.
    """
    layout.check(model, detector, request)
    halves = take_apart(model, detector)
    middle = float(np.sqrt(request.energy_mev[0] * request.energy_mev[1]))
    told = (torch.tensor([middle]), torch.tensor([[0.0, 0.0, 1.0]]), torch.tensor([request.charge]))
    with torch.no_grad(), warnings.catch_warnings():
        # Sizes that Python reads during tracing are those of the layers, which are fixed.
        warnings.simplefilter("ignore")
        trace: Any = torch.jit.trace
        generator = torch.Generator().manual_seed(0)
        normal = torch.randn(1, halves.layer_normals, generator=generator)
        layers = trace(halves.layers, (normal, *told), check_trace=False)
        n, e, extras, _ = halves.layers(normal, *told)
        n = n.clamp_min(1)
        row = torch.repeat_interleave(torch.arange(halves.n_layers), n[0].long())
        normals = torch.randn(len(row), halves.point_normals, generator=generator)
        points = trace(halves.points, (normals, row, n, e, extras, *told), check_trace=False)
        sizes = {
            **asdict(layout),
            "capacity": layout.capacity,
            "layer_normals": halves.layer_normals,
            "point_normals": halves.point_normals,
            "attempts": ATTEMPTS,
        }
        limits = {
            "low": request.energy_mev[0] * 0.999,
            "high": request.energy_mev[1] * 1.001,
            "max_angle": request.max_angle_rad + 1e-3,
            "charge": request.charge,
        }
        torch.jit.save(torch.jit.script(_TwoAngle(layers, points, sizes, limits)), out)


_DOOR = '''"""{title}: the entry point that DDML's embedded Python calls. Written by AnyCalo, which must be installed.

DDML: PythonPath = this folder, PythonModule = "{module}", EntryPoint = "run_inference".
"""

from pathlib import Path

from anycalo.embed.ddml import PythonDoor

_door = PythonDoor(Path(__file__).with_suffix(""))


def run_inference(inputs):
    """Energy in GeV, theta and phi in degrees, each (1, 1), to {length} float32 numbers."""
    return _door(inputs)
'''


def export_python(model: Model, detector: Detector, request: ExportRequest, out: Path, layout: DdmlLayout) -> None:
    """Write a Python module for DDML's embedded Python, and beside it a folder of its name with the model.

    Raises:
        ModelError: if the layout cannot hold the showers, or the name is not one of a module.
    """
    if out.suffix != ".py" or not out.stem.isidentifier():
        raise ModelError(f"{out.name} cannot be imported; expected a name such as calo.py")
    layout.check(model, detector, request)
    folder = out.with_suffix("")
    model.save(folder)
    content = {"detector": detector.to_toml(), "request": request.to_dict(), "layout": asdict(layout)}
    (folder / _REQUEST).write_text(json.dumps(content, indent=1) + "\n", "utf-8")
    out.write_text(
        _DOOR.format(title=f"AnyCalo {model.family} in {detector.name}", module=out.stem, length=layout.length), "utf-8"
    )


class PythonDoor:
    """What an exported module calls: one shower a call, with any family of models.

    The seed is that of the environment variable ANYCALO_SEED where it is set, random otherwise.

    Args:
        folder: beside the module.
    """

    def __init__(self, folder: Path) -> None:
        content: dict[str, Any] = json.loads((folder / _REQUEST).read_text("utf-8"))
        torch.set_num_threads(1)
        self.model = load_model(folder)
        self.detector = Detector.from_toml(content["detector"])
        self.request = ExportRequest(**{**content["request"], "energy_mev": tuple(content["request"]["energy_mev"])})
        self.layout = DdmlLayout(**content["layout"])
        seed = os.environ.get("ANYCALO_SEED")
        self.seed = int(seed) if seed else int.from_bytes(os.urandom(7), "little")
        self._made = 0

    @torch.no_grad()
    def __call__(self, inputs: Sequence[np.ndarray]) -> np.ndarray:
        """The flat array of one shower.

        Raises:
            ModelError: for a particle outside what was exported, or if no shower fits.
        """
        energy, theta, phi = (float(np.asarray(a).reshape(-1)[0]) for a in inputs[:3])
        mev, angle, turn = 1000 * energy, math.radians(theta), math.radians(phi)
        low, high = self.request.energy_mev
        if not (low * 0.999 <= mev <= high * 1.001 and angle <= self.request.max_angle_rad + 1e-3):
            raise ModelError(
                f"{mev:g} MeV at {theta:g} degrees lies outside what this model was exported for: {low:g} to {high:g} MeV, up"
                f" to {math.degrees(self.request.max_angle_rad):g} degrees"
            )
        direction = (math.sin(angle) * math.cos(turn), math.sin(angle) * math.sin(turn), math.cos(angle))
        incident = Incident(self.request.particle, energy_mev=mev, direction=direction)
        for _ in range(ATTEMPTS):
            showers = self.model.sample(self.detector, incident, Noise(self.seed, [self._made]))
            self._made += 1
            if showers.n_points <= self.layout.capacity:
                return self.layout.pack(showers)
        raise ModelError(f"no shower of {mev:g} MeV with at most {self.layout.capacity} points in {ATTEMPTS} draws")

"""Exports to ONNX: the two halves as graphs, and a whole shower as the mesh of Geant4's example Par04."""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import importlib.util
import io
import json
import logging
import math
import warnings
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from anycalo.embed import halves_anycalo
from anycalo.embed.halves import Halves, sample_halves, take_apart
from anycalo.embed.request import ExportRequest
from anycalo.errors import ModelError
from anycalo.geometry import Detector
from anycalo.models import Domain, Model, Noise, load_model, solvers
from anycalo.models.config import from_table, to_table
from anycalo.models.stage import Stage
from anycalo.showers import Incident, Showers

CARD, LAYERS, POINTS = "onnx.json", "layers.onnx", "points.onnx"
FORMAT, VERSION = "anycalo-onnx", 2
_OPSET = 18
_POINT_INPUTS = ("normal", "row", "n", "e", "extras", "energy_mev", "direction", "charge")
_LAYER_INPUTS = ("normal", "energy_mev", "direction", "charge")


def require_onnx(*packages: str) -> None:
    """Refuse where a package is missing.

    Raises:
        ModelError: naming it and how to get it.
    """
    for package in packages:
        if importlib.util.find_spec(package) is None:
            raise ModelError(f"this needs the package {package}, which is not installed: pip install 'anycalo[export]'")


def _operators() -> Any:
    return importlib.import_module("onnxscript").opset18


def _searchsorted(sorted_sequence: Any, values: Any, **_: Any) -> Any:
    """ONNX has no search: count the smaller ones. The tables here have some dozen entries."""
    op = _operators()
    smaller = op.Less(op.Unsqueeze(sorted_sequence, [1]), op.Unsqueeze(values, [2]))
    return op.ReduceSum(op.Cast(smaller, to=7), [2], keepdims=0)


def _in_float(name: str) -> Any:
    """Angles of noise levels are reckoned in float64, for which ONNX Runtime has no trigonometry: do it in float32."""

    def translate(value: Any, **_: Any) -> Any:
        op = _operators()
        return op.CastLike(getattr(op, name)(op.Cast(value, to=1)), value)

    return translate


def _gammainc(a: Any, x: Any, **_: Any) -> Any:
    """The regularised incomplete gamma function, which ONNX lacks, from its series: all terms are above 0.

    P(a, x) = x^a exp(-x) / Gamma(a + 1) sum_k x^k / ((a + 1) ... (a + k)), and 1 from x = 80 on, where a is a few.
    """
    op = _operators()
    k = np.arange(1.0, 161.0)
    inner, outer = op.Cast(a, to=11), op.Min(op.Max(op.Cast(x, to=11), _double(1e-30)), _double(80.0))
    logs = op.Log(op.Add(op.Unsqueeze(inner, [-1]), _double(k)))
    log_x = op.Log(outer)
    terms = op.Exp(op.CumSum(op.Sub(op.Unsqueeze(log_x, [-1]), logs), op.Constant(value_int=-1)))
    total = op.Add(op.ReduceSum(terms, [-1], keepdims=0), _double(1.0))
    # Stirling's series at z = a + 9, and down from there to ln Gamma(a + 1).
    z = op.Add(inner, _double(9.0))
    inverse = op.Reciprocal(z)
    square = op.Mul(inverse, inverse)
    tail = op.Mul(inverse, op.Add(op.Mul(square, op.Sub(op.Mul(square, _double(1 / 1260)), _double(1 / 360))), _double(1 / 12)))
    stirling = op.Sub(op.Mul(op.Sub(z, _double(0.5)), op.Log(z)), op.Sub(z, _double(0.5 * math.log(2 * math.pi))))
    down = op.ReduceSum(op.Mul(logs, _double((k <= 8).astype(float))), [-1], keepdims=0)
    log_gamma = op.Sub(op.Add(stirling, tail), down)
    share = op.Mul(op.Exp(op.Sub(op.Sub(op.Mul(inner, log_x), outer), log_gamma)), total)
    return op.CastLike(share, x)


def _double(value: Any) -> Any:
    return _operators().Constant(
        value=importlib.import_module("onnx").numpy_helper.from_array(np.asarray(value, dtype=np.float64))
    )


def _heun(slope: solvers.Slope, z: Tensor, times: Tensor, *, until_zero: bool = True) -> Tensor:
    """`solvers.heun` without asking whether the last time is 0, which a graph cannot: in generation it is."""
    *pairs, last = pairwise(times)
    for time, following in pairs:
        z = solvers.heun_step(slope, z, time, following)
    return (solvers.heun_step if until_zero else solvers.euler_step)(slope, z, *last)


def _scan(step: Any, carry: tuple[Tensor, ...], inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """`halves_anycalo.scan` as one operator, so that a graph holds the step once, however many layers there are."""
    scan: Any = importlib.import_module("torch._higher_order_ops.scan").scan
    return tuple(scan(step, carry, inputs)[1])


@contextlib.contextmanager
def _exporting() -> Iterator[None]:
    """Samplers without questions about times, walks without a loop; and neither reports of progress nor needless warnings."""
    plain, loop = solvers.heun, halves_anycalo.scan
    levels = {logger: logger.level for logger in map(logging.getLogger, ("torch.onnx", "onnx_ir"))}
    for logger in levels:
        logger.setLevel(logging.ERROR)
    solvers.heun, halves_anycalo.scan = _heun, _scan
    # What a step sees of another export in this process would make its sizes unknown.
    dynamo: Any = importlib.import_module("torch._dynamo")
    static = dynamo.config.patch(automatic_dynamic_shapes=False)
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings(), static:
        warnings.simplefilter("ignore")
        dynamo.reset()
        try:
            yield
        finally:
            solvers.heun, halves_anycalo.scan = plain, loop
            for logger, level in levels.items():
                logger.setLevel(level)


def to_onnx(
    module: nn.Module, example: tuple[Tensor, ...], names: Sequence[str], outputs: Sequence[str], dynamic: Any, out: Path
) -> None:
    """One graph into one file, through `torch.export`."""
    aten = torch.ops.aten
    table: dict[Any, Any] = {
        aten.searchsorted.Tensor: _searchsorted,
        torch.ops.prims.igamma.default: _gammainc,
        aten.tan.default: _in_float("Tan"),
        aten.atan.default: _in_float("Atan"),
        aten.sin.default: _in_float("Sin"),
        aten.cos.default: _in_float("Cos"),
    }
    with torch.no_grad(), _exporting():
        program = torch.onnx.export(
            module.eval(),
            example,
            input_names=list(names),
            output_names=list(outputs),
            dynamic_shapes=dynamic,
            dynamo=True,
            opset_version=_OPSET,
            custom_translation_table=table,
            optimize=False,  # minutes, and ONNX Runtime does it again when it loads the graph
            verbose=False,
        )
        if program is None:
            raise ModelError("the exporter returned no program")
        program.save(out)


def export_halves(model: Model, detector: Detector, out: Path) -> None:
    """Write a folder with the two graphs and what `OnnxModel` needs to make showers of them.

    Raises:
        ModelError: if the family cannot be taken apart, or a package is missing.
    """
    require_onnx("onnx", "onnxscript")
    halves = take_apart(model, detector)
    out.mkdir(parents=True)
    size = 3
    mev = (model.domain.energy_mev[0] * model.domain.energy_mev[1]) ** 0.5
    told = (torch.full((size,), mev), torch.tensor([[0.0, 0.0, 1.0]]).repeat(size, 1), torch.zeros(size))
    generator = torch.Generator().manual_seed(0)
    normal = torch.randn(size, halves.layer_normals, generator=generator)
    batch, count = torch.export.Dim("showers", min=1), torch.export.Dim("points", min=1)
    with torch.no_grad():
        n, e, extras, _ = halves.layers(normal, *told)
    by_shower = {0: batch}
    outputs = ("n", "e", "extras", "physical")
    to_onnx(halves.layers, (normal, *told), _LAYER_INPUTS, outputs, (by_shower,) * 4, out / LAYERS)
    row = torch.repeat_interleave(torch.arange(n.numel()), n.flatten().long())
    points = (torch.randn(len(row), halves.point_normals, generator=generator), row, n, e, extras, *told)
    dynamic = ({0: count}, {0: count}, *((by_shower,) * 6))
    to_onnx(halves.points, points, _POINT_INPUTS, ("row_of_end", "x_mm", "y_mm", "energy_mev_of_point"), dynamic, out / POINTS)
    card = {
        "format": FORMAT,
        "version": VERSION,
        "family": model.family,
        "domain": to_table(model.domain),
        "detector": detector.to_toml(),
        "model_sha256": model.digest(),
        "n_layers": halves.n_layers,
        "layer_normals": halves.layer_normals,
        "point_normals": halves.point_normals,
    }
    (out / CARD).write_text(json.dumps(card, indent=1) + "\n", "utf-8")


class OnnxModel(Model):
    """An exported folder as a model: ONNX Runtime computes, the rest is `generate` as ever.

    Args:
        folder: from `export_halves`.
        threads: of ONNX Runtime.

    Raises:
        ModelError: if the folder is not an export, or ONNX Runtime is missing.
    """

    family: ClassVar[str] = "onnx"
    config_class: ClassVar[type] = dict

    def __init__(self, folder: str | Path, *, threads: int = 1) -> None:
        require_onnx("onnxruntime")
        import onnxruntime

        folder = Path(folder)
        for name in (CARD, LAYERS, POINTS):
            if not (folder / name).is_file():
                raise ModelError(f"{folder}: {name} is missing; expected a folder that 'anycalo export --to onnx' wrote")
        try:
            card: dict[str, Any] = json.loads((folder / CARD).read_text("utf-8"))
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise ModelError(f"{folder / CARD}: damaged: {error}. Export the model again.") from error
        if card.get("format") != FORMAT or card.get("version") != VERSION:
            raise ModelError(f"{folder / CARD}: not an AnyCalo export of version {VERSION}; expected format '{FORMAT}'")
        super().__init__({}, from_table(Domain, card["domain"], where=f"{folder / CARD}, domain", error=ModelError))
        self._detector = Detector.from_toml(card["detector"], source=str(folder / CARD))
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        providers = ["CPUExecutionProvider"]
        self._layers, self._points = (
            onnxruntime.InferenceSession(str(folder / name), options, providers=providers) for name in (LAYERS, POINTS)
        )
        self._halves = Halves(
            layers=nn.Identity(),
            points=nn.Identity(),
            n_layers=int(card["n_layers"]),
            layer_normals=int(card["layer_normals"]),
            point_normals=int(card["point_normals"]),
            layer_z_mm=tuple(float(z) for z in self._detector.layer_z_mm),
        )
        digest = hashlib.sha256()
        for name in (LAYERS, POINTS):
            for file in sorted(folder.glob(f"{name}*")):
                digest.update(file.read_bytes())
        self._digest = digest.hexdigest()

    @property
    def device(self) -> torch.device:
        """Where ONNX Runtime computes."""
        return torch.device("cpu")

    def digest(self) -> str:
        """A hash of both graphs."""
        return self._digest

    def stages(self, training: Sequence[Showers], validation: Sequence[Showers], *, seed: int, fit: bool = True) -> list[Stage]:
        """Refuse: an exported model cannot be trained; see `Model.stages`."""
        raise ModelError("an exported model cannot be trained; train the model that it was exported from")

    def check(self, detector: Detector) -> None:
        """Refuse every detector but the one it was exported for; see `Model.check`."""
        if detector != self._detector:
            raise ModelError(
                f"this model was exported for '{self._detector.name}'; asked for '{detector.name}'. Export it for that one."
            )

    def sample(self, detector: Detector, incident: Incident, noise: Noise) -> Showers:
        """See `Model.sample`."""
        self.check(detector)

        def run(session: Any, names: Sequence[str], *tensors: Tensor) -> Any:
            # A graph keeps only the inputs that it uses.
            used = {i.name for i in session.get_inputs()}
            feed = {name: tensor.numpy() for name, tensor in zip(names, tensors, strict=True) if name in used}
            return tuple(torch.from_numpy(array) for array in session.run(None, feed))

        return sample_halves(
            self._halves,
            detector,
            incident,
            noise,
            lambda *t: run(self._layers, _LAYER_INPUTS, *t),
            lambda *t: run(self._points, _POINT_INPUTS, *t),
        )


def open_model(source: str | Path, *, device: str = "cpu") -> Model:
    """A model by its name or directory, or an exported one, which runs in ONNX Runtime with the threads set for PyTorch.

    Raises:
        ModelError: if there is none, it is damaged, or an exported one is asked for a graphics card.
    """
    if not (Path(source) / CARD).is_file():
        return load_model(source, device=device)
    if device != "cpu":
        raise ModelError(f"{source} runs in ONNX Runtime on the processor; expected device cpu")
    return OnnxModel(source, threads=torch.get_num_threads())


class Par04Mesh(nn.Module):
    """One input (1, 8) to the energies of Par04's cylindrical mesh in GeV, (1, 6480): r, phi, z, with z fastest.

    The input is the energy in GeV, phi and theta of the momentum in rad, and five numbers that say which detector, which
    are not used: an export is of one detector. Par04's calorimeter is a barrel around z, and particles come from its centre:
    theta = pi / 2 is normal incidence, phi is a symmetry, and the field is along z. The mesh has its axis along the
    momentum; cell (i, j, k) reaches from r = i R, phi = -pi + j 2 pi / 16 and z = k Z on.

    Args:
        halves: of the model.
        request: its particle, energies and angles; outside them the answer is not a number.
        most_points: points for which there is room.
    """

    CELLS: ClassVar[tuple[int, int, int]] = (9, 16, 45)
    SIZE_MM: ClassVar[tuple[float, float]] = (4.65, 3.4)
    CANDIDATES: ClassVar[int] = 8

    depth: Tensor

    def __init__(self, halves: Halves, request: ExportRequest, most_points: int) -> None:
        super().__init__()
        self.layers, self.points = halves.layers, halves.points
        self.halves, self.request, self.most_points = halves, request, most_points
        self.register_buffer("depth", torch.tensor(halves.layer_z_mm, dtype=torch.float32))

    def forward(self, condition: Tensor) -> Tensor:
        """(1, 8) -> (1, 6480)."""
        halves, room = self.halves, self.most_points
        mev, theta = condition[0, 0] * 1000.0, condition[0, 2]
        sin, cos = torch.sin(theta), torch.cos(theta)
        direction = torch.stack([cos, torch.zeros_like(cos), sin])[None].expand(self.CANDIDATES, 3)
        energy = mev[None].expand(self.CANDIDATES)
        charge = torch.full_like(energy, self.request.charge)
        n, e, extras, good = self.layers(torch.randn(self.CANDIDATES, halves.layer_normals), energy, direction, charge)
        # The first of several draws that is physical and fits; not a number if there is none.
        good = good & (n.sum(1) <= room)
        pick = torch.argmax(good.to(torch.int32)).reshape(1)
        n, e, extras = n[pick], e[pick], extras[pick]
        ends = torch.cumsum(n[0], 0)
        place = torch.arange(room)
        row = (place[:, None] >= ends[None, :]).sum(1)
        told = (energy[:1], direction[:1], charge[:1])
        row, x, y, deposit = self.points(torch.randn(room, halves.point_normals), row, n, e, extras, *told)
        z = torch.cat([self.depth, self.depth[-1:]])[row]
        # Axes of the mesh in the shower frame: (-sin, 0, cos), (0, -1, 0) and the direction (cos, 0, sin).
        u, v, w = cos * z - sin * x, -y, cos * x + sin * z
        cells_r, cells_phi, cells_z = self.CELLS
        i = torch.floor(torch.sqrt(u**2 + v**2) / self.SIZE_MM[0]).long()
        j = torch.floor((torch.atan2(v, u) + torch.pi) * (cells_phi / (2 * torch.pi))).long() % cells_phi
        k = torch.floor(w / self.SIZE_MM[1]).long()
        inside = (i < cells_r) & (k >= 0) & (k < cells_z)
        cell = torch.where(inside, (i * cells_phi + j) * cells_z + k, 0)
        cells = torch.zeros(cells_r * cells_phi * cells_z).index_add(0, cell, torch.where(inside, deposit / 1000.0, 0.0))
        low, high = self.request.energy_mev
        # sin(theta) is the cosine of the angle to the normal.
        steep = torch.cos(torch.tensor(self.request.max_angle_rad + 1e-3))
        valid = good.any() & (mev >= low * 0.999) & (mev <= high * 1.001) & (sin >= steep)
        return torch.where(valid, cells, torch.full_like(cells, float("nan")))[None]


def export_par04(model: Model, detector: Detector, request: ExportRequest, out: Path) -> None:
    """Write an ONNX file that Geant4's example Par04 can run.

    Raises:
        ModelError: if the detector is deeper than the mesh, the family cannot be taken apart, or a package is missing.
    """
    require_onnx("onnx", "onnxscript")
    depth = Par04Mesh.CELLS[2] * Par04Mesh.SIZE_MM[1]
    deepest = float(detector.layer_z_mm[-1])
    if deepest >= depth:
        raise ModelError(
            f"'{detector.name}' has its last layer at {deepest:g} mm and Par04's mesh ends at {depth:g} mm; expected a detector"
            " that fits into the mesh"
        )
    room = round(1.5 * request.most_points(model, detector)) + 100
    mesh = Par04Mesh(take_apart(model, detector), request, room)
    middle = (request.energy_mev[0] * request.energy_mev[1]) ** 0.5 / 1000
    example = torch.tensor([[middle, 0.0, torch.pi / 2, 1.0, 0.0, 0.0, 0.0, 0.0]])
    to_onnx(mesh, (example,), ("condition",), ("energies_gev",), None, out)

"""Every export, loaded by its own runtime, against the model it was made from."""

from __future__ import annotations

import math
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from embed_toys import as_shower, assert_alike, imported, of_showers, summary, toy_model, voxels

from anycalo.embed import DdmlLayout, OnnxModel, export, open_model
from anycalo.embed.halves import sample_halves, take_apart
from anycalo.embed.onnx_graphs import Par04Mesh
from anycalo.embed.request import ExportRequest
from anycalo.errors import ModelError, OutputError
from anycalo.generate import generate
from anycalo.geometry import Detector
from anycalo.models import Model, Noise
from anycalo.models.caloclouds import CaloClouds
from anycalo.showers import Incident, Showers

# DDML loads TorchScript, whatever PyTorch would rather have.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit")

N = 150
GEV, THETA_DEG = 4.0, 10.0


@pytest.fixture(scope="module")
def model(small_detector: Detector) -> CaloClouds:
    return toy_model(small_detector, steps=1)


@pytest.fixture(scope="module")
def python_showers(model: CaloClouds, small_detector: Detector) -> Showers:
    """What the exported ones should be distributed as: photons of 4 GeV at 10 degrees towards y."""
    angle = math.radians(THETA_DEG)
    incident = Incident(energy_mev=1000 * GEV, direction=(0.0, math.sin(angle), math.cos(angle)), n=2 * N)
    return generate(model, small_detector, incident, seed=5)


@pytest.mark.parametrize("depth", ["conditioned", "generated"])
def test_the_halves_are_the_model(small_detector: Detector, depth: str) -> None:
    conditions = ("log_energy", "dx", "dy", "dz")
    whole = toy_model(small_detector, depth=depth, conditions=conditions, lateral_moments=depth == "conditioned")
    halves = take_apart(whole, small_detector)
    incident = Incident(np.array([22, 22]), energy_mev=np.array([2000.0, 8000.0]), direction=(0.1, 0.0, math.sqrt(0.99)))
    a = whole.sample(small_detector, incident, Noise(3, [0, 1]))
    b = sample_halves(halves, small_detector, incident, Noise(3, [0, 1]), halves.layers, halves.points)
    assert np.array_equal(a.offsets, b.offsets)
    for name in ("x_mm", "y_mm", "layer", "energy_mev"):
        np.testing.assert_allclose(getattr(a, name), getattr(b, name), rtol=1e-4, atol=1e-4)


def test_padding_takes_no_energy(model: CaloClouds, small_detector: Detector) -> None:
    halves = take_apart(model, small_detector)
    told = (torch.tensor([4000.0]), torch.tensor([[0.0, 0.0, 1.0]]), torch.zeros(1))
    n, e = torch.tensor([[1.0, 4, 9, 9, 4, 0]]), torch.tensor([[1.0, 4, 20, 20, 4, 0]])
    row = torch.repeat_interleave(torch.arange(6), n[0].long())
    normal = torch.randn(40, halves.point_normals, generator=torch.Generator().manual_seed(1))
    plain = halves.points(normal[: len(row)], row, n, e, torch.zeros(1, 3), *told)
    padded = halves.points(normal, torch.cat([row, torch.full((40 - len(row),), 6)]), n, e, torch.zeros(1, 3), *told)
    for a, b in zip(plain, padded, strict=True):
        torch.testing.assert_close(a, b[: len(row)])
    assert not padded[3][len(row) :].any()


@pytest.mark.parametrize("stride", [1, 4])
def test_torchscript_for_ddml(
    model: CaloClouds, small_detector: Detector, python_showers: Showers, tmp_path: Path, stride: int
) -> None:
    layout = DdmlLayout(length=6000, layers=6, count_stride=stride)
    path = export(model, small_detector, "ddml-torchscript", tmp_path / "cc.pt", layout=layout)
    loaded = torch.jit.load(str(path))
    torch.manual_seed(1)
    told = [torch.tensor([[v]]) for v in (GEV, THETA_DEG, 90.0)]
    found = []
    for _ in range(N):
        out = loaded(*told)
        assert out.shape == (6000,)
        assert out.dtype == torch.float32
        assert out.is_contiguous()
        assert not out.requires_grad
        found.append(as_shower(layout, out.numpy()))
    assert_alike(np.array(found), of_showers(python_showers))
    for wrong in ((40.0, 0.0, 0.0), (0.1, 0.0, 0.0), (GEV, 60.0, 0.0)):
        with pytest.raises(torch.jit.Error, match="outside what this model was exported for"):
            loaded(*[torch.tensor([[v]]) for v in wrong])


def test_python_for_ddml(
    model: CaloClouds, small_detector: Detector, python_showers: Showers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    layout = DdmlLayout(length=6000, layers=6)
    path = export(model, small_detector, "ddml-python", tmp_path / "calo.py", layout=layout)
    monkeypatch.setenv("ANYCALO_SEED", "4")
    module = imported(path)
    told = [np.array([[v]], dtype=np.float32) for v in (GEV, THETA_DEG, 90.0)]
    found = []
    for _ in range(N):
        out = module.run_inference(told)
        assert out.dtype == np.float32
        assert out.shape == (6000,)
        found.append(as_shower(layout, out))
    assert_alike(np.array(found), of_showers(python_showers))
    with pytest.raises(ModelError, match="40000 MeV at 0 degrees lies outside what this model was exported for"):
        module.run_inference([np.full((1, 1), 40.0), np.zeros((1, 1)), np.zeros((1, 1))])
    with pytest.raises(OutputError, match="exists already"):
        export(model, small_detector, "ddml-python", path, layout=layout)


@pytest.mark.slow
def test_onnx_makes_the_same_showers(model: CaloClouds, small_detector: Detector, tmp_path: Path) -> None:
    """Same seed, same showers, up to rounding, in batches of any size: the graphs are dynamic in both."""
    pytest.importorskip("onnxruntime")
    path = export(model, small_detector, "onnx", tmp_path / "onnx")
    engine = open_model(path)
    assert isinstance(engine, OnnxModel)
    incident = Incident(energy_mev=np.array([2000.0, 4000, 8000, 3000, 9000]), direction=(0.2, 0.0, math.sqrt(0.96)))
    expected = generate(model, small_detector, incident, seed=2)
    for batch_size in (5, 2, 1):
        found = generate(engine, small_detector, incident, seed=2, batch_size=batch_size)
        assert np.array_equal(found.offsets, expected.offsets)
        for name in ("x_mm", "y_mm", "layer", "energy_mev"):
            np.testing.assert_allclose(getattr(found, name), getattr(expected, name), rtol=2e-3, atol=2e-3)
    with pytest.raises(ModelError, match="was exported for 'small'"):
        generate(engine, Detector.load("ild-ecal"), incident)
    (path / "points.onnx").unlink()
    with pytest.raises(ModelError, match=r"points\.onnx is missing"):
        OnnxModel(path)


@pytest.mark.slow
def test_onnx_for_par04(model: CaloClouds, small_detector: Detector, tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    path = export(model, small_detector, "par04-onnx", tmp_path / "par04.onnx")
    session = onnxruntime.InferenceSession(str(path))
    (given,) = session.get_inputs()
    assert (given.shape, given.type) == ([1, 8], "tensor(float)")
    tilt = 0.2
    condition = np.array([[GEV, 0.7, math.pi / 2 - tilt, 1, 0, 0, 0, 0]], dtype=np.float32)

    def measures(mesh: np.ndarray) -> np.ndarray:
        energy = mesh.sum((1, 2, 3))
        depth = (mesh.sum((1, 2)) @ np.arange(45)) / energy
        side = (mesh.sum((1, 3)) @ np.cos((np.arange(16) + 0.5) * np.pi / 8 - np.pi)) / energy
        return summary(energy, depth, side)

    found = np.stack([session.run(None, {given.name: condition})[0].reshape(9, 16, 45) for _ in range(N)])
    incident = Incident(energy_mev=1000 * GEV, direction=(math.sin(tilt), 0.0, math.cos(tilt)), n=2 * N)
    expected = voxels(generate(model, small_detector, incident, seed=8))
    assert_alike(measures(found), measures(expected))
    for wrong in ((40.0, math.pi / 2), (GEV, 0.3)):
        told = condition.copy()
        told[0, [0, 2]] = wrong
        assert np.isnan(session.run(None, {given.name: told})[0]).all()


def test_a_point_lands_in_its_cell_of_par04(model: CaloClouds, small_detector: Detector) -> None:
    """Deposits of the halves, put into the mesh by the module and by numpy, from the same random numbers."""
    request = ExportRequest.of(model)
    mesh = Par04Mesh(take_apart(model, small_detector), request, 600)
    torch.manual_seed(3)
    found = mesh(torch.tensor([[GEV, 0.0, math.pi / 2 - 0.2, 1, 0, 0, 0, 0]]))[0].numpy().reshape(9, 16, 45)
    torch.manual_seed(3)
    told = (torch.full((8,), 1000 * GEV), torch.tensor([[math.sin(0.2), 0.0, math.cos(0.2)]]).repeat(8, 1), torch.zeros(8))
    n, e, extras, good = mesh.layers(torch.randn(8, mesh.halves.layer_normals), *told)
    pick = int(good.nonzero()[0])
    row = torch.repeat_interleave(torch.arange(6), n[pick].long())
    normal = torch.randn(600, mesh.halves.point_normals)[: len(row)]
    one = slice(pick, pick + 1)
    row, x, y, energy = mesh.points(normal, row, n[one], e[one], extras[one], *(t[:1] for t in told))
    showers = Showers(
        detector=small_detector,
        incident=Incident(energy_mev=1000 * GEV, direction=(math.sin(0.2), 0.0, math.cos(0.2))),
        offsets=np.array([0, len(row)]),
        x_mm=x.numpy(),
        y_mm=y.numpy(),
        layer=row.numpy(),
        energy_mev=energy.numpy(),
    )
    expected = voxels(showers)[0]
    assert np.abs(found - expected).sum() < 0.02 * expected.sum()  # single points on an edge may round to either side
    assert np.abs(found[::-1] - expected).sum() > 0.5 * expected.sum()


class Strange(CaloClouds):
    family = "strange"


def refuse(model: Model, detector: Detector, message: str, target: str, out: Path, **asked: object) -> None:
    with pytest.raises(ModelError, match=message):
        export(model, detector, target, out, **asked)  # type: ignore[arg-type]
    assert list(out.parent.iterdir()) == []


def test_what_a_runtime_cannot_hold_is_refused(model: CaloClouds, small_detector: Detector, tmp_path: Path) -> None:
    d, out = small_detector, tmp_path / "x.py"
    refuse(model, d, "6 layers and this DDML reads 30", "ddml-torchscript", out, layout=DdmlLayout())
    tight = DdmlLayout(length=200, layers=6)
    refuse(model, d, "48 fit into 200 numbers.*at least", "ddml-python", out, layout=tight)
    refuse(model, d, "particles electron were not trained on", "ddml-python", out, particle="electron")
    refuse(model, d, "reaches outside the trained range", "onnx", out, energy_mev=(1000.0, 1e5))
    refuse(model, d, "above the largest trained angle", "par04-onnx", out, max_angle_rad=1.0)
    refuse(model, d, "expected one of ddml-torchscript", "lwtnn", out)
    refuse(model, d, "expected a name such as calo.py", "ddml-python", tmp_path / "x.txt", layout=DdmlLayout(layers=6))
    strange = Strange(model.config, model.domain)
    strange.load_state_dict(model.state_dict())
    refuse(strange, d, "family strange have no form.*ddml-python", "onnx", out)
    deep = Detector.from_toml(d.to_toml().replace("thickness_mm = 5.0", "thickness_mm = 30.0"))
    refuse(toy_model(deep), deep, "mesh ends at 153 mm", "par04-onnx", out)
    with pytest.raises(ModelError, match="count_stride is 2"):
        DdmlLayout(count_stride=2)
    assert os.listdir(tmp_path) == []

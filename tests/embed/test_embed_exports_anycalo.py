"""Exports of the family `anycalo`, which knows no detector: each loaded by its own runtime, against the model."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from embed_toys import as_shower, assert_alike, imported, of_showers, summary, voxels
from scipy.special import gammainc
from torch import Tensor, nn

from anycalo.embed import DdmlLayout, OnnxModel, export, halves_anycalo
from anycalo.embed.halves import Halves, sample_halves, take_apart
from anycalo.embed.onnx_graphs import Par04Mesh, to_onnx
from anycalo.embed.request import ExportRequest
from anycalo.errors import DomainWarning, ModelError
from anycalo.generate import generate
from anycalo.geometry import Detector
from anycalo.models import Model, Noise, load_model, totals
from anycalo.showers import Incident, Showers

pytestmark = [
    pytest.mark.filterwarnings("ignore:`torch.jit"),
    pytest.mark.filterwarnings("ignore::anycalo.errors.DomainWarning"),
]

N = 120
GEV, TILT = 4.0, 0.2


@pytest.fixture(scope="module")
def model() -> Model:
    return load_model("anycalo-base")


@pytest.fixture(scope="module")
def halves(model: Model, small_detector: Detector) -> Halves:
    return take_apart(model, small_detector)


def python_showers(model: Model, detector: Detector, direction: tuple[float, float, float]) -> Showers:
    return generate(model, detector, Incident(energy_mev=1000 * GEV, direction=direction, n=3 * N), seed=5)


@pytest.mark.parametrize("name", ["small", "fe-scint"])
def test_the_halves_are_the_model(model: Model, small_detector: Detector, name: str) -> None:
    """The same numbers give the same showers, particle by particle, whether the walk is compiled or written out."""
    detector = small_detector if name == "small" else Detector.load(name)
    halves = take_apart(model, detector)
    incident = Incident(
        np.array([22, 11, 22, 11]),
        energy_mev=np.array([2000.0, 20_000.0, 60_000.0, 5000.0]),
        direction=(0.3, -0.2, math.sqrt(0.87)),
    )
    a = model.sample(detector, incident, Noise(3, range(4)))
    b = sample_halves(halves, detector, incident, Noise(3, range(4)), halves.layers, halves.points)
    assert halves.n_layers == detector.n_layers
    # A draw on the edge between two numbers of points may, rarely, round to either.
    same = np.flatnonzero(a.counts == b.counts)
    assert len(same) >= 3
    for name_ in ("x_mm", "y_mm", "layer", "energy_mev"):
        np.testing.assert_allclose(getattr(a[same], name_), getattr(b[same], name_), rtol=2e-3, atol=4e-3)


def test_a_mirror_image_is_as_likely(model: Model, halves: Halves) -> None:
    """Half of the numbers that choose a member turn x around; with the other half, a mirrored particle has its mirror image."""
    generator, size = torch.Generator().manual_seed(4), 30
    members, last = len(model.totals.members), totals.NOISE - 1  # type: ignore[arg-type]
    normal = torch.randn(size, halves.layer_normals, generator=generator)
    level = torch.special.ndtr(normal[:, last]) * members
    other = normal.clone()
    other[:, last] = torch.special.ndtri((level.floor() + (level + 0.5) % 1) / members)
    direction = torch.tensor([[0.3, 0.1, math.sqrt(0.9)]]).expand(size, 3)
    told = torch.full((size,), 5000.0), direction, torch.zeros(size)
    mirrored = told[0], direction * torch.tensor([-1.0, 1, 1]), told[2]
    n, e, extras, good = halves.layers(normal, *told)
    n_, e_, extras_, good_ = halves.layers(other, *mirrored)
    assert torch.equal(good, good_)
    assert torch.equal(n[good], n_[good])
    torch.testing.assert_close(e[good], e_[good])
    torch.testing.assert_close(extras[:, -1], -extras_[:, -1])
    row = torch.repeat_interleave(torch.arange(n.numel()), n.flatten().long())
    scores = torch.randn(len(row), halves.point_normals, generator=generator)
    _, x, y, energy = halves.points(scores, row, n, e, extras, *told)
    _, x_, y_, energy_ = halves.points(scores, row, n_, e_, extras_, *mirrored)
    for one, two in ((x, -x_), (y, y_), (energy, energy_)):
        torch.testing.assert_close(one, two, rtol=1e-3, atol=1e-3)


def test_padding_takes_no_energy(halves: Halves) -> None:
    generator = torch.Generator().manual_seed(1)
    told = (torch.tensor([4000.0]), torch.tensor([[0.0, 0.0, 1.0]]), torch.zeros(1))
    n, e, extras, good = halves.layers(torch.randn(1, halves.layer_normals, generator=generator), *told)
    assert good.all()
    row = torch.repeat_interleave(torch.arange(6), n[0].long())
    normal = torch.randn(len(row) + 20, halves.point_normals, generator=generator)
    plain = halves.points(normal[: len(row)], row, n, e, extras, *told)
    padded = halves.points(normal, torch.cat([row, torch.full((20,), 6)]), n, e, extras, *told)
    for a, b in zip(plain, padded, strict=True):
        torch.testing.assert_close(a, b[: 2 * len(row)])
    assert not padded[3][2 * len(row) :].any()
    assert (padded[0][2 * len(row) :] == 6).all()
    torch.testing.assert_close(plain[3].sum(), e.sum())


@pytest.mark.slow
def test_torchscript_for_ddml(model: Model, small_detector: Detector, tmp_path: Path) -> None:
    layout = DdmlLayout(length=24_000, layers=6)
    path = export(model, small_detector, "ddml-torchscript", tmp_path / "cc.pt", layout=layout)
    loaded = torch.jit.load(str(path))
    torch.manual_seed(1)
    told = [torch.tensor([[v]]) for v in (GEV, math.degrees(TILT), 90.0)]
    found = []
    for _ in range(N):
        out = loaded(*told)
        assert (out.shape, out.dtype) == ((24_000,), torch.float32)
        found.append(as_shower(layout, out.numpy()))
    expected = python_showers(model, small_detector, (0.0, math.sin(TILT), math.cos(TILT)))
    assert_alike(np.array(found), of_showers(expected))
    for wrong in ((200.0, 0.0, 0.0), (0.5, 0.0, 0.0), (GEV, 60.0, 0.0)):
        with pytest.raises(torch.jit.Error, match="outside what this model was exported for"):
            loaded(*[torch.tensor([[v]]) for v in wrong])


def test_python_for_ddml(model: Model, small_detector: Detector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Electrons this time: which kind an export is of can be said."""
    layout = DdmlLayout(length=24_000, layers=6)
    path = export(model, small_detector, "ddml-python", tmp_path / "calo.py", layout=layout, particle="electron")
    monkeypatch.setenv("ANYCALO_SEED", "4")
    run = imported(path).run_inference
    told = [np.array([[v]], dtype=np.float32) for v in (GEV, 0.0, 0.0)]
    found = np.array([as_shower(layout, run(told)) for _ in range(N)])
    incident = Incident("electron", energy_mev=1000 * GEV, n=3 * N)
    assert_alike(found, of_showers(generate(model, small_detector, incident, seed=5)))


def test_what_a_runtime_cannot_hold_is_refused(model: Model, small_detector: Detector, tmp_path: Path) -> None:
    ild, out = Detector.load("ild-ecal"), tmp_path / "x"
    for detector, target, message, asked in (
        (ild, "par04-onnx", "mesh ends at 153 mm", {}),
        (small_detector, "ddml-torchscript", "6 layers and this DDML reads 30", {"layout": DdmlLayout()}),
        (small_detector, "ddml-torchscript", "points and 48 fit into 200", {"layout": DdmlLayout(length=200, layers=6)}),
        (small_detector, "ddml-torchscript", "particles positron were not trained on", {"particle": "positron"}),
        (small_detector, "onnx", "reaches outside the trained range", {"energy_mev": (1000.0, 1e6)}),
        (small_detector, "onnx", "above the largest trained angle", {"max_angle_rad": 1.2}),
    ):
        with pytest.raises(ModelError, match=message):
            export(model, detector, target, out, **asked)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_a_detector_outside_the_domain_is_exported_with_a_warning(model: Model, tmp_path: Path) -> None:
    layout = DdmlLayout(layers=25)
    with pytest.warns(DomainWarning, match="effective_z' of u-scint"):
        export(model, Detector.load("u-scint"), "ddml-python", tmp_path / "calo.py", layout=layout, energy_mev=(1000.0, 5000.0))


def test_photons_are_exported_unless_others_are_asked_for(model: Model) -> None:
    assert ExportRequest.of(model).particle == "gamma"
    assert ExportRequest.of(model, particle="electron").charge == -1


@pytest.mark.slow
def test_onnx_makes_the_same_showers(model: Model, small_detector: Detector, tmp_path: Path) -> None:
    """Same seed, same showers, up to rounding, in batches of any size; one export serves photons and electrons."""
    pytest.importorskip("onnxruntime")
    engine = OnnxModel(export(model, small_detector, "onnx", tmp_path / "onnx"))
    incident = Incident(
        np.array([22, 11, 22, 11, 22]),
        energy_mev=np.array([2000.0, 4000, 50_000, 3000, 9000]),
        direction=(0.2, 0.0, math.sqrt(0.96)),
    )
    expected = generate(model, small_detector, incident, seed=2)
    for batch_size in (5, 2, 1):
        found = generate(engine, small_detector, incident, seed=2, batch_size=batch_size)
        same = np.flatnonzero(found.counts == expected.counts)
        assert len(same) >= 4
        one, two = found[same], expected[same]
        for name in ("layer", "energy_mev"):
            np.testing.assert_allclose(getattr(one, name), getattr(two, name), rtol=2e-3, atol=4e-3)
        # Rounding also turns a point about the axis, which moves it in proportion to its distance from there.
        moved, distance = np.hypot(one.x_mm - two.x_mm, one.y_mm - two.y_mm), np.hypot(two.x_mm, two.y_mm)
        assert (moved <= 4e-3 + 2e-3 * distance).all()
        assert np.quantile(moved / (distance + 1e-2), 0.9) < 1e-3
    with pytest.raises(ModelError, match="was exported for 'small'"):
        generate(engine, Detector.load("fe-scint"), incident)


@pytest.mark.slow
def test_onnx_for_par04(model: Model, small_detector: Detector, tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    path = export(model, small_detector, "par04-onnx", tmp_path / "par04.onnx")
    session = onnxruntime.InferenceSession(str(path))
    (given,) = session.get_inputs()
    condition = np.array([[GEV, 0.7, math.pi / 2 - TILT, 1, 0, 0, 0, 0]], dtype=np.float32)

    def measures(mesh: np.ndarray) -> np.ndarray:
        energy = mesh.sum((1, 2, 3))
        return summary(energy, (mesh.sum((1, 2)) @ np.arange(45)) / energy, (mesh.sum((2, 3)) @ np.arange(9)) / energy)

    found = np.stack([session.run(None, {given.name: condition})[0].reshape(Par04Mesh.CELLS) for _ in range(N)])
    expected = python_showers(model, small_detector, (math.sin(TILT), 0.0, math.cos(TILT)))
    assert_alike(measures(found), measures(voxels(expected)))
    condition[0, 0] = 200.0
    assert np.isnan(session.run(None, {given.name: condition})[0]).all()


@pytest.mark.slow
def test_what_onnx_lacks_is_right(tmp_path: Path) -> None:
    """The incomplete gamma function against scipy's, and a walk whose steps are one operator against a loop."""
    onnxruntime = pytest.importorskip("onnxruntime")

    class Both(nn.Module):
        def forward(self, a: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
            def step(carry: tuple[Tensor, ...], given: tuple[Tensor, ...]) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
                total = carry[0] * 0.5 + given[0]
                return (total,), (total * 2,)

            (walked,) = halves_anycalo.scan(step, (torch.zeros_like(x[0]),), (x,))
            return torch.special.gammainc(a, x), walked

    a, x = (torch.tensor(t, dtype=torch.float32) for t in np.meshgrid(np.linspace(1.25, 9, 12), np.geomspace(1e-4, 95, 40)))
    to_onnx(Both(), (a, x), ("a", "x"), ("share", "walked"), None, tmp_path / "both.onnx")
    session = onnxruntime.InferenceSession(str(tmp_path / "both.onnx"))
    share, walked = session.run(None, {"a": a.numpy(), "x": x.numpy()})
    np.testing.assert_allclose(share, gammainc(a.double().numpy(), x.double().numpy()), rtol=2e-6, atol=1e-7)
    np.testing.assert_allclose(walked, Both()(a, x)[1].numpy(), rtol=1e-5)

"""The drawing of a detector: every preset, the areas of the colours, and outputs that are refused."""

from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

from anycalo.errors import OutputError
from anycalo.geometry import Detector, Layer, Rectangular, Section, Slab, presets
from anycalo.report.detector import draw_detector


def detector(*, n_kinds: int = 1, sensitive_mm: float = 3.0) -> Detector:
    layers = []
    for i in range(n_kinds):
        stack = (
            Slab(material="G4_W", thickness_mm=1.0),
            Slab(material="G4_Si", thickness_mm=sensitive_mm + i, sensitive=True),
        )
        layers.append(Layer(stack=stack, readout=Rectangular(pitch_mm=(5.0, 5.0))))
    return Detector(name="drawn", sections=(Section(layers=tuple(layers)),))


def near(image: np.ndarray, colour: tuple[int, int, int]) -> int:
    """Number of pixels of a colour, in the part of the picture where the whole stack is."""
    half = image[: int(2.1 * 200), :, :3]
    return int((np.abs(half * 255 - np.array(colour)).max(axis=2) < 3).sum())


@pytest.mark.parametrize("name", presets())
def test_every_preset_can_be_drawn(name: str, tmp_path: Path) -> None:
    path = draw_detector(Detector.load(name), tmp_path / "d.png")
    image = imread(path)
    assert image.shape[1] == 920  # a phone held upright: narrow, and taller the more there is to say
    assert 500 < image.shape[0] < 2000
    assert [p.name for p in tmp_path.iterdir()] == ["d.png"]


@pytest.mark.parametrize("sensitive_mm", [1.0, 3.0])
def test_colours_cover_what_the_slabs_do(sensitive_mm: float, tmp_path: Path) -> None:
    image = imread(draw_detector(detector(sensitive_mm=sensitive_mm), tmp_path / "d.png"))
    orange, dark = near(image, (0xE8, 0x59, 0x0C)), near(image, (0x22, 0x30, 0x3C))
    assert orange / dark == pytest.approx(sensitive_mm, rel=0.03)


def test_many_kinds_of_layer_and_other_formats(tmp_path: Path) -> None:
    for suffix, start in ((".pdf", b"%PDF"), (".svg", b"<?xml")):
        path = draw_detector(detector(n_kinds=6), tmp_path / f"d{suffix}")
        assert path.read_bytes().startswith(start)
    svg = (tmp_path / "d.svg").read_text("utf-8")
    assert "and 3 more kinds of layer" in svg


def test_outputs_that_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "d.png"
    path.write_text("mine")
    with pytest.raises(OutputError, match="exists already"):
        draw_detector(detector(), path)
    assert path.read_text() == "mine"
    draw_detector(detector(), path, overwrite=True)
    with pytest.raises(OutputError, match=r"ends in '.txt'; expected one of .png"):
        draw_detector(detector(), tmp_path / "d.txt")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["d.png"]

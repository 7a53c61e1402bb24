"""The examples of the documentation run."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from anycalo.cli.main import COMMANDS
from anycalo.geometry import Detector
from anycalo.showers import Showers
from toyshowers import toy_showers

ROOT = Path(__file__).parent.parent


def examples(name: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", (ROOT / name).read_text("utf-8"), flags=re.DOTALL)


def test_the_examples_of_the_shower_file(
    small_detector: Detector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    showers = toy_showers(small_detector, 12, 3)
    showers.write("photons.h5")
    plain, package = examples("docs/shower-file.md")
    exec(compile(plain, "docs/shower-file.md", "exec"), {})
    third, printed = showers[2], capsys.readouterr().out
    assert "12 showers from toy" in printed
    assert f"{third.energy_mev.sum():.1f} MeV visible in {third.n_points} points, up to layer {third.layer.max()}" in printed
    assert f"response {(showers.visible_mev() / showers.incident.energy_mev).mean():.4f}" in printed
    exec(compile(package, "docs/shower-file.md", "exec"), {})
    assert len(Showers.open("first.h5")) == 10


def test_the_layout_that_is_described_is_the_layout(small_detector: Detector, tmp_path: Path) -> None:
    import h5py

    toy_showers(small_detector, 3, 3).write(tmp_path / "a.h5")
    found: list[str] = []
    with h5py.File(tmp_path / "a.h5") as file:
        file.visititems(lambda name, item: found.append(f"/{name}") if isinstance(item, h5py.Dataset) else None)
        attributes = set(file.attrs)
    page = (ROOT / "docs/shower-file.md").read_text("utf-8")
    rows = [line for line in page.splitlines() if line.startswith("| `")]
    described = {name for row in rows for name in re.findall(r"`([^`]+)`", row.split("|")[1])}
    assert described == {*found, *attributes}


def test_links_lead_somewhere() -> None:
    for page in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]:
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text("utf-8")):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_the_readme_names_every_command() -> None:
    page = (ROOT / "README.md").read_text("utf-8")
    assert [command for command in COMMANDS if f"anycalo {command}" not in page] == []


def test_the_page_on_the_command_line_is_up_to_date() -> None:
    """`make docs` writes it. Compared without spaces, since line breaks are the formatter's business."""
    from anycalo.cli.main import app, load

    for command in COMMANDS:
        load(command)
    page = (ROOT / "docs/command-line.md").read_text("utf-8")
    made = app.generate_docs()
    assert "".join(made.split()) in "".join(page.split()), "run `make docs`"

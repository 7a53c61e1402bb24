"""`anycalo show`: a page and a picture of one shower."""

from __future__ import annotations

from pathlib import Path

import pytest
from outcome import Refused, Run


def test_a_page_and_a_picture(
    anycalo: Run,
    refused: Refused,
    toy_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    outcome = anycalo("show", toy_file, "--event", 3)
    assert outcome.code == 0
    assert outcome.out.split() == ["event-3.html", "event-3.png"]
    assert Path("event-3.png").read_bytes().startswith(b"\x89PNG")
    assert "<html" in Path("event-3.html").read_text("utf-8")
    assert "exists already" in refused("show", toy_file, "--event", 3)
    found = anycalo("show", toy_file, "--event", 3, "--overwrite", "--cells", "--json").json
    assert found == {"page": "event-3.html", "picture": "event-3.png"}


def test_an_event_that_is_not_there(refused: Refused, toy_file: Path, tmp_path: Path) -> None:
    for event in (200, -1):
        assert "holds events 0 to 199" in refused("show", toy_file, "--event", event, "--out", tmp_path / "a")


def test_an_output_that_cannot_be_written(refused: Refused, toy_file: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    assert "cannot be written" in refused("show", toy_file, "--out", tmp_path / "file" / "event")

"""Event displays: two whole files that need no network, or a clear refusal and nothing left behind."""

import json
import re
import struct

import numpy as np
import pytest
import report_toys

from anycalo.errors import OutputError, ShowersError
from anycalo.readout import read_out
from anycalo.report import display, event_display, words
from anycalo.showers import Incident, Showers


@pytest.fixture
def truth():
    return report_toys.truth()


@pytest.fixture
def fast():
    return report_toys.fast()


def plotted(page):
    """The deposits as the page's script holds them: depth, x, y, energy."""
    text = page.read_text("utf-8")
    call = text[text.rindex("Plotly.newPlot(") :]
    traces, _ = json.JSONDecoder().raw_decode(call[call.index("[") :])
    deposits = next(t for t in traces if t["name"] == "deposits")
    return [_array(deposits[k]) for k in ("x", "y", "z", "customdata")]


def _array(value):
    if isinstance(value, dict):  # plotly packs arrays of numbers
        import base64

        return np.frombuffer(base64.b64decode(value["bdata"]), dtype=value["dtype"])
    return np.array(value)


def test_both_files_are_whole_and_need_no_network(truth, tmp_path):
    page, image = event_display(truth, 3, tmp_path / "made" / "event-3")
    assert (page.name, image.name) == ("event-3.html", "event-3.png")
    assert sorted(p.name for p in page.parent.iterdir()) == ["event-3.html", "event-3.png"]
    text = page.read_text("utf-8")
    energy = words.energy(float(truth.incident.energy_mev[3]))
    assert f"<h1>gamma, {energy}, toy &lt;calo&gt;</h1>" in text
    assert "Geant4 11.4.1, event 3" in text
    assert not re.search(r"<(script|link|img)[^>]*(src|href)=", text)
    header = image.read_bytes()[:24]
    assert header[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = struct.unpack(">II", header[16:24])
    assert width > 1000
    assert height > 400


@pytest.mark.parametrize("cells", [False, True])
def test_what_is_plotted_is_the_shower(truth, tmp_path, cells):
    page, _ = event_display(truth, 5, tmp_path / "event", cells=cells)
    depth, x, y, energy = plotted(page)
    if cells:
        whole = read_out(truth[5])
        expected = (whole.z_mm, whole.x_mm, whole.y_mm, whole.energy_mev)
    else:
        shower = truth[5]
        expected = (truth.detector.layer_z_mm[shower.layer], shower.x_mm, shower.y_mm, shower.energy_mev)
    found = {tuple(row) for row in np.round(np.stack([depth, x, y], axis=1).astype(float), 2)}
    known = {tuple(row) for row in np.round(np.stack(expected[:3], axis=1).astype(float), 2)}
    missing = [row for row in found - known if not any(np.allclose(row, k, atol=0.011) for k in known)]
    assert not missing
    assert energy.sum() >= 0.97 * expected[3].sum(), "the frame holds at least 99 % of the energy along x and along y"
    stated = re.search(r"([\d,]+) outside the frame", page.read_text("utf-8"))
    assert len(expected[3]) - len(energy) == (int(stated[1].replace(",", "")) if stated else 0), "what is left out is stated"


def test_a_crowd_of_points_is_cut_to_the_most_energetic_and_says_so(truth, tmp_path, monkeypatch):
    monkeypatch.setattr(display, "_SHOWN", 50)
    page, _ = event_display(truth, 0, tmp_path / "event")
    energy = plotted(page)[3]
    assert len(energy) == 50
    assert "250 outside the frame" in page.read_text("utf-8")
    assert np.isin(np.sort(truth[0].energy_mev)[-20:].astype(float).round(6), energy.round(6)).mean() > 0.8


@pytest.mark.parametrize("event", [-1, 60, 10**9, True, 1.5, "3"])
def test_an_event_that_is_not_there(truth, tmp_path, event):
    with pytest.raises(ShowersError, match=r"asked for; there are events 0 to 59"):
        event_display(truth, event, tmp_path / "event")
    assert list(tmp_path.iterdir()) == []


def test_an_event_without_energy(truth, tmp_path):
    empty = Showers(
        detector=truth.detector,
        incident=Incident("electron", energy_mev=1.0),
        offsets=np.array([0, 1]),
        x_mm=np.zeros(1),
        y_mm=np.zeros(1),
        layer=np.zeros(1),
        energy_mev=np.zeros(1),
    )
    with pytest.raises(ShowersError, match=r"event 0 \(electron, 1 MeV, toy <calo>\) has no points with energy"):
        event_display(empty, 0, tmp_path / "event")
    assert list(tmp_path.iterdir()) == []


def test_one_point_is_enough(truth, tmp_path):
    single = Showers(
        detector=truth.detector,
        incident=Incident("electron", energy_mev=1.0, direction=(0.6, 0.0, 0.8)),
        offsets=np.array([0, 1]),
        x_mm=np.zeros(1),
        y_mm=np.zeros(1),
        layer=np.zeros(1),
        energy_mev=np.ones(1),
    )
    page, _ = event_display(single, 0, tmp_path / "event")
    assert "electron, 1 MeV at 0.644 rad, toy" in page.read_text("utf-8")
    assert plotted(page)[3].tolist() == [1.0]
    assert "unknown origin: 1 MeV visible in 1 points" in page.read_text("utf-8"), "a shower on its own has no number"


@pytest.mark.parametrize("suffix", [".html", ".png"])
def test_files_that_exist_are_kept_unless_asked(truth, tmp_path, suffix):
    (tmp_path / f"event{suffix}").write_text("mine")
    with pytest.raises(OutputError, match=rf"event{suffix} exists already"):
        event_display(truth, 0, tmp_path / "event")
    assert [p.name for p in tmp_path.iterdir()] == [f"event{suffix}"]
    assert (tmp_path / f"event{suffix}").read_text() == "mine"
    event_display(truth, 0, tmp_path / "event", overwrite=True)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["event.html", "event.png"]
    assert (tmp_path / f"event{suffix}").stat().st_size > 10_000


def test_a_failure_in_the_middle_leaves_nothing(truth, tmp_path, monkeypatch):
    def fail(drawn):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(display, "_picture", fail)
    with pytest.raises(OutputError, match=r"event cannot be written: No space left on device"):
        event_display(truth, 0, tmp_path / "event")
    assert list(tmp_path.iterdir()) == []


def test_a_path_without_a_name(truth):
    with pytest.raises(OutputError, match="names no file"):
        event_display(truth, 0, "")


def test_the_page_draws_in_a_browser(truth, tmp_path):
    page, _ = event_display(truth, 3, tmp_path / "event")
    document = report_toys.browse(page, tmp_path / "profile")
    assert 'class="main-svg"' in document
    assert "<canvas" in document
    assert "energy [MeV]" in document[document.index("main-svg") :]


@pytest.mark.parametrize(
    ("mev", "text"),
    [(0.012, "12 keV"), (0.9, "900 keV"), (1.0, "1 MeV"), (12.34, "12.3 MeV"), (50_000, "50 GeV"), (2e6, "2 TeV")],
)
def test_energies_are_written_in_the_unit_that_reads_best(mev, text):
    assert words.energy(mev) == text


def test_samples_are_named_after_their_generator(truth, fast):
    assert words.sample(truth) == "Geant4 11.4.1"
    assert words.sample(fast) == "AnyCalo toy"
    plain = fast[:]
    plain.provenance = {}
    assert words.sample(plain) == "unknown origin"
    assert words.incident(plain).startswith("gamma, 1.")


def test_showers_side_by_side_share_frame_and_colours(truth, fast):
    bright = Showers(
        detector=fast.detector,
        incident=fast.incident,
        offsets=fast.offsets,
        x_mm=3 * fast.x_mm,
        y_mm=3 * fast.y_mm,
        layer=fast.layer,
        energy_mev=10 * fast.energy_mev,
    )
    alone = [display.pictures([(showers, 4)])[0][0] for showers in (truth, bright)]
    together = [figure for figure, _ in display.pictures([(truth, 4), (bright, 4)])]

    def frame(figure):
        side, front, _ = figure.axes
        return side.get_ylim(), front.get_xlim(), side.collections[0].norm.vmax

    assert frame(alone[0]) != frame(alone[1])
    assert frame(together[0]) == frame(together[1])
    for k, wide in enumerate(frame(together[0])[:2]):
        assert all(wide[0] <= frame(figure)[k][0] and frame(figure)[k][1] <= wide[1] for figure in alone)

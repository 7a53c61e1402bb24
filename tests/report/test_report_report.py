"""The report: every number of the evaluation, in one page that stands alone, or nothing at all."""

import base64
import dataclasses
import html
import json
import math
import os
import re

import numpy as np
import pytest
import report_toys

from anycalo.errors import OutputError
from anycalo.evaluate import OBSERVABLES, MetricResult, SeparationResult
from anycalo.report import figures, report, write_report
from anycalo.report.report import number, ratio, render


@pytest.fixture
def truth():
    return report_toys.truth()


@pytest.fixture
def fast():
    return report_toys.fast()


@pytest.fixture
def evaluation():
    return report_toys.evaluation()


@pytest.fixture(scope="module")
def page():
    return render(report_toys.evaluation(), report_toys.truth(), report_toys.fast())


@pytest.fixture
def without_figures(monkeypatch):
    """For what a page says in words: figures take seconds."""
    for name in ("comparison", "overview"):
        monkeypatch.setattr(figures, name, lambda *args: None)
    monkeypatch.setattr(report, "pictures", lambda pairs, **kwargs: [(None, "caption") for _ in pairs])
    monkeypatch.setattr(figures, "as_uri", lambda *args, **kwargs: "data:image/png;base64,")


def table(page, name="results"):
    body = page[page.index(f'id="{name}"') :]
    body = body[body.index("<tbody>") : body.index("</tbody>")]
    cells = [re.findall(r"<td>(.*?)</td>", row) for row in re.findall(r"<tr>(.*?)</tr>", body)]
    return [[html.unescape(re.sub("<[^>]*>", "", cell)) for cell in row] for row in cells]


def replaced(evaluation, **ratios):
    """The evaluation with other ratios to the floor."""
    observables = {
        name: dataclasses.replace(r, w1_ratio=ratios.get(name, r.w1_ratio)) for name, r in evaluation.observables.items()
    }
    return dataclasses.replace(evaluation, observables=observables)


def test_results_hold_the_evaluation(evaluation, truth, fast, tmp_path):
    written = write_report(evaluation, truth, fast, tmp_path / "report")
    assert written == tmp_path / "report" / "index.html"
    assert sorted(p.name for p in written.parent.iterdir()) == ["index.html", "results.json"]
    assert [p.name for p in tmp_path.iterdir()] == ["report"]
    results = json.loads((written.parent / "results.json").read_text("utf-8"))
    assert results == json.loads(json.dumps(evaluation.to_dict()))
    needed = {"w1", "w1_floor", "w1_ratio", "w1_ci", "jsd", "jsd_floor", "separation"}
    assert results["observables"]
    assert all(needed <= set(entry) for entry in results["observables"].values())
    assert results["summary"]["ratio_to_floor"] == evaluation.summary.ratio_to_floor


def test_the_table_holds_every_number_worst_first(evaluation, page):
    rows = table(page)
    expected = sorted(evaluation.observables.values(), key=lambda r: -r.w1_ratio)
    assert [row[0] for row in rows] == [r.title for r in expected]
    for row, r in zip(rows, expected, strict=True):
        interval = f"{ratio(r.w1_ratio_ci[0])} to {ratio(r.w1_ratio_ci[1])}"
        numbers = [number(v) for v in (r.w1, r.w1_floor, r.jsd, r.jsd_floor, r.separation, r.separation_floor)]
        assert row[1:] == [ratio(r.w1_ratio), interval, *numbers]


def test_the_headline_is_the_summary(evaluation, page):
    summary = evaluation.summary
    assert f'<p class="ratio" id="ratio">{ratio(summary.ratio_to_floor)}</p>' in page
    assert f"95 % interval {ratio(summary.ratio_to_floor_ci[0])} to {ratio(summary.ratio_to_floor_ci[1])}" in page
    assert "60 fast against 60 truth showers" in page


@pytest.mark.parametrize(
    ("value", "colour", "verdict"),
    [
        (0.9, figures.GOOD, "not distinguishable"),
        (1.5, figures.GOOD, "close to the floor"),
        (2.9, figures.WARN, "different, within 3 floors"),
        (3.1, figures.BAD, "clearly different"),
    ],
)
@pytest.mark.usefixtures("without_figures")
def test_the_light_follows_the_ratio(evaluation, truth, fast, value, colour, verdict):
    summary = dataclasses.replace(evaluation.summary, ratio_to_floor=value, perfect_ratio_range=(0.7, 1.2))
    page = render(dataclasses.replace(evaluation, summary=summary), truth, fast)
    assert f".ratio {{ font-size: 3.2rem; font-weight: 700; line-height: 1.1; color: {colour}; }}" in page
    assert re.search(rf'class="badge">{verdict}', page)


@pytest.mark.usefixtures("without_figures")
def test_a_good_mean_does_not_hide_a_weak_point(evaluation, truth, fast):
    calm = {name: 1.0 for name in evaluation.observables}
    summary = dataclasses.replace(evaluation.summary, ratio_to_floor=1.1, perfect_ratio_range=(0.7, 1.2))
    for ratios, words, colour in (
        (calm, "not distinguishable from the truth<", figures.GOOD),
        (calm | {"width_x": 5.0}, "not distinguishable from the truth on average, but see the red lights<", figures.WARN),
    ):
        page = render(dataclasses.replace(replaced(evaluation, **ratios), summary=summary, metrics={}), truth, fast)
        assert f'class="badge">{words}' in page
        assert f"color: white; background: {colour};" in page


@pytest.mark.usefixtures("without_figures")
def test_weak_points_are_stated(evaluation, truth, fast):
    calm = {name: 1.0 for name in evaluation.observables}
    page = render(replaced(evaluation, **{**calm, "width_x": 12.3, "cog_z": 3.01}), truth, fast)
    sentence = re.search(r'<p class="weak">(.*?)</p>', page)[1]
    assert (
        re.sub("<[^>]*>", "", sentence)
        == "Weak points (more than 3 floors): width in x at 12.3, centre of gravity in depth at 3.01."
    )
    page = render(replaced(evaluation, **calm), truth, fast)
    assert "No weak points" in re.search(r'<p class="weak">(.*?)</p>', page)[1]


@pytest.mark.usefixtures("without_figures")
def test_warnings_are_shown(evaluation, truth, fast):
    page = render(dataclasses.replace(evaluation, warnings=("energies differ <much>; do something",)), truth, fast)
    assert '<p class="warning">Energies differ &lt;much&gt;; do something.</p>' in page


def test_provenance_of_both_samples_is_there_and_escaped(page):
    for text in (
        "geant4-11-04-patch-01",
        "0123456789abcdef" * 4,
        "beam.energy mev",
        "&lt;b&gt;run&lt;/b&gt;",
        "toy &lt;calo&gt;",
    ):
        assert text in page
    assert "<b>run</b>" not in page
    assert "<calo>" not in page


def test_the_page_stands_alone_and_is_small(page, evaluation):
    assert not re.search(r"https?://", re.sub(r"data:image/[^\"]*", "", page))
    assert "<script" not in page
    assert len(page) < 3_000_000
    images = re.findall(r'src="data:image/(svg\+xml|png);base64,([^"]*)"', page)
    assert page.count("<img") == len(images) == len(evaluation.observables) + 1 + 2
    for kind, data in images:
        content = base64.b64decode(data)
        assert content.startswith(b"\x89PNG" if kind == "png" else b"<?xml")
        if kind == "svg+xml":
            assert b"<text" in content, "text stays text"
            assert b"Axis 0" not in content


def test_every_kind_of_observable_has_axis_labels(evaluation):
    for name, observable in OBSERVABLES.items():
        if observable.kind in ("family", "profile"):
            assert name in figures._AXES, f"{name}: say in figures._AXES what its axes are"
    assert figures.axis_labels(evaluation.observables["width_x"]) == ("Width in x [mm]", "share of showers per mm")
    assert figures.axis_labels(evaluation.observables["occupancy"])[1] == "density of showers"


def test_a_figure_draws_the_densities_and_their_ratio(evaluation):
    result = evaluation.observables["layer_energy"]
    main, below = figures.comparison(result, "A", "B").axes
    drawn = [patch.get_data() for patch in main.patches if hasattr(patch, "get_data")]
    for density in (result.truth_density, result.fast_density):
        assert any(np.array_equal(d.values, density) and np.array_equal(d.edges, result.edges) for d in drawn)
    points = below.containers[0].lines[0].get_xydata()
    expected = result.fast_density / result.truth_density
    centres = list((result.edges[:-1] + result.edges[1:]) / 2)
    assert len(points)
    for x, y in points:
        assert y == pytest.approx(expected[centres.index(x)])
    low, high = below.get_ylim()
    beyond = np.sum((expected < low) | (expected > high))
    assert len(points) + beyond == len(expected)
    assert sum(len(line.get_xdata()) for line in below.lines if line.get_marker() in "^v") == beyond


def test_bins_without_truth_or_numbers_do_not_break_a_figure(evaluation):
    result = evaluation.observables["layer_energy"]
    for truth, fast in ((0.0, 1.0), (1.0, 0.0), (0.0, 0.0), (math.nan, 1.0)):
        n = len(result.truth_density)
        odd = dataclasses.replace(
            result, truth_density=np.full(n, truth), truth_error=np.zeros(n), fast_density=np.full(n, fast)
        )
        assert figures.as_uri(figures.comparison(odd, "A", "B")).startswith("data:image/svg+xml;base64,")


def test_the_overview_has_a_row_for_every_observable_worst_on_top(evaluation):
    axes = figures.overview(evaluation.observables).axes[0]
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert names == [r.title for r in sorted(evaluation.observables.values(), key=lambda r: r.w1_ratio)]


@pytest.mark.usefixtures("without_figures")
def test_what_is_not_finite_becomes_null_and_a_dash(evaluation, truth, fast, tmp_path):
    observables = {**evaluation.observables}
    observables["width_x"] = dataclasses.replace(observables["width_x"], jsd=math.nan, jsd_floor=math.inf)
    odd = dataclasses.replace(evaluation, observables=observables)
    written = write_report(odd, truth, fast, tmp_path / "report")
    assert json.loads((written.parent / "results.json").read_text("utf-8"))["observables"]["width_x"]["jsd"] is None
    row = next(r for r in table(written.read_text("utf-8")) if r[0] == "Width in x")
    assert row[5:7] == ["–", "–"]


@pytest.mark.usefixtures("without_figures")
def test_a_folder_that_exists_is_kept_unless_asked(evaluation, truth, fast, tmp_path):
    out = tmp_path / "report"
    out.mkdir()
    (out / "notes.txt").write_text("mine")
    with pytest.raises(OutputError, match=r"report exists already; choose another name"):
        write_report(evaluation, truth, fast, out)
    assert [p.name for p in out.iterdir()] == ["notes.txt"]
    write_report(evaluation, truth, fast, out, overwrite=True)
    assert sorted(p.name for p in out.iterdir()) == ["index.html", "notes.txt", "results.json"]
    assert [p.name for p in tmp_path.iterdir()] == ["report"]


def test_a_file_in_the_way(evaluation, truth, fast, tmp_path):
    (tmp_path / "report").write_text("mine")
    for overwrite in (False, True):
        with pytest.raises(OutputError, match="report is a file; expected the name of a folder"):
            write_report(evaluation, truth, fast, tmp_path / "report", overwrite=overwrite)
    with pytest.raises(OutputError, match="cannot be written"):
        write_report(evaluation, truth, fast, tmp_path / "report" / "inside")
    assert (tmp_path / "report").read_text() == "mine"


@pytest.mark.skipif(os.geteuid() == 0, reason="the administrator may write anywhere")
def test_a_folder_that_may_not_be_written_to(evaluation, truth, fast, tmp_path):
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(OutputError, match="is not a folder that you may write to"):
            write_report(evaluation, truth, fast, tmp_path / "report")
    finally:
        tmp_path.chmod(0o700)


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.usefixtures("without_figures")
def test_a_failure_in_the_middle_leaves_nothing_half_written(evaluation, truth, fast, tmp_path, monkeypatch, overwrite):
    out = tmp_path / "report"
    if overwrite:
        write_report(evaluation, truth, fast, out)
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    real = report.Path.write_text

    def fail(self, text, **kwargs):
        if self.name == "index.html":
            raise OSError(28, "No space left on device")
        return real(self, text, **kwargs)

    monkeypatch.setattr(report.Path, "write_text", fail)
    with pytest.raises(OutputError, match="cannot be written: No space left on device"):
        write_report(evaluation, truth, fast, out, overwrite=overwrite)
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before
    assert out.exists() == overwrite


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.01234, "0.0123"),
        (1.0, "1.00"),
        (9.999, "10.0"),
        (1234.5, "1230"),
        (2.0e-7, "2.0e-7"),
        (math.nan, "–"),
        (math.inf, "–"),
    ],
)
def test_numbers_have_three_digits(value, text):
    assert number(value) == text


def framed(page, width_px, extra=""):
    """A document that shows the page in a frame of this width and notes how wide its content is."""
    inside = html.escape(page.replace("</main>", f"{extra}</main>"))
    script = "const d = f.contentDocument; f.dataset.width = d.documentElement.scrollWidth;"
    script += " f.dataset.rows = d.querySelectorAll('#results tr').length"
    note = f"<script>const f = document.querySelector('iframe'); f.onload = () => {{ {script}; }}</script>"
    return f'<!DOCTYPE html><iframe style="width:{width_px}px;height:800px;border:0" srcdoc="{inside}"></iframe>{note}'


@pytest.mark.parametrize("width_px", [390, 1200])
def test_in_a_browser_the_table_is_there_and_nothing_sticks_out(page, evaluation, tmp_path, width_px):
    (tmp_path / "frame.html").write_text(framed(page, width_px), "utf-8")
    document = report_toys.browse(tmp_path / "frame.html", tmp_path / "profile")
    assert int(re.search(r'data-rows="(\d+)"', document)[1]) == len(evaluation.observables) + 1
    assert int(re.search(r'data-width="(\d+)"', document)[1]) == width_px


def test_in_a_browser_what_sticks_out_would_be_seen(page, tmp_path):
    (tmp_path / "frame.html").write_text(framed(page, 390, '<div style="width: 600px">wide</div>'), "utf-8")
    assert int(re.search(r'data-width="(\d+)"', report_toys.browse(tmp_path / "frame.html", tmp_path / "profile"))[1]) > 390


def metric(name, title, ratio, group="features", **values):
    given = {"value": 0.61, "ci": (0.58, 0.64), "floor": 0.5, "floor_range": (0.47, 0.53), "unit": ""} | values
    return MetricResult(name=name, title=title, group=group, sees="what <differs>", ratio=ratio, **given)


@pytest.mark.usefixtures("without_figures")
def test_metrics_of_whole_showers_have_their_tables(evaluation, truth, fast):
    metrics = {
        "auc": metric("auc", "Classifier AUC", 9.1, "classifier"),
        "fpd": metric("fpd", "Fréchet physics distance", 0.4, value=math.nan),
        "angle": metric("angle", "Error of the direction", 2.0, "angles", unit="rad"),
    }
    separations = {"response": SeparationResult(title="Response over its mean", separation=0.0123, separation_floor=0.004)}
    page = render(dataclasses.replace(evaluation, metrics=metrics, calochallenge=separations), truth, fast)
    rows = table(page, "correlations")
    assert [row[0] for row in rows] == ["Classifier AUC", "Fréchet physics distance"]
    assert rows[0][1:] == ["0.610", "0.580 to 0.640", "0.500", "0.470 to 0.530", "9.10"]
    assert "what &lt;differs&gt;" in page
    assert rows[1][1] == "–"
    assert [row[0] for row in table(page, "angles")] == ["Error of the direction [rad]"]
    assert table(page, "calochallenge") == [["Response over its mean", "0.0123", "0.00400"]]
    assert table(page, "caloclouds3")[0][0] == "Total energy"
    # The summary of ten seconds names the classifier, in the colour of its ratio.
    assert '<b id="auc">0.61</b> (0.58 to 0.64); truth against truth gives 0.47 to 0.53' in page
    dots = re.findall(r'class="dot" style="background: ([^"]*)"', page[page.index('id="correlations"') :])
    assert dots[:2] == [figures.BAD, figures.GOOD]
    # A light for each kind of comparison, in the colour of its worst: a good mean must not hide a classifier.
    body = page[page.index('id="lights"') : page.index("</table>", page.index('id="lights"'))]
    assert re.findall(r'style="background: ([^"]*)"', body)[1:] == [figures.BAD, figures.WARN]
    assert "worst: classifier AUC" in body
    assert "1 of 2 beyond 3" in body
    assert "worst: error of the direction" in body


def test_without_metrics_there_are_no_tables_of_them(page):
    for words in ('id="correlations"', 'id="angles"', 'id="auc"', 'id="calochallenge"'):
        assert words not in page

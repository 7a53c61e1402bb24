"""The report of an evaluation: one JSON file for machines, one page for people."""

from __future__ import annotations

import json
import math
import os
import shutil
import uuid
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
import numpy as np

from anycalo.errors import OutputError
from anycalo.evaluate import Evaluation, ObservableResult
from anycalo.readout import read_out
from anycalo.report import figures, words
from anycalo.report.display import pictures
from anycalo.showers import Showers

RESULTS, PAGE = "results.json", "index.html"
# The average shower, shown before all other figures.
_AVERAGE = ("layer_energy", "radial_profile")


def write_report(
    evaluation: Evaluation, truth: Showers, fast: Showers, out_dir: str | Path, *, overwrite: bool = False
) -> Path:
    """Write `results.json` and `index.html`, a page in one file that needs no network.

    Both are finished in a hidden folder beside `out_dir` before they get their names.

    Args:
        evaluation: of these two samples.
        truth: the showers that were the reference.
        fast: the showers that were judged.
        out_dir: the folder to make.
        overwrite: replace the report in a folder that exists; other files in it are left alone.

    Returns:
        Path of the page.

    Raises:
        OutputError: if the folder exists and `overwrite` is false, or it cannot be written.
    """
    check_folder(out_dir, overwrite=overwrite)
    write_folder(out_dir, {RESULTS: to_json(evaluation.to_dict()), PAGE: render(evaluation, truth, fast)})
    return Path(out_dir) / PAGE


def to_json(data: Mapping[str, Any]) -> str:
    """Results as a JSON text; what is not finite becomes null."""
    return json.dumps(_finite(data), indent=1, allow_nan=False, ensure_ascii=False) + "\n"


def write_folder(out_dir: str | Path, contents: Mapping[str, str | bytes]) -> None:
    """Write files into a folder that is there whole or not at all; in one that exists, these files are replaced.

    Raises:
        OutputError: if the folder cannot be written.
    """
    out = Path(out_dir)
    hidden = out.parent / f".{out.name}.{uuid.uuid4().hex}.tmp"
    try:
        hidden.mkdir(parents=True)
        for name, content in contents.items():
            if isinstance(content, bytes):
                (hidden / name).write_bytes(content)
            else:
                (hidden / name).write_text(content, encoding="utf-8")
        if out.is_dir():
            for name in contents:
                os.replace(hidden / name, out / name)
        else:
            os.rename(hidden, out)
    except OSError as error:
        raise OutputError(f"{out} cannot be written: {error.strerror or error}") from error
    finally:
        shutil.rmtree(hidden, ignore_errors=True)


def check_folder(out: str | Path, *, overwrite: bool = False) -> None:
    """Refuse, before any work is done, a folder for a report that exists or cannot be made.

    Raises:
        OutputError: saying which of the two, and the remedy.
    """
    out = Path(out)
    if out.exists() and not out.is_dir():
        raise OutputError(f"{out} is a file; expected the name of a folder for the report")
    if out.is_dir() and not overwrite:
        raise OutputError(f"{out} exists already; choose another name, remove it, or ask to overwrite the report in it")
    place = out if out.is_dir() else next(p for p in (out.absolute().parent, *out.absolute().parent.parents) if p.exists())
    if not place.is_dir() or not os.access(place, os.W_OK | os.X_OK):
        raise OutputError(f"{out} cannot be written: {place} is not a folder that you may write to")


def render(evaluation: Evaluation, truth: Showers, fast: Showers) -> str:
    """The page of a report."""
    labels = words.sample(truth), words.sample(fast)
    lights = _lights(evaluation)
    # A good mean must not pass for a good sample.
    hidden = evaluation.summary.ratio_to_floor <= figures.NEAR and any(light["far"] for light in lights)
    results = sorted(evaluation.observables.values(), key=lambda r: -r.w1_ratio)
    average = [evaluation.observables[name] for name in _AVERAGE if name in evaluation.observables]
    weak = [r for r in results if r.w1_ratio > figures.FAR]
    text = (resources.files("anycalo.report") / "page.html.j2").read_text("utf-8")
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters.update(number=number, ratio=ratio)
    environment.globals["light"] = figures.light
    summary = evaluation.summary
    return environment.from_string(text).render(
        detector=truth.detector,
        incident=words.incident(truth),
        truth_label=labels[0],
        fast_label=labels[1],
        summary=summary,
        colour=figures.light(summary.ratio_to_floor),
        weak_colour=figures.BAD if weak else figures.GOOD,
        verdict=_verdict(evaluation) + (" on average, but see the red lights" if hidden else ""),
        badge_colour=figures.WARN if hidden else figures.light(summary.ratio_to_floor),
        weak=weak,
        far=figures.FAR,
        near=figures.NEAR,
        warnings=evaluation.warnings,
        results=results,
        metrics=_metric_tables(evaluation),
        classifier=evaluation.metrics.get("auc"),
        lights=lights,
        caloclouds3=evaluation.to_dict()["caloclouds3"],
        calochallenge=list(evaluation.calochallenge.values()),
        overview=figures.as_uri(figures.overview(evaluation.observables)),
        average=[_figure(r, *labels) for r in average],
        others=[_figure(r, *labels) for r in results if r not in average],
        events=_events(truth, fast),
        provenance=[(name, _flat(p)) for name, p in (("Truth", truth.provenance), ("Fast", fast.provenance))],
        version=evaluation.provenance["anycalo"],
        resamples=evaluation.provenance["n_bootstrap"],
    )


def _lights(evaluation: Evaluation) -> list[dict[str, Any]]:
    """What the page says at first sight: of each kind of comparison the worst, with its ratio to the floor."""
    found = []
    observables = sorted(evaluation.observables.values(), key=lambda r: -r.w1_ratio)
    far = sum(r.w1_ratio > figures.FAR for r in observables)
    found.append(("Single observables", observables[0].title, observables[0].w1_ratio, far, len(observables)))
    for table in _metric_tables(evaluation):
        rows = sorted((m for m in table["rows"] if math.isfinite(m.ratio)), key=lambda m: -m.ratio)
        if rows:
            far = sum(m.ratio > figures.FAR for m in rows)
            found.append((table["title"], rows[0].title, rows[0].ratio, far, len(rows)))
    return [dict(zip(("title", "worst", "ratio", "far", "n"), row, strict=True)) for row in found]


def _metric_tables(evaluation: Evaluation) -> list[dict[str, Any]]:
    """The metrics of whole showers, those of the angles apart."""
    tables = (
        ("correlations", "Correlations and classifiers", ("classifier", "features")),
        ("angles", "Reconstruction of the direction", ("angles",)),
    )
    found = []
    for key, title, groups in tables:
        rows = [m for m in evaluation.metrics.values() if m.group in groups]
        if rows:
            found.append({"key": key, "title": title, "rows": rows, "of_fast": "angles" in groups})
    return found


def _verdict(evaluation: Evaluation) -> str:
    summary = evaluation.summary
    if summary.ratio_to_floor <= summary.perfect_ratio_range[1]:
        return "not distinguishable from the truth"
    if summary.ratio_to_floor <= figures.NEAR:
        return "close to the floor"
    if summary.ratio_to_floor <= figures.FAR:
        return f"different, within {figures.FAR:g} floors"
    return "clearly different"


def _figure(result: ObservableResult, truth_label: str, fast_label: str) -> dict[str, Any]:
    return {"result": result, "uri": figures.as_uri(figures.comparison(result, truth_label, fast_label))}


def _events(truth: Showers, fast: Showers) -> list[dict[str, str]]:
    """A truth shower of the median energy, and the fast shower nearest to it in energy, as pictures of cells."""
    energy = float(np.median(truth.incident.energy_mev))
    chosen: list[tuple[str, Showers, int]] = []
    for label, showers in (("Truth", truth), ("Fast", fast)):
        for index in np.argsort(np.abs(showers.incident.energy_mev - energy), kind="stable"):
            if len(read_out(showers[int(index)]).energy_mev):  # else no cell above threshold: the next one
                chosen.append((label, showers, int(index)))
                energy = float(showers.incident.energy_mev[index])
                break
    drawn = pictures([(showers, index) for _, showers, index in chosen], cells=True) if chosen else []
    return [
        {
            "label": f"{label}: {words.event(showers, index)}",
            "caption": caption,
            "uri": figures.as_uri(figure, "png", dpi=150),
        }
        for (label, showers, index), (figure, caption) in zip(chosen, drawn, strict=True)
    ]


def ratio(value: float) -> str:
    """Two decimals below ten, three digits beyond.

    Example:
        >>> ratio(0.7), ratio(28.44), ratio(1234.0)
        ('0.70', '28.4', '1230')
    """
    return f"{value:.2f}" if abs(value) < 9.995 else number(value)


def number(value: float) -> str:
    """Three significant digits, plain where that is short.

    Example:
        >>> number(0.01234), number(1234.5), number(2.0e-7), number(float("nan"))
        ('0.0123', '1230', '2.0e-7', '–')
    """
    if not math.isfinite(value):
        return "–"
    if value == 0:
        return "0"
    if 1e-4 <= abs(value) < 1e5:
        rounded = float(f"{value:.3g}")
        return f"{rounded:.{max(0, 2 - math.floor(math.log10(abs(rounded))))}f}"
    mantissa, exponent = f"{value:.1e}".split("e")
    return f"{mantissa}e{int(exponent)}"


def _flat(value: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Nested provenance as rows of dotted key and text."""
    rows: list[tuple[str, str]] = []
    for key, entry in value.items():
        if isinstance(entry, Mapping):
            rows += _flat(entry, f"{prefix}{key}.")
        else:
            rows.append((f"{prefix}{key}".replace("_", " "), entry if isinstance(entry, str) else json.dumps(entry)))
    return rows


def _finite(value: Any) -> Any:
    """JSON has no word for what is not finite but null."""
    if isinstance(value, Mapping):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value

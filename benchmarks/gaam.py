"""The experiment of arXiv 2305.11531: does a cell-wise model that is told the sizes of cells make sizes it never saw?

    anycalo simulate atlas-like --energy 65GeV -n 3000 --seed 6501 --merge 0.5mm --cut 0.7mm --out data/atlas-65gev.h5
    python benchmarks/gaam.py data/atlas-65gev.h5 --out runs/gaam

Divides Geant4 showers of `atlas-like` into training, validation and test showers (70/10/20), trains the geometry-aware
model and its unaware twin, generates with both in every segmentation and compares with the test showers, beside
floors from independent Geant4 showers. What is finished is kept: the same command goes on from there. Other models
enter the same tables with `--with NAME=FILE`, a shower file made in the same layers, whatever its cells; what they
are trained on is written first, so that they see the same showers and no others:

    python benchmarks/gaam.py data/atlas-65gev.h5 --out runs/gaam --only-divide
    anycalo train caloclouds --data runs/gaam/training.h5 --out runs/gaam/caloclouds
    anycalo generate runs/gaam/caloclouds --energy 65GeV -n 600 --out runs/gaam/caloclouds.h5
    python benchmarks/gaam.py data/atlas-65gev.h5 --out runs/gaam --with caloclouds=runs/gaam/caloclouds.h5

`make gaam` does all of it, with two point-cloud models. Tables go to standard output and OUT/tables.md, every number to
OUT/results.json, images to OUT/images.png, the distances in floors to OUT/floors.svg.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import matplotlib as mpl
import numpy as np
import torch
from matplotlib import pyplot as plt
from matplotlib.colors import LogNorm

from anycalo.errors import DomainWarning
from anycalo.evaluate.segmentations import SegmentationResult, average_image, compare_in
from anycalo.generate import generate
from anycalo.geometry import Detector, Edges
from anycalo.models import Domain, Model, Noise
from anycalo.models.gaam import Gaam
from anycalo.models.segmentation import layer_cells, segment
from anycalo.models.spiral import spiral_path
from anycalo.readout import read_out
from anycalo.showers import Incident, Showers
from anycalo.train import Recipe, train

LAYERS = ("inner", "middle", "outer")
PUBLISHED_MS = 2041.0
# (role of the middle layer's cells, grids of the three layers); the first eight are those trained in.
INNER = ("48x4", "48x12", "48x24", "48x48", "192x4", "192x12", "192x24", "192x48")
MIDDLE = ("12x12", "48x24", "48x48", "24+12x48")
SHOWN = ("24x24", "96x24", "6+3x12")
UNSEEN = {"24x24": "interpolation", "24x12": "interpolation"} | dict.fromkeys(("96x24", "6x6", "6+3x12"), "extrapolation")


def around(middle: str) -> tuple[str, str, str]:
    """Grids of the three layers where only the cells of the middle one matter."""
    return ("48x24", middle, "24x24")


SEGMENTATIONS = [("trained", (INNER[k], MIDDLE[k % 4], "24x24")) for k in range(8)] + [
    (role, around(grid)) for grid, role in UNSEEN.items()
]


def trained(recipe: Recipe, aware: bool, showers: Showers, out: Path) -> Model:
    """One of the twins, trained or read again."""
    folder = out / ("aware" if aware else "unaware")
    begun = time.process_time()
    twin = replace(recipe, model=replace(recipe.model, aware=aware))
    model = train(twin, showers, folder, device="cpu", threads=1)
    print(f"{folder}: {time.process_time() - begun:.0f} s of CPU in this call, {model.card['metrics']}", flush=True)
    return model


def generated(model: Model, name: str, grids: Sequence[str], incident: Incident, out: Path) -> Showers:
    """Showers in one segmentation, made or read again."""
    path = out / f"{name}-{'-'.join(grids)}-{len(incident)}.h5"
    if not path.exists():
        detector = segment(Detector.load("atlas-like"), grids)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DomainWarning)  # segmentations that were not trained on are the subject
            generate(model, detector, incident, seed=1, batch_size=400).write(path)
    return Showers.open(path)


def measured(
    out: Path, truth: Showers, reference: Showers, models: Mapping[str, Model], files: Mapping[str, Showers], incident: Incident
) -> list[tuple[str, SegmentationResult]]:
    """Every distance, (role, result) in the order of the segmentations."""
    results: list[tuple[str, SegmentationResult]] = []
    for role, grids in SEGMENTATIONS:
        detector = segment(Detector.load("atlas-like"), grids)
        samples = {name: generated(model, name, grids, incident, out) for name, model in models.items()} | dict(files)
        results += [(role, r) for r in compare_in(" ".join(grids), detector, truth, reference, samples)]
        print(f"{role} {' '.join(grids)}: compared", flush=True)
    return results


def table(
    results: Sequence[tuple[str, SegmentationResult]], layer: int, observables: Sequence[str], names: Sequence[str]
) -> str:
    """Markdown: a row for each segmentation and observable, a distance for each sample."""
    rows = [f"| {LAYERS[layer]} cells | observable | floor | {' | '.join(names)} |", "|---|---|---|" + "---|" * len(names)]
    done = set()
    for role, first in results:
        grid = first.segmentation.split()[layer]
        if first.layer != layer or first.observable not in observables or (grid, first.observable) in done:
            continue
        done.add((grid, first.observable))
        same = {
            r.sample: r
            for _, r in results
            if (r.segmentation, r.layer, r.observable) == (first.segmentation, layer, first.observable)
        }
        cells = [f"{same[s].w1:.3g} ({same[s].interval[0]:.2g} to {same[s].interval[1]:.2g})" for s in names]
        label = f"{grid}{'' if role == 'trained' or layer != 1 else f', {role}'}"
        rows.append(f"| {label} | {first.observable.replace('_', ' ')} | {first.floor:.3g} | {' | '.join(cells)} |")
    return "\n".join(rows)


def summary(results: Sequence[tuple[str, SegmentationResult]], names: Sequence[str]) -> str:
    """Markdown: mean distance in floors of the middle layer's means and widths, by role."""
    kinds = {
        "means": ("mean_eta", "mean_phi"),
        "widths": ("width_eta", "width_phi"),
        "C": ("c_eta", "c_phi"),
        "energy": ("energy",),
    }
    rows = [f"| middle layer | {' | '.join(f'{s}, floors' for s in names)} | aware against unaware |"]
    rows.append("|---|" + "---|" * (len(names) + 1))
    for role in ("trained", "interpolation", "extrapolation"):
        for kind, observables in kinds.items():
            w1, ratio = {}, {}
            for s in names:
                mine = [r for o, r in results if o == role and r.layer == 1 and r.sample == s and r.observable in observables]
                w1[s], ratio[s] = np.mean([r.w1 for r in mine]), np.nanmean([r.ratio for r in mine])
            change = f"{100 * (w1['aware'] / w1['unaware'] - 1):+.0f} %"
            rows.append(f"| {role}, {kind} | {' | '.join(f'{ratio[s]:.1f}' for s in names)} | {change} |")
    return "\n".join(rows)


def unseen(results: Sequence[tuple[str, SegmentationResult]], names: Sequence[str]) -> str:
    """Markdown: of every segmentation that was not trained in, the mean distance of means and widths in floors."""
    rows = ["| middle layer | means or widths | " + " | ".join(f"{s}, floors" for s in names) + " | nearest |"]
    rows.append("|---|---|" + "---|" * (len(names) + 1))
    for grid, role in UNSEEN.items():
        for kind in ("mean", "width"):
            ratio = ratios(results, grid, [f"{kind}_eta", f"{kind}_phi"], names)
            cells = " | ".join(f"{ratio[s]:.1f}" for s in names)
            rows.append(f"| {grid}, {role} | {kind}s | {cells} | {min(ratio, key=ratio.__getitem__)} |")
    return "\n".join(rows)


def ratios(
    results: Sequence[tuple[str, SegmentationResult]], grid: str, observables: Sequence[str], names: Sequence[str]
) -> dict[str, float]:
    """By sample: the mean distance in floors of some observables of the middle layer in one segmentation."""
    here = [r for _, r in results if r.layer == 1 and r.segmentation.split()[1] == grid and r.observable in observables]
    return {name: float(np.mean([r.ratio for r in here if r.sample == name])) for name in names}


def chart(path: Path, results: Sequence[tuple[str, SegmentationResult]], names: Sequence[str]) -> None:
    """Distance in floors of the middle layer's means and widths, segmentation by segmentation."""
    mpl.use("Agg")
    mpl.rcParams.update({"svg.hashsalt": "anycalo", "svg.fonttype": "none"})  # the same figure is the same file
    grids = [*MIDDLE, *UNSEEN]
    figure, axes = plt.subplots(2, 1, figsize=(8, 5), sharex=True)
    for ax, kind in zip(axes, ("mean", "width"), strict=True):
        for k, name in enumerate(names):
            height = [ratios(results, grid, [f"{kind}_eta", f"{kind}_phi"], [name])[name] for grid in grids]
            ax.bar(np.arange(len(grids)) + (k - (len(names) - 1) / 2) * 0.8 / len(names), height, 0.8 / len(names), label=name)
        ax.axhline(1.0, color="black", linewidth=0.8)
        ax.set(yscale="log", ylabel=f"{kind}s: W1 in floors")
        ax.axvline(len(MIDDLE) - 0.5, color="grey", linewidth=0.8, linestyle=":")
    axes[0].legend(ncols=len(names), fontsize=7, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    axes[1].set_xticks(range(len(grids)), [f"{g}\n{UNSEEN.get(g, 'trained')}" for g in grids], fontsize=7)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


def clock(model: Model, grids: Sequence[str] = ("192x48", "48x24"), batch: int = 100) -> None:
    """Print the time of processor that the inner layer of one shower takes."""
    incident = Incident("gamma", energy_mev=65_000.0, n=batch)
    for grid in grids if isinstance(model, Gaam) else ():
        path = model.paths(segment(Detector.load("atlas-like"), (grid, "12x12", "24x24")))[0]
        begun = time.process_time()
        image = model.sample_layer(0, path, incident, [], Noise(3, range(batch)))
        ms = 1e3 * (time.process_time() - begun) / batch
        hit = float((image > 0).sum()) / batch
        print(
            f"inner layer {grid}, batch {batch}: {ms:.1f} ms of processor a shower, {hit:.0f} cells hit;"
            f" published {PUBLISHED_MS:.0f} ms, {PUBLISHED_MS / ms:.0f} times as long",
            flush=True,
        )


def draw(path: Path, truth: Showers, samples: Mapping[str, Mapping[str, Showers]], grids: Sequence[str]) -> None:
    """Average images and single showers of the middle layer, its middle 240 mm."""
    mpl.use("Agg")
    names = ["Geant4", *samples]
    figure, axes = plt.subplots(len(grids) * 2, len(names), figsize=(1.6 * len(names), 3.5 * len(grids)), squeeze=False)
    for g, grid in enumerate(grids):
        detector = segment(Detector.load("atlas-like"), around(grid))
        edges = detector.layers[1].readout
        if not isinstance(edges, Edges):
            raise TypeError("the grids of `segment` have edges")
        x, y = np.array(edges.x_edges_mm), np.array(edges.y_edges_mm)
        for c, name in enumerate(names):
            showers = truth if name == "Geant4" else samples[name][grid]
            for r, (title, shown) in enumerate((("mean", showers), ("one shower", showers[:1]))):
                ax = axes[2 * g + r, c]
                values = average_image(read_out(shown, detector), 1, (len(x) - 1) * (len(y) - 1))
                per_area = values.reshape(len(y) - 1, len(x) - 1) / np.outer(np.diff(y), np.diff(x))
                ax.pcolormesh(x, y, per_area, norm=LogNorm(1e-4, 30), cmap="viridis", rasterized=True)
                ax.set(aspect="equal", xlim=(-120, 120), ylim=(-120, 120), xticks=[], yticks=[], facecolor="0.93")
                ax.set_title(f"{name}, {title}", fontsize=7)
            axes[2 * g, 0].set_ylabel(grid, fontsize=8)
    figure.tight_layout(pad=0.4)
    figure.savefig(path, dpi=90)
    plt.close(figure)


def along_spiral(truth: Showers, samples: Mapping[str, Showers], grid: str, cells: int = 10) -> str:
    """Markdown: mean energy of the first cells of the spiral through the middle layer, and of all others together."""
    detector = segment(Detector.load("atlas-like"), around(grid))
    paths = [spiral_path(layer.readout, detector.size_mm, window=2) for layer in detector.layers]
    places = [f"{x:.0f}, {y:.0f}" for x, y in zip(paths[1].x[:cells], paths[1].y[:cells], strict=True)]
    rows = [f"| centre of the cell in {grid}, x and y [mm] | {' | '.join(places)} | others |", "|---|" + "---|" * (cells + 1)]
    for name, showers in {"Geant4": truth, **samples}.items():
        mean = layer_cells(showers.seen_by(detector), paths)[1].mean(axis=0)
        rows.append(f"| {name} | {' | '.join(f'{e:,.0f}' for e in (*mean[:cells], mean[cells:].sum()))} |")
    return "\n".join(rows)


def page(results: Sequence[tuple[str, SegmentationResult]], names: Sequence[str], counts: str, spiral: str) -> str:
    """All tables, as Markdown."""
    places = ("mean_eta", "mean_phi", "width_eta", "width_phi")
    tables = [
        table(results, layer, (*places, *(("c_eta", "c_phi") if layer == 1 else ()), "energy"), names) for layer in (1, 0, 2)
    ]
    middle, inner, outer = tables
    return f"""{counts}

## The middle layer in short

Mean distance in floors (1 for a perfect model), and the mean distance of the aware model relative to its twin's.

{summary(results, names)}

{unseen(results, names)}

## Mean energy of cells in MeV

{spiral}

## Every distance

Wasserstein-1 distance to Geant4 in mm (energy: MeV), with its 95 % bootstrap interval; floor: Geant4 against Geant4 at the same
sizes. c: distance of the centres of inner and middle layer.

{middle}

{inner}

{outer}
"""


def main() -> None:
    """Train, generate, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", help="Geant4 showers in atlas-like; or 'speed', to time the recipe's network and nothing else")
    parser.add_argument("--out", type=Path, default=Path("runs/gaam"))
    parser.add_argument("--steps", type=float, default=1.0, help="factor on the steps of the recipe")
    parser.add_argument("--n", type=int, default=600, help="showers to generate in each segmentation")
    parser.add_argument("--only-divide", action="store_true", help="write OUT/training.h5 and stop")
    parser.add_argument("--with", dest="files", action="append", default=[], metavar="NAME=FILE")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    recipe = Recipe.load("gaam")
    if arguments.file == "speed":
        # Without training more cells are hit than in a shower (their energies take longest), so a trained model is faster.
        domain = Domain(
            particles=("gamma",),
            energy_mev=(65_000.0, 65_000.0),
            max_angle_rad=0.0,
            detectors=(Detector.load("atlas-like").to_toml(),),
        )
        clock(Gaam(recipe.model, domain).eval())
        return
    out: Path = arguments.out
    out.mkdir(parents=True, exist_ok=True)
    training, truth = Showers.open(arguments.file).split([0.8, 0.2], 1)
    if not (out / "training.h5").exists():
        training.write(out / "training.h5")
    print(f"{len(training)} showers to train and validate with, {len(truth)} to test with", flush=True)
    if arguments.only_divide:
        return
    stages = {name: replace(stage, steps=round(arguments.steps * stage.steps)) for name, stage in recipe.stages.items()}
    recipe = replace(recipe, stages=stages)
    models = {name: trained(recipe, name == "aware", training, out) for name in ("aware", "unaware")}
    files = {name: Showers.open(path) for name, path in (item.split("=", 1) for item in arguments.files)}
    incident = Incident("gamma", energy_mev=np.resize(truth.incident.energy_mev, arguments.n))
    results = measured(out, truth, training, models, files, incident)
    rows = [{"role": role, **dataclasses.asdict(r), "ratio": r.ratio if r.floor > 0 else None} for role, r in results]
    (out / "results.json").write_text(json.dumps(rows, indent=1) + "\n")
    data = models["aware"].card["data"]
    counts = (
        f"{data['showers']} Geant4 showers of 65 GeV to train with, {data['validation_showers']} to choose the weights,"
        f" {len(truth)} to compare with; {arguments.n} generated in each segmentation."
    )
    made = {
        name: {grid: generated(model, name, around(grid), incident, out) for grid in SHOWN} for name, model in models.items()
    } | {name: dict.fromkeys(SHOWN, showers) for name, showers in files.items()}
    spiral = along_spiral(truth, {name: of[SHOWN[0]] for name, of in made.items()}, SHOWN[0])
    tables = page(results, [*models, *files], counts, spiral)
    (out / "tables.md").write_text(tables)
    print("\n" + tables)
    clock(models["aware"])
    draw(out / "images.png", truth, made, SHOWN)
    chart(out / "floors.svg", results, [*models, *files])


if __name__ == "__main__":
    main()

"""The experiment of arXiv 2305.11531: does a cell-wise model that is told the sizes of cells make sizes it never saw?

    anycalo simulate atlas-like --energy 65GeV -n 800 --seed 6501 --merge 0.5mm --cut 0.7mm --out data/atlas-65gev.h5
    python benchmarks/gaam.py data/atlas-65gev.h5 --out runs/gaam

Divides Geant4 showers of `atlas-like` into training, validation and test showers (70/10/20), trains the geometry-aware
model and its unaware twin, generates with both in every segmentation and compares with the test showers, beside
floors from independent Geant4 showers. What is finished is kept: the same command goes on from there. Other models
enter the same tables with `--with NAME=FILE`, a shower file made in the same layers, whatever its cells:

    anycalo generate MODEL atlas-like --energy 65GeV -n 640 --out runs/points.h5
    python benchmarks/gaam.py data/atlas-65gev.h5 --out runs/gaam --with points=runs/points.h5

Tables go to standard output and OUT/tables.md, every number to OUT/results.json, images to OUT/images.png.
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
from anycalo.geometry import Detector
from anycalo.models import Domain, Model, Noise
from anycalo.models.gaam import Gaam
from anycalo.models.segmentation import segment
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
SEGMENTATIONS = [("trained", (INNER[k], MIDDLE[k % 4], "24x24")) for k in range(8)] + [
    (role, ("48x24", grid, "24x24")) for grid, role in UNSEEN.items()
]


def trained(recipe: Recipe, aware: bool, showers: Showers, out: Path) -> Model:
    """One of the twins, trained or read again."""
    folder = out / ("aware" if aware else "unaware")
    begun = time.process_time()
    twin = replace(recipe, model=replace(recipe.model, aware=aware))
    model = train(twin, showers, folder, device="cpu", threads=1)
    print(f"{folder}: {time.process_time() - begun:.0f} s of CPU in this call, {model.card['metrics']}", flush=True)
    return model


def generated(model: Model, name: str, grids: Sequence[str], n: int, out: Path) -> Showers:
    """Showers of 65 GeV in one segmentation, made or read again."""
    path = out / f"{name}-{'-'.join(grids)}.h5"
    if not path.exists():
        detector = segment(Detector.load("atlas-like"), grids)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DomainWarning)  # segmentations that were not trained on are the subject
            generate(model, detector, Incident("gamma", energy_mev=65_000.0, n=n), seed=1, batch_size=400).write(path)
    return Showers.open(path)


def measured(
    out: Path, truth: Showers, reference: Showers, models: Mapping[str, Model], files: Mapping[str, Showers], n: int
) -> list[tuple[str, SegmentationResult]]:
    """Every distance, (role, result) in the order of the segmentations."""
    results: list[tuple[str, SegmentationResult]] = []
    for role, grids in SEGMENTATIONS:
        detector = segment(Detector.load("atlas-like"), grids)
        samples = {name: generated(model, name, grids, n, out) for name, model in models.items()} | dict(files)
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
    """Average images and single showers of the middle layer."""
    mpl.use("Agg")
    names = ["Geant4", *samples]
    figure, axes = plt.subplots(len(grids) * 2, len(names), figsize=(2.6 * len(names), 5.2 * len(grids)), squeeze=False)
    for g, grid in enumerate(grids):
        detector = segment(Detector.load("atlas-like"), ("48x24", grid, "24x24"))
        edges = detector.layers[1].readout
        for c, name in enumerate(names):
            cells = read_out(truth if name == "Geant4" else samples[name][grid], detector)
            shape = len(edges.y_edges_mm) - 1, len(edges.x_edges_mm) - 1
            first = dataclasses.replace(
                cells,
                n_showers=1,
                **{k: getattr(cells, k)[cells.shower == 0] for k in ("shower", "layer", "cell", "x_mm", "y_mm", "energy_mev")},
            )
            for r, (title, image) in enumerate((("average", cells), ("one shower", first))):
                ax = axes[2 * g + r, c]
                values = average_image(image, 1, shape[0] * shape[1]).reshape(shape)
                ax.pcolormesh(edges.x_edges_mm, edges.y_edges_mm, values, norm=LogNorm(1e-2, 3e3), cmap="viridis")
                ax.set(aspect="equal", title=f"{name}, {grid}, {title}", xticks=[], yticks=[])
                ax.title.set_fontsize(7)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)


def page(results: Sequence[tuple[str, SegmentationResult]], names: Sequence[str], counts: str) -> str:
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
    parser.add_argument("--n", type=int, default=400, help="showers to generate in each segmentation")
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
    print(f"{len(training)} showers to train and validate with, {len(truth)} to test with", flush=True)
    stages = {name: replace(stage, steps=round(arguments.steps * stage.steps)) for name, stage in recipe.stages.items()}
    recipe = replace(recipe, stages=stages)
    models = {name: trained(recipe, name == "aware", training, out) for name in ("aware", "unaware")}
    files = {name: Showers.open(path) for name, path in (item.split("=", 1) for item in arguments.files)}
    results = measured(out, truth, training, models, files, arguments.n)
    rows = [{"role": role, **dataclasses.asdict(r), "ratio": r.ratio if r.floor > 0 else None} for role, r in results]
    (out / "results.json").write_text(json.dumps(rows, indent=1) + "\n")
    data = models["aware"].card["data"]
    counts = (
        f"{data['showers']} Geant4 showers of 65 GeV to train with, {data['validation_showers']} to choose the weights,"
        f" {len(truth)} to compare with; {arguments.n} generated in each segmentation."
    )
    (out / "tables.md").write_text(page(results, [*models, *files], counts))
    print("\n" + page(results, [*models, *files], counts))
    clock(models["aware"])
    made = {
        name: {grid: generated(model, name, ("48x24", grid, "24x24"), arguments.n, out) for grid in SHOWN}
        for name, model in models.items()
    } | {name: dict.fromkeys(SHOWN, showers) for name, showers in files.items()}
    draw(out / "images.png", truth, made, SHOWN)


if __name__ == "__main__":
    main()

"""What it costs to join deposits, to divide them again, and to draw the points of a layer independently of each other.

    python benchmarks/independence.py showers.h5 -n 250 --joined 0.5

Deposits are joined, over a share of the usual distance, and divided as for training the family `anycalo`: what `evaluate`
finds then is the price of joining. Divided are the same points, over the usual distance, by the network `tracks` of
`--model`: what it gets back of that price. Exchanged, no network is needed: every layer gets points of other showers' layers
that are alike in depth, number of points, energy of a point, particle energy and angle; energies and the shower's centre and
width are imposed as in generation. What that adds is the price of independence, which clusters are there to get back.
"""

from __future__ import annotations

import argparse
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from scipy.spatial import cKDTree

from anycalo.evaluate import evaluate
from anycalo.models import Domain, load_model
from anycalo.models.anycalo import AnyCalo, AnyCaloConfig
from anycalo.models.anycalo_data import TYPICAL_LOG_WIDTH, _lateral, joined_points, joining_radius_mm, prepare
from anycalo.models.model import axis_slopes
from anycalo.models.point_features import impose_energy
from anycalo.models.tracks import OF_TRACK
from anycalo.models.universal import layer_mip_mev
from anycalo.readout import read_out
from anycalo.showers import Showers

DONORS = 24
# How much one unit of each likeness counts: ln N, ln (E / N), depth (of 30), ln of the incident energy, cos(theta).
WEIGHTS = (3.0, 2.0, 0.7, 1.0, 4.0)


def exchanged(model: AnyCalo, showers: Showers, seed: int) -> Showers:
    """Showers of joined points with every layer's points drawn from layers like it."""
    moments, points = _lateral(model, showers)
    layers = showers.detector.n_layers
    place = showers.shower * layers + showers.layer
    count = np.bincount(place, minlength=len(showers) * layers)
    energy = np.bincount(place, showers.energy_mev, minlength=len(count))
    rows = np.flatnonzero(count)
    incident = showers.incident
    alike = np.stack(
        [
            np.log(count[rows]),
            np.log(energy[rows] / count[rows]),
            (rows % layers) * 30 / layers,
            np.log(incident.energy_mev)[rows // layers],
            incident.direction[rows // layers, 2],
        ],
        axis=1,
    ) * np.array(WEIGHTS)
    nearest = rows[cKDTree(alike).query(alike, k=DONORS + 1)[1][:, 1:]]
    order, start = np.argsort(place, kind="stable"), np.concatenate([[0], np.cumsum(count)])
    rng = np.random.default_rng(seed)
    pick = np.zeros(showers.n_points, dtype=np.int64)
    for row, donors in zip(rows, nearest, strict=True):
        donor = donors[rng.integers(0, DONORS, count[row])]
        pick[order[start[row] : start[row + 1]]] = order[start[donor] + (rng.random(count[row]) * count[donor]).astype(int)]
    drawn = points[torch.from_numpy(pick)]
    where, shower = torch.from_numpy(place), torch.from_numpy(showers.shower)
    mip = layer_mip_mev(showers.detector, incident).flatten()
    e = impose_energy(drawn[:, 2].exp() * mip[where], where, torch.from_numpy(energy).float())
    radius, angle = torch.sinh(drawn[:, 0]) * model.config.core_scale, torch.pi * drawn[:, 1]
    xy = torch.stack([radius * angle.cos(), radius * angle.sin()], dim=1)
    xy = model.lateral.scale(xy, moments[:, 2].exp(), shower)
    xy = model.lateral.impose(xy, moments + torch.tensor([0.0, 0.0, TYPICAL_LOG_WIDTH]), e, shower)
    slope = torch.from_numpy(axis_slopes(incident)).float()[shower]
    z = torch.from_numpy(showers.detector.layer_z_mm.copy()).float()[torch.from_numpy(showers.layer.astype(np.int64))]
    xy = model.coordinates.stretch(xy * model.coordinates.scale_mm(showers.detector), slope) + slope * z[:, None]
    return Showers(
        detector=showers.detector,
        incident=incident,
        offsets=showers.offsets,
        x_mm=xy[:, 0].numpy(),
        y_mm=xy[:, 1].numpy(),
        layer=showers.layer,
        energy_mev=e.numpy(),
    )


@torch.no_grad()
def divided(model: AnyCalo, showers: Showers, joined: Showers, seed: int) -> Showers:
    """Joined points with the ends that the model's `tracks` gives them."""
    data = prepare(model, [showers], n_training=1, seed=seed, fit=False)
    radius, _, energy = model._point_features(data.points, torch.ones(len(data.points))).unbind(1)
    row, generator = data.row.long(), torch.Generator().manual_seed(seed)
    normal = torch.randn(len(row), OF_TRACK, generator=generator)
    coefficients = model.tracks.head(model.tracks.trunk(data.context))[row]
    share, way = model.tracks.draw(coefficients, radius, energy, data.ends[:, 3], data.slope[row], normal)
    share, way = share.numpy(), way.numpy() * joining_radius_mm(model.config, showers.detector)
    weaker = np.flatnonzero(share)
    point = np.concatenate([np.arange(len(share)), weaker])
    part = np.concatenate([1 - share, share[weaker]])
    offset = np.concatenate([-share[:, None] * way, (1 - share[weaker, None]) * way[weaker]])
    order = np.argsort(joined.shower[point], kind="stable")
    point, part, offset = point[order], part[order], offset[order]
    return Showers(
        detector=joined.detector,
        incident=joined.incident,
        offsets=np.concatenate([[0], np.cumsum(np.bincount(joined.shower[point], minlength=len(joined)))]),
        x_mm=joined.x_mm[point] + offset[:, 0],
        y_mm=joined.y_mm[point] + offset[:, 1],
        layer=joined.layer[point],
        energy_mev=joined.energy_mev[point] * part,
    )


def main() -> None:
    """Print ratios and the classifier's AUC, of joined, divided and exchanged points."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("showers", type=Path)
    parser.add_argument("-n", type=int, default=250)
    parser.add_argument("--joined", type=float, default=1.0, help="of the distance over which deposits are joined in training")
    parser.add_argument("--model", default="anycalo-base", help="whose tracks divide the points again")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=NUMBER", help="of AnyCaloConfig")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    changes = {name: float(value) for name, value in (entry.split("=", 1) for entry in arguments.set)}
    truth = Showers.open(arguments.showers, 0, arguments.n)
    truth = truth[truth.visible_mev() > 0]
    config = AnyCaloConfig(**changes)  # type: ignore[arg-type]
    distances = {name: arguments.joined * getattr(config, name) for name in ("merge_radius_mm", "merge_radius_slope")}
    model = AnyCalo(replace(config, **distances), Domain.of([truth]))
    joined = joined_points(model, truth, 1).showers
    samples = {"joined": joined, "exchanged": exchanged(model, joined, seed=1)}
    trained = load_model(arguments.model)
    if arguments.joined == 1 and not changes and isinstance(trained, AnyCalo):
        samples["divided"] = divided(trained, truth, joined, seed=1)
    found = {name: evaluate(truth, sample, n_bootstrap=100) for name, sample in samples.items()}
    cells = {name: len(read_out(sample, truth.detector).energy_mev) for name, sample in {"truth": truth, **samples}.items()}
    print(f"{truth.detector.name}: {truth.n_points:,} deposits, {joined.n_points:,} points")
    for name, result in found.items():
        auc = f"AUC {result.metrics['auc'].value:.3f}" if "auc" in result.metrics else "too few showers for a classifier"
        print(f"  {name}: {result.summary.ratio_to_floor:.2f} floors, {auc}, cells {cells[name] / cells['truth'] - 1:+.1%}")
    for name in found["joined"].observables:
        print(f"  {name}: {', '.join(f'{one.observables[name].w1_ratio:.2f}' for one in found.values())} floors")


if __name__ == "__main__":
    main()

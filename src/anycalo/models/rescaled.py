"""Showers of other detectors put into a new one by the universal coordinates alone: what any learning must beat.

Every shower of the new detector is a simulated one of the same particle and nearly the same energy, of whichever detector.
With depth t in radiation lengths along the axis, and `expected` from `universal.Told`:

    N(t) / expected N(t),  E(t) / expected E(t)     kept, linear in t between the layers of the old detector
    radius / Moliere radius across the axis         kept, point by point
    energy of a point / MIP                         kept, up to the factor that gives E

Nothing is fitted.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from anycalo.errors import ModelError
from anycalo.geometry import Detector
from anycalo.geometry.descriptors import LAYER, layer_descriptors, sensor_mip_mev
from anycalo.models.model import axis_slopes
from anycalo.models.universal import Geometry, UniversalCoordinates, particle_table
from anycalo.showers import Incident, Showers

_UNIVERSAL = UniversalCoordinates()


def rescaled(donors: Sequence[Showers], detector: Detector, incident: Incident, *, seed: int) -> Showers:
    """Showers of the incident particles in a detector, made of showers of other detectors.

    Of the donors of the same particle that are deep enough along the axis, the one of nearest energy that was not used yet is
    taken; a shallow one, or one again, only where there is no other. Points that are needed more often than the donor has them
    are turned about the axis at random.

    Args:
        donors: one batch a detector.
        detector: the new one.
        incident: B particles.
        seed: of rounding counts and of the choice of points.

    Raises:
        ModelError: if no donor is of a particle that is asked for.
    """
    rng = np.random.default_rng([seed, 0x5CA1E])
    owner = np.repeat(np.arange(len(donors)), [len(batch) for batch in donors])
    number = np.concatenate([np.arange(len(batch)) for batch in donors])
    chosen = _choose(donors, owner, detector, incident)
    new = _Expected(detector, incident)
    order = np.argsort(owner[chosen], kind="stable")
    made: dict[int, tuple[np.ndarray, np.ndarray, np.ndarray]] = {}
    for d in np.unique(owner[chosen]):
        rows = order[owner[chosen][order] == d]
        old = donors[d][number[chosen[rows]]]
        expected = _Expected(old.detector, old.incident)
        places, mips = _universal_points(old)
        for k, row in enumerate(rows):
            points = slice(old.offsets[k], old.offsets[k + 1])
            made[int(row)] = _transfer(
                rng, expected, k, old.layer[points].astype(np.int64), places[points], mips[points], new, int(row)
            )
    parts = [made[k] for k in range(len(incident))]
    counts = [len(layer) for layer, _, _ in parts]
    layer, xy, energy = (np.concatenate(column) for column in zip(*parts, strict=True))
    shower = np.repeat(np.arange(len(incident)), counts)
    slope = axis_slopes(incident)[shower]
    seen = torch.from_numpy(xy * _UNIVERSAL.scale_mm(detector)), torch.from_numpy(slope)
    at = _UNIVERSAL.stretch(*seen).numpy() + slope * detector.layer_z_mm[layer][:, None]
    return Showers(
        detector=detector,
        incident=incident,
        offsets=np.concatenate([[0], np.cumsum(counts)]),
        x_mm=at[:, 0],
        y_mm=at[:, 1],
        layer=layer,
        energy_mev=energy,
        provenance={"generator": "AnyCalo, rescaled showers of other detectors", "detectors": len(donors), "seed": seed},
    )


class _Expected:
    """Depths [X0] along the axis of the layers of showers, and what is expected there; all (B, L), float64.

    Args:
        detector: of L layers.
        incident: B particles.
    """

    def __init__(self, detector: Detector, incident: Incident) -> None:
        told = _UNIVERSAL.told(Geometry([detector]), torch.zeros(len(incident), dtype=torch.long), particle_table(incident))
        table = layer_descriptors(detector)
        path = 1 / incident.direction[:, 2:].astype(np.float64)
        middle = (table[:, LAYER.index("sensor_front_x0")] + table[:, LAYER.index("sensor_back_x0")]) / 2
        self.depth = middle[None] * path
        self.points, self.energy = told.points.double().numpy(), told.visible_mev.double().numpy()
        self.mip = sensor_mip_mev(detector)[None] * path


def _choose(donors: Sequence[Showers], owner: np.ndarray, detector: Detector, incident: Incident) -> np.ndarray:
    """Which donor every particle takes, (B,)."""
    pdg = np.concatenate([batch.incident.pdg for batch in donors])
    log_e = np.log(np.concatenate([batch.incident.energy_mev for batch in donors]))
    last = np.array([layer_descriptors(batch.detector)[-1, LAYER.index("sensor_back_x0")] for batch in donors])
    reach = last[owner] / np.concatenate([batch.incident.direction[:, 2] for batch in donors])
    needed = layer_descriptors(detector)[-1, LAYER.index("sensor_back_x0")] / incident.direction[:, 2]
    used = np.zeros(len(owner))
    chosen = np.zeros(len(incident), dtype=np.int64)
    for k in range(len(incident)):
        same = np.flatnonzero(pdg == incident.pdg[k])
        if len(same) == 0:
            raise ModelError(f"no donor is of the particle {incident[k : k + 1].particles[0]}; give showers of it")
        # No difference of logarithms of energies reaches 100.
        cost = np.abs(log_e[same] - np.log(incident.energy_mev[k])) + 100 * used[same] + 1e4 * (reach[same] < needed[k])
        chosen[k] = same[cost.argmin()]
        used[chosen[k]] += 1
    return chosen


def _universal_points(showers: Showers) -> tuple[np.ndarray, np.ndarray]:
    """Positions across the axis in Moliere radii (P, 2), and energies in MIPs along the axis (P,)."""
    slope = axis_slopes(showers.incident)[showers.shower]
    xy = np.stack([showers.x_mm, showers.y_mm], axis=1) - slope * showers.detector.layer_z_mm[showers.layer][:, None]
    seen = _UNIVERSAL.squeeze(torch.from_numpy(xy), torch.from_numpy(slope)).numpy() / _UNIVERSAL.scale_mm(showers.detector)
    mip = _Expected(showers.detector, showers.incident).mip
    return seen, showers.energy_mev / mip[showers.shower, showers.layer]


def _transfer(
    rng: np.random.Generator,
    old: _Expected,
    k: int,
    layer: np.ndarray,
    places: np.ndarray,
    mips: np.ndarray,
    new: _Expected,
    row: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Layer (P,), position (P, 2) and energy [MeV] (P,) of the points of shower `row` from those of the donor's shower `k`."""
    layers = old.depth.shape[1]
    held = [np.flatnonzero(layer == index) for index in range(layers)]
    n_ratio = np.bincount(layer, minlength=layers) / old.points[k]
    e_ratio = np.bincount(layer, mips * old.mip[k, layer], minlength=layers) / old.energy[k]
    t = new.depth[row]
    wanted = np.interp(t, old.depth[k], n_ratio) * new.points[row]
    energy = np.interp(t, old.depth[k], e_ratio) * new.energy[row]
    counts = np.floor(wanted + rng.random(len(t))).astype(np.int64)
    after = np.searchsorted(old.depth[k], t).clip(1, max(layers - 1, 1)) if layers > 1 else np.ones(len(t), dtype=np.int64)
    out: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = [(np.zeros(0, dtype=np.int64), np.zeros((0, 2)), np.zeros(0))]
    for j in np.flatnonzero(counts):
        a, b = after[j] - 1, min(after[j], layers - 1)
        span = old.depth[k, b] - old.depth[k, a]
        weight = float(np.clip((t[j] - old.depth[k, a]) / span, 0, 1)) if span > 0 else 0.0
        # Each layer gives as it counts in the interpolation, so that an empty one gives nothing.
        share = np.array([(1 - weight) * n_ratio[a], weight * n_ratio[b]])
        if share.sum() <= 0:
            continue
        second = int(np.floor(counts[j] * share[1] / share.sum() + rng.random()))
        index, again = _pick(rng, [held[a], held[b]], [int(counts[j]) - second, second])
        xy = places[index]
        angle = np.where(again, rng.uniform(0, 2 * np.pi, len(index)), 0.0)
        turned = np.stack(
            [xy[:, 0] * np.cos(angle) - xy[:, 1] * np.sin(angle), xy[:, 0] * np.sin(angle) + xy[:, 1] * np.cos(angle)], axis=1
        )
        e = mips[index] * new.mip[row, j]
        out.append((np.full(len(index), j), turned, e * (energy[j] / e.sum())))
    layer_, xy_, e_ = (np.concatenate(column) for column in zip(*out, strict=True))
    return layer_, xy_, e_


def _pick(rng: np.random.Generator, pools: Sequence[np.ndarray], counts: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """So many points of each pool, every one once before any is taken again; and which are taken again."""
    index: list[np.ndarray] = []
    again: list[np.ndarray] = []
    for pool, count in zip(pools, counts, strict=True):
        done = 0
        while done < count:
            some = rng.permutation(pool)[: count - done]
            index.append(some)
            again.append(np.full(len(some), done > 0))
            done += len(some)
    return np.concatenate(index), np.concatenate(again)

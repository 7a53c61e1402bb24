"""The fast way from particles to showers of the `anycalo` family: weights laid out once, showers made by compiled loops."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple, cast

import numpy as np
from torch import Tensor, nn

from anycalo.errors import ModelError
from anycalo.geometry import Detector
from anycalo.models.anycalo_data import TYPICAL_LOG_WIDTH, joining_distance, joining_radius_mm
from anycalo.models.arithmetic import Perceptron
from anycalo.models.cluster_kernels import Kinds
from anycalo.models.clusters import OF_POINT
from anycalo.models.layer_kernels import Told, Totals, Walk, draw_layers
from anycalo.models.noise import Noise
from anycalo.models.per_point import PerPoint as PerPointNetwork
from anycalo.models.per_point_kernels import PerPoint
from anycalo.models.point_kernels import Points, draw_points, place
from anycalo.models.recurrent import PAST, RecurrentLayers, of_walk
from anycalo.models.surroundings import OF_ENERGY
from anycalo.models.told_kernels import describe, tell, tell_of_tensors
from anycalo.models.totals import NOISE as OF_TOTALS
from anycalo.models.totals import Member
from anycalo.models.totals import Totals as TotalsNetwork
from anycalo.models.track_kernels import Tracks, divide
from anycalo.models.tracks import OF_TRACK
from anycalo.models.universal import UniversalCoordinates
from anycalo.showers import Incident, Showers

if TYPE_CHECKING:
    from anycalo.models.anycalo import AnyCalo

_ATTEMPTS = 50


class Drawn(NamedTuple):
    """The layers of a shower.

    Args:
        turn: of x, 1 or -1.
        told: what the networks are told of it, so turned.
        scaled: its totals, (D,).
        n: points of the layers, int64 (L,).
        e: their calibrated energies [MeV], (L,).
    """

    turn: np.float32
    told: Told
    scaled: np.ndarray
    n: np.ndarray
    e: np.ndarray


class Engine:
    """Showers from the weights of a model as they are now, one shower after another, so that none depends on its batch.

    The field is along x, and nothing tells a shower from its mirror image in x. Networks learn that from showers turned around
    at random, and so nearly; generation makes every other shower turned around, so that it holds exactly.

    Args:
        model: of the family.
    """

    def __init__(self, model: AnyCalo) -> None:
        self._config, self._coordinates = model.config, model.coordinates
        shower, layer = model.coordinates.shower_features, model.coordinates.layer_features
        quantities = len(model.totals.mean)
        self._totals = totals_weights(model.totals, layer)
        self._walk = walk_weights(model.layers, range(shower + quantities, shower + quantities + layer + 2))
        self._points = _points(model, range(shower, shower + layer + 3))

    def sample(self, detector: Detector, incident: Incident, noise: Noise) -> Showers:
        """See `Model.sample`; the provenance counts unphysical draws, which were drawn again."""
        told = self.told(detector, incident)
        drawn, failed = zip(*(self._layers(one, incident.energy_mev[b], noise, b) for b, one in enumerate(told)), strict=True)
        counts = np.array([one.n.sum() for one in drawn])
        made = self.showers(detector, incident, drawn, noise.normal_points(counts, OF_POINT + OF_ENERGY + OF_TRACK).numpy())
        made.provenance = {"draws": len(incident) + sum(failed), "draws_rejected": sum(failed)}
        return made

    def showers(self, detector: Detector, incident: Incident, drawn: Sequence[Drawn], normal: np.ndarray) -> Showers:
        """Points in the layers of B showers.

        Args:
            detector: where.
            incident: B particles.
            drawn: their layers.
            normal: standard normal numbers, (P, OF_POINT + OF_ENERGY + OF_TRACK), one shower's after the other's.
        """
        scale_mm, radius_mm = self._coordinates.scale_mm(detector), joining_radius_mm(self._config, detector)
        unit, joining_mm, apart = map(np.float32, (scale_mm, radius_mm, joining_distance(radius_mm, scale_mm)))
        z_mm, across = _layer_z_mm(detector), self._coordinates.across_axis
        ends, start = [], 0
        for b, (turn, told, scaled, n, e) in enumerate(drawn):
            own = normal[start : start + n.sum()]
            start += len(own)
            x, y, energy, *_ = room = np.empty((5, len(own)), np.float32)
            layer = np.empty(len(own), np.int16)
            coefficients = draw_points(told, scaled, n, e, own, apart, self._points, x, y, energy, room[3:])
            direction = incident.direction[b] * np.array([turn, 1, 1], incident.direction.dtype)
            place(n, direction, z_mm, unit, across, x, y, layer)
            ends.append(
                divide(coefficients, room[3:], own, direction, z_mm, joining_mm, self._points.tracks, x, y, energy, layer)
            )
            ends[-1][0][:] *= turn
        x, y, energy, layer = (np.concatenate(column) for column in zip(*ends, strict=True))
        return Showers(
            detector=detector,
            incident=incident,
            offsets=np.concatenate([[0], np.cumsum([len(column) for column, *_ in ends])]),
            x_mm=x,
            y_mm=y,
            layer=layer,
            energy_mev=energy,
        )

    def told(self, detector: Detector, incident: Incident) -> list[Told]:
        """What the networks are told of B particles."""
        if isinstance(self._coordinates, UniversalCoordinates):
            described = _described(detector)
            particles = zip(incident.energy_mev, incident.direction, incident.charge, strict=True)
            return [tell(described, *particle) for particle in particles]
        return tell_of_tensors(self._coordinates, detector, incident)

    def _turned(self, told: Told, turn: np.float32) -> Told:
        """As `Coordinates.flip`."""
        if turn > 0 or told.shower[self._coordinates.slope_in_x] == 0:
            return told
        shower = told.shower.copy()
        shower[self._coordinates.slope_in_x] *= turn
        return told._replace(shower=shower)

    def _layers(self, told: Told, energy_mev: np.float32, noise: Noise, b: int) -> tuple[Drawn, int]:
        """The layers of shower b, and unphysical draws."""
        for attempt in range(_ATTEMPTS):
            normal = noise.normal(OF_TOTALS + of_walk(len(told.points)), only=np.array([b])).numpy()[0]
            # One number chooses the member, and by what is left of it, whether x is turned around.
            level = 0.5 * math.erfc(-normal[OF_TOTALS - 1] * math.sqrt(0.5)) * len(self._totals)
            member = min(int(level), len(self._totals) - 1)
            turn = np.float32(-1 if level - member < 0.5 else 1)
            seen = self._turned(told, turn)
            good, scaled, n, e = draw_layers(seen, energy_mev, normal, self._totals[member], self._walk)
            if good:
                return Drawn(turn, seen, scaled, n, e), attempt
        raise ModelError(
            f"no physical shower in {_ATTEMPTS} draws for a particle of {energy_mev:.6g} MeV. The model's domain says what"
            " it was trained on: ask for that, or train longer."
        )


_described = lru_cache(maxsize=64)(describe)


@lru_cache(maxsize=64)
def _layer_z_mm(detector: Detector) -> np.ndarray:
    return _c(detector.layer_z_mm)


def totals_weights(net: TotalsNetwork, own: int) -> list[Totals]:
    """Of the members, whose layers differ in the first `own` inputs."""
    members = []
    for member in cast(Iterable[Member], net.members):
        mixture, bias = _linear(member.mixture.linear)
        members.append(
            Totals(
                layer=_perceptron(member.layer, range(own)),
                shower=_perceptron(member.shower, range(2 * len(_linear(cast(nn.Linear, member.layer[0]))[1]))),
                mixture=mixture,
                mixture_bias=bias,
                mean=_array(net.mean),
                std=_array(net.std),
            )
        )
    return members


def walk_weights(net: RecurrentLayers, own: Sequence[int]) -> Walk:
    """Of the layers, which differ in the inputs `own` of the embedding."""
    gates, hidden = (_array(cast(Tensor, t)).T for t in (net.memory.weight_ih_l0, net.memory.weight_hh_l0))
    memory, size = net.memory.hidden_size, net.memory.input_size - PAST
    (count, count_bias), (energy, energy_bias) = (_linear(cast(nn.Linear, head[0])) for head in (net.count, net.energy))
    count_mixture, energy_mixture = _linear(net.count_mixture.linear), _linear(net.energy_mixture.linear)
    here, before = slice(memory, memory + size), slice(0, memory)
    return Walk(
        embed=_perceptron(net.embed, own),
        of_embedding=_c(np.hstack([gates[:size], count[here], energy[here]])),
        of_embedding_bias=np.concatenate([_array(cast(Tensor, net.memory.bias_ih_l0)), count_bias, energy_bias]),
        of_memory=_c(np.hstack([count[before], energy[before], hidden])),
        of_memory_bias=np.concatenate(
            [np.zeros_like(count_bias), np.zeros_like(energy_bias), _array(cast(Tensor, net.memory.bias_hh_l0))]
        ),
        of_past=_c(gates[size : size + PAST]),
        of_count=_c(energy[memory + size :]),
        count=count_mixture[0],
        count_bias=count_mixture[1],
        energy=energy_mixture[0],
        energy_bias=energy_mixture[1],
    )


def _points(model: AnyCalo, own: Sequence[int]) -> Points:
    net = model.points
    radius, of_context, angle, energy = (_linear(m) for m in (net.radius, net.of_context, net.angle, net.energy))
    head, head_bias = _linear(model.clusters.head)
    kinds = Kinds(trunk=_perceptron(model.clusters.trunk, own), head=head, head_bias=head_bias, same=model.clusters.config.same)
    head, head_bias = _linear(model.tracks.head)
    tracks = Tracks(
        trunk=_perceptron(model.tracks.trunk, own),
        head=head,
        head_bias=head_bias,
        share_knots=_array(model.tracks.share_shape.knots[0]),
        length_knots=_array(model.tracks.length_shape.knots[0]),
    )
    return Points(
        kinds=kinds,
        around=_per_point(model.surroundings, own),
        level=_per_point(model.balance, own),
        tracks=tracks,
        trunk=_perceptron(net.trunk, own),
        radius=radius[0],
        radius_bias=radius[1],
        of_context=of_context[0],
        of_context_bias=of_context[1],
        of_radius=_array(net.of_radius.weight),
        knots=_c(np.hstack([angle[0], energy[0]]).T),
        knots_bias=np.concatenate([angle[1], energy[1]]),
        angle_bins=net.config.angle_bins,
        mean=_array(model.totals.mean),
        std=_array(model.totals.std),
        radius_knots=_array(model.radius_shape.knots[0]),
        energy_knots=_array(model.energy_shape.knots[0]),
        edge=_array(model.radius_shape.levels)[-1],
        core=np.float32(model.lateral.centre_scale_mm),
        wide=np.float32(model.lateral.width_scale_mm),
        log_width=np.float32(TYPICAL_LOG_WIDTH),
    )


def _per_point(net: PerPointNetwork, own: Sequence[int]) -> PerPoint:
    of_layer, head = _linear(net.of_context), _linear(net.head)
    return PerPoint(
        trunk=_perceptron(net.trunk, own),
        of_context=of_layer[0],
        of_context_bias=of_layer[1],
        of_point=_array(net.of_point.weight),
        head=_c(head[0].T),
        head_bias=head[1],
    )


def _perceptron(net: nn.Sequential, own: Sequence[int]) -> Perceptron:
    """A network of which the inputs `own` differ from row to row."""
    (first, bias), *others = (_linear(m) for m in net if isinstance(m, nn.Linear))
    shared = [k for k in range(len(first)) if k not in own]
    width = len(bias)
    return Perceptron(
        own=_c(first[list(own)]),
        shared=_c(first[shared]),
        weights=_c(np.reshape([w for w, _ in others], (-1, width, width))),
        biases=np.stack([bias, *(b for _, b in others)]),
    )


def _linear(module: nn.Linear) -> tuple[np.ndarray, np.ndarray]:
    """Weight (inputs, outputs) and bias."""
    return _c(_array(module.weight).T), _array(module.bias)


def _array(tensor: Tensor) -> np.ndarray:
    return _c(tensor.detach().cpu().numpy())


def _c(array: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(array, dtype=np.float32)

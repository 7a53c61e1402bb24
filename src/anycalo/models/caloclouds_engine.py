"""The fast way from particles to showers of the `caloclouds` family: weights laid out once, showers made by compiled loops."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from torch import Tensor, nn
from zuko.nn import Linear

from anycalo.geometry import Detector
from anycalo.models.caloclouds_config import ATTEMPTS, no_physical_shower
from anycalo.models.caloclouds_kernels import CONDITIONS, Student, draw_points
from anycalo.models.flow import ShowerFlow
from anycalo.models.flow_kernels import Flow, Maps, Scales, draw_layers
from anycalo.models.layer_features import LayerFeatures
from anycalo.models.model import Domain
from anycalo.models.noise import Noise
from anycalo.models.point_kernels import place
from anycalo.models.pointwise import ContextSquash, Pointwise
from anycalo.showers import Incident, Showers

if TYPE_CHECKING:
    from anycalo.models.caloclouds import CaloClouds

_FEATURES = 3
_FARTHEST_MM = 1e9
_MM = np.float32(1)


class Engine:
    """Showers from the weights of a model as they are now, one shower after another, so that none depends on its batch.

    Args:
        model: of the family, one that `CaloClouds.jumps` is true of.
    """

    @torch.no_grad()
    def __init__(self, model: CaloClouds) -> None:
        self._domain = model.domain
        self._flow = flow_weights(model.flow, bins=model.config.flow.bins, bound=model.config.flow.bound)
        self._scales = layer_scales(model.features, model.domain)
        self._student = _student(model)

    def sample(self, detector: Detector, incident: Incident, noise: Noise) -> Showers:
        """See `Model.sample`; the provenance counts the flow's unphysical draws, which were drawn again."""
        told = list(zip(incident.energy_mev, incident.direction, incident.charge, strict=True))
        layers = [self._layers(*one, noise, b) for b, one in enumerate(told)]
        counts = np.array([n.sum() for n, *_ in layers])
        offsets = np.concatenate([[0], np.cumsum(counts)])
        normal = noise.normal_points(counts, _FEATURES).numpy()
        x, y, energy = np.empty((3, len(normal)), np.float32)
        layer = np.empty(len(normal), np.int16)
        for b, (one, (n, e, extras, _)) in enumerate(zip(told, layers, strict=True)):
            own = slice(offsets[b], offsets[b + 1])
            draw_points(*one, n, e, extras, normal[own], self._student, x[own], y[own], energy[own])
            place(n, one[1], self._student.z_mm, _MM, False, x[own], y[own], layer[own])
        rejected = sum(failed for *_, failed in layers)
        return Showers(
            detector=detector,
            incident=incident,
            offsets=offsets,
            x_mm=x,
            y_mm=y,
            layer=layer,
            energy_mev=energy,
            provenance={"flow_draws": len(incident) + rejected, "flow_draws_rejected": rejected},
        )

    def _layers(
        self, energy_mev: np.float32, direction: np.ndarray, charge: np.float32, noise: Noise, b: int
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
        """Points and energy of the layers of shower b, extras, and how many draws were unphysical."""
        for attempt in range(ATTEMPTS):
            normal = noise.normal(self._flow.orders.shape[1], only=np.array([b])).numpy()[0]
            good, n, e, extras = draw_layers(energy_mev, direction, charge, normal, self._flow, self._scales)
            if good:
                return n, e, extras, attempt
        raise no_physical_shower(float(energy_mev), self._domain.energy_mev)


def flow_weights(flow: ShowerFlow, *, bins: int, bound: float) -> Flow:
    """Of the flow, which has splines of so many bins between -bound and bound."""
    maps = []
    for coupling in flow.couplings:
        *inner, last = (m for m in cast(Iterable[nn.Module], coupling.hyper) if isinstance(m, Linear))
        weight, bias = _linear(last)
        kinds = cast(int, coupling.total)
        by_kind = np.arange(len(bias)).reshape(-1, kinds).T.ravel()
        maps += [*map(_linear, inner), (weight[:, by_kind], bias[by_kind])]
    return Flow(
        maps=_maps(maps),
        orders=flow.permutations.cpu().numpy(),
        bound=np.float32(bound),
        bins=bins,
        affine_slope=np.float32(flow.affine_slope),
    )


def layer_scales(features: LayerFeatures, domain: Domain) -> Scales:
    """Of the layers' features, for particles of the domain."""
    low, high = (math.log(v) for v in domain.energy_mev)
    plain = features.plain.mean.T.clone()
    plain[: len(features.more_points), 1] -= features.more_points  # more points of less energy each
    return Scales(
        middle=(low + high) / 2,
        half_width=max((high - low) / 2, 0.1),
        unrotation=_array(features.unrotation),
        knots=_array(features.shape.knots),
        edge=_array(features.shape.levels)[-1],
        plain=_array(plain),
        plain_spread=_array(features.plain.log_spread.T),
        mean=_array(features.means.mean),
        mean_spread=_array(features.means.log_spread),
        largest=_array(features.largest),
    )


def _student(model: CaloClouds) -> Student:
    config = model.config
    denoiser = model.denoiser if model.consistency is None else model.consistency.student
    network, schedule = cast(Pointwise, denoiser.network), config.schedule
    squashes = cast(Sequence[ContextSquash], list(network.layers))
    sigma, data = schedule.sigma_max, schedule.sigma_data
    root = math.sqrt(sigma**2 + data**2)
    time = _array(network.time(torch.tensor(math.log(sigma) / 4)))
    gates, shifts = ([_linear(getattr(s, name)) for s in squashes] for name in ("gate", "shift"))
    of_context = np.hstack([weight for weight, _ in gates + shifts])
    (entry, entry_bias), *others = (_linear(s.linear) for s in squashes)
    # A point is c_skip x + c_out F(c_in x), x = sigma_max times normal numbers; and then what undoes `Standardise`.
    std = _array(model.point_scale.std) / model.point_scale.spread
    return Student(
        chosen=np.array([CONDITIONS.index(name) for name in config.conditions]),
        condition_mean=_array(model.condition_scale.mean),
        condition_std=_array(model.condition_scale.std) / np.float32(model.condition_scale.spread),
        of_condition=_c(of_context[len(time) :]),
        constant=_c(np.concatenate([bias for _, bias in gates + shifts]) + time @ of_context[: len(time)]),
        maps=_maps([(entry * np.float32(sigma / root), entry_bias), *others]),
        negative_slope=np.float32(network.negative_slope),
        skip=_c(std * (data**2 * sigma / root**2)),
        share=_c(std * (data * sigma / root)),
        mean=_array(model.point_scale.mean),
        energy_knots=_array(model.energy_shape.knots[0]),
        edge=_array(model.energy_shape.levels)[-1],
        radial=np.float32(config.radial_scale_mm),
        core=np.float32(config.centre_scale_mm),
        wide=np.float32(config.width_scale_mm),
        moments=config.lateral_moments,
        log_width=np.float32(model.typical_log_width),
        largest=np.float32(min(float(model.largest_radius_mm), _FARTHEST_MM)),
        z_mm=_array(model.z_mm),
    )


def _maps(maps: Sequence[tuple[np.ndarray, np.ndarray]]) -> Maps:
    sizes = np.array([weight.shape for weight, _ in maps])
    ends = np.cumsum((sizes[:, 0] + 1) * sizes[:, 1])
    return Maps(
        numbers=np.concatenate([part.ravel() for both in maps for part in both]),
        table=np.column_stack([sizes, np.concatenate([[0], ends[:-1]])]),
    )


def _linear(module: nn.Linear | Linear) -> tuple[np.ndarray, np.ndarray]:
    """Weight (inputs, outputs) and bias, of zeros where there is none."""
    weight = _array(module.weight.T)
    return weight, np.zeros(weight.shape[1], np.float32) if module.bias is None else _array(module.bias)


def _array(tensor: Tensor) -> np.ndarray:
    return _c(tensor.detach().cpu().numpy())


def _c(array: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(array, dtype=np.float32)

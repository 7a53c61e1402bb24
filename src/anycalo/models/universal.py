"""Universal coordinates: particle and layers as a geometry-aware model sees them, and back.

Electromagnetic showers nearly scale: with depth in radiation lengths along the shower axis, with width in Moliere radii
across it, with energy over the critical energy. What is left is small, and is what a network learns.

Expected of layer l is the flux of shower particles through its sensors, from the gamma distribution of the energy loss over
depth (Longo and Sestili; Review of Particle Physics, "Electromagnetic cascades"), with b = 0.5 and its maximum at
t_max = ln(E / E_c) + 0.5 for photons and - 0.5 for electrons, in radiation lengths along the axis:

    flux_l = (E / E_c) <dP/dt>_l             particles that cross a sensor of layer l
    points_l = flux_l sensors_l,  visible energy_l = flux_l MIP_l / cos(theta)

Where layers sample differently, the visible energy of a shower hangs on how deep it happens to be. So energies are learnt
calibrated, as a calorimeter's are: multiplied by c_l = k t_l / MIP_l, with the thickness t_l [X0] that layer l stands for, from
half-way to the sensors before to half-way to those behind, and k such that as much is expected in all as without.

A slanted shower is one at normal incidence in layers 1 / cos(theta) thicker, once positions across the axis are taken
perpendicular to it: (x, y) of a layer, relative to the axis, are shortened by cos(theta) along the direction of the slant.

`RawCoordinates` is the ablation: the same networks told layer numbers and millimetres, and expecting nothing.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor

from anycalo.geometry import Detector
from anycalo.geometry.descriptors import (
    LAYER,
    REACHES_G_CM2,
    WHOLE,
    cell_mm,
    facing_table,
    layer_descriptors,
    whole_descriptors,
)
from anycalo.models.profile import directions
from anycalo.showers import Incident

_B = 0.5
CELLS_MM = (2.0, 50.0)
"""Sizes of cells that are trained on; larger and smaller ones count as these."""
_SMALLEST_FLUX = 1e-3


@dataclass(frozen=True, kw_only=True)
class Told:
    """What a model is told of B showers in detectors of up to L layers.

    Args:
        shower: of the particle and the whole detector, (B, S).
        layer: of each layer, (B, L, F); 0 beyond a detector's layers.
        valid: whether a detector has that layer, (B, L).
        points: expected number of points of each layer up to a common factor, (B, L); 0 beyond a detector's layers.
        energy_mev: expected calibrated energy of each layer up to a common factor, (B, L).
        calibration: calibrated over visible energy of each layer, (B, L); 1 beyond a detector's layers.
        phi: what the depth of a shower is measured by (`profile.directions`), (B, L, 2); 0 beyond a detector's layers.
        detail: what the response of each layer depends on beyond `layer`, (B, L, G); may be without columns.
    """

    shower: Tensor
    layer: Tensor
    valid: Tensor
    points: Tensor
    energy_mev: Tensor
    calibration: Tensor
    phi: Tensor
    detail: Tensor

    @property
    def visible_mev(self) -> Tensor:
        """Expected visible energy of each layer up to a common factor, (B, L)."""
        return self.energy_mev / self.calibration

    def __getitem__(self, index: Tensor | slice) -> Told:
        return Told(**{f.name: getattr(self, f.name)[index] for f in fields(self)})


class Geometry:
    """Descriptors of several detectors in two tensors, layers padded with zeros.

    Args:
        detectors: D of them.

    Attributes:
        layer: (D, L, len(LAYER)), L of the detector with the most layers.
        whole: (D, len(WHOLE)).
        facing: `facing_table`, (D, L, 8).
        cell: ln of the size of the cells in 10 mm, (D,); it decides which deposits are told apart (`merging`).
        count: number of layers, (D,).
    """

    def __init__(self, detectors: Sequence[Detector]) -> None:
        self.count = torch.tensor([d.n_layers for d in detectors])
        layers = int(self.count.max())
        self.layer = torch.zeros(len(detectors), layers, len(LAYER))
        self.facing = torch.zeros(len(detectors), layers, 2 * len(REACHES_G_CM2))
        for k, detector in enumerate(detectors):
            self.layer[k, : detector.n_layers] = torch.from_numpy(layer_descriptors(detector).copy()).float()
            self.facing[k, : detector.n_layers] = torch.from_numpy(facing_table(detector).copy()).float()
        cells = torch.tensor([cell_mm(d) for d in detectors], dtype=torch.float32)
        self.cell = (cells.clamp(*CELLS_MM) / 10).log()
        self.whole = torch.from_numpy(np.stack([whole_descriptors(d) for d in detectors])).float()


class Coordinates(ABC):
    """What a model is told, and in which units it sees positions."""

    shower_features: int
    layer_features: int
    detail_features: int
    slope_in_x: int
    """The feature of a shower that changes its sign when x is turned around."""

    def flip(self, shower: Tensor, sign: Tensor) -> Tensor:
        """Features of showers (B, S) with x turned around where sign (B,) is -1: the field, which is along x, stays.

        Not so with y: together with the charge it would be a symmetry of every electromagnetic process, but matter holds
        electrons alone, a shower collects an excess of them, and the field moves it to one side.
        """
        out = shower.clone()
        out[:, self.slope_in_x] *= sign
        return out

    @abstractmethod
    def told(self, geometry: Geometry, which: Tensor, particle: Tensor) -> Told:
        """B particles (`particle_table`) in the detectors `which` (B,) of a geometry."""

    @abstractmethod
    def scale_mm(self, detector: Detector) -> float:
        """The unit of positions across the axis [mm]."""

    @abstractmethod
    def squeeze(self, xy: Tensor, slope: Tensor) -> Tensor:
        """Positions in a layer relative to the axis (P, 2) as seen across the axis, given slopes (P, 2): dx / dz, dy / dz."""

    @abstractmethod
    def stretch(self, xy: Tensor, slope: Tensor) -> Tensor:
        """Inverse of `squeeze`."""


def particle_table(incident: Incident) -> Tensor:
    """Logarithm of E [MeV], direction and charge of B particles, (B, 5)."""
    charge = -np.sign(incident.pdg) * (incident.pdg != 22)
    columns = np.column_stack([np.log(incident.energy_mev.astype(np.float64)), incident.direction, charge])
    return torch.from_numpy(columns).float()


def gamma_cdf(t: Tensor, t_max: Tensor) -> Tensor:
    """Share of a shower's energy lost before depth t [X0], for its maximum at t_max; broadcast."""
    share: Tensor = torch.special.gammainc(_B * t_max.clamp_min(0.5) + 1, _B * t.clamp_min(0))
    return share


def _column(table: Tensor, name: str, names: tuple[str, ...]) -> Tensor:
    return table[..., names.index(name)]


class UniversalCoordinates(Coordinates):
    """See the module's text."""

    shower_features = 16
    layer_features = 19
    detail_features = 13
    slope_in_x = 3

    def told(self, geometry: Geometry, which: Tensor, particle: Tensor) -> Told:
        """See `Coordinates.told`."""
        layers, whole = geometry.layer[which], geometry.whole[which]
        log_e, dx, dy, dz, charge = particle.unbind(1)
        path = 1 / dz
        photon = (charge == 0).float()
        critical = _column(whole, "critical_energy_mev", WHOLE)
        log_y = log_e - critical.log()
        t_max = log_y - 0.5 + photon

        def of(name: str) -> Tensor:
            return _column(layers, name, LAYER)

        valid = torch.arange(layers.shape[1])[None] < geometry.count[which][:, None]
        front, back = of("sensor_front_x0") * path[:, None], of("sensor_back_x0") * path[:, None]
        # Over a thin sensor the mean is taken over a twentieth of a radiation length, below which nothing changes.
        thin = (0.05 - (back - front)).clamp_min(0) / 2
        front, back = (front - thin).clamp_min(0), back + thin
        peak = t_max[:, None]
        density = (gamma_cdf(back, peak) - gamma_cdf(front, peak)) / (back - front).clamp_min(1e-3)
        flux = log_y.exp()[:, None] * density.clamp_min(0) + _SMALLEST_FLUX
        mip = of("mip_mev") * path[:, None]
        zero = torch.zeros(())
        points = torch.where(valid, flux * of("sensors"), zero)
        visible = torch.where(valid, flux * mip, zero)
        last = torch.arange(layers.shape[1])[None] == geometry.count[which][:, None] - 1
        share = torch.where(last, 2.0, 1.0) * of("behind_x0")
        share[:, 0] += of("spacing_x0")[:, 0]
        thickness = (of("spacing_x0") + share) / 2
        per_mip = torch.where(valid, thickness / mip.clamp_min(1e-9), zero)
        calibration = per_mip * (visible.sum(1) / (visible * per_mip).sum(1))[:, None]
        calibration = torch.where(valid, calibration, torch.ones(()))
        energy = visible * calibration
        middle = (front + back) / 2
        depth = _column(whole, "depth_x0", WHOLE) * path
        radius = _column(whole, "moliere_mm", WHOLE)

        def log(x: Tensor, low: float = 1e-4) -> Tensor:
            return x.clamp_min(low).log()

        layer = [
            (middle - peak) / 5,
            middle / 10,
            (depth[:, None] - middle) / 10,
            log(flux) / 3,
            (gamma_cdf(middle, peak) - 0.5) * 2,
            log(of("spacing_x0") * path[:, None], 1e-2),
            log(of("behind_x0") * path[:, None], 1e-2),
            log(of("spacing_mm") / radius[:, None], 1e-2),
            log(of("sensor_mm") / of("sensors").clamp_min(1) * path[:, None]),
            log(of("sensor_x0") / of("sensors").clamp_min(1) * path[:, None]) / 2,
            log(mip / of("sensors").clamp_min(1)),
            of("sensor_z") / 10,
            log(of("sensors")),
            log(of("sampling_fraction")),
            log(of("moliere_mm") / radius[:, None]),
            log(of("critical_energy_mev") / critical[:, None]),
            of("effective_z") / 40 - 1,
            of("facing_front_z") / 40 - 1,
            of("facing_back_z") / 40 - 1,
        ]
        field = _column(whole, "field_tesla", WHOLE)
        shower = [
            (log_e - 9) / 1.5,
            (log_y - 6.5) / 1.5,
            path - 1,
            dx,
            dy,
            photon,
            charge,
            field / 3,
            field * radius / 50,
            field * charge / 3,
            log(radius) - 3,
            _column(whole, "effective_z", WHOLE) / 40 - 1,
            log(_column(whole, "sampling_fraction", WHOLE)) / 2 + 1,
            (depth - t_max) / 10 - 1,
            log(1 - gamma_cdf(depth, t_max), 1e-6) / 4,
            geometry.cell[which],
        ]
        told = torch.where(valid[..., None], torch.stack(layer, dim=-1), zero)
        # Slow electrons curl back in the gaps of a strong field, within millimetres.
        gaps = torch.stack([of("gap_front_mm"), of("gap_back_mm")], dim=-1)
        gap = gaps.sum(-1)
        curl = gap * field[:, None]
        own = [gaps + 0.2, gap[..., None] + 0.2]
        extra = torch.cat([t.log() for t in own] + [curl[..., None] / 3, (curl / (curl + 2))[..., None]], dim=-1)
        detail = torch.cat([geometry.facing[which] / 40 - 1, extra], dim=-1)
        detail = torch.where(valid[..., None], detail, zero)
        return Told(
            shower=torch.stack(shower, dim=1),
            layer=told,
            valid=valid,
            points=points,
            energy_mev=energy,
            calibration=calibration,
            phi=directions(middle, energy),
            detail=detail,
        )

    def scale_mm(self, detector: Detector) -> float:
        """The Moliere radius."""
        return float(whole_descriptors(detector)[WHOLE.index("moliere_mm")])

    def squeeze(self, xy: Tensor, slope: Tensor) -> Tensor:
        """See `Coordinates.squeeze`."""
        return _along(xy, slope, lambda cos: cos)

    def stretch(self, xy: Tensor, slope: Tensor) -> Tensor:
        """See `Coordinates.stretch`."""
        return _along(xy, slope, lambda cos: 1 / cos)


def _along(xy: Tensor, slope: Tensor, factor: Callable[[Tensor], Tensor]) -> Tensor:
    """Positions with their component along the slope multiplied by a function of cos(theta)."""
    squared = (slope**2).sum(1, keepdim=True)
    cos = (1 + squared).rsqrt()
    change = (factor(cos) - 1) / squared.clamp_min(1e-12)
    out: Tensor = xy + torch.where(squared > 1e-10, change, 0.0) * (xy * slope).sum(1, keepdim=True) * slope
    return out


class RawCoordinates(Coordinates):
    """Layer numbers and millimetres; see the module's text."""

    shower_features = 10
    layer_features = 8
    detail_features = 0
    slope_in_x = 1

    def told(self, geometry: Geometry, which: Tensor, particle: Tensor) -> Told:
        """See `Coordinates.told`; the same number of points and the same energy are expected of every layer."""
        layers, whole = geometry.layer[which], geometry.whole[which]
        log_e, dx, dy, dz, charge = particle.unbind(1)
        valid = torch.arange(layers.shape[1])[None] < geometry.count[which][:, None]
        count = geometry.count[which].float()
        number = torch.arange(layers.shape[1]).float().expand_as(valid)

        def of(name: str) -> Tensor:
            return _column(layers, name, LAYER)

        layer = [
            number / 20,
            of("z_mm") / 200,
            of("spacing_mm") / 10,
            of("thickness_mm") / 10,
            of("sensor_mm") / 3,
            of("effective_z") / 40 - 1,
            of("sensor_z") / 10,
            (count[:, None] - number) / 20,
        ]
        shower = [
            (log_e - 9) / 1.5,
            dx,
            dy,
            dz - 1,
            (charge == 0).float(),
            charge,
            _column(whole, "field_tesla", WHOLE) / 3,
            _column(whole, "effective_z", WHOLE) / 40 - 1,
            count / 20,
            geometry.cell[which],
        ]
        zero = torch.zeros(())
        even = torch.where(valid, log_e.exp()[:, None] / (10 * count[:, None]), zero)
        told = torch.where(valid[..., None], torch.stack(layer, dim=-1), zero)
        return Told(
            shower=torch.stack(shower, dim=1),
            layer=told,
            valid=valid,
            points=even,
            energy_mev=even,
            calibration=torch.ones(valid.shape),
            phi=directions(number, even),
            detail=torch.zeros(*valid.shape, 0),
        )

    def scale_mm(self, detector: Detector) -> float:
        """20 mm everywhere."""
        return 20.0

    def squeeze(self, xy: Tensor, slope: Tensor) -> Tensor:
        """As it is."""
        return xy

    def stretch(self, xy: Tensor, slope: Tensor) -> Tensor:
        """As it is."""
        return xy


COORDINATES: dict[str, type[Coordinates]] = {"universal": UniversalCoordinates, "raw": RawCoordinates}

"""What the point denoiser may be told of a point's shower and layer: named quantities in a table."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor

from anycalo.errors import ModelError
from anycalo.geometry.file import suggest


@dataclass(frozen=True, kw_only=True)
class Event:
    """B showers as the flow describes them.

    Args:
        energy_mev: incident energy, (B,).
        direction: unit vectors, (B, 3).
        charge: of the particle, (B,).
        n: points of each layer, (B, L).
        e: visible energy of each layer in MeV, (B, L).
        log_width: logarithm of the lateral width, (B,).
        z_mm: depth of each layer, (L,).
    """

    energy_mev: Tensor
    direction: Tensor
    charge: Tensor
    n: Tensor
    e: Tensor
    log_width: Tensor
    z_mm: Tensor


_SHOWER: dict[str, Callable[[Event], Tensor]] = {
    "log_energy": lambda v: v.energy_mev.log(),
    "dx": lambda v: v.direction[:, 0],
    "dy": lambda v: v.direction[:, 1],
    "dz": lambda v: v.direction[:, 2],
    "charge": lambda v: v.charge,
    "log_points": lambda v: v.n.sum(1).clamp_min(1).log(),
    "log_width": lambda v: v.log_width,
}
_LAYER: dict[str, Callable[[Event], Tensor]] = {
    "depth": lambda v: v.z_mm.expand_as(v.n),
    "spacing": lambda v: torch.diff(v.z_mm, prepend=v.z_mm.new_zeros(1)).expand_as(v.n),
    "log_layer_points": lambda v: v.n.clamp_min(1).log(),
    "log_mean_energy": lambda v: (v.e / v.n.clamp_min(1)).clamp_min(1e-6).log(),
}
SHOWER_CONDITIONS: Mapping[str, Callable[[Event], Tensor]] = MappingProxyType(_SHOWER)
LAYER_CONDITIONS: Mapping[str, Callable[[Event], Tensor]] = MappingProxyType(_LAYER)


def check_conditions(names: tuple[str, ...], *, of_layer: bool) -> None:
    """Refuse unknown names, and quantities of a layer where `of_layer` is false.

    Raises:
        ModelError: naming what is allowed.
    """
    allowed = [*SHOWER_CONDITIONS, *(LAYER_CONDITIONS if of_layer else ())]
    for name in names:
        if name not in allowed:
            why = " It belongs to a layer, which is not known while depth is generated." if name in LAYER_CONDITIONS else ""
            raise ModelError(
                f"condition '{name}' is not available.{why}{suggest(name, allowed)} Allowed: {', '.join(allowed)}."
            )


def condition_table(names: tuple[str, ...], event: Event) -> Tensor:
    """The named quantities for every shower and layer, (B * L, C)."""
    columns = []
    for name in names:
        if name in SHOWER_CONDITIONS:
            columns.append(SHOWER_CONDITIONS[name](event)[:, None].expand_as(event.n))
        else:
            columns.append(LAYER_CONDITIONS[name](event))
    return torch.stack(columns, dim=-1).reshape(-1, len(names)).to(torch.float32)

"""Configuration of the `caloclouds` family."""

from __future__ import annotations

from dataclasses import dataclass, field

from anycalo.errors import ModelError
from anycalo.models.conditions import check_conditions
from anycalo.models.consistency import DistillConfig
from anycalo.models.edm import EDM
from anycalo.models.flow import FlowConfig
from anycalo.models.mean_flow import MeanFlowConfig
from anycalo.models.pointwise import PointwiseConfig
from anycalo.models.samplers import SAMPLERS

ATTEMPTS = 50
"""How often a shower is drawn by the flow before it is given up."""


@dataclass(frozen=True, kw_only=True)
class CaloCloudsConfig:
    """Configuration of the family.

    Args:
        flow, network, schedule: of the parts.
        depth: `conditioned` or `generated` (as published).
        conditions: what the denoiser is told; see `conditions`.
        lateral_moments: whether the flow draws each shower's centre and width.
        radial_scale_mm: radius at which the compression of positions turns from linear to logarithmic.
        centre_scale_mm, width_scale_mm: the same in measuring the centre and the width of a shower.
        merge_radius_mm, merge_energy_mev: deposits closer and together weaker than this are joined before training.
        sampler: of the denoiser, `heun-angle`, `heun`, `euler-angle` or `euler`; `consistency` and `mean-flow` generate
            with the networks of `distill` and `mean_flow`.
        steps: of the sampler; for `consistency` and `mean-flow` the number of network evaluations.
        distill: settings of consistency distillation; no such stage and network where there are none.
        mean_flow: settings of MeanFlow, likewise.
    """

    flow: FlowConfig = field(default_factory=FlowConfig)
    network: PointwiseConfig = field(default_factory=PointwiseConfig)
    schedule: EDM = field(default_factory=EDM)
    depth: str = "conditioned"
    conditions: tuple[str, ...] = ("log_energy", "depth", "spacing", "log_layer_points", "log_mean_energy", "log_width")
    lateral_moments: bool = True
    radial_scale_mm: float = 3.0
    centre_scale_mm: float = 3.0
    width_scale_mm: float = 20.0
    merge_radius_mm: float = 1.2
    merge_energy_mev: float = 1.3
    sampler: str = "heun-angle"
    steps: int = 10
    distill: DistillConfig | None = None
    mean_flow: MeanFlowConfig | None = None

    def __post_init__(self) -> None:
        if self.depth not in ("conditioned", "generated"):
            raise ModelError(f"depth is {self.depth!r}; expected 'conditioned' or 'generated'")
        one_step = {"consistency": self.distill, "mean-flow": self.mean_flow}
        if self.sampler not in SAMPLERS and self.sampler not in one_step:
            raise ModelError(f"sampler is {self.sampler!r}; expected one of {', '.join([*SAMPLERS, *one_step])}")
        if self.sampler in one_step and one_step[self.sampler] is None:
            table = "distill" if self.sampler == "consistency" else "mean_flow"
            raise ModelError(f"sampler is {self.sampler!r}, and there is no table '{table}'; add it, it may be empty")
        jumps = self.sampler == "consistency" and self.distill is not None and self.distill.method == "trajectory"
        if jumps and self.steps > 1:
            raise ModelError(f"steps is {self.steps}; expected 1: a student of whole trajectories jumps from pure noise alone")
        if self.depth == "generated" and self.mean_flow is not None and self.mean_flow.physics_weight:
            raise ModelError("physics_weight is above 0 and depth is 'generated'; expected depth 'conditioned', or weight 0")
        for name in ("radial_scale_mm", "centre_scale_mm", "width_scale_mm"):
            if not getattr(self, name) > 0:
                raise ModelError(f"{name} is {getattr(self, name)!r}; expected a length above 0")
        if self.steps < 1 or self.merge_radius_mm < 0:
            raise ModelError(f"steps is {self.steps} and merge_radius_mm {self.merge_radius_mm}; expected at least 1 and 0")
        check_conditions(self.conditions, of_layer=self.depth == "conditioned")


def no_physical_shower(energy_mev: float, trained_mev: tuple[float, float]) -> ModelError:
    """What is raised where a particle's shower stays unphysical however often it is drawn."""
    return ModelError(
        f"no physical shower in {ATTEMPTS} draws for a particle of {energy_mev:.6g} MeV. The model was trained from"
        f" {trained_mev[0]:.6g} to {trained_mev[1]:.6g} MeV: ask for that range, or train longer."
    )

"""MeanFlow: a network that gives the mean velocity of the flow between two times (arXiv 2505.13447, 2512.02012).

u(z, r, t) is the mean velocity of the linear path on the way from t down to r, so that z_r = z_t - (t - r) u(z_t, r, t), and
one evaluation with r = 0 and t = 1 makes data of noise.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from anycalo.errors import ModelError
from anycalo.models.edm import Denoiser
from anycalo.models.objectives import mean_flow_loss, squares
from anycalo.models.paths import linear_point, velocity_from_denoiser
from anycalo.models.pointwise import Condition, Pointwise, extended
from anycalo.models.solvers import along
from anycalo.models.starts import StartConfig

GAP_FEATURES = 8
TIME_SCALE = 2.0
"""Spread of the frequencies in which a network of mean velocities is told the angle, from 0 to 1."""
_SMALLEST_ANGLE = 0.004


@dataclass(frozen=True, kw_only=True)
class MeanFlowConfig:
    """Settings of MeanFlow.

    Args:
        different: fraction of the examples with r below t; the others are flow matching. With 0 the network is one of
            flow matching alone (arXiv 2210.02747), and the sampler is Euler's method.
        times: `uniform` or `log-normal` (both times a logistic of normal numbers, as published).
        time_mean, time_std: of those normal numbers.
        power: of the adaptive weight; 1 as published, 0 for none.
        velocity: what u is regressed on and differentiated along: `conditional`, e - x for both, as published;
            `predicted`, e - x and u(z, t, t), the improved form; `teacher`, the velocity of the denoiser for both.
        teacher_start: whether the network begins with the denoiser's weights.
        start: a learned start; the standard normal where there is none.
        physics_weight: of the physics-informed term; 0 for none.
        physics_showers: showers of a batch that are generated for it.
    """

    different: float = 0.75
    times: str = "uniform"
    time_mean: float = -0.4
    time_std: float = 1.0
    power: float = 0.0
    velocity: str = "teacher"
    teacher_start: bool = True
    start: StartConfig | None = None
    physics_weight: float = 0.0
    physics_showers: int = 2

    def __post_init__(self) -> None:
        if not 0 <= self.different <= 1:
            raise ModelError(f"different is {self.different!r}; expected a fraction from 0 to 1")
        if self.times not in ("uniform", "log-normal"):
            raise ModelError(f"times is {self.times!r}; expected 'uniform' or 'log-normal'")
        if self.velocity not in ("conditional", "predicted", "teacher"):
            raise ModelError(f"velocity is {self.velocity!r}; expected 'conditional', 'predicted' or 'teacher'")
        if self.velocity == "teacher" and self.start is not None:
            raise ModelError(
                "velocity is 'teacher' and there is a learned start; expected 'predicted' or 'conditional': the denoiser knows"
                " the way from the standard normal alone"
            )
        if not self.time_std > 0 or self.power < 0 or self.physics_weight < 0 or self.physics_showers < 1:
            raise ModelError(
                f"time_std is {self.time_std!r}, power {self.power!r}, physics_weight {self.physics_weight!r} and"
                f" physics_showers {self.physics_showers!r}; expected above 0, at least 0, at least 0 and at least 1"
            )

    def draw_times(self, normal: Tensor) -> tuple[Tensor, Tensor]:
        """Times r <= t, (B,) each, from three normal numbers an example: two times, and whether they differ."""
        two = normal[:, :2]
        two = torch.special.ndtr(two) if self.times == "uniform" else torch.sigmoid(self.time_mean + self.time_std * two)
        if not self.different:
            return two[:, 0], two[:, 0]
        t, r = two.max(dim=1).values, two.min(dim=1).values
        same = torch.special.ndtr(normal[:, 2]) >= self.different
        return torch.where(same, t, r), t


class AverageVelocity(nn.Module):
    """u(z, r, t) around a network F(x, time, condition) preconditioned as an EDM denoiser is.

    With data of spread d, a start of spread a and n^2 = a^2 t^2 + d^2 (1 - t)^2, the best linear guess of e - x is
    z (a^2 t - d^2 (1 - t)) / n^2 and what is left has spread a d / n:

        u(z, r, t) = z (a^2 t - d^2 (1 - t)) / n^2 - (a d / n) F(z / n, angle, (condition, t - r)).

    For a = 1 and r = t this is the velocity of an EDM denoiser with the network F, but for how F is told the time: the angle
    arctan(a t / (d (1 - t))) over pi/2 has a bounded derivative in t, of which MeanFlow makes its target, and the logarithm
    of the noise level has not (with it, training diverged). The features of t - r are 0 at r = t.

    Args:
        network: F, whose condition has `GAP_FEATURES` more than given to `forward`.
        data_spread, start_spread: d and a.
    """

    frequencies: Tensor

    network: Pointwise

    def __init__(self, network: Pointwise, *, data_spread: float, start_spread: float = 1.0) -> None:
        super().__init__()
        self.network = network
        self.data_spread, self.start_spread = data_spread, start_spread
        self.register_buffer("frequencies", torch.pi / 2 * torch.arange(1, GAP_FEATURES // 2 + 1))

    def forward(self, z: Tensor, r: Tensor, t: Tensor, condition: Condition) -> Tensor:
        """Mean velocity from r to t.

        Args:
            z: states at t, (P, F).
            r: time to go to, (P,), or a scalar.
            t: time of z, likewise.
            condition: (P, C), or a table and rows.
        """
        a, d, s = self.start_spread, self.data_spread, 1 - t
        size = (a**2 * t**2 + d**2 * s**2).sqrt()
        phase = (t - r)[..., None] * self.frequencies
        told = extended(condition, torch.cat([phase.sin(), phase.cos() - 1], dim=-1))
        time = torch.atan2(a * t, d * s) / (torch.pi / 2)
        linear = along((a**2 * t - d**2 * s) / size**2, z) * z
        out: Tensor = linear - along(a * d / size, z) * self.network(z / along(size, z), time, told)
        return out

    @torch.no_grad()
    def adopt(self, teacher: Pointwise) -> None:
        """Begin nearly as the velocity of an EDM denoiser with this network, whatever r.

        The weights are its own, those of the features of t - r are 0, and the embedding of the time is fitted to
        the teacher's embedding of the noise level by least squares over the angles.
        """
        own, known = self.network.state_dict(), teacher.state_dict()
        for name, tensor in known.items():
            if not name.startswith("time."):
                own[name].zero_()[..., : tensor.shape[-1]] = tensor
        grid = torch.linspace(_SMALLEST_ANGLE, 1 - _SMALLEST_ANGLE, 400, device=self.frequencies.device)
        wanted = teacher.time((self.data_spread * torch.tan(grid * torch.pi / 2)).log() / 4)
        self.network.time.fit(grid, wanted)


def average_velocity_loss(
    average: AverageVelocity,
    config: MeanFlowConfig,
    x: Tensor,
    e: Tensor,
    condition: Tensor,
    normal: Tensor,
    teacher: Denoiser,
) -> Tensor:
    """The objective of MeanFlow for points.

    Args:
        average: u.
        config: settings.
        x: clean data, (P, F).
        e: where each starts, (P, F).
        condition: (P, C).
        normal: (P, 3), for the times.
        teacher: an EDM denoiser, for `velocity = "teacher"`.
    """
    r, t = config.draw_times(normal)
    z = linear_point(x, e, t)
    u = partial(_bound, average, condition)
    v, tangent = e - x, None
    with torch.no_grad():
        if config.velocity == "teacher":
            v = velocity_from_denoiser(lambda x, sigma: teacher(x, sigma, condition))(z, t)
        elif config.velocity == "predicted" and config.different:
            tangent = u(z, t, t)
    if not config.different:
        return squares(u(z, t, t), v, None).mean()
    return mean_flow_loss(u, z, v, r, t, tangent=tangent, power=config.power)


def _bound(average: AverageVelocity, condition: Condition, z: Tensor, r: Tensor, t: Tensor) -> Tensor:
    out: Tensor = average(z, r, t, condition)
    return out

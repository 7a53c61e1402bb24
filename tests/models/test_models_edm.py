"""EDM: preconditioning, schedule, samplers against a Gaussian whose probability flow is known."""

import math

import numpy as np
import pytest
import torch

from anycalo.errors import ModelError
from anycalo.models.edm import EDM, Denoiser
from anycalo.models.objectives import edm_loss
from anycalo.models.samplers import SAMPLERS, euler, heun, heun_angle

SPREAD, CENTRE = 0.7, 0.3


def gaussian_denoiser(x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
    """E[x_0 | x] for x_0 ~ N(CENTRE, SPREAD^2)."""
    return CENTRE + SPREAD**2 / (SPREAD**2 + sigma**2) * (x - CENTRE)


def exact(x: torch.Tensor, start: float, stop: float) -> torch.Tensor:
    """The probability flow of the Gaussian keeps (x - mean) / sqrt(SPREAD^2 + sigma^2)."""
    return CENTRE + (x - CENTRE) * math.sqrt((SPREAD**2 + stop**2) / (SPREAD**2 + start**2))


METHODS = {"euler": euler, "heun": heun, "heun-angle": lambda *given: heun_angle(*given, sigma_data=0.5)}


@pytest.mark.parametrize(("name", "order"), [("euler", 1), ("heun", 2), ("heun-angle", 2)])
def test_order_of_convergence(name: str, order: int) -> None:
    x = torch.linspace(-3, 3, 7, dtype=torch.float64)
    errors = []
    for steps in (16, 32, 64):
        sigmas = torch.linspace(2.0, 0.1, steps + 1, dtype=torch.float64)
        found = METHODS[name](gaussian_denoiser, x, sigmas)
        errors.append(float((found - exact(x, 2.0, 0.1)).abs().max()))
    measured = np.log2(errors[0] / errors[2]) / 2
    assert -0.4 < measured - order < 0.4


def test_heun_on_the_schedule_of_edm_reaches_the_data() -> None:
    x = 80 * torch.linspace(-2, 2, 9, dtype=torch.float64)
    found = heun(gaussian_denoiser, x, EDM().steps(40))
    torch.testing.assert_close(found, exact(x, 80.0, 0.0), rtol=0, atol=0.02)
    one_euler_step = euler(gaussian_denoiser, x, EDM().steps(1))
    assert float((one_euler_step - exact(x, 80.0, 0.0)).abs().max()) > 0.5


@pytest.mark.parametrize(("name", "widening"), [("heun-angle", (0.97, 1.03)), ("heun", (1.1, 1.25))])
def test_width_of_what_ten_steps_make(name: str, widening: tuple[float, float]) -> None:
    """Narrow, typical and wide Gaussians come out as wide as they are; with EDM's own levels, wider."""
    for spread in (0.1, 0.25, 0.5, 0.8):
        x = torch.tensor([math.sqrt(spread**2 + 80**2)], dtype=torch.float64)
        made = SAMPLERS[name](lambda x, sigma, s=spread: s**2 / (s**2 + sigma**2) * x, x, EDM(), 10 if "angle" in name else 13)
        assert widening[0] < float(made) / spread < widening[1]


def test_angle_is_exact_for_the_spread_of_the_data() -> None:
    x = torch.tensor([math.sqrt(0.25 + 80**2)], dtype=torch.float64)
    made = SAMPLERS["heun-angle"](lambda x, sigma: 0.25 / (0.25 + sigma**2) * x, x, EDM(), 2)
    assert float(made) == pytest.approx(0.5, rel=1e-9)


def test_schedule_falls_from_largest_to_smallest_noise_and_zero() -> None:
    sigmas = EDM().steps(13)
    assert len(sigmas) == 14
    assert sigmas[0] == pytest.approx(80.0)
    assert sigmas[-2] == pytest.approx(0.002)
    assert sigmas[-1] == 0
    assert (torch.diff(sigmas) < 0).all()
    # Equation 5 with rho = 7 at i = 6 of 12 steps: ((80^(1/7) + 0.002^(1/7)) / 2)^7.
    assert sigmas[6] == pytest.approx(((80 ** (1 / 7) + 0.002 ** (1 / 7)) / 2) ** 7)


def test_preconditioning_gives_unit_variance_to_the_network() -> None:
    seen = {}

    class Spy(torch.nn.Module):
        def forward(self, x: torch.Tensor, time: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
            seen["x"], seen["time"] = x, time
            return torch.zeros_like(x)

    generator = torch.Generator().manual_seed(0)
    for sigma in (0.01, 0.5, 10.0):
        noisy = 0.5 * torch.randn(20_000, 2, generator=generator) + sigma * torch.randn(20_000, 2, generator=generator)
        clean = Denoiser(Spy(), EDM())(noisy, torch.full((20_000,), sigma), torch.zeros(20_000, 1))
        # 40,000 numbers: the standard deviation is known to 0.35 %; 6 of those are allowed.
        assert float(seen["x"].std()) == pytest.approx(1, abs=0.021)
        assert float(seen["time"][0]) == pytest.approx(math.log(sigma) / 4)
        # With a silent network the denoiser is the best linear estimate.
        torch.testing.assert_close(clean, noisy * 0.25 / (0.25 + sigma**2))


def test_loss_of_a_silent_network_is_one() -> None:
    class Silent(torch.nn.Module):
        def forward(self, x: torch.Tensor, time: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
            return torch.zeros_like(x)

    generator = torch.Generator().manual_seed(1)
    x = 0.5 * torch.randn(200_000, 2, generator=generator)
    normal = torch.randn(200_000, 3, generator=generator)
    loss = edm_loss(Denoiser(Silent(), EDM()), x, torch.zeros(200_000, 1), normal)
    # The weighted squared error of data of unit signal is 1 at every noise level; 6 standard errors of 400,000 terms.
    assert float(loss) == pytest.approx(1, abs=6 * math.sqrt(2 / 400_000))


@pytest.mark.parametrize("wrong", [{"sigma_data": 0.0}, {"p_std": -1.0}, {"sigma_min": 90.0}, {"rho": 0.0}])
def test_wrong_configuration_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ModelError, match="expected"):
        EDM(**wrong)


def test_no_step_is_refused() -> None:
    for steps in (EDM().steps, EDM().angle_steps):
        with pytest.raises(ModelError, match="at least 1"):
            steps(0)

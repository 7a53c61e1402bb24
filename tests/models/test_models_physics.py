"""The physics-informed loss: observables by hand, gradients, and a score that rewards the right spread."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from anycalo.errors import ModelError
from anycalo.models.physics import PHYSICS, PointSet, check_observables, energy_score, observe, physics_loss, scales

Z_MM = torch.tensor([2.0, 5.0, 9.0])


def some(seed: int, showers: int = 4, each: int = 12, *, grad: bool = False) -> PointSet:
    generator = torch.Generator().manual_seed(seed)
    n = showers * each
    x, y, e = torch.randn(n, generator=generator), torch.randn(n, generator=generator), torch.rand(n, generator=generator)
    return PointSet(
        x_mm=(8 * x).requires_grad_(grad),
        y_mm=(6 * y).requires_grad_(grad),
        energy_mev=(e + 0.1).requires_grad_(grad),
        layer=torch.randint(3, (n,), generator=generator),
        shower=torch.arange(showers).repeat_interleave(each),
        showers=showers,
        z_mm=Z_MM,
    )


def test_observables_by_hand() -> None:
    points = some(0)
    found = observe(points)
    assert set(found) == set(PHYSICS)
    for b in range(4):
        own = (points.shower == b).numpy()
        x, y, e = (t.numpy()[own] for t in (points.x_mm, points.y_mm, points.energy_mev))
        layer = points.layer.numpy()[own]
        z = Z_MM.numpy()[layer]
        by_layer = np.array([e[layer == k].sum() for k in range(3)])
        expected = {
            "layer_energies": by_layer,
            "total_energy": [e.sum()],
            "longitudinal_profile": by_layer / e.sum(),
            "centre": [np.average(v, weights=e) for v in (x, y, z)],
            "widths": [math.sqrt(np.average((v - np.average(v, weights=e)) ** 2, weights=e)) for v in (x, y, z)],
            "log_energy_moments": [np.log(e).mean(), (np.log(e) ** 2).mean()],
        }
        r = np.hypot(x, y)
        soft = [np.average(1 / (1 + (edge / r) ** 4), weights=e) for edge in (4.0, 8.0, 16.0, 32.0)]
        for name, values in {**expected, "radial_profile": soft}.items():
            np.testing.assert_allclose(found[name][b].numpy(), values, rtol=1e-4, atol=1e-4, err_msg=name)


@pytest.mark.parametrize("name", list(PHYSICS))
def test_every_observable_has_a_gradient(name: str) -> None:
    points = some(1, grad=True)
    loss = observe(points, (name,))[name].square().sum()
    gradients = torch.autograd.grad(loss, [points.x_mm, points.y_mm, points.energy_mev], allow_unused=True)
    given = [g for g in gradients if g is not None]
    assert all(bool(torch.isfinite(g).all()) for g in given)
    assert max(float(g.abs().max()) for g in given) > 1e-4


def test_gradient_against_differences() -> None:
    points = some(2)

    def loss(energy: Tensor) -> Tensor:
        moved = PointSet(**{**vars(points), "energy_mev": energy})
        return torch.stack([v.sum() for v in observe(moved).values()]).sum()

    assert torch.autograd.gradcheck(loss, (points.energy_mev.double().requires_grad_(),), eps=1e-6, atol=1e-3)


def test_the_score_is_least_at_the_true_spread_and_a_squared_distance_at_none() -> None:
    """Generated N(0, s^2) against true N(0, 1): the score is least near s = 1, the mean square near s = 0."""
    generator = torch.Generator().manual_seed(3)
    a, b, t = torch.randn(3, 20_000, 1, generator=generator)
    spreads = [0.0, 0.4, 0.7, 1.0, 1.4, 2.0]
    scores = [float(energy_score(s * a, s * b, t)) for s in spreads]
    squares = [float((s * a - t).square().mean()) for s in spreads]
    assert spreads[int(np.argmin(scores))] == 1.0
    assert spreads[int(np.argmin(squares))] == 0.0
    # For N(0, 1) the expected score is E|a - t| / 2 = 1 / sqrt(pi); 5 standard errors.
    assert scores[3] == pytest.approx(1 / math.sqrt(math.pi), abs=5 / math.sqrt(20_000))


def test_the_score_feels_correlations() -> None:
    generator = torch.Generator().manual_seed(4)
    a, b, t = torch.randn(3, 40_000, 2, generator=generator)
    turn = torch.tensor([[1.0, 0.9], [0.0, math.sqrt(1 - 0.81)]])
    right, wrong = energy_score(a @ turn, b @ turn, t @ turn), energy_score(a, b, t @ turn)
    assert float(wrong - right) > 0.02


def test_showers_do_not_collapse_onto_the_mean() -> None:
    """Widths and energies of toy showers, learnt from the loss alone: spread between showers and their correlation.

    A shower draws one number that scales its radii and lowers its energies. The generator has a free gain on its own such
    number; trained with the score it finds the truth's, and with a squared distance of the observables it loses it.
    """
    generator = torch.Generator().manual_seed(5)
    each, showers, names = 60, 40, ("widths", "total_energy")

    def made(gain: Tensor, seed: Tensor, normal: Tensor) -> PointSet:
        size = (gain * seed).exp().repeat_interleave(each)
        return PointSet(
            x_mm=5 * size * normal[:, 0],
            y_mm=5 * size * normal[:, 1],
            energy_mev=normal[:, 2].exp() / size,
            layer=torch.zeros(len(normal), dtype=torch.long),
            shower=torch.arange(showers).repeat_interleave(each),
            showers=showers,
            z_mm=Z_MM,
        )

    def draw(gain: Tensor) -> PointSet:
        return made(gain, torch.randn(showers, generator=generator), torch.randn(showers * each, 3, generator=generator))

    true = torch.tensor(0.3)
    unit = scales(draw(true), names)
    gains = []
    for proper in (True, False):
        gain = torch.tensor(0.15, requires_grad=True)
        optimiser = torch.optim.Adam([gain], lr=0.02)
        for _ in range(120):
            truth, first, second = draw(true), draw(gain), draw(gain)
            if proper:
                loss = physics_loss(first, second, truth, unit)
            else:
                a, t = observe(first, names), observe(truth, names)
                loss = torch.stack([((a[k] - t[k]) / unit[k]).square().mean() for k in names]).mean()
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
        gains.append(abs(float(gain.detach())))
    assert gains[0] == pytest.approx(0.3, abs=0.06)
    assert gains[1] < 0.1


def test_the_true_showers_score_better_than_shifted_ones() -> None:
    truth = some(6, 200)
    unit = scales(truth)
    right = physics_loss(some(7, 200), some(8, 200), truth, unit)
    wide = [PointSet(**{**vars(s), "x_mm": 1.3 * s.x_mm}) for s in (some(7, 200), some(8, 200))]
    assert float(physics_loss(*wide, truth, unit)) > float(right)


def test_what_does_not_vary_keeps_its_scale() -> None:
    points = some(9)
    flat = PointSet(**{**vars(points), "layer": torch.zeros_like(points.layer)})
    assert bool((scales(flat)["layer_energies"][1:] == 1).all())


def test_unknown_observables_are_refused() -> None:
    check_observables(("widths", "centre"))
    with pytest.raises(ModelError, match="Did you mean 'widths'"):
        check_observables(("width",))

"""The network of one layer: no cell sees a later one, probabilities add up, generation equals the full pass."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from anycalo.errors import ModelError
from anycalo.geometry import Detector, atlas_like
from anycalo.models.made import CellNetwork, CellNetworkConfig, Places
from anycalo.models.segmentation import segment
from anycalo.models.spiral import SpiralPath, spiral_path


def path_of(grid: str, window: int = 1) -> SpiralPath:
    detector: Detector = segment(atlas_like(), [grid] * 3)
    return spiral_path(detector.layers[0].readout, detector.size_mm, window=window)


def network(classes: int = 3, masked_layers: int = 3, window: int = 1) -> CellNetwork:
    """An untrained network whose cells depend on each other strongly."""
    torch.manual_seed(5)
    config = CellNetworkConfig(hidden=8, sums=6, window=window, classes=classes, bumps=4)
    out = CellNetwork(config, masked_layers, 2)
    with torch.no_grad():
        for name, parameter in out.named_parameters():
            if name.endswith(("read.weight", "write.weight", "beside.weight")):
                parameter.mul_(2.0)
        out.values[1:, 0] = 1.0
        out.hit.bias.zero_()
    out.fit([Places.of(path_of("5x3"), 10.0), Places.of(path_of("4x4"), 10.0)])
    return out.double()


def as_double(places: Places) -> Places:
    return Places(place=places.place.double(), neighbours=places.neighbours)


@pytest.mark.parametrize("masked_layers", [1, 4])
@pytest.mark.parametrize("grid", ["5x3", "2+1x4"])
def test_no_cell_sees_itself_or_a_later_one(grid: str, masked_layers: int) -> None:
    net, places = network(masked_layers=masked_layers), as_double(Places.of(path_of(grid), 10.0))
    d = len(places.place)
    condition = torch.randn(1, 2, dtype=torch.float64)

    def outputs(values: Tensor) -> Tensor:
        h = net.features(values[None], places, condition)
        return torch.cat([net.hit(h), net.energy(h)], dim=-1)[0].pow(2).sum(1)

    values = torch.rand(d, 3, dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(outputs, values).abs().sum(2)
    above = torch.triu(torch.ones(d, d, dtype=torch.bool))
    assert float(jacobian[above].max()) == 0.0
    # And it does see every earlier one.
    assert float(jacobian[~above].min()) > 0.0


@pytest.mark.parametrize("masked_layers", [1, 3])
def test_probabilities_of_all_images_add_up_to_one(masked_layers: int) -> None:
    net, places = network(classes=3, masked_layers=masked_layers), as_double(Places.of(path_of("2x2"), 10.0))
    images = torch.tensor(list(itertools.product(range(4), repeat=4)))
    condition = torch.tensor([[0.3, -1.0]], dtype=torch.float64).expand(len(images), 2)
    p = net.log_likelihood(images, places, condition).sum(1).exp().detach()
    assert float(p.sum()) == pytest.approx(1.0, abs=1e-9)
    assert float(p.max()) > 3 * float(p.mean())


def test_sampled_frequencies_are_the_probabilities() -> None:
    """256 images, 40,000 draws; a correct sampler exceeds the bound once in 1e5 seeds, one that ignores the past always."""
    net, places = network(classes=3), as_double(Places.of(path_of("2x2"), 10.0))
    images = torch.tensor(list(itertools.product(range(4), repeat=4)))
    condition = torch.tensor([[0.3, -1.0]], dtype=torch.float64)
    p = net.log_likelihood(images, places, condition.expand(len(images), 2)).sum(1).exp().detach()
    n = 40_000
    uniform = torch.rand(n, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    net, places = net.float(), Places.of(path_of("2x2"), 10.0)
    classes, _ = net.generate(uniform.float(), places, condition.expand(n, 2).float())
    code = (classes * torch.tensor([64, 16, 4, 1])).sum(1)

    def chi2(q: Tensor) -> tuple[float, int]:
        found = torch.bincount(code, minlength=256)
        big = q * n > 5
        rest = (found[~big].sum() - n * q[~big].sum()) ** 2 / (n * q[~big].sum()).clamp_min(1e-9)
        return float(((found[big] - n * q[big]) ** 2 / (n * q[big])).sum() + rest), int(big.sum())

    value, bins = chi2(p)
    assert value < bins + 4.5 * (2 * bins) ** 0.5 + 10
    single = [torch.stack([p[images[:, i] == k].sum() for k in range(4)]) for i in range(4)]
    independent = torch.stack([single[i][images[:, i]] for i in range(4)]).prod(0)
    value, bins = chi2(independent)
    assert value > 5 * bins


@pytest.mark.parametrize("masked_layers", [1, 4])
def test_incremental_generation_is_the_full_pass(masked_layers: int) -> None:
    """Every cell drawn lies where its uniform number falls in the distribution that a full pass gives that cell."""
    net = network(classes=7, masked_layers=masked_layers, window=2).float()
    places = Places.of(path_of("5x3", window=2), 10.0)
    n, d = 50, len(places.place)
    uniform = torch.rand(n, d, generator=torch.Generator().manual_seed(2))
    condition = torch.randn(n, 2, generator=torch.Generator().manual_seed(3))
    classes, within = net.generate(uniform, places, condition)
    assert {int(k) for k in classes.unique()} == set(range(8))
    with torch.no_grad():
        h = net.features(net.values[classes], places, condition)
        hit = torch.sigmoid(net.hit(h))
        p = torch.cat([1 - hit, hit * torch.softmax(net.energy(h) @ net.basis, dim=-1)], dim=-1)
    above = p.cumsum(-1)
    low = (above - p).gather(-1, classes[..., None])[..., 0]
    mass = p.gather(-1, classes[..., None])[..., 0]
    drawn = classes > 0
    torch.testing.assert_close((low + within * mass)[drawn], uniform[drawn], atol=2e-4, rtol=0)
    assert (uniform[~drawn] <= mass[~drawn] + 2e-4).all()
    twin = net.generate(uniform, places, condition + 1.0)[0]
    assert (twin != classes).any()


def test_a_likelihood_can_be_learnt() -> None:
    """One image again and again: its probability goes towards 1, and generation gives it back."""
    net = network(classes=3, masked_layers=2).float()
    places = Places.of(path_of("3x2"), 10.0)
    image = torch.tensor([[3, 0, 2, 0, 0, 1]]).expand(8, 6)
    condition = torch.zeros(8, 2)
    optimiser = torch.optim.Adam(net.parameters(), lr=2e-2)
    for _ in range(80):
        loss = -net.log_likelihood(image, places, condition).sum(1).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert float(loss.detach()) < 0.3
    made, _ = net.generate(torch.full((8, 6), 0.5), places, condition)
    assert torch.equal(made, image)


@pytest.mark.parametrize("wrong", [{"hidden": 0}, {"sums": 0}, {"window": -1}, {"classes": 0}, {"bumps": 0}])
def test_wrong_sizes_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ModelError, match=next(iter(wrong))):
        CellNetworkConfig(**wrong)

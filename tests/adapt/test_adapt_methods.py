"""Methods of adaptation: what each trains, that nothing changes before a step, and the way back."""

from __future__ import annotations

import re

import pytest
import torch
from torch import Tensor, nn

from anycalo.adapt import METHODS, Adaptation, Method, chosen_parameters
from anycalo.errors import TrainingError
from anycalo.geometry import Detector
from anycalo.models import FAMILIES, Domain, parameter_count
from anycalo.models.anycalo import AnyCaloConfig
from anycalo.models.edm import Denoiser
from anycalo.models.flow import FlowConfig, ShowerFlow
from anycalo.models.point_flow import PointFlow, PointFlowConfig
from anycalo.models.pointwise import Pointwise, PointwiseConfig
from anycalo.train import Recipe
from toyshowers import toy_showers


def published_denoiser() -> Denoiser:
    """The denoiser of CaloClouds II."""
    torch.manual_seed(0)
    config = Recipe.load("caloclouds2").model
    return Denoiser(Pointwise(4, len(config.conditions), config.network), config.schedule)


@pytest.mark.parametrize(
    ("method", "trained"),
    [("full", 504_920), ("bitfit", 2_632), ("bitfit-hyper", 87_376), ("top", 220_504)],
)
def test_the_counts_on_the_published_denoiser(method: str, trained: int) -> None:
    denoiser = published_denoiser()
    adaptation = Adaptation(denoiser, Method(name=method))
    assert (adaptation.trained, adaptation.total) == (trained, 504_920)
    assert sum(p.numel() for p in denoiser.parameters() if p.requires_grad) == trained
    assert str(adaptation) == f"{trained:,} of 504,920 parameters ({trained / 504_920:.2%})"


def test_a_word_in_a_name_makes_no_bias() -> None:
    """Matching the word is how a published count came to include whole matrices."""
    network = nn.ModuleDict({"bias_maker": nn.Linear(3, 2), "bias": nn.Linear(2, 2, bias=False)})
    assert set(chosen_parameters(network, Method(name="bitfit"))) == {"bias_maker.bias"}
    by_word = {name for name, _ in network.named_parameters() if re.search("bias", name)}
    assert by_word == {"bias_maker.weight", "bias_maker.bias", "bias.weight"}


def test_the_rank_sets_the_count() -> None:
    network = nn.Sequential(nn.Linear(10, 7), nn.Linear(7, 3))
    assert Adaptation(network, Method(name="lora", rank=2)).trained == 2 * (10 + 7) + 2 * (7 + 3)
    network = nn.Sequential(nn.Linear(10, 7), nn.Linear(7, 3))
    # No rank above the smaller side.
    assert Adaptation(network, Method(name="lora", rank=5)).trained == 5 * (10 + 7) + 3 * (7 + 3)


class Recurrent(nn.Module):
    """A gated recurrent unit between two maps, as in the anycalo family."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(4, 6)
        self.memory = nn.GRU(6, 5, batch_first=True)
        self.head = nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.memory(self.embed(x))[0])
        return out


def networks() -> dict[str, tuple[nn.Module, tuple[Tensor, ...]]]:
    torch.manual_seed(1)
    x = torch.randn(5, 4)
    flow = ShowerFlow(4, 3, FlowConfig(blocks=1, affine=1, hidden=(8,)))
    for p in flow.parameters():  # couplings start as the identity
        nn.init.normal_(p, std=0.2)

    class Likelihood(nn.Module):
        """The point flow under its own loss."""

        def __init__(self) -> None:
            super().__init__()
            self.flow = PointFlow(3, PointFlowConfig(hidden=8, radius_features=6, bins=4, angle_bins=3))

        def forward(self, told: Tensor, point: Tensor) -> Tensor:
            return self.flow.negative_log_likelihood(told, point)

    return {
        "pointwise": (Pointwise(4, 2, PointwiseConfig(hidden=(8, 8), time_features=4)), (x, torch.rand(5) + 0.1, x[:, :2])),
        "recurrent": (Recurrent(), (torch.randn(2, 7, 4),)),
        "flow": (flow, (x, torch.randn(5, 3))),
        "points": (Likelihood(), (torch.randn(5, 3), torch.randn(5, 3).clamp(-0.9, 0.9))),
    }


def value(module: nn.Module, inputs: tuple[Tensor, ...]) -> Tensor:
    out = module(*inputs)
    return out[0] if isinstance(out, tuple) else out


@pytest.mark.parametrize("name", ["pointwise", "recurrent", "flow", "points"])
@pytest.mark.parametrize("label", [*METHODS, "lora-2"])
def test_nothing_changes_until_a_step_and_all_can_be_undone(name: str, label: str) -> None:
    module, inputs = networks()[name]
    names = set(module.state_dict())
    start = {k: v.clone() for k, v in module.state_dict().items()}
    before = value(module, inputs).detach()
    adaptation = Adaptation(module, Method.parse(label))
    # Matrices are the same bit for bit; with frozen weights a recurrent network may take a kernel that rounds otherwise.
    assert all(torch.equal(getattr(*adaptation._place(k)), start[k]) for k in adaptation._before)
    torch.testing.assert_close(value(module, inputs), before, rtol=1e-6, atol=1e-6)
    optimiser = torch.optim.Adam(adaptation.parameters, lr=1e-2)
    for _ in range(3):
        optimiser.zero_grad()
        value(module, inputs).square().mean().backward()
        optimiser.step()
    trained = value(module, inputs).detach()
    assert not torch.allclose(trained, before, atol=1e-4)
    changes = adaptation.changes()
    adaptation.merge()
    assert set(module.state_dict()) == names
    assert all(p.requires_grad for p in module.parameters())
    torch.testing.assert_close(value(module, inputs), trained, rtol=1e-5, atol=1e-5)
    # Only what is in the changes has moved.
    moved = {k for k, v in module.state_dict().items() if not torch.equal(v, start[k])}
    assert moved
    assert moved <= {key.partition(":")[2] for key in changes}
    again = Adaptation(module, Method.parse(label))
    with torch.no_grad():
        for p in again.parameters:
            p.add_(0.1)
    again.undo()
    assert set(module.state_dict()) == names
    torch.testing.assert_close(value(module, inputs), trained, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("method", [Method(name="lora", rank=2), Method(name="full")])
def test_undone_is_bit_for_bit(method: Method) -> None:
    module, inputs = networks()["recurrent"]
    start = {k: v.clone() for k, v in module.state_dict().items()}
    before = value(module, inputs).detach()
    adaptation = Adaptation(module, method)
    with torch.no_grad():
        for p in adaptation.parameters:
            p.add_(0.3)
    assert not torch.equal(value(module, inputs), before)
    adaptation.undo()
    assert all(torch.equal(v, start[k]) for k, v in module.state_dict().items())
    assert torch.equal(value(module, inputs), before)


def test_a_recurrent_network_feels_the_change() -> None:
    """It computes with a list of its weights, which a parametrisation alone would leave behind."""
    module, inputs = networks()["recurrent"]
    adaptation = Adaptation(module, Method(name="lora", rank=1))
    names = [n for n, p in module.named_parameters() if p.requires_grad and "memory" in n]
    assert {n.split(".")[2] for n in names} == {"weight_ih_l0", "weight_hh_l0"}
    before = value(module, inputs).detach()
    with torch.no_grad():
        for name, p in module.named_parameters():
            if name in names and name.endswith("up"):
                p.fill_(0.5)
    assert not torch.allclose(value(module, inputs), before, atol=1e-3)
    value(module, inputs).sum().backward()
    assert all(p.grad is not None for n, p in module.named_parameters() if n in names)
    adaptation.undo()
    assert torch.equal(value(module, inputs), before)


def test_which_maps_make_biases_of_the_context_in_the_point_flow() -> None:
    module, _ = networks()["points"]
    more = set(chosen_parameters(module, Method(name="bitfit-hyper"))) - set(chosen_parameters(module, Method(name="bitfit")))
    assert more == {"flow.of_context.weight"}


def test_the_top_of_networks_without_squash_layers() -> None:
    flow = networks()["flow"][0]
    assert {n.split(".")[1] for n in chosen_parameters(flow, Method(name="top", last=1))} == {"1"}
    module = Recurrent()
    assert set(chosen_parameters(module, Method(name="top", last=1))) == {"head.weight", "head.bias"}
    assert parameter_count(module.memory) > 0
    assert {n.split(".")[0] for n in chosen_parameters(module, Method(name="top", last=2))} == {"memory", "head"}


def test_the_top_of_the_geometry_aware_networks(small_detector: Detector) -> None:
    """The last maps before the outputs, in every member of the ensemble, for counts and energies, for every coordinate."""
    model = FAMILIES["anycalo"](AnyCaloConfig(), Domain.of([toy_showers(small_detector, 12, 1)]))

    def tops(name: str, last: int) -> set[str]:
        chosen = chosen_parameters(getattr(model, name), Method(name="top", last=last))
        return {key.rpartition(".")[0] for key in chosen}

    members = range(len(model.totals.members))
    assert tops("totals", 3) == {f"members.{k}.{part}" for k in members for part in ("shower.0", "shower.2", "mixture.linear")}
    assert tops("layers", 1) == {"count_mixture.linear", "energy_mixture.linear"}
    assert tops("layers", 3) == {"memory", "count.0", "energy.0", "count_mixture.linear", "energy_mixture.linear"}
    assert tops("points", 2) == {"of_radius", "angle", "energy"}
    assert tops("points", 3) == {"radius", "of_context", "of_radius", "angle", "energy"}
    for name in ("totals", "layers", "points"):
        parts = {key for key, p in getattr(model, name).named_parameters() if p.ndim == 2}
        assert set(chosen_parameters(getattr(model, name), Method(name="lora"))) == parts


def test_labels() -> None:
    assert Method.parse("lora-16") == Method(name="lora", rank=16, alpha=32.0)
    assert [Method.parse(label).label for label in ("full", "bitfit-hyper", "lora-2")] == ["full", "bitfit-hyper", "lora-2"]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Method(name="bitfid"), "Did you mean 'bitfit'?"),
        (lambda: Method(name="lora", rank=0), "rank is 0, last 3 and alpha 8.0; expected at least 1"),
        (lambda: Method.parse("lora-x"), "Expected one of full, bitfit"),
        (lambda: Adaptation(nn.GELU(), Method()), "finds nothing to train in GELU"),
    ],
)
def test_what_is_refused(make: object, message: str) -> None:
    with pytest.raises(TrainingError, match=re.escape(message)):
        make()  # type: ignore[operator]

"""Methods of adaptation, by name: which parameters of a network each of them trains."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from torch import nn

from anycalo.errors import TrainingError
from anycalo.geometry.file import suggest
from anycalo.models.flow import ShowerFlow
from anycalo.models.point_flow import PointFlow
from anycalo.models.pointwise import ContextSquash, FourierTime
from anycalo.models.recurrent import RecurrentLayers
from anycalo.models.totals import Member

METHODS: Mapping[str, str] = MappingProxyType(
    {
        "full": "every parameter",
        "bitfit": "the biases",
        "bitfit-hyper": "the biases, and the matrices that turn the context into biases",
        "top": "the last layers and the embedding of time",
        "lora": "a low-rank change of every matrix",
    }
)
"""Names and what is trained."""


@dataclass(frozen=True, kw_only=True)
class Method:
    """A method of adaptation.

    `bitfit` trains biases alone (arXiv 2106.10199). Which matrices make biases of the context is a matter of the
    architecture: in the pointwise network they are two fifths of a layer's context maps, so that `bitfit-hyper` is another
    method and bears another name.

    Args:
        name: one of `METHODS`.
        rank: of the low-rank change (`lora`); at most the smaller side of each matrix.
        alpha: the change is `alpha / rank` times the product of its factors.
        last: how many layers `top` trains.
    """

    name: str = "full"
    rank: int = 4
    alpha: float = 8.0
    last: int = 3

    def __post_init__(self) -> None:
        if self.name not in METHODS:
            raise TrainingError(f"method is {self.name!r}.{suggest(self.name, METHODS)} Expected one of {', '.join(METHODS)}.")
        if self.rank < 1 or self.last < 1 or not self.alpha > 0:
            raise TrainingError(
                f"rank is {self.rank}, last {self.last} and alpha {self.alpha}; expected at least 1, at least 1, and above 0"
            )

    @property
    def label(self) -> str:
        """The name, with the rank where there is one."""
        return f"lora-{self.rank}" if self.name == "lora" else self.name

    @staticmethod
    def parse(label: str) -> Method:
        """The method of a label: a name, or `lora-R` for rank R and alpha 2 R.

        Raises:
            TrainingError: if it is neither.
        """
        name, _, rank = label.partition("lora-")
        if name == "" and rank.isdigit():
            return Method(name="lora", rank=int(rank), alpha=2.0 * int(rank))
        return Method(name=label)


def chosen_parameters(module: nn.Module, method: Method) -> dict[str, nn.Parameter]:
    """The parameters of a network that a method trains, by name; for `lora` those that get a low-rank change."""
    return {name: p for name, p in module.named_parameters() if name in _CHOICES[method.name](module, method)}


def _all(module: nn.Module, method: Method) -> set[str]:
    return {name for name, _ in module.named_parameters()}


def _biases(module: nn.Module, method: Method) -> set[str]:
    # By what they are, vectors called bias, or bias_ih_l0 of a recurrent network; never by a word within a module's name.
    return {n for n, p in module.named_parameters() if p.ndim == 1 and n.rsplit(".", 1)[-1].split("_")[0] == "bias"}


def _biases_and_makers(module: nn.Module, method: Method) -> set[str]:
    found = _biases(module, method)
    for name, part in module.named_modules():
        if isinstance(part, ContextSquash):
            found.add(_join(name, "shift.weight"))
        elif isinstance(part, PointFlow):
            found.add(_join(name, "of_context.weight"))
    return found


def _top(module: nn.Module, method: Method) -> set[str]:
    wanted: list[nn.Module] = []
    networks = [part for part in module.modules() if type(part) in _PARTS]
    for network in networks or [module]:
        wanted += [part for layer in _layers(network)[-method.last :] for part in layer]
    found: set[str] = set()
    for name, part in module.named_modules():
        if isinstance(part, FourierTime) or any(part is other for other in wanted):
            found |= {_join(name, own) for own, _ in part.named_parameters()}
    return found


def _layers(network: nn.Module) -> list[list[nn.Module]]:
    """The layers of a network from input to output, each the modules that it is made of."""
    if type(network) in _PARTS:
        layers: list[list[nn.Module]] = []
        for names in _PARTS[type(network)]:
            parts = [getattr(network, name) for name in names]
            # A chain of maps is several layers; parts side by side are one.
            chain = parts[0] if len(parts) == 1 and isinstance(parts[0], nn.Sequential) else None
            layers += [parts] if chain is None else [[m] for m in chain if list(m.parameters())]
        return layers
    found: list[nn.Module] = [m for m in network.modules() if isinstance(m, ContextSquash)]
    couplings: list[nn.Module] = [c for m in network.modules() if isinstance(m, ShowerFlow) for c in m.couplings]
    return [[m] for m in found or couplings or [m for m in network.modules() if isinstance(m, (nn.Linear, nn.RNNBase))]]


def _matrices(module: nn.Module, method: Method) -> set[str]:
    return {n for n, p in module.named_parameters() if p.ndim == 2 and n.rsplit(".", 1)[-1].split("_")[0] == "weight"}


def _join(name: str, own: str) -> str:
    return f"{name}.{own}" if name else own


_PARTS: dict[type[nn.Module], tuple[tuple[str, ...], ...]] = {
    Member: (("layer",), ("shower",), ("mixture",)),
    RecurrentLayers: (("embed",), ("memory",), ("count", "energy"), ("count_mixture", "energy_mixture")),
    PointFlow: (("trunk",), ("radius", "of_context"), ("of_radius",), ("angle", "energy")),
}
"""Networks whose maps are not one chain: names of their parts, from input to output."""

_CHOICES: dict[str, Callable[[nn.Module, Method], set[str]]] = {
    "full": _all,
    "bitfit": _biases,
    "bitfit-hyper": _biases_and_makers,
    "top": _top,
    "lora": _matrices,
}

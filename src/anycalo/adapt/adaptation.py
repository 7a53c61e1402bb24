"""A network in adaptation: what is trained of it, the changes made, and the way back."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from anycalo.adapt.lora import LowRank, attach, detach
from anycalo.adapt.method import Method, chosen_parameters
from anycalo.errors import TrainingError
from anycalo.models.adapter import DOWN, REPLACED, UP


class Adaptation:
    """Makes the parameters that a method chooses trainable and freezes all others, until `merge` or `undo`.

    Args:
        module: a network; it computes exactly what it computed before, until its parameters are trained.
        method: what to train.
        seed: of what is random in the method (`lora`).

    Attributes:
        parameters: what is trained.
        trained: how many numbers those are.
        total: how many the network has.

    Raises:
        TrainingError: if the method finds nothing to train in this network.
    """

    def __init__(self, module: nn.Module, method: Method, *, seed: int = 0) -> None:
        self.module, self.method = module, method
        chosen = chosen_parameters(module, method)
        if not chosen:
            raise TrainingError(
                f"method '{method.name}' finds nothing to train in {type(module).__name__}; take another method"
            )
        self.total = sum(math.prod(p.shape) for p in module.parameters())
        self._required = {name: p.requires_grad for name, p in module.named_parameters()}
        self._before = {name: p.detach().clone() for name, p in chosen.items()}
        self._changes: dict[str, LowRank] = {}
        if method.name == "lora":
            generator = torch.Generator().manual_seed(seed)
            for name, p in chosen.items():
                self._changes[name] = LowRank(p, method.rank, method.alpha, generator)
                attach(*self._place(name), self._changes[name])
        for p in module.parameters():
            p.requires_grad_(False)
        trained = [p for change in self._changes.values() for p in change.parameters()] or list(chosen.values())
        for p in trained:
            p.requires_grad_(True)
        self.parameters: list[nn.Parameter] = trained
        self.trained = sum(math.prod(p.shape) for p in self.parameters)

    def __str__(self) -> str:
        return f"{self.trained:,} of {self.total:,} parameters ({self.trained / self.total:.2%})"

    def _place(self, name: str) -> tuple[nn.Module, str]:
        owner, _, own = name.rpartition(".")
        return self.module.get_submodule(owner), own

    def changes(self) -> dict[str, Tensor]:
        """What an adapter stores: new values, or the two factors of what is added, by parameter name."""
        if not self._changes:
            named = dict(self.module.named_parameters())
            return {f"{REPLACED}{name}": named[name].detach().clone() for name in self._before}
        out: dict[str, Tensor] = {}
        for name, change in self._changes.items():
            out[f"{DOWN}{name}"] = change.down.detach().clone()
            out[f"{UP}{name}"] = (change.scale * change.up).detach().clone()
        return out

    def merge(self) -> None:
        """End the adaptation and keep what was learnt, in a network of ordinary parameters."""
        self._end(keep=True)

    def undo(self) -> None:
        """End the adaptation and put everything back, bit for bit."""
        self._end(keep=False)

    def _end(self, *, keep: bool) -> None:
        for name in self._changes:
            detach(*self._place(name), merge=keep)
        named = dict(self.module.named_parameters())
        if not keep:
            with torch.no_grad():
                for name, value in self._before.items():
                    named[name].copy_(value)
        for name, required in self._required.items():
            named[name].requires_grad_(required)

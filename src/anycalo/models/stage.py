"""What a model hands over to be trained: a network, its data and an objective; or a solution without steps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor, nn

from anycalo.errors import ModelError


class Solved(NamedTuple):
    """What a stage without steps has done.

    Args:
        before, after: what it makes smallest.
        numbers: how many numbers it had to choose.
    """

    before: float
    after: float
    numbers: int


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One network to be trained and everything that its training needs.

    Args:
        name: of the stage, as in the recipe.
        module: the network whose parameters are trained.
        batch: the batch of the given indices (a long tensor), as a tuple of tensors.
        size, validation_size: numbers of training and validation examples; validation examples have
            the indices from `size` on.
        noise_features: standard normal numbers that the objective needs for one example.
        objective: loss of a batch given its noise, (n, noise_features), a scalar mean; none for a stage without steps.
        solve: of a stage without steps: changes some of the module's parameters at once.
        follows: the stage whose network this one imitates, for which there is nothing to learn where that has not changed.
        tuned: whether fine-tuning adapts it; not, where few showers do not teach more than many detectors did.
    """

    name: str
    module: nn.Module
    batch: Callable[[Tensor], tuple[Tensor, ...]] = lambda index: (index,)
    size: int = 0
    validation_size: int = 0
    noise_features: int = 0
    objective: Callable[[tuple[Tensor, ...], Tensor], Tensor] | None = None
    solve: Callable[[], Solved] | None = None
    follows: str | None = None
    tuned: bool = True

    def loss(self, batch: tuple[Tensor, ...], noise: Tensor) -> Tensor:
        """The objective.

        Raises:
            ModelError: for a stage without steps.
        """
        if self.objective is None:
            raise ModelError(f"the stage '{self.name}' has no objective: it is solved, not trained")
        return self.objective(batch, noise)

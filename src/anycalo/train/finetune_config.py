"""How a model is fine-tuned (`anycalo.train.finetune`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from anycalo.adapt import Method
from anycalo.errors import TrainingError

RATES: Mapping[str, float] = MappingProxyType({"full": 3e-4, "bitfit": 3e-3, "bitfit-hyper": 1e-3, "top": 1e-3, "lora": 1e-3})
"""Learning rates where none is given."""


@dataclass(frozen=True, kw_only=True)
class FinetuneConfig:
    """How a model is fine-tuned.

    Args:
        method: what is trained.
        learning_rate: of AdamW after the warm-up; 0 for the method's own in `RATES`.
        steps: at most, a stage.
        validate_every: steps between validations.
        patience: validations without a lower loss, after which a stage is stopped.
        towards_base: strength of the pull towards the base's weights: of how far they are from it, a step takes back the
            learning rate times this times 100 over the number of showers.
        held_out: fraction of the showers held out.
        few: below this number of showers every fifth (`held_out`) is held out in turn.
        sigmas: standard errors by which the loss must fall for a stage to be accepted; minus infinity for always.
        distance_sigmas: standard errors by which generated showers must be nearer to the given ones than the base's, or a stage
            is taken back.
        batch_showers, batch_points: examples of a step, by what they are.
        validation_points: examples validated on at most, in each fold.
        ema_decay: of the average of the weights.
        seed: of folds, batches and noise.
    """

    method: Method = field(default_factory=Method)
    learning_rate: float = 0.0
    steps: int = 200
    validate_every: int = 20
    patience: int = 3
    towards_base: float = 1.0
    held_out: float = 0.2
    few: int = 400
    sigmas: float = 2.0
    distance_sigmas: float = 1.0
    batch_showers: int = 48
    batch_points: int = 1024
    validation_points: int = 20_000
    ema_decay: float = 0.95
    seed: int = 1

    def __post_init__(self) -> None:
        for name in ("steps", "validate_every", "patience", "batch_showers", "batch_points", "validation_points"):
            if getattr(self, name) < 1:
                raise TrainingError(f"{name} is {getattr(self, name)!r}; expected at least 1")
        if not 0 < self.held_out <= 0.5 or not 0 <= self.ema_decay < 1:
            raise TrainingError(f"held_out is {self.held_out} and ema_decay {self.ema_decay}; expected up to 0.5, and below 1")
        if self.learning_rate < 0 or self.towards_base < 0 or self.few < 0 or self.seed < 0:
            raise TrainingError("learning_rate, towards_base, few and seed must be at least 0")

    @property
    def rate(self) -> float:
        """The learning rate."""
        return self.learning_rate or RATES[self.method.name]

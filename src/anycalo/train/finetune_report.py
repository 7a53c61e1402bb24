"""What fine-tuning says it did (`anycalo.train.finetune`)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Distances of generated to given showers, with a change and with the base.

    Args:
        before, after: ratio to the floor (`anycalo.evaluate`), of the base and with the change; no `after` where the
            changed model makes no physical showers.
        change: ln of the second over the first, or none.
        error: its standard error.
    """

    before: float
    after: float | None
    change: float | None
    error: float

    def nearer(self, sigmas: float, *, than: float = 0.0) -> bool:
        """Whether showers are nearer by more than so many errors, and by more than earlier changes, of which ln was `than`."""
        return self.change is not None and self.change < min(than, -sigmas * self.error)

    def farther(self, sigmas: float, *, than: float = 0.0) -> bool:
        """Whether there are no showers, or they are farther by more than so many errors than with earlier changes (`than`)."""
        return self.change is None or self.change - than > sigmas * self.error


@dataclass(frozen=True, kw_only=True)
class StageReport:
    """What became of one stage.

    Args:
        trained, total: parameters; of a stage without steps the numbers that it chose, and 0, since another counts its network.
        accepted: whether its weights were changed.
        steps: of the weights kept.
        base_loss, loss: on held-out showers, before and after.
        gain_error: standard error of their difference.
        distances: of the showers that it generates, with every change up to this one; none where that was not looked at.
        taken_back: whether it was accepted for its loss, and refused since these are not smaller.
    """

    trained: int
    total: int
    accepted: bool
    steps: int
    base_loss: float
    loss: float
    gain_error: float
    distances: Comparison | None = None
    taken_back: bool = False

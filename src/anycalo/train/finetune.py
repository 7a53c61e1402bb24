"""Fine-tuning with few showers that cannot hurt.

Each stage of a model is adapted on its own, and keeps the base's weights unless it is seen to become better:

1. Held-out showers: a fifth; of fewer than `few` showers each fifth in turn (cross-validation).
2. Training stops when the loss on them has not fallen for `patience` validations; what counts is an average of the weights.
3. Weights are pulled back to those of the base (L2-SP, arXiv 1802.01483), the more the fewer showers there are.
4. The loss on held-out showers is compared with the base's, shower by shower with the same random numbers. The stage is
   accepted where the mean gain exceeds `sigmas` times its standard error over the showers.
5. An accepted stage is trained anew on all showers, for as many steps.
6. Where the caller gives a `Compare`, showers generated with the change are compared with the given ones, since a likelihood
   may rise while distances grow. Unless they are nearer than the base's by more than `distance_sigmas` standard errors, and
   than with the changes before this one, the change is taken back, before the next stage begins. A stage that a student
   imitates is not asked: only through the student does generation show it.

Stages without steps are solved from all showers, by estimates that few showers cannot carry far; what they change is taken back
where showers are farther by more than `distance_sigmas` errors than before it.

A student that imitates another stage is left where that one was, and else learns anew, on one fold. Scales, which need many
showers, and stages not `tuned` stay the base's.
"""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from anycalo.adapt import Adaptation, Method
from anycalo.errors import TrainingError
from anycalo.models import FAMILIES, Domain, Model, Stage
from anycalo.models.adapter import REPLACED
from anycalo.models.model import parameter_count
from anycalo.showers import Showers
from anycalo.train.checkpoint import data_digest
from anycalo.train.data import widened
from anycalo.train.finetune_config import FinetuneConfig
from anycalo.train.finetune_report import Comparison, StageReport
from anycalo.train.loop import step_generator, swapped

Progress = Callable[[int, int], None]
Compare = Callable[[Model], Comparison | None]
"""Compares showers that a changed model makes with the given ones; none if it cannot (`anycalo.evaluate.validation`)."""
FEWEST = 10
_BLOCKS = 100  # more do not tell the error of a mean better


@dataclass(frozen=True, kw_only=True)
class Finetuned:
    """A fine-tuned model.

    Args:
        model: with its changes merged.
        changes: what an adapter stores (`anycalo.models.adapter`).
        stages: what became of each.
        card: of the run, for `model.json` or `adapter.json`.
    """

    model: Model
    changes: Mapping[str, Tensor]
    stages: Mapping[str, StageReport]
    card: Mapping[str, Any]

    @property
    def trained(self) -> int:
        """Parameters that were trained, in all stages."""
        return sum(s.trained for s in self.stages.values())

    @property
    def validation_loss(self) -> float:
        """Sum of the losses on held-out showers, of the stages that are trained in steps."""
        return sum(s.loss for s in self.stages.values() if s.total)


def finetune(
    base: Model,
    showers: Showers,
    config: FinetuneConfig,
    *,
    compare: Compare | None = None,
    progress: Progress | None = None,
) -> Finetuned:
    """Adapt a model to showers of one detector.

    Args:
        base: left as it is. A model of one geometry must be of this detector: see `anycalo.models.transplant`.
        showers: of any number from 10.
        config: how.
        compare: called with the model after each accepted stage; what it says may have the stage taken back.
        progress: called with the steps done and their number at most.

    Raises:
        TrainingError: if there are too few showers, or the method does not fit the model.
        ModelError: if the model cannot make showers of this detector.
    """
    base.check(showers.detector)
    given = _used(showers)
    showers = _used(base.whole(given, seed=config.seed))
    consistency = getattr(base, "consistency", None)
    if config.method.name == "lora" and consistency is not None and consistency.config.method == "consistency":
        raise TrainingError("consistency distillation and method 'lora' do not go together; take another method")
    model = copy.deepcopy(base).train()
    run = _Run(model, _folds(model, showers, config, fit=False), showers, config, progress, compare)
    reports = run.stages()
    model.domain = widened(base, given)
    card = {
        "finetuning": {
            "base_sha256": base.digest(),
            "config": dataclasses.asdict(config) | {"learning_rate": config.rate},
            "data_sha256": data_digest([given]),
            "showers": len(given),
            "parameters": {"trained": sum(r.trained for r in reports.values()), "total": parameter_count(base)},
            "stages": {name: dataclasses.asdict(report) for name, report in reports.items()},
        }
    }
    model.card = {}
    return Finetuned(model=model.eval(), changes=run.changes, stages=reports, card=card)


def from_scratch(like: Model, showers: Showers, config: FinetuneConfig, *, progress: Progress | None = None) -> Finetuned:
    """A model of the same configuration trained on these showers alone, by the same rules, for comparison.

    Its scales are set from the showers; no weights are kept or pulled back.
    """
    showers = _used(showers)
    config = dataclasses.replace(config, method=Method(name="full"), towards_base=0.0, sigmas=-math.inf)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        model = FAMILIES[like.family](like.config, Domain.of([showers]))
    model.stages([showers], [showers], seed=config.seed)
    run = _Run(model.train(), _folds(model, showers, config, fit=False), showers, config, progress)
    reports = run.stages()
    return Finetuned(model=model.eval(), changes={}, stages=reports, card={})


def _used(showers: Showers) -> Showers:
    visible = showers.visible_mev() > 0
    if np.count_nonzero(visible) < FEWEST:
        raise TrainingError(f"{np.count_nonzero(visible)} showers with visible energy; expected at least {FEWEST}")
    return showers if visible.all() else showers[visible]


def _folds(model: Model, showers: Showers, config: FinetuneConfig, *, fit: bool) -> list[tuple[list[Stage], int]]:
    """Stages with a part held out, one entry a fold, with the number of showers held out."""
    count = max(2, round(1 / config.held_out))
    order = np.random.default_rng([config.seed, 0xF01D]).permutation(len(showers))
    parts = np.array_split(order, count)
    folds = []
    for part in parts if len(showers) < config.few else parts[:1]:
        rest = np.setdiff1d(order, part)
        stages = model.stages([showers[rest]], [showers[np.sort(part)]], seed=config.seed, fit=fit)
        folds.append((stages, len(part)))
    return folds


class _Run:
    """Fine-tuning of the stages of a model, one after the other."""

    def __init__(
        self,
        model: Model,
        folds: Sequence[tuple[list[Stage], int]],
        showers: Showers,
        config: FinetuneConfig,
        progress: Progress | None,
        compare: Compare | None = None,
    ) -> None:
        self.model, self.folds, self.showers, self.config, self.progress = model, folds, showers, config, progress
        self.compare = compare
        self.names = [stage.name for stage in folds[0][0]]
        self.changes: dict[str, Tensor] = {}
        self.reached = 0.0  # by how much ln distance has changed
        self.done = 0
        self.total = config.steps * len(self.names) * (len(folds) + 1)

    def stages(self) -> dict[str, StageReport]:
        """Adapt one stage after the other."""
        reports: dict[str, StageReport] = {}
        for index, name in enumerate(self.names):
            stage = self.folds[0][0][index]
            if stage.solve is not None:
                reports[name] = self._solved(index)
                self._count((index + 1) * self.total // len(self.names) - self.done)
                continue
            tuned = stage.tuned or self.config.sigmas == -math.inf
            change = tuned and (stage.follows is None or reports[stage.follows].accepted)
            reports[name] = self.stage(index) if change else self._left(*self.folds[0], index)
            self._count((index + 1) * self.total // len(self.names) - self.done)
        return reports

    @cached_property
    def _everything(self) -> list[Stage]:
        """The stages with all showers; they take long to prepare where there are many."""
        return self.model.stages([self.showers], [self.showers[:1]], seed=self.config.seed, fit=False)

    def _left(self, stages: list[Stage], held_out: int, index: int) -> StageReport:
        loss, size = float(self._validate(stages[index], held_out).mean()), parameter_count(stages[index].module)
        return StageReport(trained=0, total=size, accepted=False, steps=0, base_loss=loss, loss=loss, gain_error=0.0)

    def _solved(self, index: int) -> StageReport:
        """Solve a stage without steps, and keep what it changes unless showers are farther."""
        stage = self._everything[index]
        before = {k: v.detach().clone() for k, v in self.model.state_dict().items()}
        kept_before = dict(self.changes)
        assert stage.solve is not None
        first, last, numbers = stage.solve()
        moved = {name: p for name, p in self.model.state_dict().items() if not torch.equal(p, before[name])}
        self.changes |= {f"{REPLACED}{name}": p.detach().clone() for name, p in moved.items()}
        distances, taken_back = None, False
        if moved:
            distances, taken_back = self._looked_at(before, kept_before, self._not_farther)
        accepted = bool(moved) and not taken_back
        return StageReport(
            trained=numbers,
            total=0,
            accepted=accepted,
            steps=0,
            base_loss=first,
            loss=last if accepted else first,
            gain_error=0.0,
            distances=distances,
            taken_back=taken_back,
        )

    def stage(self, index: int) -> StageReport:
        """Adapt one stage, or leave it."""
        config = self.config
        anew = self.folds[0][0][index].follows is None
        folds = self.folds if anew else self.folds[:1]
        curves: list[Tensor] = []
        before = {k: v.detach().clone() for k, v in self.model.state_dict().items()}
        kept: list[list[Tensor]] = []
        for stages, held_out in folds:
            kept = []
            curve, adaptation = self._train(stages[index], index, held_out, config.steps, kept)
            curves.append(curve)
            if anew:
                self._undo(adaptation, before)
        # Every fold has validated this often; the first row is the base.
        rows = min(len(curve) for curve in curves)
        losses = torch.cat([curve[:rows] for curve in curves], dim=1).double()
        first = int(config.sigmas == -math.inf)  # then the base is no choice
        best = first + int(losses[first:].mean(1).argmin())
        gains = losses[0] - losses[best]
        error = float(gains.std() / math.sqrt(len(gains))) if len(gains) > 1 else math.inf
        accepted = bool(first) or (best > 0 and float(gains.mean()) > config.sigmas * error)
        steps = min(best * config.validate_every, config.steps) if accepted else 0
        if not accepted:
            if not anew:
                self._undo(adaptation, before)
        elif anew:
            _, adaptation = self._train(self._everything[index], index, 0, steps, [])
        else:
            with torch.no_grad():
                for parameter, value in zip(adaptation.parameters, kept[best - 1], strict=True):
                    parameter.copy_(value)
        distances, taken_back = None, False
        if accepted:
            kept_before = dict(self.changes)
            self._keep(adaptation)
            distances, taken_back = self._looked_at(before, kept_before, lambda d: self._stays(d, self.names[index]))
        changed = accepted and not taken_back
        return StageReport(
            trained=adaptation.trained,
            total=adaptation.total,
            accepted=changed,
            steps=steps if changed else 0,
            base_loss=float(losses[0].mean()),
            loss=float(losses[best].mean() if changed else losses[0].mean()),
            gain_error=error,
            distances=distances,
            taken_back=taken_back,
        )

    def _looked_at(
        self, before: Mapping[str, Tensor], kept_before: dict[str, Tensor], stays: Callable[[Comparison], bool]
    ) -> tuple[Comparison | None, bool]:
        """What showers of the changed model say, and whether the change was taken back for it."""
        distances = None if self.compare is None else self.compare(self.model)
        taken_back = distances is not None and not stays(distances)
        if taken_back:
            self.model.load_state_dict(before)
            self.changes = kept_before
        return distances, taken_back

    def _not_farther(self, distances: Comparison) -> bool:
        stays = not distances.farther(self.config.distance_sigmas, than=self.reached)
        if stays and distances.change is not None:
            self.reached = distances.change
        return stays

    def _stays(self, distances: Comparison, name: str) -> bool:
        if any(stage.follows == name for stage in self.folds[0][0]):
            # Generated showers show it only through the student, which is looked at next.
            return distances.change is not None
        stays = distances.nearer(self.config.distance_sigmas, than=self.reached)
        if stays and distances.change is not None:
            self.reached = distances.change
        return stays

    def _keep(self, adaptation: Adaptation) -> None:
        prefix = next(name for name, module in self.model.named_modules() if module is adaptation.module)
        for key, value in adaptation.changes().items():
            kind, _, name = key.partition(":")
            self.changes[f"{kind}:{prefix}.{name}"] = value
        adaptation.merge()

    def _undo(self, adaptation: Adaptation, before: Mapping[str, Tensor]) -> None:
        adaptation.undo()
        self.model.load_state_dict(before)

    def _train(
        self, stage: Stage, index: int, held_out: int, steps: int, kept: list[list[Tensor]]
    ) -> tuple[Tensor, Adaptation]:
        """Train on one fold; the losses of the held-out blocks before and at each validation, and the adaptation, still on.

        Args:
            stage: with the fold's data.
            index: of the stage.
            held_out: showers to validate on, 0 for none.
            steps: at most.
            kept: filled with the averaged weights at each validation, where they will be needed.
        """
        config = self.config
        adaptation = Adaptation(stage.module, config.method, seed=config.seed)
        parameters = adaptation.parameters
        start = [p.detach().clone() for p in parameters]
        ema = [p.detach().clone() for p in parameters]
        optimiser = torch.optim.AdamW(parameters, lr=config.rate, weight_decay=0.0, betas=(0.9, 0.99))
        # Examples are showers, a few variants of each at most, or points, of which a shower has many.
        of_showers = stage.size <= 4 * len(self.showers)
        batch = min(stage.size, config.batch_showers if of_showers else config.batch_points)
        pull = config.towards_base * 100 / len(self.showers)
        curve = [self._validate(stage, held_out)] if held_out else []
        best, since = math.inf, 0
        for step in range(steps):
            generator = step_generator(config.seed, index, step)
            chosen = torch.randint(stage.size, (batch,), generator=generator)
            noise = torch.randn(batch, stage.noise_features, generator=generator)
            loss = stage.loss(stage.batch(chosen), noise)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            norm = torch.nn.utils.clip_grad_norm_(parameters, 10.0)
            rate = config.rate * min(1.0, (step + 1) / 10)
            if torch.isfinite(norm):
                for group in optimiser.param_groups:
                    group["lr"] = rate
                optimiser.step()
                with torch.no_grad():
                    torch._foreach_lerp_(list(parameters), start, min(rate * pull, 0.5))
            torch._foreach_lerp_(ema, [p.detach() for p in parameters], 1 - min(config.ema_decay, (step + 1) / (step + 10)))
            self._count(1)
            if held_out and ((step + 1) % config.validate_every == 0 or step + 1 == steps):
                with swapped(parameters, ema):
                    curve.append(self._validate(stage, held_out))
                kept.append([v.clone() for v in ema])
                mean = float(curve[-1].mean())
                best, since = (mean, 0) if mean < best else (best, since + 1)
                if since >= config.patience:
                    break
        with torch.no_grad():
            for parameter, value in zip(parameters, ema, strict=True):
                parameter.copy_(value)
        return (torch.stack(curve) if curve else torch.empty(0)), adaptation

    @torch.no_grad()
    def _validate(self, stage: Stage, held_out: int) -> Tensor:
        """Losses of held-out examples, of a shower each as nearly as can be; always with the same random numbers."""
        n = min(stage.validation_size, self.config.validation_points)
        chosen = stage.size + torch.arange(n) * stage.validation_size // n
        noise = torch.randn(n, stage.noise_features, generator=step_generator(self.config.seed, 1_000_000, 0))
        parts = torch.arange(n).tensor_split(min(n, held_out, _BLOCKS))
        losses = [float(stage.loss(stage.batch(chosen[part]), noise[part])) for part in parts]
        if not all(map(math.isfinite, losses)):
            raise TrainingError(f"the validation loss of '{stage.name}' is not finite; lower the learning rate")
        return torch.tensor(losses)

    def _count(self, steps: int) -> None:
        self.done += steps
        if self.progress is not None:
            self.progress(self.done, self.total)

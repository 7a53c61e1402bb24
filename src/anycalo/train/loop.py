"""The training loop, the same for every family."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from anycalo.errors import TrainingError
from anycalo.models import FAMILIES, Domain, Model, Stage, load_model
from anycalo.models.model import CARD
from anycalo.showers import Showers
from anycalo.train import log
from anycalo.train.checkpoint import (
    State,
    check_folder,
    claim,
    data_digest,
    load_optimiser,
    optimiser_tensors,
    read_state,
    write_state,
)
from anycalo.train.data import Data, read_showers, split
from anycalo.train.processes import Processes, joined
from anycalo.train.recipe import Recipe, StageRecipe

Progress = Callable[[int, int], None]
Validate = Callable[[Model, Sequence[Showers]], Mapping[str, float]]


def train(
    recipe: Recipe,
    data: Data,
    out: str | Path,
    *,
    max_minutes: float | None = None,
    device: str = "auto",
    threads: int | None = None,
    progress: Progress | None = None,
    validate: Validate | None = None,
) -> Model:
    """Train a model and write it to a directory; the same call again goes on where a run was stopped.

    The random numbers of a step follow from the seed, the stage and the step alone, so that a run that was
    killed and resumed ends as one that was not. Under `torchrun` the batches are divided among the processes.

    Args:
        recipe: what to train and how.
        data: showers, one batch a detector; or shower files, or folders of them, of any number of detectors.
        out: directory of the run: `model.safetensors`, `model.json`, `log.jsonl`, `losses.png`, checkpoint.
        max_minutes: a time budget of all stages; the learning rate then falls to 0 within it.
        device: `cpu`, `cuda` or `auto`.
        threads: of a process on the CPU; PyTorch's choice by default.
        progress: called with steps done and steps in all.
        validate: further numbers on the model with its averaged weights and the held-out showers, computed and
            logged at each quarter of the last stage and kept in `model.json` at the end.

    Returns:
        The model with the averaged weights of lowest validation loss.

    Raises:
        TrainingError: if data and recipe do not fit, or `out` holds another run.
        OutputError: if `out` cannot be written.
    """
    out = Path(out)
    check_folder(out)
    if threads is not None:
        torch.set_num_threads(threads)
    showers = read_showers(data)
    with joined(device) as processes:
        model, stages, counts = build(recipe, showers)  # before anything is written: the data may not do
        run = {"recipe": recipe.to_table(), "recipe_sha256": recipe.digest(), "data_sha256": data_digest(showers)}
        if processes.first:
            claim(out, run)
        processes.wait()
        state = read_state(out) or State()
        if (out / CARD).is_file() and state.stage == len(stages):
            return load_model(out)
        if state.tensors:
            model.load_state_dict(state.part("model"))
        model.to(processes.device)
        if processes.first:
            log.rewind(out, state.stage, state.step)
        metrics: dict[str, float] = {}
        held_out = split(recipe, showers)[1]
        measure = None if validate is None else lambda trained: validate(trained, held_out)
        loop = _Loop(recipe, model, stages, out, state, processes, progress, measure)
        metrics = loop.run(max_minutes)
        if processes.first:
            card = {
                "data": {"sha256": run["data_sha256"], **counts},
                "recipe": run["recipe"],
                "metrics": {**{f"{k}_loss": v for k, v in state.losses.items()}, **metrics},
                "training_seconds": round(state.total_seconds, 1),
            }
            model.save(out, card=card, overwrite=True)
            log.draw(out)
        processes.wait()
        return model.to("cpu").eval()


def build(recipe: Recipe, showers: Sequence[Showers]) -> tuple[Model, list[Stage], dict[str, int]]:
    """The untrained model with its scales set, its stages, and how many showers went where.

    Raises:
        TrainingError: if there are too few showers, or the recipe's stages are not the family's.
    """
    training, validation = split(recipe, showers)
    domain = Domain.of([*training, *validation])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        model = FAMILIES[recipe.family](recipe.model, domain)
    stages = model.stages(training, validation, seed=recipe.seed)
    names = [s.name for s in stages if s.objective is not None]
    if sorted(names) != sorted(recipe.stages):
        raise TrainingError(
            f"the recipe has stages {', '.join(recipe.stages)}; expected {', '.join(names)} for {recipe.family}"
        )
    counts = {
        "detectors": len(showers),
        "validation_detectors": len(validation),
        "showers": sum(map(len, training)),
        "validation_showers": sum(map(len, validation)),
    }
    counts["empty_showers"] = sum(map(len, showers)) - counts["showers"] - counts["validation_showers"]
    return model, stages, counts


class _Loop:
    """The stages of one run, from a state that may be in the middle of one."""

    def __init__(
        self,
        recipe: Recipe,
        model: Model,
        stages: list[Stage],
        out: Path,
        state: State,
        processes: Processes,
        progress: Progress | None,
        validate: Callable[[Model], Mapping[str, float]] | None,
    ) -> None:
        self.recipe, self.model, self.stages, self.out = recipe, model, stages, out
        self.state, self.processes, self.progress, self.validate = state, processes, progress, validate
        self.total = sum(stage.steps for stage in recipe.stages.values())

    def run(self, max_minutes: float | None) -> dict[str, float]:
        """Train what is left of the stages; returns the last further validation."""
        metrics: dict[str, float] = {}
        for index, stage in enumerate(self.stages):
            if index < self.state.stage:
                continue
            if stage.objective is None:
                self._solve(index, stage)
                continue
            budget = math.inf
            if max_minutes is not None:
                shares = [self.recipe.stages[s.name].time_share for s in self.stages[index:] if s.objective is not None]
                before = self.state.total_seconds - self.state.seconds
                budget = max(60 * max_minutes - before, 1.0) * shares[0] / sum(shares)
            metrics = self._stage(index, stage, budget)
        return metrics

    def _solve(self, index: int, stage: Stage) -> None:
        """A stage without steps; every process of several finds the same."""
        if stage.solve is None:
            raise TrainingError(f"the stage '{stage.name}' has neither an objective nor a solution")
        start = time.monotonic()
        self.model.to("cpu")  # compiled loops make the showers that it looks at
        before, after, _ = stage.solve()
        self.model.to(self.processes.device)
        seconds = time.monotonic() - start
        self.state.total_seconds += seconds
        self.state.losses[stage.name] = after
        if self.processes.first:
            entry = {"stage_index": index, "stage": stage.name, "step": 1, "seconds": round(seconds, 2)}
            log.append(self.out, {**entry, "loss": before, "validation": after, "learning_rate": 0.0})
        self.state.stage = index + 1
        self.state.tensors = {}
        self._save([], None, [], [])

    def _stage(self, index: int, stage: Stage, budget: float) -> dict[str, float]:
        recipe, state = self.recipe.stages[stage.name], self.state
        parameters = [p for p in stage.module.parameters() if p.requires_grad]
        optimiser = torch.optim.AdamW(parameters, lr=recipe.learning_rate, weight_decay=recipe.weight_decay, betas=(0.9, 0.99))
        ema = [p.detach().clone() for p in parameters]
        best = [p.detach().clone() for p in parameters]
        if state.step:
            load_optimiser(optimiser, state.part("adam"))
            for restored, name in ((ema, "ema"), (best, "best")):
                for i, saved_tensor in state.part(name).items():
                    restored[int(i)].copy_(saved_tensor)
        metrics: dict[str, float] = {}
        last = all(s.objective is None for s in self.stages[index + 1 :])
        quarters = int(4 * self._done(recipe, budget))
        saved, clock = time.monotonic(), time.monotonic()
        try:
            while (done := self._done(recipe, budget)) < 1:
                rate = learning_rate(recipe, done)
                state.loss_sum += self._step(index, stage, recipe, parameters, optimiser, rate)
                state.loss_count += 1
                state.step += 1
                decay = min(recipe.ema_decay, state.step / (state.step + 10))
                torch._foreach_lerp_(ema, [p.detach() for p in parameters], 1 - decay)
                now = time.monotonic()
                state.seconds += now - clock
                state.total_seconds += now - clock
                clock = now
                done = self._done(recipe, budget)
                if self.progress is not None:
                    before = sum(self.recipe.stages[s.name].steps for s in self.stages[:index] if s.objective is not None)
                    self.progress(before + (recipe.steps if done >= 1 else state.step), self.total)
                if state.step % recipe.validate_every == 0 or done >= 1:
                    further: dict[str, float] = {}
                    with swapped(parameters, ema):
                        loss = self._validation(stage, recipe)
                        if last and self.validate is not None and int(4 * min(done, 1)) > quarters:
                            quarters = int(4 * min(done, 1))
                            further = metrics = dict(self.validate(self.model.eval())) if self.processes.first else {}
                    if loss < state.best_loss:
                        state.best_loss = loss
                        for kept, tensor in zip(best, ema, strict=True):
                            kept.copy_(tensor)
                    self._log(index, stage, loss, state.loss_sum / state.loss_count, rate, further)
                    state.loss_sum, state.loss_count = 0.0, 0
                if time.monotonic() - saved > self.recipe.checkpoint_seconds:
                    self._save(parameters, optimiser, ema, best)
                    saved = time.monotonic()
        except KeyboardInterrupt:
            self._save(parameters, optimiser, ema, best)
            raise
        with torch.no_grad():
            for parameter, tensor in zip(parameters, best, strict=True):
                parameter.copy_(tensor)
        state.losses[stage.name] = state.best_loss
        state.stage, state.step, state.seconds, state.best_loss = index + 1, 0, 0.0, math.inf
        state.tensors = {}
        self._save([], None, [], [])
        return metrics

    def _done(self, recipe: StageRecipe, budget: float) -> float:
        """Fraction of the stage that is done, by steps or by time, whichever is ahead."""
        by_time = self.processes.agree(self.state.seconds / budget) if budget < math.inf else 0.0
        return max(self.state.step / recipe.steps, by_time)

    def _step(
        self,
        index: int,
        stage: Stage,
        recipe: StageRecipe,
        parameters: list[nn.Parameter],
        optimiser: torch.optim.Optimizer,
        rate: float,
    ) -> float:
        generator = step_generator(self.recipe.seed, index, self.state.step)
        chosen = torch.randint(stage.size, (recipe.batch_size,), generator=generator)
        noise = torch.randn(recipe.batch_size, stage.noise_features, generator=generator)
        chosen, noise = self.processes.share(chosen), self.processes.share(noise)
        batch = tuple(t.to(self.processes.device) for t in stage.batch(chosen))
        loss = stage.loss(batch, noise.to(self.processes.device))
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        gradients = [p.grad for p in parameters if p.grad is not None]
        self.processes.average(gradients, weight=len(chosen) / recipe.batch_size)
        norm = nn.utils.clip_grad_norm_(parameters, recipe.clip_norm)
        # One step with a broken gradient must not spoil the run; a run of them shows in the loss.
        if torch.isfinite(norm):
            for group in optimiser.param_groups:
                group["lr"] = rate
            optimiser.step()
        return float(loss.detach())

    @torch.no_grad()
    def _validation(self, stage: Stage, recipe: StageRecipe) -> float:
        """Loss on validation examples, the same with the same noise each time."""
        n = min(stage.validation_size, recipe.validation_batch)
        chosen = stage.size + torch.arange(n) * stage.validation_size // n
        noise = torch.randn(n, stage.noise_features, generator=step_generator(self.recipe.seed, 1_000_000, 0))
        device, total = self.processes.device, 0.0
        for start in range(0, n, recipe.batch_size):
            part = slice(start, start + recipe.batch_size)
            batch = tuple(t.to(device) for t in stage.batch(chosen[part]))
            total += float(stage.loss(batch, noise[part].to(device))) * len(chosen[part])
        return self.processes.agree(total / n)

    def _log(self, index: int, stage: Stage, validation: float, loss: float, rate: float, metrics: Mapping[str, float]) -> None:
        if not math.isfinite(validation):
            raise TrainingError(
                f"the validation loss of '{stage.name}' is {validation} at step {self.state.step}; lower its learning_rate"
            )
        if self.processes.first:
            entry = {
                "stage_index": index,
                "stage": stage.name,
                "step": self.state.step,
                "seconds": round(self.state.seconds, 2),
            }
            log.append(self.out, {**entry, "loss": loss, "validation": validation, "learning_rate": rate, **metrics})

    def _save(
        self,
        parameters: list[nn.Parameter],
        optimiser: torch.optim.Optimizer | None,
        ema: list[Tensor],
        best: list[Tensor],
    ) -> None:
        if not self.processes.first:
            return
        tensors = {f"model/{k}": v for k, v in self.model.state_dict().items()}
        tensors |= {f"ema/{i}": t for i, t in enumerate(ema)} | {f"best/{i}": t for i, t in enumerate(best)}
        if optimiser is not None:
            tensors |= optimiser_tensors(optimiser)
        self.state.tensors = tensors
        write_state(self.out, self.state)


def learning_rate(recipe: StageRecipe, done: float) -> float:
    """A linear rise during `warmup`, then a cosine to 0, at a fraction `done` of the stage."""
    if done < recipe.warmup:
        return recipe.learning_rate * max(done / recipe.warmup, 0.01)
    return recipe.learning_rate * 0.5 * (1 + math.cos(math.pi * (done - recipe.warmup) / (1 - recipe.warmup)))


def step_generator(seed: int, stage: int, step: int) -> torch.Generator:
    """The random numbers of one step."""
    state = np.random.SeedSequence([seed, stage, step]).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(state[0] >> np.uint64(1)))


@contextmanager
def swapped(parameters: list[nn.Parameter], values: list[Tensor]) -> Iterator[None]:
    """Other values in the parameters for a while."""
    kept = [p.detach().clone() for p in parameters]
    with torch.no_grad():
        for p, v in zip(parameters, values, strict=True):
            p.copy_(v)
    try:
        yield
    finally:
        with torch.no_grad():
            for p, v in zip(parameters, kept, strict=True):
                p.copy_(v)

"""A study on the workers of a Dask scheduler (`distributed`, an optional extra).

A cell goes to a worker when what it shares with others is made: the base moved to the detector, and the learning rate of its
method. All workers read and write the study's directory, under the same path as the caller; nothing but names travels.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

from anycalo.errors import TrainingError
from anycalo.study.recipe import ZERO, Cell, StudyRecipe
from anycalo.study.run import Study, cell_file, claim, write

Progress = Callable[[int, int], None]


def run_scheduled(
    recipe: StudyRecipe,
    out: str | Path,
    scheduler: str,
    *,
    root: str | Path = ".",
    progress: Progress | None = None,
) -> int:
    """Do the cells of a study that are not done, on the workers of a Dask scheduler.

    Args:
        recipe: of the study.
        out: its directory, which all workers share.
        scheduler: address, such as `tcp://host:8786`. Tasks travel as Dask serialises them: give one that you trust.
        root: what the recipe's paths are relative to.
        progress: called with cells done and cells in all.

    Returns:
        How many cells are done.

    Raises:
        TrainingError: if `distributed` is missing, the scheduler does not answer, has no worker or one of several
            threads; or as `run_study`.
        OutputError: if the directory cannot be written.
    """
    try:
        import distributed
    except ImportError as error:
        raise TrainingError("a scheduler needs the package 'distributed': pip install 'anycalo[dask]'") from error
    out, root = Path(out).resolve(), Path(root).resolve()
    try:
        connect: Any = distributed.Client
        client = connect(scheduler, timeout=20, set_as_default=False)
    except (OSError, ValueError) as error:
        raise TrainingError(
            f"no Dask scheduler answers at '{scheduler}': {error}. Start one with 'dask scheduler', and give its address"
        ) from error
    with client:
        _check_workers(client, scheduler)
        claim(out, recipe)
        cells = recipe.cells()
        todo = [cell for cell in cells if not cell_file(out, cell).exists()]
        futures = _submit(client, recipe, out, root, todo)
        done = len(cells) - len(todo)
        try:
            completed: Any = distributed.as_completed
            for future in completed(futures, loop=client.loop):
                if progress is not None:
                    progress(done, len(cells))
                future.result()
                done += 1
        finally:
            client.cancel([future for future in futures if not future.done()])
    if progress is not None:
        progress(done, len(cells))
    return done


def _check_workers(client: Any, scheduler: str) -> None:
    workers = client.scheduler_info(n_workers=-1)["workers"].values()
    if not workers:
        raise TrainingError(f"the scheduler at '{scheduler}' has no workers; start some: dask worker {scheduler} --nthreads 1")
    threads = max(worker["nthreads"] for worker in workers)
    if threads > 1:
        # PyTorch's seed is one for a process.
        raise TrainingError(f"a worker of '{scheduler}' runs {threads} tasks at a time; expected one: dask worker --nthreads 1")


def _submit(client: Any, recipe: StudyRecipe, out: Path, root: Path, cells: list[Cell]) -> list[Any]:
    """A task for each cell, after those that make what it shares with others."""
    place = (recipe, str(out), str(root))
    starts: dict[tuple[str, str], Any] = {}
    rates: dict[tuple[str, str, str], Any] = {}
    futures = []
    for priority, cell in enumerate(cells):
        pair = (cell.base, cell.target)
        if pair not in starts:
            starts[pair] = client.submit(_start, *place, *pair, pure=False)
        after = starts[pair]
        if cell.method != ZERO:
            if (*pair, cell.method) not in rates:
                rates[*pair, cell.method] = client.submit(_rate, *place, *pair, cell.method, after, pure=False)
            after = rates[*pair, cell.method]
        futures.append(client.submit(_cell, *place, cell, after, pure=False, priority=-priority))
    return futures


@lru_cache(maxsize=1)
def _study(recipe: StudyRecipe, out: str, root: str) -> Study:
    return Study(recipe, Path(out), Path(root))


def _start(recipe: StudyRecipe, out: str, root: str, base: str, target: str) -> None:
    _study(recipe, out, root).start(base, target)


def _rate(recipe: StudyRecipe, out: str, root: str, base: str, target: str, method: str, after: None) -> None:
    _study(recipe, out, root).rate(base, target, method)


def _cell(recipe: StudyRecipe, out: str, root: str, cell: Cell, after: None) -> None:
    write(cell_file(Path(out), cell), _study(recipe, out, root).cell(cell))

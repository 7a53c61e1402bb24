"""What every command shares: where results are printed, and the progress bar."""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

_LINE_SECONDS = 30.0  # between progress lines where there is no terminal, as in a batch log


class _Rate(ProgressColumn):
    """Things a second; below one, seconds a thing."""

    def __init__(self, things: str) -> None:
        super().__init__()
        self.things = things

    def render(self, task: Task) -> Text:
        return Text(rate(task.finished_speed or task.speed or 0.0, self.things))


def rate(speed: float, things: str) -> str:
    """A speed in words: '12.3 showers/s', or '4.5 s a shower' when that is slower than one a second."""
    if speed <= 0:
        return ""
    return f"{speed:.3g} {things}/s" if speed >= 1 else f"{1 / speed:.3g} s a {things.removesuffix('s')}"


class Terminal:
    """Where a command prints: results on standard output, all else on standard error.

    Args:
        json: print results as one JSON object.
        command: the command line as typed.
    """

    def __init__(self, *, json: bool, command: str) -> None:
        self.json = json
        self.command = command

    def result(self, data: Mapping[str, Any], *human: RenderableType) -> None:
        """Print a result: `data` for machines, `human` for everybody else."""
        if self.json:
            print(json.dumps(_finite(data), indent=1))
            return
        # Where there is no terminal, nothing is wrapped: a path that is cut in two helps nobody.
        console = Console(width=None if sys.stdout.isatty() else 160)
        with console.capture() as capture:
            for item in human:
                console.print(item, highlight=False, markup=False, soft_wrap=isinstance(item, str))
        print("\n".join(line.rstrip() for line in capture.get().splitlines()))  # tables are padded to their width

    def note(self, text: str) -> None:
        """Print a remark on standard error."""
        print(text, file=sys.stderr)

    @contextmanager
    def progress(self, title: str, things: str, *, kept: str) -> Iterator[Callable[[int, int], None]]:
        """A progress bar with rate and remaining time on standard error.

        Args:
            title: what is being done.
            things: what is counted, in the plural.
            kept: for a user who interrupts: what is kept, and how to go on.

        Yields:
            A function of the number done and the number in all.

        Raises:
            KeyboardInterrupt: with `kept`, when interrupted.
        """
        try:
            if sys.stderr.isatty():
                yield from _bar(title, things)
            else:
                yield _lines(title, things)
        except KeyboardInterrupt:
            raise KeyboardInterrupt(kept) from None


def _bar(title: str, things: str) -> Iterator[Callable[[int, int], None]]:
    columns = (TextColumn(title), BarColumn(), MofNCompleteColumn(), _Rate(things), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        tasks: list[Any] = []

        def report(done: int, total: int) -> None:
            # What was done before, by a run that is being resumed, does not count towards the rate.
            if not tasks:
                tasks.append(bar.add_task(title, total=total, completed=done))
            bar.update(tasks[0], completed=done, total=total)

        yield report


def _lines(title: str, things: str) -> Callable[[int, int], None]:
    first: list[tuple[float, int]] = []
    last = time.monotonic()

    def report(done: int, total: int) -> None:
        nonlocal last
        now = time.monotonic()
        if not first:
            first.append((now, done))
        if now - last < _LINE_SECONDS:
            return
        last = now
        start, before = first[0]
        speed = (done - before) / (now - start) if now > start else 0.0
        left = f", {(total - done) / speed:.0f} s left" if speed > 0 else ""
        print(f"{title}: {done} of {total} {things}, {rate(speed, things)}{left}", file=sys.stderr, flush=True)

    return report


def facts(rows: Mapping[str, str]) -> Table:
    """A table of two columns without lines: names and values."""
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows.items():
        table.add_row(name, value)
    return table


def _finite(value: Any) -> Any:
    """JSON knows no NaN and no infinity: they become null."""
    if isinstance(value, Mapping):
        return {str(k): _finite(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value

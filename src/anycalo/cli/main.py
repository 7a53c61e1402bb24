"""`anycalo`: finds the command, runs it, and turns errors into one clear message and an exit code.

Commands are named by import path, so that `anycalo --help` imports none of them, nor torch.
Exit codes: 0 done; 1 a check that failed or a closed pipe; 2 an error with a message; 130 interrupted.
"""

from __future__ import annotations

import os
import shlex
import signal
import sys
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated

from cyclopts import App, CycloptsError, Parameter

from anycalo.errors import AnyCaloError, CommandError, DomainWarning
from anycalo.version import __version__

COMMANDS = {
    "detectors": "List the detectors shipped with AnyCalo, or describe one.",
    "simulate": "Simulate showers with Geant4.",
    "inspect": "Validate and summarise a shower file.",
    "convert": "Convert shower files of other programs.",
    "train": "Train a model on showers.",
    "finetune": "Adapt a model to a detector with few showers.",
    "generate": "Generate showers with a model.",
    "embed": "Simulate events with Geant4, in which a model takes over at the face of the calorimeter.",
    "export": "Export a model for another program.",
    "bench": "Time photons: the whole call, models and Geant4 in turn.",
    "evaluate": "Compare generated showers with Geant4 and write a report.",
    "study": "Compare ways of adapting models, from scratch to zero-shot.",
    "separate": "Find two photons laid over one another, in both samples.",
    "show": "Draw a shower in three dimensions.",
}

app = App(
    name="anycalo",
    help="Electromagnetic showers in any sampling calorimeter.",
    version=__version__,
    result_action="return_value",
    help_format="plaintext",
)
for _place, (_name, _help) in enumerate(COMMANDS.items()):
    app.command(f"anycalo.cli.{_name}:{_name}", name=_name, help=_help, sort_key=_place)


def load(command: str) -> None:
    """Import a command, whose own text then takes the place of its line in the list of commands."""
    app[command].help = None


@app.meta.default
def _launch(
    *tokens: Annotated[str, Parameter(show=False, allow_leading_hyphen=True)],
    json: Annotated[bool, Parameter(negative="", show_default=False)] = False,
    debug: Annotated[bool, Parameter(negative="", show_default=False)] = False,
    typed: Annotated[str, Parameter(parse=False)],
) -> None:
    """Run a command.

    Args:
        tokens: the command line without the options here.
        json: Print one JSON object on standard output, and nothing else there.
        debug: Show where an error came from.
        typed: the whole command line.
    """
    del debug  # read by main, which must know it even when the rest of the line is wrong
    command, bound, ignored = app.parse_args(tokens, exit_on_error=False, print_error=False)
    if "terminal" in ignored:
        from anycalo.cli.console import Terminal

        bound.arguments["terminal"] = Terminal(json=json, command=typed)
    command(*bound.args, **bound.kwargs)


def main(tokens: Sequence[str] | None = None) -> int:
    """Run one command line.

    Args:
        tokens: without the program's name; `sys.argv` by default.

    Returns:
        The exit code.
    """
    tokens = list(sys.argv[1:] if tokens is None else tokens)
    debug = "--debug" in tokens
    command = next((token for token in tokens if token in COMMANDS), None)
    try:
        with _termination_interrupts(), warnings.catch_warnings():
            warnings.simplefilter("always", DomainWarning)
            plain = warnings.showwarning
            warnings.showwarning = lambda message, category, *rest, **named: (
                _complain(f"warning: {message}") if category is DomainWarning else plain(message, category, *rest, **named)
            )
            if command is not None:
                load(command)
            run, bound, ignored = app.meta.parse_args(tokens, exit_on_error=False, print_error=False)
            if "typed" in ignored:
                bound.arguments["typed"] = shlex.join(["anycalo", *tokens])
            run(*bound.args, **bound.kwargs)
            sys.stdout.flush()
    except (AnyCaloError, CycloptsError) as error:
        if debug:
            raise
        about = f"{command} " if command else ""
        hint = f" See 'anycalo {about}--help'." if isinstance(error, (CycloptsError, CommandError)) else ""
        _complain(f"error: {error}{hint}")
        return 2
    except KeyboardInterrupt as interrupt:
        if debug:
            raise
        _complain(f"interrupted{': ' if interrupt.args else ''}{' '.join(map(str, interrupt.args))}")
        return 130
    except BrokenPipeError:
        # The reader (`head`) went away. Nothing more can be written; keep the interpreter from trying at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return 0


def _complain(message: str) -> None:
    print(f"anycalo: {message}", file=sys.stderr)


@contextmanager
def _termination_interrupts() -> Iterator[None]:
    """Let SIGTERM, as batch systems send it, clean up like Ctrl-C."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)

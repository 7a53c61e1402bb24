"""The program around the commands: help, errors, interruption, standard output for machines."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from outcome import Refused, Run

import anycalo as package
from anycalo.cli import console, main
from anycalo.cli.main import COMMANDS, app, load
from anycalo.errors import AnyCaloError


def python(code: str, **more: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False, **more)  # type: ignore[call-overload]


def test_help_names_every_command_and_imports_none() -> None:
    heavy = ["torch", "matplotlib", "plotly", "h5py", "scipy", "numpy", "geant4_pybind"]
    done = python(
        f"import sys; from anycalo.cli import main; main(['--help']); print([m for m in {heavy} if m in sys.modules])"
    )
    assert done.stderr == ""
    assert done.stdout.rstrip().endswith("[]")
    assert all(command in done.stdout for command in COMMANDS)


def test_help_starts_fast() -> None:
    """Below half a second of processor time, whatever else the machine is doing."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    python("from anycalo.cli import main; main(['--help'])")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 0.5


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_has_help(anycalo: Run, command: str) -> None:
    outcome = anycalo(command, "--help")
    assert outcome.code == 0
    assert f"Usage: anycalo {command}" in outcome.out
    assert "--json" in outcome.out
    assert outcome.err == ""


def test_every_option_is_described() -> None:
    for command in COMMANDS:
        load(command)
    options = [line for line in app.generate_docs().splitlines() if line.startswith("* `")]
    assert len(options) > 60
    assert [line for line in options if "`: " not in line] == []


def test_version(anycalo: Run) -> None:
    assert anycalo("--version").out.strip() == package.__version__


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["simulte"], 'Unknown command "simulte". Did you mean "simulate"?'),
        (["simulate", "ild-ecal"], "--out requires an argument"),
        (["simulate", "ild-ecal", "--out", "a.h5", "-n", "x", "--energy", "1GeV"], 'unable to convert "x" into int'),
        (["simulate", "ild-ecal", "--out", "a.h5", "-n", "1", "--energy", "1"], "Invalid value for --energy: energy is '1'"),
        (["simulate", "ild-ecal", "--out", "a.h5", "-n", "1", "--enrgy", "1GeV"], "Did you mean --energy"),
        (["show", "--nothing"], "nothing"),
    ],
)
def test_a_wrong_command_line_is_one_message(refused: Refused, words: list[str], message: str) -> None:
    error = refused(*words)
    assert message in error
    assert "--help'." in error
    assert error.count("\n") == 1


def test_debug_shows_where_an_error_came_from() -> None:
    with pytest.raises(AnyCaloError, match="no detector 'nowhere'"):
        main(["--debug", "detectors", "nowhere"])


def test_an_error_that_is_nobodys_fault_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only errors raised on purpose become messages; a bug must show itself."""
    from anycalo.cli import detectors

    monkeypatch.setattr(detectors, "presets", lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        main(["detectors"])


def test_json_is_one_object_and_all_else_goes_to_stderr(anycalo: Run, toy_file: Path) -> None:
    outcome = anycalo("inspect", toy_file, "--json")
    assert outcome.json["n_showers"] == 200
    assert anycalo("--json", "inspect", toy_file).json == outcome.json


def test_json_has_no_nan(anycalo: Run, capfd: pytest.CaptureFixture[str]) -> None:
    terminal = console.Terminal(json=True, command="anycalo")
    terminal.result({"a": float("nan"), "b": [float("inf"), 1.5], "c": {"d": -0.5}})
    assert "".join(capfd.readouterr().out.split()) == '{"a":null,"b":[null,1.5],"c":{"d":-0.5}}'


def test_progress_without_a_terminal_is_quiet_at_first_and_then_a_line(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter([0.0, 10.0, 20.0, 50.0])
    monkeypatch.setattr(console.time, "monotonic", lambda: next(clock))
    terminal = console.Terminal(json=False, command="anycalo")
    with terminal.progress("Baking", "loaves", kept="") as progress:
        progress(100, 1000)  # done by an earlier run
        progress(120, 1000)
        progress(200, 1000)
    # 100 loaves in the 40 seconds since the first report; 800 are left.
    assert capfd.readouterr().err == "Baking: 200 of 1000 loaves, 2.5 loaves/s, 320 s left\n"


def test_progress_on_a_terminal_shows_rate_and_remaining_time(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    terminal = console.Terminal(json=False, command="anycalo")
    with terminal.progress("Baking", "loaves", kept="") as progress:
        progress(0, 10)
        time.sleep(0.05)
        progress(4, 10)
        time.sleep(0.05)
        progress(5, 10)
        time.sleep(0.15)
    err = capfd.readouterr().err
    assert "Baking" in err
    assert "5/10" in err
    assert "loaves/s" in err
    assert "0:00:0" in err


def test_rates() -> None:
    assert console.rate(12.345, "showers") == "12.3 showers/s"
    assert console.rate(0.25, "showers") == "4 s a shower"
    assert console.rate(0.0, "showers") == ""


def test_interruption_says_what_is_kept(anycalo: Run, monkeypatch: pytest.MonkeyPatch, toy_file: Path) -> None:
    from anycalo.cli import inspect

    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(inspect, "run", interrupt)
    outcome = anycalo("inspect", toy_file)
    assert outcome.code == 130
    assert outcome.err == "anycalo: interrupted: nothing was changed.\n"


def test_a_terminated_program_cleans_up_like_an_interrupted_one(anycalo: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from anycalo.cli import inspect

    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(inspect, "run", lambda *_, **__: os.kill(os.getpid(), signal.SIGTERM))
    assert anycalo("inspect", "whatever.h5").code == 130
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_reader_that_goes_away_is_no_error() -> None:
    done = subprocess.run(
        f"{sys.executable} -c \"import sys; from anycalo.cli import main; sys.exit(main(['--json', 'detectors']))\" | true",
        shell=True,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stderr == ""


def test_module_and_entry_point_are_the_same_program() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "anycalo", "--version"], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == package.__version__

"""What all commands have in common: arguments, exit codes, and what errors look like."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import fxq
from fxq.cli import main
from fxq.cli.main import COMMANDS
from tests.cli.commands import run_quantize


def test_demos_get_their_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[object] = []
    monkeypatch.setattr("fxq.cli.demos.run_demo", lambda out, console, recipe: given.append((out, recipe.seed)))
    monkeypatch.setattr("fxq.cli.demos.run_qat_demo", lambda console, recipe: given.append(recipe.seed))
    assert main(["demo"]) == 0
    assert main(["demo", "--out", "x/y", "--seed", "3"]) == 0
    assert main(["qat-demo", "--seed", "4"]) == 0
    assert given == [(Path("fxq-demo"), 0), (Path("x/y"), 3), 4]


def test_no_command_prints_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    assert capsys.readouterr().out.startswith("usage: fxq")


def test_every_command_is_listed_once_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    main([])
    lines = capsys.readouterr().out.partition("commands:\n")[2].partition("\n\n")[0].splitlines()
    assert [line.split(maxsplit=1) for line in lines] == [[command.name, command.summary] for command in COMMANDS]


@pytest.mark.parametrize("command", [[], *([command.name] for command in COMMANDS)], ids=" ".join)
def test_help_fits_80_columns(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, command: list[str]) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit) as caught:
        main([*command, "--help"])
    assert caught.value.code == 0
    assert [line for line in capsys.readouterr().out.splitlines() if len(line) > 80] == []


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--version"])
    assert capsys.readouterr().out == f"fxq {fxq.__version__}, torch {torch.__version__}\n"


def test_debug_shows_the_traceback(folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FXQ_DEBUG", "1")
    assert run_quantize(batches="zoo:breaking") == 2
    printed = capsys.readouterr().err
    assert "Traceback (most recent call last)" in printed and 'raise FileNotFoundError("images.npy")' in printed


def test_an_error_of_ours_keeps_its_traceback(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object, **__: object) -> None:
        raise AssertionError("a broken promise")

    monkeypatch.setattr("fxq.cli.quantize.quantize", fails)
    with pytest.raises(AssertionError, match="a broken promise"):
        run_quantize()


def test_options_are_written_in_full(capsys: pytest.CaptureFixture[str]) -> None:
    """So that a new option does not change what an old command line means."""
    with pytest.raises(SystemExit) as caught:
        main(["demo", "--se", "3"])
    assert caught.value.code == 2
    assert "unrecognized arguments: --se 3" in capsys.readouterr().err


@pytest.mark.parametrize(("wrong", "said"), [("reprot", "invalid choice: 'reprot'"), ("report", "FILE")])
def test_wrong_usage(capsys: pytest.CaptureFixture[str], wrong: str, said: str) -> None:
    with pytest.raises(SystemExit) as caught:
        main([wrong])
    assert caught.value.code == 2
    printed = capsys.readouterr()
    assert printed.out == "" and said in printed.err


def test_interrupt_is_quiet(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("fxq.cli.look.load_model", interrupted)
    assert main(["graph", "model.fxq"]) == 130
    assert capsys.readouterr() == ("", "")


def test_closed_pipe_is_quiet() -> None:
    """In a process of its own: standard output is the process's."""
    script = "import sys\nfrom fxq.cli import look, main\nlook.load_model = lambda _: None\n"
    script += "look._FORMATS['text'] = lambda _: 'x' * 10**6\nsys.exit(main(['graph', 'x']))"
    environment = {**os.environ, "PYTHONPATH": str(Path(fxq.__file__).parents[1])}
    with subprocess.Popen([sys.executable, "-c", script], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait() == 0

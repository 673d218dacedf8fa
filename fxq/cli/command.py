"""What a command is, and how it prints."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rich.console import Console

from fxq.report.printable import Printable

# exit codes, 0 aside: a check that was asked for has failed, or two models differ; the user gave something wrong; Ctrl-C
FAILED, USER_ERROR, INTERRUPTED = 1, 2, 130


@dataclass(frozen=True)
class Command:
    """One command of `fxq`.

    Attributes:
        name: as it is typed.
        summary: a few words for the list of commands.
        description: what `fxq NAME --help` says before the options, in lines of at most 80 characters.
        add_arguments: adds its arguments to its parser.
        run: does it; returns the exit code.
    """

    name: str
    summary: str
    description: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int]


def add_json(parser: argparse.ArgumentParser) -> None:
    """The option --json, which every command with a result has."""
    parser.add_argument("--json", action="store_true", help="for programs: JSON on standard output")


def at_least_one(text: str) -> int:
    """An argument that counts something."""
    if text.isdecimal() and int(text) >= 1:
        return int(text)
    raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, found {text!r}")


def share(text: str) -> float:
    """An argument from 0 to 1."""
    try:
        found = float(text)
    except ValueError:
        found = -1.0
    if 0 <= found <= 1:
        return found
    raise argparse.ArgumentTypeError(f"expected a number from 0 to 1, such as 0.99 for 99 %, found {text!r}")


def show(result: Printable, as_json: bool) -> None:
    """The result on standard output: JSON, coloured text on a terminal, or plain text of at most 120 columns."""
    if as_json:
        write(result.to_json())
    elif sys.stdout.isatty():
        Console().print(result)
    else:
        write(str(result))


def show_values(values: dict[str, Any]) -> None:
    """Plain values as JSON on standard output."""
    write(json.dumps(values, indent=2))


def write(text: str) -> None:
    """A text and a line break, on standard output."""
    sys.stdout.write(f"{text}\n")

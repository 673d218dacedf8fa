"""main: the arguments of `fxq`, the command that they name, and what its errors look like."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import traceback
from collections.abc import Sequence
from typing import Any

import torch

from fxq.cli.accuracy import COMPARE, SENSITIVITY
from fxq.cli.bench import BENCH
from fxq.cli.command import INTERRUPTED, USER_ERROR, Command
from fxq.cli.convert import CONVERT
from fxq.cli.demos import DEMO, QAT_DEMO
from fxq.cli.look import DIFF, GRAPH, REPORT
from fxq.cli.quantize import QUANTIZE
from fxq.cli.visualize import VISUALIZE
from fxq.errors import FxqError

# in the order in which one meets them
COMMANDS = (QUANTIZE, REPORT, VISUALIZE, GRAPH, COMPARE, SENSITIVITY, DIFF, BENCH, CONVERT, DEMO, QAT_DEMO)

_DESCRIPTION = "Quantizes PyTorch models to int8 for CPUs; shows, measures and ships them."
_HELP_COLUMN = 28

_NAME_WIDTH = max(len(command.name) for command in COMMANDS) + 2
_COMMANDS = "\n".join(f"  {command.name:{_NAME_WIDTH}}{command.summary}" for command in COMMANDS)

_EPILOG = f"""\
commands:
{_COMMANDS}

examples:
  fxq quantize zoo:build_model --calibrate zoo:batches --out model.fxq
  fxq report model.fxq
  fxq compare zoo:build_model model.fxq --batches zoo:batches --top 10
  fxq bench model.fxq --float zoo:build_model
  fxq convert model.fxq --out model.onnx
  fxq visualize model.fxq --out model.html

exit codes:
  0  done
  1  a check that you asked for has failed, or fxq diff found a difference
  2  something that you gave is wrong; FXQ_DEBUG=1 shows the traceback

fxq COMMAND --help says more of each command.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line (sys.argv where None is given).

    Returns:
        the exit code: 0; 1 where a check has failed that was asked for; 2 for an error in what the user gave, whose traceback
        FXQ_DEBUG=1 shows; 130 where it was interrupted.
    """
    arguments = _parser().parse_args(argv)
    try:
        code: int = arguments.run(arguments)
        sys.stdout.flush()
    except FxqError as error:
        if os.environ.get("FXQ_DEBUG") == "1":
            traceback.print_exc()
        sys.stderr.write(f"fxq: {error}\n")
        return USER_ERROR
    except BrokenPipeError:
        # the reader of a pipe has gone (`fxq graph model.fxq | head`): nothing may be written when the interpreter ends, either
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return INTERRUPTED
    return code


class _Parser(argparse.ArgumentParser):
    """Descriptions are printed as they are written, and options are written in full."""

    def __init__(self, **options: Any) -> None:
        super().__init__(formatter_class=_Formatter, allow_abbrev=False, **options)


class _Formatter(argparse.RawDescriptionHelpFormatter):
    """One line for each command and for most options."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=_HELP_COLUMN)


def _parser() -> argparse.ArgumentParser:
    version = f"fxq {importlib.import_module('fxq').__version__}, torch {torch.__version__}"
    parser = _Parser(prog="fxq", usage="fxq [-h] [--version] COMMAND ...", description=_DESCRIPTION, epilog=_EPILOG)
    parser.add_argument("--version", action="version", version=version)
    parser.set_defaults(run=lambda _: _show_help(parser))
    commands = parser.add_subparsers(prog="fxq", metavar="COMMAND", help=argparse.SUPPRESS, parser_class=_Parser)  # the epilog has them
    for command in COMMANDS:
        _add(commands, command)
    return parser


def _show_help(parser: argparse.ArgumentParser) -> int:
    parser.print_help()
    return 0


def _add(commands: Any, command: Command) -> None:
    parser = commands.add_parser(command.name, description=command.description)
    command.add_arguments(parser)
    parser.set_defaults(run=command.run)

"""fxq visualize: a page to look around in."""

from __future__ import annotations

import argparse
from pathlib import Path

from fxq.cli.command import Command, write
from fxq.cli.files import ABOUT_FILES, load_model, require_writable
from fxq.cli.inputs import example_inputs
from fxq.cli.look import add_file
from fxq.cli.python_objects import HOW_TO_NAME, build_model, find_batches
from fxq.errors import ConfigError
from fxq.report import compare, profile
from fxq.visualize import visualize

_DESCRIPTION = f"""\
Writes a picture of a saved model: an HTML file with all that it needs inside,
for any browser. With the float model and batches its nodes can be coloured by
what int8 costs them, with --times by latency.

A saved model has the last stage of its compilation. For all of them let
fxq quantize --visualize write the picture.

{HOW_TO_NAME}
{ABOUT_FILES}"""


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    add_file(parser)
    parser.add_argument("--out", required=True, type=Path, metavar="FILE", help="where to write it: model.html")
    parser.add_argument("--float", dest="float_model", metavar="MODULE:NAME", help="what makes the float model to compare with")
    parser.add_argument("--batches", metavar="MODULE:NAME", help="the batches to compare on, and to time with")
    parser.add_argument("--times", action="store_true", help="measure the time of every kernel, on one thread")


def _run(arguments: argparse.Namespace) -> int:
    require_writable(arguments.out, "model.html")
    if arguments.float_model is not None and arguments.batches is None:
        raise ConfigError("--float", expected="--batches as well: what to compare on", found="none", remedy="add --batches MODULE:NAME")
    int8, comparison, times = load_model(arguments.model), None, None
    inputs = example_inputs(int8, arguments.batches)
    int8(*inputs.args, **inputs.kwargs)  # compiles what is to be shown
    if arguments.float_model is not None:
        comparison = compare(build_model(arguments.float_model), int8, find_batches(arguments.batches))
    if arguments.times:
        times = profile(int8, inputs.kwargs or inputs.args)
    path = visualize(int8, arguments.out, profile=times, comparison=comparison)
    write(f"wrote {path} ({path.stat().st_size / 1000:,.1f} kB)")
    return 0


VISUALIZE = Command("visualize", "a picture to look around in, as HTML", _DESCRIPTION, _add_arguments, _run)

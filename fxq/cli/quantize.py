"""fxq quantize: a float model of the user's → a file with the int8 model."""

from __future__ import annotations

import argparse
from pathlib import Path

from fxq.api import quantize
from fxq.cli.command import Command, add_json, show, write
from fxq.cli.files import ABOUT_FILES, read_mapping, require_writable, save_model, write_text
from fxq.cli.python_objects import HOW_TO_NAME, build_model, find_batches
from fxq.lowering.profiles import PROFILES, find_profile
from fxq.report import report
from fxq.visualize import visualize

_DESCRIPTION = f"""\
Quantizes a model of yours, calibrated on batches of yours: some hundred
samples like those of use are enough.

{HOW_TO_NAME}
{ABOUT_FILES}"""


def add_preparation(parser: argparse.ArgumentParser) -> None:
    """How to prepare a model: --profile and --qconfig."""
    profiles = " or ".join(row.name for row in PROFILES)
    parser.add_argument("--profile", default="x86", help=f"{profiles} (default: %(default)s)")
    parser.add_argument("--qconfig", type=Path, metavar="FILE", help="a QConfigMapping as JSON (default: the profile's own)")


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODULE:NAME", help="what makes the model, such as zoo:build_model")
    parser.add_argument("--calibrate", required=True, metavar="MODULE:NAME", help="the batches to calibrate with")
    parser.add_argument("--out", required=True, type=Path, metavar="FILE", help="where to save the int8 model: model.fxq")
    add_preparation(parser)
    parser.add_argument("--report", type=Path, metavar="FILE", help="where to write the report, one row for every layer")
    parser.add_argument("--visualize", type=Path, metavar="FILE", help="where to write a picture of every stage: model.html")
    add_json(parser)


def _run(arguments: argparse.Namespace) -> int:
    find_profile(arguments.profile)
    for path in (arguments.out, arguments.report, arguments.visualize):
        require_writable(path)
    mapping = read_mapping(arguments.qconfig)
    model, batches = build_model(arguments.model), find_batches(arguments.calibrate)
    quantized = quantize(model, batches, arguments.profile, qconfig_mapping=mapping)
    save_model(quantized, arguments.out)
    made = report(quantized)
    if arguments.report is not None:
        write_text(arguments.report, str(made))
    if arguments.visualize is not None:
        visualize(quantized, arguments.visualize)
    if arguments.json:
        show(made, as_json=True)
    else:
        write(f"{made.summary()}\n\nsaved {arguments.out} ({arguments.out.stat().st_size / 1000:,.1f} kB)")
    return 0


QUANTIZE = Command("quantize", "quantize a model of yours", _DESCRIPTION, _add_arguments, _run)

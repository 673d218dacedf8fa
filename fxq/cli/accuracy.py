"""fxq compare and sensitivity: where the accuracy goes, and what to do about it."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from fxq.cli.command import FAILED, Command, add_json, at_least_one, show, write
from fxq.cli.files import ABOUT_FILES, load_model, read_mapping, require_writable, write_text
from fxq.cli.look import add_file
from fxq.cli.python_objects import HOW_TO_NAME, build_model, find_batches, find_function
from fxq.cli.quantize import add_preparation
from fxq.errors import DataError
from fxq.lowering.profiles import find_profile
from fxq.qconfig_mapping import get_default_qconfig_mapping
from fxq.report import compare
from fxq.tuning import sensitivity

_COMPARE = f"""\
Runs a float model and its saved int8 model on the same batches, and prints
what every layer loses, by itself and with all layers before it. The most
damaged layer comes first.

{HOW_TO_NAME}
{ABOUT_FILES}"""

_SENSITIVITY = f"""\
Ranks the layers of a model by what keeping each of them float gives back.
With a target it also proposes which to keep, and says what that costs; --out
writes the proposal for fxq quantize --qconfig.

{HOW_TO_NAME}"""


def _add_compare(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("float_model", metavar="MODULE:NAME", help="what makes the float model")
    add_file(parser)
    parser.add_argument("--batches", required=True, metavar="MODULE:NAME", help="the batches to compare on")
    parser.add_argument("--top", type=at_least_one, metavar="N", help="only the N most damaged layers")
    parser.add_argument("--min-sqnr", type=float, metavar="DB", help="exit with 1 where the output has less")
    add_json(parser)


def _compare(arguments: argparse.Namespace) -> int:
    int8 = load_model(arguments.model)
    found = compare(build_model(arguments.float_model), int8, find_batches(arguments.batches))
    show(found.model_copy(update={"rows": found.rows[: arguments.top]}), arguments.json)
    least = arguments.min_sqnr
    if least is None or found.output.sqnr_db >= least:
        return 0
    if not arguments.json:
        write(f"\n{found.output.sqnr_db:.1f} dB at the output, less than {least:g} dB")
    return FAILED


def _add_sensitivity(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODULE:NAME", help="what makes the float model")
    parser.add_argument("--batches", required=True, metavar="MODULE:NAME", help="the batches to calibrate with and to measure on")
    parser.add_argument("--min-sqnr", type=float, metavar="DB", help="target: the least SQNR of the results")
    parser.add_argument("--metric", metavar="MODULE:NAME", help="target: a function of a model, larger is better, such as accuracy")
    parser.add_argument("--max-drop", type=float, metavar="AMOUNT", help="by how much the metric may drop")
    parser.add_argument("--out", type=Path, metavar="FILE", help="where to write the proposed QConfigMapping as JSON")
    add_preparation(parser)
    add_json(parser)


def _sensitivity(arguments: argparse.Namespace) -> int:
    profile = find_profile(arguments.profile)
    require_writable(arguments.out, "mapping.json")
    mapping = read_mapping(arguments.qconfig) or get_default_qconfig_mapping(profile.name)
    model, batches = build_model(arguments.model), list(find_batches(arguments.batches))
    metric = None if arguments.metric is None else find_function(arguments.metric)
    target = {"min_sqnr_db": arguments.min_sqnr, "metric": metric, "max_drop": arguments.max_drop}
    found = sensitivity(model, mapping, _first(batches, arguments.batches), batches, profile=profile, **target)
    show(found, arguments.json)
    if found.proposal is None:
        return 0
    if arguments.out is not None:
        write_text(arguments.out, found.proposal.mapping.to_json())
    return 0 if found.proposal.is_reached else FAILED


def _first(batches: list[Any], where: str) -> Any:
    if batches:
        return batches[0]
    raise DataError(where, expected="at least one batch", found="none", remedy="return a list or a DataLoader that is not empty")


COMPARE = Command("compare", "what every layer loses", _COMPARE, _add_compare, _compare)
SENSITIVITY = Command("sensitivity", "which layers to keep float", _SENSITIVITY, _add_sensitivity, _sensitivity)

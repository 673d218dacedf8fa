"""fxq report, graph and diff: what became of a model, as text."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from fxq.cli.command import FAILED, Command, add_json, share, show, write
from fxq.cli.files import ABOUT_FILES, load_model
from fxq.graph.module import FxqModule
from fxq.report import diff, report
from fxq.report.wording import format_share
from fxq.visualize import to_dot, to_mermaid, to_svg, to_text

_FORMATS: dict[str, Callable[[FxqModule], str]] = {"text": to_text, "dot": to_dot, "svg": to_svg, "mermaid": to_mermaid}

_REPORT = f"""\
Prints what became of every layer of a saved model, and why.

{ABOUT_FILES}"""

_GRAPH = f"""\
Prints the graph of a saved model: one line for every node, or a picture as
text. fxq visualize makes one to look around in.

{ABOUT_FILES}"""

_DIFF = f"""\
Prints what differs between two saved models: ops added, removed and changed;
dtypes, scales, zero points, attributes and weights. The exit code is 1 where
they differ, and 0 where they are the same.

{ABOUT_FILES}"""


def add_file(parser: argparse.ArgumentParser, name: str = "model") -> None:
    """A saved model."""
    parser.add_argument(name, type=Path, metavar="FILE", help="a model saved by fxq quantize or fxq.save")


def _add_report(parser: argparse.ArgumentParser) -> None:
    add_file(parser)
    parser.add_argument("--min-int8-macs", type=share, metavar="SHARE", help="exit with 1 where less of the MACs is int8, such as 0.99")
    add_json(parser)


def _report(arguments: argparse.Namespace) -> int:
    least = arguments.min_int8_macs
    made = report(load_model(arguments.model))
    show(made, arguments.json)
    found = made.totals.macs_share_int8
    if least is None or found >= least:
        return 0
    if not arguments.json:
        write(f"\n{format_share(found)} of the MACs are in int8, less than {format_share(least)}")
    return FAILED


def _add_graph(parser: argparse.ArgumentParser) -> None:
    add_file(parser)
    parser.add_argument("--format", default="text", choices=tuple(_FORMATS), help="how (default: %(default)s)")


def _graph(arguments: argparse.Namespace) -> int:
    write(_FORMATS[arguments.format](load_model(arguments.model)).removesuffix("\n"))
    return 0


def _add_diff(parser: argparse.ArgumentParser) -> None:
    add_file(parser, "before")
    add_file(parser, "after")
    add_json(parser)


def _diff(arguments: argparse.Namespace) -> int:
    found = diff(load_model(arguments.before), load_model(arguments.after))
    show(found, arguments.json)
    return 0 if found.is_empty else FAILED


REPORT = Command("report", "what became of every layer, and why", _REPORT, _add_report, _report)
GRAPH = Command("graph", "the graph as text, DOT, SVG or Mermaid", _GRAPH, _add_graph, _graph)
DIFF = Command("diff", "what differs between two saved models", _DIFF, _add_diff, _diff)

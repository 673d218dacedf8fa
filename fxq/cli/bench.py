"""fxq bench: how fast a saved model is."""

from __future__ import annotations

import argparse

import torch
from rich.table import Table

from fxq.cli.command import Command, add_json, at_least_one, show, show_values, write
from fxq.cli.files import ABOUT_FILES, load_model
from fxq.cli.inputs import example_inputs
from fxq.cli.look import add_file
from fxq.cli.python_objects import HOW_TO_NAME, build_model
from fxq.report import profile
from fxq.report.latency import Latency, measure_latency
from fxq.report.printable import as_text

_DESCRIPTION = f"""\
Times a saved model, beside its float model if that is named: they take turns.
Inputs are random, of the shapes that the model was prepared with, unless
--batches names some: then the first of these is used.

{HOW_TO_NAME}
{ABOUT_FILES}"""


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    add_file(parser)
    parser.add_argument("--float", dest="float_model", metavar="MODULE:NAME", help="what makes the float model to time beside it")
    parser.add_argument("--batches", metavar="MODULE:NAME", help="inputs to time with")
    parser.add_argument("--batch", type=at_least_one, metavar="N", help="length of dimension 0 of random inputs")
    parser.add_argument("--runs", type=at_least_one, default=50, metavar="N", help="timed calls (default: %(default)s)")
    parser.add_argument("--threads", type=at_least_one, metavar="N", help="of torch (default: as torch has them)")
    parser.add_argument(
        "--runtime", default="auto", choices=("auto", "jit", "integer"), help="what int8 layers run on (default: %(default)s)"
    )
    parser.add_argument("--kernels", action="store_true", help="also the time of every kernel, on one thread")
    add_json(parser)


def _run(arguments: argparse.Namespace) -> int:
    if arguments.threads is not None:
        torch.set_num_threads(arguments.threads)
    int8 = load_model(arguments.model, arguments.runtime)
    models = {"int8": int8} if arguments.float_model is None else {"int8": int8, "float": build_model(arguments.float_model).eval()}
    inputs = example_inputs(int8, arguments.batches, arguments.batch)
    times = dict(zip(models, measure_latency(list(models.values()), inputs, runs=arguments.runs), strict=True))
    kernels = profile(int8, inputs.kwargs or inputs.args) if arguments.kernels else None
    if arguments.json:
        found = {name: latency.model_dump() for name, latency in times.items()}
        show_values({"latency": found, "kernels": None if kernels is None else kernels.to_dict()})
        return 0
    write(as_text([_table(times)]))
    if kernels is not None:
        write("")
        show(kernels, as_json=False)
    return 0


def _table(times: dict[str, Latency]) -> Table:
    table = Table(box=None, padding=(0, 2), pad_edge=False, header_style="bold")
    table.add_column("model")
    for name in ("least ms", "median ms", "9 of 10 ms", "calls/s", "of int8"):
        table.add_column(name, justify="right", no_wrap=True)
    for name, found in times.items():
        milliseconds = (f"{each:.3f}" for each in (found.least, found.median, found.ninth))
        table.add_row(name, *milliseconds, f"{1e3 / found.median:,.0f}", f"{found.median / times['int8'].median:.2f}×")
    return table


BENCH = Command("bench", "how fast a saved model is", _DESCRIPTION, _add_arguments, _run)

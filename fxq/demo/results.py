"""The demo's results as a table, and as files."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Sequence
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from fxq.demo.compare import Compared, Machine
from fxq.demo.digits import TEST_SIZE
from fxq.demo.measure import BATCH_SIZES, Measured

_COLUMNS = 100
_HEADINGS = ("accuracy\n%", "change\npoints", "SQNR\ndB", "weights\nkB", *(f"batch {size}\nms" for size in BATCH_SIZES))


def results_table(results: Sequence[Compared]) -> Table:
    """A row for each network in float32, and one for each way in which it was quantized. 78 columns wide."""
    table = Table("", box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    for heading in _HEADINGS:
        table.add_column(heading, justify="right", no_wrap=True)
    for compared in results:
        table.add_row(f"{compared.name}, float32", *_cells(compared.float32), style="bold")
        for quantized in compared.quantized:
            change = quantized.measured.accuracy - compared.float32.accuracy
            table.add_row(f"  {quantized.variant.name}", *_cells(quantized.measured, change))
        table.add_section()
    return table


def _cells(measured: Measured, change: float | None = None) -> tuple[str, ...]:
    return (
        f"{measured.accuracy:.2f}",
        "" if change is None else f"{change:+.2f}",
        f"{measured.sqnr:.1f}" if math.isfinite(measured.sqnr) else "",
        f"{measured.weight_bytes / 1000:.1f}",
        *(f"{time:.2f}" for time in measured.milliseconds),
    )


def notes(machine: Machine) -> str:
    """What one has to know to read the table, a paragraph a line."""
    threads = "1 thread" if machine.threads == 1 else f"{machine.threads} threads"
    return (
        f"Measured on {machine.cpu}, torch {machine.torch} with {threads}; times are medians.\n"
        f"Change is against float32, on {TEST_SIZE} test images, so that one image is {100 / TEST_SIZE:g} points. "
        "float32 is the network as trained, in eval mode.\n"
        "int8 ops are compiled for this CPU, where LLVM has a target for it; FXQ_RUNTIME=integer runs the same ops one by one."
    )


def show_results(results: Sequence[Compared], machine: Machine, console: Console) -> None:
    """The table and its notes."""
    console.print(results_table(results), "", notes(machine), sep="\n", highlight=False, markup=False)


def write_results(results: Sequence[Compared], machine: Machine, folder: Path) -> None:
    """results.txt and results.json: the table, and its numbers in full."""
    with (folder / "results.txt").open("w", encoding="utf-8") as file:
        show_results(results, machine, Console(file=file, width=_COLUMNS))
    document = {
        "machine": dataclasses.asdict(machine),
        "batch_sizes": BATCH_SIZES,
        "networks": [_network(compared) for compared in results],
    }
    (folder / "results.json").write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


def _network(compared: Compared) -> dict[str, object]:
    return {
        "name": compared.name,
        "float32": _numbers(compared.float32),
        "quantized": [{**dataclasses.asdict(quantized.variant), **_numbers(quantized.measured)} for quantized in compared.quantized],
    }


def _numbers(measured: Measured) -> dict[str, object]:
    """JSON has no infinity: no noise is null."""
    return {**dataclasses.asdict(measured), "sqnr": measured.sqnr if math.isfinite(measured.sqnr) else None}

"""`python -m benchmarks.compile_time`: seconds that prepare_fx and convert_fx take, beside torch.ao, by pass, and by size of graph."""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

import fxq
from benchmarks.architectures import build
from benchmarks.engines import convert_torch_ao, prepare_torch_ao
from benchmarks.results import write_json
from fxq.api import LOWER
from fxq.graph.verify import verify
from fxq.lowering.profiles import find_profile
from fxq.passes import CONVERT, PREPARE, Context, trace
from fxq.passes.garbage import without_cycle_collection
from fxq.passes.pipeline import Pipeline


@dataclass(frozen=True)
class Seconds:
    """Least of several runs, in seconds of this process, which other work on the machine does not change much."""

    what: str
    prepare: float
    convert: float


@dataclass(frozen=True)
class PassSeconds:
    """One pass, and the check of its result."""

    name: str
    run: float
    verify: float


# --- beside torch.ao --------------------------------------------------------------------------------------------------------


def by_fxq(model: nn.Module, x: Tensor) -> Seconds:
    """One prepare_fx, one batch, one convert_fx."""
    return _timed("fxq", lambda: fxq.prepare_fx(model, fxq.get_default_qconfig_mapping("x86"), (x,)), fxq.convert_fx, x)


def by_torch_ao(model: nn.Module, x: Tensor) -> Seconds:
    """The same with torch.ao."""
    return _timed("torch.ao", lambda: prepare_torch_ao(model, x, "x86"), convert_torch_ao, x)


def _timed(what: str, prepare: Callable[[], Any], convert: Callable[[Any], nn.Module], x: Tensor) -> Seconds:
    start = time.process_time()
    prepared = prepare()
    prepare_seconds = time.process_time() - start
    with torch.no_grad():
        prepared(x)
    start = time.process_time()
    convert(prepared)
    return Seconds(what, prepare_seconds, time.process_time() - start)


def in_turns(model: nn.Module, x: Tensor, rounds: int) -> list[Seconds]:
    """fxq and torch.ao one after the other, `rounds` times; the least of each."""
    taken = [compiler(model, x) for _ in range(rounds) for compiler in (by_fxq, by_torch_ao)]
    return [least([each for each in taken if each.what == what]) for what in ("fxq", "torch.ao")]


def least(taken: Sequence[Seconds]) -> Seconds:
    """The least time of each part."""
    return Seconds(taken[0].what, min(each.prepare for each in taken), min(each.convert for each in taken))


# --- pass by pass -----------------------------------------------------------------------------------------------------------


def by_pass(model: nn.Module, x: Tensor) -> Iterator[PassSeconds]:
    """Capture, every pass of prepare and convert, and the copies in between."""
    profile = find_profile("x86")
    start = time.process_time()
    module = trace(model, (x,))
    yield PassSeconds("trace", time.process_time() - start, 0.0)
    yield from _passes(module, PREPARE, Context(profile, fxq.get_default_qconfig_mapping("x86")))
    module.profile = profile
    module.recompile()
    fxq.calibrate(module, [x])
    start = time.process_time()
    module = copy.deepcopy(module)
    yield PassSeconds("deepcopy", time.process_time() - start, 0.0)
    yield from _passes(module, (*CONVERT, *LOWER), Context(profile))
    start = time.process_time()
    module.recompile()
    yield PassSeconds("recompile", time.process_time() - start, 0.0)


def _passes(module: fxq.FxqModule, steps: Pipeline, context: Context) -> Iterator[PassSeconds]:
    for step in steps:
        start = time.process_time()
        step.run(module, context)
        module.stage = step.gives
        ran = time.process_time()
        verify(module, step.gives, step.name, annotated=step.annotates)
        yield PassSeconds(step.name, ran - start, time.process_time() - ran)


# --- by size ----------------------------------------------------------------------------------------------------------------


# of a link's branch: the sum of ten thousand links stays finite
_GAIN = 2.0**-10


class Link(nn.Module):
    """relu(bn(conv(x))), or with + x: three nodes, or four."""

    def __init__(self, residual: bool) -> None:
        super().__init__()
        self.conv, self.bn, self.relu, self.residual = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4), nn.ReLU(), residual
        if residual:
            nn.init.constant_(self.bn.weight, _GAIN)
            nn.init.zeros_(self.conv.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn(self.conv(x))
        result: Tensor = self.relu(y + x if self.residual else y)
        return result


def grown(nodes: int, residual: bool) -> nn.Module:
    """A chain of links with about this many nodes."""
    return nn.Sequential(*(Link(residual) for _ in range(nodes // (3 + residual)))).eval()


# --- printing ---------------------------------------------------------------------------------------------------------------


def show(title: str, rows: Sequence[Seconds], console: Console) -> None:
    """prepare, convert and both."""
    table = Table("", "prepare s", "convert s", "both s", title=title)
    for row in rows:
        table.add_row(row.what, f"{row.prepare:.2f}", f"{row.convert:.2f}", f"{row.prepare + row.convert:.2f}")
    console.print(table)


def show_passes(rows: Sequence[PassSeconds], console: Console) -> None:
    """Every pass and its share."""
    total = sum(row.run + row.verify for row in rows)
    table = Table("pass", "ms", "verify ms", "share", title="fxq, pass by pass")
    for row in rows:
        table.add_row(row.name, f"{1e3 * row.run:.0f}", f"{1e3 * row.verify:.0f}", f"{(row.run + row.verify) / total:.0%}")
    console.print(table)


def main() -> None:
    """Prints the tables; --json FILE writes them as well."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="*", default=["resnet50", "mobilenet_v2"])
    parser.add_argument("--nodes", nargs="*", type=int, default=[5000, 10_000, 20_000, 40_000])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", metavar="FILE")
    given = parser.parse_args()
    torch.set_num_threads(1)
    console, rows = Console(), []
    for name in given.models:
        model, x = build(name, 64), torch.randn(1, 3, 64, 64)
        beside = in_turns(model, x, given.rounds)
        show(name, beside, console)
        with without_cycle_collection():  # as in prepare_fx and convert_fx
            passes = list(by_pass(model, x))
        show_passes(passes, console)
        rows.append({"model": name, "compilers": list(map(asdict, beside)), "passes": list(map(asdict, passes))})
    for residual in (False, True):
        kind, x = "residual" if residual else "chain", torch.randn(1, 4, 4, 4)
        sizes = [by_fxq(grown(nodes, residual), x) for nodes in given.nodes]
        named = [Seconds(f"{nodes:,} nodes", each.prepare, each.convert) for nodes, each in zip(given.nodes, sizes, strict=True)]
        show(f"fxq, {kind}", named, console)
        rows.append({"graph": kind, "sizes": list(map(asdict, named))})
    write_json(given.json, rows)


if __name__ == "__main__":
    main()

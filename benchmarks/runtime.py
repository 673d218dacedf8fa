"""`python -m benchmarks.runtime`: what compiled code promises besides the time of a call, as docs/kernels.md has it.

`beside`: how much longer calls take while another process wants one of their cores. `memory`: bytes of compiled programs in relation to
the least that they could be, and what calls leave behind. `threads`: how much faster two threads are than one. `compile`: seconds of a
first call.
No figure is printed of a model whose results are not those of the integer ops.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from benchmarks.alone import run_alone
from benchmarks.engines import by_fxq
from benchmarks.latency import images, load, times_in_turns
from benchmarks.memory import start_counting
from benchmarks.results import write_json
from fxq.graph.module import FxqModule
from fxq.lowering.executable import regions_of
from fxq.runtime.jit.program import Program

_MODELS = ("resnet18", "resnet50", "mobilenet_v2", "mobilenet_v3_large")
_CALIBRATION = (2, 2)  # batches, images in each
_THREADS = 2
_QUIET_SECONDS, _BUSY_SECONDS = 3.0, 10.0
_ROUNDS = 20
_CALLS, _WARM_CALLS = 10_000, 200


@dataclass(frozen=True)
class Subject:
    """Which model, and the height and width of its images."""

    name: str
    size: int


@dataclass(frozen=True)
class Figure:
    """One number of one model.

    Attributes:
        promised: what it should be, in words.
    """

    model: str
    what: str
    found: float
    unit: str
    promised: str = ""


@dataclass(frozen=True)
class Ready:
    """A converted model whose result on x is that of the integer ops, bit for bit."""

    model: FxqModule
    x: Tensor
    result: Tensor


def ready(subject: Subject) -> Ready:
    """Calibrated, compiled and checked.

    Raises:
        RuntimeError: compiled code computes something else.
    """
    model, x = _converted(subject)
    with torch.inference_mode():
        found = Ready(model, x, model.run_lowered(x))
        check(subject.name, found, model(x))
    return found


def check(name: str, expected: Ready, result: Tensor) -> None:
    """Raises RuntimeError where the result has other bits."""
    if not torch.equal(expected.result, result):
        raise RuntimeError(f"{name}: results are not those of the integer ops; its figures would mean nothing")


def _converted(subject: Subject) -> tuple[FxqModule, Tensor]:
    loaded = load(subject.name, subject.size)
    count, batch = _CALIBRATION
    model = by_fxq(loaded.model, [images(loaded, batch, seed) for seed in range(count)])
    assert isinstance(model, FxqModule)
    return model, images(loaded, 1, count)


# ---- beside a busy process


def beside(subject: Subject) -> Iterator[Figure]:
    """Two threads on two cores, first alone, then with a process that never sleeps on one of them."""
    torch.set_num_threads(_THREADS)
    there = ready(subject)
    with _on_cores(_THREADS) as cores:
        quiet = _call_for(_QUIET_SECONDS, subject.name, there)
        with _busy(cores[-1:]):
            crowded = _call_for(_BUSY_SECONDS, subject.name, there)
    median = statistics.median(quiet)
    nine_of_ten = statistics.quantiles(crowded, n=10)[-1]
    yield Figure(subject.name, "median, quiet", median, "ms")
    yield Figure(subject.name, "median beside a busy process", statistics.median(crowded), "ms")
    yield Figure(subject.name, "90th percentile beside it", nine_of_ten, "ms")
    yield Figure(subject.name, "90th percentile ÷ quiet median", nine_of_ten / median, "", "< 2")


def _call_for(seconds: float, name: str, there: Ready) -> list[float]:
    """Milliseconds of each call; every result is checked."""
    taken, end = [], time.perf_counter() + seconds
    with torch.inference_mode():
        while time.perf_counter() < end:
            start = time.perf_counter()
            result = there.model(there.x)
            taken.append(1e3 * (time.perf_counter() - start))
            check(name, there, result)
    return taken


@contextmanager
def _on_cores(count: int) -> Iterator[list[int]]:
    """This process and its threads may use the first few cores only."""
    before = {int(task): os.sched_getaffinity(int(task)) for task in os.listdir("/proc/self/task")}
    cores = sorted(os.sched_getaffinity(0))[:count]
    for task in before:
        os.sched_setaffinity(task, cores)
    try:
        yield cores
    finally:
        for task, own in before.items():
            os.sched_setaffinity(task, own)


@contextmanager
def _busy(cores: Sequence[int]) -> Iterator[None]:
    """A process that computes on these cores."""
    process = multiprocessing.get_context("spawn").Process(target=_spin, args=(list(cores),), daemon=True)
    process.start()
    try:
        time.sleep(1.0)  # until it has started
        yield
    finally:
        process.kill()
        process.join()


def _spin(cores: Sequence[int]) -> None:
    os.sched_setaffinity(0, cores)
    while True:
        pass


# ---- memory


def memory(subject: Subject, calls: int = _CALLS) -> Iterator[Figure]:
    """Arena and packed constants ÷ (int8 weights + the most bytes of values that are in use together); growth over many calls."""
    there = ready(subject)
    programs = [program for region in regions_of(there.model) for program in region.programs]
    taken = sum(program.arena_bytes + program.constant_bytes for program in programs)
    weights = sum(t.numel() for t in there.model.state_dict().values() if isinstance(t, Tensor) and t.dtype == torch.int8)
    least = weights + max(map(largest_live_set, programs))
    yield Figure(subject.name, "int8 weights and largest live set", least / 1e6, "MB")
    yield Figure(subject.name, "arena and constants", taken / 1e6, "MB")
    yield Figure(subject.name, "arena and constants ÷ least", taken / least, "", "≤ 1.3")
    yield Figure(subject.name, f"growth over {calls:,} calls", _growth(subject.name, there, calls) / 1e6, "MB", "0, but for a few pages")


def largest_live_set(program: Program) -> int:
    """The most bytes of values that are in use in one stage, without borders and without what lies between them."""
    parts: dict[int, dict[int, int]] = {}
    for view in (call.result for call in program.calls):
        parts.setdefault(view.buffer, {})[view.offset] = torch.Size(view.shape).numel() * view.element
    values = {buffer: sum(sizes.values()) for buffer, sizes in parts.items() if program.buffers[buffer].place == "arena"}
    stages = range(len(program.stages))
    return max(sum(values.get(buffer, 0) for buffer, use in program.uses.items() if use.first <= stage < use.end) for stage in stages)


def _growth(name: str, there: Ready, calls: int) -> int:
    """Bytes that the process has more after so many calls."""
    with torch.inference_mode():
        for _ in range(_WARM_CALLS):
            there.model(there.x)
        before = start_counting()
        for _ in range(calls):
            result = there.model(there.x)
        check(name, there, result)
    return start_counting() - before


# ---- threads


def threads(subject: Subject) -> Iterator[Figure]:
    """One thread and two in turns, with the same results."""
    there = ready(subject)
    runs = [_with_threads(there, count) for count in (1, _THREADS)]
    for run in runs:
        check(subject.name, there, run(there.x))
    one, two = map(min, times_in_turns(runs, there.x, _ROUNDS))
    yield Figure(subject.name, "1 thread", one, "ms")
    yield Figure(subject.name, "2 threads", two, "ms")
    yield Figure(subject.name, "1 thread ÷ 2 threads", one / two, "", "≥ 1.8 for ResNets")


def _with_threads(there: Ready, count: int) -> Callable[[Tensor], Tensor]:
    def run(x: Tensor) -> Tensor:
        torch.set_num_threads(count)
        result: Tensor = there.model(x)
        return result

    return run


# ---- compilation


def compile_cold(subject: Subject) -> Iterator[Figure]:
    """The first call of a converted model, in a process that has compiled nothing before; the CPU's seconds."""
    yield Figure(subject.name, "first call", run_alone(_first_call, subject), "s", "≤ 3 for ResNet-50, ≤ 2 for MobileNetV2")


def _first_call(subject: Subject) -> float:
    model, x = _converted(subject)
    with torch.inference_mode():
        start = time.process_time()
        result = model(x)
        taken = time.process_time() - start
        check(subject.name, Ready(model, x, model.run_lowered(x)), result)
    return taken


MEASUREMENTS = {"beside": beside, "memory": memory, "threads": threads, "compile": compile_cold}


def show(figures: Sequence[Figure], console: Console) -> None:
    """One line for each."""
    table = Table("model", "figure", "found", "promised")
    for each in figures:
        table.add_row(each.model, each.what, f"{each.found:.2f} {each.unit}".strip(), each.promised)
    console.print(table)


def main() -> None:
    """Prints the table; --json FILE writes it as well."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("measurements", nargs="*", metavar="|".join(MEASUREMENTS), help="all, if none is named")
    parser.add_argument("--models", nargs="+", default=list(_MODELS))
    parser.add_argument("--size", type=int, default=224, help="height and width of the images")
    parser.add_argument("--json", metavar="FILE")
    given = parser.parse_args()
    wanted = [MEASUREMENTS[name] for name in given.measurements or MEASUREMENTS]
    figures = [figure for measure in wanted for name in given.models for figure in measure(Subject(name, given.size))]
    show(figures, Console())
    write_json(given.json, [asdict(each) for each in figures])


if __name__ == "__main__":
    main()

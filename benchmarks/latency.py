"""`python -m benchmarks.latency`: milliseconds per batch of float32, fxq and torch.ao, taken in turns in one process.

Times move from machine to machine and from minute to minute, so the three are run one after the other again and again, and
what counts is the ratio of their best times. No time is printed of a result that is far from float32.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from benchmarks.architectures import build, outputs, random_batches, sqnr
from benchmarks.engines import by_fxq, by_torch_ao
from benchmarks.results import write_json

_CALIBRATION = (2, 8)  # batches, images in each
_LEAST_SQNR = 20.0
_WARM_UP = 3
_ENGINES = ("onednn", "x86")

Run = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Contender:
    """A way to compute the model's result."""

    name: str
    run: Run


@dataclass(frozen=True)
class Timing:
    """Milliseconds per batch."""

    model: str
    contender: str
    threads: int
    batch: int
    least: float
    median: float


def contenders(model: nn.Module, size: int) -> list[Contender]:
    """float32 in channels_last, fxq's portable runtime, and torch.ao's engines.

    Raises:
        RuntimeError: a result is further from float32 than its SQNR may be.
    """
    batches = random_batches(*_CALIBRATION, size)
    exact = outputs(model, batches[:1])
    fast = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    found = [
        Contender("float32", lambda x: fast(x.contiguous(memory_format=torch.channels_last))),
        Contender("fxq", by_fxq(model, batches)),
        *(Contender(f"torch.ao {engine}", _on_engine(by_torch_ao(model, batches, engine), engine)) for engine in _ENGINES),
    ]
    for each in found:
        _check(each, batches[0], exact)
    return found


def _on_engine(model: nn.Module, engine: str) -> Run:
    def run(x: Tensor) -> Tensor:
        torch.backends.quantized.engine = engine
        result: Tensor = model(x)
        return result

    return run


@torch.no_grad()
def _check(contender: Contender, x: Tensor, exact: Tensor) -> None:
    found = sqnr(exact, contender.run(x))
    if found < _LEAST_SQNR:
        raise RuntimeError(f"{contender.name}: SQNR {found:.1f} dB, expected at least {_LEAST_SQNR}; its times would mean nothing")


def times_in_turns(runs: Sequence[Run], x: Tensor, rounds: int) -> list[list[float]]:
    """Milliseconds of every call, one list per run; in each round every run is called once."""
    times: list[list[float]] = [[] for _ in runs]
    with torch.inference_mode():
        for round_number in range(-_WARM_UP, rounds):
            for run, taken in zip(runs, times, strict=True):
                start = time.perf_counter()
                run(x)
                if round_number >= 0:
                    taken.append(1e3 * (time.perf_counter() - start))
    return times


@dataclass(frozen=True)
class Plan:
    """What is timed with every model."""

    size: int
    threads: Sequence[int]
    batches: Sequence[int]
    rounds: int


def measure(name: str, plan: Plan) -> Iterator[Timing]:
    """Every contender with every number of threads and every batch size."""
    found = contenders(build(name, plan.size), plan.size)
    for threads in plan.threads:
        torch.set_num_threads(threads)
        for batch in plan.batches:
            (x,) = random_batches(1, batch, plan.size, seed=2)
            times = times_in_turns([each.run for each in found], x, plan.rounds)
            for each, taken in zip(found, times, strict=True):
                yield Timing(name, each.name, threads, batch, min(taken), statistics.median(taken))


def show(timings: Sequence[Timing], console: Console) -> None:
    """One line per model, threads, batch and contender."""
    table = Table(
        "model", "threads", "batch", "runtime", "best ms", "median ms", "× fxq", title="time of a batch; × fxq: its best over fxq's"
    )
    ours = {(each.model, each.threads, each.batch): each.least for each in timings if each.contender == "fxq"}
    for each in timings:
        ratio = each.least / ours[each.model, each.threads, each.batch]
        place = (each.model, str(each.threads), str(each.batch)) if each.contender == "float32" else ("", "", "")
        table.add_row(*place, each.contender, f"{each.least:.2f}", f"{each.median:.2f}", f"{ratio:.2f}")
    console.print(table)


def main() -> None:
    """Prints the table; --json FILE writes it as well."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="+", default=["resnet18", "resnet50", "mobilenet_v2"])
    parser.add_argument("--size", type=int, default=224, help="height and width of the images")
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 8])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--json", metavar="FILE")
    given = parser.parse_args()
    plan = Plan(given.size, given.threads, given.batches, given.rounds)
    timings = [timing for name in given.models for timing in measure(name, plan)]
    show(timings, Console())
    write_json(given.json, [asdict(each) for each in timings])


if __name__ == "__main__":
    main()

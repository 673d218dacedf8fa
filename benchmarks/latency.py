"""`python -m benchmarks.latency`: milliseconds per batch of fxq, float32 and int8 peers, taken in turns in one process.

Times move from machine to machine and from minute to minute, so the contenders run one after the other again and again, and
what counts is the ratio of their best times. No time is printed of a result that is far from float32.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby, product

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from benchmarks.architectures import build, sqnr, warm_batch_norms
from benchmarks.engines import by_fxq, by_torch_ao
from benchmarks.peers import PEERS, Compile, Run, Setting
from benchmarks.results import write_json
from fxq.demo.models import MobileNetDigits, ResNetDigits

_CALIBRATION = (2, 8)  # batches, images in each
_LEAST_SQNR = 20.0
_IN_A_ROW = 5  # calls of one contender, before it is the next one's turn
_ENGINES = ("onednn", "x86")

_FLOAT, _OURS = "float32", "fxq"
_DIGITS: dict[str, Callable[[], nn.Module]] = {"resnet_digits": ResNetDigits, "mobilenet_digits": MobileNetDigits}
_DIGITS_IMAGE = (1, 8, 8)
_MODELS = ("resnet18", "resnet50", "mobilenet_v2", "mobilenet_v3_large", *_DIGITS)


@dataclass(frozen=True)
class Subject:
    """A float model and the shape of one of its images."""

    model: nn.Module
    image: tuple[int, ...]


@dataclass(frozen=True)
class Contender:
    """A way to compute the model's result; compiled for a number of threads and an input shape."""

    name: str
    compile: Compile


@dataclass(frozen=True)
class Timing:
    """Milliseconds per batch."""

    model: str
    contender: str
    threads: int
    batch: int
    least: float
    median: float


def load(name: str, size: int) -> Subject:
    """One of the demo's networks with random weights, or a classifier of torchvision for images of this size."""
    if name not in _DIGITS:
        return Subject(build(name, size), (3, size, size))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = _DIGITS[name]()
        return Subject(warm_batch_norms(model, lambda: model(torch.randn(64, *_DIGITS_IMAGE))), _DIGITS_IMAGE)


def images(subject: Subject, batch: int, seed: int) -> Tensor:
    """f32 [batch, channels, height, width], standard normal."""
    return torch.randn(batch, *subject.image, generator=torch.Generator().manual_seed(seed))


def contenders(subject: Subject) -> list[Contender]:
    """float32 in channels_last, fxq, torch.ao's engines, and those of PEERS that are installed."""
    count, size = _CALIBRATION
    batches = [images(subject, size, seed) for seed in range(count)]
    peers = [Contender(peer.name, peer.quantize(subject.model, batches)) for peer in PEERS if not peer.missing]
    ours = by_fxq(subject.model, batches)
    engines = [(engine, _on_engine(by_torch_ao(subject.model, batches, engine), engine)) for engine in _ENGINES]
    fast = subject.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return [
        Contender(_FLOAT, _for_any(lambda x: fast(x.contiguous(memory_format=torch.channels_last)))),
        Contender(_OURS, _for_any(ours)),
        *(Contender(f"torch.ao {engine}", _for_any(run)) for engine, run in engines),
        *peers,
    ]


def _for_any(run: Run) -> Compile:
    """What follows torch's number of threads and takes any shape."""
    return lambda _: run


def _on_engine(model: nn.Module, engine: str) -> Run:
    def run(x: Tensor) -> Tensor:
        torch.backends.quantized.engine = engine
        result: Tensor = model(x)
        return result

    return run


@torch.no_grad()
def check(name: str, exact: Tensor, result: Tensor, least: float = _LEAST_SQNR) -> None:
    """Raises RuntimeError where the result is further from float32 than its SQNR may be."""
    found = sqnr(exact, result)
    if not found >= least:
        raise RuntimeError(f"{name}: SQNR {found:.1f} dB, expected at least {least}; its times would mean nothing")


def times_in_turns(runs: Sequence[Run], x: Tensor, rounds: int) -> list[list[float]]:
    """Milliseconds of every call, one list per run; in each round every run is called a few times, the first of them untimed."""
    times: list[list[float]] = [[] for _ in runs]
    with torch.inference_mode():
        for _ in range(rounds):
            for run, taken in zip(runs, times, strict=True):
                run(x)  # brings its weights back into the caches, its threads out of their sleep
                taken.extend(_milliseconds(run, x) for _ in range(_IN_A_ROW))
    return times


def _milliseconds(run: Run, x: Tensor) -> float:
    start = time.perf_counter()
    run(x)
    return 1e3 * (time.perf_counter() - start)


@dataclass(frozen=True)
class Plan:
    """What is timed with every model."""

    size: int
    threads: Sequence[int]
    batches: Sequence[int]
    rounds: int


def measure(name: str, plan: Plan) -> Iterator[Timing]:
    """Every contender with every number of threads and every batch size, its result checked first."""
    subject = load(name, plan.size)
    found = contenders(subject)
    for threads, batch in product(plan.threads, plan.batches):
        torch.set_num_threads(threads)
        x = images(subject, batch, seed=_CALIBRATION[0])
        runs = [each.compile(Setting(threads, tuple(x.shape))) for each in found]
        with torch.inference_mode():
            results = [run(x).clone() for run in runs]
        for each, result in zip(found, results, strict=True):
            check(f"{each.name}, {name}", results[0], result)
        for each, taken in zip(found, times_in_turns(runs, x, plan.rounds), strict=True):
            yield Timing(name, each.name, threads, batch, min(taken), statistics.median(taken))


def show(timings: Sequence[Timing], console: Console) -> None:
    """One line per model, threads, batch and contender, and which peers are not installed."""
    title = "time of a batch; fxq ÷ it: ratio of the best times, less than 1 where fxq is faster"
    table = Table("model", "threads", "batch", "runtime", "best ms", "median ms", "fxq ÷ it", title=title)
    for (model, threads, batch), group in groupby(timings, key=lambda each: (each.model, each.threads, each.batch)):
        rows = list(group)
        (ours,) = (each.least for each in rows if each.contender == _OURS)
        best = best_peer(rows)
        for number, each in enumerate(rows):
            place = ("", "", "") if number else (model, str(threads), str(batch))
            mark = " best peer" if each is best else ""
            table.add_row(*place, each.contender, f"{each.least:.3f}", f"{each.median:.3f}", f"{ours / each.least:.2f}{mark}")
        table.add_section()
    console.print(table)
    for peer in PEERS:
        if peer.missing:
            console.print(f"{peer.name}: not installed ({', '.join(peer.missing)}); pip install 'fxq\\[bench]'")


def best_peer(rows: Sequence[Timing]) -> Timing:
    """The fastest of them that is int8 and not fxq."""
    return min((each for each in rows if each.contender not in (_OURS, _FLOAT)), key=lambda each: each.least)


def main() -> None:
    """Prints the table; --json FILE writes it as well."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="+", default=list(_MODELS))
    parser.add_argument("--size", type=int, default=224, help="height and width of the images")
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 8])
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--json", metavar="FILE")
    given = parser.parse_args()
    plan = Plan(given.size, given.threads, given.batches, given.rounds)
    timings = [timing for name in given.models for timing in measure(name, plan)]
    show(timings, Console())
    write_json(given.json, [asdict(each) for each in timings])


if __name__ == "__main__":
    main()

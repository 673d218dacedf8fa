"""How long models take, side by side."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from pydantic import BaseModel, ConfigDict
from torch import nn

from fxq.passes.arguments import Inputs


class Latency(BaseModel):
    """Milliseconds of one call.

    Attributes:
        least, median: of all calls.
        ninth: nine of ten calls are as fast as this.
        runs: how many calls were timed.
        threads: that torch had.
    """

    model_config = ConfigDict(frozen=True)

    least: float
    median: float
    ninth: float
    runs: int
    threads: int


@contextmanager
def one_thread() -> Iterator[None]:
    """torch computes with one thread inside, and afterwards with as many as before."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def measure_latency(models: Sequence[nn.Module], inputs: Inputs, *, runs: int = 20, warm_up: int = 3) -> tuple[Latency, ...]:
    """One Latency for each model. They take turns, so that whatever else the machine does hits all of them; some calls warm up.

    Each round has an order of its own: a call behind one of a large model finds the caches full of that one's weights.
    """
    times: list[list[float]] = [[] for _ in models]
    turns, order = list(zip(models, times, strict=True)), random.Random(0)
    with torch.inference_mode():
        for _ in range(warm_up + runs):
            order.shuffle(turns)
            for model, found in turns:
                start = time.perf_counter()
                model(*inputs.args, **inputs.kwargs)
                found.append(1e3 * (time.perf_counter() - start))
    return tuple(_latency(found[warm_up:]) for found in times)


def _latency(times: list[float]) -> Latency:
    ninth = sorted(times)[(9 * len(times) - 1) // 10]
    return Latency(least=min(times), median=statistics.median(times), ninth=ninth, runs=len(times), threads=torch.get_num_threads())

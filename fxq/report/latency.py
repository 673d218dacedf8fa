"""How long models take, side by side."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence

import torch
from pydantic import BaseModel, ConfigDict
from torch import nn

from fxq.passes.arguments import Inputs

_WARM_UP = 3


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


def measure_latency(models: Sequence[nn.Module], inputs: Inputs, *, runs: int = 20) -> tuple[Latency, ...]:
    """One Latency for each model. They take turns, so that whatever else the machine does hits all of them; three calls warm up."""
    times: list[list[float]] = [[] for _ in models]
    with torch.inference_mode():
        for _ in range(_WARM_UP + runs):
            for model, found in zip(models, times, strict=True):
                start = time.perf_counter()
                model(*inputs.args, **inputs.kwargs)
                found.append(1e3 * (time.perf_counter() - start))
    return tuple(_latency(found[_WARM_UP:]) for found in times)


def _latency(times: list[float]) -> Latency:
    ninth = sorted(times)[(9 * len(times) - 1) // 10]
    return Latency(least=min(times), median=statistics.median(times), ninth=ninth, runs=len(times), threads=torch.get_num_threads())

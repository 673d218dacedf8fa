"""Distribution: what an observer has seen, small enough to keep and to draw."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

# bars of a histogram: at least half as many, unless the observer has fewer
MOST_BARS = 96


@dataclass(frozen=True)
class Distribution:
    """The range of all values, and how many of them are where.

    Attributes:
        low, high: the smallest and the largest value.
        start: where the first bar begins.
        width: of a bar; 0 without bars.
        counts: values in each bar; () where only the range is known.
    """

    low: float
    high: float
    start: float = 0.0
    width: float = 0.0
    counts: tuple[int, ...] = ()


def of_grid(counts: Tensor, exponent: int, low: float, high: float) -> Distribution:
    """Adjacent bins of a grid added up to bars.

    Args:
        counts: int64 [bins]; bin i is for [i − bins/2, i + 1 − bins/2) · 2^exponent.
        low, high: of the values.
    """
    bins = counts.cpu().numpy()
    used = np.flatnonzero(bins)
    first, last = int(used[0]), int(used[-1])
    together = 1
    while last // together - first // together >= MOST_BARS:
        together *= 2
    start = first // together * together
    bars = np.add.reduceat(bins[: last + 1], range(start, last + 1, together))
    width = 2.0**exponent
    return Distribution(low, high, (start - len(counts) // 2) * width, together * width, tuple(bars.tolist()))


def of_values(values: Tensor, low: float, high: float) -> Distribution:
    """Bars of one width between low and high, from a sample of the values."""
    if not low < high:
        return Distribution(low, high)
    counts = torch.histc(values, MOST_BARS, low, high).to(torch.int64)
    return Distribution(low, high, low, (high - low) / MOST_BARS, tuple(counts.tolist()))

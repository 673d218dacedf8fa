"""HistogramObserver: counts on a grid of powers of two, from which the range with the least squared error is chosen."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from fxq.errors import ConfigError
from fxq.graph.qtypes import QParams, QuantSpec
from fxq.observers.base import Observer, flatten
from fxq.observers.fixed import check_per_tensor
from fxq.observers.l2_search import Histogram, search_qparams

# 2^126 is the largest power of two whose inverse is a normal f32
MIN_EXPONENT = -126
MIN_BINS, MAX_BINS = 256, 2**20
# elements binned at once: below 2^15 torch works in the calling thread. Dozens of small parallel regions per batch would
# gain less on an idle machine than they lose where data-loading workers keep the cores busy
PART = 2**15 - 64


class HistogramObserver(Observer):
    """Histogram of all batches → the qparams with the least expected squared quantization error.

    Bin i >= 0 holds i·2^e <= x < (i+1)·2^e, and bin −1−i its mirror image, with the smallest e for which bins/2 of them on
    each side hold the largest |x| so far. The grid is anchored at 0 and e depends on nothing but the largest |x|; when e
    grows, bins are added in exact pairs, i → floor(i/2). So the counts of any split of the data, merged in any order, have
    the same bits. One-sided data uses between a quarter and a half of the bins.

    Attributes:
        bins: a power of two.
        low, high: exact extremes, f32 [].
        exponent: e, int64 [].
        counts: int64 [bins]; bin i is at i + bins/2.
        zeros: int64 [], how many elements were exactly 0. They are in counts, too.
    """

    low: Tensor
    high: Tensor
    exponent: Tensor
    counts: Tensor
    zeros: Tensor

    def __init__(self, spec: QuantSpec | None = None, *, bins: int = 8192) -> None:
        """Empty, on the finest grid. Raises ConfigError if bins is not a power of two from 256 to 2^20."""
        super().__init__(spec)
        _check_bins(bins)
        self.bins = bins
        self.register_buffer("low", torch.tensor(float("inf")))
        self.register_buffer("high", torch.tensor(float("-inf")))
        self.register_buffer("exponent", torch.tensor(MIN_EXPONENT))
        self.register_buffer("counts", torch.zeros(bins, dtype=torch.int64))
        self.register_buffer("zeros", torch.zeros((), dtype=torch.int64))

    @classmethod
    def check_spec(cls, spec: QuantSpec) -> None:
        """Raises ConfigError for a spec with a channel axis."""
        check_per_tensor(cls, spec)

    def settings(self) -> tuple[object, ...]:
        """The bins must be the same, too."""
        return (*super().settings(), self.bins)

    def record(self, values: Tensor) -> None:
        """counts[bin of x] += 1, after e has grown to fit x."""
        extent = self.measure(values)
        exponent = self._grow(grid_exponent(float(torch.maximum(-extent.low, extent.high)), self.bins))
        self.counts = self.counts + count_bins(values, exponent, self.bins)
        if bool(extent.low <= 0) and bool(extent.high >= 0):
            self.zeros = self.zeros + count_zeros(values)
        self.low = torch.minimum(self.low, extent.low)
        self.high = torch.maximum(self.high, extent.high)

    def absorb(self, other: Any) -> None:
        """Adds the counts on the coarser of the two grids."""
        exponent = self._grow(int(other.exponent))
        self.counts = self.counts + coarsen(other.counts, exponent - int(other.exponent))
        self.zeros = self.zeros + other.zeros
        self.low = torch.minimum(self.low, other.low)
        self.high = torch.maximum(self.high, other.high)

    def qparams(self) -> QParams:
        """The best range inside [low, high], by l2_search. Raises CalibrationError if no data was seen."""
        self.check_seen()
        nonzero = self.counts.clone()
        nonzero[self.bins // 2] -= self.zeros
        return search_qparams(Histogram(nonzero, int(self.exponent), float(self.low), float(self.high)), self.spec)

    def extra_repr(self) -> str:
        """For print(model)."""
        return f"{super().extra_repr()}, bins={self.bins}"

    def _grow(self, exponent: int) -> int:
        """Coarsens the counts to this exponent, if it is larger. Returns the exponent then in use."""
        shift = exponent - int(self.exponent)
        if shift > 0:
            self.counts = coarsen(self.counts, shift)
            self.exponent = torch.full_like(self.exponent, exponent)
        return int(self.exponent)


def grid_exponent(largest: float, bins: int) -> int:
    """The smallest e >= −126 with largest < 2^e · bins/2."""
    if largest == 0:
        return MIN_EXPONENT
    return max(math.frexp(largest)[1] + 1 - int(math.log2(bins)), MIN_EXPONENT)


def count_bins(values: Tensor, exponent: int, bins: int) -> Tensor:
    """counts[trunc(x / 2^exponent) − (x < 0) + bins/2] = how many x are there: int64 [bins], exact.

    Args:
        values: f32 of any shape, |x| < 2^exponent · bins/2.
    """
    counts = torch.zeros(bins, dtype=torch.int64, device=values.device)
    for part in torch.split(flatten(values), PART):
        # exact: a power of two only moves the exponent, and what underflows belongs to the innermost bins
        size = (part * 2.0**-exponent).to(torch.int32)
        # the sign bit as 0 or −1; −0 + 0 = +0
        side = (part + 0.0).view(torch.int32) >> 31
        counts += torch.bincount(size.add_(side).add_(bins // 2), minlength=bins)
    return counts


def count_zeros(values: Tensor) -> int:
    """How many x are exactly 0, of either sign."""
    # sums of up to 2^24 ones are exact in f32, and several times as fast as count_nonzero, which branches on each element
    parts = torch.split(flatten(values), PART)
    return sum(part.numel() - int(torch.ne(part, 0, out=torch.empty_like(part)).sum()) for part in parts)


def coarsen(counts: Tensor, shift: int) -> Tensor:
    """Bins that are 2^shift as wide: bin i goes to floor(i / 2^shift). Exact, same shape."""
    bins = counts.numel()
    # from here on all negative bins are bin −1 and all others bin 0
    step = 2 ** min(shift, int(math.log2(bins)) - 1)
    folded = counts.reshape(-1, step).sum(1)
    start = (bins - folded.numel()) // 2
    coarse = torch.zeros_like(counts)
    coarse[start : start + folded.numel()] = folded
    return coarse


def _check_bins(bins: int) -> None:
    if not (isinstance(bins, int) and MIN_BINS <= bins <= MAX_BINS and bins & (bins - 1) == 0):
        raise ConfigError(
            "HistogramObserver.bins",
            expected=f"a power of two from {MIN_BINS} to {MAX_BINS}",
            found=repr(bins),
            remedy="use the default, 8192",
        )

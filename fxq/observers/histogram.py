"""Histogram observers: counts on a grid of powers of two, from which the range with the least squared error is chosen."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from fxq.errors import ConfigError
from fxq.graph.qtypes import WEIGHT_PER_CHANNEL, QParams, QuantSpec
from fxq.observers.base import Extent, flatten
from fxq.observers.distribution import Distribution, of_grid
from fxq.observers.extremes import ExtremesObserver, check_per_channel
from fxq.observers.fixed import check_per_tensor
from fxq.observers.l2_errors import Histogram, power_of_two
from fxq.observers.l2_search import search_qparams

# 2^126 is the largest power of two whose inverse is a normal f32
MIN_EXPONENT = -126
MIN_BINS, MAX_BINS = 256, 2**20
# elements binned at once: below 2^15 torch works in the calling thread. Dozens of small parallel regions per batch would
# gain less on an idle machine than they lose where data-loading workers keep the cores busy
PART = 2**15 - 64


class HistogramObserver(ExtremesObserver):
    """Histogram of all batches → the qparams with the least expected squared quantization error.

    Bin i >= 0 holds i·2^e <= x < (i+1)·2^e, and bin −1−i its mirror image, with the smallest e for which bins/2 of them on
    each side hold the largest |x| so far. The grid is anchored at 0 and e depends on nothing but the largest |x|; when e
    grows, bins are added in exact pairs, i → floor(i/2). So the counts of any split of the data, merged in any order, have
    the same bits. One-sided data uses between a quarter and a half of the bins.

    Attributes:
        bins: a power of two.
        low, high: exact extremes, f32 []. Per channel, these and all below have a first dimension of channels.
        exponent: e, int64 [].
        counts: int64 [bins]; bin i is at i + bins/2.
        zeros: int64 [], how many elements were exactly 0. They are in counts, too.
    """

    growing_buffers: ClassVar[Mapping[str, int]] = {"low": 0, "high": 0, "exponent": 0, "counts": 1, "zeros": 0}

    exponent: Tensor
    counts: Tensor
    zeros: Tensor

    def __init__(self, spec: QuantSpec | None = None, *, bins: int = 8192) -> None:
        """Empty, on the finest grid. Raises ConfigError if bins is not a power of two from 256 to 2^20."""
        super().__init__(spec)
        _check_bins(type(self).__name__, bins)
        self.bins = bins
        self.register_buffer("exponent", torch.scalar_tensor(MIN_EXPONENT, dtype=torch.int64))
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
        self.widen(extent)
        self._grow(grid_exponent(torch.maximum(-extent.low, extent.high), self.bins))
        axis = self.spec.axis
        rows = flatten(values)[None] if axis is None else self._channels_first(values, axis)
        counted = count_bins(rows, self.exponent.reshape(-1), self.bins)
        self.counts = self.counts + counted.reshape(*extent.low.shape, self.bins)
        can_be_zero = bool((extent.low <= 0).any()) and bool((extent.high >= 0).any())
        found = count_zeros(rows) if can_be_zero else torch.zeros(len(rows), dtype=torch.int64, device=rows.device)
        self.zeros = self.zeros + found.reshape(extent.low.shape)

    def absorb(self, other: Any) -> None:
        """Adds the counts on the coarser of the two grids."""
        self.widen(Extent(other.low, other.high))
        self._grow(other.exponent)
        self.counts = self.counts + coarsen(other.counts, self.exponent - other.exponent)
        self.zeros = self.zeros + other.zeros

    def histogram(self) -> Histogram:
        """What was seen, without exact zeros, which every range represents. Raises CalibrationError if no data was seen."""
        self.check_seen()
        nonzero = self.counts.clone()
        nonzero.select(-1, self.bins // 2).sub_(self.zeros)
        return Histogram(nonzero, self.exponent, self.low.to(torch.float64), self.high.to(torch.float64))

    def distribution(self) -> Distribution | None:
        """The counts per tensor, on a coarser grid; per channel the range alone."""
        if self.batches == 0 or self.spec.axis is not None:
            return super().distribution()
        return of_grid(self.counts, int(self.exponent), float(self.low), float(self.high))

    def qparams(self) -> QParams:
        """The best range inside [low, high], by l2_search. Raises CalibrationError if no data was seen."""
        return search_qparams(self.histogram(), self.spec)

    def extra_repr(self) -> str:
        """For print(model)."""
        return f"{super().extra_repr()}, bins={self.bins}"

    def _grow(self, exponent: Tensor) -> None:
        """Coarsens the counts of each channel to this exponent, if it is larger."""
        grown = torch.maximum(self.exponent, exponent)
        shift = grown - self.exponent
        if self.batches and bool(shift.any()):
            self.counts = coarsen(self.counts, shift)
        self.exponent = grown


class PerChannelHistogramObserver(HistogramObserver):
    """Histogram of each channel, on a grid of its own → the (scale, zero_point) with the least expected squared error in each.

    For weights whose channels have outliers. It takes 8 · channels · bins bytes: 32 MiB for 2048 channels at the default,
    2048 bins, which are at least 4 bins per step of a symmetric int8 weight.
    """

    default_spec: ClassVar[QuantSpec] = WEIGHT_PER_CHANNEL

    def __init__(self, spec: QuantSpec | None = None, *, bins: int = 2048) -> None:
        """Empty, on the finest grids. Raises ConfigError if bins is not a power of two from 256 to 2^20."""
        super().__init__(spec, bins=bins)

    @classmethod
    def check_spec(cls, spec: QuantSpec) -> None:
        """Raises ConfigError for a spec without a channel axis."""
        check_per_channel(cls, spec)


def row_groups(rows: Tensor, most_rows: int) -> Iterator[slice]:
    """The rows of [rows, n] in groups of at most PART elements and this many rows, or one row."""
    step = max(min(PART // rows.shape[1], most_rows), 1)
    return (slice(first, first + step) for first in range(0, len(rows), step))


def grid_exponent(largest: Tensor, bins: int) -> Tensor:
    """The smallest e >= −126 with largest < 2^e · bins/2, for each of the f32 given: int64, same shape."""
    exponent = torch.frexp(largest.to(torch.float64)).exponent.to(torch.int64) + 1 - int(math.log2(bins))
    return exponent.clamp(min=MIN_EXPONENT).masked_fill(largest == 0, MIN_EXPONENT)


def count_bins(rows: Tensor, exponent: Tensor, bins: int) -> Tensor:
    """counts[r, trunc(x / 2^e) − (x < 0) + bins/2] = how many x are there in row r: int64 [rows, bins], exact.

    Args:
        rows: f32 [rows, n], |x| < 2^e · bins/2.
        exponent: e, int64 [rows].
    """
    counts = torch.zeros(len(rows), bins, dtype=torch.int64, device=rows.device)
    inverse = power_of_two(-exponent).to(torch.float32)[:, None]
    for group in row_groups(rows, most_rows=MAX_BINS // bins):
        counted, factor = counts[group], inverse[group]
        start = bins * torch.arange(len(counted), dtype=torch.int32, device=rows.device)[:, None] + bins // 2
        for part in torch.split(rows[group], PART, dim=1):
            # exact: a power of two only moves the exponent, and what underflows belongs to the innermost bins
            size = (part * factor).to(torch.int32)
            # the sign bit as 0 or −1; −0 + 0 = +0
            side = (part + 0.0).view(torch.int32) >> 31
            index = size.add_(side).add_(start).reshape(-1)
            counted += torch.bincount(index, minlength=counted.numel()).view_as(counted)
    return counts


def count_zeros(rows: Tensor) -> Tensor:
    """How many x of each row are exactly 0, of either sign: [rows, n] → int64 [rows]."""
    others = torch.zeros(len(rows), dtype=torch.float64, device=rows.device)
    for group in row_groups(rows, most_rows=len(rows)):
        for part in torch.split(rows[group], PART, dim=1):
            # sums of up to 2^24 ones are exact in f32, and several times as fast as count_nonzero, which branches on each element
            others[group] += torch.ne(part, 0, out=torch.empty_like(part)).sum(1)
    return rows.shape[1] - others.to(torch.int64)


def coarsen(counts: Tensor, shift: Tensor) -> Tensor:
    """Bins that are 2^shift as wide: bin i goes to floor(i / 2^shift). Exact.

    Args:
        counts: int64 [bins], or [channels, bins].
        shift: int64 [], or [channels].
    """
    bins = counts.shape[-1]
    bin_number = torch.arange(bins, device=counts.device) - bins // 2
    # from 63 on a shift has no defined result; all bins are −1 or 0 long before
    index = (bin_number >> shift.clamp(max=62)[..., None]) + bins // 2
    return torch.zeros_like(index).scatter_add_(-1, index, counts.expand(index.shape))


def _check_bins(name: str, bins: int) -> None:
    if not (isinstance(bins, int) and MIN_BINS <= bins <= MAX_BINS and bins & (bins - 1) == 0):
        raise ConfigError(
            f"{name}.bins",
            expected=f"a power of two from {MIN_BINS} to {MAX_BINS}",
            found=repr(bins),
            remedy="use the default, by leaving it out",
        )

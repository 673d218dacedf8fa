"""Windows: as views that copy nothing, and reduced one dimension at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fxq.errors import DataError
from fxq.runtime.integer.movement import pad

Combine = Callable[[Tensor, Tensor], Tensor]
Reduce = Callable[[Tensor, int], Tensor]


def channels_last(x: Tensor) -> Tensor:
    """[N, C, *spatial] → [N, *spatial, C], a view."""
    return x.movedim(1, -1)


def channels_first(x: Tensor) -> Tensor:
    """[N, *spatial, C] → [N, C, *spatial], a view."""
    return x.movedim(-1, 1)


def window_counts(size: Sequence[int], kernel: Sequence[int], stride: Sequence[int], dilation: Sequence[int]) -> list[int]:
    """(size − dilation·(kernel − 1) − 1) // stride + 1 in each dimension. Raises DataError where the kernel doesn't fit."""
    counts = []
    for length, taps, step, gap in zip(size, kernel, stride, dilation, strict=True):
        reach = gap * (taps - 1) + 1
        if length < reach:
            raise DataError(
                "window",
                expected=f"at least {reach} elements per dimension, padding included, for kernel {tuple(kernel)}",
                found=f"padded size {tuple(size)}",
                remedy="give a larger input",
            )
        counts.append((length - reach) // step + 1)
    return counts


def sliding_windows(x: Tensor, kernel: Sequence[int], stride: Sequence[int], dilation: Sequence[int]) -> Tensor:
    """[N, *spatial, C] → view [N, *counts, *kernel, C]."""
    counts = window_counts(x.shape[1:-1], kernel, stride, dilation)
    strides = x.stride()
    steps = [s * step for s, step in zip(strides[1:-1], stride, strict=True)]
    taps = [s * gap for s, gap in zip(strides[1:-1], dilation, strict=True)]
    return x.as_strided((x.shape[0], *counts, *kernel, x.shape[-1]), (strides[0], *steps, *taps, strides[-1]), x.storage_offset())


@dataclass(frozen=True)
class Windows:
    """The windows along one dimension: window i covers i·step − border + gap·k, k < taps, of [0, length)."""

    length: int
    count: int
    taps: int
    step: int
    border: int
    gap: int

    @property
    def after(self) -> int:
        """Elements to add at the end so that every window is whole; negative where some are never read."""
        return (self.count - 1) * self.step + self.gap * (self.taps - 1) + 1 - self.length - self.border

    def sizes(self, include_padding: bool) -> Tensor:
        """Elements in each window, i64 [count]: those inside the input, or inside the input and its padding."""
        start = torch.arange(self.count) * self.step - self.border
        end = (start + self.taps).clamp(max=self.length + self.border)
        return end - start if include_padding else end.clamp(max=self.length) - start.clamp(min=0)


def reduce_windows(x: Tensor, windows: Sequence[Windows], fill: int, combine: Combine) -> Tensor:
    """combine over each window, dimension by dimension: k₁ + k₂ combinations instead of k₁·k₂, each over whole tensors.

    Args:
        x: the last len(windows) dimensions are windowed.
        fill: what the padding holds, neutral for `combine`.
        combine: associative and commutative on the values, so that the order changes nothing.
    """
    x = pad(x, tuple((along.border, along.after) for along in windows), value=fill)
    for axis, along in enumerate(windows, x.ndim - len(windows)):
        span = (along.count - 1) * along.step + 1
        taps = [x.narrow(axis, tap * along.gap, span) for tap in range(along.taps)]
        x = taps[0][_every(along.step, axis)]
        for tap in taps[1:]:
            x = combine(x, tap[_every(along.step, axis)])
    return x


def _every(step: int, axis: int) -> tuple[slice, ...]:
    return (*(slice(None) for _ in range(axis)), slice(None, None, step))


def bins(length: int, count: int | None) -> list[range]:
    """[⌊i·L/O⌋, ⌈(i+1)·L/O⌉) for i in 0..O−1: the windows of adaptive pooling; None gives one element each."""
    parts = length if count is None else count
    return [range(i * length // parts, -(-(i + 1) * length // parts)) for i in range(parts)]


def reduce_bins(x: Tensor, axis: int, count: int | None, reduce: Reduce) -> Tensor:
    """reduce(part, axis) over each bin of one dimension."""
    if count is None or count == x.shape[axis]:
        return x
    return torch.stack([reduce(x.narrow(axis, part.start, len(part)), axis) for part in bins(x.shape[axis], count)], axis)

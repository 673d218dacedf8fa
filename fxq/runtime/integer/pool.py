"""Windows of 8-bit data: their maxima, and their means by one rounding."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fxq.errors import DataError
from fxq.runtime.integer.module import IntegerOp, check_bytes
from fxq.runtime.integer.outputs import Output, finish
from fxq.runtime.integer.windows import Windows, bins, reduce_bins, reduce_windows

_EXACT_FLOAT32 = 2**24


@dataclass(frozen=True)
class PoolGeometry:
    """Where the windows are, as in torch.nn.MaxPool2d and AvgPool2d. One entry per spatial dimension (1, 2 or 3).

    Attributes:
        padding: on both sides.
        dilation: for max_pool only; () means 1.
        ceil_mode: a last window may reach over the end, if it starts inside the input or its left padding.
    """

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...] = ()
    ceil_mode: bool = False

    def along(self, length: int, dim: int) -> Windows:
        """The windows of one dimension of that length. Raises DataError where there is none."""
        gap = self.dilation[dim] if self.dilation else 1
        reach, border, step = gap * (self.kernel[dim] - 1) + 1, self.padding[dim], self.stride[dim]
        room = length + 2 * border - reach
        if room < 0 or 2 * border > reach:
            raise DataError(
                "pool",
                expected=f"padding at most half of kernel {self.kernel} and a padded input no smaller than it",
                found=f"length {length}, padding {border}",
                remedy="give a larger input, or a smaller padding",
            )
        count = (-(-room // step) if self.ceil_mode else room // step) + 1
        if (count - 1) * step >= length + border:
            count -= 1
        return Windows(length, count, self.kernel[dim], step, border, gap)

    def windows(self, x: Tensor) -> list[Windows]:
        """Those of each spatial dimension of x."""
        spatial = x.shape[-len(self.kernel) :]
        return [self.along(length, dim) for dim, length in enumerate(spatial)]

    def __str__(self) -> str:
        parts = [f"kernel={self.kernel}, stride={self.stride}, padding={self.padding}"]
        if self.dilation and any(gap != 1 for gap in self.dilation):
            parts.append(f"dilation={self.dilation}")
        return ", ".join([*parts, *(["ceil_mode=True"] if self.ceil_mode else [])])


def max_pool(x: Tensor, geometry: PoolGeometry) -> Tensor:
    """Maximum of each window; padding never wins. Exact, qparams unchanged.

    Args:
        x: u8 or s8, [N, C, *spatial] or [C, *spatial].

    Raises:
        DataError: another dtype or rank, or windows that don't fit.
    """
    _check("max_pool", x, len(geometry.kernel))
    return reduce_windows(x, geometry.windows(x), int(torch.iinfo(x.dtype).min), torch.maximum)


class MaxPool(IntegerOp):
    """max_pool with its geometry."""

    def __init__(self, geometry: PoolGeometry) -> None:
        super().__init__()
        self.geometry = geometry

    def forward(self, x: Tensor) -> Tensor:
        """See max_pool."""
        return max_pool(x, self.geometry)

    def extra_repr(self) -> str:
        return str(self.geometry)


def adaptive_max_pool(x: Tensor, output_size: Sequence[int | None]) -> Tensor:
    """Maximum of the windows [⌊i·L/O⌋, ⌈(i+1)·L/O⌉) in each of the last len(output_size) dimensions; None keeps a dimension.

    Args:
        x: u8 or s8, [N, C, *spatial] or [C, *spatial].
    """
    _check("adaptive_max_pool", x, len(output_size))
    for axis, count in enumerate(output_size, x.ndim - len(output_size)):
        x = reduce_bins(x, axis, count, torch.amax)
    return x


class AdaptiveMaxPool(IntegerOp):
    """`adaptive_max_pool` as a module."""

    def __init__(self, output_size: tuple[int | None, ...]) -> None:
        super().__init__()
        self.output_size = output_size

    def forward(self, x: Tensor) -> Tensor:
        """x u8 or s8 → the same dtype. Raises DataError."""
        return adaptive_max_pool(x, self.output_size)

    def extra_repr(self) -> str:
        return f"output_size={self.output_size}"


@dataclass(frozen=True)
class Divisor:
    """n of an average: the window's elements, with or without those in the padding, or a number given by the user."""

    include_padding: bool = True
    override: int | None = None

    def __str__(self) -> str:
        return f"n={self.override}" if self.override is not None else f"count_include_pad={self.include_padding}"


WINDOW = Divisor()


class AvgPool(IntegerOp):
    """y = clip(rint(fl(f32(Σ(q − z_x))·m)) + z_y), m = fl(step/n), over windows; padding adds 0 to the sum.

    Args:
        geometry: where the windows are; no dilation.
        step: fl(s_x·inv_y); s_x for FloatOutput.
        divisor: what n is.
    """

    def __init__(self, geometry: PoolGeometry, step: float, input_zero_point: int, output: Output, divisor: Divisor = WINDOW) -> None:
        super().__init__()
        self.geometry, self.step, self.input_zero_point = geometry, step, input_zero_point
        self.output, self.divisor = output, divisor

    def forward(self, x: Tensor) -> Tensor:
        """x u8 or s8, [N, C, *spatial] or [C, *spatial] → y. Raises DataError for other dtypes and ranks, or where no window fits."""
        _check("AvgPool", x, len(self.geometry.kernel))
        windows = self.geometry.windows(x)
        centered = x.to(_sum_dtype(self.geometry.kernel)).sub_(self.input_zero_point)
        sums = reduce_windows(centered, windows, 0, torch.add)
        return _scaled(sums, self.step, self._divisor(windows), self.output)

    def _divisor(self, windows: list[Windows]) -> Tensor:
        """n of each window, i64, to be broadcast over the spatial dimensions."""
        if self.divisor.override is not None:
            return torch.tensor(self.divisor.override)
        return _products([along.sizes(self.divisor.include_padding) for along in windows])

    def extra_repr(self) -> str:
        return f"{self.geometry}, {self.divisor}, x: zero_point={self.input_zero_point}, y: {self.output}"


class AdaptiveAvgPool(IntegerOp):
    """y = clip(rint(fl(f32(Σ(q − z_x))·m)) + z_y), m = fl(step/n), over the windows [⌊i·L/O⌋, ⌈(i+1)·L/O⌉).

    Args:
        output_size: one per spatial dimension; None keeps the input's.
        step: fl(s_x·inv_y); s_x for FloatOutput.
    """

    def __init__(self, output_size: tuple[int | None, ...], step: float, input_zero_point: int, output: Output) -> None:
        super().__init__()
        self.output_size, self.step, self.input_zero_point, self.output = output_size, step, input_zero_point, output

    def forward(self, x: Tensor) -> Tensor:
        """x u8 or s8, [N, C, *spatial] or [C, *spatial] → y. Raises DataError for other dtypes and ranks."""
        rank = len(self.output_size)
        _check("AdaptiveAvgPool", x, rank)
        spatial = x.shape[-rank:]
        sizes = [torch.tensor([len(part) for part in bins(*along)]) for along in zip(spatial, self.output_size, strict=True)]
        sums = self._sums(x.to(_sum_dtype(spatial)))
        counts = _products(sizes)
        return _scaled(sums - counts * self.input_zero_point, self.step, counts, self.output)

    def _sums(self, x: Tensor) -> Tensor:
        """Σ of each window; over all spatial dimensions at once where that is one window, which torch does ten times faster."""
        rank = len(self.output_size)
        if all(count == 1 for count in self.output_size):
            return x.sum(tuple(range(-rank, 0)), keepdim=True)
        for axis, count in enumerate(self.output_size, x.ndim - rank):
            x = reduce_bins(x, axis, count, torch.sum)
        return x

    def extra_repr(self) -> str:
        return f"{self.output_size}, x: zero_point={self.input_zero_point}, y: {self.output}"


class Mean(IntegerOp):
    """y = clip(rint(fl(f32(Σ(q − z_x))·m)) + z_y), m = fl(step/n), n the number of elements that one sum takes.

    Args:
        dims: reduced; () for all.
        step: fl(s_x·inv_y); s_x for FloatOutput.
    """

    def __init__(self, dims: tuple[int, ...], step: float, input_zero_point: int, output: Output, keepdim: bool = False) -> None:
        super().__init__()
        self.dims, self.step, self.input_zero_point = dims, step, input_zero_point
        self.output, self.keepdim = output, keepdim

    def forward(self, x: Tensor) -> Tensor:
        """x u8 or s8 of any shape → y. Raises DataError for other dtypes."""
        check_bytes(type(self).__name__, x)
        dims = self.dims or tuple(range(x.ndim))
        reduced = [x.shape[dim] for dim in dims]
        sums = x.to(_sum_dtype(reduced)).sum(dims, keepdim=self.keepdim).sub_(math.prod(reduced) * self.input_zero_point)
        return _scaled(sums, self.step, torch.tensor(self.divisor(math.prod(reduced))), self.output)

    def divisor(self, count: int) -> int:
        """n for a sum of that many elements."""
        return count

    def extra_repr(self) -> str:
        return f"dims={self.dims}, keepdim={self.keepdim}, x: zero_point={self.input_zero_point}, y: {self.output}"


class Sum(Mean):
    """y = clip(rint(fl(f32(Σ(q − z_x))·step)) + z_y): Mean with n = 1."""

    def divisor(self, count: int) -> int:
        """Always 1."""
        return 1


def _scaled(sums: Tensor, step: float, count: Tensor, output: Output) -> Tensor:
    """fl(f32(Σ)·fl(step/n)) → y."""
    multiplier = torch.tensor(step, dtype=torch.float32) / count.to(torch.float32)
    return finish(sums.to(torch.float32) * multiplier, output)


def _products(sizes: list[Tensor]) -> Tensor:
    """Outer product of one vector per dimension."""
    product = torch.ones((), dtype=torch.int64)
    for size in sizes:
        product = product.unsqueeze(-1) * size
    return product


def _sum_dtype(reduced: Sequence[int]) -> torch.dtype:
    """float32 where no sum of that many bytes reaches 2^24, so that it is exact in any order; int64 beyond."""
    return torch.float32 if 255 * math.prod(reduced) < _EXACT_FLOAT32 else torch.int64


def _check(where: str, x: Tensor, rank: int) -> None:
    check_bytes(where, x)
    if x.ndim not in (rank + 1, rank + 2):
        raise DataError(
            where,
            expected=f"[N, C, *spatial] or [C, *spatial] with {rank} spatial dimensions",
            found=f"shape {tuple(x.shape)}",
            remedy="give it the number of dimensions it was converted with",
        )

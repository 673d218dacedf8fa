"""y = conv_transpose(x, w) on 8-bit data, in 1, 2 or 3 dimensions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from fxq.errors import DataError
from fxq.runtime.integer.epilogue import Epilogue
from fxq.runtime.integer.matmul import EXACT_FLOAT32, exact_conv_dtype
from fxq.runtime.integer.module import IntegerOp, check_image, is_traced
from fxq.runtime.integer.outputs import FloatOutput, Output, PackedWeights, output_dtype
from fxq.runtime.integer.windows import channels_first, channels_last

_BUDGET = 1 << 18  # accumulators per thread of one call of torch's convolution, as for Conv


@dataclass(frozen=True)
class ConvTransposeGeometry:
    """Where the kernel goes. One entry per spatial dimension (1, 2 or 3), as in torch.nn.ConvTranspose2d.

    Attributes:
        padding: elements cropped from both ends of the output.
        output_padding: elements more at the end of the output.
        groups: channels are split into this many convolutions.
    """

    stride: tuple[int, ...]
    padding: tuple[int, ...]
    output_padding: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int = 1

    @property
    def rank(self) -> int:
        return len(self.stride)

    def counts(self, size: Sequence[int], kernel: Sequence[int]) -> list[int]:
        """(size − 1)·stride − 2·padding + dilation·(kernel − 1) + output_padding + 1 in each dimension; DataError where that is below 1."""
        ends = zip(self.padding, self.output_padding, strict=True)
        extra = [more + 1 - 2 * less for less, more in ends]
        reach = [gap * (taps - 1) for gap, taps in zip(self.dilation, kernel, strict=True)]
        counts = [(length - 1) * step + r + e for length, step, r, e in zip(size, self.stride, reach, extra, strict=True)]
        if min(counts) < 1:
            raise DataError(
                "conv_transpose",
                expected="at least 1 element per dimension of the output",
                found=f"input size {tuple(size)}, output size {tuple(counts)}",
                remedy="give a larger input",
            )
        return counts


class ConvTranspose(IntegerOp):
    """y = clip(rint(fl(f32(Σ (x − z_x)·w + bias)·m[c])) + z_y), or float32 with FloatOutput.

    Output cell o takes tap k of input cell i where o = i·stride − padding + dilation·k. Cells near the border, and with a stride
    neighbours too, have different taps: so z_x is subtracted from x, and −z_x·Σw is not part of the bias as it is for Conv.

    Args:
        weights: weight s8 [I, O/groups, *kernel] as torch has it, bias i32 [O] that is b_q alone, multiplier f32 [O].
        geometry: stride, padding, output_padding, dilation, groups.
        input_zero_point: z_x, in the range of the input's dtype.
        output: what the accumulators become.
    """

    weight: Tensor
    bias: Tensor
    multiplier: Tensor

    def __init__(self, weights: PackedWeights, geometry: ConvTransposeGeometry, input_zero_point: int, output: Output) -> None:
        super().__init__()
        self.geometry, self.input_zero_point, self.output = geometry, input_zero_point, output
        self.register_buffer("weight", weights.weight)
        self.register_buffer("bias", weights.bias)
        self.register_buffer("multiplier", weights.multiplier)
        self.derive()

    @property
    def weights(self) -> PackedWeights:
        """The constants it was built from."""
        return PackedWeights(self.weight, self.bias, self.multiplier)

    def derive(self) -> None:
        """The largest Σ|w| that meets in one output cell, and the largest |bias|: bounds for every partial sum, in any order."""
        self._weight_reach = int(_meeting_taps(self.weight, self.geometry).max()) if self.weight.numel() else 0
        self._bias_reach = int(self.bias.to(torch.int64).abs().max()) if self.bias.numel() else 0

    def forward(self, x: Tensor) -> Tensor:
        """x u8 or s8 [N, I, *spatial] or [I, *spatial] → y. Raises DataError for other dtypes and shapes, or an empty output."""
        check_image("ConvTranspose", x, self.geometry.rank, self.weight.shape[0])
        if x.ndim == self.geometry.rank + 1:
            return self._forward(x[None]).squeeze(0)
        return self._forward(x)

    def _forward(self, x: Tensor) -> Tensor:
        counts = self.geometry.counts(x.shape[2:], self.weight.shape[2:])
        y = torch.empty((x.shape[0], *counts, self.multiplier.numel()), dtype=output_dtype(self.output), device=x.device)
        epilogue = Epilogue(None, self.multiplier, self.output)
        for items in _cachefuls(y):
            epilogue.run(y[items], channels_last(self._accumulate(x[items])), None)
        # float ops behind it may expect row-major order, as they get it from a float convolution
        return channels_first(y).contiguous() if isinstance(self.output, FloatOutput) else channels_first(y)

    def _accumulate(self, x: Tensor) -> Tensor:
        """Σ (x − z_x)·w + bias as exact integers in float32 where no sum can reach 2^24, in float64 otherwise."""
        geometry, dtype = self.geometry, self._exact_dtype(x.dtype)
        convolve = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[geometry.rank - 1]
        centered, weight, bias = x.to(dtype).sub_(self.input_zero_point), self.weight.to(dtype), self.bias.to(dtype)
        where = (geometry.stride, geometry.padding, geometry.output_padding, geometry.groups, geometry.dilation)
        acc: Tensor = convolve(centered, weight, bias, *where)
        return acc

    def _exact_dtype(self, dtype: torch.dtype) -> torch.dtype:
        bounds = torch.iinfo(dtype)
        furthest = max(self.input_zero_point - bounds.min, bounds.max - self.input_zero_point)
        return exact_conv_dtype() if furthest * self._weight_reach + self._bias_reach < EXACT_FLOAT32 else torch.float64

    def extra_repr(self) -> str:
        """Reads like torch.nn.ConvTranspose2d's, with the output's integers."""
        geometry = self.geometry
        parts = [
            f"{self.weight.shape[0]}, {self.multiplier.numel()}, kernel={tuple(self.weight.shape[2:])}",
            f"stride={geometry.stride}, padding={geometry.padding}, output_padding={geometry.output_padding}",
            *([f"dilation={geometry.dilation}"] if any(step != 1 for step in geometry.dilation) else []),
            *([f"groups={geometry.groups}"] if geometry.groups != 1 else []),
            f"x: zero_point={self.input_zero_point}, y: {self.output}",
        ]
        return ", ".join(parts)


def _meeting_taps(weight: Tensor, geometry: ConvTransposeGeometry) -> Tensor:
    """Σ|w| over the taps that can meet in one output cell: those with equal dilation·k modulo stride.

    Returns:
        i64 [groups, O/groups, *counts], in each dimension as many as there are different remainders.
    """
    per_group = weight.shape[0] // geometry.groups
    grouped = weight.to(torch.int64).abs().reshape(geometry.groups, per_group, *weight.shape[1:]).sum(1)
    for axis, (step, gap) in enumerate(zip(geometry.stride, geometry.dilation, strict=True), 2):
        remainders = torch.arange(grouped.shape[axis], device=weight.device) * gap % step
        distinct, phase = remainders.unique(return_inverse=True)  # type: ignore[no-untyped-call]
        shape = [*grouped.shape[:axis], distinct.numel(), *grouped.shape[axis + 1 :]]
        grouped = grouped.new_zeros(shape).index_add_(axis, phase, grouped)
    return grouped


def _cachefuls(y: Tensor) -> Iterator[slice]:
    """Ranges of the batch, one image at least; all of it in a trace."""
    if is_traced(y.shape):
        return iter((slice(None),))
    step = max(1, _BUDGET * torch.get_num_threads() // max(1, y[:1].numel()))
    return (slice(start, start + step) for start in range(0, y.shape[0], step))

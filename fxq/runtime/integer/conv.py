"""y = conv(x, w) on 8-bit data, in 1, 2 or 3 dimensions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from fxq.runtime.integer.epilogue import Epilogue, check_residual
from fxq.runtime.integer.matmul import EXACT_FLOAT32, exact_conv_dtype, has_exact_int_mm, int_mm
from fxq.runtime.integer.module import IntegerOp, check_image
from fxq.runtime.integer.movement import Padding, pad
from fxq.runtime.integer.outputs import FloatOutput, Output, PackedWeights, Residual, output_dtype
from fxq.runtime.integer.windows import channels_first, channels_last, sliding_windows, window_counts

_FLOAT_CONV_SCALE = 4  # a call of torch's convolution costs 20–25 µs before the first product

PaddingMode = Literal["zeros", "reflect", "replicate", "circular"]


@dataclass(frozen=True)
class ConvGeometry:
    """Where the kernel goes. One entry per spatial dimension (1, 2 or 3).

    Attributes:
        stride, dilation: as in torch.nn.Conv2d.
        padding: (before, after), so that "same" padding with even kernels has its place.
        groups: channels are split into this many convolutions.
        padding_mode: "zeros" pads with the input's zero point, the others copy.
    """

    stride: tuple[int, ...]
    padding: Padding
    dilation: tuple[int, ...]
    groups: int = 1
    padding_mode: PaddingMode = "zeros"

    @property
    def rank(self) -> int:
        return len(self.stride)


class Conv(IntegerOp):
    """y = clip(rint(fl(f32(Σ x·w + bias)·m[c])) + z_y), or float32 with FloatOutput. Borders are padded with the input's zero point.

    Args:
        weights: weight s8 [O, I/groups, *kernel], kernel of the geometry's rank.
        geometry: stride, padding, dilation, groups.
        input_zero_point: z_x; bias' = b_q − z_x·Σw is in the weights already.
        output: what the accumulators become.
        residual: how forward's second operand is added before the rounding.
    """

    weight: Tensor
    bias: Tensor
    multiplier: Tensor

    def __init__(
        self, weights: PackedWeights, geometry: ConvGeometry, input_zero_point: int, output: Output, residual: Residual | None = None
    ) -> None:
        super().__init__()
        self.geometry, self.input_zero_point = geometry, input_zero_point
        self.output, self.residual = output, residual
        # stored with the channels innermost, so that the [O, taps·channels] matrix of the integer product is a view
        self.register_buffer("weight", channels_first(channels_last(weights.weight).contiguous()))
        self.register_buffer("bias", weights.bias)
        self.register_buffer("multiplier", weights.multiplier)
        self.derive()

    @property
    def weights(self) -> PackedWeights:
        """The constants it was built from."""
        return PackedWeights(self.weight, self.bias, self.multiplier)

    def derive(self) -> None:
        """Proves from the actual weights whether float32 sums of products are exact, in any order."""
        # as they lie in memory; |−128| is −128 in 8 bits, which are those of 128
        sums = np.abs(channels_last(self.weight).flatten(1).cpu().numpy()).view(np.uint8).sum(1, dtype=np.int64)
        reach = 255 * sums + np.abs(self.bias.cpu().numpy().astype(np.int64))
        self._float_is_exact = reach.size == 0 or int(reach.max()) < EXACT_FLOAT32

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        """x u8 or s8 [N, C, *spatial] or [C, *spatial], residual of y's shape → y. Raises DataError for other dtypes and shapes."""
        check_image("Conv", x, self.geometry.rank, self.weight.shape[1] * self.geometry.groups)
        if x.ndim == self.geometry.rank + 1:
            return self._forward(x[None], None if residual is None else residual[None]).squeeze(0)
        return self._forward(x, residual)

    def _forward(self, x: Tensor, residual: Tensor | None) -> Tensor:
        geometry = self.geometry
        size = [length + sum(ends) for length, ends in zip(x.shape[2:], geometry.padding, strict=True)]
        counts = window_counts(size, self.weight.shape[2:], geometry.stride, geometry.dilation)
        check_residual("Conv", residual, self.residual, torch.Size((x.shape[0], self.weight.shape[0], *counts)))
        y = torch.empty((x.shape[0], *counts, self.weight.shape[0]), dtype=output_dtype(self.output), device=x.device)
        if y.numel():
            padded = channels_last(pad(x, geometry.padding, geometry.padding_mode, self.input_zero_point)).contiguous()
            convolve = self._by_float_conv if self._prefers_float() else self._by_windows
            convolve(padded, y, None if residual is None else channels_last(residual))
        # float ops behind it may expect row-major order, as they get it from a float convolution
        return channels_first(y).contiguous() if isinstance(self.output, FloatOutput) else channels_first(y)

    def _prefers_float(self) -> bool:
        """Few channels make windows of short runs and thin products; without VNNI every product is a float one anyway."""
        return self._float_is_exact and (self.geometry.groups > 1 or self.weight.shape[1] <= 4 or not has_exact_int_mm())

    def _by_float_conv(self, x: Tensor, y: Tensor, residual: Tensor | None) -> None:
        """acc + bias by torch's float convolution, a cacheful of rows at a time; every partial sum is below 2^24."""
        geometry, dtype = self.geometry, exact_conv_dtype()
        convolve = (F.conv1d, F.conv2d, F.conv3d)[geometry.rank - 1]
        weight, bias = self.weight.to(dtype), self.bias.to(dtype)
        epilogue = Epilogue(None, self.multiplier, self.output, self.residual)
        for part in epilogue.parts(y.shape[:-1], _FLOAT_CONV_SCALE):
            source = channels_first(x[self._rows_read(part)].to(dtype))
            acc = convolve(source, weight, bias, geometry.stride, 0, geometry.dilation, geometry.groups)
            epilogue.run(y[part], channels_last(acc), None if residual is None else residual[part])

    def _rows_read(self, part: tuple[slice, ...]) -> tuple[slice, ...]:
        """Index range of the padded input for one of the output: the rows under the kernel."""
        if len(part) == 1:
            return part
        step, reach = self.geometry.stride[0], self.geometry.dilation[0] * (self.weight.shape[2] - 1) + 1
        return part[0], slice(part[1].start * step, (part[1].stop - 1) * step + reach)

    def _by_windows(self, x: Tensor, y: Tensor, residual: Tensor | None) -> None:
        """acc = windows [rows, taps·channels] × weight, one group and a cacheful of rows at a time."""
        geometry = self.geometry
        windows = sliding_windows(x, self.weight.shape[2:], geometry.stride, geometry.dilation)
        channels, outputs = self.weight.shape[1], self.weight.shape[0] // geometry.groups
        weight = channels_last(self.weight).flatten(1)
        for group in range(geometry.groups):
            into = slice(group * outputs, (group + 1) * outputs)
            epilogue = Epilogue(self.bias[into], self.multiplier[into], self.output, self.residual)
            source = windows[..., group * channels : (group + 1) * channels]
            for part in epilogue.parts(y.shape[:-1]):
                target = y[part][..., into]
                rows = source[part].reshape(-1, weight.shape[1])
                acc = int_mm(rows, weight[into]).view(target.shape)
                epilogue.run(target, acc, None if residual is None else residual[part][..., into])

    def extra_repr(self) -> str:
        """Reads like torch.nn.Conv2d's, with the output's integers."""
        geometry = self.geometry
        parts = [
            f"{self.weight.shape[1] * geometry.groups}, {self.weight.shape[0]}, kernel={tuple(self.weight.shape[2:])}",
            f"stride={geometry.stride}, padding={geometry.padding}",
        ]
        if any(step != 1 for step in geometry.dilation):
            parts.append(f"dilation={geometry.dilation}")
        if geometry.groups != 1:
            parts.append(f"groups={geometry.groups}")
        if geometry.padding_mode != "zeros":
            parts.append(f"padding_mode={geometry.padding_mode!r}")
        parts.extend([f"x: zero_point={self.input_zero_point}", f"y: {self.output}", *([str(self.residual)] if self.residual else [])])
        return ", ".join(parts)

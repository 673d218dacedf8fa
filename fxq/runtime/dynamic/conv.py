"""y = conv(x, w) + b with int8 weights, x quantized as it arrives."""

from __future__ import annotations

import torch
from torch import Tensor

from fxq.errors import ConfigError, DataError
from fxq.graph.row_qparams import choose_row_qparams, quantize_rows
from fxq.runtime.dynamic.op import Compiled, DynamicOp
from fxq.runtime.dynamic.product import RowWeights
from fxq.runtime.integer.conv import Conv, ConvGeometry
from fxq.runtime.integer.movement import pad
from fxq.runtime.integer.outputs import FloatOutput, PackedWeights, finish
from fxq.runtime.integer.windows import channels_first, channels_last


class DynamicConv(DynamicOp):
    """y = fl(fl(f32(Σ (x_q − z_x)·w)·fl(s_x·s_w[c])) + bias[c]), x_q the 8-bit x of this call; then the output's activation and bounds.

    Args:
        weights: weight s8 [O, I/groups, *kernel], kernel of the geometry's rank.
        geometry: stride, padding, dilation, groups. Borders are 0, which every range contains.
        output: activation and bounds.
        per_row: one scale for each sample of x, not one for all.

    Raises:
        ConfigError: an accumulator could overflow.
    """

    weight: Tensor
    scale: Tensor
    bias: Tensor | None

    def __init__(self, weights: RowWeights, geometry: ConvGeometry, output: FloatOutput | None = None, *, per_row: bool = False) -> None:
        super().__init__()
        if weights.overflow is not None:
            raise ConfigError("DynamicConv", expected="sums that fit into 32 bits", found=weights.overflow, remedy="leave the layer float")
        self.register_buffer("weight", channels_first(channels_last(weights.weight).contiguous()))  # as Conv has it
        self.register_buffer("scale", weights.scale)
        self.register_buffer("bias", weights.bias)
        self.geometry, self.output, self.per_row = geometry, output or FloatOutput(), per_row

    @property
    def weights(self) -> RowWeights:
        """The constants that it has now."""
        return RowWeights(self.weight, self.scale, self.bias)

    def compile_code(self) -> Compiled | None:
        from fxq.runtime.jit.dynamic_conv import compile_conv  # only where it is wanted: LLVM takes a moment to load

        return compile_conv(self.weight, self.geometry)

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        """x [N, C, *spatial] or [C, *spatial] of any float dtype → y of x's dtype. Raises DataError for other dtypes and shapes."""
        rank, channels = self.geometry.rank, self.weight.shape[1] * self.geometry.groups
        if x.ndim not in (rank + 1, rank + 2) or x.shape[-rank - 1] != channels or not x.is_floating_point():
            raise DataError(
                "DynamicConv",
                expected=f"a float tensor of {channels} channels and {rank} spatial dimensions",
                found=f"{x.dtype} {tuple(x.shape)}",
                remedy="give it the number of dimensions and channels it was converted with",
            )
        y = finish(self._convolve(x.to(torch.float32)), self.output)
        return y if y.dtype == x.dtype else y.to(x.dtype)

    def _convolve(self, x: Tensor) -> Tensor:
        samples = x if x.ndim == self.geometry.rank + 2 else x[None]
        if not samples.numel():
            values = self._of_one_scale(samples.to(torch.uint8), x.new_ones(()), 0)
        elif self.per_row:
            values = torch.cat([self._rounded(sample) for sample in samples.split(1)])  # type: ignore[no-untyped-call]
        else:
            values = self._rounded(samples)
        if self.bias is not None:
            values += self.bias.view(-1, *[1] * self.geometry.rank)
        return values if x is samples else values.squeeze(0)

    def _rounded(self, samples: Tensor) -> Tensor:
        rows = samples.reshape(1, -1)
        qparams = choose_row_qparams(rows, per_row=False)
        return self._of_one_scale(quantize_rows(rows, qparams).view(samples.shape), qparams.scale[0], int(qparams.zero_point))

    def _of_one_scale(self, integers: Tensor, scale: Tensor, zero_point: int) -> Tensor:
        """fl(f32(Σ (x_q − z)·w)·fl(s·s_w[c])); by torch, what the op for inputs computes whose zero point is known."""
        geometry, multiplier = self.geometry, scale * self.scale
        compiled = self.compiled(integers)
        if compiled is not None:
            found: Tensor = compiled(pad(integers, geometry.padding, geometry.padding_mode, zero_point), multiplier, zero_point)
            return found
        sums = self.weight.flatten(1).sum(1, dtype=torch.int32)
        found = Conv(PackedWeights(self.weight, -zero_point * sums, multiplier), geometry, zero_point, FloatOutput())(integers)
        return found

    def extra_repr(self) -> str:
        geometry, rounding = self.geometry, "per sample" if self.per_row else "per tensor"
        sizes = f"{self.weight.shape[1] * geometry.groups}, {self.weight.shape[0]}, kernel={tuple(self.weight.shape[2:])}"
        return f"{sizes}, stride={geometry.stride}, padding={geometry.padding}, groups={geometry.groups}, x: {rounding}, y: {self.output}"

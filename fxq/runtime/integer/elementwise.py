"""Elementwise ops in pieces that stay in cache: tensors of equal layout are walked as one flat run. And PRelu."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from fxq.errors import DataError
from fxq.runtime.integer.module import IntegerOp, check_bytes, is_traced
from fxq.runtime.integer.outputs import Output, finish_into, inverse_of, output_dtype, refuse_activation, rescale

_BUDGET = 1 << 16  # elements per thread whose f32 values stay in its second-level cache


def empty_result(operands: tuple[Tensor, ...], output: Output) -> Tensor:
    """Uninitialized, of the operands' broadcast shape and the output's dtype; channels_last operands give a channels_last result."""
    shape = torch.broadcast_shapes(*(operand.shape for operand in operands))  # type: ignore[no-untyped-call]
    like = next((operand for operand in operands if operand.shape == shape), None)
    dtype = output_dtype(output)
    return torch.empty(shape, dtype=dtype, device=operands[0].device) if like is None else torch.empty_like(like, dtype=dtype)


def flat_parts(out: Tensor, operands: tuple[Tensor, ...]) -> Iterator[tuple[Tensor, ...]]:
    """(out, *operands) in flat pieces where all are dense and laid out alike, whole (to be broadcast) otherwise, and in a trace.

    Args:
        out: dense, as torch.empty_like makes it.
    """
    tensors = (out, *operands)
    if is_traced(out.shape) or any(operand.shape != out.shape or operand.stride() != out.stride() for operand in operands):
        yield tensors
        return
    count, step = out.numel(), _BUDGET * torch.get_num_threads()
    flat = [tensor.as_strided((count,), (1,)) for tensor in tensors]
    for start in range(0, count, step):
        yield tuple(tensor[start : start + step] for tensor in flat)


class PRelu(IntegerOp):
    """y = clip(rint(fl(u·inv_y)) + z_y), u = v ≥ 0 ? v : fl(a[c]·v), v = fl(f32(x − z_x)·s_x); u in float32 with FloatOutput.

    Args:
        slopes: f32 [C], one for each index of dimension 1, or [1] for all.
        x_scale: s_x, an f32 value.
        x_zero_point: z_x.
        output: inverse = fl(1f/s_y) is needed.
    """

    slopes: Tensor

    def __init__(self, slopes: Tensor, x_scale: float, x_zero_point: int, output: Output) -> None:
        super().__init__()
        refuse_activation("PRelu", output)
        self.register_buffer("slopes", slopes.detach().to(torch.float32))
        self.x_scale, self.x_zero_point, self.output = x_scale, x_zero_point, output
        self.inverse = inverse_of("PRelu", output)

    def forward(self, x: Tensor) -> Tensor:
        """x u8 or s8 [N, C, ...], any shape where there is one slope → y. Raises DataError for other dtypes and shapes."""
        check_bytes("PRelu", x)
        if self.slopes.numel() == 1:
            y = empty_result((x,), self.output)
            for out, part in flat_parts(y, (x,)):
                self._compute(out, part, self.slopes)
            return y
        if x.ndim < 2 or x.shape[1] != self.slopes.numel():
            raise DataError(
                "PRelu",
                expected=f"[N, {self.slopes.numel()}, ...], a channel for each slope",
                found=f"shape {tuple(x.shape)}",
                remedy="give it the number of channels it was converted with",
            )
        y = empty_result((x,), self.output)
        self._compute(y, x, self.slopes.view(-1, *(1 for _ in x.shape[2:])))
        return y

    def _compute(self, out: Tensor, x: Tensor, slopes: Tensor) -> None:
        values = rescale(x, self.x_zero_point, self.x_scale)
        finish_into(out, torch.where(values >= 0, values, values * slopes).mul_(self.inverse), self.output)

    def extra_repr(self) -> str:
        return f"{self.slopes.numel()}, x: scale={self.x_scale:.6g} zero_point={self.x_zero_point}, y: {self.output}"

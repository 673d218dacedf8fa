"""acc + bias, multiplier, residual, output: the last steps of a conv, linear or matmul, on rows of accumulators."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fxq.errors import DataError
from fxq.runtime.integer.module import check_bytes, is_traced
from fxq.runtime.integer.outputs import Output, Residual, finish_into, rescale

_BUDGET = 1 << 16  # accumulators per thread that stay in its second-level cache over the passes of an epilogue


@dataclass(frozen=True, eq=False)
class Epilogue:
    """y = output(fl(f32(acc + bias[c])·m[c]) [+ fl(f32(a − z_a)·ratio)]).

    Attributes:
        bias: i32 [O]; None where acc holds it already.
        multiplier: f32 [O].
    """

    bias: Tensor | None
    multiplier: Tensor
    output: Output
    residual: Residual | None = None

    def run(self, out: Tensor, acc: Tensor, residual: Tensor | None) -> None:
        """Writes y to out.

        Args:
            out: [..., O], dtype of the output.
            acc: i32 or f32 (exact integers) of the same shape; overwritten.
            residual: 8-bit, same shape, where the op has a Residual.
        """
        if self.bias is not None:
            acc.add_(self.bias)
        values = acc.to(torch.float32).mul_(self.multiplier)
        if self.residual is not None:
            assert residual is not None
            values.add_(rescale(residual, self.residual.zero_point, self.residual.ratio))
        finish_into(out, values, self.output)

    def parts(self, shape: Sequence[int], scale: int = 1) -> Iterator[tuple[slice, ...]]:
        """Index ranges over the leading one or two dimensions, whose accumulators stay in cache; all of it in a trace.

        Splitting changes no bit.

        Args:
            shape: [rows] or [batch, rows, ...], without the channels.
            scale: how much larger than a cacheful the pieces may be, for a product whose calls cost more.
        """
        if is_traced(shape):
            yield (slice(None),)
            return
        budget = max(1, scale * _BUDGET * torch.get_num_threads() // max(1, self.multiplier.numel()))
        items = max(1, budget // max(1, math.prod(shape[1:])))
        if len(shape) == 1 or items > 1 or shape[0] > shape[1]:
            yield from ((slice(start, start + items),) for start in range(0, shape[0], items))
            return
        rows = max(1, budget // max(1, math.prod(shape[2:])))
        for item in range(shape[0]):
            yield from ((slice(item, item + 1), slice(start, min(start + rows, shape[1]))) for start in range(0, shape[1], rows))


def check_residual(where: str, a: Tensor | None, residual: Residual | None, shape: torch.Size) -> None:
    """Raises DataError unless a second operand of this shape is given exactly where the op was built for one."""
    if residual is None and a is None:
        return
    if residual is None or a is None:
        raise DataError(
            f"{where}.residual",
            expected="no second operand" if residual is None else "a second operand",
            found="one" if a is not None else "none",
            remedy="build the op with residual=Residual(...) and call it with residual=tensor, or with neither",
        )
    check_bytes(f"{where}.residual", a)
    if a.shape != shape:
        raise DataError(
            f"{where}.residual",
            expected=f"shape {tuple(shape)}, that of the output",
            found=f"shape {tuple(a.shape)}",
            remedy="expand the second operand first",
        )

"""y = x·wᵀ + b with int8 weights, x quantized as it arrives."""

from __future__ import annotations

import torch
from torch import Tensor

from fxq.errors import ConfigError
from fxq.graph.row_qparams import choose_row_qparams, quantize_rows
from fxq.runtime.dynamic.op import Compiled
from fxq.runtime.dynamic.product import RowProduct, RowWeights
from fxq.runtime.dynamic.rows import RowOp
from fxq.runtime.integer.matmul import int_mm
from fxq.runtime.integer.outputs import FloatOutput, finish


@torch.no_grad()
def row_product(rows: Tensor, product: RowProduct) -> Tensor:
    """What a RowProduct means, by torch's integer ops: f32 [rows, I] → f32 [rows, O]."""
    weights, output = product.weights, product.output
    if rows.numel():
        qparams = choose_row_qparams(rows, per_row=product.per_row)
        sums = weights.weight.to(torch.int32).sum(1, dtype=torch.int32)
        acc = int_mm(quantize_rows(rows, qparams), weights.weight) - qparams.zero_point[:, None] * sums
        values = acc.to(torch.float32).mul_(qparams.scale[:, None] * weights.scale)
    else:
        values = rows.new_zeros(len(rows), weights.outputs)
    return finish(values if weights.bias is None else values.add_(weights.bias), output)


class DynamicLinear(RowOp):
    """y = fl(fl(f32(Σ (x_q − z_x)·w)·fl(s_x·s_w[c])) + bias[c]), x_q the 8-bit x of this call; then the output's activation and bounds.

    Args:
        weights: what x is multiplied with.
        output: activation and bounds.
        per_row: one scale for each row of x, not one for all: rows do not depend on each other, and large ones round no others.

    Raises:
        ConfigError: an accumulator could overflow.
    """

    weight: Tensor
    scale: Tensor
    bias: Tensor | None

    def __init__(self, weights: RowWeights, output: FloatOutput | None = None, *, per_row: bool = False) -> None:
        super().__init__()
        if weights.overflow is not None:
            raise ConfigError(
                "DynamicLinear", expected="sums that fit into 32 bits", found=weights.overflow, remedy="leave the layer float"
            )
        self.register_buffer("weight", weights.weight.contiguous())
        self.register_buffer("scale", weights.scale)
        self.register_buffer("bias", weights.bias)
        self._features = tuple(weights.weight.shape)
        self.output, self.per_row = output or FloatOutput(), per_row

    @property
    def in_features(self) -> int:
        return self._features[1]

    @property
    def out_features(self) -> int:
        return self._features[0]

    @property
    def weights(self) -> RowWeights:
        """The constants that it has now."""
        return RowWeights(self.weight, self.scale, self.bias)

    @property
    def product(self) -> RowProduct:
        """What it computes, with the constants that it has now."""
        return RowProduct(self.weights, self.output, self.per_row)

    def by_torch(self, rows: Tensor) -> Tensor:
        return row_product(rows, self.product)

    def compile_code(self) -> Compiled | None:
        from fxq.runtime.jit.dynamic import compile_product  # only where it is wanted: LLVM takes a moment to load

        return compile_product(self.product)

    def extra_repr(self) -> str:
        rounding = "per row" if self.per_row else "per tensor"
        return f"{self.in_features}, {self.out_features}, bias={self.bias is not None}, x: {rounding}, y: {self.output}"

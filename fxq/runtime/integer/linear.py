"""y = x·wᵀ on 8-bit data."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from fxq.errors import DataError
from fxq.runtime.integer.epilogue import Epilogue, check_residual
from fxq.runtime.integer.matmul import int_mm
from fxq.runtime.integer.module import IntegerOp, check_bytes
from fxq.runtime.integer.outputs import Output, PackedWeights, Residual, output_dtype


class Linear(IntegerOp):
    """y = clip(rint(fl(f32(Σ x·w + bias)·m[c])) + z_y), or float32 with FloatOutput.

    Args:
        weights: weight s8 [O, I].
        output: what the accumulators become.
        residual: how forward's second operand is added before the rounding.
    """

    weight: Tensor
    bias: Tensor
    multiplier: Tensor

    def __init__(self, weights: PackedWeights, output: Output, residual: Residual | None = None) -> None:
        super().__init__()
        self.register_buffer("weight", weights.weight)
        self.register_buffer("bias", weights.bias)
        self.register_buffer("multiplier", weights.multiplier)
        self.output, self.residual = output, residual

    @property
    def weights(self) -> PackedWeights:
        """The constants it was built from."""
        return PackedWeights(self.weight, self.bias, self.multiplier)

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        """x u8 or s8 [..., I], residual of y's shape → y [..., O]. Raises DataError for other dtypes and shapes."""
        self._check(x)
        shape = torch.Size((*x.shape[:-1], self.weight.shape[0]))
        check_residual("Linear", residual, self.residual, shape)
        second = None if residual is None else residual.reshape(-1, shape[-1])
        rows = x.reshape(math.prod(shape[:-1]), x.shape[-1])
        y = torch.empty((rows.shape[0], shape[-1]), dtype=output_dtype(self.output), device=x.device)
        epilogue = Epilogue(self.bias, self.multiplier, self.output, self.residual)
        for part in epilogue.parts(rows.shape[:1]):
            epilogue.run(y[part], int_mm(rows[part], self.weight), None if second is None else second[part])
        return y.reshape(shape)

    def _check(self, x: Tensor) -> None:
        check_bytes("Linear", x)
        if x.ndim == 0 or x.shape[-1] != self.weight.shape[1]:
            raise DataError(
                "Linear",
                expected=f"[..., {self.weight.shape[1]}]",
                found=f"shape {tuple(x.shape)}",
                remedy="give it the number of features it was converted with",
            )

    def extra_repr(self) -> str:
        parts = [
            f"{self.weight.shape[1]}",
            f"{self.weight.shape[0]}",
            f"y: {self.output}",
            *([str(self.residual)] if self.residual else []),
        ]
        return ", ".join(parts)

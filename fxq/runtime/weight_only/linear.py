"""y = x·w'ᵀ + b in float32, w' what few bits stand for."""

from __future__ import annotations

from torch import Tensor

from fxq.graph.groups import GroupedWeights
from fxq.runtime.dynamic.op import Compiled
from fxq.runtime.dynamic.rows import RowOp
from fxq.runtime.integer.outputs import FloatOutput
from fxq.runtime.weight_only.op import WeightOnlyOp
from fxq.runtime.weight_only.product import GroupedProduct, grouped_product


class WeightOnlyLinear(WeightOnlyOp, RowOp):
    """y = Σ x·w' + b, then the output's activation and bounds; sums in float32, within I·2⁻²³·Σ|x|·s·(|q| + |z|) of the exact ones.

    Compiled code adds in the order of the inputs, 128 or one group after the other, so that a row of y depends on no other row.

    Args:
        weights: what x is multiplied with, and what is added.
        output: activation and bounds.
    """

    def __init__(self, weights: GroupedWeights, output: FloatOutput | None = None) -> None:
        super().__init__(weights)
        self.output = output or FloatOutput()

    @property
    def in_features(self) -> int:
        return self.shape[1]

    @property
    def out_features(self) -> int:
        return self.shape[0]

    @property
    def product(self) -> GroupedProduct:
        """What it computes, with the constants that it has now."""
        return GroupedProduct(self.weights, self.output)

    def by_torch(self, rows: Tensor) -> Tensor:
        return grouped_product(rows, self.product)

    def compile_code(self) -> Compiled | None:
        from fxq.runtime.jit.grouped import compile_grouped  # only where it is wanted: LLVM takes a moment to load

        return compile_grouped(self.product)

    def extra_repr(self) -> str:
        return f"{self.in_features}, {self.out_features}, bias={self.bias is not None}, w: {self.format}, y: {self.output}"

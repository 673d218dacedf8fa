"""Products with weights of few bits as machine code, for any number of rows."""

from __future__ import annotations

import numpy as np

from fxq.runtime.jit.arena import aligned_copy
from fxq.runtime.jit.dynamic import Buffers, CompiledRows
from fxq.runtime.jit.epilogue import form_of, header
from fxq.runtime.jit.execute import unavailable
from fxq.runtime.jit.isa import Isa, find_isa
from fxq.runtime.jit.kernels.grouped_rows import FLOAT, GroupedConstants, GroupedRows
from fxq.runtime.jit.program import Pointer, Program
from fxq.runtime.weight_only.product import GroupedProduct


def compile_grouped(product: GroupedProduct) -> CompiledGrouped | None:
    """The product as machine code for this CPU; None where LLVM has no target, or there is nothing to compute."""
    empty = 0 in (product.weights.features, product.weights.outputs)
    return None if empty or unavailable() is not None else CompiledGrouped(product, find_isa())


class CompiledGrouped(CompiledRows):
    """A GroupedProduct's constants in the kernel's order."""

    def __init__(self, product: GroupedProduct, isa: Isa) -> None:
        weights = product.weights
        super().__init__(weights.outputs)
        self._isa, self._product = isa, product
        zeros = np.zeros(weights.outputs, np.float32)
        integers = weights.weight if weights.scale is None else weights.integers()
        scale, zero, bias = (None if part is None else part.numpy() for part in (weights.scale, weights.zero, weights.bias))
        constants = GroupedConstants(integers.numpy(), scale, zero, zeros if bias is None else bias)
        self._constants = tuple(map(aligned_copy, constants.pack(self.kernel(1), header(product.output))))

    def kernel(self, rows: int) -> GroupedRows:
        """The kernel for at most that many rows."""
        weights, form = self._product.weights, form_of(self._product.output)
        bits, group = weights.format.bits, weights.format.group or weights.features
        shifted = weights.zero is not None
        return GroupedRows(self._isa, weights.features, weights.outputs, bits, group, shifted, form, single=rows == 1)

    def plan(self, rows: int) -> Program:
        """One call."""
        kernel, buffers = self.kernel(rows), Buffers(rows)
        x, y = buffers.add("x", FLOAT * kernel.features, "input"), buffers.add("y", FLOAT * kernel.outputs, "output")
        constants = [Pointer("constant", number) for number in range(len(self._constants))]
        return buffers.program("rows", self._constants, [buffers.call(kernel, [x, *constants, y], kernel.features * kernel.outputs)])

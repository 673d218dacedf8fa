"""Products with weights of few bits as machine code, for any number of rows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

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


def rows_kernel(product: GroupedProduct, isa: Isa, *, single: bool, panel_vectors: int | None = None) -> GroupedRows:
    """The kernel for one row, or for several.

    Args:
        panel_vectors: None: so many that a single row keeps the multipliers busy.
    """
    weights, form = product.weights, form_of(product.output)
    bits, group = weights.format.bits, weights.format.group or weights.features
    shifted = weights.zero is not None
    kernel = GroupedRows(isa, weights.features, weights.outputs, bits, group, shifted, form, single)
    return kernel if panel_vectors is None else replace(kernel, panel_vectors=panel_vectors)


def pack_grouped(product: GroupedProduct, kernel: GroupedRows) -> tuple[NDArray[np.uint8], ...]:
    """The constants in the order of the kernel's operands."""
    weights = product.weights
    zeros = np.zeros(weights.outputs, np.float32)
    integers = weights.weight if weights.scale is None else weights.integers()
    scale, zero, bias = (None if part is None else part.numpy() for part in (weights.scale, weights.zero, weights.bias))
    constants = GroupedConstants(integers.numpy(), scale, zero, zeros if bias is None else bias)
    return tuple(map(aligned_copy, constants.pack(kernel, header(product.output))))


class CompiledGrouped(CompiledRows):
    """A GroupedProduct's constants in the kernel's order."""

    def __init__(self, product: GroupedProduct, isa: Isa) -> None:
        super().__init__(product.weights.outputs)
        self._isa, self._product = isa, product
        self._constants = pack_grouped(product, rows_kernel(product, isa, single=True))

    def plan(self, rows: int) -> Program:
        """One call."""
        kernel, buffers = rows_kernel(self._product, self._isa, single=rows == 1), Buffers(rows)
        x, y = buffers.add("x", FLOAT * kernel.features, "input"), buffers.add("y", FLOAT * kernel.outputs, "output")
        constants = [Pointer("constant", number) for number in range(len(self._constants))]
        return buffers.program("rows", self._constants, [buffers.call(kernel, [x, *constants, y], kernel.features * kernel.outputs)])

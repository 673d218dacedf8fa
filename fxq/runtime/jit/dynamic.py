"""Dynamic ops as machine code: programs over rows, whose number is known at run time only."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fxq.runtime.dynamic.product import RowProduct
from fxq.runtime.jit.arena import ALIGNMENT
from fxq.runtime.jit.execute import CompiledProgram, unavailable
from fxq.runtime.jit.isa import Isa, find_isa
from fxq.runtime.jit.kernel import Kernel, Planned
from fxq.runtime.jit.kernels.dynamic_rows import FLOAT, PAIR_BYTES, QuantizeRows, RowRanges
from fxq.runtime.jit.program import Call, Pointer, Program
from fxq.runtime.jit.row_product import gemm_for, pack_product, row_shape
from fxq.runtime.jit.views import SLACK, Buffer, View


def compile_product(product: RowProduct) -> CompiledProduct | None:
    """The product as machine code for this CPU; None where LLVM has no target, or there is nothing to compute."""
    empty = 0 in (product.weights.features, product.weights.outputs)
    return None if empty or unavailable() is not None else CompiledProduct(product, find_isa())


class RowPrograms(ABC):
    """A program for each power of two of rows.

    Kernels do not depend on the number of rows: nothing is compiled for another one. Any number of threads may call at once.
    """

    def __init__(self) -> None:
        self._programs: dict[int, CompiledProgram] = {}
        self._lock = threading.Lock()

    @property
    def programs(self) -> tuple[Program, ...]:
        """The one for the most rows so far; none before the first call."""
        return tuple(self._programs[rows].program for rows in sorted(self._programs)[-1:])

    def program_for(self, rows: int) -> CompiledProgram:
        """The one that is planned for that many rows."""
        capacity = 1 << (rows - 1).bit_length()
        program = self._programs.get(capacity)
        if program is None:
            with self._lock:
                program = self._programs.setdefault(capacity, CompiledProgram(self.plan(capacity), []))
        return program

    @abstractmethod
    def plan(self, rows: int) -> Program:
        """For at most that many rows."""


class CompiledRows(RowPrograms):
    """Rows from rows."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self._outputs = outputs

    def __call__(self, rows: Tensor) -> Tensor:
        """f32 [rows, I], contiguous → f32 [rows, O]."""
        count = len(rows)
        y = torch.empty(count, self._outputs)
        if count:
            self.program_for(count).run_rows([rows], [y], count)
        return y


class CompiledProduct(CompiledRows):
    """A RowProduct's constants in the kernels' order."""

    def __init__(self, product: RowProduct, isa: Isa) -> None:
        super().__init__(product.weights.outputs)
        self.isa, self.per_row, self._shape = isa, product.per_row, row_shape(product)
        self._weights, self._parameters = pack_product(product, gemm_for(self._shape, 1, isa).panels, isa)

    def plan(self, rows: int) -> Program:
        """For at most that many rows: their ranges, their bytes, their products."""
        shape, per_row = self._shape, self.per_row
        buffers = Buffers(rows)
        x = buffers.add("x", FLOAT * shape.features, "input")
        ranges, qparams = (buffers.add(name, PAIR_BYTES) for name in ("ranges", "qparams"))
        quantized, y = buffers.add("quantized", shape.padded), buffers.add("y", FLOAT * shape.outputs, "output")
        weights, parameters = (Pointer("constant", number) for number in range(2))
        find, quantize = RowRanges(self.isa, shape.features), QuantizeRows(self.isa, shape.features, shape.padded, not per_row)
        return buffers.program(
            "rows",
            (self._weights, self._parameters),
            [
                *([] if per_row else [buffers.call(find, [x, ranges])]),
                buffers.call(quantize, [x, *([] if per_row else [ranges]), qparams, quantized]),
                buffers.call(gemm_for(shape, rows, self.isa), [quantized, weights, parameters, qparams, y], shape.features * shape.outputs),
            ],
        )


@dataclass
class Buffers:
    """Memory of a program over rows.

    Attributes:
        rows: of each buffer.
        nbytes: of the arena.
    """

    rows: int
    nbytes: int = 0
    buffers: list[Buffer] = field(default_factory=list)
    offsets: list[int] = field(default_factory=list)

    def add(self, name: str, row_bytes: int, place: Literal["arena", "input", "output"] = "arena") -> Pointer:
        """A buffer with that many bytes for each row; inputs and outputs are numbered as they come."""
        nbytes = self.rows * row_bytes + (SLACK if place == "arena" else 0)
        number = sum(buffer.place == place for buffer in self.buffers)
        self.buffers.append(Buffer(name, nbytes, place, number))
        self.offsets.append(self.nbytes if place == "arena" else 0)
        if place == "arena":
            self.nbytes += -(-nbytes // ALIGNMENT) * ALIGNMENT
        return Pointer("buffer", len(self.buffers) - 1)

    def call(self, kernel: Kernel, pointers: Sequence[Pointer], macs: int = 0) -> Call:
        """A call over all rows; the last pointer is that of the result."""
        result = pointers[-1].index
        width = self.buffers[result].nbytes // self.rows
        return Call(kernel.name, Planned(kernel, (), macs), tuple(pointers), self.rows, View(result, 0, (self.rows, width), (width, 1)))

    def program(self, name: str, constants: Sequence[NDArray[np.uint8]], calls: Sequence[Call]) -> Program:
        """The calls, one after the other; the last one makes the result."""
        stages = tuple((call,) for call in calls)
        return Program(name, tuple(self.buffers), tuple(self.offsets), self.nbytes, tuple(constants), stages, (calls[-1].result,))

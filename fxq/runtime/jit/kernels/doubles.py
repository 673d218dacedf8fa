"""Results that are computed in f64 and rounded once, and sums over runs of bytes: what softmax and the norms have in common."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from llvmlite import ir
from numpy.typing import NDArray

from fxq.runtime.integer.outputs import FloatOutput, Output
from fxq.runtime.jit.epilogue import byte_bounds
from fxq.runtime.jit.ir import F32, I8, I32, Emitter, Value, splat, vec
from fxq.runtime.jit.isa import Isa

F64 = ir.DoubleType()
DOUBLE = 8
FINISH_BYTES = 3 * DOUBLE


@dataclass(frozen=True)
class Finish:
    """y = clip(rint(v) + z, low, high) of f64 values, NaN → low; or fl(clamp(v)), f32. The numbers are in FINISH_BYTES of constants.

    Attributes:
        floats: results are f32, not bytes.
    """

    floats: bool

    @property
    def element(self) -> int:
        """Bytes of a result."""
        return 4 if self.floats else 1

    def emit(self, e: Emitter, numbers: Value, values: Value) -> Value:
        """The results of a vector of values."""
        type, lanes = values.type, values.type.count
        low, high = (e.broadcast(e.load(numbers, F64, DOUBLE * slot), type) for slot in range(2))
        if self.floats:
            raised = e.b.select(e.b.fcmp_ordered("<", values, low), low, values)
            return e.b.fptrunc(e.b.select(e.b.fcmp_ordered(">", raised, high), high, raised), vec(F32, lanes))
        raised = e.b.select(e.b.fcmp_ordered(">", values, low), values, low)
        clipped = e.b.select(e.b.fcmp_ordered("<", raised, high), raised, high)
        rounded = e.b.fptosi(e.call(f"llvm.roundeven.v{lanes}f64", type, [clipped]), vec(I32, lanes))
        zero_point = e.broadcast(e.load(numbers, I32, DOUBLE * 2), vec(I32, lanes))
        return e.b.trunc(e.b.add(rounded, zero_point), vec(I8, lanes))


def finish_of(output: Output) -> Finish:
    """How results with that output are written."""
    return Finish(isinstance(output, FloatOutput))


def finish_numbers(output: Output) -> NDArray[np.uint8]:
    """Bounds of the rounded value, f64, and the zero point, i32; u8 [FINISH_BYTES]."""
    if isinstance(output, FloatOutput):
        return np.array([output.low, output.high, 0.0]).view(np.uint8)
    low, high, zero_point = byte_bounds(output)
    bounds = np.array([low - zero_point, high - zero_point], np.float64)
    return np.concatenate([bounds.view(np.uint8), np.array([zero_point, 0], np.int32).view(np.uint8)])


def double_lanes(isa: Isa) -> int:
    """How many f64 are computed together: those of two registers."""
    return isa.vector_bytes // 4


def widened(e: Emitter, x: Value, offset: Any, count: int, lanes: int) -> Value:
    """`count` bytes → i32 lanes; the others are 0."""
    loaded = e.load(e.at(x, offset), vec(I8, count))
    whole = loaded if count == lanes else e.shuffle(loaded, [*range(count), *[count] * (lanes - count)], splat(loaded.type, 0))
    return e.b.zext(whole, vec(I32, lanes))


def summed(e: Emitter, count: int, lanes: int, start: Sequence[Value], body: Callable[[Any, int, list[Value]], list[Value]]) -> list[Value]:
    """carried = body(first, how many, carried) over `count` elements, each once: whole vectors, then the rest."""
    whole = count // lanes * lanes
    carried = e.loop(0, whole, lambda first, carried: body(first, lanes, carried), start, step=lanes)
    return body(whole, count - whole, carried) if whole < count else carried


def total(e: Emitter, vector: Value) -> Value:
    """The sum of the lanes of a vector of integers."""
    name = f"llvm.vector.reduce.add.v{vector.type.count}i{vector.type.element.width}"
    return e.call(name, vector.type.element, [vector])


def loaded_doubles(e: Emitter, pointer: Value, first: Any, count: int) -> Value:
    """f64 number `first` and those behind it."""
    return e.load(e.at(pointer, e.mul(first, DOUBLE)), vec(F64, count))

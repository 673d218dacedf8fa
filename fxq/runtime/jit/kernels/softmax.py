"""Softmax: a table of exponentials, an exact sum, and a table of the results of one row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from fxq.runtime.integer.softmax import Softmax
from fxq.runtime.jit.ir import F32, I8, I32, I64, Emitter, Value, splat, vec
from fxq.runtime.jit.isa import Isa
from fxq.runtime.jit.kernel import Kernel, Layout, Planned, Span, Work
from fxq.runtime.jit.kernels.doubles import (
    DOUBLE,
    F64,
    FINISH_BYTES,
    Finish,
    double_lanes,
    finish_numbers,
    finish_of,
    loaded_doubles,
    summed,
)
from fxq.runtime.jit.rows import Rows, each_pixel, each_vector, pixel_span, row_count

# so many exponentials of at most 2^38 add up to 2^53, exactly and in any order
LONGEST = 2**15
_ENTRIES = 256
_INVERSE, _REACH, _TABLE = FINISH_BYTES, FINISH_BYTES + DOUBLE, FINISH_BYTES + 2 * DOUBLE
_SUMS = 8  # additions in flight


@dataclass(frozen=True)
class RowSoftmax(Kernel):
    """y = finish(fl(fl(E[d]/ΣE)·inv_y)), d = max(q) − q, over the channels of each pixel.

    All results of a row are among 256, one for each d; those from `reach` on are 0 for any sum, and are not computed.

    Attributes:
        x, y: of one shape.
        finish: the rounding.
    """

    x: Layout
    y: Layout
    finish: Finish

    @property
    def operands(self) -> tuple[str, ...]:
        return ("x", "constants", "y")

    def units(self, images: int) -> int:
        return images * row_count(self.y.size)

    def spans(self) -> tuple[Span, ...]:
        return (pixel_span(self.x), Span(0, _TABLE + DOUBLE * _ENTRIES), pixel_span(self.y, self.finish.element))

    def emit(self, e: Emitter, work: Work) -> None:
        x, constants, y = work.pointers
        results = e.scratch(_ENTRIES * self.finish.element)

        def pixel(_: Any, ends: list[Value]) -> None:
            largest = self._largest(e, ends[0])
            self._compute_results(e, constants, self._sum(e, ends[0], constants, largest), results)
            self._look_up(e, ends, largest, results)

        each_pixel(e, work, (Rows(x, self.x), Rows(y, self.y)), pixel)

    def _largest(self, e: Emitter, x: Value) -> Value:
        lanes = self.isa.vector_bytes
        bytes = self.isa.bytes

        def larger(first: Any, count: int, carried: list[Value]) -> list[Value]:
            loaded = e.load(e.at(x, first), vec(I8, count))
            whole = loaded if count == lanes else e.shuffle(loaded, [*range(count), *[0] * (lanes - count)])
            return [e.call(f"llvm.umax.v{lanes}i8", bytes, [carried[0], whole])]

        found = summed(e, self.x.channels, lanes, [splat(bytes, 0)], larger)
        return e.call(f"llvm.vector.reduce.umax.v{lanes}i8", I8, found)

    def _sum(self, e: Emitter, x: Value, constants: Value, largest: Value) -> Value:
        """ΣE, f64: one element at a time, several sums beside each other."""
        table, top = e.at(constants, _TABLE), e.b.zext(largest, I64)

        def add(first: Any, count: int, carried: list[Value]) -> list[Value]:
            distances = [e.b.sub(top, e.b.zext(e.load(e.at(x, e.add(first, i)), I8), I64)) for i in range(count)]
            terms = [e.load(e.at(table, e.mul(distance, DOUBLE)), F64, 0, DOUBLE) for distance in distances]
            return [*(e.b.fadd(a, b) for a, b in zip(carried, terms, strict=False)), *carried[count:]]

        sums = summed(e, self.x.channels, _SUMS, [F64(0.0)] * _SUMS, add)
        while len(sums) > 1:
            sums = [e.b.fadd(a, b) for a, b in zip(sums[::2], sums[1::2], strict=True)]
        return sums[0]

    def _compute_results(self, e: Emitter, constants: Value, total: Value, results: Value) -> None:
        lanes = double_lanes(self.isa)
        doubles = vec(F64, lanes)
        inverse, sums = e.broadcast(e.load(constants, F64, _INVERSE), doubles), e.broadcast(total, doubles)
        reach = _ENTRIES if self.finish.floats else e.load(constants, I64, _REACH)

        def compute(first: Any, _: Any) -> None:
            quotients = e.b.fdiv(loaded_doubles(e, e.at(constants, _TABLE), first, lanes), sums)
            e.store(self.finish.emit(e, constants, e.b.fmul(quotients, inverse)), results, e.mul(first, self.finish.element))

        if not self.finish.floats:
            nothing = self.finish.emit(e, constants, splat(doubles, 0.0))
            e.fill(results, e.b.extract_element(nothing, I32(0)), _ENTRIES)
        e.loop(0, reach, compute, step=lanes)

    def _look_up(self, e: Emitter, ends: list[Value], largest: Value, results: Value) -> None:
        x, y = ends
        if self.finish.floats:
            top = e.b.zext(largest, I64)

            def element(i: Any, _: Any) -> None:
                distance = e.b.sub(top, e.b.zext(e.load(e.at(x, i), I8), I64))
                e.store(e.load(e.at(results, e.mul(distance, 4)), F32, 0, 4), y, e.mul(i, 4))

            e.loop(0, self.x.channels, element)
            return

        def vector(first: Any, count: int) -> None:
            type = vec(I8, count)
            distances = e.b.sub(e.broadcast(largest, type), e.load(e.at(x, first), type))
            e.store(self.isa.lookup(e, results, distances), y, first)

        each_vector(e, self.x.channels, self.isa.vector_bytes, vector)


def plan_softmax(op: Softmax, x: Layout, y: Layout, isa: Isa) -> Planned:
    """Over the channels of these layouts, at most LONGEST of them."""
    table = op.table.numpy().astype(np.float64)
    lanes = double_lanes(isa)
    largest = table / table[0] * op.inverse  # the sum is table[0] at least
    reach = -(-int(np.count_nonzero(largest > 0.25)) // lanes) * lanes
    numbers = [np.array([op.inverse]), np.array([reach], np.int64), table]
    return Planned(
        RowSoftmax(isa, x, y, finish_of(op.output)), (np.concatenate([finish_numbers(op.output), *(n.view(np.uint8) for n in numbers)]),)
    )

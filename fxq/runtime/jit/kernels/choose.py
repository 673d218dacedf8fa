"""The larger or smaller of two values, or the one that a condition says, byte by byte."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from fxq.runtime.jit.ir import I8, Emitter, Value, splat, vec
from fxq.runtime.jit.kernel import Kernel, Layout, Span, Work
from fxq.runtime.jit.rows import Rows, each_run, each_vector, pixel_span, row_count

Choice = Literal["umax", "umin", "select"]


@dataclass(frozen=True)
class Choose(Kernel):
    """y = max(a, b), min(a, b), or a where the condition holds and b elsewhere; operands of one pixel or one channel are broadcast.

    Attributes:
        inputs: as y is, but for lengths of 1; the condition behind a and b, a byte that is not 0 where it holds.
        choice: which of them.
    """

    inputs: tuple[Layout, ...]
    y: Layout
    choice: Choice

    @property
    def operands(self) -> tuple[str, ...]:
        return (*("a", "b", "condition")[: len(self.inputs)], "y")

    def units(self, images: int) -> int:
        return images * row_count(self.y.size)

    def spans(self) -> tuple[Span, ...]:
        return tuple(map(pixel_span, (*self.inputs, self.y)))

    def emit(self, e: Emitter, work: Work) -> None:
        ends = [Rows(pointer, layout) for pointer, layout in zip(work.pointers, (*self.inputs, self.y), strict=True)]

        def run(pointers: Sequence[Value], count: int) -> None:
            each_vector(e, count, self.isa.vector_bytes, lambda first, n: self._piece(e, pointers, first, n))

        each_run(e, work, ends, run)

    def _piece(self, e: Emitter, pointers: Sequence[Value], first: Any, count: int) -> None:
        type = vec(I8, count)
        *inputs, y = pointers
        a, b, *condition = (self._loaded(e, pointer, layout, first, count) for pointer, layout in zip(inputs, self.inputs, strict=True))
        if condition:
            chosen = e.b.select(e.b.icmp_unsigned("!=", condition[0], splat(type, 0)), a, b)
        else:
            chosen = e.call(f"llvm.{self.choice}.v{count}i8", type, [a, b])
        e.store(chosen, y, first)

    def _loaded(self, e: Emitter, pointer: Value, layout: Layout, first: Any, count: int) -> Value:
        if layout.channels == 1 and self.y.channels != 1:
            return e.broadcast(e.load(pointer, I8), vec(I8, count))
        return e.load(e.at(pointer, first), vec(I8, count))

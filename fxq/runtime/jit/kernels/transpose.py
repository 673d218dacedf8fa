"""A copy whose result has other elements side by side than its operand: squares of them change rows for columns in registers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

from fxq.runtime.jit.interleave import transposed
from fxq.runtime.jit.ir import I8, I32, I64, Emitter, Value, splat, vec
from fxq.runtime.jit.isa import Isa
from fxq.runtime.jit.kernel import Kernel, Span, Work
from fxq.runtime.jit.rows import each_vector

_FLIP = 0x80  # an int8 value q is stored as q + 128: the same byte with its sign bit turned
_SMALLEST, _MOST_BYTES = 4, 16


@dataclass(frozen=True)
class Along:
    """A dimension: its length, and the bytes from one element to the next in x and in y."""

    count: int
    x: int
    y: int


@dataclass(frozen=True)
class Transpose(Kernel):
    """y[..., r, c] = x[..., c, r], elements adjacent along r in x and along c in y.

    Attributes:
        outer: dimensions that are neither, outermost first in y.
        rows, columns: r and c.
        x_image, y_image: bytes from one image to the next.
        element: bytes of one: 1 or 4.
        flip: the sign bit of each byte changes.
    """

    outer: tuple[Along, ...]
    rows: Along
    columns: Along
    x_image: int
    y_image: int
    element: int
    flip: bool

    @property
    def side(self) -> int:
        """Of a square."""
        return square_side(self.rows.count, self.columns.count, self.element, self.isa)

    @property
    def _strips(self) -> int:
        """Of columns, as wide as a square; the last one overlaps."""
        return -(-self.columns.count // self.side)

    @property
    def operands(self) -> tuple[str, ...]:
        return ("x", "y")

    def units(self, images: int) -> int:
        return images * prod(along.count for along in self.outer) * self._strips

    def spans(self) -> tuple[Span, ...]:
        every = (*self.outer, self.rows, self.columns)
        x, y = [(along.count, along.x) for along in every], [(along.count, along.y) for along in every]
        return (reach_of(x, self.element, self.x_image), reach_of(y, self.element, self.y_image))

    def emit(self, e: Emitter, work: Work) -> None:
        e.loop(work.begin, work.end, lambda number, _: self._strip(e, work, number))

    def _strip(self, e: Emitter, work: Work, number: Value) -> None:
        rest, strip = e.divide(number, self._strips), e.remainder(number, self._strips)
        x = y = e.mul(strip, 0)
        for along in reversed(self.outer):
            index, rest = e.remainder(rest, along.count), e.divide(rest, along.count)
            x, y = e.add(x, e.mul(index, along.x)), e.add(y, e.mul(index, along.y))
        first = self._first_column(e, strip)
        x = e.add(e.add(x, e.mul(rest, self.x_image)), e.mul(first, self.columns.x))
        y = e.add(e.add(y, e.mul(rest, self.y_image)), e.mul(first, self.columns.y))
        ends = e.at(work.pointers[0], x), e.at(work.pointers[1], y)
        each_vector(e, self.rows.count, self.side, lambda row, _: self._square(e, ends, row))

    def _first_column(self, e: Emitter, strip: Value) -> Value:
        first, last = e.mul(strip, self.side), I64(self.columns.count - self.side)
        return first if self.columns.count % self.side == 0 else e.b.select(e.b.icmp_signed("<", first, last), first, last)

    def _square(self, e: Emitter, ends: tuple[Value, Value], row: Any) -> None:
        side = range(self.side)
        type = vec(I8 if self.element == 1 else I32, self.side)
        x, y = (e.at(end, e.mul(row, step)) for end, step in zip(ends, (self.rows.x, self.rows.y), strict=True))
        for number, line in enumerate(transposed(e, [e.load(x, type, column * self.columns.x) for column in side])):
            e.store(e.b.xor(line, splat(type, _FLIP)) if self.flip else line, y, number * self.rows.y)


def reach_of(dims: Sequence[tuple[int, int]], element: int, image: int) -> Span:
    """All elements of an image, from its first one on: dims are (length, bytes from one to the next), some of them negative."""
    steps = [(count - 1) * step for count, step in dims]
    return Span(sum(min(0, step) for step in steps), sum(max(0, step) for step in steps) + element, image)


def square_side(rows: int, columns: int, element: int, isa: Isa) -> int:
    """Elements that change places at a time, a power of two; 0 where there are too few."""
    most = min(rows, columns, isa.lanes if element > 1 else _MOST_BYTES)
    return 1 << (most.bit_length() - 1) if most >= _SMALLEST else 0

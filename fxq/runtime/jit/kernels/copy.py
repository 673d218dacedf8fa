"""Kernels that move bytes: the border around an image, any strided copy, and one byte in place of all."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial, reduce
from typing import Any

import numpy as np

from fxq.runtime.jit.ir import I8, I64, Emitter, Value, splat, vec
from fxq.runtime.jit.isa import Isa
from fxq.runtime.jit.kernel import Kernel, Layout, Planned, Span, Work
from fxq.runtime.jit.kernels.transpose import Along, Transpose, reach_of, square_side
from fxq.runtime.jit.rows import each_row, pixel_reach, row_count, row_offset
from fxq.runtime.jit.views import Border, View

_FLIP = 0x80  # an int8 value q is stored as q + 128: the same byte with its sign bit turned


@dataclass(frozen=True)
class BorderFill(Kernel):
    """All bytes of the border around y become one byte; y itself is not touched.

    Attributes:
        y: dense but for its border, so that whole rows and planes of the border are adjacent bytes.
        border: pixels before and after, for each spatial dimension.
    """

    y: Layout
    border: Border

    @property
    def name(self) -> str:
        return "border"

    @property
    def operands(self) -> tuple[str, ...]:
        return ("byte", "y")

    def units(self, images: int) -> int:
        return images * row_count(self.y.size)

    def spans(self) -> tuple[Span, ...]:
        first = -sum(before * stride for (before, _), stride in zip(self.border, self.y.strides, strict=True))
        after = sum(after * stride for (_, after), stride in zip(self.border, self.y.strides, strict=True))
        return (Span(0, 1), Span(first, pixel_reach(self.y) + self.y.strides[-1] + after, self.y.image))

    def emit(self, e: Emitter, work: Work) -> None:
        byte = e.load(work.pointers[0], I8)

        def row(place: tuple[Any, ...]) -> None:
            start = _Start(e, e.at(work.pointers[1], row_offset(e, self.y, place)), byte)
            inner = 0
            for dim in reversed(range(len(self.y.size))):
                self._ends(start, dim, place, inner)
                inner += self.border[dim][0] * self.y.strides[dim]

        each_row(e, work, self.y.size, row)

    def _ends(self, row: _Start, dim: int, place: tuple[Any, ...], inner: int) -> None:
        """Before the first and behind the last index of a dimension: of the width in each row, of outer ones once, from their first row."""
        (before, after), stride, count = self.border[dim], self.y.strides[dim], self.y.size[dim]
        if dim == len(self.y.size) - 1:
            row.fill(-before * stride, before * stride)
            row.fill(count * stride, after * stride)
            return
        index, inside = place[dim + 1], [(i, 0) for i in place[dim + 2 :]]
        row.fill_where([(index, 0), *inside], -inner - before * stride, before * stride)
        row.fill_where([(index, count - 1), *inside], stride - inner, after * stride)


@dataclass(frozen=True)
class _Start:
    """The first pixel of a row, and the byte that borders are filled with."""

    e: Emitter
    pointer: Value
    byte: Value

    def fill(self, offset: int, nbytes: int) -> None:
        """nbytes from pointer + offset on."""
        if nbytes:
            self.e.fill(self.e.at(self.pointer, offset), self.byte, nbytes)

    def fill_where(self, indices: list[tuple[Any, int]], offset: int, nbytes: int) -> None:
        """Where each index has the value beside it."""
        e = self.e
        if not nbytes or any(isinstance(index, int) and index != wanted for index, wanted in indices):
            return
        conditions = [e.b.icmp_signed("==", index, I64(wanted)) for index, wanted in indices if not isinstance(index, int)]
        if conditions:
            e.when(reduce(e.b.and_, conditions), lambda: self.fill(offset, nbytes))
        else:
            self.fill(offset, nbytes)


def plan_border(y: Layout, border: Border, byte: int, isa: Isa) -> Planned:
    """Fills the border of y with a byte."""
    return Planned(BorderFill(isa, y, border), (np.array([byte], np.uint8),))


@dataclass(frozen=True)
class Copy(Kernel):
    """y[i] = x[i] for all indices, at their own strides.

    Attributes:
        shape: of one image, outermost first in y's memory.
        x_strides, y_strides: bytes, for each entry of shape; those of x may be negative.
        x_image, y_image: bytes from one image to the next.
        element: bytes of one: 1 or 4.
        flip: the sign bit of each byte changes: int8 outside, u8 inside a program, or back.
    """

    shape: tuple[int, ...]
    x_strides: tuple[int, ...]
    y_strides: tuple[int, ...]
    x_image: int
    y_image: int
    element: int = 1
    flip: bool = False

    @property
    def operands(self) -> tuple[str, ...]:
        return ("x", "y")

    def units(self, images: int) -> int:
        return images * self.shape[0]

    def spans(self) -> tuple[Span, ...]:
        x, y = (list(zip(self.shape, strides, strict=True)) for strides in (self.x_strides, self.y_strides))
        return (reach_of(x, self.element, self.x_image), reach_of(y, self.element, self.y_image))

    def emit(self, e: Emitter, work: Work) -> None:
        def unit(number: Value, _: Any) -> None:
            image, first = e.divide(number, self.shape[0]), e.remainder(number, self.shape[0])
            x = e.add(e.mul(image, self.x_image), e.mul(first, self.x_strides[0]))
            y = e.add(e.mul(image, self.y_image), e.mul(first, self.y_strides[0]))
            self._inner(e, 1, e.at(work.pointers[0], x), e.at(work.pointers[1], y))

        e.loop(work.begin, work.end, unit)

    def _inner(self, e: Emitter, dim: int, x: Value, y: Value) -> None:
        if dim == len(self.shape):
            self._run(e, x, y, self.element)
        elif dim == len(self.shape) - 1 and self.x_strides[dim] == self.y_strides[dim] == self.element:
            self._run(e, x, y, self.element * self.shape[dim])
        else:
            e.loop(
                0,
                self.shape[dim],
                lambda i, _: self._inner(e, dim + 1, e.at(x, e.mul(i, self.x_strides[dim])), e.at(y, e.mul(i, self.y_strides[dim]))),
            )

    def _run(self, e: Emitter, x: Value, y: Value, nbytes: int) -> None:
        """Adjacent bytes, the largest pieces first."""
        size = 64
        done = 0
        while done < nbytes:
            while size > nbytes - done:
                size //= 2
            count = (nbytes - done) // size * size
            e.loop(done, done + count, partial(self._piece, e, (x, y), size), step=size)
            done += count

    def _piece(self, e: Emitter, ends: tuple[Value, Value], size: int, offset: Any, _: Any) -> None:
        type = vec(I8, size)
        value = e.load(ends[0], type, offset)
        e.store(e.b.xor(value, splat(type, _FLIP)) if self.flip else value, ends[1], offset)


def plan_copy(x: View, y: View, isa: Isa, *, flip: bool = False) -> Planned:
    """The elements of x to y, both of one shape, whose first dimension is the images, or of one vector."""
    images, dims = _merged(x.batched, y.batched)
    *outer, columns = (Along(*dim) for dim in dims)
    rows = next((along for along in outer if along.x == x.element), None)
    if rows is not None and columns.y == x.element and square_side(rows.count, columns.count, x.element, isa):
        others = tuple(along for along in outer if along is not rows and along.count > 1)
        return Planned(Transpose(isa, others, rows, columns, images[1], images[2], x.element, flip), ())
    counts, x_bytes, y_bytes = (tuple(dim[i] for dim in dims) for i in range(3))
    return Planned(Copy(isa, counts, x_bytes, y_bytes, images[1], images[2], x.element, flip), ())


_Dimension = tuple[int, int, int]  # its length, and the bytes from one element to the next, in x and in y


def _merged(x: View, y: View) -> tuple[_Dimension, list[_Dimension]]:
    """The images, and at least two other dimensions, outermost first in y: as few as possible."""
    images, *others = [(n, xs * x.element, ys * x.element) for n, xs, ys in zip(x.shape, x.strides, y.strides, strict=True)]
    merged: list[_Dimension] = []
    for count, xs, ys in sorted((dim for dim in others if dim[0] != 1), key=lambda dim: -dim[2]):
        if merged and merged[-1][1] == count * xs and merged[-1][2] == count * ys:
            merged[-1] = (merged[-1][0] * count, xs, ys)
        else:
            merged.append((count, xs, ys))
    # a unit is one step of the outermost dimension
    return images, merged if len(merged) > 1 else [(1, 0, 0), *merged]


@dataclass(frozen=True)
class Fill(Kernel):
    """y[i] = one byte, for all indices.

    Attributes:
        shape: of one image, outermost first in memory.
        strides: bytes, for each entry of shape.
        image: bytes from one image to the next.
    """

    shape: tuple[int, ...]
    strides: tuple[int, ...]
    image: int

    @property
    def operands(self) -> tuple[str, ...]:
        return ("byte", "y")

    def units(self, images: int) -> int:
        return images * self.shape[0]

    def spans(self) -> tuple[Span, ...]:
        reach = sum((n - 1) * stride for n, stride in zip(self.shape, self.strides, strict=True))
        return (Span(0, 1), Span(0, reach + 1, self.image))

    def emit(self, e: Emitter, work: Work) -> None:
        byte = e.load(work.pointers[0], I8)

        def unit(number: Value, _: Any) -> None:
            image, first = e.divide(number, self.shape[0]), e.remainder(number, self.shape[0])
            self._inner(e, 1, e.at(work.pointers[1], e.add(e.mul(image, self.image), e.mul(first, self.strides[0]))), byte)

        e.loop(work.begin, work.end, unit)

    def _inner(self, e: Emitter, dim: int, y: Value, byte: Value) -> None:
        if dim == len(self.shape):
            e.store(byte, y)
        elif dim == len(self.shape) - 1 and self.strides[dim] == 1:
            e.fill(y, byte, self.shape[dim])
        else:
            e.loop(0, self.shape[dim], lambda i, _: self._inner(e, dim + 1, e.at(y, e.mul(i, self.strides[dim])), byte))


def plan_fill(y: View, byte: int, isa: Isa) -> Planned:
    """That byte for every element of y, whose first dimension is the images, or of a vector."""
    images, dims = _merged(y.batched, y.batched)
    return Planned(Fill(isa, tuple(dim[0] for dim in dims), tuple(dim[2] for dim in dims), images[2]), (np.array([byte], np.uint8),))

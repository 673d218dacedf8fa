"""Maxima and means over windows. Where each window begins and ends is in tables, so that one code serves all poolings of a shape."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fxq.runtime.integer.outputs import Output
from fxq.runtime.integer.pool import WINDOW, AdaptiveAvgPool, AdaptiveMaxPool, AvgPool, MaxPool, Mean
from fxq.runtime.integer.windows import Windows, bins
from fxq.runtime.jit.epilogue import HEADER_BYTES, Epilogue, Form, form_of, header, store_bytes, store_floats
from fxq.runtime.jit.ir import F32, I8, I32, I64, Emitter, Value, splat, vec
from fxq.runtime.jit.isa import Isa
from fxq.runtime.jit.kernel import Kernel, Layout, Planned, Span, Work
from fxq.runtime.jit.rows import each_row, each_vector, pixel_reach, row_count, row_offset

_RANK = 3
_WINDOW_BYTES = 16  # first and end, i64
_MEAN_BYTES = 8  # n·z, i32, and m, f32

Bounds = Sequence[tuple[int, int]]  # [first, end) of each window of one dimension
Body = Callable[[Value, list[Value]], list[Value]]


@dataclass(frozen=True)
class _Pool(Kernel):
    """One result for each window and channel.

    Attributes:
        x, y: of three spatial dimensions.
    """

    x: Layout
    y: Layout

    def units(self, images: int) -> int:
        return images * row_count(self.y.size)

    def _window_span(self) -> Span:
        return Span(0, sum(self.y.size) * _WINDOW_BYTES)

    def _input_span(self) -> Span:
        return Span(0, pixel_reach(self.x) + self.x.channels, self.x.image)

    def _pixels(self, e: Emitter, work: Work, windows: Value, body: Callable[[Any, Value, Any, _Reduction], None]) -> None:
        """body(image and outer indices, pointer offset of the pixel in y, its number in the row, what reduces its window)."""

        def row(place: tuple[Any, ...]) -> None:
            starts = [0, self.y.size[0], self.y.size[0] + self.y.size[1]]
            image = e.at(work.pointers[0], e.mul(place[0], self.x.image))
            outer = [self._window(e, windows, e.add(start, index)) for start, index in zip(starts, place[1:], strict=False)]
            y = row_offset(e, self.y, place)

            def pixel(column: Any, _: Any) -> None:
                bounds = [*outer, self._window(e, windows, e.add(starts[2], column))]
                body(place, e.add(y, e.mul(column, self.y.strides[-1])), column, _Reduction(e, self.x.strides, image, bounds))

            e.loop(0, self.y.size[-1], pixel)

        each_row(e, work, self.y.size, row)

    def _window(self, e: Emitter, windows: Value, number: Any) -> tuple[Value, Value]:
        at = e.at(windows, e.mul(number, _WINDOW_BYTES))
        return e.load(at, I64, 0, 8), e.load(at, I64, 8, 8)


@dataclass(frozen=True)
class _Reduction:
    """Loops over one window."""

    e: Emitter
    strides: tuple[int, ...]
    image: Value
    bounds: list[tuple[Value, Value]]

    def run(self, channel: Any, start: list[Value], body: Body) -> list[Value]:
        """start, then body(pointer to the channels of a pixel, what it gave so far) for each pixel of the window."""
        return self._dimension(0, self.e.at(self.image, channel), start, body)

    def _dimension(self, dim: int, pointer: Value, carried: list[Value], body: Body) -> list[Value]:
        if dim == len(self.strides):
            return body(pointer, carried)
        first, end = self.bounds[dim]

        def inner(index: Any, carried: list[Value]) -> list[Value]:
            return self._dimension(dim + 1, self.e.at(pointer, self.e.mul(index, self.strides[dim])), carried, body)

        return self.e.loop(first, end, inner, carried)


@dataclass(frozen=True)
class MaxPooling(_Pool):
    """y = the largest byte of each window, or the smallest one; padding never wins.

    Attributes:
        smallest: which of them.
    """

    smallest: bool = False

    @property
    def operands(self) -> tuple[str, ...]:
        return ("x", "windows", "y")

    def spans(self) -> tuple[Span, ...]:
        return (self._input_span(), self._window_span(), Span(0, pixel_reach(self.y) + self.y.channels, self.y.image))

    def emit(self, e: Emitter, work: Work) -> None:
        choice, start = ("umin", 255) if self.smallest else ("umax", 0)

        def pixel(place: Any, offset: Value, column: Any, reduction: _Reduction) -> None:
            def vector(channel: Any, count: int) -> None:
                type = vec(I8, count)

                def chosen(pointer: Value, best: list[Value]) -> list[Value]:
                    return [e.call(f"llvm.{choice}.v{count}i8", type, [best[0], e.load(pointer, type)])]

                e.store(reduction.run(channel, [splat(type, start)], chosen)[0], e.at(work.pointers[2], offset), channel)

            each_vector(e, self.y.channels, self.isa.vector_bytes, vector)

        self._pixels(e, work, work.pointers[1], pixel)


@dataclass(frozen=True)
class MeanPooling(_Pool):
    """y = epilogue(fl(f32(Σ q − n·z)·m)), with n·z and m of each window in a table.

    Attributes:
        form: of the epilogue.
    """

    form: Form

    @property
    def operands(self) -> tuple[str, ...]:
        return ("x", "windows", "parameters", "y")

    def spans(self) -> tuple[Span, ...]:
        element = 4 if self.form.floats else 1
        y = Span(0, pixel_reach(self.y) + self.y.channels * element, self.y.image)
        return (self._input_span(), self._window_span(), Span(0, HEADER_BYTES + self.y.pixels * _MEAN_BYTES), y)

    def emit(self, e: Emitter, work: Work) -> None:
        _, windows, parameters, y = work.pointers
        epilogue, isa = Epilogue(e, self.isa, self.form, parameters), self.isa

        def pixel(place: Any, offset: Value, column: Any, reduction: _Reduction) -> None:
            row = e.add(e.mul(place[1], self.y.size[1]), place[2])
            number = e.add(e.mul(row, self.y.size[2]), column)
            mean = e.at(parameters, e.add(HEADER_BYTES, e.mul(number, _MEAN_BYTES)))
            bias, multiplier = e.broadcast(e.load(mean, I32, 0, 4), isa.sums), e.broadcast(e.load(mean, F32, 4, 4), isa.reals)

            def vector(channel: Any, count: int) -> None:
                total = reduction.run(channel, [e.b.neg(bias)], lambda at, acc: [e.b.add(acc[0], _widened(e, at, count, isa))])
                value = epilogue.scaled(total[0], multiplier)
                here = e.at(y, offset)
                if self.form.floats:
                    store_floats(e, [epilogue.floats(value)], count, here, e.mul(channel, 4))
                else:
                    store_bytes(e, epilogue.bytes([[value]])[0], count, here, channel)

            each_vector(e, self.y.channels, isa.lanes, vector)

        self._pixels(e, work, windows, pixel)


def _widened(e: Emitter, pointer: Value, count: int, isa: Isa) -> Value:
    """Bytes → i32 lanes; lanes beyond count repeat the first one."""
    loaded = e.load(pointer, vec(I8, count))
    whole = loaded if count == isa.lanes else e.shuffle(loaded, [*range(count), *[0] * (isa.lanes - count)])
    return e.b.zext(whole, isa.sums)


def plan_max_pool(op: MaxPool | AdaptiveMaxPool, x: Layout, y: Layout, isa: Isa, *, smallest: bool = False) -> Planned:
    """Maxima over the windows of the op, or minima."""
    bounds = _bounds(op.geometry.windows, x) if isinstance(op, MaxPool) else _adaptive(x, op.output_size)
    return Planned(MaxPooling(isa, _solid(x), _solid(y), smallest), (_table(bounds),))


def plan_mean_pool(op: AvgPool | AdaptiveAvgPool | Mean, x: Layout, y: Layout, isa: Isa, *, signed: bool) -> Planned:
    """Means over the windows of the op; Mean has one window."""
    if isinstance(op, AvgPool):
        bounds = _bounds(op.geometry.windows, x)
        counts = _divisors(op, x)
    else:
        bounds = _adaptive(x, op.output_size if isinstance(op, AdaptiveAvgPool) else (1,) * len(x.size))
        counts = _outer([np.array([end - first for first, end in dimension]) for dimension in bounds])
        if isinstance(op, Mean):
            counts = np.array([op.divisor(int(counts[0]))])
    elements = _outer([np.array([end - first for first, end in dimension]) for dimension in bounds])
    zero_point = op.input_zero_point + 128 * signed
    table = np.zeros(len(elements), np.dtype([("bias", np.int32), ("multiplier", np.float32)]))
    table["bias"] = elements * zero_point
    table["multiplier"] = np.float32(op.step) / counts.astype(np.float32)
    kernel = MeanPooling(isa, _solid(x), _solid(y), _mean_form(op.output, table["multiplier"], x))
    return Planned(kernel, (_table(bounds), np.concatenate([header(op.output), table.view(np.uint8)])))


def _mean_form(output: Output, multipliers: NDArray[np.float32], x: Layout) -> Form:
    largest = np.inf if output.activation else 255.0 * x.pixels * float(np.abs(multipliers).max(initial=0.0))
    return form_of(output, largest=largest)


def _bounds(windows_of: Callable[[Any], list[Windows]], x: Layout) -> list[Bounds]:
    """Of each dimension, clipped to the input."""
    return [[_clipped(along, i) for i in range(along.count)] for along in windows_of(_Shaped(x.size))]


@dataclass(frozen=True)
class _Shaped:
    """Stands for a tensor where only its shape is read."""

    shape: tuple[int, ...]


def _clipped(along: Windows, number: int) -> tuple[int, int]:
    start = number * along.step - along.border
    return max(0, start), min(along.length, start + along.taps)


def _adaptive(x: Layout, output_size: Sequence[int | None]) -> list[Bounds]:
    return [[(part.start, part.stop) for part in bins(length, count)] for length, count in zip(x.size, output_size, strict=True)]


def _divisors(op: AvgPool, x: Layout) -> NDArray[np.int64]:
    """n of each window, in row-major order."""
    windows = op.geometry.windows(_Shaped(x.size))  # type: ignore[arg-type]
    divisor = op.divisor if op.divisor is not None else WINDOW
    if divisor.override is not None:
        return np.full(prod(along.count for along in windows), divisor.override)
    return _outer([along.sizes(divisor.include_padding).numpy() for along in windows])


def _outer(sizes: list[NDArray[np.int64]]) -> NDArray[np.int64]:
    product = np.ones(1, np.int64)
    for size in sizes:
        product = np.multiply.outer(product, size).reshape(-1)
    return product


def _table(bounds: list[Bounds]) -> NDArray[np.uint8]:
    """[first, end) of all windows of three dimensions, one after the other."""
    missing: list[Bounds] = [[(0, 1)]] * (_RANK - len(bounds))
    flat = [pair for dimension in [*missing, *bounds] for pair in dimension]
    return np.array(flat, np.int64).reshape(-1).view(np.uint8)


def _solid(layout: Layout) -> Layout:
    """With three spatial dimensions, the missing ones of length 1."""
    missing = _RANK - len(layout.size)
    return replace(layout, size=(*(1,) * missing, *layout.size), strides=(*(0,) * missing, *layout.strides))

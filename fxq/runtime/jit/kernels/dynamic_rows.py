"""Rows of floats → bytes with qparams of their own values, found on the way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, nan
from typing import Any

from llvmlite import ir

from fxq.graph.qtypes import ACTIVATION
from fxq.runtime.jit.ir import F32, I8, I32, Emitter, Value, splat, vec
from fxq.runtime.jit.isa import Isa, clip_lanes
from fxq.runtime.jit.kernel import Kernel, Span, Work
from fxq.runtime.jit.rows import each_vector

F64 = ir.DoubleType()
FLOAT = 4
# of one row: its scale, f32, and its zero point, i32; or the least and the largest of its values, f32
PAIR_BYTES = 8

_LANES = 16


@dataclass(frozen=True)
class _Rows(Kernel):
    """Row by row; a row is an image.

    Attributes:
        features: of a row of x, adjacent floats.
    """

    features: int

    def units(self, images: int) -> int:
        return images

    @property
    def _x_span(self) -> Span:
        return Span(0, FLOAT * self.features, FLOAT * self.features)


@dataclass(frozen=True)
class RowRanges(_Rows):
    """ranges[row] = (min, max) of the row, both NaN where one of its values is not finite."""

    @property
    def operands(self) -> tuple[str, ...]:
        return ("x", "y")

    def spans(self) -> tuple[Span, ...]:
        return (self._x_span, Span(0, PAIR_BYTES, PAIR_BYTES))

    def emit(self, e: Emitter, work: Work) -> None:
        x, y = work.pointers

        def row(number: Value, _: Any) -> None:
            found = _range_of_row(e, e.at(x, e.mul(number, FLOAT * self.features)), self.features)
            for index, value in enumerate(found):
                e.store(value, y, e.add(e.mul(number, PAIR_BYTES), FLOAT * index))

        e.loop(work.begin, work.end, row)


@dataclass(frozen=True)
class QuantizeRows(_Rows):
    """y[row] = clip(rint(fl(x·inv)) + z) and its qparams (s, z), of the row's range or of the range of all rows.

    Attributes:
        padded: bytes from one row of y to the next.
        shared: the range is that of all rows, which `ranges` has.
    """

    padded: int
    shared: bool

    @property
    def operands(self) -> tuple[str, ...]:
        return ("x", *(("ranges",) if self.shared else ()), "qparams", "y")

    def spans(self) -> tuple[Span, ...]:
        pairs = [Span(0, PAIR_BYTES, PAIR_BYTES)] * (2 if self.shared else 1)
        return (self._x_span, *pairs, Span(0, self.features, self.padded))

    def emit(self, e: Emitter, work: Work) -> None:
        pointers = dict(zip(self.operands, work.pointers, strict=True))
        common = emit_qparams(e, *_range_of_ranges(e, pointers["ranges"], work.images)) if self.shared else None

        def row(number: Value, _: Any) -> None:
            steps = {"x": FLOAT * self.features, "y": self.padded, "qparams": PAIR_BYTES}
            quantize_row(e, self.isa, [e.at(pointers[name], e.mul(number, step)) for name, step in steps.items()], self.features, common)

        e.loop(work.begin, work.end, row)


def quantize_row(e: Emitter, isa: Isa, pointers: Sequence[Value], features: int, common: tuple[Value, Value] | None = None) -> None:
    """x f32 [features] → q u8 [features], (s, z).

    Args:
        pointers: to x, q and (s, z).
        common: qparams; None for those of the row.
    """
    x, y, qparams = pointers
    scale, zero_point = common or emit_qparams(e, *_range_of_row(e, x, features))
    e.store(scale, qparams)
    e.store(zero_point, qparams, FLOAT)
    inverse = e.b.fdiv(ir.Constant(F32, 1.0), scale)

    def part(first: Any, lanes: int) -> None:
        values = e.load(e.at(x, e.mul(first, FLOAT)), vec(F32, lanes))
        scaled = e.b.fmul(values, e.broadcast(inverse, values.type))
        shifted = e.b.add(isa.rint(e, scaled), e.broadcast(zero_point, vec(I32, lanes)))
        e.store(e.b.trunc(clip_lanes(e, shifted, ACTIVATION.qmin, ACTIVATION.qmax), vec(I8, lanes)), e.at(y, first))

    each_vector(e, features, _LANES, part)


def emit_qparams(e: Emitter, low: Value, high: Value) -> tuple[Value, Value]:
    """[low, high] → (s f32, z i32), as fxq.graph.qtypes.choose_qparams has them for 8 bits; (NaN, 0) of NaN."""
    b = e.b
    zero = ir.Constant(F32, 0.0)
    finite = b.fcmp_ordered("ord", low, high)
    low64 = b.fpext(b.select(b.fcmp_ordered("<", low, zero), low, zero), F64)
    high64 = b.fpext(b.select(b.fcmp_ordered(">", high, zero), high, zero), F64)
    step = b.fdiv(b.fsub(high64, low64), ir.Constant(F64, ACTIVATION.qmax - ACTIVATION.qmin))
    least = ir.Constant(F64, ACTIVATION.eps)
    scale = b.fptrunc(b.select(b.fcmp_ordered(">", step, least), step, least), F32)
    steps = e.call("llvm.roundeven.f64", F64, [b.fdiv(low64, b.fpext(scale, F64))])
    wanted = b.fsub(ir.Constant(F64, ACTIVATION.qmin), steps)
    most = ir.Constant(F64, ACTIVATION.qmax)
    zero_point = b.fptosi(b.select(b.fcmp_ordered("<", wanted, most), wanted, most), I32)
    return b.select(finite, scale, ir.Constant(F32, nan)), b.select(finite, zero_point, I32(0))


def _range_of_row(e: Emitter, x: Value, features: int) -> tuple[Value, Value]:
    """(min, max) of adjacent floats, both NaN where one of them is not finite."""
    lanes = min(features, _LANES)
    values = vec(F32, lanes)

    def widen(first: Value | int, carried: list[Value]) -> list[Value]:
        loaded = e.load(e.at(x, e.mul(first, FLOAT)), values)
        return _widened(e, carried, loaded, loaded)

    carried = e.loop(0, features // lanes * lanes, widen, _no_range(values), step=lanes)
    return _folded(e, widen(features - lanes, carried) if features % lanes else carried)


def _range_of_ranges(e: Emitter, ranges: Value, rows: Value) -> tuple[Value, Value]:
    """(min, max) over all rows."""
    values = vec(F32, 1)

    def widen(row: Value, carried: list[Value]) -> list[Value]:
        here = e.at(ranges, e.mul(row, PAIR_BYTES))
        return _widened(e, carried, e.load(here, values), e.load(here, values, FLOAT))

    return _folded(e, e.loop(0, rows, widen, _no_range(values)))


def _no_range(values: Value) -> list[Value]:
    """What is carried: the least, the largest, and a sum that is NaN as soon as one value is not finite."""
    return [splat(values, inf), splat(values, -inf), splat(values, 0.0)]


def _widened(e: Emitter, carried: list[Value], low: Value, high: Value) -> list[Value]:
    b = e.b
    least, most, poison = carried
    zeros = b.fmul(low, splat(low.type, 0.0))  # of ±inf and NaN: NaN
    return [
        b.select(b.fcmp_ordered("<", low, least), low, least),
        b.select(b.fcmp_ordered(">", high, most), high, most),
        b.fadd(poison, zeros),
    ]


def _folded(e: Emitter, carried: list[Value]) -> tuple[Value, Value]:
    """The lanes together."""
    lanes = carried[0].type.count
    while lanes > 1 and lanes % 2 == 0:
        lanes //= 2
        halves = [e.halves(vector) for vector in carried]
        carried = [e.b.select(e.b.fcmp_ordered(sign, *pair), *pair) for sign, pair in zip("<>", halves, strict=False)] + [
            e.b.fadd(*halves[2])
        ]
    low, high, poison = ([e.b.extract_element(vector, I32(lane)) for lane in range(lanes)] for vector in carried)
    for lane in range(1, lanes):
        low[0] = e.b.select(e.b.fcmp_ordered("<", low[lane], low[0]), low[lane], low[0])
        high[0] = e.b.select(e.b.fcmp_ordered(">", high[lane], high[0]), high[lane], high[0])
        poison[0] = e.b.fadd(poison[0], poison[lane])
    return e.b.fadd(low[0], poison[0]), e.b.fadd(high[0], poison[0])

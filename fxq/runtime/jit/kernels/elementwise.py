"""Sums, products and tables, byte by byte."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fxq.runtime.integer.binary import Add, AddFixedPoint, Mul
from fxq.runtime.integer.table import Table
from fxq.runtime.jit.epilogue import HEADER_BYTES, Epilogue, Form, form_of, header, store_bytes, store_floats
from fxq.runtime.jit.ir import I8, Emitter, Type, Value, splat, vec
from fxq.runtime.jit.isa import Isa
from fxq.runtime.jit.kernel import Kernel, Layout, Planned, Span, Work
from fxq.runtime.jit.rows import Rows, each_run, each_vector, pixel_reach, row_count

_SLOT = 64
_TOGETHER = 4  # vectors of lanes that become bytes at once


@dataclass(frozen=True)
class Binary(Kernel):
    """y = epilogue(f(a − z_a, b − z_b)); an operand of one pixel or one channel is broadcast.

    Attributes:
        a, b, y: as y is, but for lengths of 1.
        form: of the epilogue.
    """

    a: Layout
    b: Layout
    y: Layout
    form: Form

    @property
    def operands(self) -> tuple[str, ...]:
        return ("a", "b", "parameters", "y")

    def units(self, images: int) -> int:
        return images * row_count(self.y.size)

    def spans(self) -> tuple[Span, ...]:
        y = Span(0, pixel_reach(self.y) + self.y.channels * (4 if self.form.floats else 1), self.y.image)
        a, b = (Span(0, pixel_reach(layout) + layout.channels, layout.image) for layout in (self.a, self.b))
        return (a, b, Span(0, HEADER_BYTES + 4 * _SLOT), y)

    def emit(self, e: Emitter, work: Work) -> None:
        a, b, parameters, y = work.pointers
        ends = (Rows(a, self.a), Rows(b, self.b), Rows(y, self.y))
        each_run(e, work, ends, lambda pixel, count: self._channels(e, pixel, count, parameters), joined=not self.form.floats)

    def _channels(self, e: Emitter, pixel: list[Value], count: int, parameters: Value) -> None:
        """A run of adjacent bytes: wide pieces, then narrow ones."""
        lanes = self.isa.lanes
        wide = 0 if self.form.floats else count // (_TOGETHER * lanes) * _TOGETHER * lanes
        e.loop(0, wide, lambda first, _: self._piece(e, pixel, first, _TOGETHER * lanes, parameters), step=_TOGETHER * lanes)
        each_vector(e, count - wide, lanes, lambda first, n: self._piece(e, pixel, e.add(first, wide), n, parameters))

    def _piece(self, e: Emitter, pixel: list[Value], first: Any, count: int, parameters: Value) -> None:
        lanes = self.isa.lanes
        epilogue = Epilogue(e, self.isa, self.form, parameters)
        vectors = -(-count // lanes)
        a, b = (self._loaded(e, pointer, layout, first, count) for pointer, layout in ((pixel[0], self.a), (pixel[1], self.b)))
        values = []
        for j in range(vectors):
            part = range(j * lanes, (j + 1) * lanes)
            wide = [e.b.zext(v if v.type.count == lanes else e.shuffle(v, part), self.isa.sums) for v in (a, b)]
            values.append(self._combined(e, wide, parameters))
        y = e.at(pixel[2], e.mul(first, 4 if self.form.floats else 1))
        if self.form.floats:
            store_floats(e, [epilogue.floats(v) for v in values], count, y, 0)
            return
        for j, packed in enumerate(self._packed(epilogue, values)):
            store_bytes(e, packed, min(lanes, count - j * lanes), y, j * lanes)

    def _packed(self, epilogue: Epilogue, values: list[Value]) -> list[Value]:
        return epilogue.bytes([[value] for value in values])

    def _loaded(self, e: Emitter, pointer: Value, layout: Layout, first: Any, count: int) -> Value:
        lanes = -(-count // self.isa.lanes) * self.isa.lanes
        if layout.channels == 1 and self.y.channels != 1:
            return e.broadcast(e.load(pointer, I8), vec(I8, lanes))
        loaded = e.load(e.at(pointer, first), vec(I8, count))
        return loaded if count == lanes else e.shuffle(loaded, [*range(count), *[0] * (lanes - count)])

    def _combined(self, e: Emitter, operands: list[Value], parameters: Value) -> Value:
        """f of the stored bytes, in i32 lanes."""
        raise NotImplementedError

    def _slot(self, e: Emitter, parameters: Value, number: int, type: Type) -> Value:
        return e.load(parameters, type, HEADER_BYTES + number * _SLOT, 4)

    def _centered(self, e: Emitter, operands: list[Value], parameters: Value) -> list[Value]:
        return [e.b.sub(q, self._slot(e, parameters, n, self.isa.sums)) for n, q in enumerate(operands)]


@dataclass(frozen=True)
class Sum(Binary):
    """v = fl(fl(f32(a − z_a)·r_a) + fl(f32(b − z_b)·r_b))"""

    def _combined(self, e: Emitter, operands: list[Value], parameters: Value) -> Value:
        reals = self.isa.reals
        scaled = [
            e.b.fmul(e.b.sitofp(q, reals), self._slot(e, parameters, 2 + n, reals))
            for n, q in enumerate(self._centered(e, operands, parameters))
        ]
        return e.b.fadd(*scaled)


@dataclass(frozen=True)
class Product(Binary):
    """v = fl(f32((a − z_a)(b − z_b))·m)"""

    def _combined(self, e: Emitter, operands: list[Value], parameters: Value) -> Value:
        product = e.b.mul(*self._centered(e, operands, parameters))
        return e.b.fmul(e.b.sitofp(product, self.isa.reals), self._slot(e, parameters, 2, self.isa.reals))


@dataclass(frozen=True)
class FixedPointSum(Binary):
    """y = clip(round((a − z_a)·m_a + (b − z_b)·m_b >> shift) + z_y), half away from zero.

    Attributes:
        shift: a constant of the code.
    """

    shift: int

    def _combined(self, e: Emitter, operands: list[Value], parameters: Value) -> Value:
        sums = self.isa.sums
        scaled = [e.b.mul(q, self._slot(e, parameters, 2 + n, sums)) for n, q in enumerate(self._centered(e, operands, parameters))]
        acc = e.b.add(*scaled)
        acc = e.b.add(acc, e.b.ashr(acc, splat(sums, 31)))  # one less below zero: then half is added
        halved = e.b.ashr(acc, splat(sums, self.shift - 1))
        return e.b.ashr(e.b.add(halved, splat(sums, 1)), splat(sums, 1))

    def _packed(self, epilogue: Epilogue, values: list[Value]) -> list[Value]:
        return epilogue.integers([[value] for value in values])


def plan_binary(op: Add | AddFixedPoint | Mul, layouts: Sequence[Layout], isa: Isa, *, signed: tuple[bool, ...]) -> Planned:
    """a and b into y."""
    a, b, y = layouts
    family: type[Binary]
    if isinstance(op, AddFixedPoint):
        return _plan_fixed_point(op, layouts, isa, signed=signed)
    if isinstance(op, Mul):
        zero_points: tuple[int, int] = (op.a_zero_point, op.b_zero_point)
        slots, largest, family = [np.full(16, op.multiplier, np.float32)] * 2, 255.0**2 * abs(op.multiplier), Product
    else:
        zero_points = (op.a.zero_point, op.b.zero_point)
        slots = [np.full(16, side.ratio, np.float32) for side in (op.a, op.b)]
        largest, family = 255.0 * (abs(op.a.ratio) + abs(op.b.ratio)), Sum
    form = form_of(op.output, largest=np.inf if op.output.activation else largest)
    centers = [np.full(16, z + 128 * is_signed, np.int32) for z, is_signed in zip(zero_points, signed, strict=True)]
    return Planned(family(isa, a, b, y, form), (_parameters(op, [*centers, *slots]),))


def _plan_fixed_point(op: AddFixedPoint, layouts: Sequence[Layout], isa: Isa, *, signed: tuple[bool, ...]) -> Planned:
    centers = [np.full(16, side.zero_point + 128 * is_signed, np.int32) for side, is_signed in zip((op.a, op.b), signed, strict=True)]
    multipliers = [np.full(16, side.multiplier, np.int32) for side in (op.a, op.b)]
    a, b, y = layouts
    kernel = FixedPointSum(isa, a, b, y, form_of(op.output, largest=0.0), op.shift)
    return Planned(kernel, (_parameters(op, [*centers, *multipliers]),))


def _parameters(op: Any, slots: list[Any]) -> Any:
    return np.concatenate([header(op.output), *(slot.view(np.uint8) for slot in slots)])


@dataclass(frozen=True)
class _Bytewise(Kernel):
    """y = f(q), byte by byte."""

    x: Layout
    y: Layout

    def units(self, images: int) -> int:
        return images * row_count(self.y.size)

    def _spans(self, constants: int) -> tuple[Span, ...]:
        x, y = (Span(0, pixel_reach(layout) + layout.channels, layout.image) for layout in (self.x, self.y))
        return (x, Span(0, constants), y)

    def emit(self, e: Emitter, work: Work) -> None:
        x, constants, y = work.pointers

        def run(ends: list[Value], count: int) -> None:
            def mapped(first: Any, n: int) -> None:
                e.store(self._mapped(e, constants, e.load(e.at(ends[0], first), vec(I8, n))), ends[1], first)

            each_vector(e, count, self.isa.vector_bytes, mapped)

        each_run(e, work, (Rows(x, self.x), Rows(y, self.y)), run)

    def _mapped(self, e: Emitter, constants: Value, q: Value) -> Value:
        """f of a vector of stored bytes."""
        raise NotImplementedError


@dataclass(frozen=True)
class Lookup(_Bytewise):
    """y = T[q], 256 entries."""

    @property
    def operands(self) -> tuple[str, ...]:
        return ("x", "table", "y")

    def spans(self) -> tuple[Span, ...]:
        return self._spans(256)

    def _mapped(self, e: Emitter, constants: Value, q: Value) -> Value:
        return self.isa.lookup(e, constants, q)


@dataclass(frozen=True)
class Clip(_Bytewise):
    """y = min(max(q, low), high)"""

    @property
    def operands(self) -> tuple[str, ...]:
        return ("x", "bounds", "y")

    def spans(self) -> tuple[Span, ...]:
        return self._spans(2)

    def _mapped(self, e: Emitter, constants: Value, q: Value) -> Value:
        low, high = (e.broadcast(e.load(constants, I8, place), q.type) for place in range(2))
        raised = e.call(f"llvm.umax.v{q.type.count}i8", q.type, [q, low])
        return e.call(f"llvm.umin.v{q.type.count}i8", q.type, [raised, high])


def plan_clip(bounds: tuple[int, int], x: Layout, y: Layout, isa: Isa) -> Planned:
    """Args: bounds: as programs store them."""
    return Planned(Clip(isa, x, y), (np.array(bounds, np.uint8),))


def plan_table(op: Table, x: Layout, y: Layout, isa: Isa) -> Planned:
    """A table indexed by what programs store: for int8 that is q + 128, as the op has it; int8 entries are stored as q + 128."""
    entries = op.table.numpy()
    stored = (entries.astype(np.int16) + 128).astype(np.uint8) if entries.dtype == np.int8 else entries
    return Planned(Lookup(isa, x, y), (np.ascontiguousarray(stored),))

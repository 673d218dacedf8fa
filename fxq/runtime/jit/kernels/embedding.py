"""Rows of a table in few bits, looked up by number, and what bags of them come to: bound by memory, so few bytes are fast."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import gcd, inf
from typing import Any, Literal

from fxq.runtime.jit.epilogue import store_floats
from fxq.runtime.jit.ir import F32, I8, I16, I64, Emitter, Value, splat, vec
from fxq.runtime.jit.isa import Isa
from fxq.runtime.jit.kernel import Kernel, Span, Work
from fxq.runtime.jit.kernels.dynamic_rows import FLOAT

INDEX = 8
# vectors of a row that are summed at once; rows that are asked for ahead of their turn, and at most that many lines of each
_VECTORS, _AHEAD, _LINES = 8, 12, 8
_LINE = 64


@dataclass(frozen=True)
class Table:
    """How rows are stored: weights, and a scale for each group of them, and perhaps a zero.

    Attributes:
        features: of a row.
        bits: of a weight, 4 or 8 of integers; 16 of float16, which has no scales.
        group: features that share a scale, a multiple of 8; or all of them.
        shifted: there are zeros.
    """

    features: int
    bits: int
    group: int
    shifted: bool

    @property
    def constants(self) -> tuple[str, ...]:
        """Operands: each is behind a pointer of the caller's."""
        return ("weight", *(("scale",) if self.bits < 16 else ()), *(("zero",) if self.shifted else ()))

    def row_bytes(self, name: str) -> int:
        """Of a constant."""
        return -(-self.features * self.bits // 8) if name == "weight" else FLOAT * -(-self.features // self.group)


@dataclass(frozen=True)
class _Part:
    """Adjacent features of one group.

    Attributes:
        group: its number.
        first: feature, a multiple of 8.
        counts: of the features in each of some vectors.
    """

    group: Any
    first: Any
    counts: tuple[int, ...]


@dataclass(frozen=True)
class _Rows:
    """Writes what reads rows of a table."""

    e: Emitter
    isa: Isa
    table: Table
    pointers: dict[str, Value]

    def each_part(self, body: Callable[[_Part], None]) -> None:
        """All features of a row."""
        e, size = self.e, self.table.group
        lanes = gcd(size, self.isa.lanes) if size < self.table.features else self.isa.lanes
        width = _VECTORS * lanes

        def group(number: Any, count: int) -> None:
            first, whole = e.mul(number, size), count // width * width
            e.loop(0, whole, lambda start, _: body(_Part(number, e.add(first, start), (lanes,) * _VECTORS)), step=width)
            rest = count - whole
            if rest:
                counts = (lanes,) * (rest // lanes) + ((rest % lanes,) if rest % lanes else ())
                body(_Part(number, e.add(first, whole), counts))

        groups, rest = divmod(self.table.features, size)
        e.loop(0, groups, lambda number, _: group(number, size))
        if rest:
            group(groups, rest)

    def read(self, index: Value, part: _Part) -> list[Value]:
        """fl(fl(q − z)·s) of a row, in whole vectors; what is behind the count of a vector is nothing."""
        e, isa, table = self.e, self.isa, self.table
        rows = {name: e.at(self.pointers[name], e.mul(index, table.row_bytes(name))) for name in table.constants}
        start = e.at(rows.pop("weight"), e.divide(e.mul(part.first, table.bits), 8))
        scale, zero = (self._of_group(rows.get(name), part) for name in ("scale", "zero"))
        values, done = [], 0
        for count in part.counts:
            value = _READ[table.bits](e, isa, e.at(start, done * table.bits // 8), count)
            value = value if zero is None else e.b.fsub(value, zero)
            values.append(value if scale is None else e.b.fmul(value, scale))
            done += count
        return values

    def _of_group(self, row: Value | None, part: _Part) -> Value | None:
        e = self.e
        return None if row is None else e.broadcast(e.load(row, F32, e.mul(part.group, FLOAT)), self.isa.reals)

    def ask_for(self, index: Value) -> None:
        """A row will be read soon."""
        for name in self.table.constants:
            size = self.table.row_bytes(name)
            here = self.e.at(self.pointers[name], self.e.mul(index, size))
            for line in range(0, min(size, _LINES * _LINE), _LINE):
                self.e.prefetch(self.e.at(here, line))

    def index(self, position: Value) -> Value:
        """Number of the row at a position of the list."""
        return self.e.load(self.pointers["indices"], I64, self.e.mul(position, INDEX))


def _padded(e: Emitter, values: Value, lanes: int) -> Value:
    count = values.type.count
    return values if count == lanes else e.shuffle(values, [min(lane, count - 1) for lane in range(lanes)])


def _nibbles(e: Emitter, isa: Isa, place: Value, count: int) -> Value:
    """Of two features the first is in the low half of a byte."""
    stored = e.load(place, vec(I8, -(-count // 2)))
    words = e.b.zext(e.shuffle(stored, [min(lane // 2, stored.type.count - 1) for lane in range(isa.lanes)]), isa.sums)
    raised = e.b.shl(words, isa.sums([28 - 4 * (lane % 2) for lane in range(isa.lanes)]))
    return e.b.sitofp(e.b.ashr(raised, splat(isa.sums, 28)), isa.reals)


def _bytes(e: Emitter, isa: Isa, place: Value, count: int) -> Value:
    return e.b.sitofp(e.b.sext(_padded(e, e.load(place, vec(I8, count)), isa.lanes), isa.sums), isa.reals)


def _halves(e: Emitter, isa: Isa, place: Value, count: int) -> Value:
    return isa.from_half(e, _padded(e, e.load(place, vec(I16, count)), isa.lanes))


# bits of a weight → what makes a vector of floats of some of them
_READ: dict[int, Callable[[Emitter, Isa, Value, int], Value]] = {4: _nibbles, 8: _bytes, 16: _halves}


@dataclass(frozen=True)
class LookUpRows(Kernel):
    """y[i] = w'[indices[i]]; the caller answers for the indices. An index is an image and a unit."""

    table: Table

    @property
    def operands(self) -> tuple[str, ...]:
        return ("indices", *self.table.constants, "y")

    def units(self, images: int) -> int:
        return images

    def spans(self) -> tuple[Span | None, ...]:
        width = FLOAT * self.table.features
        return (Span(0, INDEX, INDEX), *[None] * len(self.table.constants), Span(0, width, width))

    def emit(self, e: Emitter, work: Work) -> None:
        pointers = dict(zip(self.operands, work.pointers, strict=True))
        rows = _Rows(e, self.isa, self.table, pointers)

        def row(position: Value, _: Any) -> None:
            rows.ask_for(rows.index(e.minimum(e.add(position, _AHEAD), e.sub(work.end, 1))))
            index, y = rows.index(position), e.at(pointers["y"], e.mul(position, FLOAT * self.table.features))
            rows.each_part(lambda part: _store(e, rows.read(index, part), part, y))

        e.loop(work.begin, work.end, row)


def _store(e: Emitter, values: Sequence[Value], part: _Part, y: Value) -> None:
    done = 0
    for value, count in zip(values, part.counts, strict=True):
        store_floats(e, [value], count, y, e.mul(e.add(part.first, done), FLOAT))
        done += count


@dataclass(frozen=True)
class SumRows(Kernel):
    """y[bag] = Σ w'[index], the mean, or the maximum, of the indices from offsets[bag] to offsets[bag + 1]; 0 of none.

    Sums go in the order of the indices. A bag is an image and a unit; the caller answers for indices and offsets.

    Attributes:
        mode: what is made of the rows.
        weighted: a sum of rows times `factors`, one for each index.
    """

    table: Table
    mode: Literal["sum", "mean", "max"]
    weighted: bool

    @property
    def operands(self) -> tuple[str, ...]:
        return ("indices", "offsets", *(("factors",) if self.weighted else ()), *self.table.constants, "y")

    def units(self, images: int) -> int:
        return images

    def spans(self) -> tuple[Span | None, ...]:
        width = FLOAT * self.table.features
        return (*[None] * (len(self.operands) - 1), Span(0, width, width))

    def emit(self, e: Emitter, work: Work) -> None:
        pointers = dict(zip(self.operands, work.pointers, strict=True))
        rows = _Rows(e, self.isa, self.table, pointers)

        def bag(number: Value, _: Any) -> None:
            begin, end = (e.load(pointers["offsets"], I64, e.mul(e.add(number, n), INDEX)) for n in (0, 1))
            y = e.at(pointers["y"], e.mul(number, FLOAT * self.table.features))
            rows.each_part(lambda part: _store(e, self._sum(rows, begin, end, part), part, y))

        e.loop(work.begin, work.end, bag)

    def _sum(self, rows: _Rows, begin: Value, end: Value, part: _Part) -> list[Value]:
        e, reals = rows.e, self.isa.reals
        last = e.sub(end, 1)

        def add(position: Value, sums: list[Value]) -> list[Value]:
            rows.ask_for(rows.index(e.minimum(e.add(position, _AHEAD), last)))
            values = rows.read(rows.index(position), part)
            if self.mode == "max":
                return [e.b.select(e.b.fcmp_ordered(">", value, most), value, most) for value, most in zip(values, sums, strict=True)]
            if not self.weighted:
                return [e.b.fadd(total, value) for value, total in zip(values, sums, strict=True)]
            factor = e.broadcast(e.load(rows.pointers["factors"], F32, e.mul(position, FLOAT)), reals)
            return [self.isa.multiply_add(e, factor, value, total) for value, total in zip(values, sums, strict=True)]

        start = splat(reals, -inf if self.mode == "max" else 0.0)
        sums = e.loop(begin, end, add, [start] * len(part.counts))
        if self.mode == "sum":
            return sums
        empty = e.b.icmp_signed("==", begin, end)
        count = e.broadcast(e.b.sitofp(e.sub(end, begin), F32), reals)
        found = [e.b.fdiv(total, count) for total in sums] if self.mode == "mean" else sums
        return [e.b.select(empty, splat(reals, 0.0), value) for value in found]

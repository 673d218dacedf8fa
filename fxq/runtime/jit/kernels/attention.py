"""softmax(q·kᵀ·scale + mask)·v in float32, for a few queries at a time, over blocks of keys: no matrix of all scores exists."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, Literal

from llvmlite import ir

from fxq.runtime.jit.epilogue import store_floats
from fxq.runtime.jit.ir import F32, I8, I32, Emitter, Value, i64, splat, vec
from fxq.runtime.jit.kernel import Kernel, Span, Work
from fxq.runtime.jit.kernels.keys import FLOAT, GEOMETRY_BYTES, KEYS, PARTS, QUERIES, SCALE, ReadGeometry, Unit, load_floats

# keys whose scores are computed before their values are read
BLOCK = 256
# 2^f for |f| ≤ 1/2, within 2e-9: minimax
_POWER = (1.534581158e-4, 1.339993122e-3, 9.618488959e-3, 5.550328777e-2, 0.2402264689, 0.6931472057, 1.0)
# 2 to this and what is below is 0
_LOWEST = -127.0
# features that one turn of the loop over them multiplies
_UNROLLED = 4

Masked = Literal["", "bool", "float"]
_MASK_TYPES = {"bool": I8, "float": F32}
_MASK_BYTES = {"bool": 1, "float": FLOAT}
Vectors = list[Value]


@dataclass(frozen=True)
class Heads:
    """What the code of attention depends on.

    Attributes:
        heads: of an image.
        group: how many of them share one head of keys and values.
        features: of a query and a key.
        outputs: features of a value.
        mask: what is beside the scores: nothing, bytes that are 0 where one does not count, or floats to add.
        is_causal: scores of keys with a higher number than the query do not count.
    """

    heads: int
    group: int
    features: int
    outputs: int
    mask: Masked
    is_causal: bool

    def macs(self, queries: int, keys: int) -> int:
        """Multiplications of one image, those that a causal mask spares included."""
        return self.heads * queries * keys * (self.features + self.outputs)


@dataclass(frozen=True)
class Attention(Kernel):
    """y = softmax(x·keysᵀ·scale + mask)·values; 0 where all scores of a query are −∞. Keys are packed (PackKeys)."""

    shape: Heads

    @property
    def operands(self) -> tuple[str, ...]:
        return ("geometry", "x", "keys", "values", *(("mask",) if self.shape.mask else ()), "y")

    def units(self, images: int) -> int:
        return images * self.shape.heads * PARTS

    def spans(self) -> tuple[Span | None, ...]:
        """The geometry says where the tensors lie, and how long they are."""
        return (Span(0, GEOMETRY_BYTES), *(None,) * (len(self.operands) - 1))

    @property
    def padded(self) -> int:
        """Features of a value, in whole vectors."""
        return -(-self.shape.outputs // self.isa.lanes) * self.isa.lanes

    @property
    def block_bytes(self) -> int:
        """Of packed keys, as many as a vector has lanes."""
        return self.shape.features * self.isa.vector_bytes

    @property
    def tile(self) -> tuple[int, int]:
        """Rows and vectors of accumulators; vectors of the one factor and a broadcast of the other need registers, too."""
        return (6, 4) if self.isa.registers >= 32 else (6, 2)

    def emit(self, e: Emitter, work: Work) -> None:
        _Units(self, e, work).emit()


@dataclass(frozen=True)
class _Units:
    """Writes the loops over units and their queries."""

    k: Attention
    e: Emitter
    work: Work

    def emit(self) -> None:
        e, shape, rows = self.e, self.k.shape, self.k.tile[0]
        pointers = dict(zip(self.k.operands, self.work.pointers, strict=True))
        geometry = ReadGeometry(e, pointers["geometry"])
        scratch = [e.scratch(rows * FLOAT * count) for count in (BLOCK, self.k.padded)]

        def unit(number: Value, _: Any) -> None:
            place = Unit.of(e, number, shape.heads)
            first, last = place.range(e, geometry.word(QUERIES), rows)
            head = self._head(geometry, pointers, place)
            are_several = e.b.icmp_signed(">=", e.sub(last, first), i64(rows))
            for count, begin in ((rows, e.select(are_several, first, last)), (1, e.select(are_several, last, first))):
                group = _Rows(self.k, e, head, (scratch[0], scratch[1]), count)
                e.loop(begin, last, partial(self._rows, group, last), step=count)

        e.loop(self.work.begin, self.work.end, unit)

    def _rows(self, group: _Rows, last: Value, start: Value, _: Any) -> None:
        """The last ones again where there are not as many left."""
        group.emit(self.e.minimum(start, self.e.sub(last, group.count)))

    def _head(self, geometry: ReadGeometry, pointers: dict[str, Value], place: Unit) -> _Head:
        e, shape = self.e, self.k.shape
        shared = e.divide(place.head, shape.group)
        head_of = {"x": place.head, "values": shared, "mask": place.head, "y": place.head}
        matrices = {name: geometry.matrix(name, pointers[name], place.image, head) for name, head in head_of.items() if name in pointers}
        blocks = e.divide(e.add(geometry.word(KEYS), self.k.isa.lanes - 1), self.k.isa.lanes)
        number = e.add(e.mul(place.image, shape.heads // shape.group), shared)
        packed = e.at(pointers["keys"], e.mul(e.mul(number, blocks), self.k.block_bytes))
        return _Head(geometry, packed, matrices)


@dataclass(frozen=True)
class _Head:
    """One head of one image.

    Attributes:
        keys: packed.
        matrices: where the first rows of "x", "values", "mask" and "y" are.
    """

    geometry: ReadGeometry
    keys: Value
    matrices: Mapping[str, Value]

    def row(self, name: str, number: Value) -> Value:
        """Where a row of a matrix begins."""
        e = self.geometry.e
        return e.at(self.matrices[name], e.mul(number, self.geometry.step(name, 2)))


@dataclass(frozen=True)
class _Block:
    """Some keys, and the queries that meet them.

    Attributes:
        start: number of the first query.
        first: number of the first key.
        count: of the keys, at most BLOCK.
        vectors: that hold their scores.
    """

    start: Value
    first: Value
    count: Value
    vectors: Value


@dataclass(frozen=True)
class _Rows:
    """Writes what is done for `count` queries of a head.

    Attributes:
        scratch: scores, BLOCK of each query, which become weights; sums of values so far, in whole vectors.
    """

    k: Attention
    e: Emitter
    head: _Head
    scratch: tuple[Value, Value]
    count: int

    def emit(self, start: Value) -> None:
        """All blocks of keys that count for the queries from `start` on."""
        e, k, lanes = self.e, self.k, self.k.isa.lanes
        keys = self.head.geometry.word(KEYS)
        limit = e.minimum(keys, e.add(start, self.count)) if k.shape.is_causal else keys
        for offset in range(0, self.count * k.padded * FLOAT, k.isa.vector_bytes):
            e.store(splat(k.isa.reals, 0.0), self.scratch[1], offset)

        def body(first: Value, carried: Vectors) -> Vectors:
            number = e.minimum(e.sub(limit, first), BLOCK)
            vectors = e.divide(e.add(number, lanes - 1), lanes)
            return self._block(_Block(start, first, number, vectors), carried[: self.count], carried[self.count :])

        begin = [splat(k.isa.reals, value) for value in (-math.inf, 0.0) for _ in range(self.count)]
        carried = e.loop(0, limit, body, begin, step=BLOCK)
        self._finish(start, carried[self.count :])

    def _block(self, block: _Block, largest: Vectors, totals: Vectors) -> Vectors:
        """Largest scores and sums of weights, with those of these keys; the sums of values are in the scratch."""
        e = self.e
        whole = e.sub(block.vectors, e.remainder(block.vectors, self.k.tile[1]))
        e.loop(0, whole, lambda place, _: self._scores(block, place, self.k.tile[1]), step=self.k.tile[1])
        e.loop(whole, block.vectors, lambda place, _: self._scores(block, place, 1))
        if self.k.shape.mask:
            self._mask(block)
        larger = self._largest(block, largest)
        # where all are −∞ so far, their distance to the largest is −∞, too
        finite = [self._select("==", each, -math.inf, splat(self.k.isa.reals, 0.0), each) for each in larger]
        fading = [self._exp(e.b.fsub(before, now)) for before, now in zip(largest, finite, strict=True)]
        totals = self._weights(block, finite, [e.b.fmul(total, fade) for total, fade in zip(totals, fading, strict=True)])
        self._mix(block, fading)
        return [*larger, *totals]

    # ---- scores

    def _scores(self, block: _Block, place: Value, vectors: int) -> None:
        """Of all queries and `vectors` vectors of keys: q·k·scale, −∞ for what is behind the last key that counts."""
        e, k, size = self.e, self.k, self.k.isa.vector_bytes
        rows = [self.head.row("x", e.add(block.start, row)) for row in range(self.count)]
        number = e.add(e.divide(block.first, k.isa.lanes), place)
        keys = e.at(self.head.keys, e.mul(number, k.block_bytes))

        def feature(acc: Vectors, index: Any) -> Vectors:
            loaded = [e.load(keys, k.isa.reals, e.add(e.mul(index, size), each * k.block_bytes), size) for each in range(vectors)]
            factors = [e.broadcast(e.load(row, F32, e.mul(index, FLOAT), FLOAT), k.isa.reals) for row in rows]
            return self._plus_products(acc, factors, loaded)

        def several(index: Any, acc: Vectors) -> Vectors:
            for more in range(_UNROLLED):
                acc = feature(acc, e.add(index, more))
            return acc

        whole = k.shape.features // _UNROLLED * _UNROLLED
        acc = e.loop(0, whole, several, [splat(k.isa.reals, 0.0)] * (self.count * vectors), step=_UNROLLED)
        for index in range(whole, k.shape.features):
            acc = feature(acc, index)
        self._store_scores(block, place, acc)

    def _store_scores(self, block: _Block, place: Value, acc: Vectors) -> None:
        e, k, lanes = self.e, self.k, self.k.isa.lanes
        scale = e.broadcast(self.head.geometry.word(SCALE, F32), k.isa.reals)
        numbers = e.b.add(self._broadcast_number(e.add(block.first, e.mul(place, lanes))), _counting(k.isa.sums))
        vectors = len(acc) // self.count
        for row in range(self.count):
            limit = self._broadcast_number(self._limit(block, row))
            for each in range(vectors):
                here = e.b.add(numbers, splat(k.isa.sums, each * lanes)) if each else numbers
                counts = e.b.icmp_signed("<", here, limit)
                score = e.b.select(counts, e.b.fmul(acc[row * vectors + each], scale), splat(k.isa.reals, -math.inf))
                e.store(score, self._score(row), e.add(e.mul(place, k.isa.vector_bytes), each * k.isa.vector_bytes), k.isa.vector_bytes)

    def _limit(self, block: _Block, row: int) -> Value:
        """How many keys count for a query."""
        e, keys = self.e, self.head.geometry.word(KEYS)
        return e.minimum(keys, e.add(e.add(block.start, row), 1)) if self.k.shape.is_causal else keys

    def _mask(self, block: _Block) -> None:
        """Adds to the scores, or takes them away: whole vectors, then the rest one by one."""
        e, lanes = self.e, self.k.isa.lanes
        whole = e.sub(block.count, e.remainder(block.count, lanes))

        def row(number: Value, _: Any) -> None:
            score = e.at(self.scratch[0], e.mul(number, BLOCK * FLOAT))
            mask = e.at(self.head.row("mask", e.add(block.start, number)), e.mul(block.first, _MASK_BYTES[self.k.shape.mask]))
            e.loop(0, whole, lambda index, _: self._mask_some(score, mask, index, lanes), step=lanes)
            e.loop(whole, block.count, lambda index, _: self._mask_some(score, mask, index, 1))

        e.loop(0, self.count, row)

    def _mask_some(self, score: Value, mask: Value, index: Any, count: int) -> None:
        e, kind, type = self.e, self.k.shape.mask, vec(F32, count)
        place = e.at(score, e.mul(index, FLOAT))
        value, given = e.load(place, type), e.load(mask, vec(_MASK_TYPES[kind], count), e.mul(index, _MASK_BYTES[kind]))
        if kind == "float":
            e.store(e.b.fadd(value, given), place)
        else:
            counts = e.b.icmp_unsigned("!=", given, splat(given.type, 0))
            e.store(e.b.select(counts, value, splat(type, -math.inf)), place)

    # ---- weights

    def _largest(self, block: _Block, largest: Vectors) -> Vectors:
        """In every lane."""
        e, size = self.e, self.k.isa.vector_bytes

        def compare(place: Value, carried: Vectors) -> Vectors:
            return [self._larger(e.load(self._score(row), each.type, e.mul(place, size), size), each) for row, each in enumerate(carried)]

        return [self._everywhere(each, self._larger) for each in e.loop(0, block.vectors, compare, largest)]

    def _weights(self, block: _Block, largest: Vectors, totals: Vectors) -> Vectors:
        """exp(score − largest) in the place of each score; lane by lane, the totals with these."""
        e, size = self.e, self.k.isa.vector_bytes

        def weigh(place: Value, carried: Vectors) -> Vectors:
            found = []
            for row, total in enumerate(carried):
                score = e.load(self._score(row), total.type, e.mul(place, size), size)
                weight = self._exp(e.b.fsub(score, largest[row]))
                e.store(weight, self._score(row), e.mul(place, size), size)
                found.append(e.b.fadd(total, weight))
            return found

        return e.loop(0, block.vectors, weigh, totals)

    def _exp(self, x: Value) -> Value:
        """e^x of x ≤ 0, and exactly 0 of −∞: 2^(n + f) = 2^n·P(f)."""
        e, b, isa = self.e, self.e.b, self.k.isa
        exponent = self._larger(splat(isa.reals, _LOWEST), b.fmul(x, splat(isa.reals, math.log2(math.e))))
        integer = isa.rint(e, exponent)
        fraction = b.fsub(exponent, b.sitofp(integer, isa.reals))
        value = splat(isa.reals, _POWER[0])
        for coefficient in _POWER[1:]:
            value = isa.multiply_add(e, value, fraction, splat(isa.reals, coefficient))
        power = b.shl(b.add(integer, splat(isa.sums, 127)), splat(isa.sums, 23))
        return b.fmul(value, b.bitcast(power, isa.reals))

    # ---- values

    def _mix(self, block: _Block, fading: Vectors) -> None:
        """sums = sums·fading + weights·values, as many vectors of features at once as there are registers for."""
        lanes, wide = self.k.isa.lanes, self.k.tile[1]
        for start in range(0, self.k.shape.outputs, lanes * wide):
            widths = [min(lanes, self.k.shape.outputs - at) for at in range(start, self.k.shape.outputs, lanes)][:wide]
            self._mix_columns(block, fading, start, widths)

    def _mix_columns(self, block: _Block, fading: Vectors, start: int, widths: Sequence[int]) -> None:
        e, k, size = self.e, self.k, self.k.isa.vector_bytes
        columns = e.at(self.head.row("values", block.first), start * FLOAT)
        step = self.head.geometry.step("values", 2)
        places = [(row, (row * k.padded + start) * FLOAT + size * each) for row in range(self.count) for each in range(len(widths))]

        def key(number: Value, acc: Vectors) -> Vectors:
            here = e.at(columns, e.mul(number, step))
            loaded = [load_floats(e, here, each * size, width, k.isa.lanes) for each, width in enumerate(widths)]
            factors = [e.broadcast(e.load(self._score(row), F32, e.mul(number, FLOAT), FLOAT), k.isa.reals) for row in range(self.count)]
            return self._plus_products(acc, factors, loaded)

        begin = [e.b.fmul(e.load(self.scratch[1], k.isa.reals, offset, size), fading[row]) for row, offset in places]
        for (_, offset), value in zip(places, e.loop(0, block.count, key, begin), strict=True):
            e.store(value, self.scratch[1], offset, size)

    def _finish(self, start: Value, totals: Vectors) -> None:
        """y = sums / total"""
        e, k, size = self.e, self.k, self.k.isa.vector_bytes
        one = splat(k.isa.reals, 1.0)
        for row, lanes in enumerate(totals):
            total = self._everywhere(lanes, e.b.fadd)
            factor = self._select("==", total, 0.0, splat(k.isa.reals, 0.0), e.b.fdiv(one, total))
            sums = [e.load(self.scratch[1], k.isa.reals, row * k.padded * FLOAT + at, size) for at in range(0, k.padded * FLOAT, size)]
            values = [e.b.fmul(each, factor) for each in sums]
            store_floats(e, values, k.shape.outputs, self.head.row("y", e.add(start, row)), 0)

    # ---- vectors

    def _plus_products(self, acc: Vectors, factors: Vectors, vectors: Vectors) -> Vectors:
        pairs = [(factor, vector) for factor in factors for vector in vectors]
        return [self.k.isa.multiply_add(self.e, *pair, value) for pair, value in zip(pairs, acc, strict=True)]

    def _score(self, row: int) -> Value:
        return self.e.at(self.scratch[0], row * BLOCK * FLOAT)

    def _broadcast_number(self, number: Any) -> Value:
        return self.e.broadcast(self.e.b.trunc(number, I32), self.k.isa.sums)

    def _larger(self, a: Value, b: Value) -> Value:
        """b where one of them is NaN."""
        return self.e.b.select(self.e.b.fcmp_ordered(">", a, b), a, b)

    def _select(self, comparison: str, value: Value, number: float, a: Value, b: Value) -> Value:
        return self.e.b.select(self.e.b.fcmp_ordered(comparison, value, splat(value.type, number)), a, b)

    def _everywhere(self, value: Value, join: Callable[[Value, Value], Value]) -> Value:
        """All lanes joined, in every lane."""
        distance = value.type.count // 2
        while distance:
            value = join(value, self.e.shuffle(value, [lane ^ distance for lane in range(value.type.count)]))
            distance //= 2
        return value


@cache
def _counting(type: Any) -> Value:
    """0, 1, 2, ..."""
    return ir.Constant(type, list(range(type.count)))

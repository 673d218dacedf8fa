"""Keys of attention in the order in which its scores read them: vectors of one feature of several keys."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fxq.runtime.jit.interleave import transposed
from fxq.runtime.jit.ir import F32, I64, Emitter, Value, vec
from fxq.runtime.jit.isa import Isa
from fxq.runtime.jit.kernel import Kernel, Span, Work

FLOAT = 4
# into how many units each head is cut, so that threads can share out a few heads
PARTS = 4
# words of a geometry: numbers of queries and keys, the scale as bits of f32; then (image, head, row) in bytes for each of these
QUERIES, KEYS, SCALE = range(3)
_STEPS = ("x", "keys", "values", "mask", "y")


@dataclass(frozen=True)
class Steps:
    """Bytes from one image, head and row of a tensor to the next; its features are adjacent. 0 repeats."""

    image: int
    head: int
    row: int


@dataclass(frozen=True)
class Geometry:
    """What a call of attention learns at run time only: sizes, and where tensors lie.

    Attributes:
        queries, keys: how many of each.
        scale: of the scores.
        steps: of "x", "keys", "values", "mask" and "y".
    """

    queries: int
    keys: int
    scale: float
    steps: dict[str, Steps]

    @property
    def words(self) -> NDArray[np.uint8]:
        """As the kernels read it."""
        steps = [self.steps.get(name, Steps(0, 0, 0)) for name in _STEPS]
        bits = int(np.float32(self.scale).view(np.uint32))
        numbers = [self.queries, self.keys, bits, *(n for each in steps for n in (each.image, each.head, each.row))]
        return np.array(numbers, np.int64).view(np.uint8)


GEOMETRY_BYTES = 8 * (3 + 3 * len(_STEPS))


@dataclass(frozen=True)
class ReadGeometry:
    """Reads a geometry."""

    e: Emitter
    pointer: Value

    def word(self, number: int, type: Any = I64) -> Value:
        """One of QUERIES, KEYS and SCALE."""
        return self.e.load(self.pointer, type, 8 * number, 4 if type is F32 else 8)

    def step(self, name: str, number: int) -> Value:
        """Bytes to the next image (0), head (1) or row (2) of a tensor."""
        return self.word(3 + 3 * _STEPS.index(name) + number)

    def matrix(self, name: str, pointer: Value, image: Value, head: Value) -> Value:
        """Where the rows of one head begin."""
        e = self.e
        return e.at(pointer, e.add(e.mul(image, self.step(name, 0)), e.mul(head, self.step(name, 1))))


@dataclass(frozen=True)
class Unit:
    """Which part of which head a unit is."""

    image: Value
    head: Value
    part: Value

    @classmethod
    def of(cls, e: Emitter, number: Value, heads: int) -> Unit:
        """Parts of a head follow each other, then heads, then images."""
        whole = e.divide(number, PARTS)
        return cls(e.divide(whole, heads), e.remainder(whole, heads), e.remainder(number, PARTS))

    def range(self, e: Emitter, count: Value, multiple: int) -> tuple[Value, Value]:
        """Its share of so many things, cut at multiples."""
        share = e.mul(e.divide(e.add(count, PARTS * multiple - 1), PARTS * multiple), multiple)
        first = e.mul(self.part, share)
        return first, e.minimum(count, e.add(first, share))


def packed_bytes(keys: int, features: int, isa: Isa) -> int:
    """Of one head."""
    return -(-keys // isa.lanes) * features * isa.vector_bytes


@dataclass(frozen=True)
class PackKeys(Kernel):
    """y[image, head, block, feature, lane] = keys[image, head, block·lanes + lane, feature]; behind the last key it stands again.

    Attributes:
        heads: of an image.
        features: of a key.
    """

    heads: int
    features: int

    @property
    def operands(self) -> tuple[str, ...]:
        return ("geometry", "x", "y")

    def units(self, images: int) -> int:
        return images * self.heads * PARTS

    def spans(self) -> tuple[Span | None, ...]:
        """The geometry says where the keys lie, and how many there are."""
        return (Span(0, GEOMETRY_BYTES), None, None)

    def emit(self, e: Emitter, work: Work) -> None:
        lanes, block_bytes = self.isa.lanes, self.features * self.isa.vector_bytes
        geometry = ReadGeometry(e, work.pointers[0])
        count = geometry.word(KEYS)
        blocks, row = e.divide(e.add(count, lanes - 1), lanes), geometry.step("keys", 2)

        def unit(number: Value, _: Any) -> None:
            place = Unit.of(e, number, self.heads)
            x = geometry.matrix("keys", work.pointers[1], place.image, place.head)
            head = e.add(e.mul(place.image, self.heads), place.head)
            y = e.at(work.pointers[2], e.mul(e.mul(head, blocks), block_bytes))

            def block(index: Value, _: Any) -> None:
                first = e.mul(index, lanes)
                numbers = [e.minimum(e.add(first, lane), e.sub(count, 1)) for lane in range(lanes)]
                self._block(e, [e.at(x, e.mul(number, row)) for number in numbers], e.at(y, e.mul(index, block_bytes)))

            e.loop(*place.range(e, blocks, 1), block)

        e.loop(work.begin, work.end, unit)

    def _block(self, e: Emitter, rows: Sequence[Value], y: Value) -> None:
        """All features of as many keys as a vector has lanes."""
        lanes, size = self.isa.lanes, self.isa.vector_bytes

        def square(first: Any, count: int) -> None:
            columns = transposed(e, [load_floats(e, row, e.mul(first, FLOAT), count, lanes) for row in rows])
            for number in range(count):
                e.store(columns[number], y, e.mul(e.add(first, number), size), size)

        whole = self.features // lanes * lanes
        e.loop(0, whole, lambda first, _: square(first, lanes), step=lanes)
        if whole < self.features:
            square(whole, self.features - whole)


def load_floats(e: Emitter, pointer: Value, offset: Any, count: int, lanes: int) -> Value:
    """The first `count` lanes of a vector, nothing behind them is read."""
    loaded = e.load(pointer, vec(F32, count), offset)
    return loaded if count == lanes else e.shuffle(loaded, [*range(count), *[0] * (lanes - count)])

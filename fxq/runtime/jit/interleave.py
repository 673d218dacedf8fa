"""Several rows, brought together: bytes for dot products of four in each lane, and vectors that change places with their lanes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fxq.runtime.jit.ir import I16, I32, Emitter, Value, splat, vec
from fxq.runtime.jit.isa import TAPS, Isa


def interleaved(e: Emitter, rows: list[Value], isa: Isa, vectors: int) -> list[Value]:
    """Up to four rows of bytes → vectors of [r0 r1 r2 r3] lanes, in the order of isa.channels."""
    if vectors == 4:
        return _interleaved_bytes(e, rows, isa)
    wide = vec(I16 if vectors == 2 else I32, rows[0].type.count)
    if vectors == 1:
        shifted = [e.b.shl(e.b.zext(row, wide), splat(wide, 8 * t)) for t, row in enumerate(rows)]
        total = shifted[0]
        for value in shifted[1:]:
            total = e.b.or_(total, value)
        return [total]
    words = [e.b.zext(row, wide) for row in rows]
    pairs = [_shifted_pair(e, words[t : t + 2], wide) for t in range(0, len(words), 2)]
    high = pairs[1] if len(pairs) > 1 else splat(wide, 0)
    return [e.b.bitcast(e.shuffle(pairs[0], lanes, high), isa.sums) for lanes in _unpacked(isa.lanes * 2, 8)]


def _interleaved_bytes(e: Emitter, rows: list[Value], isa: Isa) -> list[Value]:
    zeros = splat(isa.bytes, 0)
    r0, r1, r2, r3 = (rows[t] if t < len(rows) else zeros for t in range(TAPS))
    words = vec(I16, 2 * isa.lanes)
    low, high = _unpacked(isa.vector_bytes, 16)
    halves = [(e.b.bitcast(e.shuffle(r0, lanes, r1), words), e.b.bitcast(e.shuffle(r2, lanes, r3), words)) for lanes in (low, high)]
    return [e.b.bitcast(e.shuffle(a, lanes, b), isa.sums) for a, b in halves for lanes in _unpacked(2 * isa.lanes, 8)]


def _shifted_pair(e: Emitter, words: list[Value], wide: Any) -> Value:
    return words[0] if len(words) == 1 else e.b.or_(words[0], e.b.shl(words[1], splat(wide, 8)))


def _unpacked(lanes: int, block: int) -> tuple[list[int], list[int]]:
    """Masks that interleave two vectors inside blocks of that many lanes: the low halves, the high halves."""
    half = block // 2
    starts = range(0, lanes, block)
    low = [index for start in starts for i in range(half) for index in (start + i, lanes + start + i)]
    high = [index + half for index in low]
    return low, high


def transposed(e: Emitter, rows: Sequence[Value]) -> list[Value]:
    """n vectors of n lanes → the vectors of each lane: swaps halves, quarters, ... of pairs of rows."""
    vectors, count = list(rows), len(rows)
    distance = count // 2
    while distance:
        for low in (index for index in range(count) if not index & distance):
            a, b = vectors[low], vectors[low + distance]
            first = [lane if not lane & distance else count + lane - distance for lane in range(count)]
            vectors[low] = e.shuffle(a, first, b)
            vectors[low + distance] = e.shuffle(a, [lane + distance for lane in first], b)
        distance //= 2
    return vectors

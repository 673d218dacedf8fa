"""Rows of floats times weights of 4, 8 or 16 bits, which become floats on the way: bound by memory for one row, so few bytes are fast."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fxq.runtime.jit.epilogue import HEADER_BYTES, Epilogue, Form, store_floats
from fxq.runtime.jit.ir import F32, I8, I16, Emitter, Value, i64, splat, vec
from fxq.runtime.jit.kernel import Kernel, Span, Work

FLOAT = 4
# inputs whose weights are unpacked together: those of four bits fill 32-bit lanes
TAPS = 8
# a tile of weights, as floats, stays in the nearest cache while a block of rows meets it
_CHUNK, _ROWS = 128, 32
_VECTORS = 4

Body = Callable[[Any, Any, int, list[Value]], list[Value] | None]


@dataclass(frozen=True)
class GroupedRows(Kernel):
    """y[row, c] = u(bias[c] + Σ_k s[c, k]·(Σ x[row, i]·q[c, i] − z[c, k]·Σ x[row, i])), a chunk k of at most 128 inputs after the other.

    All sums go in the order of the inputs, by fused multiply-add where the ISA has it: a row's result depends neither on the other rows
    nor on the width of vectors. A unit is a panel of output channels.

    Attributes:
        features, outputs: of a row of x, of y.
        bits: of a weight, 4 or 8 of integers; 16 of float16, which has no scales.
        group: inputs that share a scale, a multiple of 8; or all of them.
        shifted: there are zeros.
        form: of the epilogue.
        single: for one row, whose weights need not be kept; computes several rows, too.
        panel_vectors: of channels, where there are so many.
    """

    features: int
    outputs: int
    bits: int
    group: int
    shifted: bool
    form: Form
    single: bool
    panel_vectors: int = _VECTORS

    @property
    def operands(self) -> tuple[str, ...]:
        return ("x", "weights", *(("scales",) if self.scaled else ()), "parameters", "y")

    @property
    def scaled(self) -> bool:
        return self.bits < 16

    @property
    def vectors(self) -> int:
        """Of a panel."""
        return min(self.panel_vectors, -(-self.outputs // self.isa.lanes))

    @property
    def channels(self) -> int:
        """Of a panel."""
        return self.vectors * self.isa.lanes

    @property
    def panels(self) -> int:
        return -(-self.outputs // self.channels)

    @property
    def tiles(self) -> tuple[int, ...]:
        """Numbers of rows whose sums fit into registers, the largest first."""
        most = max(1, (self.isa.registers - 6) // (self.vectors + 1))
        return tuple(sorted({most, max(1, most // 2), 1}, reverse=True))

    @property
    def input_bytes(self) -> int:
        """Of an input's weights in a panel."""
        return self.bits * self.channels // 8

    @property
    def weight_bytes(self) -> int:
        """Of a panel."""
        return -(-self.features // TAPS) * TAPS * self.input_bytes

    @property
    def group_bytes(self) -> int:
        """Of a group's scales, and zeros, in a panel."""
        return (1 + self.shifted) * self.channels * FLOAT

    @property
    def scale_bytes(self) -> int:
        """Of a panel."""
        return -(-self.features // self.group) * self.group_bytes

    def units(self, images: int) -> int:
        return self.panels

    def spans(self) -> tuple[Span, ...]:
        x, y = (Span(0, FLOAT * count, FLOAT * count) for count in (self.features, self.outputs))
        scales = [Span(0, self.panels * self.scale_bytes)] if self.scaled else []
        parameters = Span(0, HEADER_BYTES + self.panels * self.channels * FLOAT)
        return (x, Span(0, self.panels * self.weight_bytes), *scales, parameters, y)

    def emit(self, e: Emitter, work: Work) -> None:
        pointers = dict(zip(self.operands, work.pointers, strict=True))
        memory = None if self.single else _Memory(e.scratch(_CHUNK * self.channels * FLOAT), e.scratch(_ROWS * self.channels * FLOAT))

        def panel(number: Value, _: Any) -> None:
            y = e.at(pointers["y"], e.mul(number, self.channels * FLOAT))
            writer = GroupedPanel(self, e, {**pointers, **self.panel(e, pointers, number), "y": y}, number)
            if memory is None:
                e.loop(0, work.images, lambda row, _: writer.row(row))
            else:
                e.loop(0, work.images, lambda first, _: writer.block(first, work.images, memory), step=_ROWS)

        e.loop(work.begin, work.end, panel)

    def panel(self, e: Emitter, pointers: Mapping[str, Value], number: Any) -> dict[str, Value]:
        """Where the constants of a panel begin."""
        found = {
            "weights": e.at(pointers["weights"], e.mul(number, self.weight_bytes)),
            "bias": e.at(pointers["parameters"], e.add(HEADER_BYTES, e.mul(number, self.channels * FLOAT))),
        }
        return {**found, "scales": e.at(pointers["scales"], e.mul(number, self.scale_bytes))} if self.scaled else found


@dataclass(frozen=True)
class _Memory:
    """Of a call: a chunk of weights as floats, and sums of a block of rows."""

    weights: Value
    sums: Value


@dataclass(frozen=True)
class _Chunk:
    """Some inputs of a group, at most _CHUNK."""

    group: Any
    inputs: int


@dataclass(frozen=True)
class _Tile:
    """As many rows as the sums in registers are for. `x` is where a chunk begins in the first row of a block."""

    rows: int
    x: Value
    chunk: _Chunk
    memory: _Memory


@dataclass(frozen=True)
class GroupedPanel:
    """Writes the code for a panel of output channels.

    Attributes:
        k, e: what is written, and where.
        pointers: to what belongs to the panel; x and parameters are those of the call.
        number: of the panel.
    """

    k: GroupedRows
    e: Emitter
    pointers: dict[str, Value]
    number: Value

    def row(self, row: Value) -> None:
        """One row."""
        x = self.e.at(self.pointers["x"], self.e.mul(row, FLOAT * self.k.features))
        self._finish(row, self.sums([x])[0])

    def sums(self, rows: Sequence[Value]) -> list[list[Value]]:
        """Σ x·w' + bias of the rows at some pointers, each the vectors of the panel: weights become floats in registers."""
        e, k, each = self.e, self.k, len(self._zeros())

        def chunk(group: Any, first: Any, count: int, acc: list[Value]) -> list[Value]:
            def taps(start: Any, number: int, sums: list[Value]) -> list[Value]:
                for t, weights in enumerate(self._unpacked(start, number)):
                    offset, found = e.mul(e.add(start, t), FLOAT), []
                    for x, own in zip(rows, _split(sums, each), strict=True):
                        found += self._step(e.broadcast(e.load(x, F32, offset), k.isa.reals), weights, own)
                    sums = found
                return sums

            parts = _split(self._each_taps(first, count, taps, self._zeros() * len(rows)), each)
            return [value for total, part in zip(_split(acc, k.vectors), parts, strict=True) for value in self._joined(total, part, group)]

        acc = self._each_chunk(chunk, self._load(self.pointers["bias"]) * len(rows))
        return [list(own) for own in _split(acc, k.vectors)]

    def block(self, first: Value, images: Value, memory: _Memory) -> None:
        """Rows from the first on, at most _ROWS: each chunk of weights becomes floats once for all of them."""
        e, k = self.e, self.k
        width = k.channels * FLOAT
        count = e.minimum(e.b.sub(images, first), _ROWS)
        e.loop(0, count, lambda row, _: self._store(self._load(self.pointers["bias"]), e.at(memory.sums, e.mul(row, width))))

        def chunk(group: Any, start: Any, inputs: int, carried: list[Value]) -> list[Value]:
            def taps(at: Any, number: int, nothing: list[Value]) -> list[Value]:
                place = e.at(memory.weights, e.mul(e.add(at, e.mul(start, -1)), width))
                for t, vectors in enumerate(self._unpacked(at, number)):
                    self._store(vectors, e.at(place, t * width))
                return nothing

            self._each_taps(start, inputs, taps, [])
            x = e.at(self.pointers["x"], e.add(e.mul(first, FLOAT * k.features), e.mul(start, FLOAT)))
            self._tiles(count, x, _Chunk(group, inputs), memory)
            return carried

        self._each_chunk(chunk, [])
        e.loop(0, count, lambda row, _: self._finish(e.add(first, row), self._load(e.at(memory.sums, e.mul(row, width)))))

    def _tiles(self, count: Value, x: Value, chunk: _Chunk, memory: _Memory) -> None:
        """All rows of a block meet a chunk of weights, in tiles of as many as are left."""
        e, done = self.e, i64(0)
        for rows in self.k.tiles:
            stop = e.add(done, e.mul(e.divide(e.b.sub(count, done), rows), rows))
            e.loop(done, stop, partial(self._turn, _Tile(rows, x, chunk, memory)), step=rows)
            done = stop

    def _turn(self, tile: _Tile, row: Value, _: Any) -> None:
        """Some rows meet a chunk of weights."""
        e, k = self.e, self.k
        width, each, memory = k.channels * FLOAT, len(self._zeros()), tile.memory
        rows = [e.at(tile.x, e.mul(e.add(row, r), FLOAT * k.features)) for r in range(tile.rows)]

        def tap(i: Any, carried: list[Value]) -> list[Value]:
            weights, found = self._load(e.at(memory.weights, e.mul(i, width))), []
            for r, here in enumerate(rows):
                value = e.broadcast(e.load(here, F32, e.mul(i, FLOAT)), k.isa.reals)
                found += self._step(value, weights, carried[r * each : (r + 1) * each])
            return found

        carried = e.loop(0, tile.chunk.inputs, tap, self._zeros() * tile.rows)
        for r in range(tile.rows):
            place = e.at(memory.sums, e.mul(e.add(row, r), width))
            self._store(self._joined(self._load(place), carried[r * each : (r + 1) * each], tile.chunk.group), place)

    # ---- chunks

    def _each_chunk(self, body: Body, carried: list[Value]) -> list[Value]:
        """carried = body(group, first input, inputs, carried) for parts of groups, of at most _CHUNK inputs."""
        e, features, size = self.e, self.k.features, self.k.group

        def group(number: Any, first: Any, inputs: int, carried: list[Value]) -> list[Value]:
            whole = inputs // _CHUNK * _CHUNK
            carried = e.loop(0, whole, lambda start, found: body(number, e.add(first, start), _CHUNK, found), carried, step=_CHUNK)
            return list(body(number, e.add(first, whole), inputs - whole, carried) or []) if whole < inputs else carried

        groups, rest = divmod(features, size)
        carried = e.loop(0, groups, lambda number, found: group(number, e.mul(number, size), size, found), carried)
        return group(groups, groups * size, rest, carried) if rest else carried

    def _each_taps(self, first: Any, count: int, body: Callable[[Any, int, list[Value]], list[Value]], carried: list[Value]) -> list[Value]:
        """carried = body(first input, inputs, carried) for up to TAPS inputs of a chunk."""
        e, whole = self.e, count // TAPS * TAPS
        carried = e.loop(0, whole, lambda start, found: body(e.add(first, start), TAPS, found), carried, step=TAPS)
        return body(e.add(first, whole), count - whole, carried) if whole < count else carried

    # ---- values

    def _zeros(self) -> list[Value]:
        """What the sums of a chunk start from: a vector for each of the panel, and one for Σx where there are zeros."""
        return [splat(self.k.isa.reals, 0.0)] * (self.k.vectors + self.k.shifted)

    def _step(self, x: Value, weights: Sequence[Value], sums: Sequence[Value]) -> list[Value]:
        """sums + x·(weights, 1)"""
        e, isa = self.e, self.k.isa
        found = [isa.multiply_add(e, x, weight, total) for weight, total in zip(weights, sums, strict=False)]
        return [*found, *(e.b.fadd(total, x) for total in sums[len(found) :])]

    def _joined(self, acc: Sequence[Value], sums: Sequence[Value], group: Any) -> list[Value]:
        """acc + s·(Σ x·q − z·Σ x); the negative of z is stored."""
        e, k = self.e, self.k
        isa, size = k.isa, k.isa.vector_bytes
        if not k.scaled:
            return [e.b.fadd(total, part) for total, part in zip(acc, sums, strict=True)]
        place, found = e.at(self.pointers["scales"], e.mul(group, k.group_bytes)), []
        for j, total in enumerate(acc):
            part = sums[j]
            if k.shifted:
                part = isa.multiply_add(e, e.load(place, isa.reals, (k.vectors + j) * size), sums[-1], part)
            found.append(isa.multiply_add(e, e.load(place, isa.reals, j * size), part, total))
        return found

    def _unpacked(self, first: Any, count: int) -> list[list[Value]]:
        """Weights of some inputs from `first` on, a multiple of TAPS, as floats: for each input its vectors."""
        e, k = self.e, self.k
        place = e.at(self.pointers["weights"], e.mul(first, k.input_bytes))
        if k.bits == 4:
            words = [e.load(place, k.isa.sums, j * k.isa.vector_bytes) for j in range(k.vectors)]
            return [[k.isa.nibble(e, word, t) for word in words] for t in range(count)]
        convert, step = (self._real_byte, 1) if k.bits == 8 else (self._real_half, 2)
        return [[convert(place, (t * k.vectors + j) * k.isa.lanes * step) for j in range(k.vectors)] for t in range(count)]

    def _real_byte(self, place: Value, offset: int) -> Value:
        e, isa = self.e, self.k.isa
        return e.b.sitofp(e.b.sext(e.load(place, vec(I8, isa.lanes), offset), isa.sums), isa.reals)

    def _real_half(self, place: Value, offset: int) -> Value:
        return self.k.isa.from_half(self.e, self.e.load(place, vec(I16, self.k.isa.lanes), offset))

    # ---- memory

    def _load(self, place: Value) -> list[Value]:
        isa = self.k.isa
        return [self.e.load(place, isa.reals, j * isa.vector_bytes) for j in range(self.k.vectors)]

    def _store(self, vectors: Sequence[Value], place: Value) -> None:
        for j, vector in enumerate(vectors):
            self.e.store(vector, place, j * self.k.isa.vector_bytes)

    def _finish(self, row: Any, acc: Sequence[Value]) -> None:
        """Activation and bounds; the last panel may have fewer channels."""
        e, k = self.e, self.k
        epilogue = Epilogue(e, k.isa, k.form, self.pointers["parameters"])
        values = [epilogue.floats(value) for value in acc]
        place, rest = e.at(self.pointers["y"], e.mul(row, FLOAT * k.outputs)), k.outputs % k.channels
        if not rest:
            store_floats(e, values, k.channels, place, 0)
            return
        is_last = e.b.icmp_signed("==", self.number, self.number.type(k.panels - 1))
        e.when(is_last, lambda: store_floats(e, values, rest, place, 0))
        e.when(e.b.not_(is_last), lambda: store_floats(e, values, k.channels, place, 0))


@dataclass(frozen=True, eq=False)
class GroupedConstants:
    """What the kernel reads, before it is packed.

    Attributes:
        weights: s8 [O, I], or f16.
        scale, zero: f32 [O, groups]; None where there are none.
        bias: f32 [O].
    """

    weights: NDArray[Any]
    scale: NDArray[np.float32] | None
    zero: NDArray[np.float32] | None
    bias: NDArray[np.float32]

    def pack(self, k: GroupedRows, header: NDArray[np.uint8]) -> list[NDArray[np.uint8]]:
        """Weights, scales where there are some, parameters: each panel behind the other, channels in lanes."""
        parameters = np.concatenate([header, _panels(self.bias[:, None], k).reshape(-1).view(np.uint8)])
        if self.scale is None:
            return [_bytes(self._weights(k)), parameters]
        parts = [self.scale] if self.zero is None else [self.scale, -self.zero]
        scales = np.stack([_panels(part, k) for part in parts], 2)
        return [_bytes(self._weights(k)), _bytes(scales), parameters]

    def _weights(self, k: GroupedRows) -> NDArray[Any]:
        """[panels, inputs, channels]; of four bits [panels, inputs / 8, channels] words."""
        panels = _panels(np.pad(self.weights, ((0, 0), (0, -k.features % TAPS))), k)
        if k.bits != 4:
            return panels
        nibbles = panels.reshape(k.panels, -1, TAPS, k.channels).astype(np.uint32) & 15
        shifts = (4 * np.arange(TAPS, dtype=np.uint32))[:, None]
        words: NDArray[np.uint32] = np.bitwise_or.reduce(nibbles << shifts, 2)
        return words


def _panels(values: NDArray[Any], k: GroupedRows) -> NDArray[Any]:
    """[O, n] → [panels, n, channels]"""
    filled = np.pad(values, ((0, k.panels * k.channels - k.outputs), (0, 0)))
    return np.ascontiguousarray(filled.reshape(k.panels, k.channels, -1).transpose(0, 2, 1))


def _split(values: Sequence[Value], size: int) -> list[Sequence[Value]]:
    """Parts of that many."""
    return [values[first : first + size] for first in range(0, len(values), size)]


def _bytes(values: NDArray[Any]) -> NDArray[np.uint8]:
    return np.ascontiguousarray(values).reshape(-1).view(np.uint8)

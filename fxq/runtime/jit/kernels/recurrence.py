"""The time loop of one direction of an LSTM, GRU or RNN layer: all steps of a sequence in one call, its weights going by once a step.

The accumulators of a panel are one vector for each gate of the same channels, so that a step of the cell is done in registers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

from fxq.runtime.jit.curves import Curves
from fxq.runtime.jit.epilogue import store_floats
from fxq.runtime.jit.ir import I64, Emitter, Value
from fxq.runtime.jit.kernel import Kernel, Span, Work
from fxq.runtime.jit.kernels.dynamic_rows import FLOAT
from fxq.runtime.jit.kernels.hidden_product import HiddenProduct, Tile

# words of the table of steps: how many there are; then of each, its first row and its number of rows
STEP_WORDS = 2


@dataclass(frozen=True)
class Recurrence(Kernel):
    """For each step, for each sequence that has it: gates = table row of the input's + W·h; states, y = step(gates, states)

    A sequence is an image and a unit; h, c and what is kept of h have one row for each, gates and y one for each step of each.

    Attributes:
        cell: a key of fxq.runtime.dynamic.cells.CELLS.
        hidden: channels.
        product: of the hidden state: one panel for each block of channels, one vector for each gate.
    """

    cell: str
    hidden: int
    product: HiddenProduct

    @property
    def states(self) -> tuple[str, ...]:
        """h, and c where there is one."""
        return ("h", "c")[: _CELLS[self.cell].states]

    @property
    def operands(self) -> tuple[str, ...]:
        return ("gates", "table", *self.product.constants, *self.product.kept, *self.states, "y")

    def units(self, images: int) -> int:
        return images

    def spans(self) -> tuple[Span | None, ...]:
        """What has a row for each step is as long as the caller's table says."""
        rows = [*self.product.kept.values(), *[self.state_bytes] * len(self.states)]
        return (None, None, *self.product.constants.values(), *(Span(0, size, size) for size in rows), None)

    @property
    def state_bytes(self) -> int:
        """Of a row of h or c: whole vectors."""
        return -(-self.hidden // self.isa.lanes) * self.isa.vector_bytes

    def emit(self, e: Emitter, work: Work) -> None:
        _Steps(self, e, work).emit()


@dataclass(frozen=True)
class _Block:
    """Where the results of a tile go.

    Attributes:
        first: row of the step's first sequence in gates and y.
        number: of the block of channels.
        channels: of the block that there are.
    """

    first: Value
    number: Any
    channels: int


@dataclass(frozen=True)
class _Steps:
    """Writes the loops of one Recurrence."""

    k: Recurrence
    e: Emitter
    work: Work

    @cached_property
    def pointers(self) -> dict[str, Value]:
        return dict(zip(self.k.operands, self.work.pointers, strict=True))

    def emit(self) -> None:
        e, table = self.e, self.pointers["table"]

        def step(number: Value, _: Any) -> None:
            here = e.at(table, e.b.add(e.mul(number, 8 * STEP_WORDS), I64(8)))
            first, last = e.load(here, I64, 0, 8), e.minimum(self.work.end, e.load(here, I64, 8, 8))
            e.loop(self.work.begin, last, lambda sequence, _: self._keep(sequence))
            self._each_block(lambda number, count: self._rows(last, _Block(first, number, count)))

        e.loop(0, e.load(table, I64, 0, 8), step)

    def _keep(self, sequence: Value) -> None:
        e, k = self.e, self.k
        h, *rows = (e.at(self.pointers[name], e.mul(sequence, size)) for name, size in {"h": k.state_bytes, **k.product.kept}.items())
        k.product.keep(e, h, rows)

    def _each_block(self, body: Callable[[Any, int], None]) -> None:
        """body(number, channels) for each block of channels: as many as a vector has lanes, but for the last."""
        lanes, rest = self.k.isa.lanes, self.k.hidden % self.k.isa.lanes
        whole = self.k.hidden // lanes
        self.e.loop(0, whole, lambda block, _: body(block, lanes))
        if rest:
            body(whole, rest)

    def _rows(self, last: Value, block: _Block) -> None:
        """The sequences of a step, as many at once as there are registers for, the rest in pairs, the last by itself."""
        e, begin = self.e, self.work.begin
        for count in sorted({self.k.product.tile_sequences, 2, 1}, reverse=True):
            end = e.b.sub(last, e.b.srem(e.b.sub(last, begin), I64(count)))
            e.loop(begin, end, partial(self._tile, block, count), step=count)
            begin = e.select(e.b.icmp_signed("<", end, begin), begin, end)

    def _tile(self, block: _Block, count: int, sequence: Value, _: Any) -> None:
        """The gates of some sequences, from that one on, in some channels, and what they make of the states."""
        tile = Tile(self.pointers, self.work, sequence, count, block.number)
        for number, hidden in enumerate(self.k.product.sums(self.e, tile)):
            self._step(hidden, block, self.e.b.add(sequence, I64(number)))

    def _step(self, hidden: list[Value], block: _Block, sequence: Value) -> None:
        """Of one sequence."""
        e, k, size = self.e, self.k, self.k.isa.vector_bytes
        row = e.b.add(block.first, sequence)
        gates, reals = len(hidden), k.isa.reals
        given = e.at(self.pointers["gates"], e.add(e.mul(row, k.state_bytes * gates), e.mul(block.number, size * gates)))
        inputs = [e.load(given, reals, size * gate) for gate in range(gates)]
        offset = e.add(e.mul(sequence, k.state_bytes), e.mul(block.number, size))
        states = [e.at(self.pointers[name], offset) for name in k.states]
        new = _CELLS[k.cell].step(Curves(e, reals), inputs, hidden, [e.load(state, reals) for state in states])
        for value, state in zip(new, states, strict=True):
            e.store(value, state)
        y = e.add(e.mul(row, FLOAT * k.hidden), e.mul(block.number, size))
        store_floats(e, [new[0]], block.channels, e.at(self.pointers["y"], y), 0)


Vectors = Sequence[Value]


@dataclass(frozen=True)
class _CellCode:
    """fxq.runtime.dynamic.cells as code: (curves, what the input adds, what the hidden state adds, states) → new states."""

    states: int
    step: Callable[[Curves, Vectors, Vectors, Vectors], list[Value]]


def _lstm(curves: Curves, x: Vectors, h: Vectors, states: Vectors) -> list[Value]:
    b = curves.e.b
    i, f, g, o = (b.fadd(a, c) for a, c in zip(x, h, strict=True))
    c = b.fadd(b.fmul(curves.sigmoid(f), states[1]), b.fmul(curves.sigmoid(i), curves.tanh(g)))
    return [b.fmul(curves.sigmoid(o), curves.tanh(c)), c]


def _gru(curves: Curves, x: Vectors, h: Vectors, states: Vectors) -> list[Value]:
    b = curves.e.b
    r, z = (curves.sigmoid(b.fadd(x[gate], h[gate])) for gate in (0, 1))
    n = curves.tanh(b.fadd(x[2], b.fmul(r, h[2])))
    return [b.fadd(n, b.fmul(z, b.fsub(states[0], n)))]


def _tanh(curves: Curves, x: Vectors, h: Vectors, states: Vectors) -> list[Value]:
    return [curves.tanh(curves.e.b.fadd(x[0], h[0]))]


def _relu(curves: Curves, x: Vectors, h: Vectors, states: Vectors) -> list[Value]:
    return [curves.relu(curves.e.b.fadd(x[0], h[0]))]


_CELLS: Mapping[str, _CellCode] = {
    "LSTM": _CellCode(2, _lstm),
    "GRU": _CellCode(1, _gru),
    "RNN_TANH": _CellCode(1, _tanh),
    "RNN_RELU": _CellCode(1, _relu),
}

"""The second operand of a product of two activations, packed on the way, as weights are ahead of time.

Bytes b become p = b − 128, which are signed, as dot products want them; behind each column goes its part of the sums (see `matmul`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from fxq.runtime.jit.interleave import interleaved, transposed
from fxq.runtime.jit.ir import I8, Emitter, Value, splat, vec
from fxq.runtime.jit.isa import TAPS, Isa
from fxq.runtime.jit.kernel import Kernel, Span, Work
from fxq.runtime.jit.packing import Panel, lane_channels, panels_of

SLOT = 64  # bytes of a number that is in all lanes
VECTORS = 2  # of accumulators in a panel of columns

_SIGN = 0x80  # b and b − 128 differ in it


@dataclass(frozen=True)
class Matrices:
    """A batch of matrices, in groups: [images, groups, rows, columns]. Steps are in bytes; 0 where all share one matrix.

    Attributes:
        row, column, group, image: bytes from one to the next.
    """

    rows: int
    columns: int
    groups: int
    row: int
    column: int
    group: int
    image: int

    @property
    def reach(self) -> int:
        """Bytes from the first element of an image to the last row of its last matrix."""
        return (self.groups - 1) * self.group + (self.rows - 1) * self.row


@dataclass(frozen=True)
class PanelPlace:
    """A panel of packed columns: where it is behind the packed matrix, in bytes, and its first column; ints or values."""

    panel: Panel
    offset: Any
    column: Any


@dataclass(frozen=True)
class PackedMatrix:
    """[depth, columns] in panels of columns: for each four rows the panel's vectors, and behind them the columns' part of the sums.

    Attributes:
        natural: lanes are in the order of the columns, for results that are floats.
    """

    isa: Isa
    depth: int
    columns: int
    natural: bool

    @cached_property
    def panels(self) -> list[Panel]:
        """All but the last one have equal shapes."""
        return panels_of(self.columns, 0, self.isa, VECTORS)

    @property
    def steps(self) -> int:
        """Groups of four rows; what is missing in the last one is 0."""
        return -(-self.depth // TAPS)

    def panel_bytes(self, panel: Panel) -> int:
        """With the columns' part."""
        return (self.steps + 1) * panel.vectors * self.isa.vector_bytes

    @property
    def nbytes(self) -> int:
        """Of one matrix."""
        return sum(map(self.panel_bytes, self.panels))

    def each(self, e: Emitter, body: Callable[[PanelPlace], None]) -> None:
        """All panels: a loop over those of equal shape, then the last one where it is another."""
        e.loop(0, self._alike, lambda number, _: body(self._place(e, 0, number)))
        if self._alike < len(self.panels):
            body(self._place(e, self._alike, self._alike))

    def one(self, e: Emitter, number: Any, body: Callable[[PanelPlace], None]) -> None:
        """The panel of that number."""
        if self._alike == len(self.panels):
            body(self._place(e, 0, number))
            return
        if not self._alike:
            body(self._place(e, 0, 0))
            return
        with e.b.if_else(e.b.icmp_signed("<", number, number.type(self._alike))) as (whole, rest):
            with whole:
                body(self._place(e, 0, number))
            with rest:
                body(self._place(e, self._alike, self._alike))

    @property
    def _alike(self) -> int:
        """How many panels have the shape of a whole one."""
        return self.columns // (VECTORS * self.isa.lanes)

    def _place(self, e: Emitter, like: int, number: Any) -> PanelPlace:
        first = self.panels[0]
        return PanelPlace(self.panels[like], e.mul(number, self.panel_bytes(first)), e.mul(number, first.count))


@dataclass(frozen=True)
class MatrixPack(Kernel):
    """Packs the second operand of a product: unit by unit one panel of one matrix.

    Attributes:
        x: [depth, columns]; the elements of a row, or those of a column, are adjacent bytes.
        packed: what is made of it.
    """

    x: Matrices
    packed: PackedMatrix

    @property
    def name(self) -> str:
        return "pack"

    @property
    def operands(self) -> tuple[str, ...]:
        return ("x", "parameters", "y")

    def units(self, images: int) -> int:
        return images * self.x.groups * len(self.packed.panels)

    @property
    def _by_rows(self) -> bool:
        return self.x.column == 1 or self.x.columns == 1

    def spans(self) -> tuple[Span, ...]:
        last = self.packed.panels[-1]
        if self._by_rows:
            end = self.x.reach + last.first + last.vectors * self.isa.lanes
        else:
            blocks = -(-self.x.rows // self.isa.vector_bytes)
            end = (self.x.groups - 1) * self.x.group + (self.x.columns - 1) * self.x.column + blocks * self.isa.vector_bytes
        nbytes = self.packed.nbytes * self.x.groups
        return (Span(0, end, self.x.image), Span(0, 2 * SLOT), Span(0, nbytes, nbytes))

    def emit(self, e: Emitter, work: Work) -> None:
        x, parameters, y = work.pointers
        count = len(self.packed.panels)

        def unit(number: Value, _: Any) -> None:
            matrix = e.divide(number, count)
            image, group = e.divide(matrix, self.x.groups), e.remainder(matrix, self.x.groups)
            source = e.at(x, e.add(e.mul(image, self.x.image), e.mul(group, self.x.group)))
            target = e.at(y, e.mul(matrix, self.packed.nbytes))

            def panel(place: PanelPlace) -> None:
                ends = e.at(source, e.mul(place.column, self.x.column)), e.at(target, place.offset)
                self._panel(e, place.panel, ends, parameters)

            self.packed.one(e, e.remainder(number, count), panel)

        e.loop(work.begin, work.end, unit)

    def _panel(self, e: Emitter, panel: Panel, ends: tuple[Value, Value], parameters: Value) -> None:
        """Stores the columns' bytes, adding them up by the way, and then −z_a·(Σp + K·c)."""
        isa, (x, y) = self.isa, ends
        pack = self._rows if self._by_rows else self._columns
        sums = pack(e, panel, x, y, [splat(isa.sums, 0)] * panel.vectors)
        factor, constant = (e.load(parameters, isa.sums, slot * SLOT, isa.vector_bytes) for slot in (0, 1))
        for j, total in enumerate(sums):
            offset = (self.packed.steps * panel.vectors + j) * isa.vector_bytes
            e.store(e.b.add(e.b.mul(total, factor), constant), y, offset, isa.vector_bytes)

    def _rows(self, e: Emitter, panel: Panel, x: Value, y: Value, sums: list[Value]) -> list[Value]:
        """Where rows are adjacent bytes: four rows are interleaved."""
        type, depth = vec(I8, panel.vectors * self.isa.lanes), self.x.rows

        def step(number: Any, sums: list[Value], rows: int = TAPS) -> list[Value]:
            here = e.at(x, e.mul(number, TAPS * self.x.row))
            loaded = [e.b.xor(e.load(here, type, r * self.x.row), splat(type, _SIGN)) for r in range(rows)]
            return self._store(e, self._interleaved(e, loaded, panel.vectors), e.at(y, e.mul(number, self._step_bytes(panel))), sums)

        whole = depth // TAPS
        sums = e.loop(0, whole, step, sums)
        return step(whole, sums, depth % TAPS) if depth % TAPS else sums

    def _interleaved(self, e: Emitter, rows: list[Value], vectors: int) -> list[Value]:
        if self.isa.interleaves and not self.packed.natural:
            return interleaved(e, rows, self.isa, vectors)
        lanes = self.isa.lanes
        parts = [[e.shuffle(row, range(j * lanes, (j + 1) * lanes)) for row in rows] for j in range(vectors)]
        return [interleaved(e, part, self.isa, 1)[0] for part in parts]

    def _columns(self, e: Emitter, panel: Panel, x: Value, y: Value, sums: list[Value]) -> list[Value]:
        """Where columns are adjacent bytes: as many steps as there are lanes are transposed together."""
        width, depth = self.isa.vector_bytes, self.x.rows
        channels = np.minimum(lane_channels(panel, self.isa, natural=self.packed.natural), panel.count - 1)

        def block(number: Any, sums: list[Value], nbytes: int = width) -> list[Value]:
            here = e.at(x, e.mul(number, width))
            steps = [transposed(e, [self._signed(e, e.at(here, int(c) * self.x.column), nbytes) for c in row]) for row in channels]
            for index, together in enumerate(list(zip(*steps, strict=True))[: -(-nbytes // TAPS)]):
                place = e.add(e.mul(number, self.isa.lanes), index)
                sums = self._store(e, list(together), e.at(y, e.mul(place, self._step_bytes(panel))), sums)
            return sums

        whole = depth // width
        sums = e.loop(0, whole, block, sums)
        return block(whole, sums, depth % width) if depth % width else sums

    def _signed(self, e: Emitter, pointer: Value, nbytes: int) -> Value:
        """b − 128 of the first bytes there, 0 behind them, in i32 lanes."""
        isa = self.isa
        flipped = e.b.xor(e.load(pointer, isa.bytes), splat(isa.bytes, _SIGN))
        if nbytes < isa.vector_bytes:
            flipped = e.shuffle(flipped, [i if i < nbytes else isa.vector_bytes for i in range(isa.vector_bytes)], splat(isa.bytes, 0))
        return e.b.bitcast(flipped, isa.sums)

    def _store(self, e: Emitter, vectors: list[Value], y: Value, sums: list[Value]) -> list[Value]:
        """One step, in the order in which the ISA loads weights; returns the sums with it."""
        isa, result = self.isa, []
        order = isa.arrange(np.arange(isa.vector_bytes, dtype=np.int8).reshape(isa.lanes, TAPS))
        ones = isa.activations(e, splat(isa.sums, 0x01010101))
        for j, (vector, total) in enumerate(zip(vectors, sums, strict=True)):
            arranged = e.shuffle(e.b.bitcast(vector, isa.bytes), order.tolist())
            e.store(arranged, y, j * isa.vector_bytes, isa.vector_bytes)
            result.append(isa.dot(e, total, ones, isa.load_weights(e, y, j * isa.vector_bytes)))
        return result

    def _step_bytes(self, panel: Panel) -> int:
        return panel.vectors * self.isa.vector_bytes

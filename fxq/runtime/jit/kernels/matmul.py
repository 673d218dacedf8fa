"""Products of two activations. The second one is packed (`pack`), the first one is read where it lies.

With p = b − 128 and c = 128 − z_b

    Σ (a − z_a)(b − z_b) = Σ a·p + c·Σa − z_a·(Σp + K·c)

so that a column's part, −z_a·(Σp + K·c), is packed behind the column, and a row's part, c·Σa, is computed for each tile of rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fxq.runtime.integer.matmul import MatMul
from fxq.runtime.jit.epilogue import HEADER_BYTES, Epilogue, Form, form_of, header, store_bytes, store_floats
from fxq.runtime.jit.ir import I32, Emitter, Value, splat
from fxq.runtime.jit.isa import TAPS, Isa
from fxq.runtime.jit.kernel import Kernel, Planned, Span, Work
from fxq.runtime.jit.kernels.gemm_shape import Window, least_waste, tile_height
from fxq.runtime.jit.kernels.pack import SLOT, VECTORS, Matrices, MatrixPack, PackedMatrix, PanelPlace
from fxq.runtime.jit.kernels.tile_sum import TileSum


@dataclass(frozen=True)
class MatrixProduct(Kernel):
    """y = epilogue(Σ (a − z_a)(b − z_b)) of matrices a and packed matrices b: unit by unit one tile of rows, all columns.

    Attributes:
        x: [rows, depth], each row adjacent bytes.
        packed: the second operand.
        packed_group, packed_image: bytes from one packed matrix to the next; 0 where all share one.
        y: [rows, columns], each row adjacent bytes or floats.
        form: of the epilogue.
        centered: whether z_b is not in the middle, so that rows have a part of their own.
    """

    x: Matrices
    packed: PackedMatrix
    packed_group: int
    packed_image: int
    y: Matrices
    form: Form
    centered: bool

    @property
    def name(self) -> str:
        return "matmul"

    @property
    def operands(self) -> tuple[str, ...]:
        return ("x", "packed", "parameters", "y")

    @cached_property
    def tile_rows(self) -> int:
        """Rows of one tile; the last one overlaps the one before it."""
        most = tile_height(self.isa, VECTORS, self.packed.steps)
        return self.x.rows if self.x.rows < most else least_waste(most, self.x.rows)

    @property
    def _tiles(self) -> int:
        return -(-self.x.rows // self.tile_rows)

    def units(self, images: int) -> int:
        return images * self.x.groups * self._tiles

    def spans(self) -> tuple[Span, ...]:
        read = self.isa.vector_bytes if self.centered else TAPS
        x = Span(0, self.x.reach + -(-self.x.columns // read) * read, self.x.image)
        packed = Span(0, (self.x.groups - 1) * self.packed_group + self.packed.nbytes, self.packed_image)
        y = Span(0, self.y.reach + self.y.columns * (4 if self.form.floats else 1), self.y.image)
        return (x, packed, Span(0, HEADER_BYTES + 3 * SLOT), y)

    def emit(self, e: Emitter, work: Work) -> None:
        x, packed, parameters, y = work.pointers
        row_parts = e.scratch(TAPS * self.tile_rows) if self.centered else None

        def unit(number: Value, _: Any) -> None:
            matrix, tile = e.divide(number, self._tiles), e.remainder(number, self._tiles)
            image, group = e.divide(matrix, self.x.groups), e.remainder(matrix, self.x.groups)
            row = e.minimum(e.mul(tile, self.tile_rows), self.x.rows - self.tile_rows)

            def start(pointer: Value, matrices: Matrices) -> Value:
                matrix_start = e.add(e.mul(image, matrices.image), e.mul(group, matrices.group))
                return e.at(pointer, e.add(matrix_start, e.mul(row, matrices.row)))

            rows, target = start(x, self.x), start(y, self.y)
            columns = e.at(packed, e.add(e.mul(image, self.packed_image), e.mul(group, self.packed_group)))
            if row_parts is not None:
                self._sum_rows(e, rows, parameters, row_parts)
            tile_of = _Tile(self, e, rows, parameters, row_parts)
            self.packed.each(e, lambda place: tile_of.columns(place, e.at(columns, place.offset), target))

        e.loop(work.begin, work.end, unit)

    def _sum_rows(self, e: Emitter, x: Value, parameters: Value, parts: Value) -> None:
        """c·Σa of each row of the tile."""
        factor = e.load(parameters, I32, HEADER_BYTES + SLOT, 4)

        def row(number: Any, _: Any) -> None:
            here = e.at(x, e.mul(number, self.x.row))
            total = e.call(f"llvm.vector.reduce.add.v{self.isa.lanes}i32", I32, [self._row_sum(e, here, parameters)])
            e.store(e.b.mul(total, factor), parts, e.mul(number, 4), 4)

        e.loop(0, self.tile_rows, row)

    def _row_sum(self, e: Emitter, x: Value, parameters: Value) -> Value:
        """Σa of one row, spread over the lanes."""
        isa, depth = self.isa, self.x.columns
        width = isa.vector_bytes
        ones = isa.load_weights(e, parameters, HEADER_BYTES + 2 * SLOT)

        def piece(offset: Any, sums: list[Value], nbytes: int = width) -> list[Value]:
            loaded = e.load(x, isa.bytes, offset)
            if nbytes < width:
                loaded = e.shuffle(loaded, [i if i < nbytes else width for i in range(width)], splat(isa.bytes, 0))
            return [isa.dot(e, sums[0], isa.activations(e, e.b.bitcast(loaded, isa.sums)), ones)]

        whole = depth // width * width
        sums = e.loop(0, whole, piece, [splat(isa.sums, 0)], step=width)
        return (piece(whole, sums, depth - whole) if whole < depth else sums)[0]


@dataclass(frozen=True)
class _Tile:
    """Writes one tile of rows.

    Attributes:
        x: its first row.
        row_parts: what is added to the sums of each row; None where that is 0.
    """

    k: MatrixProduct
    e: Emitter
    x: Value
    parameters: Value
    row_parts: Value | None

    def columns(self, place: PanelPlace, packed: Value, y: Value) -> None:
        """One panel of columns."""
        k, e, vectors = self.k, self.e, place.panel.vectors
        size, rows = k.isa.vector_bytes, k.tile_rows
        starts = [e.load(packed, k.isa.sums, (k.packed.steps * vectors + j) * size, size) for j in range(vectors)]
        acc = [self._with_row(start, i) for i in range(rows) for start in starts]
        window = Window(0, (), k.x.columns, (k.x.row,))
        acc = TileSum(e, k.isa, window, vectors, [i * k.x.row for i in range(rows)]).run(self.x, packed, acc)
        epilogue = Epilogue(e, k.isa, k.form, self.parameters)
        multiplier = e.load(self.parameters, k.isa.reals, HEADER_BYTES, size)
        values = [[epilogue.scaled(value, multiplier) for value in acc[i * vectors : (i + 1) * vectors]] for i in range(rows)]
        target = e.at(y, e.mul(place.column, 4 if k.form.floats else 1))
        if k.form.floats:
            for i, row in enumerate(values):
                store_floats(e, [epilogue.floats(value) for value in row], place.panel.count, target, i * k.y.row)
            return
        for i, packed_row in enumerate(epilogue.bytes(values)):
            store_bytes(e, packed_row, place.panel.count, target, i * k.y.row)

    def _with_row(self, start: Value, row: int) -> Value:
        if self.row_parts is None:
            return start
        return self.e.b.add(start, self.e.broadcast(self.e.load(self.row_parts, I32, 4 * row, 4), self.k.isa.sums))


@dataclass(frozen=True, eq=False)
class PlannedMatMul:
    """The two calls of a product, and how many bytes the packed operand of one image has."""

    pack: Planned
    product: Planned
    packed_bytes: int


def plan_matmul(op: MatMul, operands: tuple[Matrices, Matrices, Matrices], isa: Isa, *, signed: tuple[bool, ...]) -> PlannedMatMul:
    """a and b into y; b is packed for each of its own images and groups.

    Args:
        operands: a, b and y. Steps of 0 in groups or images of b say that all share one matrix.
    """
    a, b, y = operands
    z_a, z_b = op.a_zero_point + 128 * signed[0], op.b_zero_point + 128 * signed[1]
    c, depth = 128 - z_b, a.columns
    furthest = [max(z, 255 - z) for z in (z_a, z_b)]
    form = form_of(op.output, largest=np.inf if op.output.activation else depth * furthest[0] * furthest[1] * abs(op.multiplier))
    packed = PackedMatrix(isa, depth, y.columns, natural=form.floats)
    own_groups = b.groups if b.group else 1
    group_step = packed.nbytes if b.group else 0
    image_step = packed.nbytes * own_groups if b.image else 0
    slots: list[NDArray[Any]] = [np.full(16, op.multiplier, np.float32), np.full(16, c, np.int32), np.ones(SLOT, np.int8)]
    parameters = np.concatenate([header(op.output), *(slot.view(np.uint8) for slot in slots)])
    columns = np.concatenate([np.full(16, number, np.int32).view(np.uint8) for number in (-z_a, -z_a * depth * c)])
    product = MatrixProduct(isa, a, packed, group_step, image_step, y, form, c != 0)
    own = Matrices(b.rows, b.columns, own_groups, b.row, b.column, b.group, b.image)
    return PlannedMatMul(
        Planned(MatrixPack(isa, own, packed), (columns,)),
        Planned(product, (parameters,), y.groups * y.rows * y.columns * depth),
        packed.nbytes * own_groups,
    )

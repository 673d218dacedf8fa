"""Convolution and linear as an implicit matrix product: tiles of pixels × channels, whose taps are runs of adjacent bytes.

A tile holds its accumulators in registers, which start as the bias (`tile_sum`). Borders need no case: the input has a halo. Source of the
blocking: Goto and van de Geijn, "Anatomy of High-Performance Matrix Multiplication", 2008, with the weights packed ahead.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

from fxq.runtime.jit.epilogue import Epilogue
from fxq.runtime.jit.excess import NUMBER, TOGETHER
from fxq.runtime.jit.ir import I32, I64, Emitter, Value
from fxq.runtime.jit.kernel import Layout, Work
from fxq.runtime.jit.kernels.gemm_shape import GemmShape, Pixels
from fxq.runtime.jit.kernels.tile_end import Rows, TileEnd, load_scales
from fxq.runtime.jit.kernels.tile_sum import Ahead, TileSum
from fxq.runtime.jit.packing import Panel


@dataclass(frozen=True)
class Gemm(GemmShape):
    """A GemmShape with its code."""

    def emit(self, e: Emitter, work: Work) -> None:
        Tiles(self, e, work).emit()


@dataclass(frozen=True)
class Place:
    """Which panel it is, where its numbers are, and its first channel: ints, or values where panels are looped over."""

    number: Any
    weights: Any
    parameters: Any
    input_channel: Any
    channel: Any


@dataclass(frozen=True)
class Block:
    """A tile of pixels: its number among those that a panel meets, and offsets in bytes of its first pixel."""

    pixels: Pixels
    number: Any
    x: Any
    y: Any
    residual: Any


@dataclass(frozen=True)
class Tiles:
    """Writes the loops of one Gemm."""

    k: GemmShape
    e: Emitter
    work: Work

    def emit(self) -> None:
        """Units are panels or blocks of pixels; inside, panels go by for each block where their weights stay in the cache."""
        k = self.k
        if k.by_panels:
            self.panels_of_range()
        elif k.is_streamed:
            self.each_panel(lambda panel, place: self.blocks_of_range(lambda block: self.tile(panel, place, block)))
        else:
            self.blocks_of_range(lambda block: self.each_panel(lambda panel, place: self.tile(panel, place, block)))

    @cached_property
    def pointers(self) -> dict[str, Value]:
        """By operand."""
        return dict(zip(self.k.operands, self.work.pointers, strict=True))

    def each_panel(self, body: Callable[[Panel, Place], None]) -> None:
        """All panels, in a loop where neighbours have the same shape."""
        for first, count in self._runs():
            self._panel_loop(first, 0, count, body)

    def panels_of_range(self) -> None:
        """The panels that the range of units asks for, over all blocks; images are inside the panel's number where they are apart."""
        e, k, work = self.e, self.k, self.work
        for first, count in self._runs():
            if k.is_matrix:
                begin, end = self._clipped(work.begin, work.end, first, count)
                self._panel_loop(first, begin, end, self._all_blocks)
            else:
                begin, end = self._clipped(work.begin, work.end, e.b.mul(work.images, I64(first)), e.b.mul(work.images, I64(count)))
                e.loop(begin, end, partial(self._panel_of_image, first))

    def _panel_of_image(self, first: int, unit: Value, _: Any) -> None:
        """Units are panel-major, so that a panel stays in the cache from one image to the next."""
        e = self.e
        number, image = e.b.udiv(unit, self.work.images), e.b.urem(unit, self.work.images)
        panel = self.k.panels[first]
        place = self._place(first, number)
        self._image_blocks(image, lambda block: self.tile(panel, place, block))

    def _clipped(self, begin: Value, end: Value, first: Value | int, count: Value | int) -> tuple[Value, Value]:
        """[begin, end) ∩ [first, first + count), counted from first."""
        e = self.e
        last = e.add(first, count)
        low = e.b.select(e.b.icmp_signed("<", begin, _as_value(first)), _as_value(first), begin)
        return e.b.sub(low, _as_value(first)), e.b.sub(e.minimum(end, last), _as_value(first))

    def _runs(self) -> list[tuple[int, int]]:
        """(first, count) of panels that follow each other with equal shapes and equal steps from one to the next."""
        panels, runs = self.k.panels, []
        start = 0
        for number in range(1, len(panels) + 1):
            if number == len(panels) or not self._continues(start, number):
                runs.append((start, number - start))
                start = number
        return runs

    def _continues(self, start: int, number: int) -> bool:
        first, panel = self.k.panels[start], self.k.panels[number]
        same_shape = (panel.count, panel.vectors) == (first.count, first.vectors)
        step = self.k.panels[start + 1].first - first.first
        return same_shape and panel.first == first.first + (number - start) * step and self._group_step(start, number)

    def _group_step(self, start: int, number: int) -> bool:
        """Panels of one group, or one panel for each group."""
        width = self.k.y.channels
        first, second, last = (self.k.panels[n].first // width for n in (start, start + 1, number))
        return last - first == (second - first) * (number - start)

    def _panel_loop(self, first: int, begin: Value | int, end: Value | int, body: Callable[[Panel, Place], None]) -> None:
        self.e.loop(begin, end, lambda number, _: body(self.k.panels[first], self._place(first, number)))

    def _place(self, first: int, number: Value | int) -> Place:
        """Of the panel `number` places behind `first`, both of one run."""
        e, k = self.e, self.k
        panel = k.panels[first]
        following = k.panels[first + 1] if first + 1 < len(k.panels) else panel
        group, step = panel.first // k.y.channels, following.first // k.y.channels - panel.first // k.y.channels
        weights = sum(map(k.weight_bytes, k.panels[:first]))
        return Place(
            e.add(first, number),
            e.add(weights, e.mul(number, k.weight_bytes(panel))),
            e.add(k.parameter_offset(first), e.mul(number, k.parameter_bytes(panel))),
            e.add(group * k.x.channels, e.mul(number, step * k.x.channels)),
            e.add(panel.first, e.mul(number, following.first - panel.first)),
        )

    # ---- blocks of pixels

    def blocks_of_range(self, body: Callable[[Block], None]) -> None:
        """The blocks that the range of units asks for."""
        e, k, work = self.e, self.k, self.work

        def unit(number: Value, _: Any) -> None:
            in_range = e.sub(number, work.begin)
            self._row_block(e.divide(number, k.blocks_of_image), number, lambda block: body(replace(block, number=in_range)))

        if k.is_matrix:
            self._matrix_blocks(work.begin, work.end, body)
        else:
            e.loop(work.begin, work.end, unit)

    @property
    def _rows(self) -> Value | int:
        """Of the matrix: pixels of all images."""
        return self.e.mul(self.work.images, self.k.y.pixels)

    @property
    def _row_blocks(self) -> Value | int:
        """Tiles that the rows of the matrix are cut into."""
        return self.e.divide(self.e.add(self._rows, self.k.tile_pixels - 1), self.k.tile_pixels)

    def _all_blocks(self, panel: Panel, place: Place) -> None:
        self._matrix_blocks(0, self._row_blocks, lambda block: self.tile(panel, place, block))

    def _image_blocks(self, image: Value, body: Callable[[Block], None]) -> None:
        self.e.loop(0, self.k.blocks_of_image, lambda unit, _: self._row_block(image, unit, body))

    def _matrix_blocks(self, begin: Value | int, end: Value | int, body: Callable[[Block], None]) -> None:
        """Tiles of rows of a matrix; the last one may overlap the one before it.

        Where the code is for any number of rows, the first tiles are one row higher than the others, so that none is computed twice if
        there are enough rows for that; fewer rows than a tile has go one by one.
        """
        e, k = self.e, self.k
        rows, most = self._rows, k.tile_pixels

        def tiles(first: Value | int, last: Value | int, row: Callable[[Value], Value | int], height: int) -> None:
            e.loop(first, last, lambda unit, _: body(self._matrix_block(e.sub(unit, begin), row(unit), height)))

        if k.y.pixels >= most:
            tiles(begin, end, lambda unit: e.minimum(e.mul(unit, most), e.add(rows, -most)), most)
            return
        with e.b.if_else(e.b.icmp_signed("<", rows, I64(most))) as (few, enough):
            with few:
                tiles(0, rows, lambda row: row, 1)
            with enough:
                low = most - 1
                high = e.maximum(e.sub(rows, e.mul(self._row_blocks, low)), 0)
                border = e.minimum(e.maximum(begin, high), end)
                tiles(begin, border, lambda unit: e.mul(unit, most), most)
                tiles(border, end, lambda unit: e.minimum(e.add(e.mul(unit, low), high), e.add(rows, -low)), low)

    def _matrix_block(self, number: Value | int, row: Value | int, count: int) -> Block:
        e, k = self.e, self.k
        residual = e.mul(row, k.residual.strides[-1]) if k.residual else 0
        return Block(Pixels(1, count), number, e.mul(row, k.x.strides[-1]), e.mul(row, k.y.strides[-1]), residual)

    def _row_block(self, image: Value | int, unit: Value | int, body: Callable[[Block], None]) -> None:
        """One group of rows of one plane, in tiles along the width; the last group may be lower than the others."""
        e, k = self.e, self.k
        block = e.remainder(unit, k.blocks_of_image)
        plane, group = e.divide(block, k.blocks_of_plane), e.remainder(block, k.blocks_of_plane)
        height = k.y.size[-2] if len(k.y.size) > 1 else 1
        rest = height % k.tile.rows
        row = e.mul(group, k.tile.rows)

        def rows(count: int) -> None:
            offsets = [self._offset(layout, image, plane, row) for layout in (self._input_strides, k.y, k.residual)]
            self._columns(offsets, Pixels(count, k.tile.columns), lambda pixels, places: body(Block(pixels, block, *places)))

        if not rest:
            rows(k.tile.rows)
        elif isinstance(group, int):
            rows(rest if group == k.blocks_of_plane - 1 else k.tile.rows)
        else:
            is_last = e.b.icmp_signed("==", group, I64(k.blocks_of_plane - 1))
            with e.b.if_else(is_last) as (last, full):
                with last:
                    rows(rest)
                with full:
                    rows(k.tile.rows)

    @property
    def _input_strides(self) -> Layout:
        """Steps in x from one output pixel to the next."""
        return Layout(self.k.x.channels, self.k.y.size, self.k.window.stride, self.k.x.image)

    def _offset(self, layout: Layout | None, image: Value | int, plane: Value | int, row: Value | int) -> Value | int:
        """Bytes to the first pixel of a row; planes exist in three dimensions only."""
        if layout is None:
            return 0
        e = self.e
        offset = e.mul(image, layout.image)
        if len(layout.size) > 1:
            offset = e.add(offset, e.mul(row, layout.strides[-2]))
        return e.add(offset, e.mul(plane, layout.strides[0])) if len(layout.size) > 2 else offset

    def _columns(self, offsets: list[Any], pixels: Pixels, body: Callable[[Pixels, list[Any]], None]) -> None:
        """Tiles along a row; the last one overlaps the one before it where the width is no multiple."""
        e, k = self.e, self.k
        width, step = k.y.size[-1], pixels.columns
        strides = [k.window.stride[-1], k.y.strides[-1], k.residual.strides[-1] if k.residual else 0]

        def tile(number: Value | int, _: Any) -> None:
            column = e.mul(number, step)
            if width % step:
                column = e.minimum(column, width - step)
            places = [e.add(offset, e.mul(column, stride)) for offset, stride in zip(offsets, strides, strict=True)]
            body(pixels, places)

        e.loop(0, -(-width // step), tile)

    # ---- one tile

    def tile(self, panel: Panel, place: Place, block: Block) -> None:
        """Loads the bias, sums, and writes the results."""
        e, k = self.e, self.k
        parameters = e.at(self.pointers["parameters"], place.parameters)
        size = k.isa.vector_bytes
        bias = [e.load(parameters, k.isa.sums, j * size, size) for j in range(panel.vectors)]
        count = block.pixels.rows * block.pixels.columns
        x = e.at(self.pointers["x"], e.add(e.add(block.x, place.input_channel), k.window.origin))
        weights = e.at(self.pointers["weights"], place.weights)
        acc = self.block_sum(panel, block, x, weights, bias * count)
        if k.excess:
            acc = self._plus_excess(place.number, self._tile_sum(panel, block.pixels), x, acc)
        rows = [acc[i * panel.vectors : (i + 1) * panel.vectors] for i in range(count)]
        self._finish(panel, place, block, rows, parameters)

    def sum(self, panel: Panel, pixels: Pixels, x: Value, weights: Value, acc: list[Value]) -> list[Value]:
        """acc + Σ over all taps."""
        return self._tile_sum(panel, pixels).run(x, weights, acc)

    def block_sum(self, panel: Panel, block: Block, x: Value, weights: Value, acc: list[Value]) -> list[Value]:
        """The same; where weights come from far away, a part of the next panel comes nearer on the way."""
        following = self.e.at(weights, self.k.weight_bytes(panel))
        ahead = Ahead(following, block.number, self._met) if self.k.is_streamed else None
        return self._tile_sum(panel, block.pixels, ahead).run(x, weights, acc)

    @property
    def _met(self) -> Value | int:
        """How many blocks a panel meets before the next one."""
        k, work = self.k, self.work
        if not k.by_panels:
            return self.e.b.sub(work.end, work.begin)
        return self._row_blocks if k.is_matrix else k.blocks_of_image

    def _tile_sum(self, panel: Panel, pixels: Pixels, ahead: Ahead | None = None) -> TileSum:
        return TileSum(self.e, self.k.dot, self.k.window, panel.vectors, pixels.offsets(self.k.window.stride), ahead)

    def _plus_excess(self, panel: Value | int, tile: TileSum, x: Value, acc: list[Value]) -> list[Value]:
        """The panel's further steps: as many as it has, each with its place in the input."""
        e, size = self.e, self.k.isa.vector_bytes

        def number(index: Value | int) -> Value:
            return e.b.sext(e.load(self.pointers["places"], I32, e.mul(index, NUMBER), NUMBER), I64)

        def group(index: Value, carried: list[Value]) -> list[Value]:
            steps = [e.add(e.mul(index, TOGETHER), i) for i in range(TOGETHER)]
            offsets = [number(e.add(step, len(self.k.panels) + 1)) for step in steps]
            weights = [e.at(self.pointers["excess"], e.mul(step, size)) for step in steps]
            return tile.steps(carried, [e.at(x, offset) for offset in offsets], weights)

        return e.loop(number(panel), number(e.add(panel, 1)), group, acc)

    def _finish(self, panel: Panel, place: Place, block: Block, rows: list[list[Value]], parameters: Value) -> None:
        e, k = self.e, self.k
        epilogue = Epilogue(e, k.isa, k.form, self.pointers["parameters"])
        scales = load_scales(epilogue, parameters, panel.vectors, panel.vectors)
        y = e.at(self.pointers["y"], e.add(block.y, e.mul(place.channel, 4 if k.form.floats else 1)))
        residual = None
        if k.residual:
            pointer = e.at(self.pointers["residual"], e.add(block.residual, place.channel))
            residual = Rows(pointer, block.pixels.offsets(k.residual.strides))
        TileEnd(epilogue, panel, scales, Rows(y, block.pixels.offsets(k.y.strides)), residual).write(rows)


def _as_value(value: Value | int) -> Value:
    return I64(value) if isinstance(value, int) else value

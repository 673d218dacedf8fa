"""Depthwise convolution: each channel has its own taps, so lanes are channels for the input too.

Up to four rows of one column of the input, interleaved byte by byte, are the taps of one dot product: a window of k×l takes
⌈k/4⌉·l of them. Neighbouring outputs share columns, which are carried along the row in registers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fxq.runtime.integer.conv import Conv
from fxq.runtime.jit.epilogue import HEADER_BYTES, Epilogue, Form, header
from fxq.runtime.jit.interleave import interleaved
from fxq.runtime.jit.ir import I8, I64, Emitter, Value, vec
from fxq.runtime.jit.isa import TAPS, Isa
from fxq.runtime.jit.kernel import Kernel, Layout, Planned, Span, Work
from fxq.runtime.jit.kernels.tile_end import Rows, TileEnd, load_scales
from fxq.runtime.jit.layers import Operands, layer_constants, layer_form
from fxq.runtime.jit.packing import Constants, Panel, lane_channels, pack_parameters

# from this many rows on, threads share them; below, they share the channels
_ROWS_TO_SHARE = 14


@dataclass(frozen=True)
class Taps:
    """A window in two dimensions: its height and width, and stride, dilation and padding before, for rows and columns."""

    kernel: tuple[int, int]
    stride: tuple[int, int]
    dilation: tuple[int, int]
    before: tuple[int, int]

    @property
    def row_groups(self) -> int:
        """Groups of up to four rows."""
        return -(-self.kernel[0] // TAPS)

    @property
    def carried(self) -> int:
        """Columns that the next output needs again."""
        return max(0, self.kernel[1] - self.stride[1]) if self.dilation[1] == 1 else 0


@dataclass(frozen=True)
class Depthwise(Kernel):
    """y[pixel, channel] = epilogue(bias[channel] + Σ_tap x[pixel + tap, channel]·w[channel, tap])

    Attributes:
        x, y: of two spatial dimensions.
        taps: the window.
        form: of the epilogue.
    """

    x: Layout
    y: Layout
    taps: Taps
    form: Form

    @property
    def operands(self) -> tuple[str, ...]:
        return ("x", "parameters", "y")

    @cached_property
    def by_panels(self) -> bool:
        """Whether units are blocks of channels of an image, not its rows."""
        return self.y.size[0] < _ROWS_TO_SHARE

    @cached_property
    def panels(self) -> list[Panel]:
        """Blocks of channels, wide ones first; the last one overlaps the one before it, where there are enough channels."""
        isa, channels = self.isa, self.y.channels
        widths = [vectors for vectors in self._widths if vectors * isa.lanes <= max(channels, isa.lanes)]
        panels: list[Panel] = []
        done = 0
        for vectors in widths:
            width = vectors * isa.lanes
            while channels - done >= width:
                panels.append(Panel(done, width, vectors))
                done += width
        if done < channels:
            first = max(0, channels - isa.lanes)
            panels.append(Panel(first, channels - first, 1))
        return panels

    @property
    def _widths(self) -> tuple[int, ...]:
        """Vectors to a block, most first: what is carried has to stay in registers. Wider ones than 1 are in the order of the packs."""
        columns = self.taps.row_groups * self.taps.carried
        fitting = [vectors for vectors in (4, 2) if vectors * columns <= self.isa.registers]
        return (*(fitting if self.isa.interleaves and not self.form.floats else []), 1)

    def units(self, images: int) -> int:
        return images * (len(self.panels) if self.by_panels else self.y.size[0])

    def spans(self) -> tuple[Span, ...]:
        (kh, kw), (sh, sw), (dh, dw) = self.taps.kernel, self.taps.stride, self.taps.dilation
        row, column = self.x.strides
        origin = -self.taps.before[0] * row - self.taps.before[1] * column
        rows, columns = (self.y.size[0] - 1) * sh + (kh - 1) * dh, (self.y.size[1] - 1) * sw + (kw - 1) * dw
        widest = max(panel.first + panel.vectors * self.isa.lanes for panel in self.panels)
        x = Span(origin, origin + rows * row + columns * column + widest, self.x.image)
        y_end = (self.y.size[0] - 1) * self.y.strides[0] + (self.y.size[1] - 1) * self.y.strides[1]
        y = Span(0, y_end + self.y.channels * (4 if self.form.floats else 1), self.y.image)
        return (x, Span(0, self.parameter_offset(len(self.panels))), y)

    def panel_bytes(self, panel: Panel) -> int:
        """Weights, bias, multiplier and what the form adds."""
        vectors = self.taps.row_groups * self.taps.kernel[1] + (3 if self.form.fused else 2)
        return vectors * panel.vectors * self.isa.vector_bytes

    def parameter_offset(self, number: int) -> int:
        """Where the numbers of a panel are, behind the header."""
        return HEADER_BYTES + sum(map(self.panel_bytes, self.panels[:number]))

    def emit(self, e: Emitter, work: Work) -> None:
        for first, count in self._runs():
            if self.by_panels:
                self._panels_of_range(e, work, first, count)
            else:
                e.loop(0, count, partial(self._rows_of_range, e, work, first))

    def _runs(self) -> list[tuple[int, int]]:
        """(first, count) of panels of one width that follow each other."""
        wide = len([panel for panel in self.panels if panel.vectors == self.panels[0].vectors and panel.first % panel.count == 0])
        return [(0, wide), *((number, 1) for number in range(wide, len(self.panels)))]

    def _rows_of_range(self, e: Emitter, work: Work, first: int, number: Any, _: Any) -> None:
        """Blocks of channels outside, rows inside: the rows of one block stay in the first-level cache."""
        block, height = _Block(self, e, work, first, number), self.y.size[0]
        e.loop(work.begin, work.end, lambda unit, _: block.row(e.divide(unit, height), e.remainder(unit, height)))

    def _panels_of_range(self, e: Emitter, work: Work, first: int, count: int) -> None:
        """Units are panel-major."""
        start, stop = (e.b.mul(work.images, I64(n)) for n in (first, first + count))
        begin = e.b.select(e.b.icmp_signed("<", work.begin, start), start, work.begin)

        def unit(number: Value, _: Any) -> None:
            place = e.b.sub(number, start)
            panel, image = e.b.udiv(place, work.images), e.b.urem(place, work.images)
            block = _Block(self, e, work, first, panel)
            e.loop(0, self.y.size[0], lambda row, _: block.row(image, row))

        e.loop(begin, e.minimum(work.end, stop), unit)


@dataclass(frozen=True)
class _Block:
    """Writes one block of channels: panel `number` places behind `first`."""

    k: Depthwise
    e: Emitter
    work: Work
    first: int
    number: Any

    @property
    def panel(self) -> Panel:
        return self.k.panels[self.first]

    @cached_property
    def numbers(self) -> Value:
        """Pointer to the block's weights and parameters."""
        k, e = self.k, self.e
        return e.at(self.work.pointers[1], e.add(k.parameter_offset(self.first), e.mul(self.number, k.panel_bytes(self.panel))))

    @cached_property
    def channel(self) -> Any:
        return self.e.add(self.panel.first, self.e.mul(self.number, self.panel.count))

    def _vectors(self, first: int, count: int, type: Any) -> list[Value]:
        size = self.k.isa.vector_bytes
        return [self.e.load(self.numbers, type, (first + j) * size, size) for j in range(count)]

    def row(self, image: Any, row: Any) -> None:
        """One row of outputs."""
        k, e, taps = self.k, self.e, self.k.taps
        x_row, x_column = k.x.strides
        start = -taps.before[0] * x_row - taps.before[1] * x_column
        x_offset = e.add(e.add(e.mul(image, k.x.image), e.mul(row, taps.stride[0] * x_row)), e.add(self.channel, start))
        y_offset = e.add(e.mul(image, k.y.image), e.mul(row, k.y.strides[0]))
        y_channel = e.mul(self.channel, 4 if k.form.floats else 1)
        x, y = e.at(self.work.pointers[0], x_offset), e.at(self.work.pointers[2], e.add(y_offset, y_channel))
        # two outputs at least: each parameter is loaded once for both, and loads are what limits wide blocks
        together = max(2, 4 // self.panel.vectors)
        width = k.y.size[1]
        carried = [vector for column in range(taps.carried) for vector in self._column(x, column)]

        def step(first: Any, carried: Sequence[Value], count: int) -> list[Value]:
            here, there = e.at(x, e.mul(first, taps.stride[1] * x_column)), e.at(y, e.mul(first, k.y.strides[1]))
            return self._outputs(here, there, list(carried), count)

        main = width // together * together
        carried = e.loop(0, main, lambda first, values: step(first, values, together), carried, step=together)
        if width > main:
            step(main, carried, width - main)

    def _outputs(self, x: Value, y: Value, carried: list[Value], count: int) -> list[Value]:
        """`count` neighbouring outputs; returns the columns that the next ones need."""
        taps = self.k.taps
        per_column = taps.row_groups * self.panel.vectors
        columns = {n: carried[n * per_column : (n + 1) * per_column] for n in range(taps.carried)}
        rows = []
        for output in range(count):
            needed = [output * taps.stride[1] + tap * taps.dilation[1] for tap in range(taps.kernel[1])]
            for column in needed:
                if column not in columns:
                    columns[column] = self._column(x, column)
            rows.append(self._sums([columns[column] for column in needed]))
        self._finish(rows, y)
        following = range(count * taps.stride[1], count * taps.stride[1] + taps.carried)
        return [vector for column in following for vector in columns.get(column) or self._column(x, column)]

    def _sums(self, columns: list[list[Value]]) -> list[Value]:
        """bias + Σ over the window, a vector for each group of lanes."""
        k, e, isa = self.k, self.e, self.k.isa
        vectors = self.panel.vectors
        weights = k.taps.row_groups * k.taps.kernel[1] * vectors
        acc = self._vectors(weights, vectors, isa.sums)
        for tap, column in enumerate(columns):
            for part, rows in enumerate(column):
                group, j = divmod(part, vectors)
                offset = ((tap * k.taps.row_groups + group) * vectors + j) * isa.vector_bytes
                acc[j] = isa.dot(e, acc[j], isa.activations(e, rows), isa.load_weights(e, self.numbers, offset))
        return acc

    def _column(self, x: Value, column: int) -> list[Value]:
        """The rows of one column, interleaved: for each group of four rows the block's vectors."""
        k, e, taps = self.k, self.e, self.k.taps
        row, width = k.x.strides[0] * taps.dilation[0], k.x.strides[1]
        here = e.at(x, column * width)
        result = []
        for group in range(taps.row_groups):
            rows = range(group * TAPS, min((group + 1) * TAPS, taps.kernel[0]))
            type = vec(I8, self.panel.vectors * k.isa.lanes)
            result += interleaved(e, [e.load(here, type, r * row) for r in rows], k.isa, self.panel.vectors)
        return result

    def _finish(self, rows: list[list[Value]], y: Value) -> None:
        k, vectors = self.k, self.panel.vectors
        epilogue = Epilogue(self.e, k.isa, k.form, self.work.pointers[1])
        first = (k.taps.row_groups * k.taps.kernel[1] + 1) * vectors
        scales = load_scales(epilogue, self.numbers, first, vectors)
        TileEnd(epilogue, self.panel, scales, Rows(y, [number * k.y.strides[1] for number in range(len(rows))])).write(rows)


def accepts_depthwise(op: Conv, operands: Operands) -> bool:
    """One channel in each group, one output from each, in one or two dimensions, and no residual."""
    groups, x = op.geometry.groups, operands.x
    alone = op.weight.shape[1] == 1 and groups == op.weight.shape[0] == x.channels and groups > 1
    return alone and len(x.size) <= 2 and operands.residual is None


def plan_depthwise(op: Conv, operands: Operands, isa: Isa) -> Planned:
    """A depthwise convolution; x has the border that conv_border asks for."""
    x, y = operands.x, operands.y
    geometry = op.geometry
    weight: NDArray[np.int8] = op.weight.numpy().reshape(len(op.weight), *(1,) * (2 - len(x.size)), *op.weight.shape[2:])
    taps = Taps(
        (weight.shape[1], weight.shape[2]),
        _in_plane(geometry.stride, 1),
        _in_plane(geometry.dilation, 1),
        _in_plane(tuple(before for before, _ in geometry.padding), 0),
    )
    constants = layer_constants(weight.reshape(len(weight), 1, -1), op.bias, op.multiplier, signed_input=operands.signed[0])
    kernel = Depthwise(isa, _plane(x), _plane(y), taps, layer_form(op, constants))
    blocks = [_packed_panel(kernel, panel, constants, weight) for panel in kernel.panels]
    return Planned(kernel, (np.concatenate([header(op.output), *blocks]),), weight.size * y.pixels)


def _packed_panel(kernel: Depthwise, panel: Panel, constants: Constants, weight: NDArray[np.int8]) -> NDArray[np.uint8]:
    """Per column of the kernel and group of rows: the vectors of the panel; then its parameters."""
    isa, taps = kernel.isa, kernel.taps
    lanes = lane_channels(panel, isa, natural=False)
    used = lanes < panel.count
    rows = taps.row_groups * TAPS
    padded = np.pad(weight, ((0, 0), (0, rows - weight.shape[1]), (0, 0)))
    chosen = padded[panel.first + np.where(used, lanes, 0)] * used[..., None, None].astype(np.int8)
    grouped = chosen.reshape(panel.vectors, isa.lanes, taps.row_groups, TAPS, weight.shape[2]).transpose(4, 2, 0, 1, 3)
    packed = np.ascontiguousarray(isa.arrange(grouped)).view(np.uint8).reshape(-1)
    return np.concatenate([packed, pack_parameters(constants, panel, isa, natural=False, fused=kernel.form.fused)])


def _in_plane(values: tuple[int, ...], missing: int) -> tuple[int, int]:
    row, column = values if len(values) == 2 else (missing, values[0])
    return row, column


def _plane(layout: Layout) -> Layout:
    """One dimension becomes two, of one row."""
    return layout if len(layout.size) == 2 else replace(layout, size=(1, *layout.size), strides=(0, *layout.strides))

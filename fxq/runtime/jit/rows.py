"""Loops over the pixels of a batch of images, for kernels that compute pixel by pixel."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any

from fxq.runtime.jit.ir import Emitter, Value
from fxq.runtime.jit.kernel import Layout, Span, Work


@dataclass(frozen=True)
class Rows:
    """A tensor of a kernel: the pointer to its first pixel."""

    pointer: Value
    layout: Layout


def row_count(size: tuple[int, ...]) -> int:
    """Rows of one image: the unit of these kernels."""
    return prod(size[:-1])


def each_row(e: Emitter, work: Work, size: tuple[int, ...], body: Callable[[tuple[Any, ...]], None]) -> None:
    """body((image, *indices of the outer spatial dimensions)) for each row of the range of units."""
    rows = row_count(size)

    def unit(number: Value, _: Any) -> None:
        rest, indices = e.remainder(number, rows), []
        for inner in range(1, len(size)):
            below = prod(size[inner:-1])
            indices.append(e.divide(rest, below))
            rest = e.remainder(rest, below)
        body((e.divide(number, rows), *indices))

    e.loop(work.begin, work.end, unit)


def row_offset(e: Emitter, layout: Layout, place: tuple[Any, ...]) -> Any:
    """Bytes from the pointer to the first pixel of a row."""
    offset = e.mul(place[0], layout.image)
    for index, stride in zip(place[1:], layout.strides[:-1], strict=True):
        offset = e.add(offset, e.mul(index, stride))
    return offset


def each_pixel(e: Emitter, work: Work, ends: Sequence[Rows], body: Callable[[tuple[Any, ...], list[Value]], None]) -> None:
    """body((image, *indices of the outer spatial dimensions), where the pixel is in each tensor) for each pixel of the range of units.

    Args:
        ends: tensors of the same spatial dimensions.
    """
    size = ends[0].layout.size

    def row(place: tuple[Any, ...]) -> None:
        starts = [e.at(end.pointer, row_offset(e, end.layout, place)) for end in ends]
        steps = [end.layout.strides[-1] for end in ends]
        e.loop(0, size[-1], lambda i, _: body(place, [e.at(start, e.mul(i, step)) for start, step in zip(starts, steps, strict=True)]))

    each_row(e, work, size, row)


def each_run(e: Emitter, work: Work, ends: Sequence[Rows], body: Callable[[list[Value], int], None], *, joined: bool = True) -> None:
    """body(where it is in each tensor, how many) for each run of channels: those of a pixel, or of a row whose pixels are adjacent.

    Args:
        ends: tensors that are as the last one, but for lengths of 1, which are broadcast.
        joined: whether pixels may be joined.
    """
    y, layouts = ends[-1].layout, [_still(end.layout) for end in ends]
    alike = all((layout.channels, layout.size) == (y.channels, y.size) for layout in layouts)
    adjacent = y.size[-1] == 1 or all(layout.strides[-1] == y.channels for layout in layouts)

    def row(place: tuple[Any, ...]) -> None:
        starts = [e.at(end.pointer, row_offset(e, layout, place)) for end, layout in zip(ends, layouts, strict=True)]
        if joined and alike and adjacent:
            body(starts, y.channels * y.size[-1])
            return

        def pixel(column: Any, _: Any) -> None:
            pairs = zip(starts, layouts, strict=True)
            body([e.at(start, e.mul(column, layout.strides[-1])) for start, layout in pairs], y.channels)

        e.loop(0, y.size[-1], pixel)

    each_row(e, work, y.size, row)


def _still(layout: Layout) -> Layout:
    """Dimensions of length 1 are not stepped along."""
    strides = tuple(0 if count == 1 else stride for count, stride in zip(layout.size, layout.strides, strict=True))
    return replace(layout, strides=strides)


def pixel_span(layout: Layout, element: int = 1) -> Span:
    """All channels of all pixels."""
    return Span(0, pixel_reach(layout) + layout.channels * element, layout.image)


def pixel_reach(layout: Layout) -> int:
    """Bytes from the first pixel of an image to its last one."""
    return sum((count - 1) * step for count, step in zip(layout.size, layout.strides, strict=True))


def each_vector(e: Emitter, count: int, lanes: int, body: Callable[[Any, int], None]) -> None:
    """body(first, how many) over `count` elements: whole vectors, the last of which overlaps; fewer than one vector at once."""
    if count < lanes:
        if count:
            body(0, count)
        return
    whole = count // lanes * lanes
    e.loop(0, whole, lambda first, _: body(first, lanes), step=lanes)
    if whole < count:
        body(count - lanes, lanes)

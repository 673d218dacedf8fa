"""Loops over the pixels of a batch of images, for kernels that compute pixel by pixel."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
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

"""Images in another size: copies of the nearest pixel, or fixed-point interpolation. Places and weights are in tables."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fxq.runtime.integer.resize import BITS, Bilinear, Nearest, Neighbours
from fxq.runtime.jit.ir import I8, I32, I64, Emitter, Value, splat, vec
from fxq.runtime.jit.isa import Isa
from fxq.runtime.jit.kernel import Kernel, Layout, Planned, Span, Work
from fxq.runtime.jit.kernels.doubles import widened
from fxq.runtime.jit.rows import each_row, each_vector, pixel_span, row_count, row_offset

_NUMBER = 8  # an i64
_PLACE = 3 * _NUMBER  # of an interpolated place: the elements before and behind it, and the weight of the latter


@dataclass(frozen=True)
class _Resized(Kernel):
    """Pixel by pixel of y.

    Attributes:
        x, y: of as many spatial dimensions.
    """

    x: Layout
    y: Layout

    @property
    def operands(self) -> tuple[str, ...]:
        return ("x", "places", "y")

    def units(self, images: int) -> int:
        return images * row_count(self.y.size)

    def _spans(self, place: int) -> tuple[Span, ...]:
        return (pixel_span(self.x), Span(0, sum(self.y.size) * place), pixel_span(self.y))

    def _first(self, dim: int) -> int:
        """Where the places of a dimension begin."""
        return sum(self.y.size[:dim])


@dataclass(frozen=True)
class NearestPixels(_Resized):
    """y[o] = x[places[o]]"""

    def spans(self) -> tuple[Span, ...]:
        return self._spans(_NUMBER)

    def emit(self, e: Emitter, work: Work) -> None:
        x, places, y = work.pointers

        def source(dim: int, index: Any) -> Any:
            """Bytes to the element that place `index` copies."""
            return e.mul(e.load(places, I64, e.mul(e.add(index, self._first(dim)), _NUMBER), _NUMBER), self.x.strides[dim])

        def row(place: tuple[Any, ...]) -> None:
            start = e.mul(place[0], self.x.image)
            for dim, index in enumerate(place[1:]):
                start = e.add(start, source(dim, index))
            target, last = e.at(y, row_offset(e, self.y, place)), len(self.y.size) - 1

            def pixel(column: Any, _: Any) -> None:
                here, there = e.at(x, e.add(start, source(last, column))), e.at(target, e.mul(column, self.y.strides[-1]))
                each_vector(e, self.y.channels, self.isa.vector_bytes, lambda i, n: e.store(e.load(e.at(here, i), vec(I8, n)), there, i))

            e.loop(0, self.y.size[-1], pixel)

        each_row(e, work, self.y.size, row)


@dataclass(frozen=True)
class _Between:
    """One place of one dimension: bytes to the elements before and behind it, and the weight of the latter, i32."""

    before: Value
    behind: Value
    weight: Value


@dataclass(frozen=True)
class BilinearPixels(_Resized):
    """y = (Σ w·x + half) >> 22, of two dimensions."""

    def spans(self) -> tuple[Span, ...]:
        return self._spans(_PLACE)

    def emit(self, e: Emitter, work: Work) -> None:
        x, places, y = work.pointers

        def row(place: tuple[Any, ...]) -> None:
            image = e.at(x, e.mul(place[0], self.x.image))
            vertical = self._between(e, places, 0, place[1])
            target = e.at(y, row_offset(e, self.y, place))

            def pixel(column: Any, _: Any) -> None:
                horizontal = self._between(e, places, 1, column)
                self._pixel(e, image, (vertical, horizontal), e.at(target, e.mul(column, self.y.strides[-1])))

            e.loop(0, self.y.size[-1], pixel)

        each_row(e, work, self.y.size, row)

    def _between(self, e: Emitter, places: Value, dim: int, index: Any) -> _Between:
        at = e.at(places, e.mul(e.add(index, self._first(dim)), _PLACE))
        before, behind = (e.mul(e.load(at, I64, _NUMBER * slot, _NUMBER), self.x.strides[dim]) for slot in range(2))
        return _Between(before, behind, e.load(at, I32, 2 * _NUMBER, _NUMBER))

    def _pixel(self, e: Emitter, image: Value, places: tuple[_Between, _Between], y: Value) -> None:
        vertical, horizontal = places
        corners = [[e.at(image, e.add(v, h)) for h in (horizontal.before, horizontal.behind)] for v in (vertical.before, vertical.behind)]

        def vector(first: Any, n: int) -> None:
            wide = vec(I32, n)
            rows = [self._mixed(e, [widened(e, corner, first, n, n) for corner in row], horizontal.weight) for row in corners]
            acc = e.b.add(self._mixed(e, rows, vertical.weight), splat(wide, 1 << (2 * BITS - 1)))
            e.store(e.b.trunc(e.b.ashr(acc, splat(wide, 2 * BITS)), vec(I8, n)), y, first)

        each_vector(e, self.y.channels, self.isa.lanes, vector)

    def _mixed(self, e: Emitter, values: list[Value], weight: Value) -> Value:
        """a·2^11 + (b − a)·λ"""
        a, b = values
        rise = e.b.mul(e.b.sub(b, a), e.broadcast(weight, a.type))
        return e.b.add(e.b.shl(a, splat(a.type, BITS)), rise)


def plan_nearest(op: Nearest, x: Layout, y: Layout, isa: Isa) -> Planned:
    """Copies of pixels."""
    places = [op.sources(axis).numpy() for axis in op.axes(_shaped(x), y.size)]
    return Planned(NearestPixels(isa, x, y), (np.concatenate(places).astype(np.int64).view(np.uint8),))


def plan_bilinear(op: Bilinear, x: Layout, y: Layout, isa: Isa) -> Planned:
    """Interpolation; one dimension is a plane of one row."""
    tables = [_interpolated(op.neighbours(axis)) for axis in op.axes(_shaped(x), y.size)]
    if len(tables) == 1:
        tables.insert(0, np.zeros((1, 3), np.int64))
    places = np.ascontiguousarray(np.concatenate(tables))
    return Planned(BilinearPixels(isa, _plane(x), _plane(y)), (places.reshape(-1).view(np.uint8),))


def _interpolated(places: Neighbours) -> NDArray[np.int64]:
    return np.stack([part.numpy().astype(np.int64) for part in (places.before, places.after, places.weight)], 1)


def _shaped(layout: Layout) -> torch.Tensor:
    """A tensor without memory, of that shape."""
    return torch.empty((1, layout.channels, *layout.size), device="meta")


def _plane(layout: Layout) -> Layout:
    """With two spatial dimensions."""
    return layout if len(layout.size) == 2 else replace(layout, size=(1, *layout.size), strides=(0, *layout.strides))

"""Layer, group and instance norm: exact integer statistics, then f64 in the order of fxq.runtime.integer.norm, rounded once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fxq.runtime.integer.norm import GroupNorm, LayerNorm
from fxq.runtime.jit.ir import I32, I64, Emitter, Value, splat, vec
from fxq.runtime.jit.isa import Isa
from fxq.runtime.jit.kernel import Kernel, Layout, Planned, Span, Work
from fxq.runtime.jit.kernels.doubles import (
    DOUBLE,
    F64,
    FINISH_BYTES,
    Finish,
    double_lanes,
    finish_numbers,
    finish_of,
    loaded_doubles,
    summed,
    total,
    widened,
)
from fxq.runtime.jit.rows import Rows, each_pixel, each_vector, pixel_span, row_count

_STATISTICS = 2 * DOUBLE  # of one channel of an image: Σq and r


@dataclass(frozen=True)
class Gains:
    """y = finish(fl(fl(fl(n·q − S)·r)·W) + B), W and B f64 for each channel, in the constants behind the finish and n²·e.

    Attributes:
        channels: how many W there are.
        shifted: whether B is added.
        finish: the rounding.
    """

    channels: int
    shifted: bool
    finish: Finish

    @property
    def nbytes(self) -> int:
        """Of the constants."""
        return FINISH_BYTES + DOUBLE + (2 if self.shifted else 1) * DOUBLE * self.channels

    def reciprocal(self, e: Emitter, constants: Value, count: int, sums: tuple[Value, Value]) -> Value:
        """r = fl(1/sqrt(fl(f64(n·Σq² − S²) + n²·e))) of (S, Σq²), i64."""
        plain, squares = sums
        variance = e.b.sub(e.mul(squares, count), e.b.mul(plain, plain))
        offset = e.load(constants, F64, FINISH_BYTES)
        root = e.call("llvm.sqrt.f64", F64, [e.b.fadd(e.b.sitofp(variance, F64), offset)])
        return e.b.fdiv(F64(1.0), root)

    def apply(self, e: Emitter, constants: Value, first: Any, centered: Value, reciprocal: Value) -> Value:
        """The results of centered = n·q − S, for the channels from `first` on."""
        gains = e.at(constants, FINISH_BYTES + DOUBLE)
        count = centered.type.count
        values = e.b.fmul(e.b.fmul(centered, reciprocal), loaded_doubles(e, gains, first, count))
        if self.shifted:
            values = e.b.fadd(values, loaded_doubles(e, e.at(gains, DOUBLE * self.channels), first, count))
        return self.finish.emit(e, constants, values)


def _no_sums(lanes: int) -> list[Value]:
    return [splat(vec(I64, lanes), 0)] * 2


def _added(e: Emitter, carried: list[Value], q: Value) -> list[Value]:
    """(S, Σq²) and one more i32 in each lane."""
    wide = vec(I64, q.type.count)
    return [e.b.add(carried[0], e.b.zext(q, wide)), e.b.add(carried[1], e.b.zext(e.b.mul(q, q), wide))]


@dataclass(frozen=True)
class RowNorm(Kernel):
    """Layer norm: each pixel's channels are normalized.

    Attributes:
        x, y: with the normalized dimensions as their channels.
        gains: what follows.
    """

    x: Layout
    y: Layout
    gains: Gains

    @property
    def operands(self) -> tuple[str, ...]:
        return ("x", "constants", "y")

    def units(self, images: int) -> int:
        return images * row_count(self.y.size)

    def spans(self) -> tuple[Span, ...]:
        return (pixel_span(self.x), Span(0, self.gains.nbytes), pixel_span(self.y, self.gains.finish.element))

    def emit(self, e: Emitter, work: Work) -> None:
        x, constants, y = work.pointers
        each_pixel(e, work, (Rows(x, self.x), Rows(y, self.y)), lambda _, ends: self._pixel(e, ends[0], constants, ends[1]))

    def _pixel(self, e: Emitter, x: Value, constants: Value, y: Value) -> None:
        count, lanes = self.x.channels, double_lanes(self.isa)
        found = summed(e, count, lanes, _no_sums(lanes), lambda first, n, carried: _added(e, carried, widened(e, x, first, n, lanes)))
        plain, squares = (total(e, vector) for vector in found)
        reciprocal = self.gains.reciprocal(e, constants, count, (plain, squares))
        sums = e.b.trunc(plain, I32)

        def vector(first: Any, n: int) -> None:
            scaled = e.b.mul(widened(e, x, first, n, n), splat(vec(I32, n), count))
            centered = e.b.sitofp(e.b.sub(scaled, e.broadcast(sums, scaled.type)), vec(F64, n))
            result = self.gains.apply(e, constants, first, centered, e.broadcast(reciprocal, centered.type))
            e.store(result, y, e.mul(first, self.gains.finish.element))

        each_vector(e, count, lanes, vector)


@dataclass(frozen=True)
class GroupStatistics(Kernel):
    """statistics[image] = (S, r), f64, of the group of each channel: all S, then all r. A unit is a block of groups.

    Attributes:
        x: what is normalized.
        groups: of its channels.
        gains: what follows.
    """

    x: Layout
    groups: int
    gains: Gains

    @property
    def operands(self) -> tuple[str, ...]:
        return ("x", "constants", "y")

    @property
    def _members(self) -> int:
        """Channels of a group."""
        return self.x.channels // self.groups

    @property
    def _together(self) -> int:
        """Groups whose channels fill one vector, so that all of them are summed at once; 1 where a group is longer."""
        most = max(1, double_lanes(self.isa) // self._members)
        return next(count for count in range(most, 0, -1) if self.groups % count == 0)

    def units(self, images: int) -> int:
        return images * (self.groups // self._together)

    def spans(self) -> tuple[Span, ...]:
        constants, statistics = self.gains.nbytes, _STATISTICS * self.x.channels
        return (pixel_span(self.x), Span(0, constants), Span(0, statistics, statistics))

    def emit(self, e: Emitter, work: Work) -> None:
        blocks, width = self.groups // self._together, self._together * self._members

        def unit(number: Value, _: Any) -> None:
            image, channel = e.divide(number, blocks), e.mul(e.remainder(number, blocks), width)
            x = e.at(work.pointers[0], e.add(e.mul(image, self.x.image), channel))
            y = e.at(work.pointers[2], e.add(e.mul(image, _STATISTICS * self.x.channels), e.mul(channel, DOUBLE)))
            self._block(e, x, work.pointers[1], y)

        e.loop(work.begin, work.end, unit)

    def _block(self, e: Emitter, x: Value, constants: Value, y: Value) -> None:
        members, lanes = self._members, double_lanes(self.isa)
        width = min(lanes, self._together * members)
        found = self._pixels(e, x, width, _no_sums(width))
        for group in range(self._together):
            own = range(group * members, group * members + min(members, width))
            plain, squares = (total(e, e.shuffle(vector, own)) for vector in found)
            reciprocal = self.gains.reciprocal(e, constants, self.x.pixels * members, (plain, squares))
            for value, start in ((e.b.sitofp(plain, F64), 0), (reciprocal, self.x.channels)):
                self._spread(e, value, e.at(y, DOUBLE * (start + group * members)))

    def _spread(self, e: Emitter, value: Value, y: Value) -> None:
        """The group's value, once for each of its channels."""
        each_vector(e, self._members, double_lanes(self.isa), lambda i, n: e.store(e.broadcast(value, vec(F64, n)), y, e.mul(i, DOUBLE)))

    def _pixels(self, e: Emitter, x: Value, width: int, start: list[Value]) -> list[Value]:
        def dimension(dim: int, pointer: Value, carried: list[Value]) -> list[Value]:
            if dim == len(self.x.size):
                return summed(
                    e, self._together * self._members, width, carried, lambda i, n, acc: _added(e, acc, widened(e, pointer, i, n, width))
                )
            stride = self.x.strides[dim]
            return e.loop(0, self.x.size[dim], lambda i, inner: dimension(dim + 1, e.at(pointer, e.mul(i, stride)), inner), carried)

        return dimension(0, x, start)


@dataclass(frozen=True)
class GroupApply(Kernel):
    """y = what follows the statistics of each channel.

    Attributes:
        x, y: of one shape.
        groups: of their channels.
        gains: what follows.
    """

    x: Layout
    y: Layout
    groups: int
    gains: Gains

    @property
    def operands(self) -> tuple[str, ...]:
        return ("x", "statistics", "constants", "y")

    def units(self, images: int) -> int:
        return images * row_count(self.y.size)

    def spans(self) -> tuple[Span, ...]:
        statistics = _STATISTICS * self.x.channels
        constants, y = Span(0, self.gains.nbytes), pixel_span(self.y, self.gains.finish.element)
        return (pixel_span(self.x), Span(0, statistics, statistics), constants, y)

    def emit(self, e: Emitter, work: Work) -> None:
        x, statistics, constants, y = work.pointers

        def pixel(place: tuple[Any, ...], ends: list[Value]) -> None:
            own = e.at(statistics, e.mul(place[0], _STATISTICS * self.x.channels))
            self._pixel(e, ends[0], own, constants, ends[1])

        each_pixel(e, work, (Rows(x, self.x), Rows(y, self.y)), pixel)

    def _pixel(self, e: Emitter, x: Value, statistics: Value, constants: Value, y: Value) -> None:
        channels = self.x.channels
        count = self.x.pixels * (channels // self.groups)

        def vector(first: Any, n: int) -> None:
            sums, reciprocal = (loaded_doubles(e, e.at(statistics, start), first, n) for start in (0, DOUBLE * channels))
            scaled = e.b.mul(widened(e, x, first, n, n), splat(vec(I32, n), count))
            centered = e.b.fsub(e.b.sitofp(scaled, vec(F64, n)), sums)
            result = self.gains.apply(e, constants, first, centered, reciprocal)
            e.store(result, y, e.mul(first, self.gains.finish.element))

        each_vector(e, channels, double_lanes(self.isa), vector)


@dataclass(frozen=True, eq=False)
class PlannedGroupNorm:
    """Two calls, and the bytes of each image's statistics, which the first one leaves for the second."""

    statistics: Planned
    apply: Planned
    nbytes: int


def plan_layer_norm(op: LayerNorm, x: Layout, y: Layout, isa: Isa) -> Planned:
    """Normalizes the channels of each pixel of these layouts."""
    gains = Gains(x.channels, op.bias is not None, finish_of(op.output))
    return Planned(RowNorm(isa, x, y, gains), (_constants(op, x.channels, x.channels),))


def plan_group_norm(op: GroupNorm, x: Layout, y: Layout, isa: Isa) -> PlannedGroupNorm:
    """Normalizes groups of channels of each image."""
    gains, groups = Gains(x.channels, op.bias is not None, finish_of(op.output)), op.groups
    constants = _constants(op, x.channels, x.pixels * (x.channels // groups))
    statistics = Planned(GroupStatistics(isa, x, groups, gains), (constants,))
    return PlannedGroupNorm(statistics, Planned(GroupApply(isa, x, y, groups, gains), (constants,)), _STATISTICS * x.channels)


def _constants(op: LayerNorm | GroupNorm, channels: int, count: int) -> NDArray[np.uint8]:
    """The finish, n²·e, W and B."""
    weight = np.ones(channels) if op.weight is None else op.weight.numpy().astype(np.float64).reshape(-1)
    slots = [np.array([(op.eps / op.scale_x / op.scale_x) * float(count * count)]), weight * op.inverse]
    if op.bias is not None:
        slots.append(op.bias.numpy().astype(np.float64).reshape(-1) * op.inverse)
    return np.concatenate([finish_numbers(op.output), *(slot.view(np.uint8) for slot in slots)])

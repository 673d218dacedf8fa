"""Where float values enter a program and leave it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fxq.runtime.jit.interleave import transposed
from fxq.runtime.jit.ir import F32, I8, I32, Emitter, Value, vec
from fxq.runtime.jit.isa import Isa
from fxq.runtime.jit.kernel import Kernel, Layout, Planned, Span, Work
from fxq.runtime.jit.kernels.transpose import square_side
from fxq.runtime.jit.rows import each_row, each_vector, pixel_reach, row_count, row_offset

_LANES = 16  # floats that are converted together; LLVM splits them where registers are smaller
_FLOAT = 4
_FEWEST = 8  # channels that lie in planes and change places with pixels in registers


@dataclass(frozen=True)
class FloatTensor:
    """A float tensor outside, in the dimensions of the layout inside.

    Attributes:
        layout: strides in bytes.
        channel: bytes from one channel to the next.
    """

    layout: Layout
    channel: int

    @property
    def reach(self) -> int:
        """Bytes of one image that may be touched."""
        return pixel_reach(self.layout) + (self.layout.channels - 1) * self.channel + _FLOAT


@dataclass(frozen=True)
class _Converting(Kernel):
    """Row by row, between a float tensor and bytes with adjacent channels.

    Attributes:
        floats, bytes: of the same sizes.
    """

    floats: FloatTensor
    bytes: Layout

    def units(self, images: int) -> int:
        return images * row_count(self.bytes.size)

    @property
    def _flat(self) -> bool:
        """Whether a row is one run of elements on both sides."""
        channels, floats = self.bytes.channels, self.floats
        adjacent = floats.channel == _FLOAT or channels == 1
        width = self.bytes.size[-1] == 1 or (floats.layout.strides[-1] == _FLOAT * channels and self.bytes.strides[-1] == channels)
        return adjacent and width

    def _float_span(self) -> Span:
        return Span(0, self.floats.reach, self.floats.layout.image)

    def _byte_span(self) -> Span:
        return Span(0, pixel_reach(self.bytes) + self.bytes.channels, self.bytes.image)


@dataclass(frozen=True)
class Quantize(_Converting):
    """q = clip(rint(fl(x·inv)) + z, qmin, qmax); NaN → qmin, ±inf saturate."""

    @property
    def operands(self) -> tuple[str, ...]:
        return ("x", "parameters", "y")

    def spans(self) -> tuple[Span, ...]:
        return (self._float_span(), Span(0, 4 * _LANES * 4), self._byte_span())

    def emit(self, e: Emitter, work: Work) -> None:
        x, parameters, y = work.pointers

        def row(place: tuple[Any, ...]) -> None:
            source, target = e.at(x, row_offset(e, self.floats.layout, place)), e.at(y, row_offset(e, self.bytes, place))
            self._row(e, source, target, parameters)

        each_row(e, work, self.bytes.size, row)

    def _row(self, e: Emitter, x: Value, y: Value, parameters: Value) -> None:
        width, channels, floats = self.bytes.size[-1], self.bytes.channels, self.floats
        if self._flat:
            each_vector(e, width * channels, _LANES, lambda i, n: self._run(e, e.at(x, e.mul(i, _FLOAT)), e.at(y, i), n, parameters))
        elif floats.channel == _FLOAT or channels == 1:
            step, own = floats.layout.strides[-1], self.bytes.strides[-1]

            def pixel(p: Any, _: Any) -> None:
                source, target = e.at(x, e.mul(p, step)), e.at(y, e.mul(p, own))
                each_vector(e, channels, _LANES, lambda i, n: self._run(e, e.at(source, e.mul(i, _FLOAT)), e.at(target, i), n, parameters))

            e.loop(0, width, pixel)
        elif self._side:
            own = self.bytes.strides[-1]

            def square(p: Any, c: Any) -> None:
                source = e.at(x, e.add(e.mul(p, _FLOAT), e.mul(c, floats.channel)))
                self._square(e, source, e.at(y, e.add(e.mul(p, own), c)), parameters)

            each_vector(e, width, self._side, lambda p, _: each_vector(e, channels, self._side, lambda c, _: square(p, c)))
        elif floats.layout.strides[-1] == _FLOAT:
            each_vector(
                e,
                width,
                _LANES,
                lambda p, n: self._planes(e, e.at(x, e.mul(p, _FLOAT)), e.at(y, e.mul(p, self.bytes.strides[-1])), n, parameters),
            )
        else:
            self._singly(e, x, y, parameters)

    def _run(self, e: Emitter, x: Value, y: Value, count: int, parameters: Value) -> None:
        """Adjacent elements on both sides."""
        e.store(self._quantized(e, e.load(x, vec(F32, count)), parameters), y)

    @property
    def _side(self) -> int:
        """Of the squares in which channels that lie in planes become adjacent; 0 where they do not, or are few."""
        in_planes = self.floats.layout.strides[-1] == _FLOAT and self.bytes.channels >= _FEWEST
        return square_side(self.bytes.channels, self.bytes.size[-1], 1, self.isa) if in_planes else 0

    def _square(self, e: Emitter, x: Value, y: Value, parameters: Value) -> None:
        """As many pixels as channels."""
        planes = (e.load(x, vec(F32, self._side), c * self.floats.channel) for c in range(self._side))
        for pixel, channels in enumerate(transposed(e, [self._quantized(e, values, parameters) for values in planes])):
            e.store(channels, y, pixel * self.bytes.strides[-1])

    def _planes(self, e: Emitter, x: Value, y: Value, count: int, parameters: Value) -> None:
        """`count` pixels of few channels, which lie in planes; three are interleaved in registers, others are stored one by one."""
        channels, step = self.bytes.channels, self.bytes.strides[-1]
        if channels == 3 and step == 3 and count == _LANES:
            planes = [self._quantized(e, e.load(x, vec(F32, count), c * self.floats.channel), parameters) for c in range(3)]
            two, third = e.shuffle(planes[0], range(2 * count), planes[1]), e.shuffle(planes[2], [*range(count), *range(count)])
            e.store(e.shuffle(two, [c * count + p for p in range(count) for c in range(3)], third), y)
            return

        def channel(c: Any, _: Any) -> None:
            values = self._quantized(e, e.load(x, vec(F32, count), e.mul(c, self.floats.channel)), parameters)
            for pixel in range(count):
                e.store(e.b.extract_element(values, I32(pixel)), e.at(y, c), pixel * step)

        e.loop(0, channels, channel)

    def _singly(self, e: Emitter, x: Value, y: Value, parameters: Value) -> None:
        """Any strides."""
        step, own = self.floats.layout.strides[-1], self.bytes.strides[-1]

        def element(p: Any, c: Any) -> None:
            source = e.at(x, e.add(e.mul(p, step), e.mul(c, self.floats.channel)))
            e.store(self._quantized(e, e.load(source, vec(F32, 1)), parameters), e.at(y, e.add(e.mul(p, own), c)))

        def pixel(p: Any, _: Any) -> None:
            e.loop(0, self.bytes.channels, lambda c, _: element(p, c))

        e.loop(0, self.bytes.size[-1], pixel)

    def _quantized(self, e: Emitter, values: Value, parameters: Value) -> Value:
        lanes = values.type.count
        inverse, low, high = (e.load(parameters, vec(F32, lanes), slot * 4 * _LANES) for slot in range(3))
        zero_point = e.load(parameters, vec(I32, lanes), 3 * 4 * _LANES)
        scaled = e.b.fmul(values, inverse)
        raised = e.b.select(e.b.fcmp_ordered(">", scaled, low), scaled, low)  # NaN → low
        clipped = e.b.select(e.b.fcmp_ordered("<", raised, high), raised, high)
        return e.b.trunc(e.b.add(self.isa.rint(e, clipped), zero_point), vec(I8, lanes))


def plan_quantize(spec: Mapping[str, Any], x: FloatTensor, y: Layout, isa: Isa) -> Planned:
    """Args: spec: scale, zero_point, qmin, qmax of a quantize step."""
    inverse = np.float32(1) / np.float32(spec["scale"])
    zero_point, qmin, qmax = spec["zero_point"], spec.get("qmin", 0), spec.get("qmax", 255)
    stored = zero_point + (128 if qmin < 0 else 0)
    slots = [np.full(_LANES, number, np.float32) for number in (inverse, qmin - zero_point, qmax - zero_point)]
    return Planned(Quantize(isa, x, y), (_packed([*slots, np.full(_LANES, stored, np.int32)]),))


@dataclass(frozen=True)
class Dequantize(_Converting):
    """x' = fl(s·f32(q − z))"""

    @property
    def operands(self) -> tuple[str, ...]:
        return ("x", "parameters", "y")

    def spans(self) -> tuple[Span, ...]:
        return (self._byte_span(), Span(0, 2 * _LANES * 4), self._float_span())

    def emit(self, e: Emitter, work: Work) -> None:
        x, parameters, y = work.pointers

        def row(place: tuple[Any, ...]) -> None:
            self._row(e, e.at(x, row_offset(e, self.bytes, place)), e.at(y, row_offset(e, self.floats.layout, place)), parameters)

        each_row(e, work, self.bytes.size, row)

    def _row(self, e: Emitter, x: Value, y: Value, parameters: Value) -> None:
        width, channels, floats = self.bytes.size[-1], self.bytes.channels, self.floats
        if self._flat:
            each_vector(e, width * channels, _LANES, lambda i, n: self._run(e, e.at(x, i), e.at(y, e.mul(i, _FLOAT)), n, parameters))
            return

        def pixel(p: Any, _: Any) -> None:
            source, target = e.at(x, e.mul(p, self.bytes.strides[-1])), e.at(y, e.mul(p, floats.layout.strides[-1]))
            each_vector(
                e, channels, _LANES, lambda i, n: self._run(e, e.at(source, i), e.at(target, e.mul(i, floats.channel)), n, parameters)
            )

        e.loop(0, width, pixel)

    def _run(self, e: Emitter, x: Value, y: Value, count: int, parameters: Value) -> None:
        """Adjacent bytes → floats, one channel stride apart."""
        scale, zero_point = e.load(parameters, vec(F32, count)), e.load(parameters, vec(I32, count), 4 * _LANES)
        centered = e.b.sub(e.b.zext(e.load(x, vec(I8, count)), vec(I32, count)), zero_point)
        values = e.b.fmul(scale, e.b.sitofp(centered, vec(F32, count)))
        if self._flat or self.floats.channel == _FLOAT:
            e.store(values, y)
            return
        for lane in range(count):
            e.store(e.b.extract_element(values, I32(lane)), y, lane * self.floats.channel)


def plan_dequantize(spec: Mapping[str, Any], x: Layout, y: FloatTensor, isa: Isa) -> Planned:
    """Args: spec: scale, zero_point, qmin of a dequantize step."""
    stored = spec["zero_point"] + (128 if spec.get("qmin", 0) < 0 else 0)
    return Planned(Dequantize(isa, y, x), (_packed([np.full(_LANES, spec["scale"], np.float32), np.full(_LANES, stored, np.int32)]),))


def _packed(slots: list[NDArray[Any]]) -> NDArray[np.uint8]:
    return np.concatenate([slot.view(np.uint8) for slot in slots])

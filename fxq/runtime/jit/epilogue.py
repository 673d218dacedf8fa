"""Accumulators → results: the multiplication, the residual, the activation, the rounding and the bounds, in registers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fxq.runtime.integer.outputs import FloatOutput, IntegerOutput, Output, Residual
from fxq.runtime.jit.curves import CURVES, Curves
from fxq.runtime.jit.ir import I16, Emitter, Type, Value, splat, vec
from fxq.runtime.jit.isa import Isa, Raised

# acc + MAGIC_BITS, taken as the bits of a float, is MAGIC + acc for |acc| < 2^22: converting and multiplying is one fma then
MAGIC, MAGIC_BITS = 12582912.0, 0x4B400000

# bytes of a header: what all channels share, each value in all lanes of one register of the widest ISA
_SLOT = 64
_ZERO_POINT, _LOW, _HIGH, _INVERSE, _SLOPE, _RATIO, _RESIDUAL_ZERO_POINT = (_SLOT * number for number in range(7))
HEADER_BYTES = 7 * _SLOT

_SIXTH = float(np.float32(1) / np.float32(6))
# beyond it the conversion to i32 has no result; the packs and bounds behind it give the same bytes from here on
_SATURATED = float(2**30)


@dataclass(frozen=True)
class Form:
    """All of an epilogue that its code depends on; the numbers are in the header.

    Attributes:
        floats: results are f32, not bytes.
        fused: convert and multiply is one fma on accumulators that carry MAGIC_BITS.
        guarded: values may be too large for the conversion to i32.
        bounded: bounds are tighter than the result's type.
        shifted: the zero point is not 0.
        activation: on the real value: of fxq.runtime.integer.outputs, or a key of CURVES.
        centered: the residual's zero point is 0.
    """

    floats: bool
    fused: bool = False
    guarded: bool = False
    bounded: bool = False
    shifted: bool = False
    activation: str | None = None
    centered: bool = False


def form_of(output: Output, *, fused: bool = False, largest: float = np.inf) -> Form:
    """The form of an op with that output.

    Args:
        fused: whether accumulators carry MAGIC_BITS.
        largest: bound of |v| in steps of the result, the residual's part included.
    """
    activation = output.activation.kind if output.activation else None
    if isinstance(output, FloatOutput):
        return Form(True, fused, bounded=bool(np.isfinite(output.low) or np.isfinite(output.high)), activation=activation)
    low, high, zero_point = byte_bounds(output)
    return Form(False, fused, not largest < _SATURATED, low > 0 or high < 255, zero_point != 0, activation)


def byte_bounds(output: IntegerOutput) -> tuple[int, int, int]:
    """low, high and zero point of the result as programs store it: an int8 value is q + 128."""
    shift = 128 if output.dtype == "int8" else 0
    return output.low + shift, output.high + shift, output.zero_point + shift


def header(output: Output, residual: Residual | None = None, *, residual_signed: bool = False) -> NDArray[np.uint8]:
    """The numbers of an epilogue, u8 [HEADER_BYTES]."""
    if isinstance(output, FloatOutput):
        slots: list[NDArray[Any]] = [np.zeros(32, np.int16), np.full(16, output.low, np.float32), np.full(16, output.high, np.float32)]
    else:
        low, high, zero_point = byte_bounds(output)
        slots = [np.full(32, zero_point, np.int16), np.full(64, low, np.uint8), np.full(64, high, np.uint8)]
    inverse = 1.0 if isinstance(output, FloatOutput) or output.inverse is None else output.inverse
    slope = output.activation.slope if output.activation else 0.0
    ratio, zero_point = (residual.ratio, residual.zero_point + 128 * residual_signed) if residual else (0.0, 0)
    slots += [np.full(16, number, np.float32) for number in (inverse, slope, ratio, zero_point)]
    return np.concatenate([slot.view(np.uint8) for slot in slots])


@dataclass(frozen=True)
class Epilogue:
    """Writes what comes after the accumulators. All vectors have the ISA's lanes.

    Attributes:
        e, isa, form: what is written, and how.
        header: pointer to the numbers.
    """

    e: Emitter
    isa: Isa
    form: Form
    header: Value

    def scaled(self, acc: Value, multiplier: Value, correction: Value | None = None) -> Value:
        """fl(f32(acc)·multiplier); correction = −MAGIC·multiplier where the form is fused."""
        b, reals = self.e.b, self.isa.reals
        if correction is None:
            return b.fmul(b.sitofp(acc, reals), multiplier)
        return self.e.call(f"llvm.fma.v{reals.count}f32", reals, [b.bitcast(acc, reals), multiplier, correction])

    def addend(self, lanes: NDArray[np.int64]) -> Addend:
        """For residuals whose bytes lie so in a row; its numbers are loaded here."""
        return Addend(self.e, self.isa, lanes, self._number(_RATIO), None if self.form.centered else self._number(_RESIDUAL_ZERO_POINT))

    def bytes(self, rows: Sequence[Sequence[Value]]) -> list[Value]:
        """clip(rint(u) + z, low, high) of each row of values, in the order of the channels."""
        return self.integers([[self.isa.rint(self.e, self._guarded(self._activated(v))) for v in row] for row in rows])

    def integers(self, rows: Sequence[Sequence[Value]]) -> list[Value]:
        """clip(i + z, low, high) of each row of i32 vectors."""
        zero_point = self._number(_ZERO_POINT, vec(I16, 2 * self.isa.lanes)) if self.form.shifted else None
        packed = self.isa.pack_rows(self.e, rows, zero_point)
        return [self._bounded(row) for row in packed] if self.form.bounded else packed

    def floats(self, values: Value) -> Value:
        """clamp(u, low, high)"""
        activated = self._activated(values)
        if not self.form.bounded:
            return activated
        return self._clamped(activated, self._number(_LOW), self._number(_HIGH))

    def _bounded(self, row: Value) -> Value:
        low, high = self._number(_LOW, row.type), self._number(_HIGH, row.type)
        name = f"v{row.type.count}i8"
        raised = self.e.call(f"llvm.umax.{name}", row.type, [row, low])
        return self.e.call(f"llvm.umin.{name}", row.type, [raised, high])

    def _activated(self, values: Value) -> Value:
        """u = f(v), in steps of the result where that is bytes."""
        if self.form.activation is None:
            return values
        b, reals = self.e.b, self.isa.reals
        if self.form.activation in CURVES:
            activated = CURVES[self.form.activation](Curves(self.e, reals), values)
        elif self.form.activation == "leaky_relu":
            below = b.fmul(values, self._number(_SLOPE))
            activated = b.select(b.fcmp_ordered(">=", values, splat(reals, 0.0)), values, below)
        else:
            gate = self._clamped(b.fadd(values, splat(reals, 3.0)), splat(reals, 0.0), splat(reals, 6.0))
            gated = gate if self.form.activation == "hardsigmoid" else b.fmul(gate, values)
            activated = b.fmul(gated, splat(reals, _SIXTH))
        return activated if self.form.floats else b.fmul(activated, self._number(_INVERSE))

    def _guarded(self, values: Value) -> Value:
        if not self.form.guarded:
            return values
        return self._clamped(values, splat(self.isa.reals, -_SATURATED), splat(self.isa.reals, _SATURATED))

    def _clamped(self, values: Value, low: Value, high: Value) -> Value:
        b = self.e.b
        raised = b.select(b.fcmp_ordered(">", values, low), values, low)
        return b.select(b.fcmp_ordered("<", raised, high), raised, high)

    def _number(self, slot: int, type: Type | None = None) -> Value:
        return self.e.load(self.header, type or self.isa.reals, slot, _SLOT)


@dataclass(frozen=True)
class Addend:
    """v → fl(v + fl(f32(a − z_a)·ratio)) for bytes a.

    Attributes:
        lanes: [vectors, lanes]: where each lane's byte is in a row.
        ratio: in all lanes.
        zero_point: f32; None for 0.
    """

    e: Emitter
    isa: Isa
    lanes: NDArray[np.int64]
    ratio: Value
    zero_point: Value | None

    def plus(self, values: Sequence[Value], row: Value) -> list[Value]:
        """The vectors of one pixel and its row of residual bytes."""
        widened = self.isa.widened(self.e, row, self.lanes)
        return [self.e.b.fadd(v, self._scaled(a)) for v, a in zip(values, widened, strict=True)]

    def _scaled(self, a: Raised) -> Value:
        """base is 0 or a power of two: (base + a)·ratio − base·ratio, rounded once, is fl(a·ratio)."""
        b, base = self.e.b, splat(self.isa.reals, a.base)
        if self.zero_point is not None:
            return b.fmul(b.fsub(a.values, b.fadd(self.zero_point, base)), self.ratio)
        if not a.base:
            return b.fmul(a.values, self.ratio)
        return self.isa.multiply_add(self.e, a.values, self.ratio, b.fneg(b.fmul(base, self.ratio)))


def store_bytes(e: Emitter, row: Value, count: int, pointer: Value, offset: Value | int) -> None:
    """The first `count` bytes of a vector, in pieces of powers of two."""
    done = 0
    while done < count:
        piece = 1 << ((count - done).bit_length() - 1)
        part = row if piece == row.type.count else e.shuffle(row, range(done, done + piece))
        e.store(part, pointer, e.add(offset, done))
        done += piece


def store_floats(e: Emitter, values: Sequence[Value], count: int, pointer: Value, offset: Value | int) -> None:
    """The first `count` floats of some vectors, in pieces of powers of two."""
    for index, vector in enumerate(values):
        lanes = vector.type.count
        done, wanted = 0, min(lanes, count - index * lanes)
        while done < wanted:
            piece = 1 << ((wanted - done).bit_length() - 1)
            part = vector if piece == lanes else e.shuffle(vector, range(done, done + piece))
            e.store(part, pointer, e.add(offset, 4 * (index * lanes + done)))
            done += piece

"""Accumulators of one tile of pixels × channels → its results in memory: the end of every convolution and linear layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fxq.runtime.jit.epilogue import Addend, Epilogue, store_bytes, store_floats
from fxq.runtime.jit.ir import I8, Value, vec
from fxq.runtime.jit.packing import Panel, lane_channels

# vectors of accumulators that become bytes together
_TOGETHER = 4


@dataclass(frozen=True)
class Scales:
    """Of the channels of a panel, vector by vector: multipliers, and where the form is fused the corrections of fused products."""

    multipliers: Sequence[Value]
    corrections: Sequence[Value | None]


def load_scales(epilogue: Epilogue, parameters: Value, first: int, vectors: int) -> Scales:
    """From the vectors behind the parameters, from number `first` on."""
    e, isa = epilogue.e, epilogue.isa
    size, fused = isa.vector_bytes, epilogue.form.fused
    loaded = [e.load(parameters, isa.reals, (first + j) * size, size) for j in range((1 + fused) * vectors)]
    return Scales(loaded[:vectors], loaded[vectors:] or [None] * vectors)


@dataclass(frozen=True)
class Rows:
    """The channels of a panel of some pixels: where the first pixel's are, and bytes from there to each pixel's."""

    pointer: Value
    offsets: Sequence[int]


@dataclass(frozen=True)
class TileEnd:
    """Writes it, a few pixels at a time: results are stored before the next ones need registers.

    Attributes:
        panel: the channels.
        y: results.
        residual: bytes that are added; None for none.
    """

    epilogue: Epilogue
    panel: Panel
    scales: Scales
    y: Rows
    residual: Rows | None = None

    def write(self, sums: Sequence[Sequence[Value]]) -> None:
        """Of accumulators [pixels][vectors]."""
        epilogue = self.epilogue
        addend = epilogue.addend(lane_channels(self.panel, epilogue.isa, natural=epilogue.form.floats)) if self.residual else None
        together = max(1, _TOGETHER // self.panel.vectors)
        for first in range(0, len(sums), together):
            values = [self._scaled(row) for row in sums[first : first + together]]
            if addend:
                values = [self._plus(addend, row, pixel) for pixel, row in enumerate(values, first)]
            self._store(first, values)

    def _scaled(self, row: Sequence[Value]) -> list[Value]:
        factors = zip(row, self.scales.multipliers, self.scales.corrections, strict=True)
        return [self.epilogue.scaled(acc, multiplier, correction) for acc, multiplier, correction in factors]

    def _plus(self, addend: Addend, values: Sequence[Value], pixel: int) -> list[Value]:
        assert self.residual is not None
        type = vec(I8, self.panel.vectors * self.epilogue.isa.lanes)
        return addend.plus(values, self.epilogue.e.load(self.residual.pointer, type, self.residual.offsets[pixel]))

    def _store(self, first: int, values: Sequence[Sequence[Value]]) -> None:
        e, offsets = self.epilogue.e, self.y.offsets[first : first + len(values)]
        if self.epilogue.form.floats:
            for row, offset in zip(values, offsets, strict=True):
                store_floats(e, [self.epilogue.floats(v) for v in row], self.panel.count, self.y.pointer, offset)
            return
        for packed, offset in zip(self.epilogue.bytes(values), offsets, strict=True):
            store_bytes(e, packed, self.panel.count, self.y.pointer, offset)

"""W·h of a time loop: bytes of the hidden state times int8 weights, or its floats times weights of few bits.

Both come in panels of one vector for each gate of the same channels.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fxq.runtime.jit.epilogue import HEADER_BYTES
from fxq.runtime.jit.ir import F32, Emitter, Value, vec
from fxq.runtime.jit.kernel import Span, Work
from fxq.runtime.jit.kernels.dynamic_gemm import DynamicGemm
from fxq.runtime.jit.kernels.dynamic_rows import FLOAT, PAIR_BYTES, quantize_row
from fxq.runtime.jit.kernels.gemm import Tiles
from fxq.runtime.jit.kernels.gemm_shape import Pixels
from fxq.runtime.jit.kernels.grouped_rows import GroupedPanel, GroupedRows
from fxq.runtime.jit.rows import each_vector

# what is gained by more is less than what their code takes
_MOST_SEQUENCES = 8


@dataclass(frozen=True)
class Tile:
    """What is computed at once.

    Attributes:
        pointers: name of an operand → pointer to the first sequence's.
        work: of the call.
        first: sequence.
        count: of sequences.
        block: number of the panel.
    """

    pointers: Mapping[str, Value]
    work: Work
    first: Value
    count: int
    block: Any


class HiddenProduct(ABC):
    """Of one step. What it reads of the hidden state is kept apart, as blocks of channels replace it one after the other."""

    @property
    @abstractmethod
    def tile_sequences(self) -> int:
        """How many sequences are computed at once, if there are so many."""

    @property
    @abstractmethod
    def constants(self) -> Mapping[str, Span]:
        """Operands that all sequences share."""

    @property
    @abstractmethod
    def kept(self) -> Mapping[str, int]:
        """Operands with a row for each sequence → its bytes."""

    @abstractmethod
    def keep(self, e: Emitter, h: Value, rows: Sequence[Value]) -> None:
        """Stores what is read of a hidden state. Args: rows: pointers, in the order of `kept`."""

    @abstractmethod
    def sums(self, e: Emitter, tile: Tile) -> list[list[Value]]:
        """Of each sequence, a vector for each gate, with the bias."""


@dataclass(frozen=True)
class ByteProduct(HiddenProduct):
    """Rows are quantized with qparams of their own."""

    gemm: DynamicGemm

    @property
    def tile_sequences(self) -> int:
        return self.gemm.tile_pixels

    @property
    def constants(self) -> Mapping[str, Span]:
        gemm = self.gemm
        weights = gemm.weight_bytes(gemm.panels[0]) * len(gemm.panels)
        return {"weights": Span(0, weights), "parameters": Span(0, gemm.parameter_offset(len(gemm.panels)))}

    @property
    def kept(self) -> Mapping[str, int]:
        return {"bytes": self.gemm.x.image, "qparams": PAIR_BYTES}

    def keep(self, e: Emitter, h: Value, rows: Sequence[Value]) -> None:
        quantize_row(e, self.gemm.isa, (h, *rows), self.gemm.x.channels)

    def sums(self, e: Emitter, tile: Tile) -> list[list[Value]]:
        gemm, pointers, gates = self.gemm, tile.pointers, self.gemm.vectors
        panel = gemm.panels[0]
        parameters = e.at(pointers["parameters"], e.add(HEADER_BYTES, e.mul(tile.block, gemm.parameter_bytes(panel))))
        rows = [e.at(pointers["qparams"], e.add(e.mul(tile.first, PAIR_BYTES), r * PAIR_BYTES)) for r in range(tile.count)]
        acc = gemm.start(e, parameters, rows, gates)
        x = e.at(pointers["bytes"], e.mul(tile.first, gemm.x.image))
        weights = e.at(pointers["weights"], e.mul(tile.block, gemm.weight_bytes(panel)))
        acc = Tiles(gemm, e, tile.work).sum(panel, Pixels(1, tile.count), x, weights, acc)
        return [gemm.real(e, acc[r * gates : (r + 1) * gates], row, parameters) for r, row in enumerate(rows)]


@dataclass(frozen=True)
class FloatProduct(HiddenProduct):
    """Rows stay as they are."""

    rows: GroupedRows

    @property
    def tile_sequences(self) -> int:
        """Their sums, a vector of weights for each gate and one of the hidden state stay in registers."""
        rows = self.rows
        return max(1, min(_MOST_SEQUENCES, (rows.isa.registers - rows.vectors - 2) // (rows.vectors + rows.shifted)))

    @property
    def constants(self) -> Mapping[str, Span]:
        spans = zip(self.rows.operands, self.rows.spans(), strict=True)
        return {name: span for name, span in spans if name not in ("x", "y")}

    @property
    def kept(self) -> Mapping[str, int]:
        return {"previous": self._row_bytes}

    @property
    def _row_bytes(self) -> int:
        return FLOAT * self.rows.features

    def keep(self, e: Emitter, h: Value, rows: Sequence[Value]) -> None:
        def part(first: Any, lanes: int) -> None:
            offset = e.mul(first, FLOAT)
            e.store(e.load(e.at(h, offset), vec(F32, lanes)), e.at(rows[0], offset))

        each_vector(e, self.rows.features, self.rows.isa.lanes, part)

    def sums(self, e: Emitter, tile: Tile) -> list[list[Value]]:
        first = e.at(tile.pointers["previous"], e.mul(tile.first, self._row_bytes))
        panel = GroupedPanel(self.rows, e, self.rows.panel(e, tile.pointers, tile.block), tile.block)
        return panel.sums([e.at(first, r * self._row_bytes) for r in range(tile.count)])

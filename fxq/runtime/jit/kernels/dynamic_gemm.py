"""Rows that were quantized as they arrived, times int8 weights: a Gemm whose rows have qparams of their own and whose results are real."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fxq.runtime.jit.epilogue import Epilogue, Form, store_floats
from fxq.runtime.jit.ir import F32, I32, Emitter, Value
from fxq.runtime.jit.isa import Isa
from fxq.runtime.jit.kernel import Layout, Span, Work
from fxq.runtime.jit.kernels.dynamic_rows import FLOAT, PAIR_BYTES
from fxq.runtime.jit.kernels.gemm import Block, Place, Tiles
from fxq.runtime.jit.kernels.gemm_shape import GemmShape, Window
from fxq.runtime.jit.packing import Panel, lane_channels


@dataclass(frozen=True)
class DynamicGemm(GemmShape):
    """y[row, c] = fl(fl(f32(acc)·fl(s[row]·s_w[c])) + bias[c]), acc = −z[row]·Σw[c] + Σ x[row]·w[c]; then activation and bounds.

    `residual` is where (s, z) of each row are.

    Attributes:
        biased: there is a bias; it is not added otherwise.
    """

    biased: bool = True

    @property
    def name(self) -> str:
        return "dynamic_gemm"

    @property
    def operands(self) -> tuple[str, ...]:
        return ("x", "weights", "parameters", "qparams", "y")

    def emit(self, e: Emitter, work: Work) -> None:
        _DynamicTiles(self, e, work).emit()

    def parameter_bytes(self, panel: Panel) -> int:
        """Sums of weights, scales and biases."""
        return 3 * panel.vectors * self.isa.vector_bytes

    def _residual_span(self, residual: Layout) -> Span:
        return Span(0, PAIR_BYTES, residual.image)

    def start(self, e: Emitter, parameters: Value, rows: Sequence[Value], vectors: int) -> list[Value]:
        """What the accumulators of a tile start from: −z·Σw, for each row its vectors.

        Args:
            parameters: of the panel.
            rows: pointers to (s, z) of each.
        """
        size = self.isa.vector_bytes
        sums = [e.load(parameters, self.isa.sums, j * size, size) for j in range(vectors)]
        shifts = [e.broadcast(e.b.neg(e.load(row, I32, FLOAT)), self.isa.sums) for row in rows]
        return [e.b.mul(shift, total) for shift in shifts for total in sums]

    def real(self, e: Emitter, acc: Sequence[Value], row: Value, parameters: Value) -> list[Value]:
        """fl(fl(f32(acc)·fl(s·s_w)) + bias) of the vectors of one row."""
        size, reals, vectors = self.isa.vector_bytes, self.isa.reals, len(acc)
        scale = e.broadcast(e.load(row, F32), reals)
        values = []
        for j, total in enumerate(acc):
            factor = e.b.fmul(scale, e.load(parameters, reals, (vectors + j) * size, size))
            value = e.b.fmul(e.b.sitofp(total, reals), factor)
            values.append(e.b.fadd(value, e.load(parameters, reals, (2 * vectors + j) * size, size)) if self.biased else value)
        return values


@dataclass(frozen=True)
class _DynamicTiles(Tiles):
    k: DynamicGemm

    def tile(self, panel: Panel, place: Place, block: Block) -> None:
        e, k = self.e, self.k
        parameters = e.at(self.pointers["parameters"], place.parameters)
        rows = [e.at(self.pointers["qparams"], e.add(block.residual, r * PAIR_BYTES)) for r in range(block.pixels.columns)]
        x = e.at(self.pointers["x"], block.x)
        acc = k.start(e, parameters, rows, panel.vectors)
        acc = self.block_sum(panel, block, x, e.at(self.pointers["weights"], place.weights), acc)
        epilogue = Epilogue(e, k.isa, k.form, self.pointers["parameters"])
        for number, row in enumerate(rows):
            values = k.real(e, acc[number * panel.vectors : (number + 1) * panel.vectors], row, parameters)
            offset = e.add(e.add(block.y, number * k.y.strides[-1]), e.mul(place.channel, FLOAT))
            store_floats(e, [epilogue.floats(value) for value in values], panel.count, e.at(self.pointers["y"], offset), 0)


@dataclass(frozen=True)
class RowShape:
    """What the code for a product of rows depends on.

    Attributes:
        features, outputs: of a row of x, of y.
        form: of the epilogue.
        biased: there is a bias.
    """

    features: int
    outputs: int
    form: Form
    biased: bool

    @property
    def padded(self) -> int:
        """Bytes of a quantized row: whole cache lines, so that reading four bytes at a time stays inside."""
        return -(-self.features // 64) * 64


def dynamic_gemm(shape: RowShape, isa: Isa, *, by_panels: bool, vectors: int | None = None) -> DynamicGemm:
    """The kernel; each row is an image, so that any number of them is computed with the same code.

    Args:
        vectors: of a panel; None: so many that a single row keeps the multipliers busy.
    """
    rows = ((shape.features, shape.padded), (shape.outputs, FLOAT * shape.outputs), (2, PAIR_BYTES))
    x, y, qparams = (Layout(count, (1,), (step,), step) for count, step in rows)
    vectors = vectors or (4 if isa.registers >= 32 else 2)
    return DynamicGemm(isa, x, y, qparams, Window(0, (), shape.features, x.strides), 1, shape.form, vectors, by_panels, biased=shape.biased)


@dataclass(frozen=True, eq=False)
class RowParameters:
    """Beside the weights, per output channel: Σw i32, s_w f32, bias f32."""

    sums: NDArray[np.int32]
    scale: NDArray[np.float32]
    bias: NDArray[np.float32]

    def pack(self, panel: Panel, isa: Isa) -> NDArray[np.uint8]:
        """Each in the vectors of the panel; 0 in lanes without a channel."""
        lanes = lane_channels(panel, isa, natural=True)
        used = lanes < panel.count
        channels = panel.first + np.where(used, lanes, 0)
        blocks = [np.where(used, values[channels], 0).astype(values.dtype) for values in (self.sums, self.scale, self.bias)]
        return np.concatenate([block.reshape(-1).view(np.uint8) for block in blocks])

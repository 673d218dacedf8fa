"""Recurrent layers as machine code: the products of all inputs at once, then the time loop."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fxq.runtime.dynamic.cells import Cell, States
from fxq.runtime.dynamic.layers import Layer, Product, Steps, run_steps
from fxq.runtime.dynamic.product import RowProduct
from fxq.runtime.integer.outputs import FloatOutput
from fxq.runtime.jit.dynamic import Buffers, CompiledProduct, CompiledRows, RowPrograms
from fxq.runtime.jit.epilogue import Form
from fxq.runtime.jit.execute import unavailable
from fxq.runtime.jit.grouped import CompiledGrouped, pack_grouped, rows_kernel
from fxq.runtime.jit.isa import Isa, find_isa
from fxq.runtime.jit.kernels.dynamic_gemm import RowShape, dynamic_gemm
from fxq.runtime.jit.kernels.dynamic_rows import FLOAT
from fxq.runtime.jit.kernels.hidden_product import ByteProduct, FloatProduct, HiddenProduct
from fxq.runtime.jit.kernels.recurrence import STEP_WORDS, Recurrence
from fxq.runtime.jit.program import Pointer, Program
from fxq.runtime.jit.row_product import pack_product
from fxq.runtime.weight_only.product import GroupedProduct


def compile_layers(layers: Sequence[Layer]) -> CompiledLayers | None:
    """The layers as machine code for this CPU; None where LLVM has no target, or a layer has no sizes to compute with."""
    empty = any(0 in (product.weights.features, product.weights.outputs) for layer in layers for product in (layer.input, layer.hidden))
    return None if empty or unavailable() is not None else CompiledLayers(layers, find_isa())


class CompiledLayers:
    """All directions of all layers of a recurrent module. Any number of threads may call at once."""

    def __init__(self, layers: Sequence[Layer], isa: Isa) -> None:
        self._layers = [_Projected(layer, isa) if layer.projection else _CompiledLayer(layer, isa) for layer in layers]

    @property
    def programs(self) -> tuple[Program, ...]:
        """Those of all directions of all layers."""
        return tuple(program for layer in self._layers for program in layer.programs)

    def __call__(self, number: int, rows: Tensor, steps: Steps, states: States) -> tuple[Tensor, States]:
        """One direction of one layer, as fxq.runtime.dynamic.layers.run_steps means it; rows contiguous."""
        return self._layers[number](rows, steps, states)


class _Projected:
    """A layer whose hidden state goes through a product at each step: products are compiled, the loop is Python."""

    def __init__(self, layer: Layer, isa: Isa) -> None:
        self._layer = layer
        products = (layer.input, layer.hidden, layer.projection)
        self._compiled = {product: _compiled(product, isa) for product in products if product is not None}

    @property
    def programs(self) -> tuple[Program, ...]:
        return tuple(program for compiled in self._compiled.values() for program in compiled.programs)

    def __call__(self, rows: Tensor, steps: Steps, states: States) -> tuple[Tensor, States]:
        return run_steps(self._layer, rows, steps, states, lambda x, product: self._compiled[product](x.contiguous()))


class _CompiledLayer(RowPrograms):
    """Weights in blocks of channels: all gates of one block beside each other, so that a panel has all that a step of a cell needs."""

    def __init__(self, layer: Layer, isa: Isa) -> None:
        super().__init__()
        self._isa, self._cell = isa, layer.cell
        self._hidden = layer.hidden.weights.outputs // layer.cell.gates
        self._input = _compiled(self._by_blocks(layer.input), isa)
        hidden = self._by_blocks(layer.hidden)
        product, self._constants = (
            _of_floats(hidden, layer.cell, isa) if isinstance(hidden, GroupedProduct) else _of_bytes(hidden, layer.cell, isa)
        )
        self._macs = hidden.weights.outputs * self._hidden
        self._kernel = Recurrence(isa, layer.cell.name, self._hidden, product)

    @property
    def programs(self) -> tuple[Program, ...]:
        """The products of all inputs, and the time loop for the most sequences so far."""
        return (*self._input.programs, *super().programs)

    def __call__(self, rows: Tensor, steps: Steps, states: States) -> tuple[Tensor, States]:
        """As run_steps."""
        sequences, hidden = len(states[0]), self._hidden
        outputs = torch.empty(len(rows), hidden)
        padded = [torch.zeros(sequences, self._kernel.state_bytes // FLOAT) for _ in states]
        for state, given in zip(padded, states, strict=True):
            state[:, :hidden] = given
        if len(rows):
            gates, table = self._input(rows), torch.from_numpy(_table(steps))
            self.program_for(sequences).run_rows([gates, table], [*padded, outputs], sequences)
        return outputs, tuple(state[:, :hidden] for state in padded)

    @cached_property
    def _order(self) -> Tensor:
        """Row of torch's matrix for each row of ours: [block, gate, lane]; lanes beyond the last channel, which nobody reads, have any."""
        lanes, hidden = self._isa.lanes, self._hidden
        channels = torch.arange(-(-hidden // lanes) * lanes).clamp(max=hidden - 1).reshape(-1, 1, lanes)
        return (torch.arange(self._cell.gates)[:, None] * hidden + channels).reshape(-1)

    def _by_blocks(self, product: Product) -> Product:
        """The same product with its outputs in that order."""
        return replace(product, weights=product.weights.select(self._order), output=FloatOutput())  # type: ignore[arg-type]

    def plan(self, rows: int) -> Program:
        """The time loop for at most that many sequences. The caller answers for gates, table and y, which have a row for each step."""
        kernel, buffers = self._kernel, Buffers(rows)
        gates, table = (buffers.add(name, 0, "input") for name in ("gates", "table"))
        constants = [Pointer("constant", number) for number in range(len(self._constants))]
        kept = [buffers.add(name, size) for name, size in kernel.product.kept.items()]
        states = [buffers.add(name, kernel.state_bytes, "output") for name in kernel.states]
        y = buffers.add("y", 0, "output")
        call = buffers.call(kernel, [gates, table, *constants, *kept, *states, y], self._macs)
        return buffers.program("recurrence", self._constants, [call])


def _compiled(product: Product, isa: Isa) -> CompiledRows:
    return CompiledGrouped(product, isa) if isinstance(product, GroupedProduct) else CompiledProduct(product, isa)


Packed = tuple[HiddenProduct, Sequence[NDArray[np.uint8]]]


def _of_bytes(product: RowProduct, cell: Cell, isa: Isa) -> Packed:
    weights = product.weights
    shape = RowShape(weights.features, weights.outputs, Form(True), biased=weights.bias is not None)
    gemm = dynamic_gemm(shape, isa, by_panels=False, vectors=cell.gates)
    return ByteProduct(gemm), pack_product(product, gemm.panels, isa)


def _of_floats(product: GroupedProduct, cell: Cell, isa: Isa) -> Packed:
    kernel = rows_kernel(product, isa, single=True, panel_vectors=cell.gates)
    return FloatProduct(kernel), pack_grouped(product, kernel)


def _table(steps: Steps) -> NDArray[np.int64]:
    """How many steps; then the first row and the number of rows of each, in the order in which they run."""
    ranges = [(part.start, part.stop - part.start) for part in steps.ranges()]
    return np.concatenate([[len(ranges)], np.array(ranges, np.int64).reshape(-1, STEP_WORDS).reshape(-1)]).astype(np.int64)

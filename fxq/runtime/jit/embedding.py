"""Embeddings as machine code, for any number of rows. Tables stay where they are: they may be most of a model."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from fxq.graph.groups import GroupedWeights
from fxq.runtime.jit.dynamic import Buffers, RowPrograms
from fxq.runtime.jit.execute import unavailable
from fxq.runtime.jit.isa import Isa, find_isa
from fxq.runtime.jit.kernels.dynamic_rows import FLOAT
from fxq.runtime.jit.kernels.embedding import INDEX, LookUpRows, SumRows, Table
from fxq.runtime.jit.program import Program
from fxq.runtime.weight_only.bags import BagsOfRows, Mode


def compile_lookup(weights: GroupedWeights) -> CompiledLookup | None:
    """For this CPU; None where LLVM has no target, or rows have no features."""
    return None if not weights.features or unavailable() is not None else CompiledLookup(weights, find_isa())


def compile_bags(weights: GroupedWeights, mode: Mode) -> CompiledBags | None:
    """For this CPU; None where LLVM has no target, or rows have no features."""
    return None if not weights.features or unavailable() is not None else CompiledBags(weights, mode, find_isa())


def _table(weights: GroupedWeights) -> Table:
    return Table(weights.features, weights.format.bits, weights.format.group or weights.features, weights.zero is not None)


class CompiledLookup(RowPrograms):
    """y = w'[indices]"""

    def __init__(self, weights: GroupedWeights, isa: Isa) -> None:
        super().__init__()
        self._kernel = LookUpRows(isa, _table(weights))

    def __call__(self, indices: Tensor, constants: Sequence[Tensor]) -> Tensor:
        """i64 [n], contiguous, of rows that there are → f32 [n, features].

        Args:
            constants: of the table, in its order.
        """
        count = len(indices)
        y = torch.empty(count, self._kernel.table.features)
        if count:
            self.program_for(count).run_rows([indices, *constants], [y], count)
        return y

    def plan(self, rows: int) -> Program:
        """One call."""
        kernel, buffers = self._kernel, Buffers(rows)
        indices = buffers.add("indices", INDEX, "input")
        constants = [buffers.add(name, 0, "input") for name in kernel.table.constants]
        y = buffers.add("y", FLOAT * kernel.table.features, "output")
        return buffers.program("lookup", (), [buffers.call(kernel, [indices, *constants, y])])


class CompiledBags:
    """y[bag] = Σ w'[indices of the bag]; sums of rows times factors are another program."""

    def __init__(self, weights: GroupedWeights, mode: Mode, isa: Isa) -> None:
        self._features = weights.features
        self._sums = {weighted: _Sums(SumRows(isa, _table(weights), mode, weighted)) for weighted in (False, True)}

    @property
    def programs(self) -> tuple[Program, ...]:
        """Those for the most bags so far."""
        return tuple(program for each in self._sums.values() for program in each.programs)

    def __call__(self, bags: BagsOfRows, constants: Sequence[Tensor]) -> Tensor:
        """f32 [bags, features]

        Args:
            constants: of the table, in its order.
        """
        count = len(bags.offsets) - 1
        y = torch.empty(count, self._features)
        if count:
            factors = [] if bags.factors is None else [bags.factors]
            program = self._sums[bool(factors)].program_for(max(count, len(bags.indices)))
            program.run_rows([bags.indices, bags.offsets, *factors, *constants], [y], count)
        return y


class _Sums(RowPrograms):
    def __init__(self, kernel: SumRows) -> None:
        super().__init__()
        self._kernel = kernel

    def plan(self, rows: int) -> Program:
        """For at most that many indices, and bags: the work is in the former."""
        kernel, buffers = self._kernel, Buffers(rows)
        given = [buffers.add(name, 0, "input") for name in kernel.operands[:-1]]
        y = buffers.add("y", FLOAT * kernel.table.features, "output")
        return buffers.program("bags", (), [buffers.call(kernel, [*given, y])])

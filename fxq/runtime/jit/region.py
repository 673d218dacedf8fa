"""A region as machine code: a program for each set of input shapes, the integer ops where there can be none."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from fxq.errors import DataError
from fxq.runtime.jit.constants import ConstantPool
from fxq.runtime.jit.execute import CompiledProgram, TimedRun
from fxq.runtime.jit.isa import Isa, find_isa
from fxq.runtime.jit.plan import plan
from fxq.runtime.jit.planner import Unplannable
from fxq.runtime.jit.program import Program
from fxq.runtime.jit.shapes import trace_shapes
from fxq.runtime.jit.steps import row_of
from fxq.runtime.region import Region, Step

# programs of one region that are kept; the one that was not used for longest goes first
_KEPT_PROGRAMS = 8

# in the messages of torch's allocator
_NO_MEMORY = "can't allocate memory"


def accepts(step: Step, integers: bool) -> bool:
    """Whether a step can be part of a program, of integers or of float values; its shapes may still refuse.

    Args:
        step: with tensors for constants of its own, which only float ops take.
    """
    row = row_of(step)
    has_constants = any(isinstance(leaf, Tensor) for leaf in tree_leaves((step.args, dict(step.kwargs))))
    if row is None or (row.bytes if not integers else row.floats):
        return False
    return row.floats or not has_constants


class CompiledRegion:
    """region.run(inputs), by machine code where its shapes can be planned, by the integer ops where not.

    Args:
        region: all of its steps have a row in STEPS.
        isa: what to compile for; None for FXQ_ISA or the best that this machine has.

    Attributes:
        refused: input shapes that no program could be planned for, and why.
    """

    def __init__(self, region: Region, isa: Isa | None = None) -> None:
        self.region = region
        self.isa = isa or find_isa()
        self.refused: dict[Any, str] = {}
        self._constants = ConstantPool()
        self._programs: OrderedDict[Any, CompiledProgram | None] = OrderedDict()
        self._lock = threading.Lock()

    def __call__(self, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Raises DataError for what is no tensor on the CPU; other errors are those of the integer ops."""
        key = _key(inputs, self.region.name)
        try:
            program = self._programs[key]
        except KeyError:
            program = self._compiled(key, inputs)
        try:
            return self.region.run(inputs) if program is None else program.run(inputs)
        except MemoryError as error:
            raise _too_large(self.region.name, inputs, error) from error

    @property
    def programs(self) -> tuple[Program, ...]:
        """Those that are kept, the one compiled last behind the others."""
        return tuple(compiled.program for compiled in self._programs.values() if compiled is not None)

    def run_timed(self, inputs: Sequence[Tensor]) -> TimedRun | None:
        """One run on one thread, call by call; None where the integer ops run on tensors like these."""
        compiled = self._compiled(_key(inputs, self.region.name), inputs)
        return None if compiled is None else compiled.run_timed(inputs)

    def _compiled(self, key: Any, inputs: Sequence[Tensor]) -> CompiledProgram | None:
        with self._lock:
            if key not in self._programs:
                self._programs[key] = self._compile(key, inputs)
                while len(self._programs) > _KEPT_PROGRAMS:
                    self._programs.popitem(last=False)
            return self._programs[key]

    def _compile(self, key: Any, inputs: Sequence[Tensor]) -> CompiledProgram | None:
        for number, x in enumerate(inputs):
            _check(self.region.name, number, x)
        try:
            with torch.no_grad():
                values = trace_shapes(self.region, inputs)
        except RuntimeError as error:
            if _NO_MEMORY not in str(error):
                raise
            raise _too_large(self.region.name, inputs, error) from error
        try:
            program = plan(self.region, values, self.isa, self._constants)
        except Unplannable as refusal:
            self.refused[key] = str(refusal)
            return None
        return CompiledProgram(program, [values[value].dtype for value in self.region.outputs])


def _key(inputs: Sequence[Tensor], region: str) -> Any:
    """All that a program depends on."""
    try:
        return tuple((x.shape, x.stride(), x.dtype, x.device.type) for x in inputs)
    except AttributeError:
        kinds = ", ".join(type(x).__name__ for x in inputs)
        raise DataError(f"inputs of {region}", expected="tensors", found=kinds, remedy="convert them with torch.as_tensor") from None


def _too_large(region: str, inputs: Sequence[Tensor], error: Exception) -> DataError:
    return DataError(
        f"inputs of {region}",
        expected="shapes whose values fit into memory",
        found=f"{', '.join(str(tuple(x.shape)) for x in inputs)}: {error}",
        remedy="give fewer or smaller inputs at a time; the model can be used as before",
    )


def _check(region: str, number: int, x: Tensor) -> None:
    if x.device.type != "cpu":
        raise DataError(
            f"input {number} of {region}",
            expected="a tensor on the CPU",
            found=f"one on {x.device}",
            remedy="move the input with .cpu(): int8 models of fxq run on the CPU",
        )

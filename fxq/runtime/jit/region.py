"""A region as machine code: a program for each set of input shapes, or several, with integer ops between them where there can be none."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from fxq.errors import DataError
from fxq.runtime.jit.constants import ConstantPool
from fxq.runtime.jit.cut import Section, cut
from fxq.runtime.jit.execute import CompiledProgram, TimedCall, TimedRun
from fxq.runtime.jit.isa import Isa, find_isa
from fxq.runtime.jit.plan import NOTHING, plan
from fxq.runtime.jit.planner import Refused
from fxq.runtime.jit.program import Program
from fxq.runtime.jit.shapes import trace_shapes
from fxq.runtime.jit.steps import row_of
from fxq.runtime.memory import are_fake
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
    return row.floats or row.constants or not has_constants


class Runnable(Protocol):
    """What a region runs for one set of input shapes."""

    @property
    def programs(self) -> tuple[Program, ...]:
        """Those that it keeps: several where it has sections, which may be of several shapes."""

    @property
    def latest(self) -> tuple[Program, ...]:
        """Those of them that were compiled last."""

    def run(self, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """The region's outputs."""

    def run_timed(self, inputs: Sequence[Tensor]) -> TimedRun:
        """The same on one thread, call by call."""


class CompiledRegion:
    """region.run(inputs), by machine code; steps that cannot be planned for the inputs' shapes run as integer ops, in their place.

    Args:
        region: all of its steps have a row in STEPS.
        isa: what to compile for; None for FXQ_ISA or the best that this machine has.
        constants: of a region that this one is a section of.

    """

    def __init__(self, region: Region, isa: Isa | None = None, constants: ConstantPool | None = None) -> None:
        self.region = region
        self.isa = isa or find_isa()
        self._constants = constants or ConstantPool()
        self._programs: OrderedDict[Any, Runnable] = OrderedDict()
        self._cuts: dict[frozenset[int], CutRegion] = {}
        self._lock = threading.Lock()

    def __call__(self, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Raises DataError for what is no tensor on the CPU; other errors are those of the integer ops, which also give shapes alone."""
        if are_fake(inputs):
            return self.region.run(inputs)
        key = _key(inputs, self.region.name)
        try:
            program = self._programs[key]
        except KeyError:
            program = self._compiled(key, inputs)
        try:
            return program.run(inputs)
        except MemoryError as error:
            raise _too_large(self.region.name, inputs, error) from error

    @property
    def programs(self) -> tuple[Program, ...]:
        """Those that are kept, the ones compiled last behind the others."""
        return tuple(dict.fromkeys(program for runnable in self._programs.values() for program in runnable.programs))

    @property
    def refused(self) -> Mapping[str, str]:
        """Name of each step that had no kernel for some shapes → why. An empty batch says nothing of others, and is left out."""
        found = (refusal for made in list(self._cuts.values()) for refusal in made.refused.items())
        return {name: reason for name, reason in found if reason != NOTHING}

    @property
    def latest(self) -> tuple[Program, ...]:
        """Those of the shapes that were compiled last."""
        return next(reversed(self._programs.values())).latest if self._programs else ()

    def run_timed(self, inputs: Sequence[Tensor]) -> TimedRun:
        """One run on one thread, call by call."""
        return self._compiled(_key(inputs, self.region.name), inputs).run_timed(inputs)

    def _compiled(self, key: Any, inputs: Sequence[Tensor]) -> Runnable:
        with self._lock:
            if key not in self._programs:
                self._programs[key] = self._compile(inputs)
                while len(self._programs) > _KEPT_PROGRAMS:
                    self._programs.popitem(last=False)
            return self._programs[key]

    def _compile(self, inputs: Sequence[Tensor]) -> Runnable:
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
        except Refused as refusal:
            return self._cut(values, refusal.reasons)
        return CompiledProgram(program, [values[value].dtype for value in self.region.outputs])

    def _cut(self, values: Mapping[int, Any], reasons: Mapping[int, str]) -> CutRegion:
        """What runs around refused steps; the same for all shapes that the same steps are refused for."""
        refused = frozenset(reasons)
        if refused not in self._cuts:
            whys = {self.region.steps[number].name: reason for number, reason in reasons.items()}
            parts = ((section, self._part(section, whys)) for section in cut(self.region, values, refused))
            self._cuts[refused] = CutRegion(self.region, tuple(parts))
        return self._cuts[refused]

    def _part(self, section: Section, reasons: Mapping[str, str]) -> Part:
        return IntegerOps(section.region, reasons) if section.is_refused else CompiledRegion(section.region, self.isa, self._constants)


@dataclass(frozen=True, eq=False)
class IntegerOps:
    """A section without kernels.

    Attributes:
        reasons: name of each of its steps that makes a tensor → why it has none.
    """

    region: Region
    reasons: Mapping[str, str]
    programs: tuple[Program, ...] = ()
    latest: tuple[Program, ...] = ()

    @property
    def refused(self) -> Mapping[str, str]:
        """All steps."""
        return self.reasons

    def __call__(self, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """The section's outputs."""
        return self.region.run(inputs)

    def run_timed(self, inputs: Sequence[Tensor]) -> TimedRun:
        """The same, step by step."""
        values: dict[int, Any] = dict(enumerate(inputs))
        calls = []
        for value, step in enumerate(self.region.steps, len(inputs)):
            start = time.perf_counter()
            values[value] = made = step.run(values)
            seconds = time.perf_counter() - start
            if isinstance(made, Tensor):
                calls.append(TimedCall(step.name, "integer op", tuple(made.shape), 0, seconds, self.reasons[step.name]))
        return TimedRun(tuple(values[value] for value in self.region.outputs), tuple(calls))


# what runs a section; whether one is cut again shows when it is called, as its shapes do
Part = CompiledRegion | IntegerOps


@dataclass(frozen=True, eq=False)
class CutRegion:
    """Sections of a region, one after the other.

    Attributes:
        parts: each section, and what runs it.
    """

    region: Region
    parts: tuple[tuple[Section, Part], ...]

    @property
    def programs(self) -> tuple[Program, ...]:
        """Of all sections."""
        return tuple(program for _, part in self.parts for program in part.programs)

    @property
    def latest(self) -> tuple[Program, ...]:
        """Of all sections, for the shapes that were compiled last."""
        return tuple(program for _, part in self.parts for program in part.latest)

    @property
    def refused(self) -> Mapping[str, str]:
        """As of a region."""
        return {name: reason for _, part in self.parts for name, reason in part.refused.items()}

    def run(self, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """The region's outputs."""
        return self._run(inputs, lambda part, given: part(given))

    def run_timed(self, inputs: Sequence[Tensor]) -> TimedRun:
        """The same on one thread, call by call."""
        calls: list[TimedCall] = []

        def timed(part: Part, given: Sequence[Tensor]) -> tuple[Tensor, ...]:
            found = part.run_timed(given)
            calls.extend(found.calls)
            return found.outputs

        return TimedRun(self._run(inputs, timed), tuple(calls))

    def _run(self, inputs: Sequence[Tensor], call: Callable[[Part, Sequence[Tensor]], tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
        values = dict(enumerate(inputs))
        for section, part in self.parts:
            values.update(zip(section.makes, call(part, [values[value] for value in section.reads]), strict=True))
            for value in section.frees:
                del values[value]
        return tuple(values[value] for value in self.region.outputs)


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

"""Program: what a region compiles to for one set of input shapes. Buffers, constants and calls of kernels, as plain data."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from math import prod

import numpy as np
from numpy.typing import NDArray

from fxq.runtime.jit.kernel import Planned, Span
from fxq.runtime.jit.views import Buffer, View


@dataclass(frozen=True)
class Pointer:
    """What an operand of a call points to: bytes behind the start of a buffer, or of a constant."""

    kind: str  # "buffer" or "constant"
    index: int
    offset: int = 0


@dataclass(frozen=True, eq=False)
class Call:
    """One call of a kernel.

    Attributes:
        step: name of the step that it belongs to.
        planned: kernel and constants.
        pointers: one for each operand of the kernel.
        images: how many images it computes.
        result: what it writes.
    """

    step: str
    planned: Planned
    pointers: tuple[Pointer, ...]
    images: int
    result: View

    @property
    def units(self) -> int:
        """Into how many parts it can be split."""
        return self.planned.kernel.units(self.images)

    @property
    def macs(self) -> int:
        """Multiplications, of all images."""
        return self.planned.macs * self.images


@dataclass(frozen=True, eq=False)
class Program:
    """Calls in stages: those of one stage touch different bytes and may run in any order, a stage begins when the last has ended.

    Attributes:
        name: of the region.
        buffers: memory; those of the arena have an offset there.
        offsets: of each buffer in the arena; 0 for the others.
        arena_bytes: size of the arena.
        constants: packed weights and parameters, at aligned addresses.
        stages: calls.
        outputs: the results, as parts of buffers.
    """

    name: str
    buffers: tuple[Buffer, ...]
    offsets: tuple[int, ...]
    arena_bytes: int
    constants: tuple[NDArray[np.uint8], ...]
    stages: tuple[tuple[Call, ...], ...]
    outputs: tuple[View, ...]

    @cached_property
    def calls(self) -> tuple[Call, ...]:
        """All calls, in the order of the stages."""
        return tuple(call for stage in self.stages for call in stage)

    @property
    def constant_bytes(self) -> int:
        """Packed weights and parameters."""
        return sum(constant.nbytes for constant in self.constants)

    @property
    def macs(self) -> int:
        """Multiplications of one run."""
        return sum(call.macs for call in self.calls)

    def verify(self) -> None:
        """Proves that each access of each call stays inside its buffer or constant, and that buffers in use together lie apart.

        Raises:
            AssertionError: a kernel would touch other bytes; names the call, the operand and the range.
        """
        for call in self.calls:
            kernel = call.planned.kernel
            for operand, pointer, span in zip(kernel.operands, call.pointers, kernel.spans(), strict=True):
                if span is None:
                    continue
                reach = span.over(call.images)
                first, end = pointer.offset + reach.first, pointer.offset + reach.end
                room = self._room(pointer)
                assert first >= 0 and end <= room, (
                    f"{self.name}: {call.step} {kernel.name}.{operand} touches [{first}, {end}) of {room} bytes"
                )
        for (a, a_uses), (b, b_uses) in self._arena_pairs():
            assert a_uses.end <= b_uses.first or b_uses.end <= a_uses.first, f"{self.name}: {a} and {b} share bytes while both are in use"

    def _room(self, pointer: Pointer) -> int:
        return self.buffers[pointer.index].nbytes if pointer.kind == "buffer" else self.constants[pointer.index].nbytes

    def _arena_pairs(self) -> Iterator[tuple[tuple[str, Span], tuple[str, Span]]]:
        """Pairs of buffers whose bytes overlap, with the stages in which they are in use."""
        uses = self.uses
        placed = sorted(
            (offset, offset + buffer.nbytes, number)
            for number, (buffer, offset) in enumerate(zip(self.buffers, self.offsets, strict=True))
            if buffer.place == "arena" and number in uses
        )
        for position, (_, end, number) in enumerate(placed):
            for start, _, other in placed[position + 1 :]:
                if start >= end:
                    break
                yield (self.buffers[number].name, uses[number]), (self.buffers[other].name, uses[other])

    @cached_property
    def uses(self) -> dict[int, Span]:
        """Buffer → the stages in which it is in use, as [first, end)."""
        uses: dict[int, Span] = {}
        for number, stage in enumerate(self.stages):
            for pointer in (pointer for call in stage for pointer in call.pointers if pointer.kind == "buffer"):
                first = uses[pointer.index].first if pointer.index in uses else number
                uses[pointer.index] = Span(first, number + 1)
        return uses

    def __str__(self) -> str:
        return "\n".join([self.summary, *self._listing()])

    @property
    def summary(self) -> str:
        """One line: how large it is."""
        sizes = f"arena {_size(self.arena_bytes)}, constants {_size(self.constant_bytes)}"
        return f"{self.name}: {len(self.calls)} calls in {len(self.stages)} stages, {self.macs / 1e6:.1f} MMAC, {sizes}"

    def _listing(self) -> Iterator[str]:
        width = max((len(call.step) for call in self.calls), default=0)
        for number, stage in enumerate(self.stages):
            for call in stage:
                shape, kernel = "x".join(map(str, call.result.shape)), call.planned.kernel
                work = f"{call.macs / 1e6:8.2f} MMAC {call.units:5} units"
                yield f"{number:4} {call.step:{width}} {kernel.name:12} {shape:16} {self._place(call.result):24} {work}  {kernel}"

    def _place(self, view: View) -> str:
        buffer = self.buffers[view.buffer]
        where = f"{buffer.place} {buffer.number}" if buffer.place != "arena" else "arena"
        return f"{where}+{self.offsets[view.buffer] + view.offset}, {_size(prod(view.shape) * view.element)}"


def _size(nbytes: int) -> str:
    return f"{nbytes / 1e6:.2f} MB" if nbytes >= 1e6 else f"{nbytes / 1e3:.1f} KB"

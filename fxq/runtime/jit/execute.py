"""Runs programs on tensors: their memory, their tables of calls, the threads that share them."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from math import prod

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fxq.runtime.jit.arena import aligned_bytes
from fxq.runtime.jit.compile import compile_kernels
from fxq.runtime.jit.driver import BLOCK_WORDS, CALL_WORDS, driver
from fxq.runtime.jit.pool import BLOCKS, worker_pool
from fxq.runtime.jit.program import Call, Pointer, Program

# per microsecond, of one thread; stages of fewer microseconds are not shared out; work that is worth a chunk of its own
_MACS, _BYTES, _ALONE, _CHUNK = 150_000, 8_000, 3.0, 8.0


@dataclass(frozen=True)
class _External:
    """A word of a call that points into a tensor of the caller."""

    word: int
    number: int
    offset: int


class Execution:
    """Memory and call table of one run at a time of a program.

    Args:
        program: what runs; verified.
        functions: addresses of its kernels, in the order of its calls.
    """

    def __init__(self, program: Program, functions: Sequence[int]) -> None:
        self.program = program
        self._arena = aligned_bytes(program.arena_bytes)
        self._words = np.zeros(sum(len(call.pointers) + 1 for call in program.calls), np.int64)
        self._calls = np.zeros((len(program.calls), CALL_WORDS), np.int64)
        self._blocks: dict[int, NDArray[np.int64]] = {}
        self._inputs: list[_External] = []
        self._outputs: list[_External] = []
        self._fill(functions)

    def _fill(self, functions: Sequence[int]) -> None:
        word = 0
        for row, (call, function) in enumerate(zip(self.program.calls, functions, strict=True)):
            self._calls[row] = (function, self._words.ctypes.data + 8 * word, call.units)
            for pointer in call.pointers:
                self._words[word] = self._address(pointer, word)
                word += 1
            self._words[word] = call.images
            word += 1

    def _address(self, pointer: Pointer, word: int) -> int:
        """Of memory that stays where it is; 0 for that of the caller, which is filled in at each run."""
        if pointer.kind == "constant":
            return int(self.program.constants[pointer.index].ctypes.data) + pointer.offset
        buffer = self.program.buffers[pointer.index]
        if buffer.place == "arena":
            return int(self._arena.ctypes.data) + self.program.offsets[pointer.index] + pointer.offset
        externals = self._inputs if buffer.place == "input" else self._outputs
        externals.append(_External(word, buffer.number, pointer.offset))
        return 0

    def run(self, inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> None:
        """Reads the inputs, writes the outputs; all of the shapes, strides and dtypes that the program is for."""
        self._point_to(inputs, outputs)
        threads = torch.get_num_threads()
        if threads == 1 or not worker_pool().run(self._block(threads), threads):
            driver().run_alone(self._calls.ctypes.data, len(self._calls))

    def resize(self, images: int) -> None:
        """Every call is for that many images from now on; at most as many as the program was planned for."""
        word = 0
        for row, call in enumerate(self.program.calls):
            word += len(call.pointers)
            self._words[word] = images
            self._calls[row, CALL_WORDS - 1] = call.planned.kernel.units(images)
            word += 1

    def run_timed(self, inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> list[float]:
        """The same on this thread alone, call by call: seconds of each."""
        self._point_to(inputs, outputs)
        first, run_alone = self._calls.ctypes.data, driver().run_alone
        overhead = min(_seconds(run_alone, first, 0) for _ in range(3))
        taken = [_seconds(run_alone, first + row * self._calls.strides[0], 1) for row in range(len(self._calls))]
        return [max(seconds - overhead, 0.0) for seconds in taken]

    def _point_to(self, inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> None:
        for external in self._inputs:
            self._words[external.word] = inputs[external.number].data_ptr() + external.offset
        for external in self._outputs:
            self._words[external.word] = outputs[external.number].data_ptr() + external.offset

    def _block(self, threads: int) -> NDArray[np.int64]:
        """The control block for that many threads. Its stages are cut for them, which those of other numbers are not."""
        if threads not in self._blocks:
            stages = np.array(_stage_table(self.program, threads), np.int64)
            block = BLOCKS.take(len(stages), threads)
            block[:3] = (threads, len(stages), self._calls.ctypes.data)
            block[BLOCK_WORDS : BLOCK_WORDS + stages.size] = stages.reshape(-1)
            self._blocks[threads] = block
        return self._blocks[threads]

    def __del__(self) -> None:
        for block in self._blocks.values():
            BLOCKS.give_back(block)


def _seconds(function: Callable[..., None], *args: int) -> float:
    start = time.perf_counter()
    function(*args)
    return time.perf_counter() - start


def _stage_table(program: Program, threads: int) -> list[tuple[int, int, int]]:
    """Per stage: first call, number of calls, chunks of each thread."""
    rows, first = [], 0
    for stage in program.stages:
        share = sum(map(_microseconds, stage)) / threads
        most = min(8, max(call.units for call in stage) // threads)
        rows.append((first, len(stage), 0 if share * threads < _ALONE else max(1, min(most, int(share / _CHUNK)))))
        first += len(stage)
    return rows


def _microseconds(call: Call) -> float:
    """A guess of what a call takes on one thread: its products, or the bytes that it writes."""
    written = prod(call.result.shape) * call.result.element
    return max(call.macs / _MACS, written / _BYTES)


@dataclass(frozen=True)
class TimedCall:
    """What one call took.

    Attributes:
        step: what it computes, or a part of it.
        runs: the kernel's family.
        shape: of its result.
        macs: multiplications.
        seconds: on one thread.
        reason: why it is no kernel; None for one.
    """

    step: str
    runs: str
    shape: tuple[int, ...] | None
    macs: int
    seconds: float
    reason: str | None = None


@dataclass(frozen=True)
class TimedRun:
    """Results of a region, and its calls in their order."""

    outputs: tuple[Tensor, ...]
    calls: tuple[TimedCall, ...]


class CompiledProgram:
    """A program with its machine code. Any number of threads may run it at once: each run has an Execution of its own.

    Args:
        program: what runs; verified here.
        dtypes: of the outputs.
    """

    def __init__(self, program: Program, dtypes: Sequence[torch.dtype]) -> None:
        program.verify()
        self.program = program
        self._dtypes = tuple(dtypes)
        self._code = compile_kernels(call.planned.kernel for call in program.calls)
        self._free: list[Execution] = []

    @property
    def programs(self) -> tuple[Program, ...]:
        """The only one."""
        return (self.program,)

    @property
    def latest(self) -> tuple[Program, ...]:
        """The same."""
        return (self.program,)

    def run(self, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """The region's outputs."""
        outputs = self._allocate()
        execution = self._take()
        try:
            execution.run(inputs, outputs)
        finally:
            self._free.append(execution)
        return outputs

    def run_rows(self, inputs: Sequence[Tensor], outputs: Sequence[Tensor], rows: int) -> None:
        """Writes the outputs of a program whose images are rows, for at most as many rows as it was planned for."""
        execution = self._take()
        try:
            execution.resize(rows)
            execution.run(inputs, outputs)
        finally:
            self._free.append(execution)

    def run_timed(self, inputs: Sequence[Tensor]) -> TimedRun:
        """The same on one thread, call by call."""
        outputs = self._allocate()
        execution = self._take()
        try:
            seconds = execution.run_timed(inputs, outputs)
        finally:
            self._free.append(execution)
        calls = zip(self.program.calls, seconds, strict=True)
        return TimedRun(outputs, tuple(TimedCall(c.step, c.planned.kernel.name, c.result.shape, c.macs, taken) for c, taken in calls))

    def _allocate(self) -> tuple[Tensor, ...]:
        return tuple(
            torch.empty_strided(view.shape, view.strides, dtype=dtype)
            for view, dtype in zip(self.program.outputs, self._dtypes, strict=True)
        )

    def _take(self) -> Execution:
        """An execution that no other thread uses."""
        try:
            return self._free.pop()
        except IndexError:
            return Execution(self.program, [self._code[call.planned.kernel].address for call in self.program.calls])


@cache
def unavailable() -> str | None:
    """Why nothing can be compiled on this machine; None where it can."""
    if os.name != "posix":
        return "the threads of compiled programs need a POSIX system"
    try:
        driver()
    except (RuntimeError, OSError) as error:
        return f"LLVM has no target for it: {error}"
    return None

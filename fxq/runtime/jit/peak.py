"""The most multiplications per second that one thread of this machine can do with an ISA's dot product."""

from __future__ import annotations

import ctypes
import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from fxq.runtime.jit.arena import aligned_bytes
from fxq.runtime.jit.compile import compile_kernels
from fxq.runtime.jit.ir import Emitter, Value, splat
from fxq.runtime.jit.isa import TAPS, Isa
from fxq.runtime.jit.kernel import Kernel, Span, Work

# vectors of weights that stay in registers; turns of the loop in one run; runs, of which the fastest counts
_VECTORS, _TURNS, _RUNS = 2, 20_000, 40


@dataclass(frozen=True)
class DotLoop(Kernel):
    """The inner loop of a matrix product without its memory: the same few bytes of x, in the nearest cache, meet weights in registers.

    A unit is one turn: each of `rows` pixels meets each vector of weights.
    """

    @property
    def rows(self) -> int:
        """Pixels of a tile: as many as keep the dot product busy, and leave registers for weights."""
        return (self.isa.registers - 8) // _VECTORS

    @property
    def macs(self) -> int:
        """Of one turn."""
        return self.rows * _VECTORS * self.isa.lanes * TAPS

    @property
    def operands(self) -> tuple[str, ...]:
        return ("x", "weights", "y")

    def units(self, images: int) -> int:
        return _TURNS * images

    def spans(self) -> tuple[Span, ...]:
        vector = self.isa.vector_bytes
        return (Span(0, 2 * self.rows * TAPS), Span(0, _VECTORS * vector), Span(0, self.rows * _VECTORS * vector))

    def emit(self, e: Emitter, work: Work) -> None:
        x, w, y = work.pointers
        weights = [self.isa.load_weights(e, w, v * self.isa.vector_bytes) for v in range(_VECTORS)]

        def turn(index: Any, sums: list[Value]) -> list[Value]:
            # an address that changes keeps LLVM from moving the products out of the loop
            offset = e.mul(e.remainder(index, 2), self.rows * TAPS)
            taps = [self.isa.broadcast(e, x, e.add(offset, row * TAPS)) for row in range(self.rows)]
            return [self.isa.dot(e, sums[row * _VECTORS + v], taps[row], weights[v]) for row in range(self.rows) for v in range(_VECTORS)]

        zero = splat(self.isa.sums, 0)
        for number, total in enumerate(e.loop(work.begin, work.end, turn, [zero] * (self.rows * _VECTORS))):
            e.store(total, y, number * self.isa.vector_bytes)


def peak_macs(isa: Isa) -> float:
    """Multiplications per second, measured now; takes a few milliseconds."""
    kernel = DotLoop(isa.saturating or isa)
    code = compile_kernels([kernel])[kernel]
    function = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)(code.address)
    operands = [aligned_bytes(span.end) for span in kernel.spans()]
    words = np.array([*(operand.ctypes.data for operand in operands), 1], np.int64)
    least = float("inf")
    for _ in range(_RUNS):
        start = time.perf_counter()
        function(words.ctypes.data, 0, kernel.units(1))
        least = min(least, time.perf_counter() - start)
    return kernel.macs * kernel.units(1) / least

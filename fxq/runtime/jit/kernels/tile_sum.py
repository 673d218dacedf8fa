"""acc + Σ over all taps of one tile of pixels × channels, in registers: the inner loops of every matrix product."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from math import prod

from fxq.runtime.jit.ir import Emitter, Value
from fxq.runtime.jit.isa import TAPS, Isa
from fxq.runtime.jit.kernels.gemm_shape import SHORT_SUM, Window


@dataclass(frozen=True)
class TileSum:
    """Writes the sum of one tile: for four bytes of a run it loads the panel's vectors once and broadcasts four bytes of each pixel.

    Attributes:
        window: the taps of each pixel.
        vectors: of accumulators for each pixel.
        pixels: bytes from the first pixel's first tap to that of each pixel.
    """

    e: Emitter
    isa: Isa
    window: Window
    vectors: int
    pixels: Sequence[int]

    def run(self, x: Value, weights: Value, acc: list[Value]) -> list[Value]:
        """The accumulators of all pixels, after all taps."""
        if self.window.sum_steps <= SHORT_SUM:
            for number, (run, inner) in enumerate(product(self.window.run_offsets, range(self.window.run_steps))):
                acc = self._step(acc, x, weights, run + TAPS * inner, number)
            return acc
        return self._loops(list(self.window.steps), x, weights, acc)

    @property
    def _step_bytes(self) -> int:
        """Weights of one step."""
        return self.vectors * self.isa.vector_bytes

    def _step(self, acc: list[Value], x: Value, weights: Value, x_offset: int, number: int) -> list[Value]:
        """Four bytes of each pixel, step `number` behind the weights."""
        return self.steps(acc, [self.e.at(x, x_offset)], [self.e.at(weights, number * self._step_bytes)])

    def steps(self, acc: list[Value], x: Sequence[Value], weights: Sequence[Value]) -> list[Value]:
        """Several steps at once, each with four bytes of each pixel and weights of its own."""
        e, isa = self.e, self.isa
        loaded = [[isa.load_weights(e, here, j * isa.vector_bytes) for here in weights] for j in range(self.vectors)]
        result = []
        for pixel, offset in enumerate(self.pixels):
            taps = [isa.broadcast(e, here, offset) for here in x]
            sums = acc[pixel * self.vectors : (pixel + 1) * self.vectors]
            result += [isa.dots(e, value, taps, w) for value, w in zip(sums, loaded, strict=True)]
        return result

    def _loops(self, dims: list[tuple[int, int]], x: Value, weights: Value, acc: list[Value]) -> list[Value]:
        """Loops over the dimensions of the runs, then along a run."""
        e = self.e
        if not dims:
            return self._run(x, weights, acc)
        (count, stride), inner = dims[0], dims[1:]
        w_bytes = prod(c for c, _ in inner) * self.window.run_steps * self._step_bytes

        def body(i: Value | int, carried: list[Value]) -> list[Value]:
            return self._loops(inner, e.at(x, e.mul(i, stride)), e.at(weights, e.mul(i, w_bytes)), carried)

        return e.loop(0, count, body, acc)

    def _run(self, x: Value, weights: Value, acc: list[Value]) -> list[Value]:
        """Steps along one run, several in each turn of the loop."""
        e, steps = self.e, self.window.run_steps
        turn = next(count for count in (2, 1) if steps % count == 0)

        def body(i: Value | int, carried: list[Value]) -> list[Value]:
            x_here, w_here = e.at(x, e.mul(i, TAPS)), e.at(weights, e.mul(i, self._step_bytes))
            for t in range(turn):
                carried = self._step(carried, x_here, w_here, TAPS * t, t)
            return carried

        return e.loop(0, steps, body, acc, step=turn)

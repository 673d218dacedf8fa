"""acc + Σ over all taps of one tile of pixels × channels, in registers: the inner loops of every matrix product."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from math import prod

from fxq.runtime.jit.ir import Emitter, Value
from fxq.runtime.jit.isa import TAPS, Isa
from fxq.runtime.jit.kernels.gemm_shape import SHORT_SUM, Window

_CACHE_LINE = 64
# bits behind the point in what is brought nearer at each step
_FRACTION = 8
# with so many tiles or more, all of the weights that follow are brought nearer
_TILES_AHEAD = 4


@dataclass(frozen=True)
class Ahead:
    """Weights that later tiles read, a share of which each tile of this panel brings nearer, evenly over its steps.

    Attributes:
        weights: where they begin: as many bytes as those of this panel.
        tile, tiles: number of this tile, 0 ≤ tile < tiles, and how many there are.
    """

    weights: Value
    tile: Value | int
    tiles: Value | int


@dataclass(frozen=True)
class _Place:
    """Where a loop is: in the input, in the weights, and in those that are brought nearer, in bytes with a fraction."""

    x: Value
    weights: Value
    ahead: Value | int


@dataclass(frozen=True)
class TileSum:
    """Writes the sum of one tile: for four bytes of a run it loads the panel's vectors once and broadcasts four bytes of each pixel.

    Attributes:
        window: the taps of each pixel.
        vectors: of accumulators for each pixel.
        pixels: bytes from the first pixel's first tap to that of each pixel.
        ahead: weights that are brought nearer.
    """

    e: Emitter
    isa: Isa
    window: Window
    vectors: int
    pixels: Sequence[int]
    ahead: Ahead | None = None

    def run(self, x: Value, weights: Value, acc: list[Value]) -> list[Value]:
        """The accumulators of all pixels, after all taps."""
        if self.window.sum_steps <= SHORT_SUM:
            for number, (run, inner) in enumerate(product(self.window.run_offsets, range(self.window.run_steps))):
                acc = self._step(acc, x, weights, run + TAPS * inner, number)
            return acc
        start = 0 if self.ahead is None else self.e.mul(self.ahead.tile, self.e.mul(self._pace, self.window.sum_steps))
        return self._loops(list(self.window.steps), _Place(x, weights, start), acc)

    @cached_property
    def _pace(self) -> Value | int:
        """What is brought nearer at each step: bytes with a fraction."""
        return 0 if self.ahead is None else self.e.divide(self._step_bytes << _FRACTION, self.ahead.tiles)

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

    def _loops(self, dims: list[tuple[int, int]], place: _Place, acc: list[Value]) -> list[Value]:
        """Loops over the dimensions of the runs, then along a run."""
        if not dims:
            return self._run(place, acc)
        (count, stride), inner = dims[0], dims[1:]
        steps = prod(c for c, _ in inner) * self.window.run_steps

        def body(i: Value | int, carried: list[Value]) -> list[Value]:
            return self._loops(inner, self._moved(place, i, stride, steps), carried)

        return self.e.loop(0, count, body, acc)

    @property
    def _turn(self) -> int:
        """Steps in one turn of the inner loop."""
        return 2 if self.window.run_steps % 2 == 0 else 1

    def _run(self, place: _Place, acc: list[Value]) -> list[Value]:
        """Steps along one run."""

        def body(i: Value | int, carried: list[Value]) -> list[Value]:
            here = self._moved(place, i, TAPS, 1)
            self._bring_nearer(here.ahead)
            for t in range(self._turn):
                carried = self._step(carried, here.x, here.weights, TAPS * t, t)
            return carried

        return self.e.loop(0, self.window.run_steps, body, acc, step=self._turn)

    def _bring_nearer(self, place: Value | int) -> None:
        """As many lines as one turn of the inner loop covers, at most."""
        if self.ahead is None:
            return
        e = self.e
        first = e.at(self.ahead.weights, e.divide(place, 1 << _FRACTION))
        for line in range(-(-self._turn * self._step_bytes // (_TILES_AHEAD * _CACHE_LINE))):
            e.prefetch(e.at(first, line * _CACHE_LINE))

    def _moved(self, place: _Place, i: Value | int, x_bytes: int, steps: int) -> _Place:
        """i times so many bytes of the input and steps further on."""
        e = self.e
        ahead = e.add(place.ahead, e.mul(i, e.mul(self._pace, steps)))
        return _Place(e.at(place.x, e.mul(i, x_bytes)), e.at(place.weights, e.mul(i, steps * self._step_bytes)), ahead)

"""The shape of an implicit matrix product: which taps, which tiles, how it is shared out."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import product
from math import prod

from fxq.runtime.jit.epilogue import HEADER_BYTES, Form
from fxq.runtime.jit.excess import Excess
from fxq.runtime.jit.isa import TAPS, Isa
from fxq.runtime.jit.kernel import Kernel, Layout, Span
from fxq.runtime.jit.packing import Panel, panels_of
from fxq.runtime.jit.rows import pixel_reach

# sums of at most this many steps are unrolled, in tiles so small that two of them are in flight at once
SHORT_SUM = 12

# packed weights up to this size stay in the second-level cache beside the pixels while the panels go by for each tile of pixels
_CACHED_WEIGHTS = 100_000

# of a tile, where registers are few and a dot product needs several; none is computed twice to make tiles even
_FEW_PIXELS = 4


@dataclass(frozen=True)
class Window:
    """The taps of one output pixel.

    Attributes:
        origin: bytes from the input's pixel (0, 0) to the first tap of output pixel (0, 0); negative inside the halo.
        steps: (count, bytes) of each dimension of the runs, outermost first.
        run: adjacent bytes of one run.
        stride: bytes between the first taps of neighbouring outputs, for each spatial dimension.
    """

    origin: int
    steps: tuple[tuple[int, int], ...]
    run: int
    stride: tuple[int, ...]

    @property
    def steps_taken(self) -> int:
        """How many runs there are beside the first."""
        return prod(count for count, _ in self.steps) - 1

    @property
    def sum_steps(self) -> int:
        """How many times four bytes are multiplied."""
        return prod(count for count, _ in self.steps) * self.run_steps

    @property
    def run_steps(self) -> int:
        """Of one run; surplus bytes of its last step meet weights of 0."""
        return -(-self.run // TAPS)

    @property
    def run_offsets(self) -> list[int]:
        """Bytes from the first tap to each run."""
        return [sum(parts) for parts in product(*([i * step for i in range(count)] for count, step in self.steps))]

    @property
    def reach(self) -> int:
        """Bytes from the first tap to the end of what is read."""
        return sum((count - 1) * step for count, step in self.steps) + self.run_steps * TAPS


@dataclass(frozen=True)
class Pixels:
    """The output pixels of a tile: th rows of tw, and their offsets in bytes for each tensor."""

    rows: int
    columns: int

    def offsets(self, strides: tuple[int, ...]) -> list[int]:
        """Of each pixel, from that of the first."""
        row = strides[-2] if len(strides) > 1 else 0
        return [r * row + c * strides[-1] for r, c in product(range(self.rows), range(self.columns))]


def tile_height(isa: Isa, vectors: int, sum_steps: int) -> int:
    """How many rows a tile has at most: accumulators, one register for each vector of weights, and one for the input."""
    if isa.vector_bytes < 64:
        return isa.registers - 2 if vectors == 1 else _FEW_PIXELS
    return min(7 if sum_steps <= SHORT_SUM else 14, (isa.registers - 1 - vectors) // vectors)


def least_waste(most: int, rows: int) -> int:
    """The tile, from half of `most` on, whose whole number computes the fewest rows twice; the largest of equals."""
    return min(range(most, most // 2 - 1, -1), key=lambda height: -(-rows // height) * height)


@dataclass(frozen=True)
class GemmShape(Kernel):
    """y[pixel, channel] = epilogue(bias[channel] + Σ_run Σ_byte x[pixel + run + byte]·w[channel, run, byte])

    Attributes:
        x, y: their channels are those of one group.
        residual: of y's size.
        window: the taps.
        groups: each reads its own channels of x and writes its own of y.
        form: of the epilogue.
        vectors: of accumulators in a panel.
        by_panels: units are panels, not tiles of pixels.
        excess: further steps for dot products that saturate; None for exact ones.
    """

    x: Layout
    y: Layout
    residual: Layout | None
    window: Window
    groups: int
    form: Form
    vectors: int = 2
    by_panels: bool = False
    excess: Excess | None = None

    @property
    def operands(self) -> tuple[str, ...]:
        excess = ("places", "excess") if self.excess else ()
        return ("x", "weights", "parameters", *excess, *(("residual",) if self.residual else ()), "y")

    @property
    def dot(self) -> Isa:
        """What multiplies."""
        saturating = self.isa.saturating if self.excess else None
        return saturating or self.isa

    @cached_property
    def panels(self) -> list[Panel]:
        """Of all groups, in the order of the channels."""
        count = self.y.channels
        return [panel for group in range(self.groups) for panel in panels_of(count, group * count, self.isa, self.vectors)]

    @cached_property
    def is_matrix(self) -> bool:
        """Whether pixels are rows of dense matrices, so that tiles may run over the ends of rows and images."""
        layouts = [self.x, self.y, *([self.residual] if self.residual else [])]
        one_to_one = self.x.size == self.y.size and self.window.stride == self.x.strides and self.window.origin == 0
        return one_to_one and not self.window.steps_taken and all(layout.is_dense for layout in layouts)

    @cached_property
    def tile_pixels(self) -> int:
        """How many pixels one tile has at most."""
        most = tile_height(self.isa, self.vectors, self.window.sum_steps)
        return least_waste(most, self.y.pixels) if most > _FEW_PIXELS and self.is_matrix and self.y.pixels >= most else most

    @cached_property
    def tile(self) -> Pixels:
        """Its shape in an image: columns that divide a row well, or as many whole rows as fit."""
        width, most = self.y.size[-1], self.tile_pixels
        if self.is_matrix:
            return Pixels(1, most)
        if width >= most:
            return Pixels(1, -(-width // -(-width // most)))
        height = self.y.size[-2] if len(self.y.size) > 1 else 1
        return Pixels(max(1, min(most // width, height)), width)

    @property
    def blocks_of_plane(self) -> int:
        """Tiles of whole rows that one plane is cut into."""
        height = self.y.size[-2] if len(self.y.size) > 1 else 1
        return -(-height // self.tile.rows)

    @property
    def blocks_of_image(self) -> int:
        """Of all planes."""
        return self.blocks_of_plane * prod(self.y.size[:-2])

    def units(self, images: int) -> int:
        if self.by_panels:
            return len(self.panels) * (1 if self.is_matrix else images)
        if self.is_matrix:
            return -(-images * self.y.pixels // self.tile_pixels)
        return images * self.blocks_of_image

    def spans(self) -> tuple[Span, ...]:
        last = [(count - 1) * step for count, step in zip(self.y.size, self.window.stride, strict=True)]
        group = (self.groups - 1) * self.x.channels
        x = Span(self.window.origin, self.window.origin + sum(last) + group + self.window.reach, self.x.image)
        channels = self.groups * self.y.channels
        y = Span(0, pixel_reach(self.y) + channels * (4 if self.form.floats else 1), self.y.image)
        constants = [Span(0, sum(map(self.weight_bytes, self.panels))), Span(0, self.parameter_offset(len(self.panels)))]
        excess = [] if self.excess is None else self._excess_spans(self.excess)
        residual = [] if self.residual is None else [self._residual_span(self.residual)]
        return (x, *constants, *excess, *residual, y)

    def _excess_spans(self, excess: Excess) -> list[Span]:
        return [Span(0, excess.places_bytes(len(self.panels))), Span(0, excess.weights_bytes(self.isa.vector_bytes))]

    def _residual_span(self, residual: Layout) -> Span:
        """Whole vectors of the last panel are read."""
        last = self.panels[-1]
        return Span(0, pixel_reach(residual) + last.first + last.vectors * self.isa.lanes, residual.image)

    def weight_bytes(self, panel: Panel) -> int:
        """Packed weights of a panel."""
        return self.window.sum_steps * panel.vectors * self.isa.vector_bytes

    @cached_property
    def is_streamed(self) -> bool:
        """Whether each panel meets all pixels before the next one, so that weights from far away are fetched once."""
        return self.by_panels or sum(map(self.weight_bytes, self.panels)) > _CACHED_WEIGHTS

    def parameter_bytes(self, panel: Panel) -> int:
        """Bias, multiplier and what the form adds, of a panel."""
        return (3 if self.form.fused else 2) * panel.vectors * self.isa.vector_bytes

    def parameter_offset(self, number: int) -> int:
        """Where the parameters of a panel are, behind the header."""
        return HEADER_BYTES + sum(map(self.parameter_bytes, self.panels[:number]))

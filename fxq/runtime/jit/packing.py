"""Weights and parameters in the order in which kernels read them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from fxq.runtime.jit.epilogue import MAGIC, MAGIC_BITS
from fxq.runtime.jit.isa import TAPS, Isa

_FUSED_ACCUMULATOR = 2**22


@dataclass(frozen=True)
class Panel:
    """Output channels that one tile computes.

    Attributes:
        first: channel.
        count: how many; the last panel of a layer may have fewer than its vectors hold.
        vectors: of accumulators.
    """

    first: int
    count: int
    vectors: int


@dataclass(frozen=True, eq=False)
class Constants:
    """What a layer with weights multiplies by, per output channel, in NumPy.

    Attributes:
        weight: s8 [O, runs, bytes of a run], bytes in the order in which the input has them.
        bias: i32 [O].
        multiplier: f32 [O].
    """

    weight: NDArray[np.int8]
    bias: NDArray[np.int32]
    multiplier: NDArray[np.float32]

    @cached_property
    def largest_sum(self) -> int:
        """Bound of |acc| over all inputs u8."""
        flat = self.weight.reshape(len(self.weight), -1)
        below, above = (extreme(flat, 0).sum(1, dtype=np.int32).astype(np.int64) for extreme in (np.minimum, np.maximum))
        bias = self.bias.astype(np.int64)
        return int(np.maximum(-(bias + 255 * below), bias + 255 * above).max(initial=0))

    @property
    def fusable(self) -> bool:
        """Whether MAGIC·m is exact and every accumulator keeps its bits beside MAGIC."""
        correction = MAGIC * self.multiplier.astype(np.float64)
        exact = bool((correction.astype(np.float32) == correction).all())
        return exact and self.largest_sum < _FUSED_ACCUMULATOR


def panels_of(channels: int, first: int, isa: Isa, vectors: int) -> list[Panel]:
    """Channels first..first+channels in panels of that many vectors; the rest in one with as few as it needs."""
    width = vectors * isa.lanes
    full = [Panel(first + start, width, vectors) for start in range(0, channels // width * width, width)]
    rest = channels % width
    if not rest:
        return full
    needed = 1
    while needed * isa.lanes < rest:
        needed *= 2
    return [*full, Panel(first + channels - rest, rest, needed)]


def lane_channels(panel: Panel, isa: Isa, *, natural: bool) -> NDArray[np.int64]:
    """[vectors, lanes]: channel of each lane, counted from the panel's first; count and more for lanes that hold none."""
    width = panel.vectors * isa.lanes
    return np.arange(width).reshape(panel.vectors, isa.lanes) if natural else isa.channels(panel.vectors)


def pack_weights(weight: NDArray[np.int8], panel: Panel, isa: Isa, *, natural: bool) -> NDArray[np.uint8]:
    """[O, runs, bytes] → per run and four bytes of it: the vectors of the panel; lanes without a channel have weight 0."""
    lanes = lane_channels(panel, isa, natural=natural)
    used = lanes < panel.count
    rows = weight[panel.first + np.where(used, lanes, 0)] * used[..., None, None].astype(np.int8)
    spare = -weight.shape[2] % TAPS
    padded = np.pad(rows, ((0, 0), (0, 0), (0, 0), (0, spare)))
    taps = padded.reshape(*padded.shape[:3], -1, TAPS).transpose(2, 3, 0, 1, 4)
    return np.ascontiguousarray(isa.arrange(taps)).view(np.uint8).reshape(-1)


def pack_parameters(constants: Constants, panel: Panel, isa: Isa, *, natural: bool, fused: bool) -> NDArray[np.uint8]:
    """bias i32, multiplier f32 and, where fused, −MAGIC·multiplier: each the vectors of the panel. A fused bias carries MAGIC_BITS."""
    lanes = lane_channels(panel, isa, natural=natural)
    used = lanes < panel.count
    channels = panel.first + np.where(used, lanes, 0)
    bias, multiplier = np.where(used, constants.bias[channels], 0), np.where(used, constants.multiplier[channels], 0)
    blocks = [(bias + MAGIC_BITS * fused).astype(np.int32), multiplier.astype(np.float32)]
    if fused:
        blocks.append((-MAGIC * multiplier.astype(np.float64)).astype(np.float32))
    return np.concatenate([block.reshape(-1).view(np.uint8) for block in blocks])

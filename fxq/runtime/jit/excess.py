"""Weights whose products do not fit 16 bits in pairs → weights whose products do, and what they lack, in further steps of the sum.

vpmaddubsw multiplies u8 by s8 and adds neighbours with saturation to 16 bits. It is exact where the weights of a pair that have one
sign sum up to at most 128, since 255·128 < 2^15. That is true of nearly all pairs of a trained layer, whose weights are small but for a
few. What a pair has beyond 128 is taken off one of its weights and becomes a weight of another step, which meets the same four bytes
of the input: Σ x·w = Σ x·(w − excess) + Σ x·excess, and both sums are exact.

Excesses are few and small, so that sums of pairs of several steps fit 16 bits together: TOGETHER of them are widened at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fxq.runtime.jit.isa import TAPS, Isa
from fxq.runtime.jit.packing import Panel, pack_weights

TOGETHER = 4
NUMBER = 8  # an i64

_LARGEST_PAIR = 128
_NO_STEP = -1

# how many steps more a panel may have, in relation to those of its sum; from the last share on an exact dot product is as fast
_SHARES = (0, 1 / 16, 1 / 8, 1 / 4, 1 / 2, 3 / 4)


@dataclass(frozen=True)
class Room:
    """Where the further steps of one panel are: how many groups, where the input of each step lies, i64, and the weights.

    Attributes:
        steps: how many there may be; a multiple of TOGETHER.
        step_bytes: weights of one.
    """

    steps: int
    step_bytes: int

    @property
    def weights(self) -> int:
        """Where the weights begin."""
        return -(-NUMBER * (1 + self.steps) // 64) * 64

    @property
    def nbytes(self) -> int:
        """Of the whole; a multiple of 64."""
        return -(-(self.weights + self.steps * self.step_bytes) // 64) * 64


@dataclass(frozen=True, eq=False)
class _PanelExcess:
    """Excess of one panel.

    Attributes:
        rows: s8 [steps of the sum, bytes of a step], packed.
        steps: those with an excess, in groups of TOGETHER that fit 16 bits; _NO_STEP where a group has fewer.
    """

    rows: NDArray[np.int8]
    steps: NDArray[np.int64]

    def block(self, room: int, run_offsets: Sequence[int]) -> NDArray[np.uint8]:
        """What a Room for so many steps has."""
        there = Room(room, self.rows.shape[1])
        run, inner = np.divmod(np.maximum(self.steps, 0), len(self.rows) // len(run_offsets))
        offsets = np.asarray(run_offsets, np.int64)[run] + TAPS * inner
        numbers = np.array([len(self.steps) // TOGETHER, *offsets], np.int64).view(np.uint8)
        weights = np.where((self.steps == _NO_STEP)[:, None], 0, self.rows[self.steps]).astype(np.int8).view(np.uint8)
        block = np.zeros(there.nbytes, np.uint8)
        block[: numbers.size] = numbers
        block[there.weights : there.weights + weights.size] = weights.reshape(-1)
        return block


@dataclass(frozen=True, eq=False)
class SplitWeights:
    """Weights whose pairs fit, and the further steps of each panel.

    Attributes:
        fitting: s8 [O, runs, bytes], as the weights were.
        room: for how many further steps: one of a few numbers, so that layers share code.
    """

    fitting: NDArray[np.int8]
    room: int
    panels: Sequence[_PanelExcess]

    def excess(self, run_offsets: Sequence[int]) -> NDArray[np.uint8]:
        """All Rooms. Steps of a run are TAPS bytes apart in the input, runs begin at the offsets."""
        return np.concatenate([panel.block(self.room, run_offsets) for panel in self.panels])


def split_weights(weight: NDArray[np.int8], panels: Sequence[Panel], isa: Isa, *, natural: bool) -> SplitWeights | None:
    """Weights [O, runs, bytes] = fitting + excess, packed for an ISA that saturates; None where that takes too many further steps."""
    excess = _beyond(weight)
    packed = [_packed_steps(excess, panel, isa, natural=natural) for panel in panels]
    rooms = [-(-int(share * len(packed[0])) // TOGETHER) * TOGETHER for share in _SHARES]
    if any(np.count_nonzero(rows.any(1)) > rooms[-1] for rows in packed):
        return None
    grouped = [_PanelExcess(rows, _grouped(rows)) for rows in packed]
    most = max(len(panel.steps) for panel in grouped)
    room = next((room for room in rooms if most <= room), None)
    return None if room is None else SplitWeights(weight - excess, room, grouped)


def _packed_steps(excess: NDArray[np.int8], panel: Panel, isa: Isa, *, natural: bool) -> NDArray[np.int8]:
    return pack_weights(excess, panel, isa, natural=natural).view(np.int8).reshape(-1, panel.vectors * isa.vector_bytes)


def _beyond(weight: NDArray[np.int8]) -> NDArray[np.int8]:
    """What each pair has beyond _LARGEST_PAIR, in the place of its larger weight."""
    pairs = np.pad(weight, ((0, 0), (0, 0), (0, -weight.shape[2] % TAPS))).reshape(*weight.shape[:2], -1, 2).astype(np.int16)
    first, second = pairs[..., 0], pairs[..., 1]
    sums = np.where(np.sign(first) == np.sign(second), first + second, 0)
    beyond = sums - np.clip(sums, -_LARGEST_PAIR, _LARGEST_PAIR)
    is_first = np.abs(first) >= np.abs(second)
    excess = np.stack([np.where(is_first, beyond, 0), np.where(is_first, 0, beyond)], -1).astype(np.int8)
    return excess.reshape(*weight.shape[:2], -1)[..., : weight.shape[2]]


def _grouped(rows: NDArray[np.int8]) -> NDArray[np.int64]:
    """The steps of _PanelExcess.steps: a group ends before the step that would not fit into it any more."""
    steps = np.flatnonzero(rows.any(1))
    pairs = rows[steps].reshape(len(steps), rows.shape[1] // 2, 2).sum(2, dtype=np.int16)
    spare = -len(steps) % TOGETHER
    if _fit(np.pad(pairs, ((0, spare), (0, 0))).reshape(-1, TOGETHER, pairs.shape[1]).swapaxes(0, 1)):
        return np.pad(steps, (0, spare), constant_values=_NO_STEP)
    groups: list[int] = []
    for number, step in enumerate(steps):
        held = len(groups) % TOGETHER
        if held and not _fit(pairs[number - held : number + 1]):
            groups += [_NO_STEP] * (TOGETHER - held)
        groups.append(int(step))
    return np.array(groups + [_NO_STEP] * (-len(groups) % TOGETHER), np.int64)


def _fit(pairs: NDArray[np.int16]) -> bool:
    """Whether sums of products with these pairs of weights stay inside 16 bits, added along the first dimension in any order."""
    largest = np.maximum(np.maximum(pairs, 0).sum(0), -np.minimum(pairs, 0).sum(0))
    return bool(largest.max(initial=0) <= _LARGEST_PAIR)

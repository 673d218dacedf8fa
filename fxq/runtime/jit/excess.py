"""Weights whose products do not fit 16 bits in pairs → weights whose products do, and what they lack, in further steps of the sum.

vpmaddubsw multiplies u8 by s8 and adds neighbours with saturation to 16 bits. It is exact where the weights of a pair that have one
sign sum up to at most 128, since 255·128 < 2^15. That is true of nearly all pairs of a trained layer, whose weights are small but for a
few. What a pair has beyond 128 is taken off one of its weights and becomes a weight of another step, which meets the same byte of the
input: Σ x·w = Σ x·(w − excess) + Σ x·excess, and both sums are exact.

The other weight of the pair could give it as well. So a step of four bytes that begins at the second byte of a pair serves three pairs.

Excesses are few and small, so that sums of pairs of several steps fit 16 bits together: TOGETHER of them are widened at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from fxq.runtime.jit.isa import TAPS, Isa
from fxq.runtime.jit.packing import Panel, lane_channels

TOGETHER = 4
NUMBER = 4  # bytes of an i32

_LARGEST_PAIR = 128
_NO_STEP = -1

# how many steps more there may be, in relation to those of the sums; beyond that an exact dot product is as fast
_LARGEST_SHARE = 1

# of a step: pairs behind the one at which it begins, and bytes from that one's second byte to the byte that takes the pair's excess
_SERVED = ((0, 0), (1, 1), (2, 3))


@dataclass(frozen=True)
class Excess:
    """The further steps of a layer, in groups of TOGETHER, those of each panel behind those of the panel before it.

    There are two blocks of constants. `places`, i32, has the number of the first group of each panel, and of the one behind the last;
    then, for each step, where the four bytes of the input are that it meets. `excess` has the weights. Code depends on neither.

    Attributes:
        groups: of all panels.
    """

    groups: int = field(compare=False)

    def places_bytes(self, panels: int) -> int:
        """Of `places`."""
        return NUMBER * (panels + 1 + TOGETHER * self.groups)

    def weights_bytes(self, step_bytes: int) -> int:
        """Of `excess`, for so many bytes of weights in a step."""
        return TOGETHER * self.groups * step_bytes


@dataclass(frozen=True, eq=False)
class _PanelExcess:
    """Excess of one panel.

    Attributes:
        weights: s8 [further steps, bytes of a step], packed.
        runs, starts: of each step: of which run, and from which byte of it on, are the four bytes of the input that it meets.
    """

    weights: NDArray[np.int8]
    runs: NDArray[np.int64]
    starts: NDArray[np.int64]

    @cached_property
    def order(self) -> NDArray[np.int64]:
        """The steps, in groups of TOGETHER that fit 16 bits; _NO_STEP where a group has fewer."""
        return _grouped(self.weights)

    @property
    def groups(self) -> int:
        """How many."""
        return len(self.order) // TOGETHER

    def offsets(self, run_offsets: NDArray[np.int64]) -> NDArray[np.int64]:
        """Of each step in order: bytes from the first tap to what it meets; 0 where a group has fewer steps."""
        return np.where(self.order != _NO_STEP, run_offsets[self.runs[self.order]] + self.starts[self.order], 0)

    def ordered_weights(self) -> NDArray[np.int8]:
        """Of each step in order; 0 where a group has fewer steps."""
        return np.where((self.order != _NO_STEP)[:, None], self.weights[self.order], 0).astype(np.int8)


@dataclass(frozen=True, eq=False)
class SplitWeights:
    """Weights whose pairs fit, and the further steps of each panel.

    Attributes:
        fitting: s8 [O, runs, bytes], as the weights were.
    """

    fitting: NDArray[np.int8]
    panels: Sequence[_PanelExcess]

    @property
    def excess(self) -> Excess:
        """How many further steps there are."""
        return Excess(sum(panel.groups for panel in self.panels))

    def places(self, run_offsets: Sequence[int]) -> NDArray[np.uint8]:
        """See Excess. Runs begin at the offsets."""
        starts = np.cumsum([0, *(panel.groups for panel in self.panels)])
        offsets = [panel.offsets(np.asarray(run_offsets, np.int64)) for panel in self.panels]
        return np.concatenate([starts, *offsets]).astype(np.int32).view(np.uint8)

    def weights(self) -> NDArray[np.uint8]:
        """See Excess."""
        return np.concatenate([panel.ordered_weights() for panel in self.panels]).view(np.uint8).reshape(-1)


def split_weights(weight: NDArray[np.int8], panels: Sequence[Panel], isa: Isa, *, natural: bool) -> SplitWeights | None:
    """Weights [O, runs, bytes] = fitting + excess, packed for an ISA that saturates; None where that takes too many further steps.

    Args:
        panels: of one vector each: the fewer channels share a step, the fewer steps one of them makes necessary.
    """
    beyond, excess = _beyond(weight), np.zeros_like(weight)
    most = int(_LARGEST_SHARE * len(panels) * beyond.shape[1] * beyond.shape[2] // 2)
    alike = _Panels.of(beyond, panels, isa, natural=natural)
    if alike.steps > most:
        return None
    alike.place(excess)
    split = SplitWeights(weight - excess, list(alike.split(isa)))
    return None if TOGETHER * split.excess.groups > most else split


def _beyond(weight: NDArray[np.int8]) -> NDArray[np.int8]:
    """What each pair has beyond _LARGEST_PAIR: [O, runs, pairs]; an even number of pairs, those of whole steps."""
    pairs = np.pad(weight, ((0, 0), (0, 0), (0, -weight.shape[2] % TAPS))).reshape(*weight.shape[:2], -1, 2).astype(np.int16)
    first, second = pairs[..., 0], pairs[..., 1]
    sums = np.where(np.sign(first) == np.sign(second), first + second, 0)
    beyond: NDArray[np.int8] = (sums - np.clip(sums, -_LARGEST_PAIR, _LARGEST_PAIR)).astype(np.int8)
    return beyond


@dataclass(frozen=True, eq=False)
class _Panels:
    """All panels at once.

    Attributes:
        channels: [panels, lanes of a panel]: of each lane; −1 for none.
        beyond: [panels, lanes of a panel, runs, pairs]: of each lane's pairs.
        begins: [panels, runs, pairs]: whether a further step begins at the second byte of the pair.
        crowded: [panels, runs, pairs]: whether that step can serve no other pair.
    """

    channels: NDArray[np.int64]
    beyond: NDArray[np.int8]
    begins: NDArray[np.bool_]
    crowded: NDArray[np.bool_]

    @classmethod
    def of(cls, beyond: NDArray[np.int8], panels: Sequence[Panel], isa: Isa, *, natural: bool) -> _Panels:
        """Of panels of some channels of beyond [O, runs, pairs]."""
        assert all(panel.vectors == 1 for panel in panels), "further steps are of one vector"
        lanes = np.stack([lane_channels(panel, isa, natural=natural).reshape(-1) for panel in panels])
        first, count = (np.array([[getattr(panel, name)] for panel in panels]) for name in ("first", "count"))
        channels = np.where(lanes < count, first + lanes, -1)
        own = np.where((channels < 0)[..., None, None], 0, beyond[channels]).astype(np.int8)
        # the excess of a pair and that of the next one are neighbours in a step
        crowded = np.zeros((len(panels), *own.shape[2:]), bool)
        crowded[..., :-1] = (np.abs(own[..., :-1].astype(np.int16) + own[..., 1:]) > _LARGEST_PAIR).any(1)
        return cls(channels, own, _begins((own != 0).any(1), crowded), crowded)

    @property
    def steps(self) -> int:
        """Further ones of all panels."""
        return int(self.begins.sum())

    def place(self, excess: NDArray[np.int8]) -> None:
        """Writes what each weight gives into [O, runs, bytes]: the second one of a pair at which a step begins, else the first."""
        is_second = self.begins[:, None]
        both = np.stack([np.where(is_second, 0, self.beyond), np.where(is_second, self.beyond, 0)], -1)
        used = self.channels >= 0
        excess[self.channels[used]] = both.reshape(*both.shape[:3], -1)[used][..., : excess.shape[2]]

    def split(self, isa: Isa) -> Iterator[_PanelExcess]:
        """The further steps of each."""
        panel, run, pair = np.nonzero(self.begins)
        second = 2 * pair + 1
        starts = np.minimum(second, 2 * self.beyond.shape[3] - TAPS)
        taps = np.zeros((len(pair), self.beyond.shape[1], TAPS), np.int8)
        for behind, place in _SERVED:
            (steps,) = np.nonzero((pair + behind < self.beyond.shape[3]) & ~(self.crowded[panel, run, pair] & (behind > 0)))
            served = self.beyond[panel[steps], :, run[steps], pair[steps] + behind]
            taps[steps, :, (second - starts)[steps] + place] = served
        packed = isa.arrange(taps)
        ends = np.searchsorted(panel, np.arange(len(self.channels) + 1))
        for first, end in pairwise(ends):
            yield _PanelExcess(packed[first:end], run[first:end], starts[first:end])


def _begins(occupied: NDArray[np.bool_], crowded: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """[..., pairs]: steps from left to right, each at the first occupied pair that those before it do not serve."""
    count = occupied.shape[-1]
    following = np.where(occupied, np.arange(count), count).reshape(-1, count)
    following = np.minimum.accumulate(following[:, ::-1], 1)[:, ::-1]
    following = np.pad(following, ((0, 0), (0, len(_SERVED))), constant_values=count)
    serves = np.where(crowded, 1, len(_SERVED)).reshape(-1, count)
    begins = np.zeros_like(serves, bool)
    rows, at = np.arange(len(following)), following[:, 0]
    while len(rows):
        rows, at = rows[at < count], at[at < count]
        begins[rows, at] = True
        at = following[rows, at + serves[rows, at]]
    return begins.reshape(occupied.shape)


def _grouped(rows: NDArray[np.int8]) -> NDArray[np.int64]:
    """The steps of _PanelExcess.order: a group ends before the step that would not fit into it any more."""
    pairs = rows.reshape(len(rows), rows.shape[1] // 2, 2).astype(np.int16)
    # of each pair, what is positive and what is negative: products are largest where only one of the two meets large inputs
    sizes = np.concatenate([np.maximum(pairs, 0).sum(2), -np.minimum(pairs, 0).sum(2)], 1)
    steps, spare = np.arange(len(rows)), -len(rows) % TOGETHER
    if np.pad(sizes, ((0, spare), (0, 0))).reshape(-1, TOGETHER, sizes.shape[1]).sum(1).max(initial=0) <= _LARGEST_PAIR:
        return np.pad(steps, (0, spare), constant_values=_NO_STEP)
    groups: list[int] = []
    for step in steps:
        held = len(groups) % TOGETHER
        if held and sizes[step - held : step + 1].sum(0).max() > _LARGEST_PAIR:
            groups += [_NO_STEP] * (TOGETHER - held)
        groups.append(int(step))
    return np.array(groups + [_NO_STEP] * (-len(groups) % TOGETHER), np.int64)

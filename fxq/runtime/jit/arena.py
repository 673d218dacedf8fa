"""Offsets in one arena for buffers with lifetimes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

ALIGNMENT = 64


@dataclass(frozen=True)
class Lifetime:
    """What a buffer needs: bytes, from its first to its last use, both included."""

    nbytes: int
    first: int
    last: int

    def meets(self, other: Lifetime) -> bool:
        """Whether both are in use at some moment."""
        return self.first <= other.last and other.first <= self.last


@dataclass(frozen=True)
class Arena:
    """Where each buffer begins, in bytes, and how large the whole is."""

    offsets: tuple[int, ...]
    nbytes: int


def plan_arena(lifetimes: Sequence[Lifetime]) -> Arena:
    """Buffers that are in use together do not overlap; each goes into the tightest gap that it fits, the largest first.

    Source: greedy by size, Pisarchyk and Lee, "Efficient Memory Management for Deep Neural Net Inference", 2020.
    """
    offsets: dict[int, int] = {}
    for number in sorted(range(len(lifetimes)), key=lambda n: -lifetimes[n].nbytes):
        wanted = lifetimes[number]
        taken = sorted((offsets[other], _end(offsets[other], lifetimes[other])) for other in offsets if wanted.meets(lifetimes[other]))
        offsets[number] = _tightest_gap(taken, wanted.nbytes)
    total = max((_end(offset, lifetimes[number]) for number, offset in offsets.items()), default=0)
    return Arena(tuple(offsets[number] for number in range(len(lifetimes))), total)


def _end(offset: int, lifetime: Lifetime) -> int:
    return offset + -(-lifetime.nbytes // ALIGNMENT) * ALIGNMENT


def _tightest_gap(taken: Sequence[tuple[int, int]], nbytes: int) -> int:
    """The start of the smallest gap of at least nbytes between the taken ranges, or the end of the last one."""
    gaps, end = [], 0
    for start, stop in taken:
        if start - end >= nbytes:
            gaps.append((start - end, end))
        end = max(end, stop)
    return min(gaps)[1] if gaps else end


def aligned_bytes(nbytes: int) -> NDArray[np.uint8]:
    """Zeroed memory that starts at a multiple of ALIGNMENT."""
    raw = np.zeros(nbytes + ALIGNMENT, np.uint8)
    start = -raw.ctypes.data % ALIGNMENT
    return raw[start : start + nbytes]


def aligned_copy(data: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The same bytes in memory that starts at a multiple of ALIGNMENT."""
    copy = aligned_bytes(data.nbytes)
    copy[:] = data
    return copy

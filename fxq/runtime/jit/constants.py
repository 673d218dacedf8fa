"""The constants of a region's programs: what several of them read lies in memory once."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from hashlib import sha256
from weakref import WeakValueDictionary

import numpy as np
from numpy.typing import NDArray

from fxq.runtime.jit.arena import aligned_copy

Block = NDArray[np.uint8]


class ConstantPool:
    """Blocks at aligned addresses. Those that were packed for an op stay as long as the region, others as long as a program has them."""

    def __init__(self) -> None:
        self._equal: WeakValueDictionary[bytes, Block] = WeakValueDictionary()
        self._packed: dict[Hashable, tuple[Block, ...]] = {}
        self._kept: set[int] = set()

    def keep(self, data: Block) -> Block:
        """The same bytes at an aligned address; equal ones are one block."""
        if id(data) in self._kept:
            return data
        key = sha256(data.data).digest()
        block = self._equal.get(key)
        if block is None:
            block = self._equal[key] = aligned_copy(data)
        return block

    def packed(self, key: Hashable, pack: Callable[[], Sequence[Block]]) -> tuple[Block, ...]:
        """What pack() gives, which is called once for each key: a program for another shape finds them packed."""
        if key not in self._packed:
            self._packed[key] = tuple(map(aligned_copy, pack()))
            self._kept.update(map(id, self._packed[key]))
        return self._packed[key]

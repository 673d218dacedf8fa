"""Where a value lies: a strided part of a buffer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import prod
from typing import Any, Literal

import torch
from torch import Tensor

from fxq.runtime.jit.kernel import Layout

# kernels may read this many bytes past a buffer of the arena
SLACK = 128

# (before, after) for each spatial dimension
Border = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Buffer:
    """Memory of a program.

    Attributes:
        name: of the value that it was made for.
        nbytes: all that may be touched, slack included.
        place: in the program's arena, or given by the caller of each run: its inputs, its results.
        number: which of the inputs or results.
    """

    name: str
    nbytes: int
    place: Literal["arena", "input", "output"] = "arena"
    number: int = 0


@dataclass(frozen=True)
class View:
    """A strided part of a buffer, in the logical order of dimensions of the torch tensor that it stands for.

    Attributes:
        buffer: index into the program's buffers.
        offset: of the first element, in bytes.
        shape, strides: as of a tensor; strides in elements.
        element: bytes of one.
        framed: whether the border that readers need is around it.
    """

    buffer: int
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    element: int = 1
    framed: bool = False

    @property
    def memory_order(self) -> tuple[int, ...]:
        """Dimensions from the outermost to the innermost; the batch first, and those of size 1 where row-major order has them."""
        inner = range(1, len(self.shape))
        return (0, *sorted(inner, key=lambda dim: -self.strides[dim]))

    @property
    def batched(self) -> View:
        """A vector as the only row of a matrix; all else is a batch."""
        return self if len(self.shape) > 1 else replace(self, shape=(1, *self.shape), strides=(0, *self.strides))

    def layout(self, order: tuple[int, ...]) -> Layout:
        """With dimensions in that order: images, spatial ones, channels. A matrix has one pixel in each image; a vector is one pixel."""
        if len(self.shape) == 1:
            return self.batched.layout((0, 1))
        shape, strides = [self.shape[dim] for dim in order], [self.strides[dim] * self.element for dim in order]
        size, steps = tuple(shape[1:-1]) or (1,), tuple(strides[1:-1]) or (strides[0],)
        return Layout(shape[-1], size, steps, strides[0])

    def part(self, dim: int, start: int, count: int) -> View:
        """The slice start..start+count of a dimension."""
        shape = (*self.shape[:dim], count, *self.shape[dim + 1 :])
        return replace(self, offset=self.offset + start * self.strides[dim] * self.element, shape=shape, framed=self.framed and dim < 2)

    def in_order(self, order: tuple[int, ...]) -> View:
        """The same elements with the dimensions in that order."""
        return replace(self, shape=tuple(self.shape[dim] for dim in order), strides=tuple(self.strides[dim] for dim in order), framed=False)

    def backwards(self, dim: int) -> View:
        """The last slice of a dimension first."""
        strides = (*self.strides[:dim], -self.strides[dim], *self.strides[dim + 1 :])
        return replace(self, offset=self.offset + (self.shape[dim] - 1) * self.strides[dim] * self.element, strides=strides, framed=False)

    def in_shape(self, shape: tuple[int, ...]) -> View:
        """A dense view in another shape."""
        moved = self.moved(lambda tensor: tensor.view(shape))
        assert moved is not None
        return moved

    def moved(self, function: Callable[[Tensor], Any]) -> View | None:
        """What a function that only moves elements gives, where that is a view; None where it would copy."""
        source = torch.empty_strided(self.shape, self.strides, dtype=torch.uint8, device="meta")
        result = function(source)
        if result.untyped_storage()._cdata != source.untyped_storage()._cdata:
            return None
        offset = self.offset + result.storage_offset() * self.element
        return replace(self, offset=offset, shape=tuple(result.shape), strides=tuple(result.stride()), framed=False)


def channels_last(rank: int) -> tuple[int, ...]:
    """The memory order of images in programs: [N, C, *spatial] → N, *spatial, C; a matrix as it is."""
    return (0, *range(2, rank), 1) if rank > 1 else (0,)


def row_major(rank: int) -> tuple[int, ...]:
    """Dimensions as they come."""
    return tuple(range(rank))


def strides_in(order: tuple[int, ...], shape: tuple[int, ...], border: Border = ()) -> tuple[int, ...]:
    """Strides, in elements, of a dense tensor with that memory order, and a border around its spatial dimensions 2, 3, ..."""
    padded = [length + sum(border[dim - 2]) if border and dim >= 2 else length for dim, length in enumerate(shape)]
    strides = [0] * len(shape)
    step = 1
    for dim in reversed(order):
        strides[dim] = step
        step *= padded[dim]
    return tuple(strides)


def padded_elements(shape: tuple[int, ...], border: Border) -> int:
    """Elements of a dense tensor with a border around its spatial dimensions."""
    ends = [sum(pair) for pair in border] or [0] * (len(shape) - 2)
    return prod(shape[:2]) * prod(length + more for length, more in zip(shape[2:], ends, strict=True))

"""What a kernel is: the key of one compiled function, which can write that function."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from math import prod

import numpy as np
from numpy.typing import NDArray

from fxq.runtime.jit.ir import PTR, Emitter, Value
from fxq.runtime.jit.isa import Isa


@dataclass(frozen=True)
class Span:
    """Bytes that a call may touch, counted from the operand's pointer: [first, end). One image's; `stride` further for each other.

    Attributes:
        stride: bytes from one image to the next; 0 for what all images share.
    """

    first: int
    end: int
    stride: int = 0

    def over(self, images: int) -> Span:
        """For all images together."""
        last = max(0, images - 1) * self.stride
        return Span(self.first + min(0, last), self.end + max(0, last))


@dataclass(frozen=True)
class Layout:
    """Where the elements of a batch of images are. A pointer to one is that of image 0, first pixel, channel 0; halos lie outside.

    Channels are adjacent bytes (or floats); all else has a stride. Inside a program bytes are u8: an int8 value is stored as q + 128.

    Attributes:
        channels: how many.
        size: spatial, 1 to 3 entries, the width last; (1,) for a matrix, whose rows are images or pixels.
        strides: bytes from one to the next, for each entry of size.
        image: bytes from one image to the next.
    """

    channels: int
    size: tuple[int, ...]
    strides: tuple[int, ...]
    image: int

    @property
    def pixels(self) -> int:
        """Of one image."""
        return prod(self.size)

    @property
    def is_dense(self) -> bool:
        """Whether all pixels of all images follow each other at one stride, so that they are the rows of one matrix."""
        outer = (self.image, *self.strides[:-1])
        return all(stride == count * inner for stride, count, inner in zip(outer, self.size, self.strides, strict=True))


@dataclass(frozen=True)
class Work:
    """What the function of a kernel gets.

    Attributes:
        pointers: one for each operand.
        images: how many images there are, a 64-bit value ≥ 1.
        begin, end: the range of units to compute, 64-bit values, 0 ≤ begin ≤ end.
    """

    pointers: tuple[Value, ...]
    images: Value
    begin: Value
    end: Value


@dataclass(frozen=True)
class Kernel(ABC):
    """All that the code of one function depends on; equal kernels share their code.

    A call is split into units, which threads share out in any order: unit u of `units(images)` writes its own part of the results,
    or the same bytes as another one.

    Attributes:
        isa: what it is written for.
    """

    isa: Isa

    @property
    def name(self) -> str:
        """The family's name in listings and symbols."""
        return type(self).__name__.lower()

    @property
    @abstractmethod
    def operands(self) -> tuple[str, ...]:
        """Names of the pointers, in order; results are named y."""

    @abstractmethod
    def units(self, images: int) -> int:
        """Into how many units the call for that many images is split."""

    @abstractmethod
    def spans(self) -> tuple[Span | None, ...]:
        """What is touched behind each pointer. Programs are verified against it, and tests put memory guards at both ends.

        None where only the caller of a run knows: who plans that call answers for it.
        """

    @abstractmethod
    def emit(self, e: Emitter, work: Work) -> None:
        """Writes the function's body, up to its return."""


@dataclass(frozen=True, eq=False)
class Planned:
    """One call of a kernel, but for where its tensors are.

    Attributes:
        kernel: its code.
        constants: bytes behind the operands that are no tensors, in their order.
        macs: multiplications of one image.
    """

    kernel: Kernel
    constants: tuple[NDArray[np.uint8], ...]
    macs: int = 0


def emit_kernel(kernel: Kernel, e: Emitter) -> None:
    """The whole function: loads the words of the call, then the body."""
    words, begin, end = e.arguments
    count = len(kernel.operands)
    pointers = tuple(e.load(words, PTR, 8 * index, 8) for index in range(count))
    images = e.load(words, begin.type, 8 * count, 8)
    kernel.emit(e, Work(pointers, images, begin, end))
    e.b.ret_void()

"""Numbers that the graph computes from shapes, where they depend on the size of the batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fxq.export.writer import Writer


class BatchSizeNeeded(Exception):
    """Python asks for a number that is only known when the exported model runs."""


@dataclass(frozen=True, eq=False)
class Size:
    """A number that is computed when the model runs; sums, products and quotients of it become nodes.

    Attributes:
        name: of its value, int64 [1].
    """

    writer: Writer
    name: str

    def __add__(self, other: Any) -> Size:
        return self._combined("Add", self, other)

    __radd__ = __add__

    def __mul__(self, other: Any) -> Size:
        return self._combined("Mul", self, other)

    __rmul__ = __mul__

    def __sub__(self, other: Any) -> Size:
        return self._combined("Sub", self, other)

    def __rsub__(self, other: Any) -> Size:
        return self._combined("Sub", other, self)

    def __floordiv__(self, other: Any) -> Size:
        return self._combined("Div", self, other)

    def __eq__(self, other: object) -> bool:
        raise BatchSizeNeeded

    __hash__ = None  # type: ignore[assignment]
    __lt__ = __le__ = __gt__ = __ge__ = __eq__

    def __bool__(self) -> bool:
        raise BatchSizeNeeded

    def __index__(self) -> int:
        raise BatchSizeNeeded

    def _combined(self, op_type: str, left: Any, right: Any) -> Size:
        names = [side.name if isinstance(side, Size) else self.writer.sizes([int(side)]) for side in (left, right)]
        return Size(self.writer, self.writer.emit(op_type, names, "size"))


def as_list(sizes: Sequence[int | Size], writer: Writer, owner: str) -> str:
    """The numbers as one int64 list."""
    if not any(isinstance(size, Size) for size in sizes):
        return writer.sizes([int(size) for size in sizes])
    parts = [size.name if isinstance(size, Size) else writer.sizes([size]) for size in sizes]
    return parts[0] if len(parts) == 1 else writer.emit("Concat", parts, owner, axis=0)

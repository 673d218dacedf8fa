"""Objects by number, for torch's operators: their arguments are tensors and plain values."""

from __future__ import annotations

from itertools import count
from typing import Generic, TypeVar
from weakref import WeakValueDictionary

T = TypeVar("T")


class Numbered(Generic[T]):
    """Hands out numbers for objects, each for as long as somebody else has the object."""

    def __init__(self) -> None:
        self._objects: WeakValueDictionary[int, T] = WeakValueDictionary()
        self._numbers = count()

    def register(self, each: T) -> int:
        """The object's number: a new one at every call."""
        number = next(self._numbers)
        self._objects[number] = each
        return number

    def __getitem__(self, number: int) -> T:
        """Raises KeyError for the number of an object that is gone."""
        return self._objects[number]

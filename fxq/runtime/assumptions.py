"""What a trace has taken for granted about its inputs, checked whenever the model runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor

from fxq.errors import DataError

_REMEDY = "give such inputs, or prepare the model with example inputs like these"


def assume(value: Any, expected: Any, where: str) -> None:
    """value = expected, or the graph is not what forward would compute.

    Args:
        where: an argument of forward, or the file, line and code that asked for the value.

    Raises:
        DataError: the value is another one.
    """
    if isinstance(value, Tensor) or (value is not expected and value != expected):
        raise DataError(where, expected=f"{expected!r}, as with the example inputs", found=_described(value), remedy=_REMEDY)


def items_of(container: Any, keys: int | Sequence[Any]) -> tuple[Any, ...]:
    """(container[key] for key in keys), where a number stands for the indexes below it; there is nothing else in the container.

    Raises:
        DataError: there is more, or something is missing.
    """
    if isinstance(keys, int):
        is_same = isinstance(container, list | tuple) and len(container) == keys
        expected = f"a list or tuple of {keys}"
    else:
        is_same = isinstance(container, Mapping) and set(container) == set(keys)
        expected = f"a dict with the keys {list(keys)}"
    if not is_same:
        raise DataError("an input", expected=f"{expected}, as with the example inputs", found=_described(container), remedy=_REMEDY)
    return tuple(container) if isinstance(keys, int) else tuple(container[key] for key in keys)


# the functions that a trace calls by itself, and the user's model does not
ADDED_BY_TRACE: tuple[Callable[..., Any], ...] = (assume, items_of)


def _described(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"a tensor of shape {tuple(value.shape)}"
    if isinstance(value, list | tuple) and any(isinstance(item, Tensor) for item in value):
        return f"a {type(value).__name__} of {len(value)}"
    return f"a dict with the keys {list(value)}" if isinstance(value, Mapping) else repr(value)

"""Functions under torch.fx.wrap: traced like any other where that is possible, else one call, as torch.fx has it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from types import FunctionType
from typing import Any, Protocol

from torch.fx import Proxy
from torch.fx._symbolic_trace import _wrapped_fns_to_patch
from torch.utils._pytree import tree_leaves

from fxq.graph.recognise import op_of_target
from fxq.graph.source import is_user_code

_Function = Callable[..., Any]


class Opener(Protocol):
    """A tracer that looks into functions."""

    def open(self, function: FunctionType, whole: _Function, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """What the function returns; where it cannot be traced, what `whole` does: one call of it in the graph."""


@contextmanager
def opened_functions(tracer: Opener) -> Iterator[None]:
    """While the context lasts, the tracer decides about calls of wrapped functions. It is to be entered inside a trace.

    Ops of fxq that torchvision has wrapped, and functions that are not written in Python, stay one call.
    """
    entries = [(names, name, names[name]) for (_, name), names in _wrapped_fns_to_patch.items() if name in names]
    opened = [(names, name, whole) for names, name, whole in entries if _can_be_opened(whole)]
    for names, name, whole in opened:
        names[name] = _opening(whole, tracer)
    try:
        yield
    finally:
        for names, name, whole in opened:
            names[name] = whole


def _can_be_opened(whole: Any) -> bool:
    """Args: whole: what torch.fx has put in the function's place."""
    function = getattr(whole, "__wrapped__", None)
    return isinstance(function, FunctionType) and is_user_code(function.__code__.co_filename) and op_of_target(function) is None


def _opening(whole: _Function, tracer: Opener) -> _Function:
    function: FunctionType = whole.__wrapped__  # type: ignore[attr-defined]

    @wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        if any(isinstance(each, Proxy) for each in tree_leaves((args, kwargs))):
            return tracer.open(function, whole, args, kwargs)
        return function(*args, **kwargs)

    return call

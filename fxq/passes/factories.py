"""torch.zeros(n, 3), buffer[:, :n] and torch.finfo(x.dtype) for stand-ins: torch looks for values there, and asks nobody else."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import wraps
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.fx import Proxy

_FACTORIES = ("tensor", "zeros", "ones", "empty", "full", "rand", "randn", "eye", "linspace")
# of tensors that are no stand-ins: buffers, and what forward makes
_METHODS = ("expand", "view", "reshape", "repeat", "narrow", "unflatten", "new_zeros", "new_ones", "new_empty", "new_full")
# what has to have a dtype itself
_LIMITS = ("finfo", "iinfo")


class Recorder(Protocol):
    """A tracer that knows values of the example inputs."""

    def create_proxy(self, kind: str, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Proxy:
        """A stand-in for the result of a call, which is a node of the graph from then on."""

    def plain(self, stand_in: Proxy) -> Any:
        """Its value, which is fixed in the graph from then on."""


@contextmanager
def recorded_factories(tracer: Recorder) -> Iterator[None]:
    """While the context lasts, calls of these functions and methods with stand-ins among the sizes are nodes of the tracer's graph."""
    _fill_tables()
    with ExitStack() as stack:
        for name in _FACTORIES:
            stack.enter_context(_replaced(torch, name, _recording(getattr(torch, name), _call_function(tracer, getattr(torch, name)))))
        for name in _METHODS:
            stack.enter_context(_replaced(Tensor, name, _recording(getattr(Tensor, name), _call_method(tracer, name))))
        stack.enter_context(_replaced(Tensor, "__getitem__", _recording(Tensor.__getitem__, _call_function(tracer, operator.getitem))))
        for name in _LIMITS:
            stack.enter_context(_replaced(torch, name, _recording(getattr(torch, name), _call_with_value(tracer, getattr(torch, name)))))
        yield


_Call = Callable[..., Any]


def _fill_tables() -> None:
    """torch's own tables of its functions, which it fills when it first needs them, shall not keep what is put in their places."""
    torch.overrides.get_testing_overrides()  # which asks for the ignored functions
    torch.overrides.get_overridable_functions()
    torch.overrides.is_tensor_method_or_property(Tensor.add)


def _call_function(tracer: Recorder, function: _Call) -> _Call:
    return lambda *args, **kwargs: tracer.create_proxy("call_function", function, args, kwargs)


def _call_method(tracer: Recorder, name: str) -> _Call:
    return lambda *args, **kwargs: tracer.create_proxy("call_method", name, args, kwargs)


def _call_with_value(tracer: Recorder, function: _Call) -> _Call:
    return lambda stand_in: function(tracer.plain(stand_in))


def _recording(function: _Call, record: _Call) -> _Call:
    @wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        return (record if _has_stand_in((*args, *kwargs.values())) else function)(*args, **kwargs)

    return call


def _has_stand_in(value: Any) -> bool:
    if isinstance(value, slice):
        return _has_stand_in((value.start, value.stop, value.step))
    return isinstance(value, Proxy) or (isinstance(value, list | tuple) and any(map(_has_stand_in, value)))


@contextmanager
def _replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    """owner.name is `value` while the context lasts, then what it was: also something that a class has from another one."""
    own = vars(owner).get(name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        if own is None:
            delattr(owner, name)
        else:
            setattr(owner, name, own)

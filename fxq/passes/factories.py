"""torch.zeros(n, 3), buffer[:, :n] and torch.finfo(x.dtype) for stand-ins: torch looks for values there, and asks nobody else."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.fx import Proxy

_FACTORIES = ("tensor", "as_tensor", "zeros", "ones", "empty", "full", "rand", "randn", "eye", "linspace")
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


class RecordedFactories:
    """While the context lasts, calls of these functions and methods with stand-ins among the sizes are nodes of the tracer's graph."""

    def __init__(self, tracer: Recorder) -> None:
        _fill_tables()
        functions = [_Replacement(torch, name, _call_function(tracer, getattr(torch, name))) for name in _FACTORIES]
        methods = [_Replacement(Tensor, name, _call_method(tracer, name)) for name in _METHODS]
        items = _Replacement(Tensor, "__getitem__", _call_function(tracer, operator.getitem))
        limits = [_Replacement(torch, name, _call_with_value(tracer, getattr(torch, name))) for name in _LIMITS]
        self._replacements = (*functions, *methods, items, *limits)

    def __enter__(self) -> None:
        for each in self._replacements:
            each.put()

    def __exit__(self, *raised: object) -> None:
        for each in self._replacements:
            each.take_back()

    @contextmanager
    def suspended(self) -> Iterator[None]:
        """torch as it is: what imports more of it meanwhile may keep what it finds."""
        self.__exit__()
        try:
            yield
        finally:
            self.__enter__()


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


class _Replacement:
    """owner.name, and what stands in its place: also of something that a class has from another one."""

    def __init__(self, owner: Any, name: str, record: _Call) -> None:
        self._owner, self._name, self._own = owner, name, vars(owner).get(name)
        self._recording = _recording(getattr(owner, name), record)

    def put(self) -> None:
        setattr(self._owner, self._name, self._recording)

    def take_back(self) -> None:
        if self._own is None:
            delattr(self._owner, self._name)
        else:
            setattr(self._owner, self._name, self._own)

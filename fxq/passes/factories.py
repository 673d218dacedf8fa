"""torch.zeros(n, 3) for a stand-in n: torch looks for numbers there, and does not ask who else could take the call."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any

import torch
from torch.fx import Proxy, Tracer

_FACTORIES = ("zeros", "ones", "empty", "rand", "randn")


@contextmanager
def recorded_factories(tracer: Tracer) -> Iterator[None]:
    """While the context lasts, calls of these functions with stand-ins among the sizes are nodes of the tracer's graph."""
    originals = {name: getattr(torch, name) for name in _FACTORIES}
    for name, function in originals.items():
        setattr(torch, name, _recording(function, tracer))
    try:
        yield
    finally:
        for name, function in originals.items():
            setattr(torch, name, function)


def _recording(function: Callable[..., Any], tracer: Tracer) -> Callable[..., Any]:
    @wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        if any(isinstance(each, Proxy) for each in args):
            return tracer.create_proxy("call_function", function, args, kwargs)
        return function(*args, **kwargs)

    return call

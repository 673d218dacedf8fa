"""Proxies that give Python a number where it needs one: the one that the example inputs lead to."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np
from torch.fx import Proxy
from torch.fx.proxy import Attribute
from torch.utils._pytree import tree_map_only


class ShapeProxy(Proxy):
    """A value of the graph. range(), int(), len(), numpy and the like ask the tracer what it is, which puts that on record."""

    __array_priority__ = 1000  # a number of numpy's leaves its product with a tensor to the tensor

    def __getattr__(self, k: str) -> Any:
        if k.startswith("__"):
            raise AttributeError(f"no stand-in for a tensor has {k}")  # what libraries look for to see what something is
        return _ShapeAttribute(self, k)

    def __hash__(self) -> int:
        """A dict or set finds a number or dtype by its value, and anything else by itself."""
        return int(self.tracer.hash_of(self))  # type: ignore[attr-defined]

    def __eq__(self, other: object) -> Any:
        """A call in the graph; of a stand-in that a cache has kept from another trace, whether it is the same one."""
        if not self.tracer.is_recording or (isinstance(other, Proxy) and other.tracer is not self.tracer):  # type: ignore[attr-defined]
            return self is other
        return self.tracer.create_proxy("call_function", operator.eq, (self, other), {})

    def __setitem__(self, index: object, value: object) -> None:
        self.tracer.create_proxy("call_function", operator.setitem, (self, index, value), {})

    def __index__(self) -> int:
        return int(self.tracer.number(self))  # type: ignore[attr-defined]

    def __int__(self) -> int:
        return int(self.tracer.number(self))  # type: ignore[attr-defined]

    def __float__(self) -> float:
        return float(self.tracer.number(self))  # type: ignore[attr-defined]

    def __len__(self) -> int:
        return int(self.tracer.length(self))  # type: ignore[attr-defined]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self.tracer.plain(self), dtype)  # type: ignore[attr-defined]

    def __array_function__(self, func: Callable[..., Any], types: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """np.prod(x.shape) is a number."""
        args, kwargs = tree_map_only(ShapeProxy, self.tracer.plain, (args, kwargs))  # type: ignore[attr-defined]
        return func(*args, **kwargs)


class _ShapeAttribute(ShapeProxy, Attribute):
    """x.shape, x.dtype: a node of the graph only once it is used, as x.size may be called."""

    def __getattr__(self, k: str) -> Any:
        found = super().__getattr__(k)
        return self.tracer.plain(found) if self.attr == "device" and k == "type" else found  # type: ignore[attr-defined]


STAND_INS = frozenset((ShapeProxy, _ShapeAttribute))

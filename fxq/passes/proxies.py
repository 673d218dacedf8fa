"""Proxies that give Python a number where it needs one: the one that the example inputs lead to."""

from __future__ import annotations

import operator

from torch.fx import Proxy
from torch.fx.proxy import Attribute


class ShapeProxy(Proxy):
    """A value of the graph. range(), int(), len() and the like ask the tracer what it is, which puts that on record."""

    def __getattr__(self, k: str) -> Attribute:
        return _ShapeAttribute(self, k)

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


class _ShapeAttribute(ShapeProxy, Attribute):
    """x.shape, x.dtype: a node of the graph only once it is used, as x.size may be called."""

    def __getattr__(self, k: str) -> Attribute:
        found = super().__getattr__(k)
        return self.tracer.plain(found) if self.attr == "device" and k == "type" else found  # type: ignore[attr-defined]


STAND_INS = frozenset((ShapeProxy, _ShapeAttribute))

"""The public names of module types, functions and methods: how a QConfigMapping and every message speak of them."""

from __future__ import annotations

import operator
from collections.abc import Hashable
from functools import lru_cache
from types import ModuleType

import torch
import torch.nn.functional as F
from torch import nn
from torch._ops import OpOverload, OpOverloadPacket

from fxq.errors import ConfigError

# where users find torch's names, first one first: (module, what the function's own name has in front there)
_PUBLIC: tuple[tuple[ModuleType, str], ...] = (
    (torch, ""),
    (nn, ""),
    (F, ""),
    (operator, ""),
    (torch.special, "special_"),
    (torch.linalg, "linalg_"),
    (torch.fft, "fft_"),
)

# functions whose own name is not the one they are exported under, or that torch exports twice (torch.dsmm == torch.mm)
_RENAMED: dict[object, str] = {
    F.threshold: "torch.nn.functional.threshold",
    F.logsigmoid: "torch.nn.functional.logsigmoid",
    torch.mm: "torch.mm",
    torch.hspmm: "torch.hspmm",
    torch.sspaddmm: "torch.sspaddmm",
    # a trace puts others in the places of these (fxq/passes/factories.py)
    torch.zeros: "torch.zeros",
    torch.ones: "torch.ones",
    torch.empty: "torch.empty",
    torch.rand: "torch.rand",
    torch.randn: "torch.randn",
}


def qualified_name(target: object) -> str:
    """nn.Conv2d → "torch.nn.Conv2d", F.gelu → "torch.nn.functional.gelu", operator.add → "operator.add", "view" → "view".

    An object has one name, whichever way it was reached: F.conv2d is torch.conv2d and is called "torch.conv2d". A method
    (torch.Tensor.view) is called by its bare name, as a traced call of it is. What torch does not export is called by its
    own module and qualified name.

    Args:
        target: a class, a function, a builtin, an operator of torch.ops, or a method name (returned unchanged).

    Raises:
        ConfigError: target is none of these; a module instance, for example.
    """
    if isinstance(target, str):
        return target
    if not isinstance(target, Hashable):
        raise _nameless(target)
    return _qualified_name(target)


@lru_cache(maxsize=8192)
def _qualified_name(target: Hashable) -> str:
    if isinstance(target, OpOverload | OpOverloadPacket):
        return f"torch.ops.{target}"
    name = getattr(target, "__name__", None)
    if not callable(target) or not isinstance(name, str):
        raise _nameless(target)
    return _RENAMED.get(target) or _exported_name(target, name) or _own_name(target, name)


def _exported_name(target: object, name: str) -> str | None:
    for module, prefix in _PUBLIC:
        short = name.removeprefix(prefix)
        # vars, as getattr would import lazy submodules of torch
        if vars(module).get(short) is target:
            return f"{module.__name__}.{short}"
    return name if getattr(torch.Tensor, name, None) is target else None


def _own_name(target: object, name: str) -> str:
    module = getattr(target, "__module__", None)
    qualified = str(getattr(target, "__qualname__", name))
    return f"{module}.{qualified}" if module else qualified


def _nameless(target: object) -> ConfigError:
    return ConfigError(
        "object type",
        expected="a module class, a function, or the name of a tensor method",
        found=f"{type(target).__name__} {target!r}"[:200],
        remedy="pass the class instead of an instance: nn.Linear, not nn.Linear(8, 8); a callable object has no name of its own",
    )


def join_path(owner: str, name: str) -> str:
    """`layer1`, `conv` → `layer1.conv`; "" is the model itself."""
    return ".".join(filter(None, (owner, name)))

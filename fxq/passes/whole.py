"""Modules that stay one call of the graph: those the user names, and those that torch.fx cannot read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from torch import nn
from torch.nn.parallel import DataParallel, DistributedDataParallel

from fxq.errors import ConfigError
from fxq.graph.names import qualified_name
from fxq.graph.opdef import OpDef
from fxq.graph.reasons import Reason, Why
from fxq.qconfig_mapping.presence import nearest

_WRAPPERS = (DataParallel, DistributedDataParallel)


@dataclass(frozen=True)
class Whole:
    """A wish to keep a module, or all of a class, one call.

    Attributes:
        target: a path, or a class; a subclass is another class, as in torch.ao.
        why: what becomes of it.
        setter: who wishes it, for messages.
    """

    target: str | type
    why: Why
    setter: str


@dataclass(frozen=True)
class TraceOptions:
    """What a trace does with modules that it should not, or cannot, go into.

    Attributes:
        whole: modules that stay one call.
        strict: a module that cannot be traced is an error; else it stays one call, with the reason.
        preserved: attributes of the model that the traced one has, too.
        concrete_args: parameter of forward → the one value that it is traced for.
        ops: the user's own, whose spellings are not traced into.
    """

    whole: tuple[Whole, ...] = ()
    strict: bool = False
    preserved: tuple[str, ...] = ()
    concrete_args: Mapping[str, Any] = field(default_factory=dict)
    ops: tuple[OpDef, ...] = ()


def unwrap(model: nn.Module) -> nn.Module:
    """DataParallel(model) → model, and so for DistributedDataParallel."""
    while isinstance(model, _WRAPPERS):
        model = cast(nn.Module, model.module)
    return model


def unwrap_children(model: nn.Module) -> None:
    """The same for every module inside: no path has "module." of a wrapper in it."""
    for name, child in model._modules.items():
        if child is not None:
            model._modules[name] = unwrap(child)
            unwrap_children(unwrap(child))


def find_whole(model: nn.Module, wishes: Iterable[Whole]) -> dict[str, Reason]:
    """Path → why the module there stays one call; the node of the Reason is the path. The first of several wishes wins.

    Raises:
        ConfigError: a wish is about nothing in the model.
    """
    modules = {path: module for path, module in model.named_modules(remove_duplicate=False) if path}
    found: dict[nn.Module, Reason] = {}
    for wish in wishes:
        matching = {path: module for path, module in modules.items() if wish.target in (path, type(module))}
        if not matching:
            raise _no_such_module(wish, modules)
        for path, module in matching.items():
            found.setdefault(module, Reason(wish.why, path, f"is kept whole by {wish.setter}"))
    return {path: found[module] for path, module in modules.items() if module in found}


def _no_such_module(wish: Whole, modules: dict[str, nn.Module]) -> ConfigError:
    if isinstance(wish.target, str):
        return unknown_name(f'{wish.setter} "{wish.target}"', wish.target, modules)
    classes = {qualified_name(type(module)) for module in modules.values()}
    return unknown_name(f"{wish.setter} {wish.target.__qualname__}", qualified_name(wish.target), classes)


def unknown_name(where: str, name: str, present: Iterable[str]) -> ConfigError:
    """The error for a name that the model does not have, with those that are nearest to it."""
    names = sorted(present)
    near = nearest(name, names) or names[:8]
    return ConfigError(
        where,
        expected="something that the model has",
        found=f"nothing of the name {name!r}",
        remedy=f"write one of {', '.join(map(repr, near))}" if near else "leave it out: the model has none",
    )

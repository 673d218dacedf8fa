"""What has no form in a file: errors that name it, where it is, and what to do."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from torch import nn
from torch.fx import Node

from fxq.errors import FileError
from fxq.graph.annotation import origin_of, whole_reason_of
from fxq.graph.module import FxqModule
from fxq.graph.names import qualified_name
from fxq.graph.reasons import Why
from fxq.graph.source import definition_of

_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


def refuse(where: str, found: str, expected: str, remedy: str) -> FileError:
    """The error that something cannot be stored."""
    return FileError(where, expected=expected, found=found, remedy=remedy)


def refuse_hooks(module: nn.Module, path: str) -> None:
    """Raises FileError for a module whose hooks a file would lose."""
    if any(getattr(module, hooks) for hooks in _HOOKS):
        raise refuse(
            path or "the model", "hooks, which are Python", "a module without hooks", "remove them, and register them on what is loaded"
        )


def refuse_value(node: Node, found: str) -> FileError:
    """The error that an argument has no form in a file."""
    remedy = "pass a tensor, a number, a string or a container of these there"
    return refuse(f"{node.name}{_line(node)}", f"{found} among its arguments", "arguments that files have a form for", remedy)


def refuse_function(node: Node) -> FileError:
    """The error that a function, method or attribute is in no table."""
    if isinstance(node.target, str) or node.target is getattr:
        what = f"the method {node.target}" if isinstance(node.target, str) else f"the attribute {node.args[1:]}"
        remedy = "write it with functions of torch"
        return refuse(f"{node.name}{_line(node)}", what, "methods and attributes of the tables in fxq/files/functions.py", remedy)
    short = getattr(node.target, "__name__", "f")
    kind = "class" if isinstance(node.target, type) else "function"
    return refuse(
        f"{node.name}{_line(node)}",
        f"the {kind} {qualified_name(node.target)}{_definition(node.target)}, which is in no table of fxq",
        "ops of fxq, and functions of torch that compute on tensors",
        f"fxq.save(model, path, known=[{short}]), and the same in fxq.load: a file has its name only",
    )


def refuse_module(module: nn.Module, node: Node | None, path: str, found: str) -> FileError:
    """The error that a module is Python of the user's, or of a class that is in no table."""
    kind = f"{qualified_name(type(module))}{_definition(type(module).forward)}"
    whole = None if node is None else whole_reason_of(node)
    if whole is not None and whole.why is Why.UNTRACEABLE:
        found = f"its forward stays Python: {whole.detail}"
    return refuse(
        f"module {path}{'' if node is None else _line(node)}",
        f"{kind}: {found}",
        "int8 ops, modules of torch.nn, and graphs of these",
        _remedy(list(_graphs_in(module, path))),
    )


def _graphs_in(module: nn.Module, path: str) -> Iterator[str]:
    """Paths of the nearest graphs inside a module."""
    for name, child in module.named_children():
        if isinstance(child, FxqModule):
            yield f"{path}.{name}"
        else:
            yield from _graphs_in(child, f"{path}.{name}")


def _remedy(parts: list[str]) -> str:
    """Args: parts: paths of the graphs in it."""
    ways = [
        "write its forward so that torch.fx can trace it",
        "store the whole model as a pickle, which runs code when it is loaded: torch.save",
    ]
    if parts:
        shown = ", ".join(parts[:3]) + (", ..." if len(parts) > 3 else "")
        ways.insert(1, f"store its graphs ({shown}) one by one: fxq.save(model.get_submodule(path), file), and call them from your Python")
    return "; or ".join(ways)


def _line(node: Node) -> str:
    origin = origin_of(node)
    return f" ({origin.source})" if origin is not None and origin.source else ""


def _definition(function: Callable[..., Any]) -> str:
    place = definition_of(function)
    return f" ({place})" if place else ""

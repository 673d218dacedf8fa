"""Finding the row of OPS that a traced node spells, and binding what was written to the row's operands."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from torch import nn
from torch.fx import Node

from fxq.graph import spellings as read
from fxq.graph.opdef import Call, OpDef, Spelling
from fxq.graph.ops import OPS
from fxq.graph.reasons import Reason, Why


@cache
def _rows_by_target() -> Mapping[Any, tuple[OpDef, Spelling]]:
    return {spelling.target: (op, spelling) for op in OPS for spelling in op.spellings}


def recognise(node: Node, module: nn.Module | None) -> Call | Reason:
    """Finds the op of a traced node, in whatever spelling, or says why there is none.

    Args:
        node: call_module, call_function or call_method.
        module: the module that a call_module node calls, else None.
    """
    row = _row_of_module(node, module) if module is not None else _rows_by_target().get(node.target)
    if row is None:
        return Reason(Why.UNKNOWN_OP, node.name, f"{_spelled_as(node, module)} is not an op that fxq knows")
    if isinstance(row, Reason):
        return row
    op, spelling = row
    try:
        operands = _read_operands(node, module, op, spelling)
    except TypeError as error:
        return Reason(Why.OPERAND, node.name, f"{_spelled_as(node, module)} is called in a form that {op.name} does not cover: {error}")
    return Call(op, operands, read.writes_in_place(spelling, module, node.kwargs))


def _read_operands(node: Node, module: nn.Module | None, op: OpDef, spelling: Spelling) -> dict[str, Any]:
    if module is None:
        operands = read.read_arguments(op, spelling, node.args, node.kwargs)
    else:
        inputs = dict(op.signature.bind_partial(*node.args, **node.kwargs).arguments)
        operands = {**inputs, **read.read_module(op, spelling, module)}
    return read.normal_form(op, operands, spelling.rank)


def _row_of_module(node: Node, module: nn.Module) -> tuple[OpDef, Spelling] | Reason | None:
    """The row of the module's type, or of the base type whose forward it inherits unchanged (parametrized modules, say)."""
    if module._forward_hooks or module._forward_pre_hooks:
        return Reason(
            Why.HOOKS, node.name, "its module has forward hooks, which an int8 op would not run; remove them or use parametrizations"
        )
    for base in type(module).__mro__:
        if base in _rows_by_target():
            same = all(getattr(type(module), name, None) is getattr(base, name, None) for name in ("forward", "_conv_forward"))
            return _rows_by_target()[base] if same else None
    return None


def _spelled_as(node: Node, module: nn.Module | None) -> str:
    if module is not None:
        return type(module).__name__
    return str(node.target) if isinstance(node.target, str) else getattr(node.target, "__name__", repr(node.target))

"""Finding the row of OPS that a traced node spells, and binding what was written to the row's operands."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from functools import cache
from typing import Any

from torch import nn
from torch.fx import Node

from fxq.graph import spellings as read
from fxq.graph.names import qualified_name
from fxq.graph.opdef import Attribute, Call, Library, OpDef, Spelling
from fxq.graph.ops import OPS, own_ops
from fxq.graph.reasons import Reason, Why


@cache
def _rows_by_target() -> Mapping[Any, tuple[OpDef, Spelling]]:
    return {spelling.target: (op, spelling) for op in OPS for spelling in op.spellings}


def op_of_target(target: Any) -> OpDef | None:
    """The op that a module class, a function or the name of a tensor method spells; None for what fxq does not know."""
    rows = _rows_by_target()
    found = rows.get(target) or rows.get(Library(qualified_name(target)))
    return None if found is None else found[0]


def recognise(node: Node, module: nn.Module | None) -> Call | Reason:
    """Finds the op of a traced node, in whatever spelling, or says why there is none.

    Args:
        node: call_module, call_function or call_method.
        module: the module that a call_module node calls, else None.
    """
    row = _row_of_module(node, module) if module is not None else _row_of_call(node)
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


def makes_items(node: Node) -> bool:
    """Whether the node's value is a tuple whose tensors recognise_item makes ops of."""
    row = _row_of_call(node) if node.op in ("call_function", "call_method") else None
    return row is not None and "item" in row[0].operands


def recognise_item(node: Node) -> Call | None:
    """chunk(x, 2)[1] → chunk(x, 2, item=1): one of the tensors that an op makes, as an op of its own.

    None for a node that picks nothing, or out of something else.
    """
    if node.target is not operator.getitem or not isinstance(node.args[0], Node) or not isinstance(node.args[1], int):
        return None
    row = _row_of_call(node.args[0]) if makes_items(node.args[0]) else None
    if row is None:
        return None
    op, spelling = row
    try:
        operands = read.read_arguments(op, spelling, node.args[0].args, node.args[0].kwargs)
    except TypeError:
        return None
    return Call(op, read.normal_form(op, {**operands, "item": node.args[1]}, spelling.rank))


def _row_of_call(node: Node) -> tuple[OpDef, Spelling] | None:
    if node.target is getattr:
        return _row_of_target(node, Attribute(str(node.args[1])))
    found = _row_of_target(node, node.target)
    return found if found is not None or node.op != "call_function" else _row_of_target(node, Library(qualified_name(node.target)))


def _row_of_target(node: Node, target: Any) -> tuple[OpDef, Spelling] | None:
    """The row of fxq's for it, else the one of the node's model."""
    own = ((op, spelling) for op in own_ops(node) for spelling in op.spellings if spelling.target == target)
    return _rows_by_target().get(target) or next(own, None)


def _read_operands(node: Node, module: nn.Module | None, op: OpDef, spelling: Spelling) -> dict[str, Any]:
    if module is None:
        operands = read.read_arguments(op, spelling, node.args, node.kwargs)
    else:
        inputs = dict(op.signature.bind_partial(*node.args, **node.kwargs).arguments)
        carried = read.read_module(op, spelling, module)
        if inputs.keys() & carried.keys():
            raise TypeError("its call gives more than its inputs")
        operands = {**inputs, **carried}
    return read.normal_form(op, operands, spelling.rank)


def _row_of_module(node: Node, module: nn.Module) -> tuple[OpDef, Spelling] | Reason | None:
    """The row of the module's type, or of the base type whose forward it inherits unchanged (parametrized modules, say)."""
    if module._forward_hooks or module._forward_pre_hooks:
        return Reason(
            Why.HOOKS, node.name, "its module has forward hooks, which an int8 op would not run; remove them or use parametrizations"
        )
    for base in type(module).__mro__:
        row = _row_of_target(node, base)
        if row is not None:
            same = all(getattr(type(module), name, None) is getattr(base, name, None) for name in ("forward", "_conv_forward"))
            return row if same else None
    return None


def _spelled_as(node: Node, module: nn.Module | None) -> str:
    if module is not None:
        return type(module).__name__
    return str(node.target) if isinstance(node.target, str) else getattr(node.target, "__name__", repr(node.target))

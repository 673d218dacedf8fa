"""Finding the row of OPS that a traced node spells, and binding what was written to the row's operands."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from functools import cache
from typing import Any

import torch
from torch import nn
from torch.fx import Node

from fxq.graph import spellings as read
from fxq.graph.annotation import tensor_type
from fxq.graph.constants import constant_of
from fxq.graph.float_only import why_float
from fxq.graph.image_sizes import are_of_image
from fxq.graph.names import qualified_name
from fxq.graph.opdef import Attribute, Call, Library, OpDef, Spelling
from fxq.graph.ops import OPS, ops_by_name, own_ops
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
        return _unknown(node, module)
    if isinstance(row, Reason):
        return row
    op, spelling = row
    try:
        operands = _read_operands(node, module, op, spelling)
    except TypeError as error:
        return Reason(Why.OPERAND, node.name, f"{_spelled_as(node, module)} is called in a form that {op.name} does not cover: {error}")
    return Call(op, operands, read.writes_in_place(spelling, module, node.kwargs))


def _unknown(node: Node, module: nn.Module | None) -> Reason:
    why = why_float(node.target if module is None else type(module))
    if why is not None:
        return Reason(Why.FLOAT_ONLY, node.name, f"{_spelled_as(node, module)} {why}")
    return Reason(Why.UNKNOWN_OP, node.name, f"{_spelled_as(node, module)} is not an op that fxq knows")


# max(x, dim) gives values and indices; max(x, y) is the row that it is found by
_VALUES_OF = {"maximum": "amax", "minimum": "amin"}


def makes_items(node: Node) -> bool:
    """Whether the node's value is a tuple whose tensors recognise_item makes ops of."""
    row = _row_of_call(node) if node.op in ("call_function", "call_method") else None
    return row is not None and ("item" in row[0].operands or row[0].name in _VALUES_OF)


def recognise_item(node: Node) -> Call | None:
    """chunk(x, 2)[1] → chunk(x, 2, item=1), max(x, 1)[0] and max(x, 1).values → amax(x, 1): one of the tensors that an op makes, as an
    op of its own.

    None for a node that picks nothing, or out of something else.
    """
    item = _picked(node)
    source = node.args[0] if item is not None else None
    row = _row_of_call(source) if isinstance(source, Node) and makes_items(source) else None
    if row is None or not isinstance(source, Node):
        return None
    op, spelling = row
    try:
        if op.name in _VALUES_OF:
            return _values(ops_by_name()[_VALUES_OF[op.name]], source) if item == 0 else None
        operands = read.read_arguments(op, spelling, source.args, source.kwargs)
    except TypeError:
        return None
    return Call(op, read.normal_form(op, {**operands, "item": item}, spelling.rank))


# what gives its input back where that has the dtype and is on the CPU already; and what matters to gradients alone
CASTS = ("to", "type", "type_as", "float", "cpu", torch.as_tensor)
_DETACHES = (torch.detach, "detach")


def recognise_cast(node: Node) -> Call | None:
    """x.to(y.dtype), torch.as_tensor(x) → identity(x), where x is of that dtype as it is; x.detach() too, where nothing is trained.

    None for any other node.
    """
    is_detached = node.target in _DETACHES and not getattr(node.graph.owning_module, "training", True)
    is_cast = node.op in ("call_method", "call_function") and node.target in CASTS
    if not (is_detached or is_cast) or "copy" in node.kwargs:
        return None
    source = node.args[0]
    found = tensor_type(source) if isinstance(source, Node) else None
    return Call(ops_by_name()["identity"], {"input": source}) if found is not None and tensor_type(node) == found else None


def recognise_length(node: Node) -> Call | None:
    """len(chunk(x, 2)) → pieces(x, chunk, 2): how many tensors an op makes follows from the shape of what it reads.

    None for any other node.
    """
    source = node.args[0] if node.target is len else None
    row = _row_of_call(source) if isinstance(source, Node) and makes_items(source) else None
    if row is None or "item" not in row[0].operands or not isinstance(source, Node):
        return None
    op, spelling = row
    try:
        cut = read.normal_form(op, read.read_arguments(op, spelling, source.args, source.kwargs), spelling.rank)
    except TypeError:
        return None
    by = tuple(value for name, value in cut.items() if name not in ("input", "dim", "item"))
    return Call(ops_by_name()["pieces"], {"input": cut["input"], "cut": op.name, "by": by, "dim": cut["dim"]})


# pools with windows of any size → pools with a number of windows
_ADAPTIVE = {"avg_pool": "adaptive_avg_pool", "max_pool": "adaptive_max_pool"}


def recognise_whole_window(node: Node) -> Call | None:
    """avg_pool2d(x, x.shape[2:]) → adaptive_avg_pool(x, 1): one window, as large as the image, whatever its size is.

    None for any other node.
    """
    row = _row_of_call(node) if node.op == "call_function" else None
    if row is None or row[0].name not in _ADAPTIVE:
        return None
    op, spelling = row
    try:
        given = read.read_arguments(op, spelling, node.args, node.kwargs)
    except TypeError:
        return None
    image, is_plain = given["input"], all(given.get(name, default) == default for name, default in op.defaults.items() if name != "stride")
    if not is_plain or not are_of_image(given["kernel_size"], image, spelling.rank):
        return None
    return Call(ops_by_name()[_ADAPTIVE[op.name]], {"input": image, "output_size": (1,) * spelling.rank})


def recognise_selection(node: Node) -> Call | None:
    """x[:, i] → index_select(x, 1, i), where i is a vector of the model, of places that are counted from the front.

    None for any other node.
    """
    if node.target is not operator.getitem or tensor_type(node) is None:
        return None
    source, index = node.args
    parts = enumerate(index if isinstance(index, tuple) else (index,))
    chosen = [(dim, part) for dim, part in parts if part != slice(None)]
    dim, places = chosen[0] if len(chosen) == 1 else (0, None)
    values = constant_of(places) if isinstance(places, Node) and tensor_type(places) is not None else None
    if values is None or values.dtype != torch.int64 or values.ndim != 1 or bool((values < 0).any()):
        return None
    return Call(ops_by_name()["index_select"], {"input": source, "dim": dim, "index": places})


_SPECIAL = (recognise_item, recognise_length, recognise_cast, recognise_whole_window, recognise_selection)


def recognise_special(node: Node) -> Call | None:
    """What says more than its spelling; None for any other node."""
    return next((call for recognised in _SPECIAL if (call := recognised(node)) is not None), None)


def _picked(node: Node) -> int | None:
    """Which of several values a node is; None for a node that picks none."""
    if node.target is getattr and node.args[1] == "values":
        return 0
    picks = node.target is operator.getitem and isinstance(node.args[1], int)
    return node.args[1] if picks else None  # type: ignore[return-value]


def _values(op: OpDef, source: Node) -> Call:
    """Raises TypeError where the source does not reduce one dimension."""
    operands = op.bind(source.args, source.kwargs)
    if not isinstance(operands.get("dim"), int):
        raise TypeError("it has no dimension")
    return Call(op, read.normal_form(op, operands, 1))


def _row_of_call(node: Node) -> tuple[OpDef, Spelling] | None:
    if node.target is getattr:
        return _row_of_target(node, Attribute(str(node.args[1])))
    found = _row_of_target(node, node.target)
    return found if found is not None or node.op != "call_function" else _row_of_target(node, Library(qualified_name(node.target)))


def _row_of_target(node: Node, target: Any) -> tuple[OpDef, Spelling] | None:
    """The row of fxq's for it, else the one of the node's model."""
    found = _rows_by_target().get(target)
    return found or next(((op, spelling) for op in own_ops(node) for spelling in op.spellings if spelling.target == target), None)


def _read_operands(node: Node, module: nn.Module | None, op: OpDef, spelling: Spelling) -> dict[str, Any]:
    if module is None:
        operands = read.read_arguments(op, spelling, node.args, node.kwargs)
    else:
        given = {name: value for name, value in node.kwargs.items() if value is not None}  # such as output_size=None
        inputs = op.bind_partial(node.args, given)
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
    kind = type(module)
    for base in kind.__mro__:
        row = _row_of_target(node, base)
        if row is not None:
            is_same = kind is base or all(getattr(kind, name, None) is getattr(base, name, None) for name in ("forward", "_conv_forward"))
            return row if is_same else None
    return None


def _spelled_as(node: Node, module: nn.Module | None) -> str:
    if module is not None:
        return type(module).__name__
    return str(node.target) if isinstance(node.target, str) else getattr(node.target, "__name__", repr(node.target))

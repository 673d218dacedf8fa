"""Every spelling of an op → one call of its canonical function; weights and biases become operands of the graph."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Sequence
from typing import Any, cast

import torch
from torch import nn
from torch.fx import Node
from torch.nn.utils.parametrize import is_parametrized

from fxq.graph.annotation import copy_annotations, set_type, tensor_type, type_of, whole_reason_of
from fxq.graph.constants import (
    insert_constant,
    merge_reads,
    owner_of,
    put_module,
    read_constant,
    remove_unread,
    replace_by_value,
    tensor_at,
)
from fxq.graph.module import FxqModule
from fxq.graph.opdef import Call, Parameter, Policy
from fxq.graph.ops import call_of, op_of, write_call
from fxq.graph.reasons import Reason, Why
from fxq.graph.recognise import makes_items, op_of_target, recognise, recognise_special
from fxq.graph.topology import find_aliases
from fxq.passes.memory import Memory, whole_of
from fxq.passes.pipeline import Context


def canonicalize(module: FxqModule, context: Context) -> int:
    """conv1(x) → conv(x, @conv1.weight, @conv1.bias, stride=...), x.relu_() → relu(x), and so on for every row of OPS.

    Nodes keep their names, types and origins. Tensors keep their paths, so the state_dict keeps its keys. What is no op of
    OPS, or is called in a form that its row does not cover, stays as it was traced; so does an in-place op whose effect is
    seen through a view.
    """
    _pick_apart(module)
    _read_shapes(module)
    _read_dtypes(module)
    calls = {node: call for node in module.graph.nodes if (call := _recognise(module, node)) is not None}
    _fix_parametrized(module, calls)
    for node in _functionalize(module, calls):
        del calls[node]
    if any(call.in_place for call in calls.values()):  # functionalize has changed what nodes read
        calls = {node: call for node in calls if (call := _recognise(module, node)) is not None}
    for node, call in calls.items():
        write_call(node, Call(call.op, {name: _operand(module, node, value) for name, value in call.operands.items()}))
    _remove_what_was_picked_apart(module)
    _read_ranks_early(module)
    merge_reads(module)
    remove_unread(module)
    return len(calls)


def _pick_apart(module: FxqModule) -> None:
    """cat(chunk(x, 2)) → cat((chunk(x, 2)[0], chunk(x, 2)[1])): an op on a list reads tensors, which other ops have made."""
    for node in list(module.graph.nodes):
        op = op_of_target(node.target) if node.op == "call_function" else None
        source = node.args[0] if op is not None and op.positional == ("tensors",) and node.args else None
        items = _items(source) if isinstance(source, Node) else []
        if items:
            node.args = (items, *node.args[1:])


# methods that take a tensor for its shape → those that take the shape
_LIKE = {"expand_as": "expand", "view_as": "view", "reshape_as": "reshape"}


def _read_shapes(module: FxqModule) -> None:
    """x.expand_as(y) → x.expand(y.shape)"""
    for node in list(module.graph.nodes):
        if node.op == "call_method" and node.target in _LIKE:
            values, like = cast(Sequence[Node], [*node.args, *node.kwargs.values()])
            with module.graph.inserting_before(node):
                shape = module.graph.call_function(getattr, (like, "shape"))
            copy_annotations(node, shape)
            set_type(shape, None)
            node.target, node.args, node.kwargs = _LIKE[str(node.target)], (values, shape), {}


def _read_dtypes(module: FxqModule) -> None:
    """y.dtype → float32: the dtype of what the model computes, which may be integers later."""
    for node in list(module.graph.nodes):
        if node.target is not getattr or node.args[1] != "dtype":
            continue
        found = tensor_type(cast(Node, node.args[0]))
        if cast(Node, node.args[0]).op != "placeholder" and found is not None and found.dtype == torch.float32:
            replace_by_value(node, torch.float32)


_KEEP_RANK = frozenset(
    {
        "conv",
        "conv_transpose",
        "linear",
        "batch_norm",
        "relu",
        "clamp",
        "max_pool",
        "avg_pool",
        "identity",
        "dropout",
        "layer_norm",
        "group_norm",
    }
)


def _read_ranks_early(module: FxqModule) -> None:
    """dim(conv(x)) → dim(x): a check of the rank, as layers have it in front of a batch norm, is no second reader of the convolution."""
    for node in list(module.graph.nodes):
        if (op := op_of(node)) is not None and op.name == "dim":
            node.args = (_with_the_rank_of(node.args[0]),)


def _with_the_rank_of(value: Node) -> Node:
    call = call_of(value)
    while call is not None and (call.op.policy in (Policy.TABLE, Policy.FIXED) or call.op.name in _KEEP_RANK):
        value = call.operands["input"]
        call = call_of(value)
    return value


def _items(source: Node) -> list[Node]:
    """A node for each value of a tuple that an op makes, or of a slice of it; none for anything else."""
    made, chosen = (source.args[0], cast(slice, source.args[1])) if _is_slice(source) else (source, slice(None))
    types = type_of(made) if isinstance(made, Node) and makes_items(made) else None
    if not isinstance(types, tuple) or not isinstance(made, Node):
        return []
    items = []
    with made.graph.inserting_before(source.next):
        for place in range(len(types))[chosen]:
            items.append(made.graph.call_function(operator.getitem, (made, place)))
            copy_annotations(made, items[-1])
            set_type(items[-1], types[place])
    return items


def _is_slice(node: Node) -> bool:
    return node.target is operator.getitem and isinstance(node.args[1], slice)


def _recognise(module: FxqModule, node: Node) -> Call | None:
    whole = whole_reason_of(node)
    if not node.op.startswith("call_") or (whole is not None and whole.why in (Why.CUSTOM, Why.STANDALONE)):
        return None
    called = module.get_submodule(str(node.target)) if node.op == "call_module" else None
    call = recognise_special(node) or recognise(node, called)
    if isinstance(call, Reason):
        return None
    of_tensors = all(tensor_type(operand) is not None for operand in call.activations.values())
    makes_tensor = tensor_type(node) is not None or call.in_place
    return call if of_tensors and (makes_tensor or call.op.policy is Policy.METADATA) else None


def _remove_what_was_picked_apart(module: FxqModule) -> None:
    """chunk(x, 2), when all that is read of it has become chunk(x, 2, item=...)."""
    for node in reversed(module.graph.nodes):
        made = node.args[0] if _is_slice(node) else node
        if not node.users and isinstance(type_of(node), tuple) and isinstance(made, Node) and makes_items(made):
            module.graph.erase_node(node)


def _fix_parametrized(module: FxqModule, calls: Iterable[Node]) -> None:
    """A called module whose weight is computed when it is read → a plain module with the values of now.

    Not by torch's remove_parametrizations: it changes the class, which the user's model shares.
    """
    for path in dict.fromkeys(str(node.target) for node in calls if node.op == "call_module"):
        called = module.get_submodule(path)
        if is_parametrized(called):
            put_module(module, path, _without_parametrizations(called))


def _without_parametrizations(called: nn.Module) -> nn.Module:
    """The module as one of its original type; what torch hooks onto it for the parametrizations' sake goes too."""
    values = {name: nn.Parameter(getattr(called, name).detach().clone()) for name in cast(nn.ModuleDict, called.parametrizations)}
    no_hooks = {name: value for name, value in vars(nn.Module()).items() if "hook" in name}
    plain: nn.Module = object.__new__(type(called).__bases__[0])
    vars(plain).update({**vars(called), **no_hooks, "_modules": {}, "_parameters": {**values, **called._parameters}})
    return plain


def _functionalize(module: FxqModule, calls: dict[Node, Call]) -> list[Node]:
    """y = relu_(x), then read x  →  y = relu(x), then read y.

    A change of a part of x is one of x: y = relu_(x[i]), then read x  →  y = relu(x[i]), x' = setitem(x, y, i), then read x'.

    Returns:
        the nodes for which this is not possible.
    """
    written_to = [node for node, call in calls.items() if call.in_place]
    if not written_to:
        return []
    memory = Memory(find_aliases(module.graph, calls), {node: place for place, node in enumerate(module.graph.nodes)})
    refused = []
    for node in written_to:
        seen_through = memory.shown_later(node)
        if not seen_through:
            memory.redirect(node.all_input_nodes[0], node, node)
        elif seen_through == {whole_of(node.all_input_nodes[0])}:
            calls[memory.write_back(node)] = calls[node]
        else:
            refused.append(node)
    return refused


def _operand(module: FxqModule, node: Node, value: Any) -> Any:
    """A tensor of the called module → a get_attr node in front of `node`; anything else is itself."""
    if not isinstance(value, Parameter):
        return value
    path = f"{node.target}.{value.name}"
    owner = owner_of(module, path)
    if value.name not in owner._parameters and value.name not in owner._buffers:
        # computed when it is read: the value that it has now
        return insert_constant(node, path, tensor_at(module, path).detach().clone())
    return read_constant(node, path)

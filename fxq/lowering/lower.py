"""dq → op → q regions of the reference graph become calls into the int8 runtime."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from torch.fx import Node
from torch.fx.node import map_arg

from fxq.graph.annotation import (
    Meaning,
    NodeQuant,
    TensorType,
    origin_of,
    quant_of,
    set_meaning,
    set_quant,
    set_type,
    tensor_type,
    update_quant,
)
from fxq.graph.constants import free_path, module_of, put_module, remove_unread, remove_unread_tensors
from fxq.graph.module import FxqModule
from fxq.graph.opdef import Call
from fxq.graph.ops import call_of, write_call
from fxq.graph.profile import BackendProfile
from fxq.graph.qdq import integers_behind, is_dequantize, is_quantize, qparams_of
from fxq.graph.reasons import Reason
from fxq.lowering.dynamic import lower_dynamic
from fxq.lowering.lowerings import Site, lower_site
from fxq.lowering.weight_only import lower_weight_only
from fxq.runtime.integer.module import IntegerOp
from fxq.runtime.integer.table import Table, build_table

# where ops are kept until the float modules whose paths they take are gone
_LOWERED = "lowered"


def lower(module: FxqModule, profile: BackendProfile) -> int:
    """q(op(dq(x), dq(w))) → integer_op(x): one node for all, under the name that the op has in the user's model.

    What has no integer form after all stays float between dequantize and quantize, with a Reason.

    Returns:
        the number of nodes that now compute on integers, or with weights in few bits.
    """
    lowered = 0
    for node in list(module.graph.nodes):
        if node._erased:
            continue
        if is_quantize(node) and is_dequantize(node.args[0]):
            _requantize(node)
        elif _is_weight_only(node):
            lowered += _lower_weight_only(node)
        elif _is_int8(node):
            lowered += _lower_dynamic(node) if _is_dynamic(node) else _lower_node(node, profile)
    remove_unread(module)
    _take_places(module)
    return lowered


def _is_int8(node: Node) -> bool:
    quant = quant_of(node)
    return quant is not None and quant.is_int8 and bool(quant.inputs) and call_of(node) is not None


def _is_dynamic(node: Node) -> bool:
    quant = quant_of(node)
    return quant is not None and quant.is_dynamic


def _is_weight_only(node: Node) -> bool:
    quant = quant_of(node)
    return quant is not None and quant.is_weight_only and call_of(node) is not None


def _lower_weight_only(node: Node) -> bool:
    """op(x, dequantize_groups(w)) → weight_only_op(x)"""
    call = call_of(node)
    assert call is not None
    set_meaning(node, _meaning(call))
    _call_op(node, lower_weight_only(call), call.activations.values())
    return True


def _lower_dynamic(node: Node) -> bool:
    """op(round_to_bytes(x), dq(w)) → dynamic_op(x)"""
    call, quant = call_of(node), quant_of(node)
    assert call is not None and quant is not None
    result = lower_dynamic(node.name, call, quant.inputs["input"])
    inputs = [rounded.all_input_nodes[0] for rounded in call.activations.values()]
    if isinstance(result, Reason):
        update_quant(node, reason=result)
        write_call(node, Call(call.op, {**call.operands, **dict(zip(call.activations, inputs, strict=True))}))
        return False
    set_meaning(node, _meaning(call))
    _call_op(node, result, inputs)
    return True


def _lower_node(node: Node, profile: BackendProfile) -> bool:
    site = _read_site(node, profile)
    result = lower_site(site)
    if isinstance(result, Reason):
        update_quant(node, reason=result)
        return False
    set_meaning(node, _meaning(site.call))
    if isinstance(result, Call):
        write_call(node, result)
        for dequantized in set(site.call.activations.values()):
            node.replace_input_with(dequantized, integers_behind(dequantized))
    else:
        _call_op(node, result, map(integers_behind, site.call.activations.values()))
        node.args = (*node.args, *site.call.computed.values())
    _become_result(node, site)
    return True


def _read_site(node: Node, profile: BackendProfile) -> Site:
    call = call_of(node)
    assert call is not None
    inputs = {name: qparams_of(operand) for name, operand in call.activations.items()}
    results = [qparams_of(reader) for reader in node.users if is_quantize(reader)]
    return Site(node, call, inputs, results[0] if results else None, profile)


def _meaning(call: Call) -> Meaning:
    """What the op was asked for in float, which its integer form does not show: a table has no name, bounds become integers."""
    constants = {name: value for name, value in call.operands.items() if not _has_nodes(value)}
    return Meaning(call.op.name, (*call.activations, *call.computed), constants)


def _has_nodes(value: Any) -> bool:
    found: list[Node] = []
    map_arg(value, found.append)
    return bool(found)


def _call_op(node: Node, op: IntegerOp, inputs: Iterable[Node]) -> None:
    """The node calls the integer op with these inputs, in the op's order."""
    path = f"{_LOWERED}.{node.name}"
    put_module(module_of(node), path, op)
    node.args = tuple(inputs)
    node.op, node.target, node.kwargs = "call_module", path, {}


def _become_result(node: Node, site: Site) -> None:
    """The node's value is what its quantize node made of it; that one goes."""
    if site.y is None:
        return
    found = tensor_type(node)
    assert found is not None
    set_type(node, TensorType(found.shape, site.y.spec.torch_dtype))
    for q in [reader for reader in node.users if is_quantize(reader)]:
        q.replace_all_uses_with(node)
        node.graph.erase_node(q)


def _requantize(q: Node) -> None:
    """q(dq(x, a), b) → table(x)"""
    dq = q.args[0]
    assert isinstance(dq, Node)
    before, after, call = qparams_of(dq), qparams_of(q), call_of(q)
    assert call is not None
    _call_op(q, Table(build_table(lambda values: values, before, after)), [integers_behind(dq)])
    set_quant(q, NodeQuant({"input": before.spec}, after.spec, qparams=after))
    set_meaning(q, _meaning(call))


def _take_places(module: FxqModule) -> None:
    """Moves each op to the path of the module that the user called there; to the node's name where that was a function.

    The path of a module that is called twice, or whose tensors somebody still reads, stays with the first or the reader; so
    does one below which others stand.
    """
    calls = module.graph.find_nodes(op="call_module")
    lowered = [node for node in calls if str(node.target).startswith(f"{_LOWERED}.")]
    taken = {str(reader.target).rpartition(".")[0] for reader in module.graph.find_nodes(op="get_attr")}
    taken |= {str(node.target) for node in set(calls).difference(lowered)}
    taken |= {owner for path in (*taken, *map(_path_in_user_model, lowered)) for owner in _owners(path)}
    for node in sorted(lowered, key=_is_function_call):
        op, path = module.get_submodule(str(node.target)), _path_in_user_model(node)
        path = free_path(module, node.name) if path in taken else path
        taken.add(path)
        put_module(module, path, op)
        node.target = path
    module.delete_all_unused_submodules()
    remove_unread_tensors(module)


def _owners(path: str) -> Iterator[str]:
    """a.b.c → a.b, a"""
    while "." in path:
        path = path.rpartition(".")[0]
        yield path


def _path_in_user_model(node: Node) -> str:
    origin = origin_of(node)
    return node.name if origin is None or _is_function_call(node) else origin.module


def _is_function_call(node: Node) -> bool:
    """Whether the user called a function there, and no module."""
    origin = origin_of(node)
    return origin is None or origin.module_type != origin.object_type

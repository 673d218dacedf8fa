"""quantize(@w) → @w as integers."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor
from torch.fx import Node

from fxq.graph.annotation import NodeQuant, quant_of, update_quant
from fxq.graph.balance import Layer, quantize_balanced
from fxq.graph.constants import constant_of, remove_unread, replace_constant
from fxq.graph.module import FxqModule
from fxq.graph.ops import call_of
from fxq.graph.profile import BackendProfile
from fxq.graph.qdq import is_quantize, qparams_of
from fxq.graph.qtypes import QParams, quantize_tensor
from fxq.passes.pipeline import Context


def quantize_constants(module: FxqModule, context: Context) -> int:
    """Tensors of the model are stored as integers; one that is read twice with the same qparams is stored once."""
    qparams = {node: qparams_of(node) for node in module.graph.nodes if is_quantize(node) and _weight_of(node).op == "get_attr"}
    first = _first_alike(qparams)
    rounded = _rounded({node: qparams[node] for node in qparams if first[node] is node}, context.profile)
    stored = {}
    for node in qparams:
        if first[node] is node:
            stored[node] = replace_constant(_weight_of(node), rounded[node])
        node.replace_all_uses_with(stored[first[node]])
        module.graph.erase_node(node)
    for node in module.graph.nodes:
        if (quant := quant_of(node)) is not None and quant.moments is not None:
            update_quant(node, moments=None)
    remove_unread(module)
    return len(qparams)


def _weight_of(q: Node) -> Node:
    weight = q.args[0]
    assert isinstance(weight, Node)
    return weight


def _first_alike(qparams: Mapping[Node, QParams]) -> dict[Node, Node]:
    """Node → the first that quantizes the same tensor with the same qparams."""
    known: dict[str, list[Node]] = {}
    found = {}
    for node in qparams:
        others = known.setdefault(str(_weight_of(node).target), [])
        found[node] = next((other for other in others if qparams[other] == qparams[node]), node)
        others.append(node)
    return found


def _rounded(qparams: Mapping[Node, QParams], profile: BackendProfile) -> dict[Node, Tensor]:
    """Rounding errors of calibrated layers' weights cancel where the profile says so; all else is rounded one by one."""
    values = {q: _values_of(_weight_of(q)) for q in qparams}
    layers = {q: layer for q in qparams if (layer := _balanced(q, values[q], qparams[q])) is not None} if profile.balanced_weights else {}
    balanced = dict(zip(layers, quantize_balanced(list(layers.values())), strict=True))
    return {q: balanced[q] if q in balanced else quantize_tensor(values[q], qparams[q]) for q in qparams}


def _values_of(weight: Node) -> Tensor:
    values = constant_of(weight)
    assert values is not None
    return values.detach()


def _balanced(q: Node, values: Tensor, qparams: QParams) -> Layer | None:
    """What the weights of a calibrated layer are rounded by; None for all others."""
    reader = next(reader for dq in q.users for reader in dq.users)
    call, quant = call_of(reader), quant_of(reader)
    if call is None or quant is None or not _is_calibrated(quant):
        return None
    return Layer(values, qparams, call.op.weight_axis, call.operands.get("groups", 1), quant.moments)


def _is_calibrated(quant: NodeQuant) -> bool:
    return "weight" in quant.inputs and not quant.is_dynamic and quant.weight is None

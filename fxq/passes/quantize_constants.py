"""quantize(@w) → @w as integers."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from torch.fx import Node

from fxq.graph.annotation import NodeQuant, quant_of, update_quant
from fxq.graph.balance import quantize_balanced
from fxq.graph.constants import constant_of, remove_unread, replace_constant
from fxq.graph.module import FxqModule
from fxq.graph.ops import call_of
from fxq.graph.profile import BackendProfile
from fxq.graph.qdq import is_quantize, qparams_of
from fxq.graph.qtypes import QParams, quantize_tensor
from fxq.passes.pipeline import Context


@dataclass(frozen=True)
class _Quantized:
    """A tensor of the model that has been quantized, and the node that reads its integers."""

    source: str
    qparams: QParams
    integers: Node


def quantize_constants(module: FxqModule, context: Context) -> int:
    """Tensors of the model are stored as integers; one that is read twice with the same qparams is stored once."""
    done: dict[str, list[_Quantized]] = {}
    nodes = [node for node in module.graph.nodes if is_quantize(node) and node.args[0].op == "get_attr"]
    for node in nodes:
        source = str(node.args[0].target)
        done.setdefault(source, []).append(_quantize(node, done.get(source, []), context.profile))
    for node in module.graph.nodes:
        if (quant := quant_of(node)) is not None and quant.moments is not None:
            update_quant(node, moments=None)
    remove_unread(module)
    return len(nodes)


def _rounded(q: Node, values: Tensor, profile: BackendProfile) -> Tensor:
    """Rounding errors of a calibrated layer's weights cancel where the profile says so; all else is rounded one by one."""
    qparams = qparams_of(q)
    layer = next(reader for dq in q.users for reader in dq.users)
    call, quant = call_of(layer), quant_of(layer)
    if call is None or quant is None or not _is_calibrated(quant) or not profile.balanced_weights:
        return quantize_tensor(values, qparams)
    return quantize_balanced(values, qparams, call.op.weight_axis, call.operands.get("groups", 1), quant.moments)


def _is_calibrated(quant: NodeQuant) -> bool:
    return "weight" in quant.inputs and not quant.is_dynamic and quant.weight is None


def _quantize(node: Node, done: list[_Quantized], profile: BackendProfile) -> _Quantized:
    weight, qparams = node.args[0], qparams_of(node)
    assert isinstance(weight, Node)
    same = next((each for each in done if each.qparams == qparams), None)
    if same is not None:
        integers = same.integers
    else:
        values = constant_of(weight)
        assert values is not None
        integers = replace_constant(weight, _rounded(node, values.detach(), profile))
    node.replace_all_uses_with(integers)
    node.graph.erase_node(node)
    return _Quantized(str(weight.target), qparams, integers)

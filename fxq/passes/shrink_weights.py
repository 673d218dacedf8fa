"""op(x, @w) → op(x, dequantize_groups(@w in few bits))"""

from __future__ import annotations

from torch.fx import Node

from fxq.graph.annotation import quant_of
from fxq.graph.constants import constant_of, module_of, put_tensor, remove_unread, replace_constant
from fxq.graph.groups import group_weights
from fxq.graph.module import FxqModule
from fxq.graph.opdef import Call
from fxq.graph.ops import call_of, write_call
from fxq.graph.qdq import insert_dequantize_groups
from fxq.graph.weight_format import WeightFormat
from fxq.passes.pipeline import Context


def shrink_weights(module: FxqModule, context: Context) -> int:
    """Weights that meet float values are stored in few bits; one that is read twice in the same format is stored once.

    Raises:
        ConfigError: a weight is not finite.
    """
    stored: dict[tuple[int, WeightFormat], Node] = {}
    count = 0
    for node in list(module.graph.nodes):
        quant = quant_of(node)
        call = call_of(node) if quant is not None and quant.format is not None else None
        weight = None if call is None else call.operands.get("weight")
        if call is None or quant is None or quant.format is None or not isinstance(weight, Node) or weight.op != "get_attr":
            continue
        key = id(constant_of(weight)), quant.format  # a tied weight may have several paths
        if key not in stored:
            stored[key] = _store(weight, quant.format)
        write_call(node, Call(call.op, {**call.operands, "weight": stored[key]}))
        count += 1
    remove_unread(module)
    return count


def _store(weight: Node, format: WeightFormat) -> Node:
    """The node that makes floats of what is stored."""
    values = constant_of(weight)
    assert values is not None
    groups = group_weights(values, format, where=str(weight.target))
    stored = replace_constant(weight, groups.weight)
    put_tensor(module_of(stored), str(stored.target), groups.weight)  # float16, too, is trained no more: a buffer
    return insert_dequantize_groups(stored, groups)

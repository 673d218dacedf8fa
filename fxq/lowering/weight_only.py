"""From float ops whose weights are stored in few bits to the ops that unpack them as they go."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch.fx import Node

from fxq.graph.constants import constant_of
from fxq.graph.groups import GroupedWeights
from fxq.graph.opdef import Call
from fxq.graph.qdq import groups_of
from fxq.lowering.dynamic import float_output
from fxq.runtime.weight_only.embedding import WeightOnlyEmbedding
from fxq.runtime.weight_only.linear import WeightOnlyLinear
from fxq.runtime.weight_only.op import WeightOnlyOp


def lower_weight_only(call: Call) -> WeightOnlyOp:
    """linear(x, dequantize_groups(w)) → WeightOnlyLinear, embedding(i, dequantize_groups(w)) → WeightOnlyEmbedding"""
    bias = call.operands.get("bias")
    values = constant_of(bias) if isinstance(bias, Node) else None
    return _LOWERINGS[call.op.name](call, groups_of(call.operands["weight"], None if values is None else values.detach()))


def _linear(call: Call, weights: GroupedWeights) -> WeightOnlyOp:
    return WeightOnlyLinear(weights, float_output(call.operands["act"]))


def _embedding(call: Call, weights: GroupedWeights) -> WeightOnlyOp:
    return WeightOnlyEmbedding(weights)


_LOWERINGS: Mapping[str, Callable[[Call, GroupedWeights], WeightOnlyOp]] = {"linear": _linear, "embedding": _embedding}

"""Ops on nothing but tensors of the model → their results, stored as tensors of the model; their sizes → numbers."""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch import nn
from torch.fx import Node

from fxq.graph.annotation import copy_annotations
from fxq.graph.constants import constant_of, insert_constant, remove_unread, replace_by_value
from fxq.graph.module import FxqModule
from fxq.graph.opdef import Call, Policy
from fxq.graph.ops import call_of
from fxq.graph.topology import find_mutated
from fxq.passes.pipeline import Context

# what Python computes from sizes
_ARITHMETIC = (operator.add, operator.sub, operator.mul, operator.floordiv, operator.mod, operator.neg, operator.getitem)


def fold_constants(module: FxqModule, context: Context) -> int:
    """chunk(@w, 3, item=1) → @w_part, so that a weight that the model computes from its parameters is a constant."""
    return _fold_all(module, list(module.graph.nodes))


def fold_buffers(module: FxqModule, context: Context) -> int:
    """fold_constants for a model in training: what is computed from parameters changes with them, and stays as it is."""
    return _fold_all(module, [node for node in module.graph.nodes if not any(map(_is_parameter, node.all_input_nodes))])


def _fold_all(module: FxqModule, nodes: list[Node]) -> int:
    overwritten = find_mutated(module)
    calls = [node for node in nodes if node.op == "call_function"]
    folded = [node for node in calls if _fold_number(node) or (node not in overwritten and _fold(node))]
    if folded:
        remove_unread(module)
    return len(folded)


def _fold_number(node: Node) -> bool:
    """size(@w, dim=0) → 8, and what is computed from such numbers."""
    call = call_of(node) if _reads_constants(node) else None
    if call is not None and call.op.policy is Policy.METADATA:
        replace_by_value(node, call.op.call(**{name: _value(value) for name, value in call.operands.items()}))
        return True
    if callable(node.target) and node.target in _ARITHMETIC and all(map(_is_number, node.args)):
        replace_by_value(node, node.target(*node.args))
        return True
    return False


def _is_number(value: Any) -> bool:
    if isinstance(value, slice):
        return all(part is None or _is_number(part) for part in (value.start, value.stop, value.step))
    return isinstance(value, int | float) or (isinstance(value, tuple) and all(map(_is_number, value)))


def _is_parameter(node: Node) -> bool:
    return isinstance(constant_of(node), nn.Parameter)


def _fold(node: Node) -> bool:
    call = call_of(node) if _reads_constants(node) else None
    if call is None or call.op.policy is Policy.METADATA or _differs_between_calls(call):
        return False
    with torch.no_grad():
        operands = {name: _value(value) for name, value in call.operands.items()}
        result = call.op.call(**operands).clone()
    constant = insert_constant(node, node.name, result)
    copy_annotations(node, constant)
    node.replace_all_uses_with(constant)
    return True


def _reads_constants(node: Node) -> bool:
    """Nothing but tensors of the model."""
    return all(operand.op == "get_attr" for operand in node.all_input_nodes)


def _differs_between_calls(call: Call) -> bool:
    """Draws numbers or keeps statistics: in training mode, but for a batch norm that has none, and takes those of what it normalizes."""
    return call.operands.get("training") is True and call.operands.get("running_mean", ...) is not None


def _value(operand: object) -> object:
    if isinstance(operand, Node):
        return constant_of(operand)
    return tuple(map(_value, operand)) if isinstance(operand, tuple) else operand

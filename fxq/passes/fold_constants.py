"""Ops on nothing but tensors of the model → their results, stored as tensors of the model."""

from __future__ import annotations

import torch
from torch import nn
from torch.fx import Node

from fxq.graph.annotation import copy_annotations
from fxq.graph.constants import constant_of, insert_constant, remove_unread
from fxq.graph.module import FxqModule
from fxq.graph.opdef import Call, Policy
from fxq.graph.ops import call_of
from fxq.passes.pipeline import Context


def fold_constants(module: FxqModule, context: Context) -> int:
    """chunk(@w, 3, item=1) → @w_part, so that a weight that the model computes from its parameters is a constant."""
    return _fold_all(module, list(module.graph.nodes))


def fold_buffers(module: FxqModule, context: Context) -> int:
    """fold_constants for a model in training: what is computed from parameters changes with them, and stays as it is."""
    return _fold_all(module, [node for node in module.graph.nodes if not any(map(_is_parameter, node.all_input_nodes))])


def _fold_all(module: FxqModule, nodes: list[Node]) -> int:
    folded = [node for node in nodes if _fold(node)]
    if folded:
        remove_unread(module)
    return len(folded)


def _is_parameter(node: Node) -> bool:
    return isinstance(constant_of(node), nn.Parameter)


def _fold(node: Node) -> bool:
    call = call_of(node)
    if call is None or not _is_constant(node, call):
        return False
    with torch.no_grad():
        operands = {name: _value(value) for name, value in call.operands.items()}
        result = call.op.call(**operands).clone()
    constant = insert_constant(node, node.name, result)
    copy_annotations(node, constant)
    node.replace_all_uses_with(constant)
    return True


def _is_constant(node: Node, call: Call) -> bool:
    draws = call.operands.get("training") is True
    return not draws and call.op.policy is not Policy.METADATA and all(operand.op == "get_attr" for operand in node.all_input_nodes)


def _value(operand: object) -> object:
    if isinstance(operand, Node):
        return constant_of(operand)
    return tuple(map(_value, operand)) if isinstance(operand, tuple) else operand

"""What a node does in the finished model: the kinds that reports count and pictures colour."""

from __future__ import annotations

import operator
from enum import Enum

from torch import nn
from torch.fx import Node

from fxq.graph.annotation import quant_of, tensor_type, type_of
from fxq.graph.constants import module_of
from fxq.graph.opdef import Policy
from fxq.graph.ops import call_of
from fxq.graph.qdq import is_dequantize, is_dequantize_groups, is_quantize, is_rounding
from fxq.graph.verify import OBSERVER_RULE
from fxq.runtime.assumptions import ADDED_BY_TRACE
from fxq.runtime.dynamic.op import DynamicOp
from fxq.runtime.integer.module import IntegerOp
from fxq.runtime.interface import QTensorEntry, QTensorExit
from fxq.runtime.weight_only.op import WeightOnlyOp
from fxq.runtime.weight_only.recurrent import WeightOnlyRecurrent


class Kind(str, Enum):
    """How a node runs, or will run once the model is converted."""

    INPUT = "input"
    INT8 = "int8"
    DYNAMIC = "dynamic int8"  # reads and writes float, quantizes what it reads as it arrives
    WEIGHT_ONLY = "weight-only"  # reads and writes float, its weights are stored in few bits
    FLOAT = "float"
    QUANTIZE = "quantize"
    DEQUANTIZE = "dequantize"
    OBSERVER = "observer"
    SHAPE = "shape"  # makes no tensor: sizes, arithmetic on them, taking tuples apart
    CONSTANT = "constant"
    OUTPUT = "output"


# they multiply integers
IN_INT8 = (Kind.INT8, Kind.DYNAMIC)
# their results differ from the float model's
ROUNDED = (*IN_INT8, Kind.WEIGHT_ONLY)

# their weights are stored in few bits
WEIGHT_ONLY_OPS = (WeightOnlyOp, WeightOnlyRecurrent)

_KIND_OF_OPCODE = {"placeholder": Kind.INPUT, "get_attr": Kind.CONSTANT, "output": Kind.OUTPUT}


def kind_of(node: Node) -> Kind:
    """The kind of a node at any stage. Before annotation nothing is decided, and what computes is float."""
    if node.op in _KIND_OF_OPCODE:
        return _KIND_OF_OPCODE[node.op]
    if _makes_bytes(node) or is_dequantize(node) or is_dequantize_groups(node):
        return Kind.QUANTIZE if _makes_bytes(node) else Kind.DEQUANTIZE
    quant, module = quant_of(node), called_module(node)
    if isinstance(module, QTensorEntry | QTensorExit):
        return Kind.INPUT if isinstance(module, QTensorEntry) else Kind.OUTPUT
    if quant is not None and quant.rule == OBSERVER_RULE:
        return Kind.OBSERVER
    if _makes_no_tensor(node):
        return Kind.SHAPE
    if isinstance(module, WEIGHT_ONLY_OPS) or (quant is not None and quant.is_weight_only):
        return Kind.WEIGHT_ONLY
    if isinstance(module, DynamicOp) or (quant is not None and quant.is_dynamic):
        return Kind.DYNAMIC
    is_int8 = isinstance(module, IntegerOp) if quant is None else quant.is_int8
    return Kind.INT8 if is_int8 else Kind.FLOAT


def _makes_bytes(node: Node) -> bool:
    return is_quantize(node) or is_rounding(node)


def called_module(node: Node) -> nn.Module | None:
    """The module that a call_module node calls; None for any other node."""
    return module_of(node).get_submodule(str(node.target)) if node.op == "call_module" else None


def _makes_no_tensor(node: Node) -> bool:
    """A module always counts as making one: what it returns may be a tensor in a wrapping that has no type here."""
    call = call_of(node)
    if call is not None:
        return call.op.policy is Policy.METADATA
    if node.target in ADDED_BY_TRACE:
        return True
    if node.target is operator.getitem:
        return not any(tensor_type(operand) for operand in node.all_input_nodes)
    return type_of(node) is None and node.op != "call_module"

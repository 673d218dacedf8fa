"""Multiply-accumulates of a node for the example inputs, from shapes alone: the same for a float node and its int8 form."""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.fx import Node
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from fxq.graph.annotation import TensorType, tensor_type
from fxq.graph.equations import parsed
from fxq.graph.islands import outside_of_graphs
from fxq.graph.module import FxqModule
from fxq.graph.opdef import Call
from fxq.graph.ops import call_of
from fxq.graph.reasons import Reason, Why
from fxq.graph.recognise import recognise
from fxq.report.kinds import called_module
from fxq.runtime.dynamic.conv import DynamicConv
from fxq.runtime.dynamic.linear import DynamicLinear
from fxq.runtime.dynamic.recurrent import Recurrent
from fxq.runtime.integer.conv import Conv
from fxq.runtime.integer.conv_transpose import ConvTranspose
from fxq.runtime.integer.linear import Linear
from fxq.runtime.integer.matmul import MatMul
from fxq.runtime.weight_only.linear import WeightOnlyLinear

# product of the first two tensors over the last dimension of the first
_PRODUCTS = (torch.matmul, torch.mm, torch.bmm, torch.mv, operator.matmul, "matmul", "mm", "bmm", "mv", "__matmul__")
# the same behind a summand
_ADDED_PRODUCTS = (torch.addmm, torch.baddbmm, torch.addmv, "addmm", "baddbmm", "addmv")
_TRANSPOSED = (torch.conv_transpose1d, torch.conv_transpose2d, torch.conv_transpose3d)
_UNCOUNTED = (torch.chain_matmul, torch.linalg.multi_dot, torch.addbmm, "addbmm", F.multi_head_attention_forward)

_WEIGHTED = ("conv", "conv_transpose", "linear", "bilinear")

# modules whose matrices are looked up or multiplied elementwise
_NO_PRODUCTS = (nn.Embedding, nn.EmbeddingBag, nn.LayerNorm)


def count_macs(node: Node) -> int | None:
    """conv, linear: outputs · weights of one output channel; matmul: outputs · length of the sums; 0 for what is no such product.

    Returns:
        MACs for the shapes of the example inputs; None where fxq doesn't know the number (a custom module or function with
        matrices, a product that chooses its order).
    """
    module = called_module(node)
    return _of_call(node) if module is None else _of_module(node, module)


def _of_module(node: Node, module: nn.Module) -> int | None:
    if isinstance(module, _ConvTransposeNd | ConvTranspose):
        return _by_weight(_tensors_read(node)[0], tuple(module.weight.shape))
    if isinstance(module, MatMul):
        return _product(tensor_type(node), _tensors_read(node)[0])
    if isinstance(module, _ConvNd | nn.Linear | Conv | Linear | DynamicLinear | DynamicConv):
        return _by_weight(tensor_type(node), tuple(module.weight.shape))
    if isinstance(module, WeightOnlyLinear):
        return _by_weight(tensor_type(node), module.shape)
    if isinstance(module, nn.RNNBase | nn.RNNCellBase):
        return _of_recurrent(node, module.input_size, (matrix.shape for matrix in module.parameters() if matrix.ndim == 2))
    if isinstance(module, Recurrent):
        return _of_recurrent(node, module.shape.input_size, module.shape.matrices().values())
    if isinstance(module, nn.MultiheadAttention):
        return _of_attention_module(module, _tensors_read(node))
    if isinstance(module, FxqModule):
        return None  # a standalone module: a report of its own counts what is inside
    has_matrices = any(parameter.ndim > 1 for owner in outside_of_graphs(module) for parameter in owner.parameters(recurse=False))
    return None if has_matrices and not isinstance(module, _NO_PRODUCTS) else 0


def _of_recurrent(node: Node, input_size: int, matrices: Iterable[tuple[int, ...]]) -> int:
    """Every vector of the input meets all matrices, of these sizes."""
    return _tensors_read(node)[0].numel // input_size * sum(map(math.prod, matrices))


def _of_call(node: Node) -> int | None:
    call = call_of(node) or (recognise(node, None) if node.op.startswith("call_") else None)
    if isinstance(call, Call):
        return _of_canonical(node, call)
    if node.target in _UNCOUNTED:
        return None
    tensors = _tensors_read(node)
    if node.target in _PRODUCTS:
        return _product(tensor_type(node), tensors[0])
    if node.target in _ADDED_PRODUCTS:
        return _product(tensor_type(node), tensors[1])
    if node.target in _TRANSPOSED:
        return _by_weight(tensors[0], tensors[1].shape)
    return None if isinstance(call, Reason) and call.why is Why.UNKNOWN_OP and _reads_matrix(node) else 0


def _reads_matrix(node: Node) -> bool:
    """Whether a call reads a matrix of the model and computed numbers that it may multiply with it."""
    types = {operand: found for operand in node.all_input_nodes if (found := tensor_type(operand)) is not None}
    has_matrix = any(operand.op == "get_attr" and len(found.shape) > 1 for operand, found in types.items())
    return has_matrix and any(operand.op != "get_attr" and found.dtype.is_floating_point for operand, found in types.items())


def _of_canonical(node: Node, call: Call) -> int:
    if call.op.name == "matmul":
        return _product(tensor_type(node), _tensors_read(node)[0])
    if call.op.name == "addmm":
        return _product(tensor_type(node), _tensors_read(node)[1])
    if call.op.name == "attention":
        return _attention(*_tensors_read(node)[:3])
    if call.op.name == "einsum":
        return _of_labels(call.operands["equation"], _tensors_read(node))
    weight = _type_of_operand(call.operands.get("weight")) if call.op.name in _WEIGHTED else None
    if weight is None:
        return 0
    if call.op.name == "bilinear":
        return _by_weight(tensor_type(node), weight.shape) + _product(tensor_type(node), _tensors_read(node)[1])
    return _by_weight(_tensors_read(node)[0] if call.op.name == "conv_transpose" else tensor_type(node), weight.shape)


def _by_weight(elements: TensorType | None, weight: tuple[int, ...]) -> int:
    """Every element meets the weights of one channel: of its own for a convolution's outputs, and for a transposed one's inputs."""
    return 0 if elements is None else elements.numel * torch.Size(weight[1:]).numel()


def _product(result: TensorType | None, left: TensorType) -> int:
    return 0 if result is None else result.numel * left.shape[-1]


def _of_labels(equation: str, tensors: list[TensorType]) -> int:
    """From left to right; every combination of two operands' labels is a product of its own. With one operand nothing is multiplied."""
    written = parsed(equation)
    lengths = zip("".join(written.operands), (length for found in tensors for length in found.shape), strict=True)
    sizes, macs, labels = dict(lengths), 0, set(written.operands[0])
    for number, operand in enumerate(written.operands[1:], 2):
        labels |= set(operand)
        macs += math.prod(sizes[label] for label in labels)
        labels &= set(written.result).union(*written.operands[number:])
    return macs


def _attention(query: TensorType, key: TensorType, value: TensorType) -> int:
    """q · kᵀ and its product with v, for [..., length, features]."""
    return query.numel * key.shape[-2] + query.numel // query.shape[-1] * value.shape[-2] * value.shape[-1]


def _of_attention_module(module: nn.MultiheadAttention, tensors: list[TensorType]) -> int:
    """Four projections and the attention itself, over all heads."""
    query, key, value = tensors[:3] if len(tensors) >= 3 else tensors[:1] * 3
    projections = query.numel * module.embed_dim * 2 + (key.numel + value.numel) * module.embed_dim
    length = key.shape[1 if module.batch_first and len(key.shape) == 3 else 0]
    return int(projections + 2 * query.numel * length)


def _tensors_read(node: Node) -> list[TensorType]:
    """Types of the tensors among the arguments, in order."""
    return [found for value in _flat((*node.args, *node.kwargs.values())) if (found := _type_of_operand(value)) is not None]


def _flat(values: Any) -> Iterator[Any]:
    for value in values:
        if isinstance(value, list | tuple):
            yield from _flat(value)
        else:
            yield value


def _type_of_operand(value: Any) -> TensorType | None:
    return tensor_type(value) if isinstance(value, Node) else None

"""Lowered model → reference model: the float ops that the integer ops stand for, between dequantize and quantize."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import Node
from torch.fx.node import map_arg

from fxq.graph.annotation import Meaning, TensorType, meaning_of, quant_of, set_meaning, set_type, tensor_type
from fxq.graph.constants import module_of, put_module, put_tensor, read_constant, remove_unread
from fxq.graph.functional import clamp_bounds
from fxq.graph.module import FxqModule
from fxq.graph.opdef import Call, OpDef, Operands, Role, role_of
from fxq.graph.ops import call_of, ops_by_name, own_ops, write_call
from fxq.graph.qdq import insert_dequantize, insert_dequantize_groups, insert_qdq, insert_rounding, integers_behind, is_quantize, qparams_of
from fxq.graph.qtypes import WEIGHT_PER_CHANNEL, QParams
from fxq.graph.stages import Stage
from fxq.graph.verify import INTEGERS, verify
from fxq.lowering.requantize import wrap_int32
from fxq.runtime.dynamic.conv import DynamicConv
from fxq.runtime.dynamic.linear import DynamicLinear
from fxq.runtime.integer.conv import Conv
from fxq.runtime.integer.conv_transpose import ConvTranspose
from fxq.runtime.integer.elementwise import PRelu
from fxq.runtime.integer.linear import Linear
from fxq.runtime.integer.norm import GroupNorm, LayerNorm
from fxq.runtime.weight_only.embedding import WeightOnlyEmbedding
from fxq.runtime.weight_only.linear import WeightOnlyLinear


def lift(module: FxqModule) -> FxqModule:
    """integer_op(x) → q(op(dq(x), dq(w))): the inverse of `lower`, as a copy that shares the integer weights.

    Scales of weights are what the multipliers say, up to 2^-21 of them away from those that were lowered; everything else is as it was.
    """
    shared = {id(tensor): tensor for tensor in chain(module.parameters(), module.buffers())}
    lifted = copy.deepcopy(module, shared)
    lifted.run_with(None)
    for node in list(lifted.graph.nodes):
        meaning = meaning_of(node)
        if meaning is not None:
            _lift_node(node, meaning)
    remove_unread(lifted)
    lifted.stage = Stage.REFERENCE
    verify(lifted, lifted.stage, "lift")
    lifted.recompile()
    return lifted


def _lift_node(node: Node, meaning: Meaning) -> None:
    """The node computes in float what its integers stood for; behind it they are made again, where it does not do that itself."""
    op, found, is_integer = _op(node, meaning), tensor_type(node), _is_integer(node)
    assert found is not None
    read = {**_operands(node, meaning, op), **meaning.constants}
    floats = _floats_of(node)
    operands = {name: map_arg(value, floats) if role_of(name) is Role.ACTIVATION else value for name, value in read.items()}
    if node.op == "call_module":
        operands.update(_tensors(node, Call(op, operands)))
    write_call(node, Call(op, operands))
    set_meaning(node, None)
    if is_quantize(node):
        return
    set_type(node, TensorType(found.shape, torch.float32))
    if is_integer:
        q = integers_behind(insert_qdq(node, _result_qparams(node), after=node))
        node.replace_all_uses_with(q, delete_user_cb=lambda reader: reader is not q)


def _op(node: Node, meaning: Meaning) -> OpDef:
    return ops_by_name().get(meaning.op) or next(op for op in own_ops(node) if op.name == meaning.op)


def _operands(node: Node, meaning: Meaning, op: OpDef) -> Operands:
    """What the graph says of the operands: the integers that an integer op reads, all operands of a call with integers."""
    call = call_of(node)
    if call is None:
        return dict(zip(meaning.inputs, node.args, strict=True))
    return {name: value for name, value in call.operands.items() if name in op.operands}


def _floats_of(node: Node) -> Callable[[Node], Node]:
    """What stands between a value and the float op of the node that reads it: a dequantize, or a rounding to 8 bits as it arrives."""
    quant = quant_of(node)
    if quant is not None and quant.is_weight_only:
        return lambda value: value
    if quant is None or not quant.is_dynamic:
        return _dequantized
    spec = next(spec for spec in quant.inputs.values() if spec.dynamic)
    weight = module_of(node).get_submodule(str(node.target)).weight
    assert isinstance(weight, Tensor)
    return lambda value: insert_rounding(value, spec, weight.ndim - 1)


def _dequantized(integers: Node) -> Node:
    made = integers.next
    if made.target is _DEQUANTIZE and made.args == (integers,):
        return made
    return insert_dequantize(integers, _qparams(integers))


_DEQUANTIZE = ops_by_name()["dequantize"].call


def _qparams(integers: Node) -> QParams:
    return qparams_of(integers) if is_quantize(integers) else _result_qparams(integers)


# --- tensors of the model --------------------------------------------------------------------------------------------------


def _tensors(node: Node, call: Call) -> Operands:
    """Weight, bias, gain and the like: nodes that read them, at the path of the integer op, whose place they take."""
    path = str(node.target)
    op = module_of(node).get_submodule(path)
    restore = _RESTORED.get(type(op))
    if restore is None:
        return {}
    put_module(module_of(node), path, nn.Module())
    return restore(node, op, call)


def _conv(node: Node, op: Any, call: Call) -> Operands:
    """b_q = bias' + z_x·Σw_q, since the zero point was folded into the bias."""
    folded = int(_input_qparams(call).zero_point) * op.weight.flatten(1).to(torch.int64).sum(1)
    return _weighted(node, call, op.weight, _Products(op.multiplier, wrap_int32(op.bias + folded), axis=0))


def _conv_transpose(node: Node, op: Any, call: Call) -> Operands:
    """One scale for each channel of axis 1, which every group has."""
    per_group = op.weight.shape[1]
    return _weighted(node, call, op.weight, _Products(op.multiplier, op.bias, axis=1, scales=per_group))


def _dynamic(node: Node, op: Any, call: Call) -> Operands:
    return {"weight": _weight(node, op.weight, op.scale, axis=0), "bias": _tensor(node, "bias", op.bias)}


def _weight_only(node: Node, op: Any, call: Call) -> Operands:
    stored = _tensor(node, "weight", op.weight)
    assert stored is not None
    weight = insert_dequantize_groups(stored, op.weights)
    return {"weight": weight, **({"bias": _tensor(node, "bias", op.bias)} if "bias" in call.op.operands else {})}


def _norm(node: Node, op: Any, call: Call) -> Operands:
    return {"gain": _tensor(node, "weight", op.weight), "shift": _tensor(node, "bias", op.bias)}


def _prelu(node: Node, op: Any, call: Call) -> Operands:
    return {"slope": _tensor(node, "weight", op.slopes)}


# what each integer op holds, as operands of the float op; those without a row hold no tensors
_RESTORED: Mapping[type[nn.Module], Callable[[Node, Any, Call], Operands]] = {
    Conv: _conv,
    Linear: _conv,
    DynamicLinear: _dynamic,
    DynamicConv: _dynamic,
    WeightOnlyLinear: _weight_only,
    WeightOnlyEmbedding: _weight_only,
    ConvTranspose: _conv_transpose,
    LayerNorm: _norm,
    GroupNorm: _norm,
    PRelu: _prelu,
}


@dataclass(frozen=True)
class _Products:
    """What a convolution knows of its scales.

    Attributes:
        multiplier: f32 [O], s_x·s_w[c]/s_y, or s_x·s_w[c] where the real value is needed.
        bias: i32 [O], b_q.
        axis: of the weight, that of its channels.
        scales: how many scales there are.
    """

    multiplier: Tensor
    bias: Tensor
    axis: int
    scales: int | None = None


def _weighted(node: Node, call: Call, weight: Tensor, products: _Products) -> Operands:
    """w = s_w·w_q and bias = s_x·s_w·b_q"""
    real = products.multiplier.to(torch.float64)
    if clamp_bounds(call.operands["act"]) is not None and _is_integer(node):
        real = real / float(1.0 / _result_qparams(node).scale)
    scale = (real / float(_input_qparams(call).scale)).to(torch.float32)[: products.scales]
    bias = (real * products.bias).to(torch.float32) if bool(products.bias.any()) else None
    return {"weight": _weight(node, weight, scale, products.axis), "bias": _tensor(node, "bias", bias)}


def _weight(node: Node, integers: Tensor, scale: Tensor, axis: int) -> Node:
    """A node that dequantizes the integers, which have one scale for each channel of the axis."""
    stored = _tensor(node, "weight", integers)
    assert stored is not None
    spec = replace(WEIGHT_PER_CHANNEL, axis=axis)
    return insert_dequantize(stored, QParams(spec, scale, torch.zeros_like(scale, dtype=torch.int32)))


def _tensor(node: Node, name: str, value: Tensor | None) -> Node | None:
    """A node that reads the value, which belongs to the node's module from now on."""
    if value is None:
        return None
    path = f"{node.target}.{name}"
    put_tensor(module_of(node), path, value)
    return read_constant(node, path)


def _input_qparams(call: Call) -> QParams:
    return qparams_of(call.operands["input"])


def _result_qparams(node: Node) -> QParams:
    quant = quant_of(node)
    assert quant is not None and quant.qparams is not None, f"{node.name} has no qparams"
    return quant.qparams


def _is_integer(node: Node) -> bool:
    found = tensor_type(node)
    return found is not None and found.dtype in INTEGERS

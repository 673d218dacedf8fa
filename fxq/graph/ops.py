"""OPS: one row per canonical op. An op's spellings and its behaviour under quantization are written here and nowhere else."""

from __future__ import annotations

import operator
from collections.abc import Collection, Mapping
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.fx import Node

from fxq.graph import elementary, functional, movement, objections, products
from fxq.graph import product_spellings as of
from fxq.graph import spellings as read
from fxq.graph.opdef import Attribute, Call, Library, OpDef, Policy
from fxq.graph.qtypes import QParams
from fxq.graph.spellings import in_place, spelled

OWN, TABLE, FIXED, SHARES, MOVES, METADATA, FLOAT = Policy

_UNIT = QParams.per_tensor(1 / 256, 0)  # [0, 1)
_SIGNED_UNIT = QParams.per_tensor(1 / 128, 128)  # [−1, 1)


# fmt: off
OPS = (
    # accumulators
    OpDef("conv", functional.conv, OWN, (
        *spelled(nn.Conv1d, torch.conv1d, rank=1),
        *spelled(nn.Conv2d, torch.conv2d, rank=2),
        *spelled(nn.Conv3d, torch.conv3d, rank=3),
    ), float_output=True),
    OpDef("conv_transpose", functional.conv_transpose, OWN, (
        *spelled(nn.ConvTranspose1d, F.conv_transpose1d, rank=1),
        *spelled(nn.ConvTranspose2d, F.conv_transpose2d, rank=2),
        *spelled(nn.ConvTranspose3d, F.conv_transpose3d, rank=3),
    ), weight_axis=1, float_output=True),
    OpDef("linear", functional.linear, OWN, spelled(nn.Linear, F.linear), float_output=True),
    OpDef("matmul", products.matmul, OWN, (
        *spelled(torch.matmul, torch.linalg.matmul, operator.matmul, "matmul"),
        *spelled(torch.bmm, torch.mm, "bmm", "mm", read=of.product("mat2")),
        *spelled(torch.mv, "mv", read=of.product("vec")), *spelled(torch.dot, "dot", read=of.product("tensor")),
    ), float_output=True),
    OpDef("addmm", products.addmm, FLOAT, (
        *spelled(torch.addmm, "addmm", read=of.addmm), *spelled(torch.baddbmm, "baddbmm", read=of.baddbmm),
        *spelled(torch.addmv, "addmv", read=of.addmv),
    )),
    OpDef("bilinear", products.bilinear, FLOAT, (*spelled(nn.Bilinear), *spelled(F.bilinear, read=of.bilinear))),
    OpDef("addcmul", products.addcmul, FLOAT, (
        *spelled(torch.addcmul, "addcmul", read=of.addcmul), *in_place("addcmul_", read=of.addcmul),
    )),
    OpDef("glu", products.glu, FLOAT, spelled(nn.GLU, F.glu)),
    OpDef("einsum", products.einsum, FLOAT, (
        *spelled(torch.einsum, read=of.einsum), *spelled(torch.tensordot, read=of.tensordot),
        *spelled(torch.inner, "inner", read=of.inner), *spelled(torch.outer, "outer", read=of.outer),
        *spelled(torch.linalg.vecdot, read=of.vecdot),
    )),
    OpDef("attention", products.attention, FLOAT, (
        *spelled(F.scaled_dot_product_attention, read=of.attention),
    ), objection=objections.masked),
    OpDef("batch_norm", functional.batch_norm, FLOAT, (
        *spelled(nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm, read=read.batch_norm_module),
        *spelled(F.batch_norm),
    ), objection=objections.in_training),
    OpDef("add", functional.add, OWN, (*spelled(torch.add, operator.add, "add"), *in_place(operator.iadd, "add_")), is_arithmetic=True),
    OpDef("sub", functional.sub, OWN, (
        *spelled(torch.sub, torch.subtract, operator.sub, "sub", "subtract"), *in_place(operator.isub, "sub_"),
        *spelled(torch.rsub, read=read.reversed_operands),
    ), is_arithmetic=True),
    OpDef("mul", functional.mul, OWN, (
        *spelled(torch.mul, torch.multiply, operator.mul, "mul", "multiply"), *in_place(operator.imul, "mul_"),
    ), is_arithmetic=True),
    OpDef("div", functional.div, OWN, (
        *spelled(torch.div, torch.true_divide, torch.divide, operator.truediv, "div", "true_divide", "divide"),
        *in_place(operator.itruediv, "div_"),
    ), is_arithmetic=True, objection=objections.divides_by_tensor),
    # unary
    OpDef("relu", functional.relu, SHARES, (
        *spelled(nn.ReLU, torch.relu, "relu"), *spelled(F.relu, read=read.unary), *in_place(F.relu_, "relu_"),
    )),
    OpDef("clamp", functional.clamp, SHARES, (
        *spelled(torch.clamp, torch.clip, "clamp", "clip"), *in_place(torch.clamp_, torch.clip_, "clamp_", "clip_"),
        *spelled(torch.clamp_min, "clamp_min", read=read.clamp_min), *in_place(torch.clamp_min_, "clamp_min_", read=read.clamp_min),
        *spelled(torch.clamp_max, "clamp_max", read=read.clamp_max), *in_place(torch.clamp_max_, "clamp_max_", read=read.clamp_max),
        *spelled(nn.ReLU6, nn.Hardtanh, read=read.hardtanh_module),
        *spelled(F.relu6, read=read.relu6), *spelled(F.hardtanh, read=read.hardtanh), *in_place(F.hardtanh_, read=read.hardtanh),
    ), objection=objections.bounds_without_0),
    OpDef("leaky_relu", functional.leaky_relu, TABLE, (
        *spelled(nn.LeakyReLU, F.leaky_relu), *in_place(F.leaky_relu_), *spelled(nn.RReLU, read=read.rrelu_module),
    )),
    OpDef("elu", functional.elu, TABLE, (*spelled(nn.ELU, F.elu), *in_place(F.elu_))),
    OpDef("sigmoid", functional.sigmoid, FIXED, (
        *spelled(nn.Sigmoid, torch.sigmoid, F.sigmoid, "sigmoid"), *in_place(torch.sigmoid_, "sigmoid_"),
    ), fixed=_UNIT),
    OpDef("tanh", functional.tanh, FIXED, (
        *spelled(nn.Tanh, torch.tanh, F.tanh, "tanh"), *in_place(torch.tanh_, "tanh_"),
    ), fixed=_SIGNED_UNIT),
    OpDef("hardsigmoid", functional.hardsigmoid, FIXED, (
        *spelled(nn.Hardsigmoid), *spelled(F.hardsigmoid, read=read.unary),
    ), fixed=_UNIT),
    OpDef("hardswish", functional.hardswish, TABLE, (*spelled(nn.Hardswish), *spelled(F.hardswish, read=read.unary))),
    OpDef("silu", functional.silu, TABLE, (*spelled(nn.SiLU), *spelled(F.silu, read=read.unary))),
    OpDef("gelu", functional.gelu, TABLE, spelled(nn.GELU, F.gelu)),
    OpDef("mish", functional.mish, TABLE, (*spelled(nn.Mish), *spelled(F.mish, read=read.unary))),
    OpDef("softplus", functional.softplus, TABLE, spelled(nn.Softplus, F.softplus)),
    OpDef("neg", elementary.neg, TABLE, spelled(torch.neg, torch.negative, operator.neg, "neg", "negative")),
    OpDef("abs", elementary.abs, TABLE, spelled(torch.abs, torch.absolute, operator.abs, "abs", "absolute")),
    OpDef("exp", elementary.exp, TABLE, spelled(torch.exp, "exp")),
    OpDef("sqrt", elementary.sqrt, TABLE, spelled(torch.sqrt, "sqrt")),
    OpDef("square", elementary.square, TABLE, spelled(torch.square, "square"), normalizes=True),
    OpDef("pow", elementary.pow, TABLE, spelled(
        torch.pow, operator.pow, "pow", read=read.power,
    ) + spelled(torch.rsqrt, "rsqrt", read=read.rsqrt), objection=objections.steep_power, normalizes=True),
    OpDef("expm1", elementary.expm1, TABLE, spelled(torch.expm1, "expm1")),
    OpDef("log1p", elementary.log1p, TABLE, spelled(torch.log1p, "log1p")),
    OpDef("erf", elementary.erf, TABLE, spelled(torch.erf, "erf")),
    OpDef("hardshrink", functional.hardshrink, TABLE, spelled(nn.Hardshrink, torch.hardshrink, "hardshrink")),
    OpDef("softshrink", functional.softshrink, TABLE, spelled(nn.Softshrink, F.softshrink)),
    OpDef("tanhshrink", functional.tanhshrink, TABLE, spelled(nn.Tanhshrink, F.tanhshrink)),
    OpDef("threshold", functional.threshold, TABLE, (*spelled(nn.Threshold, torch.threshold), *spelled(F.threshold, read=read.threshold))),
    OpDef("selu", functional.selu, TABLE, (*spelled(nn.SELU, torch.selu), *spelled(F.selu, read=read.unary))),
    OpDef("celu", functional.celu, TABLE, spelled(nn.CELU, torch.celu, F.celu)),
    OpDef("softsign", functional.softsign, TABLE, spelled(nn.Softsign, F.softsign)),
    OpDef("logsigmoid", functional.logsigmoid, TABLE, spelled(nn.LogSigmoid, F.logsigmoid)),
    OpDef("prelu", functional.prelu, OWN, (*spelled(nn.PReLU, read=read.prelu_module), *spelled(torch.prelu, read=read.prelu))),
    OpDef("softmax", functional.softmax, OWN, (
        *spelled(nn.Softmax), *spelled(F.softmax, torch.softmax, "softmax", read=read.softmax),
    ), normalizes=True),
    OpDef("layer_norm", functional.layer_norm, OWN, (
        *spelled(nn.LayerNorm, read=read.norm_module("normalized_shape")), *spelled(F.layer_norm, read=read.layer_norm),
    ), normalizes=True),
    OpDef("rms_norm", functional.rms_norm, FLOAT, (
        *spelled(nn.RMSNorm, read=read.norm_module("normalized_shape")), *spelled(F.rms_norm, torch.rms_norm, read=read.rms_norm),
    )),
    OpDef("group_norm", functional.group_norm, OWN, (
        *spelled(nn.GroupNorm, read=read.norm_module("num_groups")), *spelled(F.group_norm, read=read.group_norm),
    ), normalizes=True),
    OpDef("instance_norm", functional.instance_norm, OWN, (
        *spelled(nn.InstanceNorm1d, read=read.instance_norm_module(1)),
        *spelled(nn.InstanceNorm2d, read=read.instance_norm_module(2)),
        *spelled(nn.InstanceNorm3d, read=read.instance_norm_module(3)),
        *spelled(F.instance_norm, read=read.instance_norm),
    ), normalizes=True, objection=objections.one_image),
    OpDef("interpolate", functional.interpolate, SHARES, spelled(nn.Upsample, F.interpolate), objection=objections.not_resized,
          computed=("size",), enlarges=True),
    # pooling and reductions
    OpDef("max_pool", functional.max_pool, SHARES, (
        *spelled(nn.MaxPool1d, F.max_pool1d, torch.max_pool1d, rank=1),
        *spelled(nn.MaxPool2d, F.max_pool2d, torch.max_pool2d, rank=2),
        *spelled(nn.MaxPool3d, F.max_pool3d, torch.max_pool3d, rank=3),
    )),
    OpDef("adaptive_max_pool", functional.adaptive_max_pool, SHARES, (
        *spelled(nn.AdaptiveMaxPool1d, F.adaptive_max_pool1d, rank=1),
        *spelled(nn.AdaptiveMaxPool2d, F.adaptive_max_pool2d, rank=2),
        *spelled(nn.AdaptiveMaxPool3d, F.adaptive_max_pool3d, rank=3),
    )),
    OpDef("avg_pool", functional.avg_pool, OWN, (
        *spelled(nn.AvgPool1d, F.avg_pool1d, rank=1),
        *spelled(nn.AvgPool2d, F.avg_pool2d, rank=2),
        *spelled(nn.AvgPool3d, F.avg_pool3d, rank=3),
    ), float_output=True),
    OpDef("adaptive_avg_pool", functional.adaptive_avg_pool, OWN, (
        *spelled(nn.AdaptiveAvgPool1d, F.adaptive_avg_pool1d, rank=1),
        *spelled(nn.AdaptiveAvgPool2d, F.adaptive_avg_pool2d, rank=2),
        *spelled(nn.AdaptiveAvgPool3d, F.adaptive_avg_pool3d, rank=3),
    ), float_output=True, is_input_at_its_shape=True),
    OpDef("mean", functional.mean, OWN, spelled(torch.mean, "mean"), float_output=True, is_input_at_its_shape=True),
    OpDef("sum", functional.sum, OWN, spelled(torch.sum, "sum")),
    OpDef("amax", functional.amax, SHARES, spelled(torch.amax, "amax")),
    OpDef("amin", functional.amin, SHARES, spelled(torch.amin, "amin")),
    OpDef("maximum", functional.maximum, SHARES, (*spelled(torch.maximum, "maximum"), *spelled(torch.max, "max", read=read.of_two))),
    OpDef("minimum", functional.minimum, SHARES, (*spelled(torch.minimum, "minimum"), *spelled(torch.min, "min", read=read.of_two))),
    OpDef("embedding", functional.embedding, FLOAT, spelled(nn.Embedding, F.embedding), objection=objections.changes_rows),
    # movement
    OpDef("cat", movement.cat, MOVES, spelled(torch.cat, torch.concat, torch.concatenate), copies=True),
    OpDef("pad", movement.pad, MOVES, (
        *spelled(F.pad),
        *spelled(nn.ConstantPad1d, nn.ConstantPad2d, nn.ConstantPad3d, read=read.pad_module("constant")),
        *spelled(nn.ZeroPad1d, nn.ZeroPad2d, nn.ZeroPad3d, read=read.pad_module("constant")),
        *spelled(nn.ReflectionPad1d, nn.ReflectionPad2d, nn.ReflectionPad3d, read=read.pad_module("reflect")),
        *spelled(nn.ReplicationPad1d, nn.ReplicationPad2d, nn.ReplicationPad3d, read=read.pad_module("replicate")),
        *spelled(nn.CircularPad1d, nn.CircularPad2d, nn.CircularPad3d, read=read.pad_module("circular")),
    ), copies=True, objection=objections.border_not_0),
    OpDef("setitem", movement.setitem, MOVES, (
        *in_place(operator.setitem, read=read.setitem),
    ), copies=True, objection=objections.copies_number),
    OpDef("fill", movement.fill, FLOAT, (*in_place("fill_"), *in_place("zero_", read=read.zero)), copies=True),
    OpDef("where", movement.where, MOVES, (
        *spelled(torch.where, read=read.where), *spelled("where", read=read.where_method),
        *spelled(torch.masked_fill, "masked_fill", read=read.masked_fill), *in_place("masked_fill_", read=read.masked_fill),
    ), copies=True, objection=objections.copies_number),
    OpDef("stack", movement.stack, MOVES, spelled(torch.stack), copies=True),
    OpDef("chunk", movement.chunk, MOVES, spelled(torch.chunk, "chunk")),
    OpDef("split", movement.split, MOVES, (*spelled(torch.split, read=read.split), *spelled("split", read=read.split_method))),
    OpDef("tensor_split", movement.tensor_split, MOVES, spelled(torch.tensor_split, "tensor_split", read=read.tensor_split)),
    OpDef("unbind", movement.unbind, MOVES, spelled(torch.unbind, "unbind")),
    OpDef("narrow", movement.narrow, MOVES, spelled(torch.narrow, "narrow")),
    OpDef("select", movement.select, MOVES, spelled(torch.select, "select")),
    OpDef("index_select", movement.index_select, MOVES, spelled(torch.index_select, "index_select"), copies=True),
    OpDef("flatten", movement.flatten, MOVES, spelled(nn.Flatten, torch.flatten, "flatten")),
    OpDef("reshape", movement.reshape, MOVES, (*spelled(torch.reshape), *spelled("reshape", "view", read=read.sizes("shape")))),
    OpDef("permute", movement.permute, MOVES, (
        *spelled(torch.permute), *spelled("permute", read=read.sizes("dims")), *spelled(Attribute("T"), read=read.reversed_dims),
    )),
    OpDef("movedim", movement.movedim, MOVES, spelled(torch.movedim, torch.moveaxis, "movedim", "moveaxis")),
    OpDef("transpose", movement.transpose, MOVES, (
        *spelled(torch.transpose, torch.swapdims, "transpose", "swapdims"),
        *spelled(torch.swapaxes, "swapaxes", read=read.swapaxes),
        *spelled(torch.t, "t", read=read.transposed(0, 1)), *spelled(Attribute("mT"), read=read.transposed(-2, -1)),
    )),
    OpDef("squeeze", movement.squeeze, MOVES, spelled(torch.squeeze, "squeeze")),
    OpDef("unsqueeze", movement.unsqueeze, MOVES, spelled(torch.unsqueeze, "unsqueeze")),
    OpDef("expand", movement.expand, MOVES, (
        *spelled("expand", read=read.sizes("sizes")), *spelled(torch.broadcast_to, "broadcast_to", read=read.broadcast),
    )),
    OpDef("repeat", movement.repeat, MOVES, spelled("repeat", read=read.sizes("repeats")), copies=True),
    OpDef("repeat_interleave", movement.repeat_interleave, MOVES, spelled(torch.repeat_interleave, "repeat_interleave"), copies=True),
    OpDef("unfold", movement.unfold, MOVES, spelled("unfold")),
    OpDef("roll", movement.roll, MOVES, spelled(torch.roll, "roll"), copies=True),
    OpDef("flip", movement.flip, MOVES, (*spelled(torch.flip), *spelled("flip", read=read.sizes("dims"))), copies=True),
    OpDef("unflatten", movement.unflatten, MOVES, (
        *spelled(torch.unflatten, "unflatten"), *spelled(nn.Unflatten, read=read.unflatten_module),
    )),
    OpDef("pixel_shuffle", movement.pixel_shuffle, MOVES, spelled(nn.PixelShuffle, F.pixel_shuffle)),
    OpDef("pixel_unshuffle", movement.pixel_unshuffle, MOVES, spelled(nn.PixelUnshuffle, F.pixel_unshuffle)),
    OpDef("channel_shuffle", movement.channel_shuffle, MOVES, spelled(nn.ChannelShuffle, F.channel_shuffle)),
    OpDef("contiguous", movement.contiguous, MOVES, spelled("contiguous")),
    OpDef("clone", movement.clone, MOVES, spelled(torch.clone, "clone"), copies=True),
    OpDef("getitem", movement.getitem, MOVES, spelled(operator.getitem)),
    OpDef("identity", movement.identity, MOVES, spelled(nn.Identity)),
    OpDef("dropout", movement.dropout, MOVES, (
        *spelled(nn.Dropout, F.dropout), *spelled(nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, read=read.channel_dropout_module),
        *spelled(Library("torchvision.ops.stochastic_depth.stochastic_depth"), read=read.stochastic_depth),
    ), objection=objections.in_training),
    OpDef("dim", movement.dim, METADATA, (*spelled("dim", "ndimension"), *spelled(Attribute("ndim"), read=read.attribute))),
    OpDef("device", movement.device, METADATA, spelled(Attribute("device"), read=read.attribute)),
    OpDef("pieces", movement.pieces, METADATA),
    OpDef("numel", movement.numel, METADATA, spelled(torch.numel, "numel", "nelement")),
    OpDef("size", movement.size, METADATA, (*spelled("size"), *spelled(Attribute("shape"), read=read.attribute))),
    # quantization
    OpDef("round_to_bytes", functional.round_to_bytes, FLOAT),
    OpDef("quantize", functional.quantize, FLOAT),
    OpDef("dequantize", functional.dequantize, FLOAT),
    OpDef("dequantize_groups", products.dequantize_groups, FLOAT),
)
# fmt: on


@cache
def ops_by_name() -> Mapping[str, OpDef]:
    """Canonical name → row."""
    return {op.name: op for op in OPS}


@cache
def _ops_by_call() -> Mapping[Any, OpDef]:
    return {op.call: op for op in OPS}


def own_ops(node: Node) -> tuple[OpDef, ...]:
    """The ops that the node's model brings along, besides those of fxq."""
    found: tuple[OpDef, ...] = getattr(node.graph.owning_module, "ops", ())
    return found


def op_of(node: Node) -> OpDef | None:
    """The op that a canonical node calls; None for any other node."""
    if node.op != "call_function":
        return None
    return _ops_by_call().get(node.target) or next((each for each in own_ops(node) if each.call is node.target), None)


def call_of(node: Node) -> Call | None:
    """A canonical node as a Call; None for any other node."""
    op = op_of(node)
    return None if op is None else Call(op, dict(zip(op.positional, node.args, strict=False), **node.kwargs))


def write_call(node: Node, call: Call) -> None:
    """Makes the node this call, in canonical form: tensors by position, attributes by keyword."""
    if node.target is not call.op.call:
        node.op, node.target = "call_function", call.op.call
    positional = call.op.positional
    args = tuple(call.operands[name] for name in positional)
    kwargs = {name: value for name, value in call.operands.items() if name not in positional}
    if not _are_same(args, node.args):
        node.args = args
    if kwargs.keys() != node.kwargs.keys() or not _are_same(kwargs.values(), node.kwargs.values()):
        node.kwargs = kwargs


def _are_same(values: Collection[Any], others: Collection[Any]) -> bool:
    """Whether they are the same objects: then torch.fx need not find out once more who reads what."""
    return len(values) == len(others) and all(map(operator.is_, values, others))

"""FUSIONS: float → float. What follows an op is folded into its weights or becomes its epilogue."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.fx import Node

from fxq.graph.annotation import origins_of, set_origins, set_type, tensor_type, type_of
from fxq.graph.constants import constant_of, insert_constant, module_of, replace_constant, tensor_at
from fxq.graph.functional import RELU, Act
from fxq.graph.opdef import Call
from fxq.graph.ops import call_of, write_call
from fxq.patterns import guards as g
from fxq.patterns.borders import adds_zeros, fold_pad
from fxq.patterns.expressions import Var, op
from fxq.patterns.matcher import Match
from fxq.patterns.matrices import transposes, weigh, weigh_transposed
from fxq.patterns.rules import Guard, Rule
from fxq.patterns.written_out import WRITTEN_OUT

X, W, B, R, C = Var("X"), Var("W"), Var("B"), Var("R"), Var("C", is_constant=True)

conv = op("conv")
conv_transpose = op("conv_transpose")
linear = op("linear")
matmul = op("matmul")
transposed = op("transpose", "permute", label="transposed")
pad = op("pad")
batch_norm = op("batch_norm")
relu = op("relu")
clamp = op("clamp")
polynomial = op("hardswish", "hardsigmoid", "leaky_relu", label="polynomial")
add = op("add", commutative=True)
mul = op("mul", commutative=True)
weighted = op("conv", "conv_transpose", "linear", label="weighted")
holder = op("conv", "conv_transpose", "linear", "add", "sub", "mul", "div", label="holder")  # ops whose epilogue has room for an activation

_STATISTICS = ("running_mean", "running_var", "weight", "bias")


@dataclass(frozen=True, eq=False)
class Affine:
    """x · gain + shift per channel, f64 [channels]."""

    gain: Tensor
    shift: Tensor


def affine_of(bn: Node) -> Affine:
    """What a batch norm computes in evaluation: g = γ / sqrt(σ² + ε) and β − μ · g, in float64."""
    operands = _call(bn).operands
    mean, variance, gamma, beta = (_constant(operands[name]) for name in _STATISTICS)
    assert mean is not None and variance is not None
    gain = torch.rsqrt(variance + operands["eps"]) * (1.0 if gamma is None else gamma)
    return Affine(gain, (0.0 if beta is None else beta) - mean * gain)


def give_input(match: Match) -> Node:
    """identity(x) = x, and dropout(x) = x in evaluation"""
    node: Node = match.values["X"]
    match.anchor.replace_all_uses_with(node)
    set_origins(node, origins_of(node) + origins_of(match.anchor))
    match.anchor.graph.erase_node(match.anchor)
    return node


def fold_bn(match: Match) -> Node:
    """bn(op(x)) = op'(x):  W' = W · g,  b' = b · g + β − μ · g"""
    target = next(node for label, node in match.nodes.items() if label != "batch_norm")
    return _fold(match, target, affine_of(match.anchor))


def fold_scale(match: Match) -> Node:
    """op(x) · g = op'(x):  W' = W · g,  b' = b · g.  A relu behind op stays there."""
    gain = _channels(match)
    return _fold(match, match.nodes["weighted"], Affine(gain, torch.zeros_like(gain)))


def fold_shift(match: Match) -> Node:
    """op(x) + d = op'(x):  b' = b + d"""
    shift = _channels(match)
    return _fold(match, match.nodes["weighted"], Affine(torch.ones_like(shift), shift))


def _channels(match: Match) -> Tensor:
    """The constant operand with one element per channel, f64."""
    constant = _constant(match.values["C"])
    value, weight = tensor_type(match.anchor), tensor_type(_call(match.nodes["weighted"]).operands["weight"])
    assert constant is not None and value is not None and weight is not None
    return constant.reshape(-1).expand(value.shape[len(value.shape) - len(weight.shape) + 1]).clone()


def _fold(match: Match, target: Node, affine: Affine) -> Node:
    call = _call(target)
    weight, bias = constant_of(call.operands["weight"]), _constant(call.operands["bias"])
    assert weight is not None
    copied = weight.detach().to(torch.float64, copy=True)
    folded_weight = scale_channels(copied, affine.gain, call, Tensor.mul_)  # new memory for the products would cost more than they do
    folded_bias = affine.shift if bias is None else bias * affine.gain + affine.shift
    return absorb(match, target, **new_weights(target, call, folded_weight, folded_bias))


def scale_channels(weight: Tensor, gain: Tensor, call: Call, multiply: Callable[[Tensor, Tensor], Tensor] = Tensor.mul) -> Tensor:
    """Each output channel of the weight times its gain."""
    if call.op.weight_axis == 0:
        return multiply(weight, gain.reshape(-1, *[1] * (weight.ndim - 1)))
    groups = int(call.operands["groups"])
    by_group = weight.reshape(groups, -1, *weight.shape[1:])  # [groups, I / groups, O / groups, *kernel]
    return multiply(by_group, gain.reshape(groups, 1, -1, *[1] * (weight.ndim - 2))).flatten(0, 1)


def new_weights(target: Node, call: Call, weight: Tensor, bias: Tensor) -> dict[str, Node]:
    """Operands for new values of an op's weight and bias, in the dtype of the old weight; the bias may be its first."""
    old_weight, old_bias = call.operands["weight"], call.operands["bias"]
    dtype = tensor_at(module_of(target), str(old_weight.target)).dtype
    operands = {"weight": replace_constant(old_weight, weight.to(dtype))}
    if isinstance(old_bias, Node):
        operands["bias"] = replace_constant(old_bias, bias.to(dtype))
    else:
        path = str(old_weight.target).rpartition(".")[0]
        operands["bias"] = insert_constant(target, f"{path}.bias" if path else f"{target.name}_bias", bias.to(dtype))
    return operands


def attach_relu(match: Match) -> Node:
    """relu(op(x)) = op(x, act=relu)"""
    return absorb(match, match.nodes["holder"], act=RELU)


def attach_clamp(match: Match) -> Node:
    """clamp(op(x), low, high) = op(x, act=clamp(low, high))"""
    bounds = _call(match.anchor).operands
    low = -math.inf if bounds["min"] is None else float(bounds["min"])
    high = math.inf if bounds["max"] is None else float(bounds["max"])
    act: Act = ("clamp", low, high)
    return absorb(match, match.nodes["holder"], act=act)


def attach_polynomial(match: Match) -> Node:
    """hardswish(op(x)) = op(x, act=hardswish), and so for hardsigmoid and leaky_relu"""
    call = _call(match.anchor)
    numbers = (call.operands["negative_slope"],) if call.op.name == "leaky_relu" else ()
    return absorb(match, match.nodes["holder"], act=(call.op.name, *numbers))


def attach_residual(match: Match) -> Node:
    """op(x) + r = op(x, residual=r)"""
    target = next(node for label, node in match.nodes.items() if label != "add")
    return absorb(match, target, residual=match.values["R"])


def absorb(match: Match, target: Node, **operands: object) -> Node:
    """Gives `target` new operands and the anchor's place, readers, type and origins; the anchor goes."""
    call, anchor = _call(target), match.anchor
    anchor.prepend(target)
    anchor.replace_all_uses_with(target)
    write_call(target, Call(call.op, {**call.operands, **operands}))
    set_type(target, type_of(anchor))
    set_origins(target, origins_of(target) + origins_of(anchor))
    anchor.graph.erase_node(anchor)
    return target


def _call(node: Node) -> Call:
    call = call_of(node)
    assert call is not None
    return call


def _constant(operand: object) -> Tensor | None:
    tensor = constant_of(operand) if isinstance(operand, Node) else None
    return None if tensor is None else tensor.detach().double()


FOLDABLE = (
    g.eval_mode("batch_norm"),
    g.constant("batch_norm", *_STATISTICS),
)


def _folds_into(label: str) -> tuple[Guard, ...]:
    """The batch norm has fixed statistics, and nobody else reads the op in front, which has constant weights and nothing fused."""
    return (*FOLDABLE, g.single_use(label), g.bare(label), g.constant(label, "weight", "bias"), g.rank_of_weight(label))


def _holds_sum(label: str) -> tuple[Guard, ...]:
    """Nobody else reads the op, nothing is fused behind it yet, and the other summand may be rounded to 8 bits."""
    return (
        g.equals("add", "alpha", 1), g.single_use(label), g.bare(label), g.same_type(label, "R"), g.not_switched_off("add"),
        g.not_normalized("add"), g.not_dynamic(label),
    )  # fmt: skip


SCALABLE = (g.per_channel("weighted", "C"), g.single_use("weighted"), g.constant("weighted", "weight", "bias"))

ACTIVATIONS = (
    # y = clip(rint(acc · m) + z, low, high): the activation becomes the bounds, and costs nothing
    Rule(
        "op_relu",
        relu(holder),
        when=(g.single_use("holder"), g.no_activation("holder"), g.not_switched_off("relu")),
        rewrite=attach_relu,
    ),
    Rule(
        "op_clamp",
        clamp(holder),
        when=(g.single_use("holder"), g.no_activation("holder"), g.numbers("clamp", "min", "max"), g.not_switched_off("clamp")),
        rewrite=attach_clamp,
    ),
    # u = f(v) on the real value, rounded once: the 8-bit value between the two ops never exists
    Rule(
        "op_polynomial",
        polynomial(holder),
        when=(g.single_use("holder"), g.no_activation("holder"), g.not_switched_off("polynomial")),
        rewrite=attach_polynomial,
    ),
)

FUSIONS = (
    # what gives its input back would stand between an op and its batch norm or activation
    Rule("identity_input", op("identity")(X), when=(g.computed("X"),), rewrite=give_input),
    Rule("dropout_input", op("dropout")(X), when=(g.eval_mode("dropout"), g.computed("X")), rewrite=give_input),
    *WRITTEN_OUT,
    # a product with a matrix of the model: as a weight it has a scale for each column
    Rule("matmul_transposed_weight", matmul(X, transposed(C)), when=(g.matrix("C"), transposes), rewrite=weigh_transposed),
    Rule("matmul_weight", matmul(X, C), when=(g.matrix("C"),), rewrite=weigh),
    # a border of zeros in front of a convolution, also one that is not the same on both sides
    Rule(
        "pad_conv",
        conv(pad(X), W, B),
        when=(g.equals("conv", "padding_mode", "zeros"), g.not_switched_off("pad"), adds_zeros),
        rewrite=fold_pad,
    ),
    # bn(conv(x)) = conv(x) · g + (β − μ · g): g goes into the weight, the rest into the bias
    Rule("conv_bn", batch_norm(conv(X, W, B)), when=_folds_into("conv"), rewrite=fold_bn),
    Rule("conv_transpose_bn", batch_norm(conv_transpose(X, W, B)), when=_folds_into("conv_transpose"), rewrite=fold_bn),
    # the same for linear, whose channels are dimension 1 only where its output has two dimensions
    Rule("linear_bn", batch_norm(linear(X, W, B)), when=_folds_into("linear"), rewrite=fold_bn),
    # batch norms written out by hand or frozen, and scales of layers
    Rule(
        "op_scale",
        mul(weighted, C),
        when=(*SCALABLE, g.lets_factors_through("weighted", "C"), g.not_switched_off("mul"), g.no_activation("mul")),
        rewrite=fold_scale,
    ),
    Rule(
        "op_shift",
        add(weighted, C),
        when=(*SCALABLE, g.bare("weighted"), g.not_switched_off("add"), g.no_activation("add"), g.equals("add", "alpha", 1)),
        rewrite=fold_shift,
    ),
    *ACTIVATIONS,
    # conv(x) + r: the sum is made of accumulators, so the 8-bit value between the two ops never exists
    Rule("conv_add", add(conv(X, W, B), R), when=_holds_sum("conv"), rewrite=attach_residual),
    Rule("linear_add", add(linear(X, W, B), R), when=_holds_sum("linear"), rewrite=attach_residual),
)

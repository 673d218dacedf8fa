"""Float scales → the integer constants that the runtime's ops take. The formulas are those of docs/numerics.md."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from fxq.errors import ConfigError
from fxq.graph.qtypes import QParams, in_f32, in_torch, quantize_numbers
from fxq.graph.reasons import Reason, Why
from fxq.runtime.integer.outputs import Activation, IntegerOutput, PackedWeights

MultiplierBits = Literal[22, 24]  # significant bits of m: x86 kernels may use one fma with 22; QNNPACK's arithmetic has all 24

_INT32 = 2**31
_LARGEST_WEIGHT = 128  # its absolute value
_BEYOND = np.float32(2.0**62)  # no accumulator holds it, and 64 bits hold its sum with any other term


@dataclass(frozen=True, eq=False)
class Scales:
    """The qparams around one conv, linear or matmul.

    Attributes:
        x: of the input, per tensor.
        w: of the weight, symmetric (zero_point 0), per tensor or per output channel.
        y: of the output, per tensor; None where the output stays float.
    """

    x: QParams
    w: QParams
    y: QParams | None = None


def pack_weights(weight: Tensor, scales: Scales, bias: Tensor | None = None, *, multiplier_bits: MultiplierBits = 24) -> PackedWeights:
    """acc = Σ x_q·w_q + bias', bias' = b_q − z_x·Σw, and m[c] = fl(fl(s_x·s_w[c])·fl(1f/s_y)): what Conv and Linear take.

    `accumulator_bound` must have proved the layer first. Without an output scale m[c] = fl(s_x·s_w[c]), never rounded further.

    Args:
        weight: s8 [O, ...], the output channels first.
        bias: f32 [O] in real units, or None for no bias.
        multiplier_bits: 22 rounds m to nearest even at 22 significant bits (x86 profile), 24 keeps f32 (qnnpack profile).

    Raises:
        ConfigError: the weight's zero point is not 0.
    """
    assert weight.dtype == torch.int8, weight.dtype
    products = _input_times_weight(weight, scales)
    folded = quantize_bias(bias, products) - int(scales.x.zero_point) * _sum_over_taps(weight)
    return PackedWeights(weight, wrap_int32(folded), _multiplier(products, scales.y, multiplier_bits))


def pack_transposed_weights(
    weight: Tensor, scales: Scales, bias: Tensor | None, groups: int, *, multiplier_bits: MultiplierBits = 24
) -> PackedWeights:
    """acc = Σ (x_q − z_x)·w_q + b_q, and m[c] as in pack_weights: what ConvTranspose takes. z_x stays outside the bias.

    `transposed_accumulator_bound` must have proved the layer first.

    Args:
        weight: s8 [I, O/groups, *kernel], as torch.nn.ConvTranspose2d has it.
        scales: w per tensor or per channel of axis 1; with groups each of these O/groups channels is in every group.
        bias, multiplier_bits: as for pack_weights.

    Raises:
        ConfigError: the weight's zero point is not 0.
    """
    assert weight.dtype == torch.int8, weight.dtype
    rows = transposed_rows(weight, groups)
    products = _input_times_weight(rows, _over_groups(scales, groups))
    return PackedWeights(weight, wrap_int32(quantize_bias(bias, products)), _multiplier(products, scales.y, multiplier_bits))


def transposed_accumulator_bound(weight: Tensor, scales: Scales, bias: Tensor | None, groups: int, node: str) -> Reason | None:
    """accumulator_bound for a transposed convolution: None where no sum of all its taps leaves int32.

    Args:
        weight, scales, bias, groups: as for pack_transposed_weights.
        node: the name the Reason is about.
    """
    return accumulator_bound(transposed_rows(weight, groups), _over_groups(scales, groups), bias, node)


def transposed_rows(weight: Tensor, groups: int) -> Tensor:
    """[I, O/groups, *kernel] → [O, I/groups, *kernel], a copy: all that one output channel is multiplied with."""
    return weight.reshape(groups, weight.shape[0] // groups, *weight.shape[1:]).transpose(1, 2).flatten(0, 1)


def _over_groups(scales: Scales, groups: int) -> Scales:
    """Per channel of axis 1 → per output channel: output channel g·(O/groups) + j has scale j."""
    if scales.w.scale.ndim == 0:
        return scales
    w = replace(scales.w, scale=scales.w.scale.repeat(groups), zero_point=scales.w.zero_point.repeat(groups))
    return replace(scales, w=w)


def accumulator_bound(weight: Tensor, scales: Scales, bias: Tensor | None, node: str) -> Reason | None:
    """None where Σ|w|·max(z_x − qmin, qmax − z_x) + |b_q| < 2^31 for every output channel; the Reason to stay float otherwise.

    Args:
        weight, bias: as for pack_weights.
        node: the name the Reason is about.
    """
    if weight.shape[0] == 0:
        return None
    zero_point, spec = int(scales.x.zero_point), scales.x.spec
    furthest = max(zero_point - spec.qmin, spec.qmax - zero_point)
    bias_q = quantize_bias(bias, _input_times_weight(weight, scales)).abs()
    if _LARGEST_WEIGHT * weight[0].numel() * furthest + int(bias_q.max()) < _INT32:
        return None  # whatever the weights are
    bound = _sum_over_taps(weight.to(torch.int16).abs()) * furthest + bias_q
    if int(bound.max()) < _INT32:
        return None
    channel = int(bound.argmax())
    return Reason(Why.OVERFLOW, node, f"its 32-bit accumulator can overflow: |acc| of channel {channel} may reach {int(bound[channel])}")


def quantize_bias(bias: Tensor | None, products: Tensor) -> Tensor:
    """b_q[c] = rint(fl(bias[c] · fl(1f / fl(s_x·s_w[c])))), i64 [O]; zeros without a bias, ±2^62 for what is beyond (and NaN).

    Args:
        bias: f32 [O] or None.
        products: f32 [O], fl(s_x·s_w[c]).
    """
    if bias is None:
        return torch.zeros_like(products, dtype=torch.int64)
    with np.errstate(all="ignore"):
        rounded = np.rint(in_f32(bias) * (1 / in_f32(products)))
    return in_torch(np.maximum(np.fmin(rounded, _BEYOND), -_BEYOND).astype(np.int64), products)


def round_multiplier(multiplier: Tensor, bits: MultiplierBits) -> Tensor:
    """m to nearest even with this many significant bits; positive normal f32 in and out."""
    dropped = 24 - bits
    if dropped == 0:
        return multiplier
    pattern = multiplier.cpu().numpy().view(np.int32)
    half_to_even = (1 << (dropped - 1)) - 1 + ((pattern >> dropped) & 1)
    return in_torch((((pattern + half_to_even) >> dropped) << dropped).view(np.float32), multiplier)


def scale_ratio(a: QParams, y: QParams) -> float:
    """fl(s_a/s_y): what Residual and the operands of Add take. Per tensor both."""
    return float(a.scale / y.scale)


def scale_step(x: QParams, y: QParams | None) -> float:
    """fl(s_x·inv_y), inv_y = fl(1f/s_y): what AvgPool, AdaptiveAvgPool, Mean and Sum take; s_x for a float result. Per tensor both."""
    return float(x.scale if y is None else x.scale * (1.0 / y.scale))


def product_multiplier(a: QParams, b: QParams, y: QParams) -> float:
    """fl(fl(s_a·s_b)·inv_y): what Mul takes. Per tensor all three."""
    return float((a.scale * b.scale) * (1.0 / y.scale))


def integer_output(y: QParams, low: float = -math.inf, high: float = math.inf, *, activation: Activation | None = None) -> IntegerOutput:
    """Output qparams and real activation bounds → the final clip: relu is low=0, relu6 [0, 6], hardtanh [−1, 1].

    The bounds are quantized by the one rule, clip(rint(fl(bound·inv_y)) + z_y). inverse is inv_y = fl(1f/s_y).
    With an activation the op in front must give real values: pack its weights with Scales(x, w), without y, and its residual with s_a.
    """
    lowest, highest = quantize_numbers((low, high), y)
    return IntegerOutput(y.spec.dtype, int(y.zero_point), lowest, highest, float(y.scale.reciprocal()), activation)


def _input_times_weight(weight: Tensor, scales: Scales) -> Tensor:
    """fl(s_x·s_w[c]), f32 [O]."""
    if scales.w.zero_point.cpu().numpy().any():
        raise ConfigError(
            "weight",
            expected="symmetric weights, zero_point 0",
            found=f"zero_point {scales.w.zero_point.tolist()}",
            remedy="use QuantSpec('int8', -127, 127, symmetric=True) for the weight",
        )
    return in_torch(np.full(weight.shape[0], in_f32(scales.x.scale) * in_f32(scales.w.scale)), weight)


def _multiplier(products: Tensor, y: QParams | None, bits: MultiplierBits) -> Tensor:
    return products if y is None else round_multiplier(in_torch(in_f32(products) * (1 / in_f32(y.scale)), products), bits)


def _sum_over_taps(weight: Tensor) -> Tensor:
    """Σ over all but the first axis, i64 [O]. Torch adds up bytes at a seventh of numpy's speed."""
    return in_torch(weight.flatten(1).cpu().numpy().sum(1, dtype=np.int64), weight)


def wrap_int32(values: Tensor) -> Tensor:
    """Modulo 2^32: a cast keeps the lower bits. Accumulation is modular too, so bias' may wrap where acc itself is proved to fit."""
    return values.to(torch.int32)

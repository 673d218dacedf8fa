"""The float meaning of the canonical ops that compute, as plain functions: the call targets of fxq's graphs.

Those that only move elements are in fxq.graph.movement, products of matrices in fxq.graph.products.

Parameter names carry the roles: `input`, `other`, `tensors` and `residual` are activations; `weight`, `bias` and
`running_*` are tensors of the model; everything else is an attribute, a constant of the graph. An op with a `residual` or
an `act` can hold a following addition or activation: y = act(op(...) + residual).

An `act` is a name and its numbers: ("clamp", low, high), of which relu is ("clamp", 0.0, inf), ("hardswish",), ("hardsigmoid",) or
("leaky_relu", slope).
"""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from fxq.graph.qtypes import QParams, QuantSpec, dequantize_tensor, dtype_of_range, quantize_tensor
from fxq.graph.row_qparams import choose_row_qparams, dequantize_rows, quantize_rows

Act = tuple[Any, ...]

RELU: Act = ("clamp", 0.0, math.inf)


def apply_act(y: Tensor, act: Act | None) -> Tensor:
    """act(y), or y where there is no activation."""
    if act is None:
        return y
    kind, *numbers = act
    if kind == "clamp":
        return _clamped(y, *numbers)
    return {"hardswish": hardswish, "hardsigmoid": hardsigmoid, "leaky_relu": leaky_relu}[kind](y, *numbers)


def _clamped(y: Tensor, low: float, high: float) -> Tensor:
    """clamp(y, low, high), by ops that are the fastest to train."""
    if (low, high) == (0.0, math.inf):
        return F.relu(y)
    if math.isfinite(low) and math.isfinite(high) and low < high:
        return F.hardtanh(y, low, high)
    return torch.clamp(y, low, high) if math.isfinite(high) or math.isfinite(low) else y


def clamp_bounds(act: Act | None) -> tuple[float, float] | None:
    """(low, high) of a clamp, (−inf, inf) of no activation; None for one that is more than bounds."""
    kind, *numbers = act or ("clamp", -math.inf, math.inf)
    return (numbers[0], numbers[1]) if kind == "clamp" else None


# --- ops that hold accumulators: their epilogue can add a residual and apply an activation --------------------------------


def spatial_padding(padding: str | Sequence[Any], weight: Tensor, dilation: Sequence[int]) -> tuple[tuple[int, int], ...]:
    """'same', 'valid', or one number or (before, after) per spatial dimension → (before, after) per spatial dimension.

    'same' puts the odd cell at the end, as torch does.
    """
    if padding == "valid":
        return tuple((0, 0) for _ in dilation)
    if padding == "same":
        totals = [step * (size - 1) for step, size in zip(dilation, weight.shape[2:], strict=True)]
        return tuple((total // 2, total - total // 2) for total in totals)
    return tuple(cells if isinstance(cells, tuple) else (int(cells), int(cells)) for cells in padding)


def _reversed_pairs(padding: str | Sequence[Any], weight: Tensor, dilation: Sequence[int]) -> list[int]:
    pairs = spatial_padding(padding, weight, dilation)
    return [cells for pair in reversed(pairs) for cells in pair]


def _epilogue(y: Tensor, residual: Tensor | None, act: Act | None) -> Tensor:
    return apply_act(y if residual is None else y + residual, act)


def conv(
    input: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1,
    padding_mode: str = "zeros", residual: Tensor | None = None, act: Act | None = None,
) -> Tensor:  # fmt: skip
    """act(conv(input, weight) + bias + residual), input [N, C, *spatial] or [C, *spatial], weight [O, C / groups, *kernel].

    One to three spatial dimensions, as many as the kernel has; stride, padding and dilation are one number for each, padding
    may be (before, after).
    """
    by_side = isinstance(padding, tuple) and any(isinstance(cells, tuple) for cells in padding)
    if padding_mode != "zeros" or by_side:
        input = F.pad(input, _reversed_pairs(padding, weight, dilation), mode="constant" if padding_mode == "zeros" else padding_mode)
        padding = 0
    convolution = (F.conv1d, F.conv2d, F.conv3d)[weight.ndim - 3]
    return _epilogue(convolution(input, weight, bias, stride, padding, dilation, groups), residual, act)


def conv_transpose(
    input: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Any = 1, padding: Any = 0, output_padding: Any = 0, groups: int = 1,
    dilation: Any = 1, act: Act | None = None,
) -> Tensor:  # fmt: skip
    """act(conv_transpose(input, weight) + bias), input [N, C, *spatial] or [C, *spatial], weight [C, O / groups, *kernel]."""
    convolution = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[weight.ndim - 3]
    return apply_act(convolution(input, weight, bias, stride, padding, output_padding, groups, dilation), act)


def linear(input: Tensor, weight: Tensor, bias: Tensor | None = None, residual: Tensor | None = None, act: Act | None = None) -> Tensor:
    """act(input · weightᵀ + bias + residual), input [..., in], weight [out, in]."""
    return _epilogue(F.linear(input, weight, bias), residual, act)


def add(input: Any, other: Any, alpha: float = 1, act: Act | None = None) -> Tensor:
    """act(input + alpha · other)."""
    return apply_act(torch.add(input, other, alpha=alpha) if alpha != 1 else operator.add(input, other), act)


def sub(input: Any, other: Any, alpha: float = 1, act: Act | None = None) -> Tensor:
    """act(input − alpha · other)."""
    return apply_act(torch.sub(input, other, alpha=alpha) if alpha != 1 else operator.sub(input, other), act)


def mul(input: Any, other: Any, act: Act | None = None) -> Tensor:
    """act(input · other)."""
    return apply_act(operator.mul(input, other), act)


def div(input: Any, other: Any, act: Act | None = None) -> Tensor:
    """act(input / other)."""
    return apply_act(operator.truediv(input, other), act)


def batch_norm(
    input: Tensor, running_mean: Tensor | None, running_var: Tensor | None, weight: Tensor | None = None, bias: Tensor | None = None,
    training: bool = False, momentum: float = 0.1, eps: float = 1e-5,
) -> Tensor:  # fmt: skip
    """γ · (input − μ) / sqrt(σ² + eps) + β, channels in dimension 1."""
    return F.batch_norm(input, running_mean, running_var, weight, bias, training, momentum, eps)


# --- unary functions: on 8-bit data each is a table of 256 entries ---------------------------------------------------------


def relu(input: Tensor) -> Tensor:
    """max(input, 0)"""
    return F.relu(input)


def clamp(input: Tensor, min: float | None = None, max: float | None = None) -> Tensor:
    """min ≤ input ≤ max; also relu6 and hardtanh."""
    return torch.clamp(input, min, max)


def leaky_relu(input: Tensor, negative_slope: float = 0.01) -> Tensor:
    """input where input ≥ 0, negative_slope · input elsewhere"""
    return F.leaky_relu(input, negative_slope)


def elu(input: Tensor, alpha: float = 1.0) -> Tensor:
    """input where input > 0, alpha · (exp(input) − 1) elsewhere"""
    return F.elu(input, alpha)


def sigmoid(input: Tensor) -> Tensor:
    """1 / (1 + exp(−input))"""
    return torch.sigmoid(input)


def tanh(input: Tensor) -> Tensor:
    """tanh(input)"""
    return torch.tanh(input)


def hardsigmoid(input: Tensor) -> Tensor:
    """clamp(input + 3, 0, 6) / 6"""
    return F.hardsigmoid(input)


def hardswish(input: Tensor) -> Tensor:
    """input · clamp(input + 3, 0, 6) / 6"""
    return F.hardswish(input)


def silu(input: Tensor) -> Tensor:
    """input · sigmoid(input)"""
    return F.silu(input)


def gelu(input: Tensor, approximate: str = "none") -> Tensor:
    """input · Φ(input)"""
    return F.gelu(input, approximate=approximate)


def mish(input: Tensor) -> Tensor:
    """input · tanh(softplus(input))"""
    return F.mish(input)


def softplus(input: Tensor, beta: float = 1.0, threshold: float = 20.0) -> Tensor:
    """log(1 + exp(beta · input)) / beta, and input where beta · input > threshold"""
    return F.softplus(input, beta, threshold)


def selu(input: Tensor) -> Tensor:
    """1.0507 · elu(input, 1.6733)"""
    return F.selu(input)


def celu(input: Tensor, alpha: float = 1.0) -> Tensor:
    """max(input, 0) + min(0, alpha · (exp(input / alpha) − 1))"""
    return F.celu(input, alpha)


def softsign(input: Tensor) -> Tensor:
    """input / (1 + |input|)"""
    return F.softsign(input)


def logsigmoid(input: Tensor) -> Tensor:
    """log(sigmoid(input))"""
    return F.logsigmoid(input)


def hardshrink(input: Tensor, lambd: float = 0.5) -> Tensor:
    """0 where |input| ≤ lambd, input elsewhere"""
    return F.hardshrink(input, lambd)


def softshrink(input: Tensor, lambd: float = 0.5) -> Tensor:
    """input moved towards 0 by lambd, and not beyond"""
    return F.softshrink(input, lambd)


def tanhshrink(input: Tensor) -> Tensor:
    """input − tanh(input)"""
    return F.tanhshrink(input)


def threshold(input: Tensor, threshold: float, value: float) -> Tensor:
    """value where input ≤ threshold, input elsewhere"""
    return F.threshold(input, threshold, value)


# --- norms and resampling --------------------------------------------------------------------------------------------------


def layer_norm(
    input: Tensor, gain: Tensor | None = None, shift: Tensor | None = None, normalized_shape: Any = (), eps: float = 1e-5
) -> Tensor:
    """γ · (input − mean) / sqrt(variance + eps) + β over the last dimensions."""
    return F.layer_norm(input, normalized_shape if isinstance(normalized_shape, tuple) else (normalized_shape,), gain, shift, eps)


def rms_norm(input: Tensor, gain: Tensor | None = None, normalized_shape: Any = (), eps: float | None = None) -> Tensor:
    """γ · input / sqrt(mean of squares + eps) over the last dimensions."""
    return F.rms_norm(input, normalized_shape if isinstance(normalized_shape, tuple) else (normalized_shape,), gain, eps)


def group_norm(input: Tensor, gain: Tensor | None = None, shift: Tensor | None = None, num_groups: int = 1, eps: float = 1e-5) -> Tensor:
    """γ · (input − mean) / sqrt(variance + eps) + β over the channels of a group and all positions."""
    return F.group_norm(input, num_groups, gain, shift, eps)


def instance_norm(input: Tensor, gain: Tensor | None = None, shift: Tensor | None = None, rank: int = 2, eps: float = 1e-5) -> Tensor:
    """γ · (input − mean) / sqrt(variance + eps) + β over the positions of a channel, input [N, C, *spatial] or [C, *spatial]."""
    batch = input if input.ndim == rank + 2 else input.unsqueeze(0)
    normalized = F.instance_norm(batch, weight=gain, bias=shift, eps=eps)
    return normalized if batch is input else normalized.squeeze(0)


def prelu(input: Tensor, slope: Tensor) -> Tensor:
    """input where input ≥ 0, slope · input elsewhere; one slope, or one for each channel."""
    return F.prelu(input, slope)


def interpolate(
    input: Tensor, size: Any = None, scale_factor: Any = None, mode: str = "nearest", align_corners: bool | None = None,
    recompute_scale_factor: bool | None = None, antialias: bool = False,
) -> Tensor:  # fmt: skip
    """Another spatial size, by the nearest element or between neighbours."""
    size = list(size) if isinstance(size, tuple) else size
    scale_factor = list(scale_factor) if isinstance(scale_factor, tuple) else scale_factor
    return F.interpolate(input, size, scale_factor, mode, align_corners, recompute_scale_factor, antialias)


# --- pooling and reductions ------------------------------------------------------------------------------------------------


def max_pool(
    input: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False,
) -> Tensor:  # fmt: skip
    """Maximum over windows; one, two or three spatial dimensions, as many as kernel_size has."""
    pool = (F.max_pool1d, F.max_pool2d, F.max_pool3d)[len(kernel_size) - 1]
    pooled: Tensor = pool(input, kernel_size, stride, padding, dilation, ceil_mode)
    return pooled


def avg_pool(
    input: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0, ceil_mode: bool = False, count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Tensor:  # fmt: skip
    """Mean over windows; one, two or three spatial dimensions, as many as kernel_size has."""
    if len(kernel_size) == 1:
        return F.avg_pool1d(input, kernel_size, stride, padding, ceil_mode, count_include_pad)
    pool = (F.avg_pool2d, F.avg_pool3d)[len(kernel_size) - 2]
    return pool(input, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override)


def adaptive_avg_pool(input: Tensor, output_size: Any) -> Tensor:
    """Mean over windows chosen so that the spatial size becomes output_size; as many dimensions as it has."""
    return (F.adaptive_avg_pool1d, F.adaptive_avg_pool2d, F.adaptive_avg_pool3d)[len(output_size) - 1](input, output_size)


def adaptive_max_pool(input: Tensor, output_size: Any) -> Tensor:
    """Maximum over windows chosen so that the spatial size becomes output_size; as many dimensions as it has."""
    pooled: Tensor = (F.adaptive_max_pool1d, F.adaptive_max_pool2d, F.adaptive_max_pool3d)[len(output_size) - 1](input, output_size)
    return pooled


def sum(input: Tensor, dim: Any = None, keepdim: bool = False) -> Tensor:
    """Sum over the dimensions `dim`, all of them where it is None."""
    return torch.sum(input) if dim is None else torch.sum(input, dim, keepdim)


def amax(input: Tensor, dim: Any = (), keepdim: bool = False) -> Tensor:
    """Largest element along the dimensions `dim`, all of them where it is ()."""
    return torch.amax(input, dim, keepdim)


def amin(input: Tensor, dim: Any = (), keepdim: bool = False) -> Tensor:
    """Smallest element along the dimensions `dim`, all of them where it is ()."""
    return torch.amin(input, dim, keepdim)


def maximum(input: Tensor, other: Tensor) -> Tensor:
    """The larger of two, element by element."""
    return torch.maximum(input, other)


def minimum(input: Tensor, other: Tensor) -> Tensor:
    """The smaller of two, element by element."""
    return torch.minimum(input, other)


def mean(input: Tensor, dim: Any = None, keepdim: bool = False) -> Tensor:
    """Mean over the dimensions `dim`, all of them where it is None."""
    return torch.mean(input) if dim is None else torch.mean(input, dim, keepdim)


def softmax(input: Tensor, dim: int) -> Tensor:
    """exp(input) / Σ exp(input) over dim"""
    return F.softmax(input, dim)


def embedding(
    input: Tensor, weight: Tensor, padding_idx: int | None = None, max_norm: float | None = None, norm_type: float = 2.0,
    scale_grad_by_freq: bool = False, sparse: bool = False,
) -> Tensor:  # fmt: skip
    """Rows of weight, [rows, features], that have the indices in input."""
    return F.embedding(input, weight, padding_idx, max_norm, norm_type, scale_grad_by_freq, sparse)


# --- quantization ----------------------------------------------------------------------------------------------------------


@cache
def spec_of_range(qmin: int, qmax: int, axis: int | None) -> QuantSpec:
    """The spec of a quantize or dequantize call: the smallest integer dtype that holds [qmin, qmax]."""
    return QuantSpec(dtype_of_range(qmin, qmax), qmin, qmax, axis=axis)


def _qparams(scale: float | Tensor, zero_point: int | Tensor, spec: QuantSpec) -> QParams:
    return QParams(spec, torch.as_tensor(scale, dtype=torch.float32), torch.as_tensor(zero_point, dtype=torch.int32))


def round_to_bytes(input: Tensor, per_row: bool = False, dims: int = 1) -> Tensor:
    """What 8 bits leave of it, with qparams of its own values: of all of them, or of each row, the last `dims` dimensions."""
    rows = input.reshape(math.prod(input.shape[:-dims]), math.prod(input.shape[-dims:]))
    if not rows.numel():
        return input
    qparams = choose_row_qparams(rows, per_row=per_row)
    return dequantize_rows(quantize_rows(rows, qparams), qparams).reshape(input.shape)


def quantize(
    input: Tensor, scale: float | Tensor, zero_point: int | Tensor, qmin: int = 0, qmax: int = 255, axis: int | None = None
) -> Tensor:
    """q = clip(rint(input · (1/scale)) + zero_point, qmin, qmax), in the smallest integer dtype that holds [qmin, qmax]."""
    return quantize_tensor(input, _qparams(scale, zero_point, spec_of_range(qmin, qmax, axis)))


def dequantize(
    input: Tensor, scale: float | Tensor, zero_point: int | Tensor, qmin: int = 0, qmax: int = 255, axis: int | None = None
) -> Tensor:
    """scale · (input − zero_point), float32, in row-major order as float ops behind it may expect."""
    return dequantize_tensor(input, _qparams(scale, zero_point, spec_of_range(qmin, qmax, axis))).contiguous()

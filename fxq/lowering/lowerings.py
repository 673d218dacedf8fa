"""LOWERINGS: reference op → integer op. Tables and ops that only move elements follow from their policy and have no row."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.fx import Node

from fxq.graph.annotation import tensor_type
from fxq.graph.constants import constant_of
from fxq.graph.functional import clamp_bounds
from fxq.graph.opdef import Call, Policy
from fxq.graph.ops import ops_by_name
from fxq.graph.profile import BackendProfile
from fxq.graph.qdq import integers_behind, qparams_of
from fxq.graph.qtypes import QParams, quantize_numbers
from fxq.graph.reasons import Reason
from fxq.lowering.dynamic import conv_geometry
from fxq.lowering.requantize import (
    Scales,
    accumulator_bound,
    integer_output,
    pack_transposed_weights,
    pack_weights,
    product_multiplier,
    scale_ratio,
    scale_step,
    transposed_accumulator_bound,
)
from fxq.runtime.integer.binary import Add, AddFixedPoint, Mul, Operand, Sub
from fxq.runtime.integer.conv import Conv
from fxq.runtime.integer.conv_transpose import ConvTranspose, ConvTransposeGeometry
from fxq.runtime.integer.elementwise import PRelu
from fxq.runtime.integer.linear import Linear
from fxq.runtime.integer.matmul import MatMul
from fxq.runtime.integer.module import IntegerOp
from fxq.runtime.integer.norm import Affine, GroupNorm, LayerNorm
from fxq.runtime.integer.outputs import Activation, FloatOutput, IntegerOutput, Output, PackedWeights, Residual
from fxq.runtime.integer.pool import AdaptiveAvgPool, AdaptiveMaxPool, AvgPool, Divisor, MaxPool, Mean, PoolGeometry, Sum
from fxq.runtime.integer.resize import Bilinear, Nearest, ResizeTarget
from fxq.runtime.integer.softmax import Softmax
from fxq.runtime.integer.table import Table, build_table


@dataclass(frozen=True)
class Site:
    """One int8 op of the reference graph and the qparams around it.

    Attributes:
        node, call: the float op.
        inputs: qparams of every activation operand, by operand name.
        y: qparams of the result; None where it stays float.
        profile: whose arithmetic to use.
    """

    node: Node
    call: Call
    inputs: Mapping[str, QParams]
    y: QParams | None
    profile: BackendProfile

    @property
    def x(self) -> QParams:
        """Qparams of the first operand."""
        return next(iter(self.inputs.values()))

    @property
    def result(self) -> QParams:
        """Qparams of the result of an op whose result is always quantized."""
        assert self.y is not None, f"{self.node.name} has no output qparams"
        return self.y

    @cached_property
    def output(self) -> Output:
        """What the accumulators become, a fused activation included."""
        act = self.call.operands.get("act")
        bounds = clamp_bounds(act)
        if bounds is not None:
            return FloatOutput(*bounds) if self.y is None else integer_output(self.y, *bounds)
        assert act is not None, "no activation is a clamp without bounds"
        activation = Activation(*act)
        return FloatOutput(activation=activation) if self.y is None else integer_output(self.y, activation=activation)

    @property
    def grid(self) -> QParams | None:
        """Qparams that the sum is scaled to; None where it is the real value: for a float result, or an activation that needs it."""
        return None if clamp_bounds(self.call.operands.get("act")) is None else self.y

    @property
    def residual(self) -> Residual | None:
        """How the residual operand is added; None where there is none."""
        a = self.inputs.get("residual")
        if a is None:
            return None
        return Residual(int(a.zero_point), float(a.scale) if self.grid is None else scale_ratio(a, self.grid))


# an integer op for the site; or the same call, to be made with integers, with these operands; or why neither is possible
Lowered = IntegerOp | Call | Reason


def lower_conv(site: Site) -> Lowered:
    """y = clip(rint(f32(Σ x_q·w_q + b') · m) + z_y)"""
    geometry = conv_geometry(site.call, _integers(site.call.operands["weight"]))
    packed = _pack(site)
    return packed if isinstance(packed, Reason) else Conv(packed, geometry, int(site.x.zero_point), site.output, site.residual)


def lower_conv_transpose(site: Site) -> Lowered:
    """y = clip(rint(f32(Σ (x_q − z_x)·w_q + b_q) · m) + z_y)"""
    operands = site.call.operands
    groups = operands["groups"]
    geometry = ConvTransposeGeometry(operands["stride"], operands["padding"], operands["output_padding"], operands["dilation"], groups)
    weight, bias = _integers(operands["weight"]), _constant(operands["bias"])
    scales = Scales(site.x, qparams_of(operands["weight"]), site.grid)
    reason = transposed_accumulator_bound(weight, scales, bias, groups, site.node.name)
    if reason is not None:
        return reason
    packed = pack_transposed_weights(weight, scales, bias, groups, multiplier_bits=site.profile.multiplier_bits)
    return ConvTranspose(packed, geometry, int(site.x.zero_point), site.output)


def lower_linear(site: Site) -> Lowered:
    """y = clip(rint(f32(x_q · w_qᵀ + b') · m) + z_y)"""
    packed = _pack(site)
    return packed if isinstance(packed, Reason) else Linear(packed, site.output, site.residual)


def _pack(site: Site) -> PackedWeights | Reason:
    weight, bias = _integers(site.call.operands["weight"]), _constant(site.call.operands["bias"])
    scales = Scales(site.x, qparams_of(site.call.operands["weight"]), site.grid)
    reason = accumulator_bound(weight, scales, bias, site.node.name)
    return reason or pack_weights(weight, scales, bias, multiplier_bits=site.profile.multiplier_bits)


def _integers(dequantized: Node) -> Tensor:
    weight = _constant(integers_behind(dequantized))
    assert weight is not None
    return weight


def _constant(value: Any) -> Tensor | None:
    tensor = constant_of(value) if isinstance(value, Node) else None
    return None if tensor is None else tensor.detach()


def lower_add(site: Site) -> Lowered:
    """Both operands are rescaled to the result's scale and added; alpha is part of the second one's scale."""
    a, b = _operand(site, "input", 1.0), _operand(site, "other", site.call.operands["alpha"])
    fixed_point = site.profile.fixed_point_add and site.grid is not None and AddFixedPoint.covers(a, b)
    if fixed_point and isinstance(site.output, IntegerOutput):
        return AddFixedPoint.from_ratios(a, b, site.output)
    return Add(a, b, site.output)


def lower_sub(site: Site) -> Lowered:
    """Like add, with the second operand's sign changed."""
    return Sub(_operand(site, "input", 1.0), _operand(site, "other", site.call.operands["alpha"]), site.output)


def _operand(site: Site, name: str, factor: float) -> Operand:
    qparams = site.inputs[name]
    scale = qparams.scale if site.grid is None else qparams.scale / site.grid.scale
    return Operand(int(qparams.zero_point), float(torch.tensor(factor, dtype=torch.float32) * scale))


def lower_mul(site: Site) -> Lowered:
    """y = clip(rint(f32((a − z_a)(b − z_b)) · m) + z_y)"""
    a, b = site.inputs["input"], site.inputs["other"]
    multiplier = float(a.scale * b.scale) if site.grid is None else product_multiplier(a, b, site.grid)
    return Mul(int(a.zero_point), int(b.zero_point), multiplier, site.output)


def lower_matmul(site: Site) -> Lowered:
    """y = clip(rint(f32(Σ (a − z_a)(b − z_b)) · m) + z_y)"""
    a, b = site.inputs["input"], site.inputs["other"]
    multiplier = float(a.scale * b.scale) if site.grid is None else product_multiplier(a, b, site.grid)
    return MatMul(int(a.zero_point), int(b.zero_point), multiplier, site.output)


def lower_softmax(site: Site) -> Lowered:
    """y = clip(rint(E[d] / ΣE[d] / s_y) + z_y), d = max(q) − q"""
    return Softmax(float(site.x.scale), site.call.operands["dim"], site.output)


def lower_layer_norm(site: Site) -> Lowered:
    """Statistics from exact integer sums, one rounding at the end."""
    operands = site.call.operands
    shape = operands["normalized_shape"]
    return LayerNorm(shape if isinstance(shape, tuple) else (shape,), float(site.x.scale), operands["eps"], _affine(site), site.output)


def lower_group_norm(site: Site) -> Lowered:
    """Statistics from exact integer sums, one rounding at the end."""
    operands = site.call.operands
    return GroupNorm(operands["num_groups"], float(site.x.scale), operands["eps"], _affine(site), site.output)


def lower_instance_norm(site: Site) -> Lowered:
    """A group norm with one channel in each group."""
    operands = site.call.operands
    found = tensor_type(operands["input"])
    assert found is not None
    return GroupNorm(found.shape[1], float(site.x.scale), operands["eps"], _affine(site), site.output)


def _affine(site: Site) -> Affine:
    return Affine(_constant(site.call.operands["gain"]), _constant(site.call.operands["shift"]))


def lower_prelu(site: Site) -> Lowered:
    """y = clip(rint(u / s_y) + z_y), u = v where v ≥ 0, slope · v elsewhere"""
    slopes = _constant(site.call.operands["slope"])
    assert slopes is not None
    return PRelu(slopes, float(site.x.scale), int(site.x.zero_point), site.output)


def lower_table(site: Site) -> Lowered:
    """T[q] = clip(rint(f(s_x(q − z_x)) / s_y) + z_y), f in float64"""
    (argument,) = site.inputs

    def function(values: NDArray[np.float64]) -> NDArray[np.float64]:
        result: NDArray[np.float64] = site.call.op.call(**{**site.call.operands, argument: torch.from_numpy(values)}).numpy()
        return result

    return Table(build_table(function, site.x, site.result))


def lower_bounds(site: Site) -> Lowered:
    """relu and clamp on their own: the integers are clamped, qparams stay."""
    low, high = (0.0, math.inf) if site.call.op.name == "relu" else (site.call.operands["min"], site.call.operands["max"])
    bounds = integer_output(site.x, -math.inf if low is None else low, math.inf if high is None else high)
    return Call(ops_by_name()["clamp"], {"input": site.call.operands["input"], "min": bounds.low, "max": bounds.high})


def lower_max_pool(site: Site) -> Lowered:
    """The largest integer stands for the largest real."""
    return MaxPool(_pool_geometry(site, site.call.operands["dilation"]))


def lower_adaptive_max_pool(site: Site) -> Lowered:
    """The largest integer stands for the largest real."""
    return AdaptiveMaxPool(site.call.operands["output_size"])


def lower_avg_pool(site: Site) -> Lowered:
    """y = clip(rint(f32(Σ(q − z)) · m) + z_y), m = fl(step/n)"""
    operands = site.call.operands
    divisor = Divisor(operands["count_include_pad"], operands["divisor_override"])
    step = scale_step(site.x, site.y)
    return AvgPool(_pool_geometry(site, ()), step, int(site.x.zero_point), site.output, divisor)


def _pool_geometry(site: Site, dilation: tuple[int, ...]) -> PoolGeometry:
    operands = site.call.operands
    return PoolGeometry(operands["kernel_size"], operands["stride"], operands["padding"], dilation, operands["ceil_mode"])


def lower_adaptive_avg_pool(site: Site) -> Lowered:
    """y = clip(rint(f32(Σ(q − z)) · m) + z_y), m = fl(step/n)"""
    return AdaptiveAvgPool(site.call.operands["output_size"], scale_step(site.x, site.y), int(site.x.zero_point), site.output)


def lower_mean(site: Site) -> Lowered:
    """y = clip(rint(f32(Σ(q − z)) · m) + z_y), m = fl(step/n)"""
    dims, keepdim = site.call.operands["dim"], site.call.operands["keepdim"]
    return Mean(_dimensions(dims), scale_step(site.x, site.y), int(site.x.zero_point), site.output, keepdim)


def lower_sum(site: Site) -> Lowered:
    """y = clip(rint(f32(Σ(q − z)) · step) + z_y)"""
    dims, keepdim = site.call.operands["dim"], site.call.operands["keepdim"]
    return Sum(_dimensions(dims), scale_step(site.x, site.result), int(site.x.zero_point), site.output, keepdim)


def _dimensions(dims: int | tuple[int, ...] | None) -> tuple[int, ...]:
    """The dimensions of a reduction; () are all of them."""
    return () if dims is None else dims if isinstance(dims, tuple) else (dims,)


def lower_interpolate(site: Site) -> Lowered:
    """nearest copies integers; bilinear mixes them with 11-bit weights. Qparams stay."""
    operands = site.call.operands
    given = operands["size"], operands["scale_factor"], bool(operands["recompute_scale_factor"])
    target = None if "size" in site.call.computed else ResizeTarget(*given)
    if operands["mode"] in ("nearest", "nearest-exact"):
        return Nearest(target, exact=operands["mode"] == "nearest-exact")
    return Bilinear(target, bool(operands["align_corners"]))


def lower_pad(site: Site) -> Lowered:
    """Constant borders are the quantized constant, 0 the zero point; other modes copy."""
    operands = site.call.operands
    if operands["mode"] != "constant":
        return site.call
    (value,) = quantize_numbers([operands["value"] or 0.0], site.x)
    return Call(site.call.op, {**operands, "value": value})


def lower_copies(site: Site) -> Lowered:
    """Integers are copied; a number is the quantized number."""
    numbers = {name: value for name, value in site.call.operands.items() if name in ("input", "other") and isinstance(value, int | float)}
    quantized = dict(zip(numbers, quantize_numbers(numbers.values(), site.x), strict=True))
    return Call(site.call.op, {**site.call.operands, **quantized})


def lower_nothing(site: Site) -> Lowered:
    """dropout in evaluation and identity: the input itself."""
    return Call(ops_by_name()["identity"], {"input": site.call.operands["input"]})


def lower_as_is(site: Site) -> Lowered:
    """Ops that only move elements work on integers as they do on floats."""
    return site.call


LOWERINGS: Mapping[str, Callable[[Site], Lowered]] = {
    "conv": lower_conv,
    "conv_transpose": lower_conv_transpose,
    "linear": lower_linear,
    "add": lower_add,
    "sub": lower_sub,
    "mul": lower_mul,
    "matmul": lower_matmul,
    "relu": lower_bounds,
    "clamp": lower_bounds,
    "softmax": lower_softmax,
    "prelu": lower_prelu,
    "layer_norm": lower_layer_norm,
    "group_norm": lower_group_norm,
    "instance_norm": lower_instance_norm,
    "max_pool": lower_max_pool,
    "adaptive_max_pool": lower_adaptive_max_pool,
    "avg_pool": lower_avg_pool,
    "adaptive_avg_pool": lower_adaptive_avg_pool,
    "mean": lower_mean,
    "sum": lower_sum,
    "amax": lower_as_is,
    "amin": lower_as_is,
    "maximum": lower_as_is,
    "minimum": lower_as_is,
    "interpolate": lower_interpolate,
    "cat": lower_as_is,
    "stack": lower_as_is,
    "where": lower_copies,
    "setitem": lower_copies,
    "pad": lower_pad,
    "identity": lower_nothing,
    "dropout": lower_nothing,
}


def lower_site(site: Site) -> Lowered:
    """The integer form of an op: its row in LOWERINGS, else what its policy says. An op that computes has to have a row."""
    op = site.call.op
    if site.call.is_table:
        return lower_table(site)
    if op.policy is Policy.MOVES and op.name not in LOWERINGS:
        return lower_as_is(site)
    return LOWERINGS[op.name](site)

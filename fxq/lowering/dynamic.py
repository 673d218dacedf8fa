"""From float ops whose qconfig is dynamic to the ops that quantize what they read as it arrives."""

from __future__ import annotations

from torch import Tensor
from torch.fx import Node

from fxq.graph.constants import constant_of
from fxq.graph.functional import Act, clamp_bounds, spatial_padding
from fxq.graph.opdef import Call
from fxq.graph.qdq import integers_behind, qparams_of
from fxq.graph.qtypes import QuantSpec
from fxq.graph.reasons import Reason, Why
from fxq.runtime.dynamic.conv import DynamicConv
from fxq.runtime.dynamic.linear import DynamicLinear
from fxq.runtime.dynamic.op import DynamicOp
from fxq.runtime.dynamic.product import RowWeights
from fxq.runtime.integer.conv import ConvGeometry
from fxq.runtime.integer.outputs import Activation, FloatOutput


def lower_dynamic(node: str, call: Call, spec: QuantSpec) -> DynamicOp | Reason:
    """linear(x, dq(w)) → DynamicLinear, conv(x, dq(w)) → DynamicConv

    Args:
        node: for a Reason.
        spec: of x; with an axis, each row has its own qparams.
    """
    operands = call.operands
    dequantized, bias = operands["weight"], operands["bias"]
    weight, scale = _values(integers_behind(dequantized)), qparams_of(dequantized).scale
    weights = RowWeights(weight, scale.expand(len(weight)).contiguous(), None if bias is None else _values(bias))
    if weights.overflow is not None:
        return Reason(Why.OVERFLOW, node, f"its 32-bit accumulator can overflow: {weights.overflow}")
    output, per_row = float_output(operands["act"]), spec.axis is not None
    if call.op.name == "linear":
        return DynamicLinear(weights, output, per_row=per_row)
    return DynamicConv(weights, conv_geometry(call, weight), output, per_row=per_row)


def conv_geometry(call: Call, weight: Tensor) -> ConvGeometry:
    """Where the kernel of a conv goes."""
    read = call.operands
    padding = spatial_padding(read["padding"], weight, read["dilation"])
    return ConvGeometry(read["stride"], padding, read["dilation"], read["groups"], read["padding_mode"])


def _values(constant: Node) -> Tensor:
    found = constant_of(constant)
    assert found is not None
    return found.detach()


def float_output(act: Act | None) -> FloatOutput:
    """What becomes of float sums: act(y)."""
    bounds = clamp_bounds(act)
    if bounds is not None:
        return FloatOutput(*bounds)
    assert act is not None, "no activation is a clamp without bounds"
    return FloatOutput(activation=Activation(*act))

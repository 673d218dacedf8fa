"""quantize and dequantize nodes: making them and reading their qparams."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.fx import Node

from fxq.graph.annotation import TensorType, set_type, tensor_type, type_of
from fxq.graph.constants import constant_of, insert_constant
from fxq.graph.functional import dequantize, quantize, round_to_bytes, spec_of_range
from fxq.graph.groups import GroupedWeights
from fxq.graph.opdef import Call
from fxq.graph.ops import call_of, ops_by_name, write_call
from fxq.graph.products import dequantize_groups
from fxq.graph.qtypes import QParams, QuantSpec
from fxq.graph.weight_format import BITS, WeightFormat


def is_quantize(value: object) -> bool:
    """A quantize node."""
    return _is_call_of(quantize, value)


def is_dequantize(value: object) -> bool:
    """A dequantize node."""
    return _is_call_of(dequantize, value)


def is_rounding(value: object) -> bool:
    """A round_to_bytes node."""
    return _is_call_of(round_to_bytes, value)


def _is_call_of(function: Callable[..., Any], value: object) -> bool:
    return isinstance(value, Node) and value.op == "call_function" and value.target is function


def integers_behind(dequantized: Node) -> Node:
    """x of dequantize(x)."""
    integers = dequantized.args[0]
    assert isinstance(integers, Node)
    return integers


def insert_qdq(value: Node, qparams: QParams, after: Node) -> Node:
    """x → dequantize(quantize(x)), behind the node `after`. Returns the dequantize node; readers are left as they are."""
    found, operands = tensor_type(value), _operands(value, qparams)
    assert found is not None, f"{value.name} is no tensor"
    with value.graph.inserting_after(after):
        q = _call(quantize, value, operands, f"{value.name}_q")
    set_type(q, TensorType(found.shape, qparams.spec.torch_dtype))
    return _insert_dequantize(q, operands, f"{value.name}_dq")


def insert_dequantize(integers: Node, qparams: QParams) -> Node:
    """x → dequantize(x), behind x. Returns the new node; readers are left as they are."""
    return _insert_dequantize(integers, _operands(integers, qparams), f"{integers.name.removesuffix('_q')}_dq")


def insert_rounding(value: Node, spec: QuantSpec, dims: int) -> Node:
    """x → round_to_bytes(x), behind x: by row where the spec has an axis. Returns the new node; readers are left as they are.

    Args:
        dims: of a row: 1 for a linear layer, channels and spatial dimensions for a convolution.
    """
    with value.graph.inserting_after(value):
        rounded = value.graph.create_node("call_function", round_to_bytes, (value,))
    write_call(rounded, Call(ops_by_name()["round_to_bytes"], {"input": value, "per_row": spec.axis is not None, "dims": dims}))
    set_type(rounded, type_of(value))
    return rounded


def is_dequantize_groups(value: object) -> bool:
    """A node that makes floats of a weight in few bits."""
    return _is_call_of(dequantize_groups, value)


def insert_dequantize_groups(stored: Node, groups: GroupedWeights) -> Node:
    """w → dequantize_groups(w), behind w. Returns the new node; readers are left as they are."""
    operands: dict[str, Any] = {"group": groups.format.group, "features": groups.features}
    for name, value in (("scale", groups.scale), ("zero", groups.zero)):
        operands[name] = None if value is None else insert_constant(stored, f"{stored.target}_{name}", value)
    with stored.graph.inserting_after(stored):
        made = stored.graph.create_node("call_function", dequantize_groups, (stored,), name=f"{stored.name}_dq")
    op = ops_by_name()["dequantize_groups"]
    write_call(made, Call(op, {"input": stored, **operands}))
    set_type(made, TensorType((groups.outputs, groups.features), torch.float32))
    return made


def groups_of(node: Node, bias: Tensor | None = None) -> GroupedWeights:
    """The weights of a dequantize_groups node, with the bias of their layer."""
    call = call_of(node)
    assert call is not None and is_dequantize_groups(node), f"{node.name} does not unpack weights"
    read = call.operands
    weight, scale, zero = (constant_of(read[name]) if isinstance(read[name], Node) else None for name in ("input", "scale", "zero"))
    assert weight is not None
    return GroupedWeights(weight, scale, zero, WeightFormat(BITS[weight.dtype], read["group"], zero is None), read["features"], bias)


def _insert_dequantize(integers: Node, operands: dict[str, Any], name: str) -> Node:
    found = tensor_type(integers)
    assert found is not None, f"{integers.name} is no tensor"
    with integers.graph.inserting_after(integers):
        dq = _call(dequantize, integers, operands, name)
    set_type(dq, TensorType(found.shape, torch.float32))
    return dq


def _call(function: Callable[..., Any], value: Node, operands: dict[str, Any], name: str) -> Node:
    node = value.graph.create_node("call_function", function, name=name)
    # create_node would search them for symbols, which takes longer than all else
    node.args, node.kwargs = (value,), operands
    return node


def _operands(value: Node, qparams: QParams) -> dict[str, Any]:
    spec = qparams.spec
    return {"qmin": spec.qmin, "qmax": spec.qmax, "axis": spec.axis, **_constants(value, qparams)}


def _constants(value: Node, qparams: QParams) -> dict[str, Any]:
    """Scale and zero point as numbers; per channel as constants of the model, next to the tensor they belong to."""
    if qparams.scale.ndim == 0:
        return {"scale": float(qparams.scale), "zero_point": int(qparams.zero_point)}
    path = str(value.target)
    scale = insert_constant(value, f"{path}_scale", qparams.scale)
    if not bool(qparams.zero_point.any()):
        return {"scale": scale, "zero_point": 0}
    return {"scale": scale, "zero_point": insert_constant(value, f"{path}_zero_point", qparams.zero_point)}


def qparams_of(node: Node) -> QParams:
    """The qparams of a quantize or dequantize node."""
    call = call_of(node)
    assert call is not None and call.op.name in ("quantize", "dequantize"), f"{node.name} does not quantize"
    operands = call.operands
    scale = _tensor(operands["scale"], torch.float32)
    zero_point = _tensor(operands["zero_point"], torch.int32).expand_as(scale)
    return QParams(spec_of_range(operands["qmin"], operands["qmax"], operands["axis"]), scale, zero_point)


def _tensor(value: Any, dtype: torch.dtype) -> Tensor:
    constant = constant_of(value) if isinstance(value, Node) else None
    return torch.scalar_tensor(value, dtype=dtype) if constant is None else constant

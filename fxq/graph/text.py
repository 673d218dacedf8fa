"""Graphs as text: `print_graph` writes one normal form, `parse_graph` reads it.

    x: f32[1, 3, 8, 8] = input
    conv1: f32[1, 4, 8, 8] = conv(x, @conv1.weight[4, 3, 3, 3], @conv1.bias[4], padding=(1, 1), act=relu)
    output conv1

One line per node; `@path[shape]` is a tensor of the model; operands equal to their defaults are left out. What is not a
canonical op is written `call torch.sort(x)`, `method sort(x)` or, for a module, `LSTM[encoder.rnn](x)`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch.fx import GraphModule, Node
from torch.fx.node import _get_qualified_name

from fxq.graph.annotation import TensorType, ValueType, type_of
from fxq.graph.constants import constant_of, module_of
from fxq.graph.functional import Act
from fxq.graph.opdef import Call
from fxq.graph.ops import call_of

DTYPE_NAMES = {
    torch.float32: "f32", torch.float64: "f64", torch.float16: "f16", torch.bfloat16: "bf16", torch.uint8: "u8", torch.int8: "s8",
    torch.int16: "i16", torch.int32: "i32", torch.int64: "i64", torch.bool: "b8", torch.complex64: "c64", torch.complex128: "c128",
}  # fmt: skip

# activations with a name; others are written with their numbers, like clamp(low, high)
ACT_NAMES: Mapping[Act, str] = {
    ("clamp", 0.0, math.inf): "relu",
    ("clamp", 0.0, 6.0): "relu6",
    ("hardswish",): "hardswish",
    ("hardsigmoid",): "hardsigmoid",
}


def print_graph(module: GraphModule) -> str:
    """The graph, one line per node, ending in a newline. Constants stand where they are read."""
    return "".join(f"{_line(node)}\n" for node in module.graph.nodes if node.op != "get_attr")


def format_type(value: ValueType) -> str:
    """f32[1, 3, 8, 8]; a tuple of types in parentheses; "" for what holds no tensor."""
    if isinstance(value, TensorType):
        return f"{DTYPE_NAMES.get(value.dtype, str(value.dtype))}{list(value.shape)}"
    return f"({', '.join(map(format_type, value))})" if value else ""


def format_node(node: Node) -> str:
    """The right side of a node's line."""
    if node.op == "placeholder":
        return "input" if not node.args else f"input {format_value(node.args[0])}"
    if node.op == "get_attr":
        return _constant(node)
    call = call_of(node)
    if call is not None:
        return f"{call.op.name}({', '.join(_operands(call))})"
    arguments = [*map(format_value, node.args), *(f"{name}={format_value(value)}" for name, value in node.kwargs.items())]
    return f"{_target(node)}({', '.join(arguments)})"


def _target(node: Node) -> str:
    if node.op == "call_method":
        return f"method {node.target}"
    if node.op == "call_function":
        return f"call {node.target if isinstance(node.target, str) else _get_qualified_name(node.target)}"
    called = module_of(node).get_submodule(str(node.target))
    name: str = called._get_name()  # type: ignore[no-untyped-call]
    return f"{name}[{node.target}]"


def _line(node: Node) -> str:
    if node.op == "output":
        return f"output {format_value(node.args[0])}"
    annotation = format_type(type_of(node))
    return f"{node.name}{': ' + annotation if annotation else ''} = {format_node(node)}"


def _operands(call: Call) -> list[str]:
    """Operands in order, those after the last one that differs from its default by keyword."""
    written = []
    by_keyword = False
    for name, parameter in call.op.signature.parameters.items():
        value = call.operands[name]
        if is_default(value, parameter.default):
            by_keyword = True
        else:
            text = _act(value) if name == "act" else format_value(value)
            by_keyword = by_keyword or name not in call.op.positional
            written.append(f"{name}={text}" if by_keyword else text)
    return written


def is_default(value: Any, default: Any) -> bool:
    """True where leaving an operand out means the same; (1, 1) equals a default of 1."""
    if isinstance(value, Node):
        return False
    if isinstance(value, tuple) and not isinstance(default, tuple):
        return bool(value) and all(item == default for item in value)
    return type(value) is type(default) and bool(value == default)


def _act(act: Act) -> str:
    kind, *numbers = act
    return ACT_NAMES.get(act, f"{kind}({', '.join(map(str, numbers))})")


def format_value(value: Any) -> str:
    """A node by name, a constant of the model as @path[shape], anything else as Python writes it."""
    if isinstance(value, Node):
        return _constant(value) if value.op == "get_attr" else value.name
    if isinstance(value, tuple | list):
        inner = ", ".join(map(format_value, value))
        return f"[{inner}]" if isinstance(value, list) else f"({inner}{',' if len(value) == 1 else ''})"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key!r}: {format_value(item)}" for key, item in value.items()) + "}"
    if isinstance(value, slice):
        return f"slice({format_value(value.start)}, {format_value(value.stop)}, {format_value(value.step)})"
    return repr(value)


def _constant(node: Node) -> str:
    tensor = constant_of(node)
    assert tensor is not None
    dtype = [] if tensor.dtype == torch.float32 else [DTYPE_NAMES[tensor.dtype]]
    return f"@{node.target}[{', '.join([*dtype, *map(str, tensor.shape)])}]"

"""print_graph: every form that a line, an operand, a type or an argument can take."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn
from torch.fx import symbolic_trace

from fxq.graph.annotation import TensorType, ValueType
from fxq.graph.module import FxqModule
from fxq.graph.parse import parse_graph
from fxq.graph.text import format_node, format_type, format_value, is_default, print_graph
from fxq.passes import trace

LINES = {
    "defaults are left out": "y: f32[1, 4, 6, 6] = conv(x, @w[4, 2, 3, 3])",
    "bias by position": "y: f32[1, 4, 8, 8] = conv(x, @w[4, 2, 3, 3], @b[4], padding=(1, 1))",
    "some numbers of a tuple": "y: f32[1, 4, 8, 4] = conv(x, @w[4, 2, 3, 3], stride=(1, 2), padding=(1, 1))",
    "text": "y: f32[1, 4, 8, 8] = conv(x, @w[4, 2, 3, 3], padding='same', padding_mode='reflect')",
    "relu": "y: f32[1, 4, 6, 6] = conv(x, @w[4, 2, 3, 3], act=relu)",
    "relu6": "y: f32[1, 4, 6, 6] = conv(x, @w[4, 2, 3, 3], act=relu6)",
    "clamp": "y: f32[1, 4, 6, 6] = conv(x, @w[4, 2, 3, 3], act=clamp(-0.5, 0.25))",
    "clamp from above": "y: f32[1, 4, 6, 6] = conv(x, @w[4, 2, 3, 3], act=clamp(-inf, 0.25))",
    "residual": "y: f32[1, 2, 8, 8] = conv(x, @w[2, 2, 3, 3], padding=(1, 1), residual=x, act=relu)",
    "a default in the middle": "y: f32[1, 2, 8, 8] = batch_norm(x, @m[2], @v[2], bias=@b[2])",
    "constant of no dimension": "y: f32[1, 2, 8, 8] = add(x, @s[])",
    "constant of another dtype": "y: f64[1, 2, 8, 8] = mul(x, @a.b.c[f64, 8])",
    "numbers": "y: f32[1, 2, 8, 8] = add(x, 3, alpha=0.5)",
    "number in front": "y: f32[1, 2, 8, 8] = sub(1.5, x)",
    "infinite bound": "y: f32[1, 2, 8, 8] = clamp(x, min=-inf, max=inf)",
    "one number in a tuple": "y: f32[2, 8, 8] = squeeze(x, dim=(0,))",
    "slices": "y: f32[1, 1, 2, 1, 8] = getitem(x, index=(Ellipsis, slice(None, 1, None), slice(0, 8, 4), None, slice(None, None, None)))",
    "tensors in a tuple": "y: f32[3, 2, 8, 8] = cat((x, x, @c[1, 2, 8, 8]))",
    "no tensor": "y = size(x)",
    "function": "y: f32[1, 2, 8, 8] = call torch.softmax(x, dim=1, dtype=None)",
    "function of another module": "y: f32[1, 2, 8, 8] = call torch.nn.functional.normalize(x, 2.0)",
    "operator": "y: b8[1, 2, 8, 8] = call _operator.gt(x, 0)",
    "builtin": "y = call getattr(x, 'is_cuda')",
    "list": "y: f32[2, 2, 8, 8] = call torch.cat([x, x])",
    "tuple of results": "y: (f32[1, 2, 8, 8], i64[1, 2, 8, 8]) = call torch.sort(x, descending=True)",
    "method": "y: f32[1, 2, 1, 8] = method sum(x, 2, keepdim=True)",
    "quantize": "y: u8[1, 2, 8, 8] = quantize(x, scale=0.5, zero_point=3)",
    "quantize per channel": "y: s8[1, 2, 8, 8] = quantize(x, scale=@s[2], zero_point=@z[i32, 2], qmin=-127, qmax=127, axis=1)",
}


@pytest.mark.parametrize("line", LINES.values(), ids=LINES)
def test_line(line: str) -> None:
    text = f"x: f32[1, 2, 8, 8] = input\n{line}\noutput y\n"
    assert print_graph(parse_graph(text)) == text


@pytest.mark.parametrize("output", ["x", "(x,)", "(x, y)", "[x, [y]]", "{'a': x, 'b': (y, 1, 'c', None)}", "None", "(x, @w[3])"])
def test_output(output: str) -> None:
    used = "y: f32[2] = relu(x)\n" if "y" in output else ""
    text = f"x: f32[2] = input\n{used}output {output}\n"
    assert print_graph(parse_graph(text)) == text


@pytest.mark.parametrize(
    ("dtype", "name"),
    [
        (torch.float32, "f32"), (torch.float64, "f64"), (torch.float16, "f16"), (torch.bfloat16, "bf16"), (torch.uint8, "u8"),
        (torch.int8, "s8"), (torch.int16, "i16"), (torch.int32, "i32"), (torch.int64, "i64"), (torch.bool, "b8"),
    ],
)  # fmt: skip
def test_dtypes_of_inputs(dtype: torch.dtype, name: str) -> None:
    text = f"x: {name}[2, 3] = input\ny: {name}[2, 3] = identity(x)\noutput y\n"
    module = parse_graph(text)
    assert print_graph(module) == text
    assert module(torch.ones(2, 3, dtype=dtype)).dtype is dtype


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, ""),
        (TensorType((), torch.int64), "i64[]"),
        (TensorType((1, 2), torch.complex64), "c64[1, 2]"),
        (TensorType((1,), torch.uint16), "torch.uint16[1]"),
        ((TensorType((1,), torch.bool), (None, TensorType((2,), torch.uint8))), "(b8[1], (, u8[2]))"),
    ],
)
def test_format_type(value: ValueType, text: str) -> None:
    assert format_type(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1, "1"), (2.5, "2.5"), (math.inf, "inf"), (True, "True"), (None, "None"), ("same", "'same'"), (..., "Ellipsis"),
        ((), "()"), ((1,), "(1,)"), ([1, (2, [3])], "[1, (2, [3])]"), ({"a": 1, 2: None}, "{'a': 1, 2: None}"),
        (slice(None, 2), "slice(None, 2, None)"), (torch.int8, "torch.int8"),
    ],
)  # fmt: skip
def test_format_value(value: Any, text: str) -> None:
    assert format_value(value) == text


@pytest.mark.parametrize(
    ("value", "default", "expected"),
    [
        (1, 1, True),
        (1, 1.0, False),
        (True, 1, False),
        (0.1, 0.1, True),
        (2, 1, False),
        (None, None, True),
        ("zeros", "zeros", True),
        ((1, 1), 1, True),
        ((1, 2), 1, False),
        ((), 1, False),
        ((0, 0), 1, False),
        (None, 1, False),
        (0, None, False),
    ],
)
def test_is_default(value: object, default: object, expected: bool) -> None:
    assert is_default(value, default) is expected


class _Defaults(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.GLU(dim=1), nn.Hardshrink())

    def forward(self, x: torch.Tensor, scale: float = 2.0) -> torch.Tensor:
        return self.body(x) * scale


def test_modules_and_inputs_with_defaults() -> None:
    assert print_graph(trace(_Defaults(), torch.ones(1, 4))) == (
        "x: f32[1, 4] = input\n"
        "scale = input 2.0\n"
        "body_0: f32[1, 2] = GLU[body.0](x)\n"
        "body_1: f32[1, 2] = Hardshrink[body.1](body_0)\n"
        "mul: f32[1, 2] = call _operator.mul(body_1, scale)\n"
        "output mul\n"
    )


def test_a_graph_that_is_not_ours_is_printed_without_types() -> None:
    traced = symbolic_trace(lambda x: torch.sort(x.neg())[0])
    assert print_graph(FxqModule(traced, traced.graph)) == (
        "x = input\nneg = method neg(x)\nsort = call torch.sort(neg)\ngetitem = call _operator.getitem(sort, 0)\noutput getitem\n"
    )


def test_constants_stand_where_they_are_read() -> None:
    module = parse_graph("x: f32[3] = input\ny: f32[3] = mul(@a.w[3], @a.w[3])\nz: f32[3] = add(x, y)\noutput z\n")
    assert [format_node(node) for node in module.graph.nodes if node.op != "output"] == [
        "input", "@a.w[3]", "mul(@a.w[3], @a.w[3])", "add(x, y)",
    ]  # fmt: skip

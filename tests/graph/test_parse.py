"""parse_graph: the inverse of print_graph, and what it says of a text that it cannot read."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from fxq.graph.annotation import origin_of, tensor_type
from fxq.graph.constants import tensor_at
from fxq.graph.ops import call_of
from fxq.graph.parse import GraphTextError, parse_graph
from fxq.graph.text import print_graph

# --- values ----------------------------------------------------------------------------------------------------------------


def test_the_graph_computes_what_the_text_says() -> None:
    module = parse_graph(
        """
x: f32[1, 2, 4] = input
c: f32[1, 2, 4] = conv(x, @w[2, 2, 3], @b[2], padding=(1,), act=relu)
output (c, [x])
        """
    )
    x, weight, bias = torch.randn(1, 2, 4), tensor_at(module, "w"), tensor_at(module, "b")
    result, (same,) = module(x)
    assert torch.equal(result, F.relu(F.conv1d(x, weight, bias, padding=1)))
    assert same is x


def test_constants_are_made_from_their_paths() -> None:
    text = "x: f32[2] = input\ny: f32[2] = add(x, @{}[2])\nz: f32[2] = mul(y, @k[s8, 5, 2])\noutput y"
    first, again, other = (parse_graph(text.format(path).replace("f32[2] = mul", "f32[5, 2] = mul")) for path in ("a.v", "a.v", "a.w"))
    assert torch.equal(tensor_at(first, "a.v"), tensor_at(again, "a.v"))
    assert not torch.equal(tensor_at(first, "a.v"), tensor_at(other, "a.w"))
    assert bool(((tensor_at(first, "a.v") >= 0.5) & (tensor_at(first, "a.v") < 1.5)).all())
    assert tensor_at(first, "k").dtype is torch.int8


def test_constants_that_are_given_are_taken() -> None:
    weight = torch.nn.Parameter(torch.eye(2))
    module = parse_graph("x: f32[1, 2] = input\ny: f32[1, 2] = linear(x, @l.weight[2, 2])\noutput y", {"l.weight": weight})
    assert module.get_parameter("l.weight") is weight


def test_types_are_found_where_they_are_not_given() -> None:
    module = parse_graph("x: f32[1, 2] = input\ny = flatten(x)\nn = size(y)\noutput (y, n)")
    assert print_graph(module) == "x: f32[1, 2] = input\ny: f32[2] = flatten(x)\nn = size(y)\noutput (y, n)\n"


def test_empty_lines_and_indentation_do_not_matter() -> None:
    module = parse_graph("\n\n  x: f32[1] = input\n\n     y = relu(x)  \n  output y\n\n")
    assert print_graph(module) == "x: f32[1] = input\ny: f32[1] = relu(x)\noutput y\n"


def test_operands_are_in_normal_form() -> None:
    module = parse_graph(
        "x: f32[1, 2, 8, 8] = input\ny = max_pool(x, kernel_size=(2, 2))\nz = conv(y, @w[2, 2, 1, 1], padding=1)\noutput z"
    )
    pool, conv = (call_of(node) for node in module.graph.nodes if node.name in "yz")
    assert pool is not None and conv is not None
    assert pool.operands["stride"] == (2, 2)
    assert (conv.operands["padding"], conv.operands["stride"], conv.operands["bias"]) == ((1, 1), (1, 1), None)


@dataclass(frozen=True)
class OriginCase:
    line: str
    module: str
    object_type: str
    module_type: str


@pytest.mark.parametrize(
    "case",
    [
        OriginCase("linear(x, @a.b.weight[3, 8])", "a.b", "torch.nn.Linear", "torch.nn.Linear"),
        OriginCase("linear(x, @weight[3, 8])", "", "torch.nn.Linear", ""),
        OriginCase("conv(x, @c.weight[3, 2, 1, 1])", "c", "torch.nn.Conv2d", "torch.nn.Conv2d"),
        OriginCase("add(x, x)", "", "torch.add", ""),
        OriginCase("max_pool(x, kernel_size=(2, 2))", "", "torch.nn.MaxPool2d", ""),
        OriginCase("quantize(x, scale=1.0, zero_point=0)", "", "quantize", ""),
    ],
    ids=lambda case: case.line,
)
def test_origins_are_those_of_the_first_spelling(case: OriginCase) -> None:
    module = parse_graph(f"x: f32[1, 2, 8, 8] = input\ny = {case.line}\noutput y")
    origin = origin_of(next(node for node in module.graph.nodes if node.name == "y"))
    assert origin is not None
    assert (origin.module, origin.object_type, origin.module_type) == (case.module, case.object_type, case.module_type)


# --- errors ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("y relu(x)", "ValueError: not an assignment"),
        ("y = x", "ValueError: not a call"),
        ("y = relu(x", "SyntaxError: '(' was never closed"),
        ("y = rleu(x)", "KeyError: 'rleu'"),
        ("y = relu(z)", "KeyError: 'z'"),
        ("y = relu(x, x)", "TypeError: too many positional arguments"),
        ("y = relu(x, slope=1)", "TypeError: got an unexpected keyword argument 'slope'"),
        ("y = conv(x)", "TypeError: missing a required argument: 'weight'"),
        ("y = add(x, @w[f31, 4])", "KeyError: 'f31'"),
        ("y = input", "KeyError: 'y'"),
        ("y = call torch.no_such_function(x)", "AttributeError: module 'torch' has no attribute 'no_such_function'"),
        ("y = add(x, 1 + 1)", "ValueError: malformed node or string on line 1"),
        ("y = conv(x, @w[4, 4, 1], act=swish)", "KeyError: 'swish'"),
    ],
)
def test_error_names_the_line(line: str, found: str) -> None:
    with pytest.raises(GraphTextError) as caught:
        parse_graph(f"x: f32[4, 4, 4] = input\n\n{line}\noutput y")
    assert caught.value.where == f"line 3: {line}"
    assert caught.value.found.startswith(found)
    assert caught.value.expected == "`name: type = op(operands)` or `output name`"


@pytest.mark.parametrize("declared", ["f32[5]", "f64[4]", "(f32[4], f32[4])"])
def test_a_declared_type_is_checked(declared: str) -> None:
    with pytest.raises(GraphTextError) as caught:
        parse_graph(f"x: f32[4] = input\ny: {declared} = relu(x)\noutput y")
    assert (caught.value.where, caught.value.expected, caught.value.found) == ("y", declared, "f32[4]")


@pytest.mark.parametrize("declared", ["f32", "f32[2", "float"])
def test_an_input_needs_dtype_and_shape(declared: str) -> None:
    with pytest.raises(GraphTextError) as caught:
        parse_graph(f"x: {declared} = input\noutput x")
    assert (caught.value.expected, caught.value.found) == ("a type like f32[1, 3, 8, 8]", declared)


# --- any graph -------------------------------------------------------------------------------------------------------------

SHAPE = "f32[2, 4, 8, 8]"
ACTS = ("", ", act=relu", ", act=relu6", ", act=clamp(-1.5, inf)", ", act=clamp(-inf, 0.5)")


@st.composite
def graph_texts(draw: st.DrawFn) -> str:
    """A graph of canonical ops as print_graph writes it; every value has the same shape."""
    values, lines = ["x0", "x1"], [f"x{i}: {SHAPE} = input" for i in range(2)]
    for number in range(draw(st.integers(0, 12))):
        name = f"v{number}"
        operands = [draw(st.sampled_from(values)) for _ in range(2)]
        lines.append(f"{name}: {SHAPE} = {draw(st.sampled_from(FORMS)).format(*operands, name=name, act=draw(st.sampled_from(ACTS)))}")
        values.append(name)
    returned = draw(st.lists(st.sampled_from(values), min_size=1, max_size=3))
    inner = ", ".join(returned)
    form = draw(st.sampled_from([returned[0], f"({returned[0]},)", f"({inner}, x0)", f"[{inner}]", f"{{'a': {returned[0]}}}"]))
    return "\n".join([*lines, f"output {form}"]) + "\n"


FORMS = (
    "conv({0}, @{name}.weight[4, 4, 1, 1]{act})",
    "conv({0}, @{name}.weight[4, 2, 3, 3], @{name}.bias[4], padding=(1, 1), groups=2, residual={1}{act})",
    "conv({0}, @{name}.weight[4, 4, 3, 3], padding=(2, 2), dilation=(2, 2), padding_mode='circular'{act})",
    "conv({0}, @{name}.weight[4, 4, 2, 4], padding='same'{act})",
    "linear({0}, @{name}.weight[8, 8], @{name}.bias[8]{act})",
    "linear({0}, @{name}.weight[8, 8], residual={1}{act})",
    "batch_norm({0}, @{name}.running_mean[4], @{name}.running_var[4], bias=@{name}.bias[4], eps=0.001)",
    "add({0}, {1}{act})",
    "add({0}, @{name}.c[4, 1, 1], alpha=2{act})",
    "sub(0.5, {0}{act})",
    "mul({0}, {1}{act})",
    "clamp({0}, min=-0.5)",
    "gelu({0}, approximate='tanh')",
    "softplus({0}, beta=2, threshold=10)",
    "max_pool({0}, kernel_size=(3, 3), stride=(1, 1), padding=(1, 1))",
    "avg_pool({0}, kernel_size=(3, 1), stride=(1, 1), padding=(1, 0), count_include_pad=False)",
    "dropout({0}, p=0.25, training=False)",
    "transpose({0}, dim0=2, dim1=-1)",
    "permute({0}, dims=(0, 1, 3, 2))",
    "reshape({0}, shape=(2, 4, 8, -1))",
    "getitem({0}, index=(Ellipsis, slice(None, None, None)))",
    "call torch.hardshrink({0}, lambd=0.25)",
    "method cumsum({0}, 1)",
)


@settings(deadline=None, max_examples=60)
@given(graph_texts())
def test_any_graph_is_printed_as_it_was_written(text: str) -> None:
    module = parse_graph(text)
    assert print_graph(module) == text
    again = parse_graph(print_graph(module))
    assert [tensor_type(node) for node in again.graph.nodes] == [tensor_type(node) for node in module.graph.nodes]
    x = [torch.linspace(-2, 2, 512).reshape(2, 4, 8, 8), torch.ones(2, 4, 8, 8)]
    assert all(_same(*pair) for pair in zip(_tensors(again(*x)), _tensors(module(*x)), strict=True))


def _same(one: torch.Tensor, other: torch.Tensor) -> bool:
    return torch.equal(one.nan_to_num(nan=math.pi), other.nan_to_num(nan=math.pi))


def _tensors(result: Any) -> list[torch.Tensor]:
    if isinstance(result, torch.Tensor):
        return [result]
    return list(result.values()) if isinstance(result, dict) else list(result)

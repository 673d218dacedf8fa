"""Every row of FUSIONS: what it makes, what it leaves alone and why, and that values stay."""

from __future__ import annotations

from dataclasses import dataclass
from textwrap import dedent
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fxq.api import fuse_fx
from fxq.graph.annotation import origins_of, refusals_of, set_resolution, tensor_type
from fxq.graph.constants import tensor_at
from fxq.graph.functional import RELU
from fxq.graph.module import FxqModule
from fxq.graph.parse import parse_graph
from fxq.graph.reasons import Reason, Why
from fxq.graph.stages import Stage
from fxq.graph.text import print_graph
from fxq.graph.verify import verify
from fxq.patterns.fusions import FUSIONS
from fxq.patterns.rules import rewrite

RULES = {rule.name: rule for rule in FUSIONS}

CONV = "c: f32[2, 4, 6, 6] = conv(x, @c.weight[4, 3, 3, 3], @c.bias[4])"
D = "d: f32[2, 4, 6, 6] = conv(x, @d.weight[4, 3, 3, 3], @d.bias[4])"
BN = "b: f32[2, 4, 6, 6] = batch_norm(c, @b.running_mean[4], @b.running_var[4], @b.weight[4], @b.bias[4])"
UP = "c: f32[2, 4, 10, 10] = conv_transpose(x, @c.weight[3, 4, 3, 3], @c.bias[4])"
X = "x: f32[2, 3, 8, 8] = input"
R = "r: f32[2, 4, 6, 6] = input"


def graph(*lines: str) -> str:
    return "".join(f"{line}\n" for line in lines)


@dataclass(frozen=True)
class Rewrite:
    """A graph before and after one row of FUSIONS.

    Attributes:
        exact: the same bits come out; otherwise what float64 gives, within 120 dB.
    """

    before: str
    after: str
    exact: bool = True


_MEAN_SQUARE = ("x: f32[2, 6] = input", "s: f32[2, 6] = pow(x, exponent=2)", "m: f32[2, 1] = mean(s, dim=-1, keepdim=True)")
_ROOT = ("e: f32[2, 1] = add(m, 1e-06)", "r: f32[2, 1] = pow(e, exponent=-0.5)", "y: f32[2, 6] = mul(x, r)")
_NORM6 = ("x: f32[2, 6] = input", "n: f32[2, 6] = rms_norm(x, normalized_shape=(6,))")
_CAST_GAIN = ("c: f32[2, 6] = identity(n)", "y: f32[2, 6] = mul(@g[6], c)", "output y")
_GELU = (
    "x: f32[2, 6] = input",
    "h: f32[2, 6] = mul(0.5, x)",
    "p: f32[2, 6] = pow(x, exponent=3.0)",
    "k: f32[2, 6] = mul(0.044715, p)",
    "a: f32[2, 6] = add(x, k)",
    "f: f32[2, 6] = mul(0.7978845608028654, a)",
    "t: f32[2, 6] = tanh(f)",
    "o: f32[2, 6] = add(1.0, t)",
    "y: f32[2, 6] = mul(h, o)",
    "output y",
)
_S, _K, _Y = "f32[2, 4, 3, 5]", "f32[2, 4, 6, 5]", "y: f32[2, 4, 3, 7]"
_HEADS = ("q: f32[2, 4, 3, 6] = input", f"k: {_K} = input", "v: f32[2, 4, 5, 7] = input", "m: f32[2, 1, 3, 5] = input")
_SCORES, _TURNED = f"s: {_S} = matmul(q, k)", "y_transpose: f32[2, 4, 5, 6] = transpose(k, dim0=-2, dim1=-1)"
_END = f"p: {_S} = softmax(s, dim=-1)"
_MIXED = (f"{_Y} = matmul(p, v)", "output y")
_FILLED = ("e: b8[2, 1, 3, 5] = call _operator.lt(m, 0)", f"f: {_S} = where(-inf, s, condition=e)", _END.replace("(s", "(f"))
_L4 = ("x: f32[2, 6] = input", "r: f32[2, 4] = input", "l: f32[2, 4] = linear(x, @l.weight[4, 6], @l.bias[4])")
PADDED = "c: f32[2, 4, 8, 10] = conv({}, @c.weight[4, 3, 3, 3], @c.bias[4]{})"
_LINEAR = "l: f32[2, 4, 4] = linear(x, @l.weight[4, 6]"

REWRITES: dict[str, dict[str, Rewrite]] = {
    "identity_input": {
        "between others, and read twice": Rewrite(
            graph(X, CONV, "i: f32[2, 4, 6, 6] = identity(c)", "y: f32[2, 4, 6, 6] = relu(i)", "output (y, i)"),
            graph(X, CONV, "y: f32[2, 4, 6, 6] = relu(c)", "output (y, c)"),
        ),
    },
    "dropout_input": {
        "as the result": Rewrite(graph(X, CONV, "d: f32[2, 4, 6, 6] = dropout(c, training=False)", "output d"), graph(X, CONV, "output c")),
    },
    "conv_bn": {
        "conv with bias": Rewrite(graph(X, CONV, BN, "output b"), graph(X, CONV, "output c"), exact=False),
        "conv without bias": Rewrite(graph(X, CONV.replace(", @c.bias[4]", ""), BN, "output b"), graph(X, CONV, "output c"), exact=False),
        "conv of the model's own tensors": Rewrite(
            graph(X, "c: f32[2, 4, 6, 6] = conv(x, @w[4, 3, 3, 3])", BN, "output b"),
            graph(X, "c: f32[2, 4, 6, 6] = conv(x, @w[4, 3, 3, 3], @c_bias[4])", "output c"),
            exact=False,
        ),
        "no affine, other eps": Rewrite(
            graph(X, CONV, "b: f32[2, 4, 6, 6] = batch_norm(c, @b.running_mean[4], @b.running_var[4], eps=0.1)", "output b"),
            graph(X, CONV, "output c"),
            exact=False,
        ),
        "depthwise conv1d": Rewrite(
            graph(
                "x: f32[2, 4, 9] = input",
                "c: f32[2, 4, 5] = conv(x, @c.weight[4, 1, 3], stride=(2,), padding=(1,), groups=4)",
                "b: f32[2, 4, 5] = batch_norm(c, @b.running_mean[4], @b.running_var[4], @b.weight[4])",
                "output b",
            ),
            graph(
                "x: f32[2, 4, 9] = input",
                "c: f32[2, 4, 5] = conv(x, @c.weight[4, 1, 3], @c.bias[4], stride=(2,), padding=(1,), groups=4)",
                "output c",
            ),
            exact=False,
        ),
        "a weight that is read twice stays for its other reader": Rewrite(
            graph(
                X,
                CONV,
                "d: f32[2, 4, 6, 6] = conv(x, @c.weight[4, 3, 3, 3])",
                BN,
                "y: f32[2, 4, 6, 6] = mul(b, d)",
                "output y",
            ),
            graph(
                X,
                "d: f32[2, 4, 6, 6] = conv(x, @c.weight[4, 3, 3, 3])",
                "c: f32[2, 4, 6, 6] = conv(x, @c.weight_1[4, 3, 3, 3], @c.bias[4])",
                "y: f32[2, 4, 6, 6] = mul(c, d)",
                "output y",
            ),
            exact=False,
        ),
    },
    "rms_norm": {
        "as it is defined": Rewrite(
            graph(*_MEAN_SQUARE, *_ROOT, "output y"),
            graph(_MEAN_SQUARE[0], "y: f32[2, 6] = rms_norm(x, normalized_shape=(6,), eps=1e-06)", "output y"),
            exact=False,
        ),
    },
    "rms_norm_of_cast": {
        "squares in float32": Rewrite(
            graph("x: f32[2, 6] = input", "c: f32[2, 6] = identity(x)", *_MEAN_SQUARE[1:], *_ROOT, "output y").replace("pow(x", "pow(c"),
            graph(_MEAN_SQUARE[0], "y: f32[2, 6] = rms_norm(x, normalized_shape=(6,), eps=1e-06)", "output y"),
            exact=False,
        ),
    },
    "rms_norm_gain": {
        "first operand": Rewrite(
            graph(*_NORM6, "y: f32[2, 6] = mul(@g[6], n)", "output y"),
            graph(_NORM6[0], "y: f32[2, 6] = rms_norm(x, @g[6], normalized_shape=(6,))", "output y"),
            exact=False,
        ),
    },
    "rms_norm_cast_gain": {
        "behind a cast": Rewrite(
            graph(*_NORM6, *_CAST_GAIN),
            graph(_NORM6[0], "y: f32[2, 6] = rms_norm(x, @g[6], normalized_shape=(6,))", "output y"),
            exact=False,
        ),
    },
    "gelu_tanh": {
        "as GPT-2 has it": Rewrite(graph(*_GELU), graph(_GELU[0], "y: f32[2, 6] = gelu(x, approximate='tanh')", "output y"), exact=False),
    },
    "attention": {
        "divided, masked, of turned keys": Rewrite(
            graph(*_HEADS, _SCORES, f"d: {_S} = div(s, 2.0)", f"a: {_S} = add(m, d)", _END.replace("(s", "(a"), *_MIXED),
            graph(*_HEADS, _TURNED, f"{_Y} = attention(q, y_transpose, v, mask=m, scale=0.5)", "output y"),
            exact=False,
        ),
        "filled, of transposed keys": Rewrite(
            graph(*_HEADS, _TURNED, f"t: {_K} = transpose(y_transpose, dim0=3, dim1=2)", _SCORES.replace("k)", "t)"), *_FILLED, *_MIXED),
            graph(
                *_HEADS,
                _TURNED,
                "e: b8[2, 1, 3, 5] = call _operator.lt(m, 0)",
                "y_where: f32[2, 1, 3, 5] = where(-inf, 0.0, condition=e)",
                f"{_Y} = attention(q, y_transpose, v, mask=y_where, scale=1.0)",
                "output y",
            ),
            exact=False,
        ),
    },
    "op_scale": {
        "conv by channel": Rewrite(
            graph(X, CONV, "y: f32[2, 4, 6, 6] = mul(c, @g[1, 4, 1, 1])", "output y"), graph(X, CONV, "output c"), exact=False
        ),
        "constant first, fewer dimensions, no bias": Rewrite(
            graph(X, CONV.replace(", @c.bias[4]", ""), "y: f32[2, 4, 6, 6] = mul(@g[4, 1, 1], c)", "output y"),
            graph(X, CONV, "output c"),
            exact=False,
        ),
        "one image": Rewrite(
            graph("x: f32[3, 8, 8] = input", CONV.replace("[2, 4", "[4"), "y: f32[4, 6, 6] = mul(c, @g[4, 1, 1])", "output y"),
            graph("x: f32[3, 8, 8] = input", CONV.replace("[2, 4", "[4"), "output c"),
            exact=False,
        ),
        "one element for all": Rewrite(
            graph(X, UP, "y: f32[2, 4, 10, 10] = mul(c, @g[1])", "output y"), graph(X, UP, "output c"), exact=False
        ),
        "linear by its last dimension": Rewrite(
            graph("x: f32[2, 4, 6] = input", f"{_LINEAR})", "y: f32[2, 4, 4] = mul(l, @g[4])", "output y"),
            graph("x: f32[2, 4, 6] = input", f"{_LINEAR}, @l.bias[4])", "output l"),
            exact=False,
        ),
    },
    "op_shift": {
        "conv by channel": Rewrite(
            graph(X, CONV, "y: f32[2, 4, 6, 6] = add(c, @d[1, 4, 1, 1])", "output y"), graph(X, CONV, "output c"), exact=False
        ),
        "constant first, no bias": Rewrite(
            graph("x: f32[2, 4, 6] = input", f"{_LINEAR})", "y: f32[2, 4, 4] = add(@d[1, 4], l)", "output y"),
            graph("x: f32[2, 4, 6] = input", f"{_LINEAR}, @l.bias[4])", "output l"),
            exact=False,
        ),
    },
    "conv_transpose_bn": {
        "with bias": Rewrite(
            graph(X, UP, BN.replace("6, 6]", "10, 10]"), "output b"),
            graph(X, UP, "output c"),
            exact=False,
        ),
        "in groups, without bias": Rewrite(
            graph(
                "x: f32[2, 6, 5] = input",
                "c: f32[2, 4, 11] = conv_transpose(x, @c.weight[6, 2, 3], stride=(2,), groups=2)",
                "b: f32[2, 4, 11] = batch_norm(c, @b.running_mean[4], @b.running_var[4], @b.weight[4])",
                "output b",
            ),
            graph(
                "x: f32[2, 6, 5] = input",
                "c: f32[2, 4, 11] = conv_transpose(x, @c.weight[6, 2, 3], @c.bias[4], stride=(2,), groups=2)",
                "output c",
            ),
            exact=False,
        ),
    },
    "linear_bn": {
        "two dimensions": Rewrite(
            graph(
                "x: f32[5, 6] = input",
                "l: f32[5, 4] = linear(x, @l.weight[4, 6], @l.bias[4])",
                "b: f32[5, 4] = batch_norm(l, @b.running_mean[4], @b.running_var[4], @b.weight[4], @b.bias[4])",
                "output b",
            ),
            graph("x: f32[5, 6] = input", "l: f32[5, 4] = linear(x, @l.weight[4, 6], @l.bias[4])", "output l"),
            exact=False,
        ),
    },
    "op_relu": {
        "conv": Rewrite(graph(X, CONV, "y: f32[2, 4, 6, 6] = relu(c)", "output y"), graph(X, f"{CONV[:-1]}, act=relu)", "output c")),
        "linear of three dimensions": Rewrite(
            graph("x: f32[2, 5, 6] = input", "l: f32[2, 5, 4] = linear(x, @l.weight[4, 6])", "y: f32[2, 5, 4] = relu(l)", "output y"),
            graph("x: f32[2, 5, 6] = input", "l: f32[2, 5, 4] = linear(x, @l.weight[4, 6], act=relu)", "output l"),
        ),
        "add": Rewrite(
            graph("x: f32[4, 4] = input", "s: f32[4, 4] = add(x, x, alpha=2)", "y: f32[4, 4] = relu(s)", "output (y, x)"),
            graph("x: f32[4, 4] = input", "s: f32[4, 4] = add(x, x, alpha=2, act=relu)", "output (s, x)"),
        ),
        "mul by a number": Rewrite(
            graph("x: f32[4, 4] = input", "s: f32[4, 4] = mul(x, -0.5)", "y: f32[4, 4] = relu(s)", "output y"),
            graph("x: f32[4, 4] = input", "s: f32[4, 4] = mul(x, -0.5, act=relu)", "output s"),
        ),
        "readers in all forms": Rewrite(
            graph(
                "x: f32[4, 4] = input",
                "s: f32[4, 4] = add(x, 1)",
                "y: f32[4, 4] = relu(s)",
                "z: f32[12, 4] = cat((y, x, y))",
                "output (y, [z], {'y': y})",
            ),
            graph(
                "x: f32[4, 4] = input",
                "s: f32[4, 4] = add(x, 1, act=relu)",
                "z: f32[12, 4] = cat((s, x, s))",
                "output (s, [z], {'y': s})",
            ),
        ),
    },
    "op_polynomial": {
        "hardswish": Rewrite(
            graph(X, CONV, "y: f32[2, 4, 6, 6] = hardswish(c)", "output y"), graph(X, f"{CONV[:-1]}, act=hardswish)", "output c")
        ),
        "hardsigmoid of a residual sum": Rewrite(
            graph(X, R, f"{CONV[:-1]}, residual=r)", "y: f32[2, 4, 6, 6] = hardsigmoid(c)", "output y"),
            graph(X, R, f"{CONV[:-1]}, residual=r, act=hardsigmoid)", "output c"),
        ),
        "leaky_relu with its slope": Rewrite(
            graph("x: f32[4] = input", "s: f32[4] = mul(x, x)", "y: f32[4] = leaky_relu(s, negative_slope=0.3)", "output y"),
            graph("x: f32[4] = input", "s: f32[4] = mul(x, x, act=leaky_relu(0.3))", "output s"),
        ),
    },
    "op_clamp": {
        "relu6": Rewrite(
            graph(X, CONV, "y: f32[2, 4, 6, 6] = clamp(c, min=0.0, max=6.0)", "output y"), graph(X, f"{CONV[:-1]}, act=relu6)", "output c")
        ),
        "two bounds": Rewrite(
            graph(X, CONV, "y: f32[2, 4, 6, 6] = clamp(c, min=-1, max=0.5)", "output y"),
            graph(X, f"{CONV[:-1]}, act=clamp(-1.0, 0.5))", "output c"),
        ),
        "from above": Rewrite(
            graph(X, CONV, "y: f32[2, 4, 6, 6] = clamp(c, max=0.5)", "output y"),
            graph(X, f"{CONV[:-1]}, act=clamp(-inf, 0.5))", "output c"),
        ),
        "from below, by nothing but zero": Rewrite(
            graph(X, CONV, "y: f32[2, 4, 6, 6] = clamp(c, min=0)", "output y"), graph(X, f"{CONV[:-1]}, act=relu)", "output c")
        ),
    },
    "matmul_weight": {
        "a matrix": Rewrite(
            graph("x: f32[2, 5, 6] = input", "y: f32[2, 5, 4] = matmul(x, @w[6, 4])", "output y"),
            graph("x: f32[2, 5, 6] = input", "y: f32[2, 5, 4] = linear(x, @w[4, 6])", "output y"),
            exact=False,
        ),
        "a vector on the left": Rewrite(
            graph("x: f32[6] = input", "y: f32[4] = matmul(x, @w[6, 4])", "output y"),
            graph("x: f32[6] = input", "y: f32[4] = linear(x, @w[4, 6])", "output y"),
            exact=False,
        ),
        "a matrix that others read too": Rewrite(
            graph("x: f32[6, 6] = input", "y: f32[6, 6] = matmul(x, @w[6, 6])", "z: f32[6, 6] = mul(y, @w[6, 6])", "output z"),
            graph("x: f32[6, 6] = input", "y: f32[6, 6] = linear(x, @w_1[6, 6])", "z: f32[6, 6] = mul(y, @w[6, 6])", "output z"),
            exact=False,
        ),
    },
    "matmul_transposed_weight": {
        "transposed": Rewrite(
            graph("x: f32[5, 6] = input", "t: f32[6, 4] = transpose(@w[4, 6], dim0=0, dim1=1)", "y: f32[5, 4] = matmul(x, t)", "output y"),
            graph("x: f32[5, 6] = input", "y: f32[5, 4] = linear(x, @w[4, 6])", "output y"),
            exact=False,
        ),
        "permuted": Rewrite(
            graph("x: f32[5, 6] = input", "t: f32[6, 4] = permute(@w[4, 6], dims=(-1, 0))", "y: f32[5, 4] = matmul(x, t)", "output y"),
            graph("x: f32[5, 6] = input", "y: f32[5, 4] = linear(x, @w[4, 6])", "output y"),
            exact=False,
        ),
    },
    "pad_conv": {
        "the same on all sides": Rewrite(
            graph(X, "p: f32[2, 3, 10, 12] = pad(x, pad=(2, 2, 1, 1))", PADDED.format("p", ""), "output c"),
            graph(X, PADDED.format("x", ", padding=(1, 2)"), "output c"),
        ),
        "at the end only": Rewrite(
            graph(
                X, "p: f32[2, 3, 9, 9] = pad(x, pad=(0, 1, 0, 1), value=0.0)", PADDED.format("p", "").replace("8, 10]", "7, 7]"), "output c"
            ),
            graph(X, PADDED.format("x", ", padding=((0, 1), (0, 1))").replace("8, 10]", "7, 7]"), "output c"),
        ),
        "and the convolution's own": Rewrite(
            graph(
                X, "p: f32[2, 3, 8, 9] = pad(x, pad=(0, 1))", PADDED.format("p", ", padding=(1, 1)").replace("8, 10]", "8, 9]"), "output c"
            ),
            graph(X, PADDED.format("x", ", padding=((1, 1), (1, 2))").replace("8, 10]", "8, 9]"), "output c"),
        ),
        "a border that others read too": Rewrite(
            graph(X, "p: f32[2, 3, 10, 12] = pad(x, pad=(2, 2, 1, 1))", PADDED.format("p", ""), "output (c, p)"),
            graph(X, "p: f32[2, 3, 10, 12] = pad(x, pad=(2, 2, 1, 1))", PADDED.format("x", ", padding=(1, 2)"), "output (c, p)"),
        ),
    },
    "linear_add": {
        "input behind": Rewrite(
            graph(*_L4, "y: f32[2, 4] = add(l, r)", "output y"), graph(*_L4[:2], f"{_L4[2][:-1]}, residual=r)", "output l")
        ),
        "input in front": Rewrite(
            graph(*_L4, "y: f32[2, 4] = add(r, l)", "output y"), graph(*_L4[:2], f"{_L4[2][:-1]}, residual=r)", "output l")
        ),
    },
    "conv_add": {
        "input behind": Rewrite(
            graph(X, R, CONV, "y: f32[2, 4, 6, 6] = add(c, r)", "output y"), graph(X, R, f"{CONV[:-1]}, residual=r)", "output c")
        ),
        "input in front": Rewrite(
            graph(X, R, CONV, "y: f32[2, 4, 6, 6] = add(r, c)", "output y"), graph(X, R, f"{CONV[:-1]}, residual=r)", "output c")
        ),
        "sum computed after the conv": Rewrite(
            graph(X, R, CONV, "s: f32[2, 4, 6, 6] = sigmoid(r)", "y: f32[2, 4, 6, 6] = add(c, s)", "output y"),
            graph(X, R, "s: f32[2, 4, 6, 6] = sigmoid(r)", f"{CONV[:-1]}, residual=s)", "output c"),
        ),
        # of two convs the first that may hold the sum does
        "two convs": Rewrite(
            graph(X, CONV, D, "y: f32[2, 4, 6, 6] = add(c, d)", "output y"),
            graph(X, D, f"{CONV[:-1]}, residual=d)", "output c"),
        ),
        "two convs of which the first is read twice": Rewrite(
            graph(X, CONV, D, "y: f32[2, 4, 6, 6] = add(c, d)", "output (y, c)"),
            graph(X, CONV, f"{D[:-1]}, residual=c)", "output (d, c)"),
        ),
    },
}
CASES = [(rule, case) for rule, cases in REWRITES.items() for case in cases]
IDS = [f"{rule}: {case}" for rule, case in CASES]


def run(module: FxqModule, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    """Every tensor of the module's result on fixed inputs."""
    module.to(dtype).recompile()
    types = [tensor_type(node) for node in module.graph.find_nodes(op="placeholder")]
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        found = module(*(torch.randn(each.shape, generator=generator).to(dtype) for each in types if each))
    return list(_tensors(found))


def _tensors(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    return [tensor for item in (value.values() if isinstance(value, dict) else value) for tensor in _tensors(item)]


def sqnr(found: Tensor, expected: Tensor) -> float:
    """Signal-to-noise ratio in dB."""
    expected = expected.detach()
    noise = (found.detach().double() - expected).square().sum()
    return float(10 * torch.log10(expected.square().sum() / noise))


@pytest.mark.parametrize(("rule", "case"), CASES, ids=IDS)
def test_rewrites(rule: str, case: str) -> None:
    row = REWRITES[rule][case]
    module = parse_graph(row.before)
    assert print_graph(module) == row.before
    assert [each.rule for each in rewrite(module, (RULES[rule],))] == [rule]
    assert print_graph(module) == row.after
    verify(module, Stage.FUSED)


@pytest.mark.parametrize(("rule", "case"), CASES, ids=IDS)
def test_second_run_changes_nothing(rule: str, case: str) -> None:
    module = parse_graph(REWRITES[rule][case].after)
    assert rewrite(module, (RULES[rule],)) == []
    assert print_graph(module) == REWRITES[rule][case].after


@pytest.mark.parametrize(("rule", "case"), CASES, ids=IDS)
def test_values_stay(rule: str, case: str) -> None:
    row = REWRITES[rule][case]
    module = parse_graph(row.before)
    rewrite(module, (RULES[rule],))
    if row.exact:
        assert [torch.equal(*pair) for pair in zip(run(module), run(parse_graph(row.before)), strict=True)] == [True] * len(run(module))
    else:
        expected = run(parse_graph(row.before), torch.float64)
        assert [sqnr(*pair) > 120 for pair in zip(run(module), expected, strict=True)] == [True]


def test_every_rule_has_a_row() -> None:
    assert set(REWRITES) == set(RULES) and len(RULES) == len(FUSIONS)
    assert {refusal.rule for refusal in REFUSALS.values()} == set(RULES)


def test_folded_conv_is_what_batch_norm_computes() -> None:
    """W' = W · g and b' = β + (b − μ) · g, g = γ / sqrt(σ² + ε), by hand for one channel."""
    values = {"c.weight": [[[2.0]]], "c.bias": [3.0], "b.running_mean": [1.0], "b.running_var": [0.25], "b.weight": [0.5], "b.bias": [7.0]}
    module = parse_graph(
        dedent("""
        x: f32[1, 1, 4] = input
        c: f32[1, 1, 4] = conv(x, @c.weight[1, 1, 1], @c.bias[1])
        b: f32[1, 1, 4] = batch_norm(c, @b.running_mean[1], @b.running_var[1], @b.weight[1], @b.bias[1], eps=0.75)
        output b
        """),
        {path: torch.tensor(value) for path, value in values.items()},
    )
    rewrite(module, FUSIONS)
    # g = 0.5 / sqrt(0.25 + 0.75)
    assert {path: value.tolist() for path, value in module.state_dict().items()} == {"c.weight": [[[1.0]]], "c.bias": [8.0]}


def test_scale_and_shift_by_hand() -> None:
    """(2·x + 3) · 0.5 + 7 = 1·x + 8.5"""
    values = {"c.weight": [[[2.0]]], "c.bias": [3.0], "g": [0.5], "d": [7.0]}
    module = parse_graph(
        dedent("""
        x: f32[1, 1, 4] = input
        c: f32[1, 1, 4] = conv(x, @c.weight[1, 1, 1], @c.bias[1])
        y: f32[1, 1, 4] = mul(c, @g[1])
        z: f32[1, 1, 4] = add(y, @d[1])
        output z
        """),
        {path: torch.tensor(value) for path, value in values.items()},
    )
    assert [each.rule for each in rewrite(module, FUSIONS)] == ["op_scale", "op_shift"]
    folded = {path: tensor_at(module, path).tolist() for path in ("c.weight", "c.bias")}
    assert folded == {"c.weight": [[[1.0]]], "c.bias": [8.5]}


def test_positive_factors_pass_a_relu() -> None:
    """relu(2·x + 3) · 0.5 = relu(1·x + 1.5)"""
    values = {"c.weight": [[[2.0]]], "c.bias": [3.0], "g": [0.5]}
    module = parse_graph(
        dedent("""
        x: f32[1, 1, 4] = input
        c: f32[1, 1, 4] = conv(x, @c.weight[1, 1, 1], @c.bias[1])
        r: f32[1, 1, 4] = relu(c)
        y: f32[1, 1, 4] = mul(r, @g[1])
        output y
        """),
        {path: torch.tensor(value) for path, value in values.items()},
    )
    assert [each.rule for each in rewrite(module, FUSIONS)] == ["op_relu", "op_scale"]
    assert module(torch.tensor([[[-3.0, -1.0, 0.0, 1.0]]])).tolist() == [[[0.0, 0.5, 1.5, 2.5]]]


def test_folding_rounds_once() -> None:
    """The new weight and bias are the float64 results, rounded to float32."""
    before = parse_graph(REWRITES["conv_bn"]["conv with bias"].before)
    weight, bias, mean, variance, gamma, beta = (
        tensor_at(before, path).double() for path in ("c.weight", "c.bias", "b.running_mean", "b.running_var", "b.weight", "b.bias")
    )
    rewrite(before, FUSIONS)
    gain = gamma * (1 / (variance + 1e-5).sqrt())
    assert torch.equal(tensor_at(before, "c.weight"), (weight * gain.reshape(-1, 1, 1, 1)).float())
    assert torch.equal(tensor_at(before, "c.bias"), (beta + (bias - mean) * gain).float())


def test_folded_parameters_stay_parameters_under_their_paths() -> None:
    constants = {path: nn.Parameter(torch.rand(shape)) for path, shape in (("c.weight", (4, 3, 3, 3)), ("c.bias", (4,)))}
    module = parse_graph(REWRITES["conv_bn"]["conv with bias"].before, constants)
    rewrite(module, FUSIONS)
    assert [name for name, _ in module.named_parameters()] == ["c.weight", "c.bias"]
    assert list(module.state_dict()) == ["c.weight", "c.bias"]


def test_border_of_a_border() -> None:
    borders = ("p: f32[2, 3, 8, 9] = pad(x, pad=(0, 1))", "r: f32[2, 3, 8, 10] = pad(p, pad=(1, 0, 0, 0, 0, 0))")
    module = parse_graph(graph(X, *borders, PADDED.format("r", ", padding=(1, 1)"), "output c"))
    expected = run(module)
    assert [each.rule for each in rewrite(module, FUSIONS)] == ["pad_conv", "pad_conv"]
    assert print_graph(module) == graph(X, PADDED.format("x", ", padding=(1, 2)"), "output c")
    assert torch.equal(run(module)[0], expected[0])
    (node,) = (node for node in module.graph.nodes if node.name == "c")
    assert [origin.object_type for origin in origins_of(node)] == ["torch.nn.Conv2d", "torch.nn.functional.pad", "torch.nn.functional.pad"]


def test_origins_are_in_dataflow_order() -> None:
    module = parse_graph(graph(X, R, CONV, BN, "s: f32[2, 4, 6, 6] = add(b, r)", "y: f32[2, 4, 6, 6] = relu(s)", "output y"))
    assert [each.rule for each in rewrite(module, FUSIONS)] == ["conv_bn", "conv_add", "op_relu"]
    assert print_graph(module) == graph(X, R, f"{CONV[:-1]}, residual=r, act=relu)", "output c")
    (node,) = (node for node in module.graph.nodes if node.name == "c")
    assert [origin.object_type for origin in origins_of(node)] == ["torch.nn.Conv2d", "torch.nn.BatchNorm1d", "torch.add", "torch.nn.ReLU"]


# --- near misses -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Refusal:
    """A graph that a rule must leave as it is, and the reason on record at the node where its pattern ends."""

    rule: str
    graph: str
    node: str
    why: Why
    detail: str


_ACT = CONV.replace("@c.bias[4])", "@c.bias[4], act=relu)")
_L3 = ("x: f32[2, 4, 6] = input", "l: f32[2, 4, 4] = linear(x, @l.weight[4, 6])")

REFUSALS = {
    "mean of another dimension": Refusal(
        "rms_norm",
        graph(*_MEAN_SQUARE, *_ROOT, "output y")
        .replace("dim=-1", "dim=0")
        .replace("m: f32[2, 1]", "m: f32[1, 6]")
        .replace("2, 1]", "1, 6]"),
        "y",
        Why.NOT_FUSABLE,
        "m is no mean of the squares of a row",
    ),
    "cube in place of a square": Refusal(
        "rms_norm_of_cast",
        graph("x: f32[2, 6] = input", "c: f32[2, 6] = identity(x)", *_MEAN_SQUARE[1:], *_ROOT, "output y")
        .replace("pow(x", "pow(c")
        .replace("=2)", "=3)"),
        "y",
        Why.NOT_FUSABLE,
        "m is no mean of the squares of a row",
    ),
    "gain that is not one for each feature": Refusal(
        "rms_norm_gain",
        graph(*_NORM6, "y: f32[2, 6] = mul(n, @g[1])", "output y"),
        "y",
        Why.NOT_FUSABLE,
        "g is no first factor for each feature",
    ),
    "second gain": Refusal(
        "rms_norm_cast_gain",
        graph(_NORM6[0], "n: f32[2, 6] = rms_norm(x, @h[6], normalized_shape=(6,))", *_CAST_GAIN),
        "y",
        Why.NOT_FUSABLE,
        "g is no first factor for each feature",
    ),
    "another curve": Refusal(
        "gelu_tanh",
        graph(*_GELU).replace("0.044715", "0.05"),
        "y",
        Why.NOT_FUSABLE,
        "its numbers are 0.5, 1.0, 0.7978845608028654, 0.05, not those of gelu",
    ),
    "scores that somebody else reads": Refusal(
        "attention", graph(*_HEADS, _SCORES, _END, _MIXED[0], "output (y, s)"), "y", Why.SHARED, "s is read by output, p"
    ),
    "weights of something else": Refusal(
        "attention",
        graph(*_HEADS, f"s: {_S} = relu(m)", _END, *_MIXED).replace("[2, 1, 3, 5]", "[2, 4, 3, 5]"),
        "y",
        Why.NOT_FUSABLE,
        "s is no product of queries and keys",
    ),
    "keys for all heads": Refusal(
        "attention",
        graph(*_HEADS, _SCORES, _END, *_MIXED).replace("k: f32[2, 4", "k: f32[2, 1"),
        "y",
        Why.NOT_FUSABLE,
        "its operands are not float32 of the same images and heads",
    ),
    "identity of an input": Refusal(
        "identity_input", graph(X, "i: f32[2, 3, 8, 8] = identity(x)", "output i"), "i", Why.NOT_FUSABLE, "x is no result of a call"
    ),
    "dropout that drops": Refusal(
        "dropout_input",
        graph(X, CONV, "d: f32[2, 4, 6, 6] = dropout(c)", "output d"),
        "d",
        Why.TRAINING,
        "d is in training mode; call model.eval() first",
    ),
    "conv read twice before bn": Refusal(
        "conv_bn", graph(X, CONV, BN, "s: f32[2, 4, 6, 6] = sigmoid(c)", "output (b, s)"), "b", Why.SHARED, "c is read by b, s"
    ),
    "conv is a result of the model too": Refusal("conv_bn", graph(X, CONV, BN, "output (b, c)"), "b", Why.SHARED, "c is read by b, output"),
    "bn in training mode": Refusal(
        "conv_bn",
        graph(X, CONV, BN.replace("@b.bias[4])", "@b.bias[4], training=True)"), "output b"),
        "b",
        Why.TRAINING,
        "b is in training mode; call model.eval() first",
    ),
    "bn of computed statistics": Refusal(
        "conv_bn",
        graph(X, "m: f32[4] = input", CONV, "v: f32[4] = sigmoid(m)", "b: f32[2, 4, 6, 6] = batch_norm(c, m, v)", "output b"),
        "b",
        Why.NOT_CONSTANT,
        "running_mean of b is computed by m",
    ),
    "conv of a computed weight": Refusal(
        "conv_bn",
        graph(
            X,
            "w: f32[4, 3, 3, 3] = input",
            "c: f32[2, 4, 6, 6] = conv(x, w, @c.bias[4])",
            BN,
            "output b",
        ),
        "b",
        Why.NOT_CONSTANT,
        "weight of c is computed by w",
    ),
    "conv with an activation before bn": Refusal(
        "conv_bn", graph(X, _ACT, BN, "output b"), "b", Why.NOT_FUSABLE, "c already has its act fused"
    ),
    "conv of one image, whose channels come first": Refusal(
        "conv_bn",
        graph(
            "x: f32[3, 8, 8] = input",
            "c: f32[4, 6, 6] = conv(x, @c.weight[4, 3, 3, 3], @c.bias[4])",
            "b: f32[4, 6, 6] = batch_norm(c, @b.running_mean[6], @b.running_var[6])",
            "output b",
        ),
        "b",
        Why.NOT_FUSABLE,
        "c is [4, 6, 6], where dimension 1 is not its channels",
    ),
    "scale of every element": Refusal(
        "op_scale",
        graph(X, CONV, "y: f32[2, 4, 6, 6] = mul(c, @g[4, 6, 6])", "output y"),
        "y",
        Why.NOT_FUSABLE,
        "g has not one element for each channel of c",
    ),
    "scale of another dimension": Refusal(
        "op_scale",
        graph(
            "x: f32[2, 3, 6, 6] = input",
            "c: f32[2, 4, 4, 4] = conv(x, @c.weight[4, 3, 3, 3])",
            "y: f32[2, 4, 4, 4] = mul(c, @g[4])",
            "output y",
        ),
        "y",
        Why.NOT_FUSABLE,
        "g has not one element for each channel of c",
    ),
    "scale that makes channels": Refusal(
        "op_scale",
        graph(
            "x: f32[2, 3, 6, 6] = input",
            "c: f32[2, 1, 4, 4] = conv(x, @c.weight[1, 3, 3, 3])",
            "y: f32[2, 4, 4, 4] = mul(c, @g[4, 1, 1])",
            "output y",
        ),
        "y",
        Why.NOT_FUSABLE,
        "g has not one element for each channel of c",
    ),
    "scale behind an activation": Refusal(
        "op_scale",
        graph(X, _ACT.replace("relu", "relu6"), "y: f32[2, 4, 6, 6] = mul(c, @g[1])", "output y"),
        "y",
        Why.NOT_FUSABLE,
        "c already has its act fused",
    ),
    "scale behind a relu, with factors below 0": Refusal(
        "op_scale",
        graph(X, _ACT, "y: f32[2, 4, 6, 6] = mul(c, @g[1, 4, 1, 1])", "output y"),
        "y",
        Why.NOT_FUSABLE,
        "g has factors that are not above 0",
    ),
    "scaled conv that is read twice": Refusal(
        "op_scale",
        graph(X, CONV, "y: f32[2, 4, 6, 6] = mul(c, @g[1])", "output (c, y)"),
        "y",
        Why.SHARED,
        "c is read by output, y",
    ),
    "scaled shift": Refusal(
        "op_shift",
        graph(X, CONV, "y: f32[2, 4, 6, 6] = add(c, @g[1], alpha=2)", "output y"),
        "y",
        Why.NOT_FUSABLE,
        "alpha is 2, not 1",
    ),
    "transposed conv read twice": Refusal(
        "conv_transpose_bn",
        graph(X, UP, BN.replace("6, 6]", "10, 10]"), "y: f32[2, 4, 10, 10] = mul(b, c)", "output y"),
        "b",
        Why.SHARED,
        "c is read by b, y",
    ),
    "linear of three dimensions": Refusal(
        "linear_bn",
        graph(*_L3, "b: f32[2, 4, 4] = batch_norm(l, @b.running_mean[4], @b.running_var[4])", "output b"),
        "b",
        Why.NOT_FUSABLE,
        "l is [2, 4, 4], where dimension 1 is not its channels",
    ),
    "linear read twice": Refusal(
        "linear_bn",
        graph(
            "x: f32[5, 6] = input",
            "l: f32[5, 4] = linear(x, @l.weight[4, 6])",
            "b: f32[5, 4] = batch_norm(l, @b.running_mean[4], @b.running_var[4])",
            "y: f32[5, 4] = add(b, l)",
            "output y",
        ),
        "b",
        Why.SHARED,
        "l is read by b, y",
    ),
    "sum read twice before relu": Refusal(
        "op_relu",
        graph("x: f32[4] = input", "s: f32[4] = add(x, 1)", "y: f32[4] = relu(s)", "z: f32[4] = mul(y, s)", "output z"),
        "y",
        Why.SHARED,
        "s is read by y, z",
    ),
    "relu after an activation": Refusal(
        "op_relu", graph(X, _ACT, "y: f32[2, 4, 6, 6] = relu(c)", "output y"), "y", Why.NOT_FUSABLE, "c already has an activation fused"
    ),
    "hardswish after an activation": Refusal(
        "op_polynomial",
        graph(X, _ACT, "y: f32[2, 4, 6, 6] = hardswish(c)", "output y"),
        "y",
        Why.NOT_FUSABLE,
        "c already has an activation fused",
    ),
    "clamp after an activation": Refusal(
        "op_clamp",
        graph(X, _ACT, "y: f32[2, 4, 6, 6] = clamp(c, max=6)", "output y"),
        "y",
        Why.NOT_FUSABLE,
        "c already has an activation fused",
    ),
    "clamp to a computed bound": Refusal(
        "op_clamp",
        graph(X, "m: f32[6] = input", CONV, "y: f32[2, 4, 6, 6] = clamp(c, min=m)", "output y"),
        "y",
        Why.NOT_CONSTANT,
        "min of y is m, not a number",
    ),
    "clamp to a tensor of the model": Refusal(
        "op_clamp",
        graph(X, CONV, "y: f32[2, 4, 6, 6] = clamp(c, max=@m[6])", "output y"),
        "y",
        Why.NOT_CONSTANT,
        "max of y is m, not a number",
    ),
    "scaled sum": Refusal(
        "conv_add",
        graph(X, R, CONV, "y: f32[2, 4, 6, 6] = add(c, r, alpha=2)", "output y"),
        "y",
        Why.NOT_FUSABLE,
        "alpha is 2, not 1",
    ),
    "residual that is broadcast": Refusal(
        "conv_add",
        graph(X, "r: f32[4, 1, 1] = input", CONV, "y: f32[2, 4, 6, 6] = add(c, r)", "output y"),
        "y",
        Why.NOT_FUSABLE,
        "r has not the shape and dtype of c",
    ),
    "conv that is broadcast": Refusal(
        "conv_add",
        graph(X, "r: f32[3, 2, 4, 6, 6] = input", CONV, "y: f32[3, 2, 4, 6, 6] = add(r, c)", "output y"),
        "y",
        Why.NOT_FUSABLE,
        "r has not the shape and dtype of c",
    ),
    "residual of another dtype": Refusal(
        "conv_add",
        graph(X, "r: f64[2, 4, 6, 6] = input", CONV, "y: f64[2, 4, 6, 6] = add(c, r)", "output y"),
        "y",
        Why.NOT_FUSABLE,
        "r has not the shape and dtype of c",
    ),
    "a number for a residual": Refusal(
        "conv_add", graph(X, CONV, "y: f32[2, 4, 6, 6] = add(c, 1)", "output y"), "y", Why.NOT_FUSABLE, "1 has not the shape and dtype of c"
    ),
    "a constant for a residual": Refusal(
        "conv_add",
        graph(X, CONV, "y: f32[2, 4, 6, 6] = add(c, @r[2, 4, 6, 6])", "output y"),
        "y",
        Why.NOT_FUSABLE,
        "r has not the shape and dtype of c",
    ),
    "residual after an activation": Refusal(
        "conv_add", graph(X, R, _ACT, "y: f32[2, 4, 6, 6] = add(c, r)", "output y"), "y", Why.NOT_FUSABLE, "c already has its act fused"
    ),
    "linear of a stream that is normalized": Refusal(
        "linear_add",
        graph(*_L4, "y: f32[2, 4] = add(l, r)", "n: f32[2, 4] = layer_norm(y, normalized_shape=(4,))", "output (n, y)"),
        "y",
        Why.NOT_FUSABLE,
        "n normalizes y, which stays float for it",
    ),
    "conv of a stream that is normalized behind movement": Refusal(
        "conv_add",
        graph(
            X,
            R,
            CONV,
            "y: f32[2, 4, 6, 6] = add(c, r)",
            "t: f32[2, 6, 6, 4] = permute(y, dims=(0, 2, 3, 1))",
            "n: f32[2, 6, 6, 4] = layer_norm(t, normalized_shape=(4,))",
            "output n",
        ),
        "y",
        Why.NOT_FUSABLE,
        "n normalizes y, which stays float for it",
    ),
    "a batch of matrices": Refusal(
        "matmul_weight",
        graph("x: f32[2, 5, 6] = input", "y: f32[2, 5, 4] = matmul(x, @w[2, 6, 4])", "output y"),
        "y",
        Why.NOT_FUSABLE,
        "w is [2, 6, 4], not a matrix",
    ),
    "a batch of matrices, transposed": Refusal(
        "matmul_transposed_weight",
        graph(
            "x: f32[2, 5, 6] = input",
            "t: f32[2, 6, 4] = transpose(@w[2, 4, 6], dim0=1, dim1=2)",
            "y: f32[2, 5, 4] = matmul(x, t)",
            "output y",
        ),
        "y",
        Why.NOT_FUSABLE,
        "w is [2, 4, 6], not a matrix",
    ),
    "a matrix that is not transposed": Refusal(
        "matmul_transposed_weight",
        graph("x: f32[5, 6] = input", "t: f32[6, 4] = permute(@w[6, 4], dims=(0, 1))", "y: f32[5, 4] = matmul(x, t)", "output y"),
        "y",
        Why.NOT_FUSABLE,
        "t leaves the dimensions in their order",
    ),
    **{
        f"a border {what}": Refusal(
            "pad_conv",
            graph(X, f"p: f32[{shape}] = pad(x, pad={pad})", f"c: f32[{result}] = conv(p, @c.weight[4, 3, 3, 3], @c.bias[4])", "output c"),
            "c",
            Why.NOT_FUSABLE,
            "p does more than to add zeros around the pixels",
        )
        for what, shape, pad, result in (
            ("of ones", "2, 3, 8, 10", "(1, 1), value=1.0", "2, 4, 6, 8"),
            ("of reflections", "2, 3, 8, 10", "(1, 1, 0, 0), mode='reflect'", "2, 4, 6, 8"),
            ("that cuts", "2, 3, 8, 8", "(-1, 1)", "2, 4, 6, 6"),
            ("of images", "3, 3, 8, 8", "(0, 0, 0, 0, 0, 0, 0, 1)", "3, 4, 6, 6"),
        )
    },
    "a border in front of a border that reflects": Refusal(
        "pad_conv",
        graph(X, "p: f32[2, 3, 8, 10] = pad(x, pad=(1, 1))", PADDED.format("p", ", padding=(1, 1), padding_mode='reflect'"), "output c"),
        "c",
        Why.NOT_FUSABLE,
        "padding_mode is reflect, not zeros",
    ),
    "a conv added to itself": Refusal(
        "conv_add", graph(X, CONV, "y: f32[2, 4, 6, 6] = add(c, c)", "output y"), "y", Why.SHARED, "c is read by y, y"
    ),
    "conv is read behind the sum": Refusal(
        "conv_add",
        graph(X, R, CONV, "y: f32[2, 4, 6, 6] = add(c, r)", "z: f32[2, 4, 6, 6] = mul(y, c)", "output z"),
        "y",
        Why.SHARED,
        "c is read by y, z",
    ),
}


@pytest.mark.parametrize("operation", ["mul", "add"])
def test_computed_scales_and_shifts_are_no_near_misses(operation: str) -> None:
    """Else every sum and product behind a convolution would be reported."""
    text = graph(X, "d: f32[1] = input", CONV, f"y: f32[2, 4, 6, 6] = {operation}(c, d)", "output y")
    module = parse_graph(text)
    assert rewrite(module, (RULES["op_scale"], RULES["op_shift"])) == []
    assert print_graph(module) == text and _refusals(module) == {}


@pytest.mark.parametrize("case", REFUSALS.values(), ids=REFUSALS)
def test_refuses(case: Refusal) -> None:
    module = parse_graph(case.graph)
    assert rewrite(module, (RULES[case.rule],)) == []
    assert print_graph(module) == case.graph
    assert _refusals(module) == {case.node: ((case.rule, Reason(case.why, case.node, case.detail)),)}


def _refusals(module: FxqModule) -> dict[str, Any]:
    return {node.name: refusals_of(node) for node in module.graph.nodes if refusals_of(node)}


@dataclass(frozen=True)
class _Resolution:
    qconfig: Any
    rule: str
    explicit: bool


SWITCHED_OFF = {
    "op_relu": graph(X, CONV, "y: f32[2, 4, 6, 6] = relu(c)", "output y"),
    "op_clamp": graph(X, CONV, "y: f32[2, 4, 6, 6] = clamp(c, max=6)", "output y"),
    "conv_add": graph(X, R, CONV, "y: f32[2, 4, 6, 6] = add(c, r)", "output y"),
    "linear_add": graph(*_L4, "y: f32[2, 4] = add(l, r)", "output y"),
    "op_scale": graph(X, CONV, "y: f32[2, 4, 6, 6] = mul(c, @g[1])", "output y"),
    "op_shift": graph(X, CONV, "y: f32[2, 4, 6, 6] = add(c, @g[1])", "output y"),
}


def _resolved(rule: str, resolution: _Resolution) -> tuple[FxqModule, list[Any]]:
    module = parse_graph(SWITCHED_OFF[rule])
    set_resolution(next(node for node in module.graph.nodes if node.name == "y"), resolution)
    return module, rewrite(module, (RULES[rule],))


@pytest.mark.parametrize("rule", SWITCHED_OFF)
def test_refuses_what_the_mapping_keeps_float(rule: str) -> None:
    module, applied = _resolved(rule, _Resolution(None, "module name 'y' → None", True))
    assert applied == [] and print_graph(module) == SWITCHED_OFF[rule]
    assert _refusals(module) == {"y": ((rule, Reason(Why.SWITCHED_OFF, "y", "y is kept float by module name 'y' → None")),)}


@pytest.mark.parametrize("rule", SWITCHED_OFF)
@pytest.mark.parametrize("resolution", [_Resolution(object(), "global", True), _Resolution(None, "", False)], ids=["int8", "not spoken of"])
def test_fuses_what_the_mapping_does_not_keep_float(rule: str, resolution: _Resolution) -> None:
    module, applied = _resolved(rule, resolution)
    assert [each.rule for each in applied] == [rule]
    assert _refusals(module) == {}


def test_values_of_act() -> None:
    module = parse_graph(SWITCHED_OFF["op_relu"])
    rewrite(module, FUSIONS)
    (node,) = (node for node in module.graph.nodes if node.name == "c")
    assert node.kwargs["act"] == RELU == ("clamp", 0.0, float("inf"))


# --- spellings -------------------------------------------------------------------------------------------------------------

CONVS = {
    "module": lambda m, x: m.conv(x),
    "functional": lambda m, x: F.conv2d(x, m.conv.weight, m.conv.bias, padding=1),
    "torch": lambda m, x: torch.conv2d(x, weight=m.conv.weight, bias=m.conv.bias, padding=(1, 1)),
}
BNS = {
    "module": lambda m, x: m.bn(x),
    "functional": lambda m, x: F.batch_norm(x, m.bn.running_mean, m.bn.running_var, m.bn.weight, m.bn.bias),
}
ADDS = {
    "operator": lambda m, x, r: x + r,
    "reversed": lambda m, x, r: r + x,
    "torch": lambda m, x, r: torch.add(x, r),
    "keyword": lambda m, x, r: torch.add(input=r, other=x, alpha=1),
    "method": lambda m, x, r: x.add(r),
    "in place": lambda m, x, r: x.add_(r),
}
RELUS = {
    "module": lambda m, x: m.relu(x),
    "module in place": lambda m, x: m.relu_(x),
    "functional": lambda m, x: F.relu(x),
    "functional in place": lambda m, x: F.relu(x, inplace=True),
    "torch": lambda m, x: torch.relu(x),
    "method": lambda m, x: x.relu(),
    "method in place": lambda m, x: x.relu_(),
    "clamp": lambda m, x: torch.clamp(x, min=0),
    "clamp_min": lambda m, x: x.clamp_min_(0.0),
}


class _Written(nn.Module):
    def __init__(self, conv: str, bn: str, add: str, relu: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.bn = nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3)
        self.relu, self.relu_ = nn.ReLU(), nn.ReLU(inplace=True)
        self.written = (CONVS[conv], BNS[bn], ADDS[add], RELUS[relu])

    def forward(self, x: Tensor) -> Tensor:
        conv, bn, add, relu = self.written
        result: Tensor = relu(self, add(self, bn(self, conv(self, x)), x))
        return result


_ONE_OF_EACH = [
    *((conv, bn, "operator", "module") for conv in CONVS for bn in BNS),
    *(("module", "module", add, "functional") for add in ADDS),
    *(("functional", "module", "in place", relu) for relu in RELUS),
]


@pytest.mark.parametrize(("conv", "bn", "add", "relu"), _ONE_OF_EACH)
def test_every_spelling_ends_in_the_same_graph(conv: str, bn: str, add: str, relu: str) -> None:
    model = _Written(conv, bn, add, relu).eval()
    x = torch.randn(2, 3, 5, 5, generator=torch.Generator().manual_seed(1))
    fused = fuse_fx(model, x)
    # a node is called after the way it was written
    assert print_graph(fused).replace("conv2d", "conv") == graph(
        "x: f32[2, 3, 5, 5] = input",
        "conv: f32[2, 3, 5, 5] = conv(x, @conv.weight[3, 3, 3, 3], @conv.bias[3], padding=(1, 1), residual=x, act=relu)",
        "output conv",
    )
    assert sqnr(fused(x), model.double()(x.double())) > 120

"""How the rows of OPS are written in PyTorch, spelling by spelling: `EXAMPLES[op name, spelling target]`. See op_example.py."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from tests.graph.op_example import D1, D2, D3, Example, Examples, called, fresh, made
from tests.graph.op_examples_movement import MOVEMENT
from tests.graph.op_examples_pooling import POOLING
from tests.graph.op_examples_products import PRODUCTS

_CONV = "@m.weight[4, 3, 3], @m.bias[4]"
_BN = "@m.running_mean[3], @m.running_var[3], @m.weight[3], @m.bias[3]"
_BN_STATISTICS = ((3,),) * 4


def _unary(name: str, module: type[nn.Module], function: Callable[..., Any]) -> Examples:
    """A function of one tensor that is also a module with `inplace`."""
    return {
        (name, module): (made(module, graph=f"{name}(x)"), made(module, inplace=True, graph=f"{name}(x)")),
        (name, function): (
            called(lambda x: function(x), f"{name}(x)"),
            called(lambda x: function(input=x), f"{name}(x)"),
            fresh(lambda x: function(x, inplace=True), f"{name}(sin)"),
        ),
    }


def _binary(name: str, target: Callable[..., Any]) -> tuple[Example, ...]:
    """Two tensors; a tensor and a number; a constant; a smaller tensor that is broadcast; keywords."""
    return (
        called(lambda x, y: target(x, y), f"{name}(x, y)", second=True),
        called(lambda x: target(x, 2.5), f"{name}(x, 2.5)"),
        called(lambda x, a: target(x, a), f"{name}(x, @m.a[1, 3, 8, 8])", constants=((1, 3, 8, 8),)),
        called(lambda x, a: target(a, x), f"{name}(@m.a[8], x)", constants=((8,),)),
        called(lambda x: target(x, other=x), f"{name}(x, x)"),
    )


def _operator(name: str, target: Callable[..., Any]) -> tuple[Example, ...]:
    return (
        called(lambda x, y: target(x, y), f"{name}(x, y)", second=True),
        called(lambda x: target(3, x), f"{name}(3, x)"),
        called(lambda x: target(x, 0.25), f"{name}(x, 0.25)"),
    )


def _in_place_binary(name: str, target: Callable[..., Any]) -> tuple[Example, ...]:
    return (
        fresh(lambda x: target(x, 2.0), f"{name}(sin, 2.0)"),
        Example(lambda: lambda x, y: target(x.sin(), y), ("method sin(x)", f"{name}(sin, y)"), second=True),
    )


def _conv_transpose(rank: int, module: type[nn.Module], function: Callable[..., Any]) -> Examples:
    shape, kernel = (D1, D2, D3)[rank - 1], ", ".join("3" * rank)
    two, one = (2,) * rank, (1,) * rank
    strided = f"stride={two}, padding={one}, output_padding={one}"
    return {
        ("conv_transpose", module): (
            made(module, 3, 4, 3, graph=f"conv_transpose(x, @m.weight[3, 4, {kernel}], @m.bias[4])", shape=shape),
            made(
                module,
                3,
                6,
                3,
                stride=2,
                padding=1,
                output_padding=1,
                groups=3,
                bias=False,
                graph=f"conv_transpose(x, @m.weight[3, 2, {kernel}], {strided}, groups=3)",
                shape=shape,
            ),
            made(
                module, 3, 4, 3, dilation=2, graph=f"conv_transpose(x, @m.weight[3, 4, {kernel}], @m.bias[4], dilation={two})", shape=shape
            ),
        ),
        ("conv_transpose", function): (
            called(
                lambda x, a: function(x, a, None, 2, 1, 1),
                f"conv_transpose(x, @m.a[3, 4, {kernel}], {strided})",
                shape=shape,
                constants=((3, 4, *[3] * rank),),
            ),
            called(
                lambda x, a, b: function(x, weight=a, bias=b, stride=[2] * rank),
                f"conv_transpose(x, @m.a[3, 4, {kernel}], @m.b[4], stride={two})",
                shape=shape,
                constants=((3, 4, *[3] * rank), (4,)),
            ),
        ),
    }


_ACCUMULATORS: Examples = {
    ("conv", nn.Conv1d): (
        made(nn.Conv1d, 3, 4, 3, graph=f"conv(x, {_CONV})", shape=D1),
        made(nn.Conv1d, 3, 4, 3, padding="same", dilation=2, graph=f"conv(x, {_CONV}, padding='same', dilation=(2,))", shape=D1),
        made(
            nn.Conv1d,
            3,
            4,
            3,
            padding=2,
            padding_mode="circular",
            graph=f"conv(x, {_CONV}, padding=(2,), padding_mode='circular')",
            shape=D1,
        ),
        made(nn.Conv1d, 3, 4, 3, graph=f"conv(x, {_CONV})", shape=(3, 8)),
    ),
    ("conv", torch.conv1d): (
        called(lambda x, a: F.conv1d(x, a), "conv(x, @m.a[4, 3, 3])", shape=D1, constants=((4, 3, 3),)),
        called(
            lambda x, a, b: torch.conv1d(x, weight=a, bias=b, stride=2, padding=[1]),
            "conv(x, @m.a[4, 3, 3], @m.b[4], stride=(2,), padding=(1,))",
            shape=D1,
            constants=((4, 3, 3), (4,)),
        ),
    ),
    ("conv", nn.Conv2d): (
        made(nn.Conv2d, 3, 4, 3, graph="conv(x, @m.weight[4, 3, 3, 3], @m.bias[4])"),
        made(
            nn.Conv2d,
            3,
            6,
            (3, 1),
            stride=2,
            padding=(1, 0),
            dilation=(2, 1),
            groups=3,
            bias=False,
            graph="conv(x, @m.weight[6, 1, 3, 1], stride=(2, 2), padding=(1, 0), dilation=(2, 1), groups=3)",
        ),
        made(nn.Conv2d, 3, 4, (4, 2), padding="same", graph="conv(x, @m.weight[4, 3, 4, 2], @m.bias[4], padding='same')"),
        made(nn.Conv2d, 3, 4, 3, padding="valid", graph="conv(x, @m.weight[4, 3, 3, 3], @m.bias[4], padding='valid')"),
        made(
            nn.Conv2d,
            3,
            4,
            3,
            padding=(2, 1),
            padding_mode="reflect",
            graph="conv(x, @m.weight[4, 3, 3, 3], @m.bias[4], padding=(2, 1), padding_mode='reflect')",
        ),
        made(
            nn.Conv2d,
            3,
            4,
            (4, 2),
            padding="same",
            padding_mode="replicate",
            graph="conv(x, @m.weight[4, 3, 4, 2], @m.bias[4], padding='same', padding_mode='replicate')",
        ),
        made(
            nn.Conv2d,
            3,
            4,
            3,
            padding="valid",
            padding_mode="circular",
            graph="conv(x, @m.weight[4, 3, 3, 3], @m.bias[4], padding='valid', padding_mode='circular')",
        ),
    ),
    ("conv", torch.conv2d): (
        called(
            lambda x, a: F.conv2d(x, a, None, 2, 1, 1, 3),
            "conv(x, @m.a[6, 1, 3, 3], stride=(2, 2), padding=(1, 1), groups=3)",
            constants=((6, 1, 3, 3),),
        ),
        called(
            lambda x, a, b: torch.conv2d(input=x, weight=a, bias=b, padding="same"),
            "conv(x, @m.a[4, 3, 3, 3], @m.b[4], padding='same')",
            constants=((4, 3, 3, 3), (4,)),
        ),
        called(lambda x, y: torch.conv2d(x, y), "conv(x, y)", shape=(3, 3, 4, 4), second=True),
    ),
    ("conv", nn.Conv3d): (
        made(nn.Conv3d, 3, 4, 2, stride=(1, 2, 1), graph="conv(x, @m.weight[4, 3, 2, 2, 2], @m.bias[4], stride=(1, 2, 1))", shape=D3),
        made(
            nn.Conv3d,
            3,
            4,
            2,
            padding="same",
            padding_mode="circular",
            bias=False,
            graph="conv(x, @m.weight[4, 3, 2, 2, 2], padding='same', padding_mode='circular')",
            shape=D3,
        ),
    ),
    ("conv", torch.conv3d): (
        called(
            lambda x, a: F.conv3d(x, a, padding=1),
            "conv(x, @m.a[4, 3, 2, 2, 2], padding=(1, 1, 1))",
            shape=D3,
            constants=((4, 3, 2, 2, 2),),
        ),
    ),
    **_conv_transpose(1, nn.ConvTranspose1d, F.conv_transpose1d),
    **_conv_transpose(2, nn.ConvTranspose2d, F.conv_transpose2d),
    **_conv_transpose(3, nn.ConvTranspose3d, F.conv_transpose3d),
    ("linear", nn.Linear): (
        made(nn.Linear, 8, 5, graph="linear(x, @m.weight[5, 8], @m.bias[5])"),
        made(nn.Linear, 8, 5, bias=False, graph="linear(x, @m.weight[5, 8])", shape=(4, 8)),
        made(nn.Linear, 8, 5, graph="linear(x, @m.weight[5, 8], @m.bias[5])", shape=(8,)),
    ),
    ("linear", F.linear): (
        called(lambda x, a: F.linear(x, a), "linear(x, @m.a[5, 8])", constants=((5, 8),)),
        called(lambda x, a, b: F.linear(x, weight=a, bias=b), "linear(x, @m.a[5, 8], @m.b[5])", constants=((5, 8), (5,))),
    ),
    ("batch_norm", nn.BatchNorm1d): (
        made(nn.BatchNorm1d, 3, graph=f"batch_norm(x, {_BN})", shape=D1),
        made(nn.BatchNorm1d, 3, graph=f"batch_norm(x, {_BN})", shape=(4, 3)),
        made(
            nn.BatchNorm1d,
            3,
            affine=False,
            eps=1e-3,
            momentum=None,
            graph="batch_norm(x, @m.running_mean[3], @m.running_var[3], momentum=0.0, eps=0.001)",
            shape=D1,
        ),
    ),
    ("batch_norm", nn.BatchNorm2d): (
        made(nn.BatchNorm2d, 3, graph=f"batch_norm(x, {_BN})"),
        # without running statistics those of the batch are used in eval mode too
        made(nn.BatchNorm2d, 3, track_running_stats=False, graph="batch_norm(x, None, None, @m.weight[3], @m.bias[3], training=True)"),
    ),
    ("batch_norm", nn.BatchNorm3d): (made(nn.BatchNorm3d, 3, graph=f"batch_norm(x, {_BN})", shape=D3),),
    ("batch_norm", nn.SyncBatchNorm): (made(nn.SyncBatchNorm, 3, graph=f"batch_norm(x, {_BN})"),),
    ("batch_norm", F.batch_norm): (
        called(lambda x, a, b: F.batch_norm(x, a, b), "batch_norm(x, @m.a[3], @m.b[3])", constants=((3,), (3,))),
        called(
            lambda x, a, b, c, d: F.batch_norm(x, a, b, weight=c, bias=d, eps=0.1, momentum=0.5),
            "batch_norm(x, @m.a[3], @m.b[3], @m.c[3], @m.d[3], momentum=0.5, eps=0.1)",
            constants=_BN_STATISTICS,
        ),
    ),
    ("add", torch.add): (*_binary("add", torch.add), called(lambda x, y: torch.add(x, y, alpha=3), "add(x, y, alpha=3)", second=True)),
    ("add", operator.add): _operator("add", operator.add),
    ("add", "add"): (
        *_binary("add", lambda x, other: x.add(other)),
        called(lambda x, y: x.add(y, alpha=0.5), "add(x, y, alpha=0.5)", second=True),
    ),
    ("add", operator.iadd): _in_place_binary("add", operator.iadd),
    ("add", "add_"): (
        *_in_place_binary("add", lambda x, other: x.add_(other)),
        fresh(lambda x: x.add_(x, alpha=2), "add(sin, sin, alpha=2)"),
    ),
    ("sub", torch.sub): (*_binary("sub", torch.sub), called(lambda x, y: torch.sub(x, y, alpha=3), "sub(x, y, alpha=3)", second=True)),
    ("sub", operator.sub): _operator("sub", operator.sub),
    ("sub", "sub"): _binary("sub", lambda x, other: x.sub(other)),
    ("sub", operator.isub): _in_place_binary("sub", operator.isub),
    ("sub", "sub_"): _in_place_binary("sub", lambda x, other: x.sub_(other)),
    ("sub", torch.subtract): _binary("sub", torch.subtract),
    ("sub", "subtract"): _binary("sub", lambda x, other: x.subtract(other)),
    ("sub", torch.rsub): (
        called(lambda x, y: torch.rsub(x, y), "sub(y, x)", second=True),
        called(lambda x: torch.rsub(x, 1), "sub(1, x)"),
        called(lambda x: torch.rsub(x, other=2.5, alpha=1), "sub(2.5, x)"),
    ),
    ("mul", torch.mul): _binary("mul", torch.mul),
    ("mul", torch.multiply): _binary("mul", torch.multiply),
    ("mul", "multiply"): _binary("mul", lambda x, other: x.multiply(other)),
    ("mul", operator.mul): _operator("mul", operator.mul),
    ("mul", "mul"): _binary("mul", lambda x, other: x.mul(other)),
    ("mul", operator.imul): _in_place_binary("mul", operator.imul),
    ("mul", "mul_"): _in_place_binary("mul", lambda x, other: x.mul_(other)),
    ("div", torch.div): _binary("div", torch.div),
    ("div", torch.true_divide): _binary("div", torch.true_divide),
    ("div", torch.divide): _binary("div", torch.divide),
    ("div", operator.truediv): _operator("div", operator.truediv),
    ("div", "div"): _binary("div", lambda x, other: x.div(other)),
    ("div", "true_divide"): _binary("div", lambda x, other: x.true_divide(other)),
    ("div", "divide"): _binary("div", lambda x, other: x.divide(other)),
    ("div", operator.itruediv): _in_place_binary("div", operator.itruediv),
    ("div", "div_"): _in_place_binary("div", lambda x, other: x.div_(other)),
}


def _clamps(function: Callable[..., Any], write: Callable[..., Any], name: str) -> Examples:
    """torch.clamp and torch.clip, their methods and the forms that write in place."""
    method, method_in_place = operator.methodcaller, f"{name}_"
    return {
        ("clamp", function): (
            called(lambda x: function(x, -0.5, 0.75), "clamp(x, min=-0.5, max=0.75)"),
            called(lambda x: function(x, max=1), "clamp(x, max=1)"),
            called(lambda x, a: function(x, a), "clamp(x, min=@m.a[8])", constants=((8,),)),
        ),
        ("clamp", name): (
            called(lambda x: method(name, 0.0)(x), "clamp(x, min=0.0)"),
            called(lambda x: method(name, min=-1, max=1)(x), "clamp(x, min=-1, max=1)"),
        ),
        ("clamp", write): (fresh(lambda x: write(x, 0.0, 6.0), "clamp(sin, min=0.0, max=6.0)"),),
        ("clamp", method_in_place): (fresh(lambda x: method(method_in_place, max=0.5)(x), "clamp(sin, max=0.5)"),),
    }


def _plain(name: str, *functions: Callable[..., Any], methods: tuple[str, ...] = ()) -> Examples:
    """Functions of one tensor and nothing else, and methods."""
    by_function = {(name, function): _one_tensor(name, function) for function in functions}
    by_method = {(name, method): (called(operator.methodcaller(method), f"{name}(x)"),) for method in methods}
    return {**by_function, **by_method}


def _one_tensor(name: str, function: Callable[..., Any]) -> tuple[Example, ...]:
    return (called(lambda x: function(x), f"{name}(x)"),)


_UNARY: Examples = {
    **_unary("relu", nn.ReLU, F.relu),
    ("relu", torch.relu): (called(lambda x: torch.relu(x), "relu(x)"),),
    ("relu", "relu"): (called(lambda x: x.relu(), "relu(x)"),),
    ("relu", F.relu_): (fresh(lambda x: F.relu_(x), "relu(sin)"),),
    ("relu", "relu_"): (fresh(lambda x: x.relu_(), "relu(sin)"),),
    **_clamps(torch.clamp, torch.clamp_, "clamp"),
    **_clamps(torch.clip, torch.clip_, "clip"),
    ("clamp", torch.clamp_min): (
        called(lambda x: torch.clamp_min(x, 0.25), "clamp(x, min=0.25)"),
        called(lambda x: torch.clamp_min(x, min=0), "clamp(x, min=0)"),
    ),
    ("clamp", "clamp_min"): (called(lambda x: x.clamp_min(0.25), "clamp(x, min=0.25)"),),
    ("clamp", torch.clamp_min_): (fresh(lambda x: torch.clamp_min_(x, 0.25), "clamp(sin, min=0.25)"),),
    ("clamp", "clamp_min_"): (fresh(lambda x: x.clamp_min_(min=0.25), "clamp(sin, min=0.25)"),),
    ("clamp", torch.clamp_max): (called(lambda x: torch.clamp_max(x, 0.25), "clamp(x, max=0.25)"),),
    ("clamp", "clamp_max"): (called(lambda x: x.clamp_max(max=0.25), "clamp(x, max=0.25)"),),
    ("clamp", torch.clamp_max_): (fresh(lambda x: torch.clamp_max_(x, 0.25), "clamp(sin, max=0.25)"),),
    ("clamp", "clamp_max_"): (fresh(lambda x: x.clamp_max_(0.25), "clamp(sin, max=0.25)"),),
    ("clamp", nn.ReLU6): (
        made(nn.ReLU6, graph="clamp(x, min=0.0, max=6.0)"),
        made(nn.ReLU6, inplace=True, graph="clamp(x, min=0.0, max=6.0)"),
    ),
    ("clamp", nn.Hardtanh): (
        made(nn.Hardtanh, graph="clamp(x, min=-1.0, max=1.0)"),
        made(nn.Hardtanh, -2, 0.5, graph="clamp(x, min=-2.0, max=0.5)"),
    ),
    ("clamp", F.relu6): (
        called(lambda x: F.relu6(x), "clamp(x, min=0.0, max=6.0)"),
        fresh(lambda x: F.relu6(x, True), "clamp(sin, min=0.0, max=6.0)"),
    ),
    ("clamp", F.hardtanh): (
        called(lambda x: F.hardtanh(x), "clamp(x, min=-1.0, max=1.0)"),
        called(lambda x: F.hardtanh(x, min_val=-3, max_val=0.5), "clamp(x, min=-3.0, max=0.5)"),
        fresh(lambda x: F.hardtanh(x, -0.5, 0.5, True), "clamp(sin, min=-0.5, max=0.5)"),
    ),
    ("clamp", F.hardtanh_): (fresh(lambda x: F.hardtanh_(x, -0.5, 0.5), "clamp(sin, min=-0.5, max=0.5)"),),
    ("leaky_relu", nn.LeakyReLU): (
        made(nn.LeakyReLU, graph="leaky_relu(x)"),
        made(nn.LeakyReLU, 0.2, True, graph="leaky_relu(x, negative_slope=0.2)"),
    ),
    ("leaky_relu", F.leaky_relu): (
        called(lambda x: F.leaky_relu(x, 0.3), "leaky_relu(x, negative_slope=0.3)"),
        fresh(lambda x: F.leaky_relu(x, inplace=True), "leaky_relu(sin)"),
    ),
    ("leaky_relu", nn.RReLU): (
        made(nn.RReLU, 0.1, 0.3, graph="leaky_relu(x, negative_slope=0.2)"),
        made(nn.RReLU, 0.25, 0.75, True, graph="leaky_relu(x, negative_slope=0.5)"),
    ),
    ("leaky_relu", F.leaky_relu_): (fresh(lambda x: F.leaky_relu_(x, 0.3), "leaky_relu(sin, negative_slope=0.3)"),),
    ("elu", nn.ELU): (made(nn.ELU, graph="elu(x)"), made(nn.ELU, 0.5, True, graph="elu(x, alpha=0.5)")),
    ("elu", F.elu): (
        called(lambda x: F.elu(x, 2.0), "elu(x, alpha=2.0)"),
        fresh(lambda x: F.elu(x, alpha=2.0, inplace=True), "elu(sin, alpha=2.0)"),
    ),
    ("elu", F.elu_): (fresh(lambda x: F.elu_(x), "elu(sin)"),),
    ("sigmoid", nn.Sigmoid): (made(nn.Sigmoid, graph="sigmoid(x)"),),
    ("sigmoid", torch.sigmoid): (called(lambda x: torch.sigmoid(x), "sigmoid(x)"),),
    ("sigmoid", F.sigmoid): (called(lambda x: F.sigmoid(x), "sigmoid(x)"),),
    ("sigmoid", "sigmoid"): (called(lambda x: x.sigmoid(), "sigmoid(x)"),),
    ("sigmoid", torch.sigmoid_): (fresh(lambda x: torch.sigmoid_(x), "sigmoid(sin)"),),
    ("sigmoid", "sigmoid_"): (fresh(lambda x: x.sigmoid_(), "sigmoid(sin)"),),
    ("tanh", nn.Tanh): (made(nn.Tanh, graph="tanh(x)"),),
    ("tanh", torch.tanh): (called(lambda x: torch.tanh(x), "tanh(x)"),),
    ("tanh", F.tanh): (called(lambda x: F.tanh(x), "tanh(x)"),),
    ("tanh", "tanh"): (called(lambda x: x.tanh(), "tanh(x)"),),
    ("tanh", torch.tanh_): (fresh(lambda x: torch.tanh_(x), "tanh(sin)"),),
    ("tanh", "tanh_"): (fresh(lambda x: x.tanh_(), "tanh(sin)"),),
    **_unary("hardsigmoid", nn.Hardsigmoid, F.hardsigmoid),
    **_unary("hardswish", nn.Hardswish, F.hardswish),
    **_unary("silu", nn.SiLU, F.silu),
    **_unary("mish", nn.Mish, F.mish),
    ("gelu", nn.GELU): (made(nn.GELU, graph="gelu(x)"), made(nn.GELU, "tanh", graph="gelu(x, approximate='tanh')")),
    ("gelu", F.gelu): (
        called(lambda x: F.gelu(x), "gelu(x)"),
        called(lambda x: F.gelu(x, approximate="tanh"), "gelu(x, approximate='tanh')"),
    ),
    ("softplus", nn.Softplus): (
        made(nn.Softplus, graph="softplus(x)"),
        made(nn.Softplus, 2, 10, graph="softplus(x, beta=2, threshold=10)"),
    ),
    ("softplus", F.softplus): (
        called(lambda x: F.softplus(x), "softplus(x)"),
        called(lambda x: F.softplus(x, beta=0.5, threshold=1), "softplus(x, beta=0.5, threshold=1)"),
    ),
    **_plain("neg", torch.neg, torch.negative, operator.neg, methods=("neg", "negative")),
    **_plain("abs", torch.abs, torch.absolute, operator.abs, methods=("abs", "absolute")),
    **_plain("exp", torch.exp, methods=("exp",)),
    ("pow", torch.pow): (
        called(lambda x: torch.pow(x, 3), "pow(x, exponent=3)"),
        called(lambda x: torch.pow(x, exponent=2.0), "pow(x, exponent=2.0)"),
    ),
    ("pow", operator.pow): (called(lambda x: x**2, "pow(x, exponent=2)"),),
    ("pow", torch.rsqrt): (called(lambda x: torch.rsqrt(x.square()), "square(x)", "pow(square, exponent=-0.5)"),),
    ("pow", "rsqrt"): (called(lambda x: x.abs().rsqrt(), "abs(x)", "pow(abs_1, exponent=-0.5)"),),
    ("pow", "pow"): (called(lambda x: x.pow(4), "pow(x, exponent=4)"),),
    **_plain("expm1", torch.expm1, methods=("expm1",)),
    ("log1p", torch.log1p): (called(lambda x: torch.log1p(x.square()), "square(x)", "log1p(square)"),),
    ("log1p", "log1p"): (called(lambda x: x.abs().log1p(), "abs(x)", "log1p(abs_1)"),),
    **_plain("erf", torch.erf, methods=("erf",)),
    ("hardshrink", nn.Hardshrink): (made(nn.Hardshrink, graph="hardshrink(x)"), made(nn.Hardshrink, 0.2, graph="hardshrink(x, lambd=0.2)")),
    ("hardshrink", torch.hardshrink): (called(lambda x: F.hardshrink(x, lambd=0.2), "hardshrink(x, lambd=0.2)"),),
    ("hardshrink", "hardshrink"): (called(lambda x: x.hardshrink(0.2), "hardshrink(x, lambd=0.2)"),),
    ("softshrink", nn.Softshrink): (made(nn.Softshrink, graph="softshrink(x)"), made(nn.Softshrink, 0.2, graph="softshrink(x, lambd=0.2)")),
    ("softshrink", F.softshrink): (called(lambda x: F.softshrink(x, 0.2), "softshrink(x, lambd=0.2)"),),
    ("tanhshrink", nn.Tanhshrink): (made(nn.Tanhshrink, graph="tanhshrink(x)"),),
    **_plain("tanhshrink", F.tanhshrink),
    ("threshold", nn.Threshold): (
        made(nn.Threshold, 0.1, 20.0, graph="threshold(x, threshold=0.1, value=20.0)"),
        made(nn.Threshold, 0.1, -1, True, graph="threshold(x, threshold=0.1, value=-1)"),
    ),
    ("threshold", torch.threshold): (called(lambda x: torch.threshold(x, 0.1, 2.0), "threshold(x, threshold=0.1, value=2.0)"),),
    ("threshold", F.threshold): (
        called(lambda x: F.threshold(x, threshold=0.1, value=2.0), "threshold(x, threshold=0.1, value=2.0)"),
        fresh(lambda x: F.threshold(x, 0.1, 2.0, True), "threshold(sin, threshold=0.1, value=2.0)"),
    ),
    **_plain("square", torch.square, methods=("square",)),
    ("sqrt", torch.sqrt): (called(lambda x: torch.sqrt(x.square()), "square(x)", "sqrt(square)"),),
    ("sqrt", "sqrt"): (called(lambda x: x.abs().sqrt(), "abs(x)", "sqrt(abs_1)"),),
    **_unary("selu", nn.SELU, F.selu),
    **_plain("selu", torch.selu),
    ("celu", nn.CELU): (made(nn.CELU, graph="celu(x)"), made(nn.CELU, 0.5, True, graph="celu(x, alpha=0.5)")),
    ("celu", torch.celu): (called(lambda x: torch.celu(x), "celu(x)"), called(lambda x: torch.celu(x, alpha=2.0), "celu(x, alpha=2.0)")),
    ("celu", F.celu): (
        called(lambda x: F.celu(x, 2.0), "celu(x, alpha=2.0)"),
        fresh(lambda x: F.celu(x, alpha=2.0, inplace=True), "celu(sin, alpha=2.0)"),
    ),
    ("softsign", nn.Softsign): (made(nn.Softsign, graph="softsign(x)"),),
    **_plain("softsign", F.softsign),
    ("logsigmoid", nn.LogSigmoid): (made(nn.LogSigmoid, graph="logsigmoid(x)"),),
    **_plain("logsigmoid", F.logsigmoid),
    ("softmax", nn.Softmax): (made(nn.Softmax, 1, graph="softmax(x, dim=1)"), made(nn.Softmax, dim=-1, graph="softmax(x, dim=-1)")),
    ("softmax", F.softmax): (
        called(lambda x: F.softmax(x, 1), "softmax(x, dim=1)"),
        called(lambda x: F.softmax(x, dim=-1), "softmax(x, dim=-1)"),
    ),
    ("softmax", torch.softmax): (
        called(lambda x: torch.softmax(x, 1), "softmax(x, dim=1)"),
        called(lambda x: torch.softmax(x, dim=-1), "softmax(x, dim=-1)"),
    ),
    ("softmax", "softmax"): (
        called(lambda x: x.softmax(1), "softmax(x, dim=1)"),
        called(lambda x: x.softmax(dim=-1), "softmax(x, dim=-1)"),
    ),
}


_AFFINE3 = "@m.weight[3], @m.bias[3]"


def _instance_norm(rank: int, module: type[nn.Module]) -> Examples:
    shape = (D1, D2, D3)[rank - 1]
    tail = "" if rank == 2 else f", rank={rank}"
    return {
        ("instance_norm", module): (
            made(module, 3, graph=f"instance_norm(x{tail})", shape=shape),
            made(module, 3, affine=True, eps=0.1, graph=f"instance_norm(x, {_AFFINE3}{tail}, eps=0.1)", shape=shape),
            made(module, 3, graph=f"instance_norm(x{tail})", shape=shape[1:]),
        )
    }


_SHAPE_OF_Y = ("size(y)", "call _operator.getitem(getattr_1, slice(2, None, None))")

_NORMS: Examples = {
    ("layer_norm", nn.LayerNorm): (
        made(nn.LayerNorm, 8, graph="layer_norm(x, @m.weight[8], @m.bias[8], normalized_shape=(8,))"),
        made(nn.LayerNorm, (8, 8), bias=False, eps=0.1, graph="layer_norm(x, @m.weight[8, 8], normalized_shape=(8, 8), eps=0.1)"),
        made(nn.LayerNorm, [3, 8, 8], elementwise_affine=False, graph="layer_norm(x, normalized_shape=(3, 8, 8))"),
    ),
    ("layer_norm", F.layer_norm): (
        called(lambda x: F.layer_norm(x, (8,)), "layer_norm(x, normalized_shape=(8,))"),
        called(
            lambda x, a, b: F.layer_norm(x, [8], weight=a, bias=b, eps=0.1),
            "layer_norm(x, @m.a[8], @m.b[8], normalized_shape=(8,), eps=0.1)",
            constants=((8,), (8,)),
        ),
    ),
    ("rms_norm", nn.RMSNorm): (
        made(nn.RMSNorm, 8, graph="rms_norm(x, @m.weight[8], normalized_shape=(8,))"),
        made(nn.RMSNorm, 8, 0.1, elementwise_affine=False, graph="rms_norm(x, normalized_shape=(8,), eps=0.1)"),
    ),
    **{
        ("rms_norm", function): (
            called(lambda x, function=function: function(x, (8,)), "rms_norm(x, normalized_shape=(8,))"),
            called(
                lambda x, a, function=function: function(x, [8], weight=a, eps=0.1),
                "rms_norm(x, @m.a[8], normalized_shape=(8,), eps=0.1)",
                constants=((8,),),
            ),
        )
        for function in (F.rms_norm, torch.rms_norm)
    },
    ("group_norm", nn.GroupNorm): (
        made(nn.GroupNorm, 3, 3, graph=f"group_norm(x, {_AFFINE3}, num_groups=3)"),
        made(nn.GroupNorm, 1, 3, affine=False, eps=0.1, graph="group_norm(x, eps=0.1)"),
    ),
    ("group_norm", F.group_norm): (
        called(lambda x: F.group_norm(x, 3), "group_norm(x, num_groups=3)"),
        called(lambda x, a: F.group_norm(x, num_groups=1, weight=a), "group_norm(x, @m.a[3])", constants=((3,),)),
    ),
    ("instance_norm", F.instance_norm): (
        called(lambda x: F.instance_norm(x), "instance_norm(x)"),
        called(lambda x, a: F.instance_norm(x, weight=a, eps=0.1), "instance_norm(x, @m.a[3], eps=0.1)", constants=((3,),)),
    ),
    **_instance_norm(1, nn.InstanceNorm1d),
    **_instance_norm(2, nn.InstanceNorm2d),
    **_instance_norm(3, nn.InstanceNorm3d),
    ("prelu", nn.PReLU): (made(nn.PReLU, graph="prelu(x, @m.weight[1])"), made(nn.PReLU, 3, graph="prelu(x, @m.weight[3])")),
    ("prelu", torch.prelu): (
        called(lambda x, a: torch.prelu(x, a), "prelu(x, @m.a[3])", constants=((3,),)),
        called(lambda x, a: F.prelu(x, weight=a), "prelu(x, @m.a[1])", constants=((1,),)),
    ),
    ("interpolate", nn.Upsample): (
        made(nn.Upsample, scale_factor=2, graph="interpolate(x, scale_factor=2.0)"),
        made(
            nn.Upsample,
            (5, 16),
            mode="bilinear",
            align_corners=True,
            graph="interpolate(x, size=(5, 16), mode='bilinear', align_corners=True)",
        ),
    ),
    ("interpolate", F.interpolate): (
        called(lambda x: F.interpolate(x, 5), "interpolate(x, size=5)"),
        called(lambda x: F.interpolate(x, [5, 9], mode="nearest-exact"), "interpolate(x, size=(5, 9), mode='nearest-exact')"),
        called(
            lambda x: F.interpolate(x, scale_factor=(2.0, 0.5), mode="bilinear"),
            "interpolate(x, scale_factor=(2.0, 0.5), mode='bilinear')",
        ),
        called(lambda x, y: F.interpolate(x, y.shape[2:]), *_SHAPE_OF_Y, "interpolate(x, size=getitem)", second=True),
    ),
}


class _Indices(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.abs().long()


_INDICES = ("abs(x)", "method long(abs_1)")


def _embedding(**options: Any) -> Callable[[], nn.Module]:
    return lambda: nn.Sequential(_Indices(), nn.Embedding(5, 4, **options))


_LOOKED_UP: Examples = {
    ("embedding", nn.Embedding): (
        Example(_embedding(), (*_INDICES, "embedding(long, @m.1.weight[5, 4])")),
        Example(_embedding(padding_idx=0), (*_INDICES, "embedding(long, @m.1.weight[5, 4], padding_idx=0)")),
    ),
    ("embedding", F.embedding): (
        called(lambda x, a: F.embedding(x.abs().long(), a), *_INDICES, "embedding(long, @m.a[5, 4])", constants=((5, 4),)),
    ),
}

EXAMPLES: Examples = {**_NORMS, **_ACCUMULATORS, **_UNARY, **POOLING, **PRODUCTS, **MOVEMENT, **_LOOKED_UP}

"""How each row of OPS is written in PyTorch, spelling by spelling, and the graph that must come of it.

`EXAMPLES[op name, spelling target]` lists what a user writes. The graph is text: the right sides of its lines, without types.
`m` is the module of a module example, `a`, `b`, ... are constants of the model, `x` and `y` are inputs.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

D1, D2, D3 = (2, 3, 8), (2, 3, 8, 8), (2, 3, 4, 4, 4)


@dataclass(frozen=True)
class Example:
    """What a user writes.

    Attributes:
        make: makes the module, or returns the function of input, constants and second input, in this order.
        graph: lines after the inputs, and before the output.
        shape: of the input `x`, and of `y` where there is one.
        constants: shapes of parameters `a`, `b`, ... of the model; values are positive.
        second: there is an input `y`.
    """

    make: Callable[[], Callable[..., Any]]
    graph: tuple[str, ...]
    shape: tuple[int, ...] = D2
    constants: tuple[tuple[int, ...], ...] = ()
    second: bool = False

    def model(self) -> nn.Module:
        """The example as a model in eval mode."""
        torch.manual_seed(0)
        made = self.make()
        inner = made if isinstance(made, nn.Module) else _Applied(made, self.constants)
        model: nn.Module = (_OfTwo if self.second else _OfOne)(inner)
        return model.eval()

    def inputs(self, seed: int = 1) -> tuple[Tensor, ...]:
        generator = torch.Generator().manual_seed(seed)
        return tuple(torch.randn(self.shape, generator=generator) for _ in range(2 if self.second else 1))


class _Applied(nn.Module):
    def __init__(self, function: Callable[..., Any], shapes: tuple[tuple[int, ...], ...]) -> None:
        super().__init__()
        self.function = function
        for name, shape in zip("abcde", shapes, strict=False):
            self.register_parameter(name, nn.Parameter(torch.rand(shape) + 0.5))

    def forward(self, x: Tensor, *others: Tensor) -> Any:
        return self.function(x, *self._parameters.values(), *others)


class _OfOne(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.m = inner

    def forward(self, x: Tensor) -> Any:
        return self.m(x)


class _OfTwo(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.m = inner

    def forward(self, x: Tensor, y: Tensor) -> Any:
        return self.m(x, y)


def made(kind: type[nn.Module], *args: Any, graph: str, shape: tuple[int, ...] = D2, **kwargs: Any) -> Example:
    """A module of torch.nn, with its running statistics away from 0 and 1."""

    def make() -> nn.Module:
        module = kind(*args, **kwargs)
        for name, buffer in module.named_buffers():
            if buffer.is_floating_point():
                buffer.copy_(torch.rand(buffer.shape) + (0.5 if "var" in name else -0.5))
        return module

    return Example(make, (graph,), shape)


def called(
    function: Callable[..., Any],
    *graph: str,
    shape: tuple[int, ...] = D2,
    constants: tuple[tuple[int, ...], ...] = (),
    second: bool = False,
) -> Example:
    """A function of x."""
    return Example(lambda: function, graph, shape, constants, second)


def fresh(function: Callable[[Tensor], Any], *graph: str, shape: tuple[int, ...] = D2) -> Example:
    """A function that writes into its input, called on a value that the model has made itself."""
    return Example(lambda: lambda x: function(x.neg()), ("method neg(x)", *graph), shape)


_CONV = "@m.weight[4, 3, 3], @m.bias[4]"
_BN = "@m.running_mean[3], @m.running_var[3], @m.weight[3], @m.bias[3]"
_BN_STATISTICS = ((3,),) * 4

Key = tuple[str, Any]


def _unary(name: str, module: type[nn.Module], function: Callable[..., Any]) -> Mapping[Key, tuple[Example, ...]]:
    """A function of one tensor that is also a module with `inplace`."""
    return {
        (name, module): (made(module, graph=f"{name}(x)"), made(module, inplace=True, graph=f"{name}(x)")),
        (name, function): (
            called(lambda x: function(x), f"{name}(x)"),
            called(lambda x: function(input=x), f"{name}(x)"),
            fresh(lambda x: function(x, inplace=True), f"{name}(neg)"),
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
        fresh(lambda x: target(x, 2.0), f"{name}(neg, 2.0)"),
        Example(lambda: lambda x, y: target(x.neg(), y), ("method neg(x)", f"{name}(neg, y)"), second=True),
    )


def _pads(constant: type[nn.Module], size: int, shape: tuple[int, ...]) -> Example:
    pads = tuple(range(1, 2 * size + 1))
    return made(constant, pads, 1.5, graph=f"pad(x, pad={pads}, value=1.5)", shape=shape)


def _padded(kind: type[nn.Module], rank: int, tail: str) -> tuple[Example, ...]:
    shape = (D1, D2, D3)[rank - 1]
    pads = (1, 2, 1, 0, 2, 1)[: 2 * rank]
    return (
        made(kind, pads, graph=f"pad(x, pad={pads}{tail})", shape=shape),
        made(kind, 1, graph=f"pad(x, pad={(1,) * (2 * rank)}{tail})", shape=shape),
    )


_ACCUMULATORS: Mapping[Key, tuple[Example, ...]] = {
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
        fresh(lambda x: x.add_(x, alpha=2), "add(neg, neg, alpha=2)"),
    ),
    ("sub", torch.sub): (*_binary("sub", torch.sub), called(lambda x, y: torch.sub(x, y, alpha=3), "sub(x, y, alpha=3)", second=True)),
    ("sub", operator.sub): _operator("sub", operator.sub),
    ("sub", "sub"): _binary("sub", lambda x, other: x.sub(other)),
    ("sub", operator.isub): _in_place_binary("sub", operator.isub),
    ("sub", "sub_"): _in_place_binary("sub", lambda x, other: x.sub_(other)),
    ("mul", torch.mul): _binary("mul", torch.mul),
    ("mul", operator.mul): _operator("mul", operator.mul),
    ("mul", "mul"): _binary("mul", lambda x, other: x.mul(other)),
    ("mul", operator.imul): _in_place_binary("mul", operator.imul),
    ("mul", "mul_"): _in_place_binary("mul", lambda x, other: x.mul_(other)),
}


def _clamps(function: Callable[..., Any], write: Callable[..., Any], name: str) -> Mapping[Key, tuple[Example, ...]]:
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
        ("clamp", write): (fresh(lambda x: write(x, 0.0, 6.0), "clamp(neg, min=0.0, max=6.0)"),),
        ("clamp", method_in_place): (fresh(lambda x: method(method_in_place, max=0.5)(x), "clamp(neg, max=0.5)"),),
    }


_UNARY: Mapping[Key, tuple[Example, ...]] = {
    **_unary("relu", nn.ReLU, F.relu),
    ("relu", torch.relu): (called(lambda x: torch.relu(x), "relu(x)"),),
    ("relu", "relu"): (called(lambda x: x.relu(), "relu(x)"),),
    ("relu", F.relu_): (fresh(lambda x: F.relu_(x), "relu(neg)"),),
    ("relu", "relu_"): (fresh(lambda x: x.relu_(), "relu(neg)"),),
    **_clamps(torch.clamp, torch.clamp_, "clamp"),
    **_clamps(torch.clip, torch.clip_, "clip"),
    ("clamp", torch.clamp_min): (
        called(lambda x: torch.clamp_min(x, 0.25), "clamp(x, min=0.25)"),
        called(lambda x: torch.clamp_min(x, min=0), "clamp(x, min=0)"),
    ),
    ("clamp", "clamp_min"): (called(lambda x: x.clamp_min(0.25), "clamp(x, min=0.25)"),),
    ("clamp", torch.clamp_min_): (fresh(lambda x: torch.clamp_min_(x, 0.25), "clamp(neg, min=0.25)"),),
    ("clamp", "clamp_min_"): (fresh(lambda x: x.clamp_min_(min=0.25), "clamp(neg, min=0.25)"),),
    ("clamp", torch.clamp_max): (called(lambda x: torch.clamp_max(x, 0.25), "clamp(x, max=0.25)"),),
    ("clamp", "clamp_max"): (called(lambda x: x.clamp_max(max=0.25), "clamp(x, max=0.25)"),),
    ("clamp", torch.clamp_max_): (fresh(lambda x: torch.clamp_max_(x, 0.25), "clamp(neg, max=0.25)"),),
    ("clamp", "clamp_max_"): (fresh(lambda x: x.clamp_max_(0.25), "clamp(neg, max=0.25)"),),
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
        fresh(lambda x: F.relu6(x, True), "clamp(neg, min=0.0, max=6.0)"),
    ),
    ("clamp", F.hardtanh): (
        called(lambda x: F.hardtanh(x), "clamp(x, min=-1.0, max=1.0)"),
        called(lambda x: F.hardtanh(x, min_val=-3, max_val=0.5), "clamp(x, min=-3.0, max=0.5)"),
        fresh(lambda x: F.hardtanh(x, -0.5, 0.5, True), "clamp(neg, min=-0.5, max=0.5)"),
    ),
    ("clamp", F.hardtanh_): (fresh(lambda x: F.hardtanh_(x, -0.5, 0.5), "clamp(neg, min=-0.5, max=0.5)"),),
    ("leaky_relu", nn.LeakyReLU): (
        made(nn.LeakyReLU, graph="leaky_relu(x)"),
        made(nn.LeakyReLU, 0.2, True, graph="leaky_relu(x, negative_slope=0.2)"),
    ),
    ("leaky_relu", F.leaky_relu): (
        called(lambda x: F.leaky_relu(x, 0.3), "leaky_relu(x, negative_slope=0.3)"),
        fresh(lambda x: F.leaky_relu(x, inplace=True), "leaky_relu(neg)"),
    ),
    ("leaky_relu", F.leaky_relu_): (fresh(lambda x: F.leaky_relu_(x, 0.3), "leaky_relu(neg, negative_slope=0.3)"),),
    ("elu", nn.ELU): (made(nn.ELU, graph="elu(x)"), made(nn.ELU, 0.5, True, graph="elu(x, alpha=0.5)")),
    ("elu", F.elu): (
        called(lambda x: F.elu(x, 2.0), "elu(x, alpha=2.0)"),
        fresh(lambda x: F.elu(x, alpha=2.0, inplace=True), "elu(neg, alpha=2.0)"),
    ),
    ("elu", F.elu_): (fresh(lambda x: F.elu_(x), "elu(neg)"),),
    ("sigmoid", nn.Sigmoid): (made(nn.Sigmoid, graph="sigmoid(x)"),),
    ("sigmoid", torch.sigmoid): (called(lambda x: torch.sigmoid(x), "sigmoid(x)"),),
    ("sigmoid", F.sigmoid): (called(lambda x: F.sigmoid(x), "sigmoid(x)"),),
    ("sigmoid", "sigmoid"): (called(lambda x: x.sigmoid(), "sigmoid(x)"),),
    ("sigmoid", torch.sigmoid_): (fresh(lambda x: torch.sigmoid_(x), "sigmoid(neg)"),),
    ("sigmoid", "sigmoid_"): (fresh(lambda x: x.sigmoid_(), "sigmoid(neg)"),),
    ("tanh", nn.Tanh): (made(nn.Tanh, graph="tanh(x)"),),
    ("tanh", torch.tanh): (called(lambda x: torch.tanh(x), "tanh(x)"),),
    ("tanh", F.tanh): (called(lambda x: F.tanh(x), "tanh(x)"),),
    ("tanh", "tanh"): (called(lambda x: x.tanh(), "tanh(x)"),),
    ("tanh", torch.tanh_): (fresh(lambda x: torch.tanh_(x), "tanh(neg)"),),
    ("tanh", "tanh_"): (fresh(lambda x: x.tanh_(), "tanh(neg)"),),
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


def _pool(kind: str, rank: int, module: type[nn.Module], function: Callable[..., Any]) -> Mapping[Key, tuple[Example, ...]]:
    shape, two, one, three = (D1, D2, D3)[rank - 1], (2,) * rank, (1,) * rank, (3,) * rank
    return {
        (kind, module): (
            made(module, 2, graph=f"{kind}(x, kernel_size={two}, stride={two})", shape=shape),
            made(
                module,
                3,
                stride=1,
                padding=1,
                ceil_mode=True,
                graph=f"{kind}(x, kernel_size={three}, stride={one}, padding={one}, ceil_mode=True)",
                shape=shape,
            ),
        ),
        (kind, function): (
            called(lambda x: function(x, 2), f"{kind}(x, kernel_size={two}, stride={two})", shape=shape),
            called(
                lambda x: function(x, kernel_size=[3] * rank, stride=1, padding=1),
                f"{kind}(x, kernel_size={three}, stride={one}, padding={one})",
                shape=shape,
            ),
        ),
    }


def _adaptive(kind: str, rank: int, module: type[nn.Module], function: Callable[..., Any]) -> Mapping[Key, tuple[Example, ...]]:
    shape, three = (D1, D2, D3)[rank - 1], (3,) * rank
    return {
        (kind, module): (made(module, 3, graph=f"{kind}(x, output_size={three})", shape=shape),),
        (kind, function): (
            called(lambda x: function(x, 3), f"{kind}(x, output_size={three})", shape=shape),
            called(lambda x: function(x, output_size=[3] * rank), f"{kind}(x, output_size={three})", shape=shape),
        ),
    }


_POOLING: Mapping[Key, tuple[Example, ...]] = {
    **_pool("max_pool", 1, nn.MaxPool1d, F.max_pool1d),
    **_pool("max_pool", 2, nn.MaxPool2d, F.max_pool2d),
    **_pool("max_pool", 3, nn.MaxPool3d, F.max_pool3d),
    ("max_pool", torch.max_pool1d): (
        called(lambda x: torch.max_pool1d(x, 3, 1, 1, 1), "max_pool(x, kernel_size=(3,), stride=(1,), padding=(1,))", shape=D1),
    ),
    ("max_pool", torch.max_pool2d): (
        called(lambda x: torch.max_pool2d(x, (2, 3), dilation=2), "max_pool(x, kernel_size=(2, 3), stride=(2, 3), dilation=(2, 2))"),
    ),
    ("max_pool", torch.max_pool3d): (
        called(lambda x: torch.max_pool3d(x, 2, 1), "max_pool(x, kernel_size=(2, 2, 2), stride=(1, 1, 1))", shape=D3),
    ),
    **_adaptive("adaptive_max_pool", 1, nn.AdaptiveMaxPool1d, F.adaptive_max_pool1d),
    **_adaptive("adaptive_max_pool", 2, nn.AdaptiveMaxPool2d, F.adaptive_max_pool2d),
    **_adaptive("adaptive_max_pool", 3, nn.AdaptiveMaxPool3d, F.adaptive_max_pool3d),
    **_pool("avg_pool", 1, nn.AvgPool1d, F.avg_pool1d),
    **_pool("avg_pool", 2, nn.AvgPool2d, F.avg_pool2d),
    **_pool("avg_pool", 3, nn.AvgPool3d, F.avg_pool3d),
    **_adaptive("adaptive_avg_pool", 1, nn.AdaptiveAvgPool1d, F.adaptive_avg_pool1d),
    **_adaptive("adaptive_avg_pool", 2, nn.AdaptiveAvgPool2d, F.adaptive_avg_pool2d),
    **_adaptive("adaptive_avg_pool", 3, nn.AdaptiveAvgPool3d, F.adaptive_avg_pool3d),
    ("mean", torch.mean): (
        called(lambda x: torch.mean(x), "mean(x)"),
        called(lambda x: torch.mean(x, (2, 3)), "mean(x, dim=(2, 3))"),
        called(lambda x: torch.mean(x, dim=1, keepdim=True), "mean(x, dim=1, keepdim=True)"),
    ),
    ("mean", "mean"): (
        called(lambda x: x.mean(), "mean(x)"),
        called(lambda x: x.mean([2, 3], True), "mean(x, dim=(2, 3), keepdim=True)"),
        called(lambda x: x.mean(-1), "mean(x, dim=-1)"),
    ),
}


def _joins(function: Callable[..., Any]) -> tuple[Example, ...]:
    return (
        called(lambda x, y: function([x, y], 1), "cat((x, y), dim=1)", second=True),
        called(lambda x, y: function((x, y, x)), "cat((x, y, x))", second=True),
        called(lambda x, a: function(tensors=(x, a), dim=-1), "cat((x, @m.a[2, 3, 8, 1]), dim=-1)", constants=((2, 3, 8, 1),)),
    )


_MOVEMENT: Mapping[Key, tuple[Example, ...]] = {
    ("cat", torch.cat): _joins(torch.cat),
    ("cat", torch.concat): _joins(torch.concat),
    ("cat", torch.concatenate): _joins(torch.concatenate),
    ("pad", F.pad): (
        called(lambda x: F.pad(x, (1, 2, 1, 0)), "pad(x, pad=(1, 2, 1, 0))"),
        called(lambda x: F.pad(x, [1, 2], "constant", 3.0), "pad(x, pad=(1, 2), value=3.0)"),
        called(lambda x: F.pad(x, pad=(1, 1, 2, 2), mode="reflect"), "pad(x, pad=(1, 1, 2, 2), mode='reflect')"),
        called(lambda x: F.pad(x, (-1, 2)), "pad(x, pad=(-1, 2))"),
    ),
    ("pad", nn.ConstantPad1d): (_pads(nn.ConstantPad1d, 1, D1),),
    ("pad", nn.ConstantPad2d): (_pads(nn.ConstantPad2d, 2, D2),),
    ("pad", nn.ConstantPad3d): (_pads(nn.ConstantPad3d, 3, D3),),
    ("pad", nn.ZeroPad1d): _padded(nn.ZeroPad1d, 1, ", value=0.0"),
    ("pad", nn.ZeroPad2d): _padded(nn.ZeroPad2d, 2, ", value=0.0"),
    ("pad", nn.ZeroPad3d): _padded(nn.ZeroPad3d, 3, ", value=0.0"),
    ("pad", nn.ReflectionPad1d): _padded(nn.ReflectionPad1d, 1, ", mode='reflect'"),
    ("pad", nn.ReflectionPad2d): _padded(nn.ReflectionPad2d, 2, ", mode='reflect'"),
    ("pad", nn.ReflectionPad3d): _padded(nn.ReflectionPad3d, 3, ", mode='reflect'"),
    ("pad", nn.ReplicationPad1d): _padded(nn.ReplicationPad1d, 1, ", mode='replicate'"),
    ("pad", nn.ReplicationPad2d): _padded(nn.ReplicationPad2d, 2, ", mode='replicate'"),
    ("pad", nn.ReplicationPad3d): _padded(nn.ReplicationPad3d, 3, ", mode='replicate'"),
    ("pad", nn.CircularPad1d): _padded(nn.CircularPad1d, 1, ", mode='circular'"),
    ("pad", nn.CircularPad2d): _padded(nn.CircularPad2d, 2, ", mode='circular'"),
    ("pad", nn.CircularPad3d): _padded(nn.CircularPad3d, 3, ", mode='circular'"),
    ("flatten", nn.Flatten): (made(nn.Flatten, graph="flatten(x, start_dim=1)"), made(nn.Flatten, 2, -1, graph="flatten(x, start_dim=2)")),
    ("flatten", torch.flatten): (
        called(lambda x: torch.flatten(x), "flatten(x)"),
        called(lambda x: torch.flatten(x, 1, end_dim=2), "flatten(x, start_dim=1, end_dim=2)"),
    ),
    ("flatten", "flatten"): (called(lambda x: x.flatten(1), "flatten(x, start_dim=1)"),),
    ("reshape", torch.reshape): (
        called(lambda x: torch.reshape(x, (2, -1)), "reshape(x, shape=(2, -1))"),
        called(lambda x: torch.reshape(x, shape=[6, 64]), "reshape(x, shape=(6, 64))"),
        called(lambda x: torch.reshape(x, (x.size(0), -1)), "size(x, dim=0)", "reshape(x, shape=(size, -1))"),
    ),
    ("reshape", "reshape"): (
        called(lambda x: x.reshape(2, -1), "reshape(x, shape=(2, -1))"),
        called(lambda x: x.reshape((2, -1)), "reshape(x, shape=(2, -1))"),
        called(lambda x: x.reshape(shape=(2, -1)), "reshape(x, shape=(2, -1))"),
        called(lambda x: x.reshape(-1), "reshape(x, shape=(-1,))"),
        called(lambda x, y: x.reshape(y.shape), "size(y)", "reshape(x, shape=getattr_1)", second=True),
        called(lambda x: x.reshape(x.shape[0], -1), "size(x)", "call _operator.getitem(getattr_1, 0)", "reshape(x, shape=(getitem, -1))"),
    ),
    ("reshape", "view"): (
        called(lambda x: x.view(2, -1), "reshape(x, shape=(2, -1))"),
        called(lambda x: x.view([6, 64]), "reshape(x, shape=(6, 64))"),
        called(lambda x: x.view(x.size(0), 3, 64), "size(x, dim=0)", "reshape(x, shape=(size, 3, 64))"),
        called(lambda x: x.view(-1), "reshape(x, shape=(-1,))"),
        called(lambda x, y: x.view(y.size()), "size(y)", "reshape(x, shape=size)", second=True),
        called(lambda x: x.view(x.numel()), "method numel(x)", "reshape(x, shape=numel)"),
    ),
    ("permute", torch.permute): (
        called(lambda x: torch.permute(x, (0, 2, 3, 1)), "permute(x, dims=(0, 2, 3, 1))"),
        called(lambda x: torch.permute(x, dims=[0, 2, 3, 1]), "permute(x, dims=(0, 2, 3, 1))"),
    ),
    ("permute", "permute"): (
        called(lambda x: x.permute(0, 2, 3, 1), "permute(x, dims=(0, 2, 3, 1))"),
        called(lambda x: x.permute((0, 2, 3, 1)), "permute(x, dims=(0, 2, 3, 1))"),
        called(lambda x: x.permute(dims=(0, 2, 3, 1)), "permute(x, dims=(0, 2, 3, 1))"),
    ),
    ("transpose", torch.transpose): (
        called(lambda x: torch.transpose(x, 1, -1), "transpose(x, dim0=1, dim1=-1)"),
        called(lambda x: torch.transpose(x, dim0=0, dim1=1), "transpose(x, dim0=0, dim1=1)"),
    ),
    ("transpose", "transpose"): (called(lambda x: x.transpose(-1, -2), "transpose(x, dim0=-1, dim1=-2)"),),
    ("squeeze", torch.squeeze): (
        called(lambda x: torch.squeeze(x), "squeeze(x)", shape=(1, 3, 1)),
        called(lambda x: torch.squeeze(x, dim=2), "squeeze(x, dim=2)", shape=(1, 3, 1)),
        called(lambda x: torch.squeeze(x, (0, 2)), "squeeze(x, dim=(0, 2))", shape=(1, 3, 1)),
    ),
    ("squeeze", "squeeze"): (
        called(lambda x: x.squeeze(), "squeeze(x)", shape=(1, 3, 1)),
        called(lambda x: x.squeeze(-1), "squeeze(x, dim=-1)", shape=(1, 3, 1)),
    ),
    ("unsqueeze", torch.unsqueeze): (called(lambda x: torch.unsqueeze(x, 1), "unsqueeze(x, dim=1)"),),
    ("unsqueeze", "unsqueeze"): (called(lambda x: x.unsqueeze(dim=-1), "unsqueeze(x, dim=-1)"),),
    ("contiguous", "contiguous"): (
        called(lambda x: x.transpose(1, 2).contiguous(), "transpose(x, dim0=1, dim1=2)", "contiguous(transpose)"),
    ),
    ("getitem", operator.getitem): (
        called(lambda x: x[:, 1], "getitem(x, index=(slice(None, None, None), 1))"),
        called(lambda x: x[..., 1:7:2, None], "getitem(x, index=(Ellipsis, slice(1, 7, 2), None))"),
        called(lambda x: x[0], "getitem(x, index=0)"),
    ),
    ("identity", nn.Identity): (made(nn.Identity, graph="identity(x)"), made(nn.Identity, 54, unused=True, graph="identity(x)")),
    ("dropout", nn.Dropout): (
        made(nn.Dropout, graph="dropout(x, training=False)"),
        made(nn.Dropout, 0.2, True, graph="dropout(x, p=0.2, training=False)"),
    ),
    ("dropout", nn.Dropout1d): (made(nn.Dropout1d, graph="dropout(x, training=False)", shape=D1),),
    ("dropout", nn.Dropout2d): (made(nn.Dropout2d, 0.2, graph="dropout(x, p=0.2, training=False)"),),
    ("dropout", nn.Dropout3d): (made(nn.Dropout3d, graph="dropout(x, training=False)", shape=D3),),
    ("dropout", F.dropout): (
        called(lambda x: F.dropout(x, 0.1, False), "dropout(x, p=0.1, training=False)"),
        called(lambda x: F.dropout(x, training=False), "dropout(x, training=False)"),
    ),
    ("size", "size"): (
        called(lambda x: x.size(), "size(x)"),
        called(lambda x: x.size(1), "size(x, dim=1)"),
        called(lambda x: x.size(dim=-1), "size(x, dim=-1)"),
    ),
    ("size", getattr): (called(lambda x: x.shape, "size(x)"),),
}

EXAMPLES: Mapping[Key, tuple[Example, ...]] = {**_ACCUMULATORS, **_UNARY, **_POOLING, **_MOVEMENT}

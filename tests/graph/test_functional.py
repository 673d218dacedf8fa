"""Each canonical function is torch's own, with a residual and an activation behind it where it holds accumulators."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fxq.graph import elementary as e
from fxq.graph import functional as f
from fxq.graph import movement as m
from fxq.graph import products as p
from fxq.graph.opdef import Policy
from fxq.graph.ops import OPS
from fxq.graph.qtypes import ACTIVATION, QParams, QuantSpec, choose_qparams, dequantize_tensor, quantize_tensor

X = torch.randn(2, 4, 6, 6, generator=torch.Generator().manual_seed(0))
Y = torch.randn(2, 4, 6, 6, generator=torch.Generator().manual_seed(1))
W = torch.randn(4, 2, 3, 3, generator=torch.Generator().manual_seed(2))
V = torch.rand(4, generator=torch.Generator().manual_seed(3)) + 0.5
W3 = torch.randn(4, 6, 6, generator=torch.Generator().manual_seed(5))
L = torch.randn(5, 6, generator=torch.Generator().manual_seed(4))
BYTES = torch.tensor([[1, -2, 3], [0, 127, -128], [5, 5, 5], [-1, 0, 1]], dtype=torch.int8)
HALF = torch.randn(2, 3).to(torch.float16)
I = torch.tensor([3, 0, 3])  # noqa: E741

# op → (canonical call, what torch calls it)
CALLS: dict[str, list[tuple[Callable[[], Any], Callable[[], Any]]]] = {
    "conv": [
        (lambda: f.conv(X, W, V, (1, 2), (1, 0), (2, 1), 2), lambda: F.conv2d(X, W, V, (1, 2), (1, 0), (2, 1), 2)),
        (lambda: f.conv(X[..., 0], W[..., 0], groups=2), lambda: F.conv1d(X[..., 0], W[..., 0], groups=2)),
        (lambda: f.conv(X[:, :, None], W[:, :, None], groups=2), lambda: F.conv3d(X[:, :, None], W[:, :, None], groups=2)),
        (lambda: f.conv(X[0], W, groups=2), lambda: F.conv2d(X[0], W, groups=2)),
    ],
    "linear": [
        (lambda: f.linear(X, L), lambda: F.linear(X, L)),
        (lambda: f.linear(X[0, 0, 0], L, L[:, 0]), lambda: F.linear(X[0, 0, 0], L, L[:, 0])),
    ],
    "batch_norm": [(lambda: f.batch_norm(X, V, V + 1, V - 1, V, eps=0.1), lambda: F.batch_norm(X, V, V + 1, V - 1, V, eps=0.1))],
    "add": [
        (lambda: f.add(X, Y), lambda: X + Y),
        (lambda: f.add(X, Y, 2.5), lambda: torch.add(X, Y, alpha=2.5)),
        (lambda: f.add(1, X), lambda: 1 + X),
    ],
    "sub": [
        (lambda: f.sub(X, Y), lambda: X - Y),
        (lambda: f.sub(X, Y, 2.5), lambda: torch.sub(X, Y, alpha=2.5)),
        (lambda: f.sub(1, X), lambda: 1 - X),
    ],
    "mul": [(lambda: f.mul(X, Y), lambda: X * Y), (lambda: f.mul(2, X), lambda: 2 * X)],
    "div": [(lambda: f.div(X, Y), lambda: X / Y), (lambda: f.div(X, 3), lambda: X / 3), (lambda: f.div(2, X), lambda: 2 / X)],
    "conv_transpose": [
        (lambda: f.conv_transpose(X, W, V[:2], (1, 2), (1, 0), (0, 1), 1, (2, 1)),
         lambda: F.conv_transpose2d(X, W, V[:2], (1, 2), (1, 0), (0, 1), 1, (2, 1))),
        (lambda: f.conv_transpose(X[..., 0], W[..., 0], groups=2), lambda: F.conv_transpose1d(X[..., 0], W[..., 0], groups=2)),
        (lambda: f.conv_transpose(X[:, :, None], W[:, :, None]), lambda: F.conv_transpose3d(X[:, :, None], W[:, :, None])),
        (lambda: f.conv_transpose(X[0], W, act=f.RELU), lambda: F.conv_transpose2d(X[0], W).relu()),
    ],
    "matmul": [(lambda: p.matmul(X, Y), lambda: X @ Y), (lambda: p.matmul(X[0, 0], Y), lambda: X[0, 0] @ Y)],
    "addcmul": [(lambda: p.addcmul(X, (X, V[:, None, None]), 0.5), lambda: torch.addcmul(X, X, V[:, None, None], value=0.5))],
    "addmm": [
        (lambda: p.addmm(V, (X[0, 0], X[0, 1, :, :4])), lambda: torch.addmm(V, X[0, 0], X[0, 1, :, :4])),
        (lambda: p.addmm(X[0], (X[0], X[1]), 0.5, 2), lambda: torch.baddbmm(X[0], X[0], X[1], beta=0.5, alpha=2)),
        (lambda: p.addmm(X[0] * math.nan, (X[0], X[1]), 0), lambda: torch.baddbmm(X[0] * math.nan, X[0], X[1], beta=0)),
    ],
    "glu": [(lambda: p.glu(X, 1), lambda: F.glu(X, 1))],
    "bilinear": [(lambda: p.bilinear(X, X, W3, V), lambda: F.bilinear(X, X, W3, V))],
    "einsum": [(lambda: p.einsum((X, L), "bchw,ow->bcho"), lambda: torch.einsum("bchw,ow->bcho", X, L))],
    "attention": [
        (lambda: p.attention(X, Y, X, X[:, :, 0, None, :1] > 0, scale=0.3),
         lambda: F.scaled_dot_product_attention(X, Y, X, attn_mask=X[:, :, 0, None, :1] > 0, scale=0.3)),
        (lambda: p.attention(X, Y[:, :1], X[:, :1], is_causal=True, enable_gqa=True),
         lambda: F.scaled_dot_product_attention(X, Y[:, :1], X[:, :1], is_causal=True, enable_gqa=True)),
    ],
    "embedding": [
        (lambda: f.embedding(I, L), lambda: F.embedding(I, L)),
        (lambda: f.embedding(I, L, 1, sparse=True), lambda: F.embedding(I, L, padding_idx=1, sparse=True)),
    ],
    "relu": [(lambda: f.relu(X), lambda: F.relu(X))],
    "clamp": [(lambda: f.clamp(X, -0.5), lambda: X.clamp(min=-0.5)), (lambda: f.clamp(X, max=V[0]), lambda: X.clamp(max=V[0]))],
    "leaky_relu": [(lambda: f.leaky_relu(X, 0.2), lambda: F.leaky_relu(X, 0.2))],
    "elu": [(lambda: f.elu(X, 2.0), lambda: F.elu(X, 2.0))],
    "sigmoid": [(lambda: f.sigmoid(X), lambda: torch.sigmoid(X))],
    "tanh": [(lambda: f.tanh(X), lambda: torch.tanh(X))],
    "hardsigmoid": [(lambda: f.hardsigmoid(X), lambda: F.hardsigmoid(X))],
    "hardswish": [(lambda: f.hardswish(X), lambda: F.hardswish(X))],
    "silu": [(lambda: f.silu(X), lambda: F.silu(X))],
    "gelu": [(lambda: f.gelu(X), lambda: F.gelu(X)), (lambda: f.gelu(X, "tanh"), lambda: F.gelu(X, approximate="tanh"))],
    "mish": [(lambda: f.mish(X), lambda: F.mish(X))],
    "softplus": [(lambda: f.softplus(X, 2.0, 1.0), lambda: F.softplus(X, 2.0, 1.0))],
    "neg": [(lambda: e.neg(X), lambda: -X)],
    "abs": [(lambda: e.abs(X), lambda: X.abs())],
    "exp": [(lambda: e.exp(X), lambda: X.exp())],
    "sqrt": [(lambda: e.sqrt(V), lambda: V.sqrt())],
    "square": [(lambda: e.square(X), lambda: X.square())],
    "pow": [(lambda: e.pow(V, 0.5), lambda: V.sqrt()), (lambda: e.pow(X, 3), lambda: X**3)],
    "expm1": [(lambda: e.expm1(X), lambda: X.expm1())],
    "log1p": [(lambda: e.log1p(V), lambda: V.log1p())],
    "erf": [(lambda: e.erf(X), lambda: X.erf())],
    "hardshrink": [(lambda: f.hardshrink(X, 0.2), lambda: F.hardshrink(X, 0.2))],
    "softshrink": [(lambda: f.softshrink(X, 0.2), lambda: F.softshrink(X, 0.2))],
    "tanhshrink": [(lambda: f.tanhshrink(X), lambda: F.tanhshrink(X))],
    "threshold": [(lambda: f.threshold(X, 0.2, -3.0), lambda: F.threshold(X, 0.2, -3.0))],
    "selu": [(lambda: f.selu(X), lambda: F.selu(X))],
    "celu": [(lambda: f.celu(X, 2.0), lambda: F.celu(X, 2.0))],
    "softsign": [(lambda: f.softsign(X), lambda: F.softsign(X))],
    "logsigmoid": [(lambda: f.logsigmoid(X), lambda: F.logsigmoid(X))],
    "softmax": [(lambda: f.softmax(X, 1), lambda: F.softmax(X, 1))],
    "layer_norm": [
        (lambda: f.layer_norm(X, normalized_shape=(6,)), lambda: F.layer_norm(X, (6,))),
        (lambda: f.layer_norm(X, L[0], L[1], 6, 0.1), lambda: F.layer_norm(X, (6,), L[0], L[1], 0.1)),
    ],
    "rms_norm": [
        (lambda: f.rms_norm(X, normalized_shape=(6,)), lambda: F.rms_norm(X, (6,))),
        (lambda: f.rms_norm(X, L[0], 6, 0.1), lambda: F.rms_norm(X, (6,), L[0], 0.1)),
    ],
    "group_norm": [
        (lambda: f.group_norm(X, V, V, 2, 0.1), lambda: F.group_norm(X, 2, V, V, 0.1)),
        (lambda: f.group_norm(X, num_groups=4), lambda: F.group_norm(X, 4)),
    ],
    "instance_norm": [
        (lambda: f.instance_norm(X, V, V, 2, 0.1), lambda: F.instance_norm(X, weight=V, bias=V, eps=0.1)),
        (lambda: f.instance_norm(X[0], V), lambda: F.instance_norm(X[:1], weight=V)[0]),
        (lambda: f.instance_norm(X[0], rank=1), lambda: F.instance_norm(X[0])),
    ],
    "prelu": [(lambda: f.prelu(X, V), lambda: F.prelu(X, V)), (lambda: f.prelu(X, V[:1]), lambda: F.prelu(X, V[:1]))],
    "interpolate": [
        (lambda: f.interpolate(X, (3, 9)), lambda: F.interpolate(X, (3, 9))),
        (lambda: f.interpolate(X, None, (2.0, 1.5), "bilinear", True),
         lambda: F.interpolate(X, None, (2.0, 1.5), "bilinear", True)),
    ],
    "max_pool": [
        (lambda: f.max_pool(X, (3, 2), (1, 2), (1, 1), (2, 1), True), lambda: F.max_pool2d(X, (3, 2), (1, 2), (1, 1), (2, 1), True)),
        (lambda: f.max_pool(X[0], (2,), (2,)), lambda: F.max_pool1d(X[0], 2)),
        (lambda: f.max_pool(X, (2, 2, 2), (2, 2, 2)), lambda: F.max_pool3d(X, 2)),
    ],
    "adaptive_max_pool": [
        (lambda: f.adaptive_max_pool(X, (4, 1)), lambda: F.adaptive_max_pool2d(X, (4, 1))),
        (lambda: f.adaptive_max_pool(X[0], (5,)), lambda: F.adaptive_max_pool1d(X[0], 5)),
        (lambda: f.adaptive_max_pool(X, (1, 2, 3)), lambda: F.adaptive_max_pool3d(X, (1, 2, 3))),
    ],
    "avg_pool": [
        (lambda: f.avg_pool(X, (3, 3), (2, 2), (1, 1), True, False, 7), lambda: F.avg_pool2d(X, 3, 2, 1, True, False, 7)),
        (lambda: f.avg_pool(X[0], (3,), (1,), (1,), True, False), lambda: F.avg_pool1d(X[0], 3, 1, 1, True, False)),
        (lambda: f.avg_pool(X, (2, 2, 2), (1, 1, 1)), lambda: F.avg_pool3d(X, 2, 1)),
    ],
    "adaptive_avg_pool": [
        (lambda: f.adaptive_avg_pool(X, (4, 1)), lambda: F.adaptive_avg_pool2d(X, (4, 1))),
        (lambda: f.adaptive_avg_pool(X[0], (5,)), lambda: F.adaptive_avg_pool1d(X[0], 5)),
        (lambda: f.adaptive_avg_pool(X, (1, 2, 3)), lambda: F.adaptive_avg_pool3d(X, (1, 2, 3))),
    ],
    "mean": [(lambda: f.mean(X), lambda: X.mean()), (lambda: f.mean(X, (1, -1), True), lambda: X.mean((1, -1), True))],
    "sum": [(lambda: f.sum(X), lambda: X.sum()), (lambda: f.sum(X, (1, -1), True), lambda: X.sum((1, -1), True))],
    "amax": [(lambda: f.amax(X), lambda: X.amax()), (lambda: f.amax(X, (1, -1), True), lambda: X.amax((1, -1), True))],
    "amin": [(lambda: f.amin(X), lambda: X.amin()), (lambda: f.amin(X, 2), lambda: X.amin(2))],
    "maximum": [(lambda: f.maximum(X, Y), lambda: torch.max(X, Y)), (lambda: f.maximum(X, Y[:, :1]), lambda: torch.maximum(X, Y[:, :1]))],
    "minimum": [(lambda: f.minimum(X, Y), lambda: torch.min(X, Y))],
    "cat": [(lambda: m.cat((X, Y), 1), lambda: torch.cat([X, Y], 1))],
    "pad": [
        (lambda: m.pad(X, (1, 2, -1, 0), value=2.5), lambda: F.pad(X, (1, 2, -1, 0), value=2.5)),
        (lambda: m.pad(X[0], (1, 2), "replicate"), lambda: F.pad(X[0], (1, 2), "replicate")),
    ],
    "flatten": [(lambda: m.flatten(X, 1, 2), lambda: X.flatten(1, 2))],
    "reshape": [(lambda: m.reshape(X, (2, -1)), lambda: X.reshape(2, -1)), (lambda: m.reshape(X, [-1]), lambda: X.reshape(-1))],
    "permute": [(lambda: m.permute(X, (0, 2, 3, 1)), lambda: X.permute(0, 2, 3, 1))],
    "transpose": [(lambda: m.transpose(X, 1, -1), lambda: X.transpose(1, -1))],
    "squeeze": [
        (lambda: m.squeeze(X[:1, :1]), lambda: X[:1, :1].squeeze()),
        (lambda: m.squeeze(X[:1, :1], 1), lambda: X[:1, :1].squeeze(1)),
        (lambda: m.squeeze(X[:1, :1], (0, 2)), lambda: X[:1, :1].squeeze((0, 2))),
    ],
    "unsqueeze": [(lambda: m.unsqueeze(X, -1), lambda: X.unsqueeze(-1))],
    "contiguous": [(lambda: m.contiguous(X.transpose(0, 1)), lambda: X.transpose(0, 1).contiguous())],
    "getitem": [(lambda: m.getitem(X, (0, ..., slice(1, 5, 2))), lambda: X[0, ..., 1:5:2])],
    "identity": [(lambda: m.identity(X), lambda: X)],
    "dropout": [(lambda: m.dropout(X, 0.3, False), lambda: X), (lambda: m.dropout(X, 1.0), lambda: torch.zeros_like(X))],
    "setitem": [
        (lambda: m.setitem(X, Y[:, 0], (slice(None), 2)), lambda: torch.cat([X[:, :2], Y[:, :1], X[:, 3:]], 1)),
        (lambda: m.setitem(X, 0, X > 1), lambda: X.masked_fill(X > 1, 0)),
    ],
    "fill": [(lambda: m.fill(X, 0.5), lambda: torch.full_like(X, 0.5))],
    "where": [
        (lambda: m.where(X, Y, X > Y), lambda: torch.where(X > Y, X, Y)),
        (lambda: m.where(0, X, X > 1), lambda: X.masked_fill(X > 1, 0)),
    ],
    "narrow": [(lambda: m.narrow(X, 1, -3, 2), lambda: torch.narrow(X, 1, -3, 2))],
    "select": [(lambda: m.select(X, 1, 2), lambda: torch.select(X, 1, 2))],
    "index_select": [(lambda: m.index_select(X, 1, I), lambda: torch.index_select(X, 1, I))],
    "tensor_split": [(lambda: m.tensor_split(X, (1, 3), 1, 2), lambda: torch.tensor_split(X, (1, 3), 1)[2])],
    "clone": [(lambda: m.clone(X), lambda: X.clone())],
    "movedim": [(lambda: m.movedim(X, 1, -1), lambda: torch.movedim(X, 1, -1))],
    "repeat_interleave": [
        (lambda: m.repeat_interleave(X, 2, 1), lambda: X.repeat_interleave(2, 1)),
        (lambda: m.repeat_interleave(X, 2), lambda: X.repeat_interleave(2)),
    ],
    "stack": [(lambda: m.stack((X, Y), -1), lambda: torch.stack([X, Y], -1))],
    "chunk": [
        (lambda: m.chunk(X, 4, 2, 2), lambda: X.chunk(4, 2)[2]),
        (lambda: m.chunk(X, 4, 2, -1), lambda: X[:, :, 4:]),  # 6 rows in 4 chunks are 3 chunks of 2
    ],
    "split": [
        (lambda: m.split(X, 4, 2, 1), lambda: X.split(4, 2)[1]),
        (lambda: m.split(X, (1, 3), 1, -1), lambda: X.split([1, 3], 1)[1]),
    ],
    "unbind": [(lambda: m.unbind(X, 1, -1), lambda: X[:, 3])],
    "unfold": [(lambda: m.unfold(X, 2, 4, 1), lambda: torch.stack([X[:, :, i : i + 4] for i in range(3)], 2).transpose(3, 4))],
    "expand": [(lambda: m.expand(X[:, :1], (-1, 3, 6, 6)), lambda: X[:, :1].expand(-1, 3, 6, 6))],
    "repeat": [(lambda: m.repeat(X, (2, 1, 1, 1, 3)), lambda: X.repeat(2, 1, 1, 1, 3))],
    "roll": [(lambda: m.roll(X, 5), lambda: X.roll(5)), (lambda: m.roll(X, (1, -2), (1, 2)), lambda: X.roll((1, -2), (1, 2)))],
    "flip": [(lambda: m.flip(X, (1, -1)), lambda: X.flip(1, -1))],
    "unflatten": [(lambda: m.unflatten(X, 1, (2, -1)), lambda: X.unflatten(1, (2, -1)))],
    "pixel_shuffle": [(lambda: m.pixel_shuffle(X, 2), lambda: F.pixel_shuffle(X, 2))],
    "pixel_unshuffle": [(lambda: m.pixel_unshuffle(X, 3), lambda: F.pixel_unshuffle(X, 3))],
    "channel_shuffle": [(lambda: m.channel_shuffle(X, 2), lambda: F.channel_shuffle(X, 2))],
    "pieces": [
        (lambda: m.pieces(X, "chunk", (4,), 2), lambda: 3),  # 6 rows in 4 chunks are 3 chunks of 2
        (lambda: m.pieces(X, "split", (4,), -1), lambda: 2),
        (lambda: m.pieces(X, "split", ((1, 2, 3),), -1), lambda: 3),
        (lambda: m.pieces(X, "tensor_split", ((2, 3),), 2), lambda: 3),
        (lambda: m.pieces(X, "unbind", (), 1), lambda: 4),
    ],
    "numel": [(lambda: m.numel(X), lambda: X.numel())],
    "device": [(lambda: m.device(X), lambda: torch.device("cpu"))],
    "dim": [(lambda: m.dim(X), lambda: 4)],
    "size": [(lambda: m.size(X), lambda: X.shape), (lambda: m.size(X, -1), lambda: 6)],
    "quantize": [
        (lambda: f.quantize(X, 0.1, 7), lambda: quantize_tensor(X, QParams.per_tensor(0.1, 7))),
        (lambda: f.quantize(X, V, 0, -127, 127, 1), lambda: quantize_tensor(X, _channels(-127, 127, torch.zeros(4)))),
    ],
    "round_to_bytes": [
        (lambda: f.round_to_bytes(X), lambda: _rounded(X)),
        (lambda: f.round_to_bytes(X, per_row=True), lambda: torch.stack([_rounded(row) for row in X.flatten(0, -2)]).reshape(X.shape)),
        (lambda: f.round_to_bytes(X, per_row=True, dims=3), lambda: torch.stack([_rounded(image) for image in X])),
        (lambda: f.round_to_bytes(torch.empty(0, 3)), lambda: torch.empty(0, 3)),
    ],
    "dequantize_groups": [
        (lambda: p.dequantize_groups(HALF), lambda: HALF.float()),
        (lambda: p.dequantize_groups(BYTES, V[:, None], features=3), lambda: BYTES * V[:, None]),
        (lambda: p.dequantize_groups(BYTES, V[:, None], V[:, None] + 1, features=3), lambda: (BYTES - (V[:, None] + 1)) * V[:, None]),
        (lambda: p.dequantize_groups(torch.tensor([[0x1F, 0x08]], dtype=torch.uint8), torch.tensor([[2.0]]), features=3),
         lambda: torch.tensor([[-2.0, 2.0, -16.0]])),
        (lambda: p.dequantize_groups(torch.ones(1, 10, dtype=torch.int8), torch.tensor([[2.0, 3.0]]), group=8, features=10),
         lambda: torch.tensor([[2.0] * 8 + [3.0] * 2])),
    ],
    "dequantize": [
        (lambda: f.dequantize(X.to(torch.int8), 0.1, 7, -128, 127),
         lambda: dequantize_tensor(X.to(torch.int8), QParams.per_tensor(0.1, 7, QuantSpec("int8", -128, 127)))),
        (lambda: f.dequantize(X.abs().to(torch.uint8), V, torch.arange(4, dtype=torch.int32), axis=1),
         lambda: dequantize_tensor(X.abs().to(torch.uint8), _channels(0, 255, torch.arange(4)))),
    ],
}  # fmt: skip


def _channels(qmin: int, qmax: int, zero_point: Tensor) -> QParams:
    return QParams(QuantSpec("uint8" if qmin == 0 else "int8", qmin, qmax, axis=1), V, zero_point.to(torch.int32))


def _rounded(x: Tensor) -> Tensor:
    qparams = choose_qparams(x.min(), x.max(), ACTIVATION)
    return dequantize_tensor(quantize_tensor(x, qparams), qparams)


@pytest.mark.parametrize("name", CALLS)
def test_is_torchs_own(name: str) -> None:
    for ours, theirs in CALLS[name]:
        found, expected = ours(), theirs()
        if isinstance(expected, Tensor):
            assert found.dtype is expected.dtype and found.is_contiguous() == expected.is_contiguous()
            assert torch.equal(found, expected)
        else:
            assert found == expected


def test_every_op_is_compared() -> None:
    assert set(CALLS) == {op.name for op in OPS}


def test_every_op_is_a_function_by_its_name() -> None:
    assert [op.call for op in OPS] == [next(getattr(each, op.name) for each in (m, p, f, e) if hasattr(each, op.name)) for op in OPS]


# --- padding ---------------------------------------------------------------------------------------------------------------

_KERNELS = {1: (3, 4), 2: ((3, 3), (4, 2), (2, 5)), 3: ((2, 3, 4),)}
_CONVS = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}


@pytest.mark.parametrize("mode", ["zeros", "reflect", "replicate", "circular"])
@pytest.mark.parametrize("padding", [0, 2, "same", "valid"])
@pytest.mark.parametrize(("rank", "kernel"), [(rank, kernel) for rank, kernels in _KERNELS.items() for kernel in kernels])
@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
def test_padding_is_that_of_the_module(rank: int, kernel: Any, padding: Any, mode: str) -> None:
    torch.manual_seed(0)
    for dilation in (1, 2):
        module = _CONVS[rank](2, 3, kernel, padding=padding, padding_mode=mode, dilation=dilation)  # type: ignore[abstract]
        for shape in ((2, 2, *[9] * rank), (2, *[9] * rank)):
            x = torch.randn(shape)
            found = f.conv(x, module.weight, module.bias, module.stride, module.padding, module.dilation, 1, mode)
            assert torch.equal(found, module(x))


@pytest.mark.parametrize(
    ("padding", "kernel", "dilation", "expected"),
    [
        ((1, 2), (3, 3), (1, 1), ((1, 1), (2, 2))),
        ("valid", (3, 3), (1, 1), ((0, 0), (0, 0))),
        ("same", (3, 5), (1, 1), ((1, 1), (2, 2))),
        ("same", (4, 2), (1, 1), ((1, 2), (0, 1))),  # the odd cell at the end
        ("same", (4, 2), (2, 3), ((3, 3), (1, 2))),
        ("same", (1,), (5,), ((0, 0),)),
    ],
)
def test_spatial_padding(padding: Any, kernel: tuple[int, ...], dilation: tuple[int, ...], expected: Any) -> None:
    assert f.spatial_padding(padding, torch.zeros(1, 1, *kernel), dilation) == expected


# --- residual and activation -----------------------------------------------------------------------------------------------

ACTS = {
    "none": (None, lambda y: y),
    "relu": (f.RELU, torch.relu),
    "relu6": (("clamp", 0.0, 6.0), F.relu6),
    "hardtanh": (("clamp", -1.0, 1.0), F.hardtanh),
    "from above": (("clamp", -math.inf, 0.5), lambda y: y.clamp(max=0.5)),
    "hardswish": (("hardswish",), F.hardswish),
    "hardsigmoid": (("hardsigmoid",), F.hardsigmoid),
    "leaky_relu": (("leaky_relu", 0.3), lambda y: F.leaky_relu(y, 0.3)),
    "all": (("clamp", -math.inf, math.inf), lambda y: y),
}


@pytest.mark.parametrize(("act", "expected"), ACTS.values(), ids=ACTS)
def test_activation_comes_last(act: f.Act | None, expected: Callable[[Tensor], Tensor]) -> None:
    convolved, product = F.conv2d(X, W, V, padding=1, groups=2), F.linear(X, L[:4], V)
    assert torch.equal(f.apply_act(X, act), expected(X))
    assert torch.equal(f.conv(X, W, V, padding=(1, 1), groups=2, act=act), expected(convolved))
    assert torch.equal(f.conv(X, W, V, padding=(1, 1), groups=2, residual=Y, act=act), expected(convolved + Y))
    assert torch.equal(f.linear(X, L[:4], V, act=act), expected(product))
    assert torch.equal(f.linear(X, L[:4], V, residual=Y[..., :4], act=act), expected(product + Y[..., :4]))
    for function, spelled in ((f.add, operator.add), (f.sub, operator.sub), (f.mul, operator.mul), (f.div, operator.truediv)):
        assert torch.equal(function(X, Y, act=act), expected(spelled(X, Y)))


def test_every_op_that_holds_accumulators_takes_an_activation() -> None:
    holders = {op.name for op in OPS if "act" in op.operands}
    assert holders == {"conv", "conv_transpose", "linear", "add", "sub", "mul", "div"}
    assert {op.policy for op in OPS if op.name in holders} == {Policy.OWN}
    assert {op.name for op in OPS if "residual" in op.operands} == {"conv", "linear"}

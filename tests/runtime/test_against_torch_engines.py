"""The integer ops against torch's own quantized engines, which nobody here wrote.

QNNPACK has the same arithmetic: bit for bit. FBGEMM keeps its bias in float and oneDNN adds the zero point before rounding:
at most one step on at most 4e-4 of the outputs.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from fxq.graph.qtypes import ACTIVATION, WEIGHT_PER_CHANNEL, WEIGHT_PER_TENSOR, QParams
from fxq.lowering.requantize import Scales, integer_output, pack_weights, scale_ratio
from fxq.runtime.integer.binary import AddFixedPoint, Operand
from fxq.runtime.integer.conv import Conv, ConvGeometry
from fxq.runtime.integer.linear import Linear
from fxq.runtime.integer.outputs import PackedWeights
from tests.runtime.integer.reference import random_bytes

RATE = 4e-4
RELU = (False, True)


@pytest.fixture
def engine(request: pytest.FixtureRequest) -> Iterator[str]:
    """Sets torch's global engine for one test. pytest runs the tests of a process one after the other."""
    name: str = request.param
    if name not in torch.backends.quantized.supported_engines:
        pytest.skip(f"torch has no {name} here")
    before = torch.backends.quantized.engine
    torch.backends.quantized.engine = name
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield name
    finally:
        torch.backends.quantized.engine = before


QNNPACK = pytest.mark.parametrize("engine", ["qnnpack"], indirect=True)
FBGEMM = pytest.mark.parametrize("engine", ["fbgemm"], indirect=True)


@dataclass(frozen=True)
class Layer:
    """A random layer in both languages."""

    x: Tensor
    scales: Scales
    weight: Tensor
    bias: Tensor

    @property
    def y(self) -> QParams:
        assert self.scales.y is not None
        return self.scales.y

    def packed(self, bits: Any = 24) -> PackedWeights:
        return pack_weights(self.weight, self.scales, self.bias, multiplier_bits=bits)

    def quantized_x(self) -> Tensor:
        q = self.scales.x
        return torch._make_per_tensor_quantized_tensor(self.x, float(q.scale), int(q.zero_point))

    def quantized_weight(self) -> Tensor:
        w = self.scales.w
        if w.spec.axis is None:
            return torch._make_per_tensor_quantized_tensor(self.weight, float(w.scale), 0)
        return torch._make_per_channel_quantized_tensor(self.weight, w.scale.double(), w.zero_point.long(), 0)


def random_layer(x_shape: tuple[int, ...], weight_shape: tuple[int, ...], per_channel: bool, seed: int) -> Layer:
    generator = torch.Generator().manual_seed(seed)
    outputs, depth = weight_shape[0], torch.Size(weight_shape[1:]).numel()
    zero_points = torch.randint(0, 256, (2,), generator=generator).tolist()
    factors = torch.rand(3, generator=generator) * 0.05 + 0.003
    spread = torch.rand(outputs, generator=generator) + 0.5
    w_scale = factors[1] * spread if per_channel else factors[1]
    spec = WEIGHT_PER_CHANNEL if per_channel else WEIGHT_PER_TENSOR
    w = QParams(spec, w_scale, torch.zeros_like(w_scale, dtype=torch.int32))
    x = QParams.per_tensor(float(factors[0]), [0, 128, zero_points[0]][seed % 3], ACTIVATION)
    y = QParams.per_tensor(float(factors[0] * factors[1]) * 127 * 100 * depth**0.5 / 90, [128, zero_points[1], 0][seed % 3], ACTIVATION)
    weight = torch.randint(-127, 128, weight_shape, dtype=torch.int8, generator=generator)
    bias = torch.randn(outputs, generator=generator) * float(y.scale) * 20
    return Layer(random_bytes(x_shape, seed=seed), Scales(x, w, y), weight, bias)


# input, weight, (stride, padding, dilation, groups)
CONVS = (
    ((2, 8, 9, 10), (12, 8, 3, 3), (1, 1, 1, 1)),
    ((1, 16, 12, 11), (24, 16, 1, 1), (1, 0, 1, 1)),
    ((2, 3, 15, 17), (8, 3, 7, 7), (2, 3, 1, 1)),
    ((1, 32, 9, 9), (32, 1, 3, 3), (1, 1, 1, 32)),
    ((1, 16, 9, 9), (16, 1, 5, 5), (2, 2, 1, 16)),
    ((1, 16, 13, 12), (8, 8, 3, 3), (1, 2, 2, 2)),
    ((1, 24, 8, 8), (12, 6, 2, 2), (2, 0, 1, 4)),
    ((1, 600, 6, 6), (16, 600, 3, 3), (1, 1, 1, 1)),
)


def torch_conv(layer: Layer, where: tuple[int, int, int, int], relu: bool) -> Tensor:
    stride, padding, dilation, groups = where
    ops, rank = torch.ops.quantized, layer.x.ndim - 2
    each = [[value] * max(rank, 1) for value in (stride, padding, dilation)]
    packed = getattr(ops, f"conv{rank}d_prepack")(layer.quantized_weight(), layer.bias, *each, groups)
    run = getattr(ops, f"conv{rank}d_relu" if relu else f"conv{rank}d")
    y: Tensor = run(layer.quantized_x(), packed, float(layer.y.scale), int(layer.y.zero_point))
    return y.int_repr()


def our_conv(layer: Layer, where: tuple[int, int, int, int], relu: bool, bits: int = 24) -> Tensor:
    stride, padding, dilation, groups = where
    rank = layer.x.ndim - 2
    geometry = ConvGeometry((stride,) * rank, ((padding, padding),) * rank, (dilation,) * rank, groups)
    output = integer_output(layer.y, 0.0) if relu else integer_output(layer.y)
    y: Tensor = Conv(layer.packed(bits), geometry, int(layer.scales.x.zero_point), output)(layer.x)
    return y


@QNNPACK
@pytest.mark.parametrize("relu", RELU)
@pytest.mark.parametrize("per_channel", [False, True], ids=["per tensor", "per channel"])
@pytest.mark.parametrize("case", range(len(CONVS)))
def test_conv2d_equals_qnnpack(engine: str, case: int, per_channel: bool, relu: bool) -> None:
    x_shape, weight_shape, where = CONVS[case]
    for seed in range(6):
        layer = random_layer(x_shape, weight_shape, per_channel, seed)
        expected = torch_conv(layer, where, relu)
        assert expected.unique().numel() > 5
        assert torch.equal(our_conv(layer, where, relu), expected)


@QNNPACK
@pytest.mark.parametrize("relu", RELU)
@pytest.mark.parametrize("per_channel", [False, True], ids=["per tensor", "per channel"])
def test_conv1d_equals_qnnpack(engine: str, per_channel: bool, relu: bool) -> None:
    for seed in range(6):
        layer = random_layer((2, 8, 30), (12, 4, 5), per_channel, seed)
        assert torch.equal(our_conv(layer, (2, 2, 1, 2), relu), torch_conv(layer, (2, 2, 1, 2), relu))


@QNNPACK
@pytest.mark.parametrize("relu", RELU)
@pytest.mark.parametrize("per_channel", [False, True], ids=["per tensor", "per channel"])
def test_conv3d_equals_qnnpack(engine: str, per_channel: bool, relu: bool) -> None:
    for seed in range(6):
        layer = random_layer((2, 8, 5, 6, 7), (12, 8, 3, 3, 3), per_channel, seed)
        assert torch.equal(our_conv(layer, (1, 1, 1, 1), relu), torch_conv(layer, (1, 1, 1, 1), relu))


def torch_linear(layer: Layer, relu: bool) -> Tensor:
    ops = torch.ops.quantized
    packed = ops.linear_prepack(layer.quantized_weight(), layer.bias)
    run = ops.linear_relu if relu else ops.linear
    y: Tensor = run(layer.quantized_x(), packed, float(layer.y.scale), int(layer.y.zero_point))
    return y.int_repr()


def our_linear(layer: Layer, relu: bool, bits: int = 24) -> Tensor:
    y: Tensor = Linear(layer.packed(bits), integer_output(layer.y, 0.0) if relu else integer_output(layer.y))(layer.x)
    return y


@QNNPACK
@pytest.mark.parametrize("relu", RELU)
@pytest.mark.parametrize("per_channel", [False, True], ids=["per tensor", "per channel"])
@pytest.mark.parametrize("depth", [1, 7, 64, 2048])
def test_linear_equals_qnnpack(engine: str, depth: int, per_channel: bool, relu: bool) -> None:
    for seed in range(6):
        layer = random_layer((50, depth), (33, depth), per_channel, seed)
        assert torch.equal(our_linear(layer, relu), torch_linear(layer, relu))


@QNNPACK
@pytest.mark.parametrize("relu", RELU)
def test_every_sum_equals_qnnpack(engine: str, relu: bool) -> None:
    pair = torch.meshgrid(*[torch.arange(256, dtype=torch.uint8)] * 2, indexing="ij")
    run = torch.ops.quantized.add_relu if relu else torch.ops.quantized.add
    generator = torch.Generator().manual_seed(5)
    for _ in range(30):
        scales = (10 ** (torch.rand(3, generator=generator) * 2 - 2.5)).tolist()
        a, b, y = (QParams.per_tensor(scale, int(torch.randint(0, 256, (), generator=generator)), ACTIVATION) for scale in scales)
        theirs = [
            torch._make_per_tensor_quantized_tensor(side, float(q.scale), int(q.zero_point)) for side, q in zip(pair, (a, b), strict=True)
        ]
        expected = run(*theirs, float(y.scale), int(y.zero_point)).int_repr()
        sides = [Operand(int(q.zero_point), scale_ratio(q, y)) for q in (a, b)]
        op = AddFixedPoint.from_ratios(sides[0], sides[1], integer_output(y, 0.0) if relu else integer_output(y))
        assert torch.equal(op(*pair), expected)


def within_a_step(found: list[Tensor], expected: list[Tensor]) -> bool:
    """|Δ| ≤ 1, and not 0 on at most RATE of all outputs."""
    deltas = torch.cat([(a.int() - b.int()).abs().reshape(-1) for a, b in zip(found, expected, strict=True)])
    return int(deltas.max()) <= 1 and float(deltas.float().mean()) <= RATE


@FBGEMM
@pytest.mark.parametrize("bits", [22, 24])
@pytest.mark.parametrize("per_channel", [False, True], ids=["per tensor", "per channel"])
def test_conv2d_within_a_step_of_fbgemm(engine: str, per_channel: bool, bits: int) -> None:
    ours, theirs = [], []
    for x_shape, weight_shape, where in CONVS:
        if weight_shape[1] == 1:
            continue  # its depthwise kernel saturates
        for seed in range(6):
            layer = random_layer(x_shape, weight_shape, per_channel, seed)
            ours.append(our_conv(layer, where, seed % 2 == 0, bits))
            theirs.append(torch_conv(layer, where, seed % 2 == 0))
    assert within_a_step(ours, theirs)


@FBGEMM
@pytest.mark.parametrize("bits", [22, 24])
@pytest.mark.parametrize("per_channel", [False, True], ids=["per tensor", "per channel"])
def test_linear_within_a_step_of_fbgemm(engine: str, per_channel: bool, bits: int) -> None:
    layers = [random_layer((200, depth), (96, depth), per_channel, seed) for depth in (7, 64, 1000) for seed in range(6)]
    assert within_a_step([our_linear(layer, False, bits) for layer in layers], [torch_linear(layer, False) for layer in layers])

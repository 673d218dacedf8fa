"""Regions of one op, with random constants, to be run by both executors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from fxq.graph.groups import group_weights
from fxq.graph.weight_format import WeightFormat
from fxq.runtime.dynamic.linear import DynamicLinear
from fxq.runtime.dynamic.product import RowWeights
from fxq.runtime.integer.conv import Conv, ConvGeometry
from fxq.runtime.integer.conv_transpose import ConvTranspose, ConvTransposeGeometry
from fxq.runtime.integer.linear import Linear
from fxq.runtime.integer.outputs import Activation, FloatOutput, IntegerOutput, Output, PackedWeights, Residual
from fxq.runtime.jit.isa import ISAS, Isa
from fxq.runtime.jit.region import CompiledRegion
from fxq.runtime.region import Region, Step, Value
from fxq.runtime.weight_only.linear import WeightOnlyLinear

# an ISA that this machine lacks is skipped, and pytest lists it at the end
EVERY_ISA = [
    pytest.param(isa, id=isa.name, marks=[pytest.mark.isa(isa.name), pytest.mark.skipif(not isa.available, reason=f"no {isa.name} here")])
    for isa in ISAS
]

OUTPUTS: dict[str, Output] = {
    "bytes": IntegerOutput("uint8", 0, 0, 255),
    "shifted": IntegerOutput("uint8", 131, 0, 255),
    "relu": IntegerOutput("uint8", 37, 37, 255),
    "relu6": IntegerOutput("uint8", 0, 0, 200),
    "signed": IntegerOutput("int8", -7, -128, 127),
    "symmetric": IntegerOutput("int8", 0, -127, 127),
    "hardswish": IntegerOutput("uint8", 12, 0, 255, 31.0, Activation("hardswish")),
    "hardsigmoid": IntegerOutput("uint8", 0, 0, 255, 256.0, Activation("hardsigmoid")),
    "leaky": IntegerOutput("uint8", 100, 0, 255, 17.0, Activation("leaky_relu", 0.1)),
    "float": FloatOutput(),
    "float_relu": FloatOutput(0.0),
    "float_hardswish": FloatOutput(activation=Activation("hardswish")),
}


def one_step(function: Callable[..., Any], inputs: int = 1, **kwargs: Any) -> Region:
    """y = function(*inputs, **kwargs)"""
    return Region("region", inputs, (Step("step", function, tuple(map(Value, range(inputs))), kwargs),), (inputs,))


def check(region: Region, inputs: Sequence[Tensor], isa: Isa) -> None:
    """Both executors give the same bits, in the same dtype, and a program was compiled."""
    compiled = CompiledRegion(region, isa)
    expected, found = region.run(inputs), compiled(inputs)
    assert not compiled.refused
    for wanted, got in zip(expected, found, strict=True):
        assert got.dtype == wanted.dtype
        assert torch.equal(got, wanted), f"{int((got != wanted).sum())} of {wanted.numel()} differ"


def random_bytes(shape: Sequence[int], seed: int = 0, *, signed: bool = False) -> Tensor:
    """All values, the extreme ones in half of the places. Images are channels last, as the integer ops make them."""
    generator = torch.Generator().manual_seed(seed)
    low, high = (-128, 128) if signed else (0, 256)
    values = torch.randint(low, high, tuple(shape), generator=generator)
    extreme = torch.where(torch.rand(tuple(shape), generator=generator) < 0.5, low, high - 1)
    chosen = torch.where(torch.rand(tuple(shape), generator=generator) < 0.5, values, extreme)
    return chosen.to(torch.int8 if signed else torch.uint8)


def random_weights(shape: Sequence[int], output: Output, seed: int = 0, *, bits: int = 22) -> PackedWeights:
    """s8 weights, biases, and multipliers that spread the sums over the result's range.

    Args:
        bits: significant ones of the multipliers; with 24 the compiled code has to convert and multiply in two steps.
    """
    generator = torch.Generator().manual_seed(seed + 1)
    weight = torch.randint(-127, 128, tuple(shape), generator=generator).to(torch.int8)
    taps = max(1, weight[0].numel())
    spread = 127 * 255 * taps**0.5
    bias = torch.randint(-int(spread), int(spread), (shape[0],), generator=generator).to(torch.int32)
    span = 4.0 if output.activation or isinstance(output, FloatOutput) else 300.0
    multiplier = (torch.rand(shape[0], generator=generator) + 0.5) * span / spread
    pattern = multiplier.to(torch.float32).view(torch.int32)
    return PackedWeights(weight, bias, ((pattern >> (24 - bits)) << (24 - bits)).view(torch.float32))


def conv(shape: Sequence[int], geometry: ConvGeometry, output: str = "shifted", *, residual: bool = False, bits: int = 22) -> Conv:
    """A convolution with weights of that shape."""
    packed = random_weights(shape, OUTPUTS[output], bits=bits)
    return Conv(packed, geometry, 77, OUTPUTS[output], Residual(9, 0.37) if residual else None)


def normal_conv(shape: Sequence[int], geometry: ConvGeometry, deviation: float, output: str = "shifted", *, residual: bool = False) -> Conv:
    """A convolution whose weights are as those of real layers: most are small."""
    packed = random_weights(shape, OUTPUTS[output])
    values = torch.randn(tuple(shape), generator=torch.Generator().manual_seed(3)) * deviation
    packed = replace(packed, weight=values.round().clamp(-127, 127).to(torch.int8))
    return Conv(packed, geometry, 77, OUTPUTS[output], Residual(9, 0.37) if residual else None)


def linear(inputs: int, outputs: int, output: str = "shifted", *, residual: bool = False) -> Linear:
    """A linear layer."""
    return Linear(random_weights((outputs, inputs), OUTPUTS[output]), OUTPUTS[output], Residual(9, 0.37) if residual else None)


def dynamic_linear(features: int, outputs: int, output: str = "float", *, bias: bool = True, per_row: bool = False) -> DynamicLinear:
    """With random weights and scales."""
    generator = torch.Generator().manual_seed(features * outputs)
    weight = torch.randint(-127, 128, (outputs, features), generator=generator).to(torch.int8)
    scale, shift = (torch.rand(outputs, generator=generator) for _ in range(2))
    chosen = OUTPUTS[output]
    assert isinstance(chosen, FloatOutput)
    return DynamicLinear(RowWeights(weight, 0.01 * scale + 1e-4, shift - 0.5 if bias else None), chosen, per_row=per_row)


def weight_only_linear(features: int, outputs: int, format: WeightFormat, output: str = "float", *, bias: bool = True) -> WeightOnlyLinear:
    """With random weights."""
    generator = torch.Generator().manual_seed(features * outputs)
    weight, shift = torch.randn(outputs, features, generator=generator), torch.randn(outputs, generator=generator)
    chosen = OUTPUTS[output]
    assert isinstance(chosen, FloatOutput)
    return WeightOnlyLinear(group_weights(weight, format, shift if bias else None), chosen)


def conv_transpose(shape: Sequence[int], geometry: ConvTransposeGeometry, output: str = "shifted") -> ConvTranspose:
    """A transposed convolution with weights of that shape: [I, O/groups, *kernel]."""
    outputs = shape[1] * geometry.groups
    spread = random_weights((outputs, shape[0] // geometry.groups, *shape[2:]), OUTPUTS[output])
    weight = random_weights(shape, OUTPUTS[output]).weight
    return ConvTranspose(PackedWeights(weight, spread.bias, spread.multiplier), geometry, 77, OUTPUTS[output])

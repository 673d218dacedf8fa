"""Activations between the accumulator and the one rounding, bit for bit."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from fxq.errors import ConfigError
from fxq.runtime.integer.binary import Add, AddFixedPoint, FixedOperand, Mul, Operand, Sub
from fxq.runtime.integer.conv import Conv, ConvGeometry
from fxq.runtime.integer.conv_transpose import ConvTranspose, ConvTransposeGeometry
from fxq.runtime.integer.elementwise import PRelu
from fxq.runtime.integer.linear import Linear
from fxq.runtime.integer.norm import Affine, LayerNorm
from fxq.runtime.integer.outputs import Activation, FloatOutput, IntegerOutput, Output, Residual, finish, finish_into
from fxq.runtime.integer.softmax import Softmax
from tests.runtime.integer import reference
from tests.runtime.integer.reference import Array, random_bytes, random_weights, rescale

INVERSE = float(np.float32(1) / np.float32(0.0173))
PLAIN = FloatOutput()
SIXTH = np.float32(1) / np.float32(6)
KINDS = (Activation("hardswish"), Activation("hardsigmoid"), Activation("leaky_relu", 0.01), Activation("leaky_relu", -1.3))


def outputs(activation: Activation) -> tuple[Output, ...]:
    return (
        IntegerOutput("uint8", 31, 0, 255, INVERSE, activation),
        IntegerOutput("int8", -90, -100, 127, INVERSE, activation),
        FloatOutput(activation=activation),
        FloatOutput(-0.1, 0.9, activation),
    )


def activate(v: Array, activation: Activation) -> Array:
    assert v.dtype == np.float32
    if activation.kind == "leaky_relu":
        return np.where(v >= 0, v, np.float32(activation.slope) * v)
    gate = np.clip(v + np.float32(3), np.float32(0), np.float32(6))
    return gate * SIXTH if activation.kind == "hardsigmoid" else (v * gate) * SIXTH


def expected_of(v: Tensor, output: Output) -> Tensor:
    """v: what the op gives for FloatOutput()."""
    assert output.activation is not None
    u = activate(v.numpy(), output.activation)
    plain = FloatOutput(output.low, output.high) if isinstance(output, FloatOutput) else output
    return reference.finish(u if isinstance(output, FloatOutput) else u * np.float32(INVERSE), plain)


@pytest.mark.parametrize("activation", KINDS, ids=str)
def test_the_formula_on_all_kinds_of_values(activation: Activation) -> None:
    generator = torch.Generator().manual_seed(0)
    edges = torch.tensor([0.0, -0.0, 3.0, -3.0, -3.0000002, 2.9999998, 6.0, 1e30, -1e30, 1e-40, 2.0**-126, 1.0, -1.0])
    values = torch.cat([edges, torch.randn(50_000, generator=generator) * 3, torch.randn(5000, generator=generator) * 1e4])
    for output in outputs(activation):
        expected = expected_of(values, output)
        out = torch.empty_like(expected)
        finish_into(out, values.clone(), output)
        assert torch.equal(out, expected)
        assert torch.equal(finish(values.clone(), output), expected)


def test_the_factor_is_the_f32_reciprocal_of_six() -> None:
    six = torch.tensor([3.0, 3.5])
    assert torch.equal(Activation("hardsigmoid").apply(six), torch.tensor(np.float32(6) * SIXTH).expand(2))


def test_leaky_relu_rounds_its_slope_to_f32_first() -> None:
    values = -torch.rand(10_000, generator=torch.Generator().manual_seed(0))
    assert torch.equal(Activation("leaky_relu", 0.1).apply(values), values * torch.tensor(0.1))


A, B = random_bytes((2, 5, 6)), random_bytes((2, 5, 6), seed=1)
WEIGHTS = random_weights((4, 5, 3))
REAL = type(WEIGHTS)(WEIGHTS.weight, WEIGHTS.bias, WEIGHTS.multiplier * 0.05)
FLAT = type(WEIGHTS)(random_weights((4, 6)).weight, WEIGHTS.bias, REAL.multiplier)
UP = type(WEIGHTS)(random_weights((5, 4, 3)).weight, WEIGHTS.bias, REAL.multiplier)
ADDED = Residual(113, 0.0371)
RUNS: dict[str, Callable[[Output], Tensor]] = {
    "conv": lambda output: Conv(REAL, ConvGeometry((1,), ((1, 1),), (1,)), 70, output)(A),
    "conv residual": lambda output: Conv(REAL, ConvGeometry((1,), ((1, 1),), (1,)), 70, output, ADDED)(A, random_bytes((2, 4, 6), seed=2)),
    "conv_transpose": lambda output: ConvTranspose(UP, ConvTransposeGeometry((2,), (1,), (1,), (1,)), 70, output)(A),
    "linear": lambda output: Linear(FLAT, output)(A),
    "linear residual": lambda output: Linear(FLAT, output, ADDED)(A, random_bytes((2, 5, 4), seed=2)),
    "add": lambda output: Add(Operand(100, 0.02), Operand(3, 0.01), output)(A, B),
    "add broadcast": lambda output: Add(Operand(100, 0.02), Operand(3, 0.01), output)(A, B[:1, :, :1]),
    "sub": lambda output: Sub(Operand(100, 0.02), Operand(3, 0.01), output)(A, B),
    "mul": lambda output: Mul(100, 120, 0.0003, output)(A, B),
}


@pytest.mark.parametrize("activation", KINDS, ids=str)
@pytest.mark.parametrize("name", RUNS)
def test_ops_apply_it_to_their_real_value(name: str, activation: Activation) -> None:
    real = RUNS[name](PLAIN)
    assert real.min() < -0.5
    assert real.max() > 0.5
    for output in outputs(activation):
        assert torch.equal(RUNS[name](output), expected_of(real, output))


def test_the_real_value_is_that_of_the_formula() -> None:
    found = RUNS["add"](outputs(KINDS[0])[0])
    v = rescale(A, 100, 0.02) + rescale(B, 3, 0.01)
    assert torch.equal(found, reference.finish(activate(v, KINDS[0]) * np.float32(INVERSE), outputs(KINDS[0])[0]))


def test_one_rounding_is_not_two() -> None:
    output = outputs(KINDS[0])[0]
    assert isinstance(output, IntegerOutput)
    v = torch.linspace(-4, 4, 2001)
    real = torch.nn.functional.hardswish(v.double()) * INVERSE + 31
    assert (finish(v.clone(), output).double() - real.clamp(0, 255)).abs().max() <= 0.5 + 1e-4


def test_ops_without_a_real_f32_value_refuse_it() -> None:
    output = outputs(KINDS[0])[0]
    assert isinstance(output, IntegerOutput)
    builds: tuple[Callable[[], object], ...] = (
        lambda: AddFixedPoint(FixedOperand(0, 1), FixedOperand(0, 1), 3, output),
        lambda: Softmax(0.1, 0, output),
        lambda: LayerNorm((3,), 0.1, 1e-5, Affine(), output),
        lambda: PRelu(torch.ones(1), 0.1, 0, output),
    )
    for build in builds:
        with pytest.raises(ConfigError, match="without an activation"):
            build()
    with pytest.raises(ConfigError, match="inverse"):
        IntegerOutput("uint8", 0, 0, 255, activation=KINDS[0])


def test_reads_like_an_output() -> None:
    assert [str(output) for output in outputs(KINDS[2])[:3:2]] == [
        "leaky_relu slope=0.01, uint8 zero_point=31 [0, 255]",
        "leaky_relu slope=0.01, float32",
    ]
    assert str(FloatOutput(0.0, 1.0, KINDS[0])) == "hardswish, float32 [0.0, 1.0]"

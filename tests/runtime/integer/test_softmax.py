"""Softmax against Python integers, and against the real one."""

from __future__ import annotations

import copy
import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from torch import Tensor

from fxq.errors import ConfigError, DataError
from fxq.runtime.integer.outputs import FloatOutput, IntegerOutput, Output
from fxq.runtime.integer.softmax import Softmax, exponentials
from tests.runtime.integer.reference import random_bytes

U8 = IntegerOutput("uint8", 0, 0, 255, inverse=256.0)
S8 = IntegerOutput("int8", -128, -128, 127, inverse=256.0)
ODD = IntegerOutput("uint8", 7, 9, 200, inverse=float(np.float32(1) / np.float32(0.0041)))
SCALES = (2.0**-23, 0.001, 0.0371, 0.25, 1.7, 1e6)


def column(q: list[int], scale: float, output: Output) -> list[float]:
    """One softmax, in Python integers and floats."""
    table, most = exponentials(scale).tolist(), max(q)
    powers = [table[most - value] for value in q]
    total = float(sum(powers))
    quotients = [float(power) / total for power in powers]
    if isinstance(output, FloatOutput):
        return [float(np.float32(min(max(value, output.low), output.high))) for value in quotients]
    assert output.inverse is not None
    return [min(max(round(value * output.inverse) + output.zero_point, output.low), output.high) for value in quotients]


def expected_of(x: Tensor, scale: float, dim: int, output: Output) -> Tensor:
    rows = x.movedim(dim, -1)
    flat = [column(row, scale, output) for row in rows.reshape(-1, x.shape[dim]).tolist()]
    dtype = torch.float32 if isinstance(output, FloatOutput) else getattr(torch, output.dtype)
    return torch.tensor(flat).reshape(rows.shape).movedim(-1, dim).to(dtype)


@pytest.mark.parametrize("scale", [float(np.float32(scale)) for scale in SCALES])
def test_the_table_is_correctly_rounded(scale: float) -> None:
    table = exponentials(scale)
    assert table.shape == (256,)
    assert table.dtype == torch.int64
    assert int(table[0]) == 2**38
    for distance in range(256):
        real = Fraction(math.exp(-scale * distance)) * 2**38
        slack = Fraction(1, 2) + real * Fraction(3 + 256 * scale * distance) / 2**53  # of this check's own float64 arithmetic
        assert abs(int(table[distance]) - real) <= slack


@pytest.mark.parametrize("output", [U8, S8, ODD, FloatOutput(), FloatOutput(0.1, 0.5)], ids=str)
@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8])
def test_equals_the_formula(scale: float, output: Output, dtype: torch.dtype) -> None:
    for shape, dim in (((5, 10), -1), ((2, 3, 4), 1), ((3, 2, 2, 2), 0), ((7,), 0), ((2, 1), 1)):
        x = random_bytes(shape, dtype)
        found = Softmax(scale, dim, output)(x)
        expected = expected_of(x, scale, dim, output)
        assert found.dtype == expected.dtype
        assert torch.equal(found, expected)


@pytest.mark.parametrize("fill", [0, 255])
@pytest.mark.parametrize("count", [1, 3, 256, 1000, 20_000])
def test_extremes(fill: int, count: int) -> None:
    x = torch.full((1, count), fill, dtype=torch.uint8)
    x[0, -1] = 255 - fill
    for scale in (2.0**-23, 0.02, 3.0):
        assert torch.equal(Softmax(scale, 1, U8)(x), expected_of(x, scale, 1, U8))


@pytest.mark.parametrize("count", [2, 10, 100, 1000, 1 << 20])
@pytest.mark.parametrize("scale", [0.01, 0.05, 0.12, 0.5])
def test_within_one_step_of_the_real_softmax_and_mostly_equal(scale: float, count: int) -> None:
    x = random_bytes((1, count) if count > 1000 else (40, count))
    real = torch.softmax(x.double() * float(np.float32(scale)), -1)
    expected = (real * 256).round().clamp(0, 255)
    difference = (Softmax(float(np.float32(scale)), -1, U8)(x).double() - expected).abs()
    assert difference.max() <= 1
    assert difference.mean() <= 1e-4


def test_one_large_value_among_millions_keeps_its_share() -> None:
    scale, count = 0.065, (1 << 24) - 1
    x = torch.zeros(count, dtype=torch.uint8)
    x[5] = 255
    real = 1 / (1 + (count - 1) * math.exp(-float(np.float32(scale)) * 255))
    assert 0.3 < real < 0.7
    assert abs(int(Softmax(float(np.float32(scale)), 0, U8)(x)[5]) - round(real * 256)) <= 1


def test_layouts_and_empty_batches() -> None:
    x, op = random_bytes((4, 6, 5, 3)), Softmax(0.04, 1, U8)
    expected = expected_of(x, 0.04, 1, U8)
    for other in (x.contiguous(memory_format=torch.channels_last), x.transpose(0, 3).contiguous().transpose(0, 3), x.expand_as(x)):
        assert torch.equal(op(other), expected)
    assert torch.equal(op(x[:, :, ::2]), expected[:, :, ::2])
    assert op(x[:0]).shape == (0, 6, 5, 3)
    assert op(x[:0]).dtype == torch.uint8
    assert op(random_bytes((2, 0))).shape == (2, 0)
    assert int(Softmax(0.04, 0, U8)(random_bytes(()))) == 255


def test_the_table_is_saved_with_the_model() -> None:
    x, op = random_bytes((4, 6)), Softmax(0.04, 1, U8)
    other = Softmax(1.0, 1, U8)
    other.load_state_dict(op.state_dict())
    assert torch.equal(other(x), op(x))
    assert torch.equal(copy.deepcopy(op).half()(x), op(x))


def test_what_is_refused() -> None:
    with pytest.raises(DataError, match="uint8 or int8"):
        Softmax(0.1, 0, U8)(torch.zeros(3))
    with pytest.raises(DataError, match="at most 2\\^24"):
        Softmax(0.1, 0, U8)(torch.zeros(1, dtype=torch.uint8).expand(2**24 + 1))
    with pytest.raises(ConfigError, match="inverse"):
        Softmax(0.1, 0, IntegerOutput("uint8", 0, 0, 255))
    for scale in (0.0, -1.0, math.inf, math.nan):
        with pytest.raises(ConfigError, match="positive, finite"):
            Softmax(scale, 0, U8)


def test_reads_like_a_layer() -> None:
    assert repr(Softmax(0.5, -1, U8)) == "Softmax(dim=-1, x: scale=0.5, y: uint8 zero_point=0 [0, 255])"

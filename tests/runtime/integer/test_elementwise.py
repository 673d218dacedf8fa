"""PRelu against its formula, bit for bit; torch's own ops on bytes, where they are the op."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from fxq.errors import ConfigError, DataError
from fxq.runtime.integer import elementwise
from fxq.runtime.integer.elementwise import PRelu
from fxq.runtime.integer.outputs import FloatOutput, IntegerOutput, Output
from tests.runtime.integer.reference import finish, random_bytes, rescale

INVERSE = float(np.float32(1) / np.float32(0.0173))
OUTPUTS = (
    IntegerOutput("uint8", 101, 0, 255, INVERSE),
    IntegerOutput("int8", -1, -1, 127, INVERSE),
    FloatOutput(),
    FloatOutput(-0.5, 0.5),
)
SCALE = float(np.float32(0.0211))


def prelu(x: Tensor, slopes: Tensor, zero_point: int, output: Output) -> Tensor:
    values = rescale(x, zero_point, SCALE)
    channels = slopes.numpy().reshape(-1, *(1 for _ in x.shape[2:]))
    chosen = np.where(values >= 0, values, values * (channels if slopes.numel() > 1 else slopes.numpy()))
    return finish(chosen if isinstance(output, FloatOutput) else chosen * np.float32(INVERSE), output)


@pytest.mark.parametrize("output", OUTPUTS, ids=str)
@pytest.mark.parametrize("zero_point", [0, 100, 127])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8])
def test_prelu_of_every_value(output: Output, zero_point: int, dtype: torch.dtype) -> None:
    every = torch.arange(torch.iinfo(dtype).min, torch.iinfo(dtype).max + 1).to(dtype)
    x, slopes = every.view(1, 1, -1).expand(1, 5, -1), torch.tensor([0.25, -0.3, 1.7, 0.0, 1e6])
    assert torch.equal(PRelu(slopes, SCALE, zero_point, output)(x), prelu(x, slopes, zero_point, output))
    for slope in slopes:
        assert torch.equal(PRelu(slope.view(1), SCALE, zero_point, output)(every), prelu(every, slope.view(1), zero_point, output))


@pytest.mark.parametrize("budget", [7, 1 << 16])
def test_prelu_shapes_and_layouts(budget: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(elementwise, "_BUDGET", budget)
    x = random_bytes((2, 3, 4, 5))
    for slopes in (torch.tensor([0.1, 0.2, -0.3]), torch.tensor([0.25])):
        op, expected = PRelu(slopes, SCALE, 90, OUTPUTS[0]), prelu(x, slopes, 90, OUTPUTS[0])
        last = x.contiguous(memory_format=torch.channels_last)
        for other in (x, last, x.transpose(1, 2).contiguous().transpose(1, 2)):
            assert torch.equal(op(other), expected)
        assert op(last).is_contiguous(memory_format=torch.channels_last)
        assert torch.equal(op(x[:, :, ::2]), expected[:, :, ::2])
        assert op(x[:0]).shape == (0, 3, 4, 5)
        assert torch.equal(op(x[:, :, 0, 0]), expected[:, :, 0, 0])
    assert op(x[0, 0, 0, 0]).shape == ()


def test_prelu_constants_keep_their_dtype() -> None:
    x, op = random_bytes((2, 3)), PRelu(torch.tensor([0.1, 0.2, 0.3]), SCALE, 90, OUTPUTS[0])
    expected = op(x)
    assert list(op.state_dict()) == ["slopes"]
    assert torch.equal(op.half()(x), expected)


def test_what_prelu_refuses() -> None:
    op = PRelu(torch.tensor([0.1, 0.2, 0.3]), SCALE, 90, OUTPUTS[0])
    with pytest.raises(DataError, match="uint8 or int8"):
        op(torch.zeros(1, 3))
    for shape in ((2, 4), (3,)):
        with pytest.raises(DataError, match="a channel for each slope"):
            op(random_bytes(shape))
    with pytest.raises(ConfigError, match="inverse"):
        PRelu(torch.ones(1), SCALE, 90, IntegerOutput("uint8", 0, 0, 255))


def test_prelu_reads_like_a_layer() -> None:
    assert repr(PRelu(torch.ones(3), 0.5, 90, FloatOutput())) == "PRelu(3, x: scale=0.5 zero_point=90, y: float32)"


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8])
def test_maximum_and_minimum_of_integers_are_those_of_the_reals(dtype: torch.dtype) -> None:
    a, b = random_bytes((2, 3, 50), dtype), random_bytes((3, 1), dtype, seed=1)
    for choose in (torch.maximum, torch.minimum):
        chosen = choose(a, b)
        assert chosen.dtype == dtype
        reals = choose((a.double() - 77) * SCALE, (b.double() - 77) * SCALE)
        assert torch.equal((chosen.double() - 77) * SCALE, reals)

"""Outputs say no to bounds that their dtype doesn't have."""

from __future__ import annotations

import pytest
import torch

from fxq.errors import ConfigError
from fxq.graph.qtypes import QDType
from fxq.runtime.integer.outputs import FloatOutput, IntegerOutput, finish, finish_into


@pytest.mark.parametrize(
    ("dtype", "zero_point", "low", "high"),
    [("uint8", 0, -1, 255), ("uint8", 0, 0, 256), ("uint8", -1, 0, 255), ("int8", 0, 5, 4), ("int8", 128, 0, 1), ("int32", 0, 0, 1)],
)
def test_impossible_bounds(dtype: QDType, zero_point: int, low: int, high: int) -> None:
    with pytest.raises(ConfigError):
        IntegerOutput(dtype, zero_point, low, high)


@pytest.mark.parametrize(
    "output", [IntegerOutput("uint8", 255, 3, 250), IntegerOutput("int8", -128, -128, 127), FloatOutput(-1.5, 2.5)], ids=str
)
def test_finish_and_finish_into_agree_with_the_formula(output: IntegerOutput | FloatOutput) -> None:
    values = torch.cat([torch.arange(-600, 600) / 2, torch.tensor([1e30, -1e30, 2.0**22, -(2.0**23) - 1, float("inf"), -float("inf")])])
    if isinstance(output, FloatOutput):
        expected = values.clamp(output.low, output.high)
    else:
        expected = (values.double().round() + output.zero_point).clamp(output.low, output.high).to(getattr(torch, output.dtype))
    out = torch.empty_like(expected)
    finish_into(out, values.clone(), output)
    assert torch.equal(out, expected)
    assert torch.equal(finish(values.clone(), output), expected)

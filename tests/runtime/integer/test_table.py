"""Tables against f on every one of the 256 values."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fxq.errors import DataError
from fxq.graph.qtypes import QParams, QuantSpec
from fxq.runtime.integer import elementwise
from fxq.runtime.integer.table import Function, Table, build_table
from tests.runtime.integer.reference import random_bytes

U8, S8 = QuantSpec("uint8", 0, 255), QuantSpec("int8", -128, 127)
FUNCTIONS: tuple[Function, ...] = (
    lambda v: 1 / (1 + np.exp(-v)),
    np.tanh,
    lambda v: v * np.clip(v + 3, 0, 6) / 6,
    lambda v: v,
    np.exp,
)


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("x_spec", [U8, S8], ids=str)
@pytest.mark.parametrize("y_spec", [U8, S8, QuantSpec("int8", -127, 100)], ids=str)
def test_every_entry(function: Function, x_spec: QuantSpec, y_spec: QuantSpec) -> None:
    x = QParams.per_tensor(0.043, x_spec.qmin + 100, x_spec)
    y = QParams.per_tensor(0.0123, y_spec.qmin + 30, y_spec)
    op = Table(build_table(function, x, y))
    inverse = np.float64(np.float32(1) / np.float32(0.0123))
    for q in range(x_spec.qmin, x_spec.qmax + 1):
        real = float(np.float32(0.043)) * (q - int(x.zero_point))
        value = float(function(np.array([real]))[0]) * inverse
        expected = min(max(np.rint(value) + int(y.zero_point), y_spec.qmin), y_spec.qmax)
        found = op(torch.tensor([q], dtype=x_spec.torch_dtype))
        assert found.dtype == y_spec.torch_dtype
        assert found.tolist() == [expected]


def test_values_outside_the_domain() -> None:
    with np.errstate(all="raise"):
        table = build_table(lambda v: 1 / v, QParams.per_tensor(1.0, 1), QParams.per_tensor(0.5, 7))
        roots = build_table(np.sqrt, QParams.per_tensor(1.0, 2), QParams.per_tensor(1.0, 7))
    assert table[:4].tolist() == [5, 255, 9, 8]
    assert roots[:4].tolist() == [0, 0, 7, 8]


@pytest.mark.parametrize("budget", [7, 1 << 16])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8])
def test_shapes_and_layouts(dtype: torch.dtype, budget: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(elementwise, "_BUDGET", budget)
    op = Table(random_bytes((256,), seed=5))
    x = random_bytes((2, 3, 4, 5), dtype)
    expected = op.table[x.long() - torch.iinfo(dtype).min]
    last = x.contiguous(memory_format=torch.channels_last)
    for other in (x, last, x.transpose(1, 2).contiguous().transpose(1, 2)):
        assert torch.equal(op(other), expected)
    assert op(last).is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(op(x[:, ::2]), expected[:, ::2])
    assert op(x[:0]).shape == (0, 3, 4, 5)
    assert op(x[0, 0, 0, 0]).shape == ()


def test_floats_are_refused() -> None:
    with pytest.raises(DataError, match="uint8 or int8"):
        Table(random_bytes((256,)))(torch.zeros(3))


def test_reads_like_a_layer() -> None:
    assert repr(Table(torch.arange(256).to(torch.uint8))) == "Table(y: uint8 [0, 255])"

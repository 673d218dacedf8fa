"""DynamicLinear by torch's integer ops: what it computes, and what it refuses."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from fxq.errors import ConfigError, DataError
from fxq.graph.qtypes import ACTIVATION, choose_qparams, dequantize_tensor, quantize_tensor
from fxq.runtime.dynamic.linear import DynamicLinear
from fxq.runtime.dynamic.product import RowWeights
from fxq.runtime.integer.outputs import FloatOutput
from tests.runtime.jit.regions import dynamic_linear


@pytest.mark.parametrize("per_row", [False, True])
def test_it_multiplies_what_its_own_qparams_leave_of_x(per_row: bool) -> None:
    op, x = dynamic_linear(40, 30, per_row=per_row), torch.randn(2, 5, 40)
    x[0, 1] *= 30
    rows = x.reshape(-1, 40)
    parts = rows.split(1) if per_row else [rows]
    rounded = torch.cat([dequantize_tensor(quantize_tensor(part, found), found) for part in parts for found in [_range(part)]])
    weight = op.weight.double() * op.scale.double()[:, None]
    assert op.bias is not None
    expected = rounded.double() @ weight.t() + op.bias.double()
    largest = (rounded.double().abs() @ weight.t().abs()).max()
    assert op(x).shape == (2, 5, 30)
    assert float((op(x).reshape(-1, 30) - expected).abs().max()) <= 2.0**-22 * float(largest)


def _range(part: torch.Tensor):  # type: ignore[no-untyped-def]
    return choose_qparams(part.min(), part.max(), ACTIVATION)


def test_rows_with_scales_of_their_own_do_not_depend_on_each_other() -> None:
    op, x = dynamic_linear(20, 8, per_row=True), torch.randn(6, 20)
    x[2] *= 1e4
    assert torch.equal(op(x), torch.cat([op(row) for row in x.split(1)]))


@pytest.mark.parametrize("shape", [(0, 20), (3, 0, 20)])
def test_empty_batch(shape: tuple[int, ...]) -> None:
    assert dynamic_linear(20, 8)(torch.empty(shape)).shape == (*shape[:-1], 8)


def test_a_vector_and_half_precision() -> None:
    op, x = dynamic_linear(20, 8), torch.randn(20)
    assert op(x).shape == (8,)
    for dtype in (torch.float16, torch.bfloat16, torch.float64):
        assert torch.equal(op(x.to(dtype)), op(x.to(dtype).float()).to(dtype))


def test_any_strides() -> None:
    op, x = dynamic_linear(20, 8), torch.randn(20, 6)
    assert torch.equal(op(x.t()), op(x.t().contiguous()))


def test_half_leaves_its_constants_alone() -> None:
    op = dynamic_linear(20, 8).half()
    assert op.scale.dtype == torch.float32


@pytest.mark.parametrize("x", [torch.zeros(2, 19), torch.zeros(2, 20, dtype=torch.int8), torch.tensor(1.0)])
def test_what_it_cannot_take(x: torch.Tensor) -> None:
    with pytest.raises(DataError, match=r"float tensor \[\.\.\., 20\]"):
        dynamic_linear(20, 8)(x)


def test_sums_that_could_overflow() -> None:
    weight = torch.full((1, 70_000), 127, dtype=torch.int8)
    with pytest.raises(ConfigError, match="32 bits"):
        DynamicLinear(RowWeights(weight, torch.ones(1), None))


def test_no_features() -> None:
    op = DynamicLinear(RowWeights(torch.empty(3, 0, dtype=torch.int8), torch.ones(3), torch.ones(3)), FloatOutput(high=0.5))
    assert torch.equal(op(torch.empty(2, 0)), torch.full((2, 3), 0.5))


def test_the_environment_goes_before_auto(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FXQ_RUNTIME", "integer")
    op = dynamic_linear(20, 8)
    assert op.compiled() is None
    op.run_with("jit")
    assert op.compiled() is not None


def test_it_stands_in_a_model() -> None:
    model = nn.Sequential(dynamic_linear(20, 8), nn.ReLU())
    assert model(torch.randn(3, 20)).shape == (3, 8)

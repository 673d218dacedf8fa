"""Linear against int64 sums, bit for bit."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch

from fxq.errors import DataError
from fxq.runtime.integer import epilogue
from fxq.runtime.integer.linear import Linear
from fxq.runtime.integer.outputs import FloatOutput, IntegerOutput, Output, PackedWeights, Residual
from tests.runtime.integer import reference
from tests.runtime.integer.reference import random_bytes, random_weights

U8 = IntegerOutput("uint8", 110, 0, 255)
OUTPUTS = (U8, IntegerOutput("int8", 5, 5, 127), FloatOutput(), FloatOutput(-1.0, 1.0))


@pytest.mark.parametrize("shape", [(7,), (1, 7), (5, 64), (2, 3, 65), (0, 9), (2, 0, 9), (3, 2, 2, 600)])
@pytest.mark.parametrize("output", OUTPUTS, ids=str)
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8])
def test_equals_the_formula(shape: tuple[int, ...], output: Output, dtype: torch.dtype) -> None:
    x, weights = random_bytes(shape, dtype), random_weights((33, shape[-1]))
    found, expected = Linear(weights, output)(x), reference.linear(x, weights, output)
    assert found.dtype == expected.dtype
    assert torch.equal(found, expected)


@pytest.mark.parametrize("budget", [1, 100, 1 << 16])
def test_residual_and_pieces(budget: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(epilogue, "_BUDGET", budget)
    x, weights, residual = random_bytes((4, 13, 20)), random_weights((17, 20)), Residual(200, 0.11)
    a = random_bytes((17, 4, 13), seed=3).permute(1, 2, 0)
    expected = reference.linear(x, weights, U8, reference.second_operand(a, residual))
    assert torch.equal(Linear(weights, U8, residual)(x, a), expected)


def test_layouts_of_the_input() -> None:
    x, weights = random_bytes((6, 5, 4)), random_weights((3, 6))
    view = x.permute(2, 1, 0)
    assert torch.equal(Linear(weights, U8)(view), reference.linear(view, weights, U8))


def test_rounding_to_f32_before_the_multiplier() -> None:
    """acc = 2^24 + 1 has no f32: it becomes 2^24, ties to even, and only then is multiplied."""
    weights = PackedWeights(torch.zeros(1, 4, dtype=torch.int8), torch.tensor([2**24 + 1], dtype=torch.int32), torch.tensor([1.0]))
    assert Linear(weights, FloatOutput())(random_bytes((4,))).tolist() == [2.0**24]


@pytest.mark.parametrize(("acc", "rounded"), [(1, 0), (3, 2), (5, 2), (-1, 0), (-3, -2), (-5, -2), (7, 4)])
@pytest.mark.parametrize("zero_point", [100, 101])
def test_ties_go_to_even_before_the_zero_point(acc: int, rounded: int, zero_point: int) -> None:
    weights = PackedWeights(torch.zeros(1, 4, dtype=torch.int8), torch.tensor([acc], dtype=torch.int32), torch.tensor([0.5]))
    assert Linear(weights, IntegerOutput("uint8", zero_point, 0, 255))(random_bytes((4,))).tolist() == [rounded + zero_point]


@pytest.mark.parametrize("acc", [2**31 - 1, -(2**31)])
def test_the_largest_accumulators_saturate(acc: int) -> None:
    weights = PackedWeights(torch.zeros(1, 4, dtype=torch.int8), torch.tensor([acc], dtype=torch.int32), torch.tensor([1e30]))
    assert Linear(weights, U8)(random_bytes((4,))).tolist() == [255 if acc > 0 else 0]


def test_copies() -> None:
    x, op = random_bytes((3, 8)), Linear(random_weights((4, 8)), U8, None)
    assert torch.equal(copy.deepcopy(op)(x), op(x))
    assert torch.equal(pickle.loads(pickle.dumps(op))(x), op(x))
    assert op.half().multiplier.dtype == torch.float32


def test_what_does_not_fit_is_refused() -> None:
    op = Linear(random_weights((4, 8)), U8)
    for x in (torch.zeros(3, 8), random_bytes((3, 7)), random_bytes(())):
        with pytest.raises(DataError):
            op(x)
    with pytest.raises(DataError, match="residual"):
        op(random_bytes((3, 8)), random_bytes((3, 4)))


def test_reads_like_a_layer() -> None:
    assert repr(Linear(random_weights((4, 8)), FloatOutput())) == "Linear(8, 4, y: float32)"

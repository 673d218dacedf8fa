"""Sums and products of 8-bit tensors against their formulas, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from fxq.errors import ConfigError, DataError
from fxq.runtime.integer import elementwise
from fxq.runtime.integer.binary import Add, AddFixedPoint, FixedOperand, Mul, Operand, Sub
from fxq.runtime.integer.outputs import FloatOutput, IntegerOutput, Output
from tests.runtime.integer.reference import Array, finish, random_bytes, rescale

OUTPUTS = (
    IntegerOutput("uint8", 101, 0, 255),
    IntegerOutput("uint8", 0, 0, 200),
    IntegerOutput("int8", -1, -1, 127),
    FloatOutput(-3.0, 9.0),
)
EVERY_A, EVERY_B = (side.reshape(-1) for side in torch.meshgrid(*[torch.arange(256, dtype=torch.uint8)] * 2, indexing="ij"))
DTYPES = (torch.uint8, torch.int8)


@pytest.mark.parametrize("zero_points", [(0, 0), (128, 127), (255, 3)])
@pytest.mark.parametrize("output", OUTPUTS, ids=str)
def test_every_pair(zero_points: tuple[int, int], output: Output) -> None:
    a, b = Operand(zero_points[0], 0.73), Operand(zero_points[1], 0.5)
    left, right = rescale(EVERY_A, a.zero_point, a.ratio), rescale(EVERY_B, b.zero_point, b.ratio)
    assert torch.equal(Add(a, b, output)(EVERY_A, EVERY_B), finish(left + right, output))
    assert torch.equal(Sub(a, b, output)(EVERY_A, EVERY_B), finish(left - right, output))
    product = (EVERY_A.numpy().astype(np.int64) - a.zero_point) * (EVERY_B.numpy().astype(np.int64) - b.zero_point)
    expected = finish(product.astype(np.float32) * np.float32(0.0123), output)
    assert torch.equal(Mul(a.zero_point, b.zero_point, float(np.float32(0.0123)), output)(EVERY_A, EVERY_B), expected)


def broadcast_pairs() -> list[tuple[Tensor, Tensor]]:
    a = random_bytes((2, 5, 6, 7))
    return [
        (a, random_bytes((2, 5, 6, 7), torch.int8)),
        (a, random_bytes((5, 1, 1))),
        (random_bytes((7,)), a),
        (random_bytes((2, 1, 6, 1)), random_bytes((5, 1, 7))),
        (a, random_bytes(())),
        (a.contiguous(memory_format=torch.channels_last), random_bytes((2, 5, 6, 7), seed=1).contiguous(memory_format=torch.channels_last)),
        (a.contiguous(memory_format=torch.channels_last), a),
        (a[:, ::2, ::2], a[:, ::2, ::2]),
        (a[:0], a[:0]),
        (a, a),
    ]


@pytest.mark.parametrize("pair", range(len(broadcast_pairs())))
@pytest.mark.parametrize("budget", [3, 1 << 16])
def test_broadcasting_and_layouts(pair: int, budget: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(elementwise, "_BUDGET", budget)
    a, b = broadcast_pairs()[pair]
    before = a.clone(), b.clone()
    output, left, right = OUTPUTS[0], Operand(3, 0.4), Operand(-5, 0.6)
    values = rescale(a, 3, 0.4) + rescale(b, -5, 0.6)
    assert torch.equal(Add(left, right, output)(a, b), finish(values, output))
    product: Array = (a.numpy().astype(np.int64) - 3) * (b.numpy().astype(np.int64) + 5)
    expected = finish(product.astype(np.float32) * np.float32(0.25), output)
    assert torch.equal(Mul(3, -5, 0.25, output)(a, b), expected)
    found = AddFixedPoint.from_ratios(left, right, IntegerOutput("uint8", 9, 0, 255))(a, b)
    assert torch.equal(found, _fixed_sum(a, b, left, right, 9))
    assert torch.equal(a, before[0])
    assert torch.equal(b, before[1])


def _fixed_sum(a: Tensor, b: Tensor, left: Operand, right: Operand, zero_point: int) -> Tensor:
    """Halves away from zero, in exact Python-sized integers."""
    shift = 21 - int(np.floor(np.log2(max(left.ratio, right.ratio))))
    sides = ((a, left), (b, right))
    terms = [(q.numpy().astype(np.int64) - side.zero_point) * int(np.rint(np.float64(side.ratio) * 2**shift)) for q, side in sides]
    total = terms[0] + terms[1]
    rounded = np.sign(total) * ((np.abs(total) + 2 ** (shift - 1)) // 2**shift)
    return torch.from_numpy(np.clip(rounded + zero_point, 0, 255).astype(np.uint8))


@pytest.mark.parametrize(
    "ratios", [(2.0**-10, 2.0**-11), (255.9, 255.9), (1.0, 1e-6), (0.7, 0.3), (1.9999999, 1.0), (0.25, 0.25), (3.0, 0.001)]
)
@pytest.mark.parametrize("zero_points", [(0, 0), (255, 255), (128, 0)])
def test_fixed_point_every_pair(ratios: tuple[float, float], zero_points: tuple[int, int]) -> None:
    a, b = (Operand(zero_point, float(np.float32(ratio))) for zero_point, ratio in zip(zero_points, ratios, strict=True))
    op = AddFixedPoint.from_ratios(a, b, IntegerOutput("uint8", 77, 0, 255))
    assert torch.equal(op(EVERY_A, EVERY_B), _fixed_sum(EVERY_A, EVERY_B, a, b, 77))


def test_fixed_point_rounds_halves_away_from_zero() -> None:
    op = AddFixedPoint(FixedOperand(10, 1), FixedOperand(0, 0), 1, IntegerOutput("uint8", 100, 0, 255))
    q = torch.tensor([7, 8, 9, 10, 11, 12, 13], dtype=torch.uint8)
    assert op(q, torch.zeros_like(q)).tolist() == [98, 99, 99, 100, 101, 101, 102]


@pytest.mark.parametrize("ratio", [2.0**-10 * 0.999, 256.0])
def test_fixed_point_has_a_range(ratio: float) -> None:
    with pytest.raises(ConfigError, match="2\\^-10"):
        AddFixedPoint.from_ratios(Operand(0, ratio), Operand(0, 2.0**-12), IntegerOutput("uint8", 0, 0, 255))


def test_layout_is_kept() -> None:
    a = random_bytes((2, 5, 6, 7)).contiguous(memory_format=torch.channels_last)
    y = Add(Operand(0, 0.5), Operand(0, 0.5), OUTPUTS[0])(a, a)
    assert y.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("op", [Add(Operand(0, 1.0), Operand(0, 1.0), OUTPUTS[0]), Mul(0, 0, 1.0, OUTPUTS[0])], ids=repr)
def test_floats_are_refused(op: torch.nn.Module) -> None:
    for a, b in ((torch.zeros(2), random_bytes((2,))), (random_bytes((2,)), torch.zeros(2))):
        with pytest.raises(DataError, match="uint8 or int8"):
            op(a, b)


def test_reads_like_a_layer() -> None:
    op = Add(Operand(1, 0.5), Operand(2, 0.25), IntegerOutput("uint8", 3, 3, 255))
    assert repr(op) == "Add(a: zero_point=1 ratio=0.5, b: zero_point=2 ratio=0.25, y: uint8 zero_point=3 [3, 255])"

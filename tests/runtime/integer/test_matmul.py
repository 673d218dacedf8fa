"""Every product gives the exact integers."""

from __future__ import annotations

import platform
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from fxq.errors import DataError
from fxq.runtime.integer import elementwise, matmul
from fxq.runtime.integer.matmul import MatMul, blocked_mm, exact_conv_dtype, exact_float_dtype, has_exact_int_mm, int_mm
from fxq.runtime.integer.outputs import FloatOutput, IntegerOutput, Output
from tests.runtime.integer.reference import random_bytes, requantize

Product = Callable[[Tensor, Tensor], Tensor]
SIZES = [
    (1, 1, 1),
    (50, 1, 33),
    (2, 1, 33),
    (1, 1, 33),
    (5, 1, 1),
    (50, 2, 33),
    (9, 40, 1),
    (1, 64, 16),
    (7, 513, 33),
    (48, 514, 64),
    (49, 515, 1),
    (3, 1029, 17),
    (0, 4, 4),
    (4, 0, 4),
    (4, 4, 0),
]


@pytest.mark.parametrize(("rows", "depth", "columns"), SIZES)
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8])
@pytest.mark.parametrize("product", [int_mm, blocked_mm])
def test_equals_int64(product: Product, dtype: torch.dtype, rows: int, depth: int, columns: int) -> None:
    x, w = random_bytes((rows, depth), dtype), random_bytes((columns, depth), torch.int8, seed=1)
    expected = (x.long() @ w.long().t()).to(torch.int32)
    assert torch.equal(product(x, w), expected)


@pytest.mark.parametrize("weight", [-128, -127, 127])
@pytest.mark.parametrize(("fill", "dtype"), [(0, torch.uint8), (255, torch.uint8), (-128, torch.int8), (127, torch.int8)])
@pytest.mark.parametrize("product", [int_mm, blocked_mm])
def test_extremes_neither_saturate_nor_round(product: Product, fill: int, dtype: torch.dtype, weight: int) -> None:
    x = torch.full((50, 2049), fill, dtype=dtype)
    w = torch.full((65, 2049), weight, dtype=torch.int8)
    w[:, 0] = 1  # an odd sum, which a rounding above 2^24 would show
    assert torch.equal(product(x, w), torch.full((50, 65), fill * (2048 * weight + 1), dtype=torch.int32))


def test_strided_operands() -> None:
    x, w = random_bytes((40, 96)), random_bytes((64, 24), torch.int8)
    part = x[::2, 8:32]
    assert torch.equal(int_mm(part, w), (part.long() @ w.long().t()).to(torch.int32))
    assert torch.equal(blocked_mm(part, w), (part.long() @ w.long().t()).to(torch.int32))


@pytest.mark.parametrize("rows", [1, 2, 9])
@pytest.mark.parametrize("stride", [1, 5, 8, 24, 25, 100])
@pytest.mark.parametrize("product", [int_mm, blocked_mm])
def test_rows_that_overlap_or_lie_apart(product: Product, stride: int, rows: int) -> None:
    x = random_bytes((1000,)).as_strided((rows, 24), (stride, 1))
    w = random_bytes((1000,), torch.int8, seed=1).as_strided((rows, 24), (stride, 1))
    for left, right in ((x, random_bytes((16, 24), torch.int8)), (random_bytes((7, 24)), w)):
        assert torch.equal(product(left, right), (left.long() @ right.long().t()).to(torch.int32))


def test_falls_back_where_int_mm_is_not_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matmul, "has_exact_int_mm", lambda: False)
    monkeypatch.setattr(torch, "_int_mm", lambda *_: pytest.fail("torch._int_mm was called"))
    x, w = random_bytes((5, 600)), random_bytes((6, 600), torch.int8)
    assert torch.equal(int_mm(x, w), (x.long() @ w.long().t()).to(torch.int32))


def test_a_saturating_int_mm_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """16-bit sums of pairs, as u8·s8 without VNNI adds them up."""

    def saturating(x: Tensor, w: Tensor) -> Tensor:
        pairs = (x.int().unflatten(1, (-1, 2)).permute(1, 0, 2) @ w.int().unflatten(0, (-1, 2))).clamp(-(2**15), 2**15 - 1)
        return pairs.sum(0).to(torch.int32)

    has_exact_int_mm.cache_clear()
    monkeypatch.setattr(torch, "_int_mm", saturating)
    assert not has_exact_int_mm()
    has_exact_int_mm.cache_clear()


def test_convolutions_that_may_transform_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "arm64")
    assert exact_conv_dtype() == torch.float64


def test_fewer_bits_are_not_used() -> None:
    assert exact_float_dtype() == torch.float32
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert exact_float_dtype() == exact_conv_dtype() == torch.float64
        x, w = random_bytes((3, 1000)), random_bytes((4, 1000), torch.int8)
        assert torch.equal(blocked_mm(x, w), (x.long() @ w.long().t()).to(torch.int32))
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        assert exact_float_dtype() == torch.float64
    finally:
        torch.set_float32_matmul_precision(before)
    assert exact_float_dtype() == torch.float32


SHAPES: list[tuple[tuple[int, ...], tuple[int, ...]]] = [
    ((3, 4), (4, 5)),
    ((4,), (4,)),
    ((2, 3, 4), (4,)),
    ((4,), (2, 4, 3)),
    ((2, 3, 7, 64), (2, 3, 64, 9)),
    ((2, 1, 5, 6), (3, 6, 4)),
    ((5, 6), (2, 6, 1)),
    ((7, 600), (600, 3)),
    ((2, 3, 1100), (2, 1100, 2)),
    ((0, 4), (4, 5)),
    ((2, 0, 3, 4), (4, 5)),
    ((3, 0), (0, 2)),
]
OUTPUTS: tuple[Output, ...] = (
    IntegerOutput("uint8", 101, 0, 255),
    IntegerOutput("int8", -1, -1, 100),
    FloatOutput(),
    FloatOutput(-1.0, 1.0),
)


def expected_of(op: MatMul, a: Tensor, b: Tensor) -> Tensor:
    acc = np.matmul(a.numpy().astype(np.int64) - op.a_zero_point, b.numpy().astype(np.int64) - op.b_zero_point)
    return requantize(np.asarray(acc), np.asarray(np.float32(op.multiplier)), op.output, None)


@pytest.mark.parametrize(("a_shape", "b_shape"), SHAPES)
@pytest.mark.parametrize("zero_points", [(0, 0), (127, 100), (12, 127)])
@pytest.mark.parametrize("dtypes", [(torch.uint8, torch.uint8), (torch.int8, torch.uint8), (torch.int8, torch.int8)])
def test_matmul_equals_the_formula(
    a_shape: tuple[int, ...], b_shape: tuple[int, ...], zero_points: tuple[int, int], dtypes: tuple[torch.dtype, torch.dtype]
) -> None:
    a, b = random_bytes(a_shape, dtypes[0]), random_bytes(b_shape, dtypes[1], seed=1)
    for output in OUTPUTS:
        op = MatMul(*zero_points, float(np.float32(0.003 / max(1, a_shape[-1]) ** 0.5)), output)
        found, expected = op(a, b), expected_of(op, a, b)
        assert (found.dtype, found.shape) == (expected.dtype, torch.matmul(a.float(), b.float()).shape)
        assert torch.equal(found, expected)


@pytest.mark.parametrize("fills", [(255, 255), (0, 255), (0, 0)])
@pytest.mark.parametrize("zero_points", [(0, 0), (255, 0), (255, 255)])
@pytest.mark.parametrize("depth", [257, 258, 259, 517, 33025])
def test_matmul_of_extremes_is_not_rounded(fills: tuple[int, int], zero_points: tuple[int, int], depth: int) -> None:
    a, b = (torch.full(shape, fill, dtype=torch.uint8) for shape, fill in zip(((2, depth), (depth, 3)), fills, strict=True))
    a[0, 0], b[0, 0] = 254, 1  # odd sums, which a rounding above 2^24 would show
    op = MatMul(*zero_points, 1.0, FloatOutput())
    assert torch.equal(op(a, b), expected_of(op, a, b))


def test_a_matmul_too_deep_for_int32_is_refused() -> None:
    op = MatMul(0, 0, 1.0, FloatOutput())
    with pytest.raises(DataError, match="at most 33025"):
        op(random_bytes((1, 33026)), random_bytes((33026, 1)))
    middle = MatMul(128, 128, 1.0, FloatOutput())
    a, b = random_bytes((1, 33026)), random_bytes((33026, 1))
    assert torch.equal(middle(a, b), expected_of(middle, a, b))


def test_layouts_of_matmuls_operands(monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = random_bytes((2, 6, 5, 16)), random_bytes((2, 6, 16, 7), seed=1)
    op = MatMul(100, 120, 0.001, OUTPUTS[0])
    expected = expected_of(op, a, b)
    turned = [q.transpose(-1, -2).contiguous().transpose(-1, -2) for q in (a, b)]
    heads = [q.transpose(1, 2).contiguous().transpose(1, 2) for q in (a, b)]
    for budget in (7, 1 << 16):
        monkeypatch.setattr(elementwise, "_BUDGET", budget)
        for left, right in ((a, b), turned, heads, (a.expand_as(a), b)):
            assert torch.equal(op(left, right), expected)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(op(a, b), expected)
    wide = random_bytes((2, 6, 10, 16))[:, :, ::2]
    assert torch.equal(op(wide, b), expected_of(op, wide, b))


@pytest.mark.parametrize(
    ("a_shape", "b_shape"), [((3, 4), (5, 4)), ((2, 3, 4), (3, 4, 5)), ((), (4,)), ((4,), ()), ((3, 4), (3,)), ((4,), (3, 4))]
)
def test_matmul_refuses_shapes_that_do_not_multiply(a_shape: tuple[int, ...], b_shape: tuple[int, ...]) -> None:
    with pytest.raises(DataError, match="broadcast"):
        MatMul(0, 0, 1.0, OUTPUTS[0])(random_bytes(a_shape), random_bytes(b_shape))


def test_matmul_refuses_floats_and_reads_like_a_layer() -> None:
    op = MatMul(3, 4, 0.5, OUTPUTS[0])
    with pytest.raises(DataError, match=r"MatMul\.b"):
        op(random_bytes((2, 3)), torch.zeros(3, 2))
    assert repr(op) == "MatMul(a: zero_point=3, b: zero_point=4, multiplier=0.5, y: uint8 zero_point=101 [0, 255])"

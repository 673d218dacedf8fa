"""Every product gives the exact integers."""

from __future__ import annotations

import platform
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from fxq.runtime.integer import matmul
from fxq.runtime.integer.matmul import blocked_mm, exact_conv_dtype, exact_float_dtype, has_exact_int_mm, int_mm
from tests.runtime.integer.reference import random_bytes

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

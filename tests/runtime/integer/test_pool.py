"""Pools: maxima against torch's own in float, means against sums of each window, bit for bit."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from fxq.errors import DataError
from fxq.runtime.integer.outputs import FloatOutput, IntegerOutput, Output
from fxq.runtime.integer.pool import (
    AdaptiveAvgPool,
    AdaptiveMaxPool,
    AvgPool,
    Divisor,
    MaxPool,
    Mean,
    PoolGeometry,
    Sum,
    adaptive_max_pool,
    max_pool,
)
from tests.runtime.integer.reference import Array, finish, random_bytes

MAX_POOLS = (F.max_pool1d, F.max_pool2d, F.max_pool3d)
ADAPTIVE_MAX_POOLS = (F.adaptive_max_pool1d, F.adaptive_max_pool2d, F.adaptive_max_pool3d)
U8 = IntegerOutput("uint8", 31, 0, 255)
OUTPUTS: tuple[Output, ...] = (U8, IntegerOutput("int8", -3, -128, 100), FloatOutput())
DTYPES = (torch.uint8, torch.int8)


@st.composite
def pools(draw: st.DrawFn) -> tuple[Tensor, PoolGeometry]:
    rank = draw(st.integers(1, 3))
    kernel = tuple(draw(st.integers(1, 4)) for _ in range(rank))
    stride = tuple(draw(st.integers(1, 3)) for _ in range(rank))
    padding = tuple(draw(st.integers(0, taps // 2)) for taps in kernel)
    dilation = tuple(draw(st.integers(1, 2)) for _ in range(rank))
    sizes = [gap * (taps - 1) + draw(st.integers(1, 5)) for taps, gap in zip(kernel, dilation, strict=True)]
    leading = draw(st.sampled_from([(2, 3), (3,)]))
    x = random_bytes((*leading, *sizes), draw(st.sampled_from(DTYPES)), draw(st.integers(0, 99)))
    return x, PoolGeometry(kernel, stride, padding, dilation, draw(st.booleans()))


@settings(deadline=None, max_examples=150)
@given(pools())
def test_max_pool_like_torch(pool: tuple[Tensor, PoolGeometry]) -> None:
    x, where = pool
    expected = MAX_POOLS[len(where.kernel) - 1](x.float(), where.kernel, where.stride, where.padding, where.dilation, where.ceil_mode)
    found = max_pool(x, where)
    assert found.dtype == x.dtype
    assert torch.equal(found.float(), expected)
    assert torch.equal(MaxPool(where)(x), found)


@pytest.mark.parametrize("fill", [0, 255])
def test_padding_never_wins(fill: int) -> None:
    x = torch.full((1, 2, 5, 5), fill, dtype=torch.uint8)
    assert max_pool(x, PoolGeometry((3, 3), (2, 2), (1, 1))).unique().tolist() == [fill]
    x = torch.full((1, 2, 5, 5), -128, dtype=torch.int8)
    assert max_pool(x, PoolGeometry((3, 3), (2, 2), (1, 1))).unique().tolist() == [-128]


def test_max_pool_keeps_the_layout() -> None:
    x = random_bytes((2, 8, 9, 9)).contiguous(memory_format=torch.channels_last)
    y = max_pool(x, PoolGeometry((3, 3), (2, 2), (1, 1)))
    assert y.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(y, max_pool(x.contiguous(), PoolGeometry((3, 3), (2, 2), (1, 1))))
    assert max_pool(x[:0], PoolGeometry((3, 3), (2, 2), (1, 1))).shape == (0, 8, 5, 5)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("shape", "size"), [((2, 3, 7), (3,)), ((3, 7, 8), (5, 1)), ((2, 3, 7, 5), (None, 4)), ((1, 2, 4, 5, 6), (2, 3, 6)), ((2, 3), (5,))]
)
def test_adaptive_max_pool_like_torch(shape: tuple[int, ...], size: tuple[int | None, ...], dtype: torch.dtype) -> None:
    x = random_bytes(shape, dtype)
    concrete = tuple(wanted or length for wanted, length in zip(size, shape[-len(size) :], strict=True))
    expected = ADAPTIVE_MAX_POOLS[len(size) - 1](x.float(), concrete)
    found = adaptive_max_pool(x, size)
    assert found.dtype == dtype
    assert torch.equal(AdaptiveMaxPool(size)(x), found)
    assert torch.equal(found.float(), expected)


def averages(x: Tensor, bounds: list[list[tuple[int, int]]], count: Callable[..., int], constants: tuple[float, int, Output]) -> Tensor:
    """Window by window: bounds[d][i] are the first and last+1 element of window i of dimension d, inside the input."""
    step, zero_point, output = constants
    integers = x.numpy().astype(np.int64) - zero_point
    shape = x.shape[: x.ndim - len(bounds)]
    values: Array = np.zeros((*shape, *(len(along) for along in bounds)), np.float32)
    for place in itertools.product(*(range(len(along)) for along in bounds)):
        spans = [bounds[dim][i] for dim, i in enumerate(place)]
        total = integers[(..., *(slice(first, last) for first, last in spans))].sum(tuple(range(-len(bounds), 0)))
        values[(..., *place)] = total.astype(np.float32) * (np.float32(step) / np.float32(count(place)))
    return finish(values, output)


@settings(deadline=None, max_examples=150)
@given(pools(), st.booleans(), st.sampled_from([None, None, 1, 7, -3]), st.sampled_from(OUTPUTS))
def test_avg_pool_equals_the_formula(pool: tuple[Tensor, PoolGeometry], include: bool, override: int | None, output: Output) -> None:
    x, where = pool
    where = PoolGeometry(where.kernel, where.stride, where.padding, (), where.ceil_mode)
    rank = len(where.kernel)
    lengths = x.shape[-rank:]
    like: Any = (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)[rank - 1]
    counts = like(x.float(), where.kernel, where.stride, where.padding, where.ceil_mode).shape[-rank:]
    starts = [[i * where.stride[dim] - where.padding[dim] for i in range(counts[dim])] for dim in range(rank)]
    bounds = [[(max(start, 0), min(start + where.kernel[dim], lengths[dim])) for start in starts[dim]] for dim in range(rank)]

    def divisor(place: tuple[int, ...]) -> int:
        if override is not None:
            return override
        product = 1
        for dim, i in enumerate(place):
            first, last = bounds[dim][i]
            padded_end = min(starts[dim][i] + where.kernel[dim], lengths[dim] + where.padding[dim])
            product *= padded_end - starts[dim][i] if include else last - first
        return product

    expected = averages(x, bounds, divisor, (0.7, 60, output))
    step = float(np.float32(0.7))
    assert torch.equal(AvgPool(where, step, 60, output, Divisor(include, override))(x), expected)


@settings(deadline=None, max_examples=60)
@given(pools(), st.booleans())
def test_avg_pool_has_torchs_windows(pool: tuple[Tensor, PoolGeometry], include: bool) -> None:
    x, where = pool
    assume(len(where.kernel) == 2)
    expected = F.avg_pool2d(x.double() - 60, where.kernel, where.stride, where.padding, where.ceil_mode, include)
    found = AvgPool(PoolGeometry(where.kernel, where.stride, where.padding, (), where.ceil_mode), 1.0, 60, FloatOutput(), Divisor(include))(
        x
    )
    assert torch.allclose(found.double(), expected, rtol=2.0**-22, atol=0)  # two f32 roundings


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("output", OUTPUTS, ids=str)
@pytest.mark.parametrize("size", [(1, 1), (3, 2), (None, 4), (7, 9), (10, 1)])
def test_adaptive_avg_pool_equals_the_formula(size: tuple[int | None, ...], output: Output, dtype: torch.dtype) -> None:
    x = random_bytes((2, 3, 7, 9), dtype)
    bounds = [
        [(i * length // parts, -(-(i + 1) * length // parts)) for i in range(parts)]
        for length, parts in zip((7, 9), (wanted or length for wanted, length in zip(size, (7, 9), strict=True)), strict=True)
    ]

    def count(place: tuple[int, int]) -> int:
        spans = [bounds[dim][i] for dim, i in enumerate(place)]
        return (spans[0][1] - spans[0][0]) * (spans[1][1] - spans[1][0])

    op = AdaptiveAvgPool(size, float(np.float32(0.9)), 77, output)
    expected = averages(x, bounds, count, (0.9, 77, output))
    for other in (x, x.contiguous(memory_format=torch.channels_last)):
        assert torch.equal(op(other), expected)
    assert torch.equal(op(x[0]), expected[0])
    assert op(x[:0]).shape == (0, *expected.shape[1:])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("output", OUTPUTS, ids=str)
@pytest.mark.parametrize(("dims", "keepdim"), [((2, 3), False), ((-1,), True), ((1, -2), True), ((), False), ((0, 3), False)])
def test_mean_and_sum(dims: tuple[int, ...], keepdim: bool, output: Output, dtype: torch.dtype) -> None:
    x = random_bytes((2, 5, 6, 7), dtype)
    axes = dims or (0, 1, 2, 3)
    total = (x.numpy().astype(np.int64) - 100).sum(axes, keepdims=keepdim).astype(np.float32)
    step, count = np.float32(0.37), np.float32(np.prod([x.shape[dim] for dim in axes]))
    assert torch.equal(Mean(dims, float(step), 100, output, keepdim)(x), finish(np.asarray(total * (step / count)), output))
    assert torch.equal(Sum(dims, float(step), 100, output, keepdim)(x), finish(np.asarray(total * step), output))


def test_long_sums_do_not_overflow() -> None:
    x = torch.full((1, 9_000_000), 255, dtype=torch.uint8)
    assert Mean((1,), 1.0, 0, FloatOutput())(x).tolist() == [float(np.float32(255 * 9_000_000) * (np.float32(1) / np.float32(9_000_000)))]
    assert Sum((1,), 2.0**-24, 0, FloatOutput())(x).tolist() == [float(np.float32(255 * 9_000_000)) * 2.0**-24]


def test_a_window_of_many_elements_is_exact() -> None:
    x = torch.full((1, 1, 300, 300), 255, dtype=torch.uint8)
    x[..., 0] = 254
    op = AvgPool(PoolGeometry((300, 300), (1, 1), (0, 0)), 1.0, 0, FloatOutput(), Divisor(override=1))
    assert op(x).tolist() == [[[[float(np.float32(255 * 90000 - 300))]]]]


def test_what_does_not_fit_is_refused() -> None:
    where = PoolGeometry((3, 3), (2, 2), (1, 1))
    for op in (MaxPool(where), AvgPool(where, 1.0, 0, U8), AdaptiveAvgPool((1, 1), 1.0, 0, U8)):
        with pytest.raises(DataError, match="uint8 or int8"):
            op(torch.zeros(1, 2, 5, 5))
        with pytest.raises(DataError, match="2 spatial dimensions"):
            op(random_bytes((5, 5)))
    with pytest.raises(DataError, match="larger input"):
        max_pool(random_bytes((1, 1, 1, 0)), where)
    with pytest.raises(DataError, match="at most half"):
        max_pool(random_bytes((1, 1, 5, 5)), PoolGeometry((3, 3), (2, 2), (2, 2)))
    with pytest.raises(DataError, match="uint8 or int8"):
        Mean((0,), 1.0, 0, U8)(torch.zeros(3))


def test_reads_like_a_layer() -> None:
    where = PoolGeometry((3, 3), (2, 2), (1, 1), ceil_mode=True)
    assert repr(MaxPool(where)) == "MaxPool(kernel=(3, 3), stride=(2, 2), padding=(1, 1), ceil_mode=True)"
    assert repr(Mean((2, 3), 0.5, 4, U8)) == "Mean(dims=(2, 3), keepdim=False, x: zero_point=4, y: uint8 zero_point=31 [0, 255])"
    assert repr(AdaptiveAvgPool((1, None), 0.5, 4, U8)) == "AdaptiveAvgPool((1, None), x: zero_point=4, y: uint8 zero_point=31 [0, 255])"
    assert "count_include_pad=False" in repr(AvgPool(where, 0.5, 4, U8, Divisor(False)))

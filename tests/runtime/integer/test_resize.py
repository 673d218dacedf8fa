"""Resizing against torch's on real values, and against fixed point in Python integers."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fxq.errors import ConfigError, DataError
from fxq.runtime.integer.resize import Bilinear, Nearest, ResizeTarget
from tests.runtime.integer.reference import random_bytes

TARGETS = (
    ResizeTarget(size=7),
    ResizeTarget(size=1),
    ResizeTarget(scale_factor=2.0),
    ResizeTarget(scale_factor=2),
    ResizeTarget(scale_factor=3.3),
    ResizeTarget(scale_factor=0.5),
    ResizeTarget(scale_factor=0.37),
    ResizeTarget(scale_factor=1.0),
    ResizeTarget(scale_factor=1.1),
    ResizeTarget(scale_factor=1.7, recompute=True),
)
SHAPES = ((2, 3, 9), (1, 4, 10, 13), (2, 1, 3, 4, 5))


def interpolate(x: Tensor, target: ResizeTarget, mode: str, **options: Any) -> Tensor:
    return F.interpolate(
        x, target.size, target.scale_factor, mode=mode, recompute_scale_factor=True if target.recompute else None, **options
    )


@pytest.mark.parametrize("target", TARGETS, ids=str)
@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8])
def test_nearest_is_torchs(target: ResizeTarget, exact: bool, dtype: torch.dtype) -> None:
    for shape in SHAPES:
        x = random_bytes(shape, dtype)
        expected = interpolate(x.float(), target, "nearest-exact" if exact else "nearest")
        found = Nearest(target, exact)(x)
        assert found.dtype == dtype
        assert torch.equal(found.float(), expected)


@settings(deadline=None, max_examples=300)
@given(st.integers(1, 400), st.integers(1, 900), st.floats(0.05, 6.0), st.booleans(), st.booleans())
def test_nearest_of_any_length(length: int, count: int, factor: float, by_factor: bool, exact: bool) -> None:
    target = ResizeTarget(scale_factor=factor) if by_factor and math.floor(length * factor) else ResizeTarget(count)
    places = torch.arange(length)
    expected = interpolate(places.float().view(1, 1, -1), target, "nearest-exact" if exact else "nearest")[0, 0]
    low = Nearest(target, exact)((places % 256).to(torch.uint8).view(1, 1, -1))[0, 0]
    assert torch.equal(low.long(), expected.long() % 256)


def weights_of(length: int, count: int, step: float | None, align_corners: bool) -> list[tuple[int, int, int]]:
    """(first, second, λ) of each place, in Python floats."""
    found = []
    for place in range(count):
        ratio = length / count if step is None else step
        at = max((place + 0.5) * ratio - 0.5, 0.0)
        if count == length:
            at = float(place)
        elif align_corners:
            at = place * ((length - 1) / (count - 1) if count > 1 else 0.0)
        first = min(math.floor(at), length - 1)
        found.append((first, min(first + 1, length - 1), min(round((at - first) * 2048), 2048)))
    return found


def bilinear(x: Tensor, count: list[int], step: list[float | None], align_corners: bool) -> Tensor:
    """One image at a time, element by element, [N, C, H, W]."""
    rows = weights_of(x.shape[2], count[0], step[0], align_corners)
    columns = weights_of(x.shape[3], count[1], step[1], align_corners)
    y = torch.empty(*x.shape[:2], *count, dtype=x.dtype)
    for n, c in ((n, c) for n in range(x.shape[0]) for c in range(x.shape[1])):
        image = x[n, c].tolist()
        for h, (top, bottom, down) in enumerate(rows):
            for w, (left, right, across) in enumerate(columns):
                upper = image[top][left] * (2048 - across) + image[top][right] * across
                lower = image[bottom][left] * (2048 - across) + image[bottom][right] * across
                y[n, c, h, w] = (upper * (2048 - down) + lower * down + 2**21) >> 22
    return y


@pytest.mark.parametrize("target", TARGETS, ids=str)
@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8])
def test_bilinear_equals_the_formula(target: ResizeTarget, align_corners: bool, dtype: torch.dtype) -> None:
    x = random_bytes((2, 2, 5, 8), dtype)
    found = Bilinear(target, align_corners)(x)
    factor = target.scale_factor
    step = None if factor is None or target.recompute or isinstance(factor, tuple) else 1.0 / factor
    assert torch.equal(found, bilinear(x, list(found.shape[2:]), [step, step], align_corners))


@pytest.mark.parametrize("target", TARGETS, ids=str)
@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("shape", [(2, 3, 9), (2, 3, 5, 8), (1, 1, 64, 48), (1, 2, 1, 1)])
def test_bilinear_is_within_one_step_of_torchs(target: ResizeTarget, align_corners: bool, shape: tuple[int, ...]) -> None:
    mode = "linear" if len(shape) == 3 else "bilinear"
    extremes = random_bytes(shape).gt(127).to(torch.uint8) * 255
    for x in (random_bytes(shape), random_bytes(shape, torch.int8), extremes):
        if any(math.floor(length * (target.scale_factor or 1)) < 1 for length in shape[2:]):  # type: ignore[operator]
            continue
        expected = interpolate((x.double() - 77) * 0.0371, target, mode, align_corners=align_corners) / 0.0371 + 77
        found = Bilinear(target, align_corners)(x)
        assert found.shape == expected.shape
        assert (found.double() - expected).abs().max() <= 0.5 + 0.25  # half a step of rounding, 2·255·2^-12 per axis of the weights


@settings(deadline=None, max_examples=100)
@given(st.data())
def test_bilinear_of_any_size(data: st.DataObject) -> None:
    size = [data.draw(st.integers(1, 40)) for _ in range(2)]
    count = tuple(data.draw(st.integers(1, 90)) for _ in range(2))
    align_corners, x = data.draw(st.booleans()), random_bytes((1, 1, *size), seed=data.draw(st.integers(0, 99)))
    expected = interpolate(x.double(), ResizeTarget(count), "bilinear", align_corners=align_corners)
    found = Bilinear(ResizeTarget(count), align_corners)(x)
    assert (found.double() - expected).abs().max() <= 0.75
    assert torch.equal(found, bilinear(x, list(count), [None, None], align_corners))


@pytest.mark.parametrize("size", [4, (7, 3), torch.Size([7, 3]), [7, 3]], ids=str)
def test_sizes_that_come_with_a_call(size: Any) -> None:
    x, target = random_bytes((2, 3, 5, 8)), ResizeTarget(size if isinstance(size, int) else tuple(size))
    for op, fixed in ((Nearest(None), Nearest(target)), (Bilinear(None, True), Bilinear(target, True))):
        assert torch.equal(op(x, size), fixed(x))
        with pytest.raises(DataError, match="call it with the size"):
            op(x)


def test_a_shift_of_the_integers_is_a_shift_of_the_result() -> None:
    x = random_bytes((2, 3, 6, 7))
    shifted = (x.int() - 128).to(torch.int8)
    op = Bilinear(ResizeTarget(scale_factor=2.0))
    assert torch.equal(op(shifted).int() + 128, op(x).int())


@pytest.mark.parametrize("fill", [0, 255])
def test_a_constant_image_stays(fill: int) -> None:
    x = torch.full((1, 2, 5, 6), fill, dtype=torch.uint8)
    assert Bilinear(ResizeTarget(scale_factor=2.7))(x).unique().tolist() == [fill]


def test_one_factor_per_dimension_layouts_and_empty_batches() -> None:
    x = random_bytes((2, 3, 6, 7))
    for op in (Bilinear(ResizeTarget(scale_factor=(2.0, 1.5))), Nearest(ResizeTarget((4, 9)))):
        expected = op(x)
        last = x.contiguous(memory_format=torch.channels_last)
        turned = x.transpose(2, 3).contiguous().transpose(2, 3)
        strided = random_bytes((4, 6, 12, 14))[::2, ::2, ::2, ::2].copy_(x)
        for other in (last, turned, strided):
            assert torch.equal(op(other), expected)
        assert op(x[:0]).shape == (0, *expected.shape[1:])
        assert op(x[:0]).dtype == torch.uint8
    assert Bilinear(ResizeTarget(scale_factor=(2.0, 1.5)))(x).shape == (2, 3, 12, 10)


def test_the_size_follows_the_input() -> None:
    op = Nearest(ResizeTarget(scale_factor=2.0))
    assert [tuple(op(random_bytes((1, 1, n, n))).shape[2:]) for n in (3, 8)] == [(6, 6), (16, 16)]


def test_what_is_refused() -> None:
    for arguments in ((None, None), (3, 2.0)):
        with pytest.raises(ConfigError, match="either size or scale_factor"):
            ResizeTarget(*arguments)
    for op in (Nearest(ResizeTarget((3, 4))), Bilinear(ResizeTarget((3, 4)))):
        with pytest.raises(DataError, match="uint8 or int8"):
            op(torch.zeros(1, 1, 4, 4))
        for shape in ((1, 1, 4), (1, 1, 0, 4), (1, 1)):
            with pytest.raises(DataError):
                op(random_bytes(shape))
    with pytest.raises(DataError, match="one or two spatial"):
        Bilinear(ResizeTarget(3))(random_bytes((1, 1, 2, 2, 2)))
    with pytest.raises(DataError, match="larger input"):
        Nearest(ResizeTarget(scale_factor=0.1))(random_bytes((1, 1, 4, 4)))


def test_reads_like_a_layer() -> None:
    assert repr(Nearest(ResizeTarget((3, 4)))) == "Nearest(size=(3, 4), exact=False)"
    factor = ResizeTarget(scale_factor=1.5, recompute=True)
    assert repr(Bilinear(factor, True)) == "Bilinear(scale_factor=1.5, recompute=True, align_corners=True)"

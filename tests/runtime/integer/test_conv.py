"""Conv against int64 sums, bit for bit, on each of its paths."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fxq.errors import DataError
from fxq.runtime.integer import conv as conv_module
from fxq.runtime.integer import epilogue, matmul
from fxq.runtime.integer.conv import Conv, ConvGeometry
from fxq.runtime.integer.outputs import FloatOutput, IntegerOutput, Output, PackedWeights, Residual
from tests.runtime.integer import reference
from tests.runtime.integer.reference import random_bytes, random_weights

U8 = IntegerOutput("uint8", 110, 0, 255)
PATHS = ("own choice", "windows", "no VNNI", "windows without VNNI", "small pieces", "autocast")


@pytest.fixture(params=PATHS)
def path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Forces one way of computing the same integers."""
    chosen: str = request.param
    if "VNNI" in chosen:
        for module in (matmul, conv_module):
            monkeypatch.setattr(module, "has_exact_int_mm", lambda: False)
    if "windows" in chosen:
        monkeypatch.setattr(Conv, "_prefers_float", lambda _: False)
    if chosen == "small pieces":
        monkeypatch.setattr(epilogue, "_BUDGET", 1)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=chosen == "autocast"):
        yield chosen


def geometry(rank: int = 2, **changes: Any) -> ConvGeometry:
    plain = {"stride": (1,) * rank, "padding": ((0, 0),) * rank, "dilation": (1,) * rank}
    return ConvGeometry(**{**plain, **changes})


# input, weight, geometry
CASES: dict[str, tuple[tuple[int, ...], tuple[int, ...], ConvGeometry]] = {
    "1x1": ((2, 16, 5, 5), (8, 16, 1, 1), geometry()),
    "1x1 stride": ((2, 16, 6, 5), (8, 16, 1, 1), geometry(stride=(2, 3))),
    "3x3 padded": ((2, 8, 7, 6), (17, 8, 3, 3), geometry(padding=((1, 1), (1, 1)))),
    "first layer": ((1, 3, 15, 16), (8, 3, 7, 7), geometry(stride=(2, 2), padding=((3, 3), (3, 3)))),
    "same, even kernel": ((1, 5, 6, 7), (4, 5, 2, 4), geometry(padding=((0, 1), (1, 2)))),
    "same, even kernel, depthwise": ((1, 5, 6, 7), (5, 1, 2, 4), geometry(padding=((0, 1), (1, 2)), groups=5)),
    "dilated": ((1, 8, 11, 12), (6, 8, 3, 3), geometry(dilation=(2, 3), padding=((2, 2), (3, 3)))),
    "depthwise": ((2, 33, 7, 7), (33, 1, 3, 3), geometry(padding=((1, 1), (1, 1)), groups=33)),
    "depthwise, two each": ((1, 6, 7, 7), (12, 1, 3, 3), geometry(stride=(2, 2), padding=((1, 1), (1, 1)), groups=6)),
    "groups": ((2, 12, 6, 6), (8, 3, 3, 3), geometry(padding=((1, 1), (1, 1)), groups=4)),
    "too deep for float": ((1, 1100, 2, 2), (4, 1100, 1, 1), geometry()),
    "groups too deep for float": ((1, 2200, 2, 1), (4, 1100, 1, 1), geometry(groups=2)),
    "one row": ((1, 8, 1, 9), (5, 8, 1, 3), geometry(padding=((0, 0), (1, 1)))),
    "1-d": ((3, 6, 20), (7, 6, 5), geometry(1, stride=(2,), padding=((2, 2),))),
    "1-d depthwise": ((2, 9, 10), (9, 1, 3), geometry(1, padding=((2, 0),), groups=9)),
    "3-d": ((2, 5, 4, 5, 6), (6, 5, 2, 3, 3), geometry(3, stride=(1, 2, 1), padding=((1, 0), (1, 1), (1, 1)))),
    "3-d groups": ((1, 6, 4, 4, 4), (6, 2, 3, 3, 3), geometry(3, padding=((1, 1),) * 3, groups=3)),
    **{
        f"{mode}": ((2, 6, 7, 6), (6, 6, 3, 3), geometry(padding=((2, 1), (1, 2)), padding_mode=mode))
        for mode in ("reflect", "replicate", "circular")
    },
    "circular depthwise": ((1, 6, 7, 6), (6, 1, 3, 3), geometry(padding=((2, 1), (1, 2)), padding_mode="circular", groups=6)),
}


def case_of(name: str, x_dtype: torch.dtype = torch.uint8) -> tuple[Tensor, PackedWeights, ConvGeometry]:
    shape, weight_shape, where = CASES[name]
    return random_bytes(shape, x_dtype), random_weights(weight_shape), where


@pytest.mark.parametrize("zero_point", [0, 128, 255])
@pytest.mark.parametrize("name", CASES)
def test_equals_the_formula(name: str, zero_point: int, path: str) -> None:
    x, weights, where = case_of(name)
    expected = reference.conv(x, weights, where, zero_point, (U8, None))
    assert expected.float().std() > 5  # not all clipped
    assert torch.equal(Conv(weights, where, zero_point, U8)(x), expected)


@pytest.mark.parametrize("name", ["3x3 padded", "depthwise", "1-d", "3-d", "groups", "reflect"])
@pytest.mark.parametrize("output", [IntegerOutput("int8", -7, -100, 90), FloatOutput(), FloatOutput(0.0, 6.0)], ids=str)
def test_int8_activations_and_other_outputs(name: str, output: Output, path: str) -> None:
    x, weights, where = case_of(name, torch.int8)
    expected = reference.conv(x, weights, where, -128, (output, None))
    found = Conv(weights, where, -128, output)(x)
    assert found.dtype == expected.dtype
    assert torch.equal(found, expected)


@pytest.mark.parametrize("name", ["3x3 padded", "depthwise", "1x1 stride", "groups", "3-d", "1-d"])
@pytest.mark.parametrize("a_dtype", [torch.uint8, torch.int8])
def test_residual(name: str, a_dtype: torch.dtype, path: str) -> None:
    x, weights, where = case_of(name)
    residual = Residual(13, 0.37)
    a = random_bytes(Conv(weights, where, 3, U8)(x).shape, a_dtype, seed=9)
    expected = reference.conv(x, weights, where, 3, (U8, reference.second_operand(a, residual)))
    op = Conv(weights, where, 3, U8, residual)
    assert torch.equal(op(x, a), expected)
    if a.ndim == 4:
        assert torch.equal(op(x, a.contiguous(memory_format=torch.channels_last)), expected)
    assert torch.equal(op(x[0], a[0]), expected[0])


@pytest.mark.parametrize("fill", [0, 255])
@pytest.mark.parametrize("sign", [-127, 127, -128])
@pytest.mark.parametrize("name", ["3x3 padded", "depthwise", "first layer", "too deep for float"])
def test_extreme_data(name: str, sign: int, fill: int, path: str) -> None:
    x, weights, where = case_of(name)
    x = torch.full_like(x, fill)
    full = PackedWeights(torch.full_like(weights.weight, sign), weights.bias, weights.multiplier)
    assert torch.equal(Conv(full, where, 0, FloatOutput())(x), reference.conv(x, full, where, 0, (FloatOutput(), None)))


@pytest.mark.parametrize("name", ["3x3 padded", "depthwise", "first layer", "1-d", "3-d"])
def test_layouts_of_the_input(name: str) -> None:
    x, weights, where = case_of(name)
    op = Conv(weights, where, 77, U8)
    expected = reference.conv(x, weights, where, 77, (U8, None))
    last = x.movedim(1, -1).contiguous().movedim(-1, 1)
    wide = random_bytes([2 * length for length in x.shape])
    strided = wide[tuple(slice(None, None, 2) for _ in x.shape)].copy_(x)
    for other in (last, strided, x.transpose(-1, -2).contiguous().transpose(-1, -2)):
        assert torch.equal(op(other), expected)
    assert torch.equal(op(x[0]), expected[0])
    assert op(x[0]).shape == expected.shape[1:]
    assert op(x[:0]).shape == (0, *expected.shape[1:])
    assert op(x[:0]).dtype == torch.uint8


def test_output_is_channels_last() -> None:
    x, weights, where = case_of("3x3 padded")
    assert Conv(weights, where, 77, U8)(x).is_contiguous(memory_format=torch.channels_last)


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_any_geometry(data: st.DataObject) -> None:
    draw = data.draw
    rank, groups = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    channels, outputs = draw(st.integers(1, 6)), draw(st.integers(1, 5))
    each = {
        "kernel": [draw(st.integers(1, 4)) for _ in range(rank)],
        "stride": [draw(st.integers(1, 3)) for _ in range(rank)],
        "dilation": [draw(st.integers(1, 2)) for _ in range(rank)],
    }
    padding = tuple((draw(st.integers(0, 3)), draw(st.integers(0, 3))) for _ in range(rank))
    size = [gap * (taps - 1) + draw(st.integers(1, 5)) for gap, taps in zip(each["dilation"], each["kernel"], strict=True)]
    where = ConvGeometry(tuple(each["stride"]), padding, tuple(each["dilation"]), groups)
    x = random_bytes((draw(st.integers(1, 2)), channels * groups, *size), draw(st.sampled_from([torch.uint8, torch.int8])))
    weights = random_weights((outputs * groups, channels, *each["kernel"]))
    zero_point = draw(st.integers(0, 127))
    assert torch.equal(Conv(weights, where, zero_point, U8)(x), reference.conv(x, weights, where, zero_point, (U8, None)))


def test_a_huge_bias_is_not_added_in_float() -> None:
    x, weights, where = case_of("depthwise")
    bias = torch.full_like(weights.bias, 2**24 + 1)
    heavy = PackedWeights(weights.weight, bias, torch.full_like(weights.multiplier, 1.0))
    assert torch.equal(Conv(heavy, where, 0, FloatOutput())(x), reference.conv(x, heavy, where, 0, (FloatOutput(), None)))


def test_constants_are_saved_copied_and_loaded() -> None:
    x, weights, where = case_of("depthwise")
    op = Conv(weights, where, 77, U8)
    expected = op(x)
    assert list(op.state_dict()) == ["weight", "bias", "multiplier"]
    assert torch.equal(op.weight, weights.weight)
    file = io.BytesIO()
    torch.save(op, file)
    loaded = torch.load(io.BytesIO(file.getvalue()), weights_only=False)
    for other in (copy.deepcopy(op), pickle.loads(pickle.dumps(op)), loaded):
        assert torch.equal(other(x), expected)
    blank = PackedWeights(torch.zeros_like(weights.weight), torch.zeros_like(weights.bias), torch.ones_like(weights.multiplier))
    other = Conv(blank, where, 77, U8)
    other.load_state_dict(op.state_dict())
    assert torch.equal(other(x), expected)


def test_loading_heavier_weights_leaves_the_float_path() -> None:
    x = torch.full((1, 4400, 1, 1), 255, dtype=torch.uint8)
    light = PackedWeights(torch.ones(4, 1100, 1, 1, dtype=torch.int8), torch.zeros(4, dtype=torch.int32), torch.ones(4))
    heavy = PackedWeights(torch.full((4, 1100, 1, 1), 127, dtype=torch.int8), torch.full((4,), 1, dtype=torch.int32), torch.ones(4))
    op = Conv(light, geometry(groups=4), 0, FloatOutput())
    op.load_state_dict(Conv(heavy, geometry(groups=4), 0, FloatOutput()).state_dict())
    assert not op._prefers_float()
    assert torch.equal(op(x), reference.conv(x, heavy, geometry(groups=4), 0, (FloatOutput(), None)))


@pytest.mark.parametrize("convert", [torch.nn.Module.half, torch.nn.Module.double, torch.nn.Module.bfloat16])
def test_converting_the_module_leaves_the_constants_alone(convert: Any) -> None:
    x, weights, where = case_of("3x3 padded")
    op = Conv(weights, where, 77, U8)
    expected = op(x)
    assert convert(op).multiplier.dtype == torch.float32
    assert torch.equal(op(x), expected)


@pytest.mark.parametrize("x", [torch.zeros(1, 8, 7, 6), torch.zeros(1, 8, 7, 6, dtype=torch.int32)])
def test_other_dtypes_are_refused(x: Tensor) -> None:
    _, weights, where = case_of("3x3 padded")
    with pytest.raises(DataError, match="uint8 or int8"):
        Conv(weights, where, 77, U8)(x)


@pytest.mark.parametrize("shape", [(1, 7, 7, 6), (8, 7), (1, 1, 8, 7, 6), (7, 7, 6)])
def test_other_shapes_are_refused(shape: tuple[int, ...]) -> None:
    _, weights, where = case_of("3x3 padded")
    with pytest.raises(DataError, match=r"\[N, 8, H, W\] or \[8, H, W\]"):
        Conv(weights, where, 77, U8)(random_bytes(shape))


def test_an_input_smaller_than_the_kernel_is_refused() -> None:
    with pytest.raises(DataError, match="larger input"):
        Conv(random_weights((4, 5, 3, 3)), geometry(), 0, U8)(random_bytes((1, 5, 2, 3)))
    with pytest.raises(DataError, match="at most 1 elements"):
        Conv(random_weights((4, 5, 3, 3)), geometry(padding=((2, 2), (0, 0)), padding_mode="reflect"), 0, U8)(random_bytes((1, 5, 2, 3)))


def test_a_second_operand_that_does_not_fit_is_refused() -> None:
    x, weights, where = case_of("3x3 padded")
    plain, adding = Conv(weights, where, 77, U8), Conv(weights, where, 77, U8, Residual(0, 1.0))
    y = plain(x)
    for op, a in ((plain, y), (adding, None), (adding, y[:, :1]), (adding, y.float())):
        with pytest.raises(DataError, match="residual"):
            op(x, a)


def test_reads_like_a_layer() -> None:
    _, weights, _ = case_of("depthwise")
    op = Conv(
        weights, geometry(padding=((1, 1), (0, 1)), groups=33, dilation=(1, 2)), 5, IntegerOutput("uint8", 12, 12, 255), Residual(3, 0.5)
    )
    assert repr(op) == (
        "Conv(33, 33, kernel=(3, 3), stride=(1, 1), padding=((1, 1), (0, 1)), dilation=(1, 2), groups=33, "
        "x: zero_point=5, y: uint8 zero_point=12 [12, 255], residual zero_point=3 ratio=0.5)"
    )

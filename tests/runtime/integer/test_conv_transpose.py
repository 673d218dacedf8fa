"""Transposed convolution against int64 sums, tap by tap and cell by cell."""

from __future__ import annotations

import copy
import itertools
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fxq.errors import DataError
from fxq.runtime.integer import conv_transpose
from fxq.runtime.integer.conv_transpose import ConvTranspose, ConvTransposeGeometry
from fxq.runtime.integer.outputs import FloatOutput, IntegerOutput, Output, PackedWeights
from tests.runtime.integer.reference import random_bytes, requantize

U8 = IntegerOutput("uint8", 110, 0, 255)
OUTPUTS = (U8, IntegerOutput("int8", 5, 5, 127), FloatOutput(), FloatOutput(0.0, 6.0))
Geometry = ConvTransposeGeometry

# name: shape of x, shape of the weight, geometry
CASES = {
    "1-d": ((2, 6, 9), (6, 5, 4), Geometry((2,), (1,), (1,), (1,))),
    "2x upsampling": ((2, 16, 5, 6), (16, 8, 2, 2), Geometry((2, 2), (0, 0), (0, 0), (1, 1))),
    "4x4 stride 2": ((1, 8, 4, 5), (8, 7, 4, 4), Geometry((2, 2), (1, 1), (0, 0), (1, 1))),
    "output padding": ((2, 5, 4, 3), (5, 4, 3, 3), Geometry((2, 3), (1, 0), (1, 2), (1, 1))),
    "dilated": ((1, 4, 4, 4), (4, 3, 3, 2), Geometry((2, 1), (2, 1), (0, 0), (2, 3))),
    "gaps wider than the kernel": ((1, 4, 3, 3), (4, 3, 1, 2), Geometry((3, 4), (0, 0), (0, 1), (1, 1))),
    "groups": ((2, 6, 4, 4), (6, 4, 3, 3), Geometry((2, 2), (1, 1), (1, 1), (1, 1), 3)),
    "depthwise": ((1, 7, 5, 5), (7, 1, 3, 3), Geometry((1, 1), (1, 1), (0, 0), (1, 1), 7)),
    "3-d": ((1, 3, 3, 2, 4), (3, 4, 2, 3, 2), Geometry((2, 1, 2), (0, 1, 0), (1, 0, 0), (1, 1, 2))),
    "deep": ((1, 700, 3, 3), (700, 3, 3, 3), Geometry((1, 1), (1, 1), (0, 0), (1, 1))),
}


def random_weights(shape: tuple[int, ...], groups: int, seed: int = 0) -> PackedWeights:
    generator = torch.Generator().manual_seed(seed)
    outputs = shape[1] * groups
    weight = torch.randint(-127, 128, shape, dtype=torch.int8, generator=generator)
    bias = torch.randint(-30000, 30000, (outputs,), dtype=torch.int32, generator=generator)
    return PackedWeights(weight, bias, (torch.rand(outputs, generator=generator) + 0.1) * 60 / (127 * 128 * shape[0] ** 0.5))


def expected_of(x: Tensor, weights: PackedWeights, geometry: Geometry, zero_point: int, output: Output) -> Tensor:
    """acc[n, o, i·stride − padding + dilation·k] += (x[n, i] − z)·w[i, o, k], tap by tap."""
    centered, weight = x.numpy().astype(np.int64) - zero_point, weights.weight.numpy().astype(np.int64)
    kernel, groups = weight.shape[2:], geometry.groups
    lengths = zip(x.shape[2:], geometry.stride, geometry.dilation, kernel, geometry.output_padding, geometry.padding, strict=True)
    whole = [(size - 1) * step + gap * (taps - 1) + 1 + max(0, more - less) for size, step, gap, taps, more, less in lengths]
    acc = np.zeros((x.shape[0], weight.shape[1] * groups, *whole), np.int64)
    per_group = x.shape[1] // groups
    for group, tap in itertools.product(range(groups), itertools.product(*(range(taps) for taps in kernel))):
        inputs = slice(group * per_group, (group + 1) * per_group)
        outputs = slice(group * weight.shape[1], (group + 1) * weight.shape[1])
        starts = [place * gap for place, gap in zip(tap, geometry.dilation, strict=True)]
        spans = zip(starts, x.shape[2:], geometry.stride, strict=True)
        cells = tuple(slice(start, start + (size - 1) * step + 1, step) for start, size, step in spans)
        products = np.einsum("ni...,io->no...", centered[:, inputs], weight[(inputs, slice(None), *tap)])
        acc[(slice(None), outputs, *cells)] += products
    ends = zip(whole, geometry.padding, geometry.output_padding, strict=True)
    crop = tuple(slice(less, length - less + min(less, more)) for length, less, more in ends)
    acc = acc[(slice(None), slice(None), *crop)]
    shape = (1, -1) + (1,) * geometry.rank
    return requantize(acc + weights.bias.numpy().reshape(shape), weights.multiplier.numpy().reshape(shape), output, None)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("zero_point", [0, 77, 127])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8])
def test_equals_the_formula(name: str, zero_point: int, dtype: torch.dtype) -> None:
    x_shape, w_shape, geometry = CASES[name]
    x, weights = random_bytes(x_shape, dtype), random_weights(w_shape, geometry.groups)
    for output in OUTPUTS:
        found = ConvTranspose(weights, geometry, zero_point, output)(x)
        expected = expected_of(x, weights, geometry, zero_point, output)
        assert found.dtype == expected.dtype
        assert torch.equal(found, expected)


@pytest.mark.parametrize("name", CASES)
def test_size_is_torchs(name: str) -> None:
    x_shape, w_shape, geometry = CASES[name]
    module = (torch.nn.functional.conv_transpose1d, torch.nn.functional.conv_transpose2d, torch.nn.functional.conv_transpose3d)
    where = (geometry.stride, geometry.padding, geometry.output_padding, geometry.groups, geometry.dilation)
    expected = module[geometry.rank - 1](torch.zeros(x_shape), torch.zeros(w_shape), None, *where)
    assert ConvTranspose(random_weights(w_shape, geometry.groups), geometry, 3, U8)(random_bytes(x_shape)).shape == expected.shape


@pytest.mark.parametrize("fill", [0, 255])
@pytest.mark.parametrize("sign", [-128, -127, 127])
@pytest.mark.parametrize("name", ["4x4 stride 2", "deep", "depthwise", "1-d"])
def test_extreme_data(name: str, sign: int, fill: int) -> None:
    x_shape, w_shape, geometry = CASES[name]
    x, weights = torch.full(x_shape, fill, dtype=torch.uint8), random_weights(w_shape, geometry.groups)
    full = torch.full_like(weights.weight, sign)
    full[0] = 1  # an odd sum, which a rounding above 2^24 would show
    odd = PackedWeights(full, weights.bias * 2 + 1, torch.ones_like(weights.multiplier))
    for zero_point in (0, 255):
        found = ConvTranspose(odd, geometry, zero_point, FloatOutput())(x)
        assert torch.equal(found, expected_of(x, odd, geometry, zero_point, FloatOutput()))


def test_a_huge_bias_is_not_added_in_float() -> None:
    x_shape, w_shape, geometry = CASES["depthwise"]
    x, weights = random_bytes(x_shape), random_weights(w_shape, geometry.groups)
    heavy = PackedWeights(weights.weight, torch.full_like(weights.bias, 2**24 + 1), torch.ones_like(weights.multiplier))
    found = ConvTranspose(heavy, geometry, 0, FloatOutput())(x)
    assert torch.equal(found, expected_of(x, heavy, geometry, 0, FloatOutput()))


@pytest.mark.parametrize("name", CASES)
def test_the_bound_is_what_full_weights_reach(name: str) -> None:
    x_shape, w_shape, geometry = CASES[name]
    weights = random_weights(w_shape, geometry.groups)
    positive = PackedWeights(torch.full_like(weights.weight, 127), weights.bias * 0, torch.ones_like(weights.multiplier))
    op = ConvTranspose(positive, geometry, 0, FloatOutput())
    x = torch.full((1, x_shape[1], *(8 for _ in x_shape[2:])), 255, dtype=torch.uint8)
    assert int(op._accumulate(x).max()) == 255 * op._weight_reach


@pytest.mark.parametrize("name", ["2x upsampling", "groups", "1-d", "3-d"])
def test_layouts_and_batches(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    x_shape, w_shape, geometry = CASES[name]
    x, weights = random_bytes((5, *x_shape[1:])), random_weights(w_shape, geometry.groups)
    op, expected = ConvTranspose(weights, geometry, 77, U8), expected_of(x, weights, geometry, 77, U8)
    last = x.movedim(1, -1).contiguous().movedim(-1, 1)
    strided = random_bytes([2 * length for length in x.shape])[tuple(slice(None, None, 2) for _ in x.shape)].copy_(x)
    for other in (x, last, strided, x.transpose(-1, -2).contiguous().transpose(-1, -2)):
        assert torch.equal(op(other), expected)
    assert torch.equal(op(x[0]), expected[0])
    assert op(x[:0]).shape == (0, *expected.shape[1:])
    assert op(x[:0]).dtype == torch.uint8
    monkeypatch.setattr(conv_transpose, "_BUDGET", 1)
    assert torch.equal(op(x), expected)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(op(x), expected)


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_any_geometry(data: st.DataObject) -> None:
    draw = data.draw
    rank, groups = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    stride, dilation = (tuple(draw(st.integers(1, 3)) for _ in range(rank)) for _ in range(2))
    kernel, size = (tuple(draw(st.integers(1, 4)) for _ in range(rank)) for _ in range(2))
    more = tuple(draw(st.integers(0, max(step, gap) - 1)) for step, gap in zip(stride, dilation, strict=True))
    lengths = [(n - 1) * s + d * (k - 1) + 1 for n, s, d, k in zip(size, stride, dilation, kernel, strict=True)]
    padding = tuple(draw(st.integers(0, min(3, (length - 1) // 2))) for length in lengths)
    where = Geometry(stride, padding, more, dilation, groups)
    channels, outputs = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    x = random_bytes((draw(st.integers(1, 2)), channels * groups, *size), draw(st.sampled_from([torch.uint8, torch.int8])))
    weights, zero_point = random_weights((channels * groups, outputs, *kernel), groups), draw(st.integers(0, 127))
    assert torch.equal(ConvTranspose(weights, where, zero_point, U8)(x), expected_of(x, weights, where, zero_point, U8))


def test_constants_are_saved_copied_and_loaded() -> None:
    x_shape, w_shape, geometry = CASES["deep"]
    x, weights = torch.full(x_shape, 255, dtype=torch.uint8), random_weights(w_shape, 1)
    op = ConvTranspose(weights, geometry, 0, FloatOutput())
    expected = op(x)
    for other in (copy.deepcopy(op), pickle.loads(pickle.dumps(op)), copy.deepcopy(op).half()):
        assert torch.equal(other(x), expected)
    light = PackedWeights(torch.zeros_like(weights.weight), torch.zeros_like(weights.bias), torch.ones_like(weights.multiplier))
    other = ConvTranspose(light, geometry, 0, FloatOutput())
    assert other._exact_dtype(torch.uint8) == torch.float32
    other.load_state_dict(op.state_dict())
    assert other._exact_dtype(torch.uint8) == torch.float64
    assert torch.equal(other(x), expected)


@pytest.mark.parametrize(
    "x", [random_bytes((1, 7, 5, 6)).float(), random_bytes((1, 6, 5, 6)), random_bytes((7, 5)), random_bytes((2, 6, 5))]
)
def test_other_inputs_are_refused(x: Tensor) -> None:
    _, w_shape, geometry = CASES["depthwise"]
    with pytest.raises(DataError, match=r"uint8 or int8|\[N, 7, H, W\] or \[7, H, W\]"):
        ConvTranspose(random_weights(w_shape, 7), geometry, 0, U8)(x)


def test_an_empty_output_is_refused() -> None:
    geometry = Geometry((1, 1), (2, 0), (0, 0), (1, 1))
    with pytest.raises(DataError, match="larger input"):
        ConvTranspose(random_weights((3, 2, 3, 3), 1), geometry, 0, U8)(random_bytes((1, 3, 2, 2)))


def test_reads_like_a_layer() -> None:
    _, w_shape, geometry = CASES["groups"]
    assert repr(ConvTranspose(random_weights(w_shape, 3), geometry, 5, U8)) == (
        "ConvTranspose(6, 12, kernel=(3, 3), stride=(2, 2), padding=(1, 1), output_padding=(1, 1), groups=3, "
        "x: zero_point=5, y: uint8 zero_point=110 [0, 255])"
    )

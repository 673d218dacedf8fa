"""QuantSpec, QParams and the arithmetic of quantization, by hand and against torch."""

from __future__ import annotations

import math
import pickle
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fxq.errors import ConfigError
from fxq.graph.qtypes import (
    ACTIVATION,
    EPS,
    QNNPACK_EPS,
    WEIGHT_PER_CHANNEL,
    WEIGHT_PER_TENSOR,
    QParams,
    QuantSpec,
    choose_qparams,
    dequantize_tensor,
    dtype_of_range,
    enlarge_scales,
    qdtype,
    quantize_tensor,
)

INT8 = QuantSpec("int8", -128, 127)
PER_CHANNEL = QParams(WEIGHT_PER_CHANNEL, torch.tensor([0.5, 0.25]), torch.tensor([0, 0], dtype=torch.int32))

# --- specs -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [
        (torch.uint8, "uint8"), (torch.quint8, "uint8"), ("uint8", "uint8"), (torch.int8, "int8"), (torch.qint8, "int8"),
        ("int8", "int8"), (torch.int32, "int32"), (torch.qint32, "int32"), ("int32", "int32"),
    ],
)  # fmt: skip
def test_qdtype(dtype: object, expected: str) -> None:
    assert qdtype(dtype) == expected


@pytest.mark.parametrize("dtype", [torch.float16, torch.int16, "quint8", None, [], int])
def test_other_dtypes_are_errors(dtype: object) -> None:
    with pytest.raises(ConfigError) as caught:
        qdtype(dtype)
    assert caught.value.found == repr(dtype)


@pytest.mark.parametrize(
    ("dtype", "qmin", "qmax"),
    [("uint8", -1, 255), ("uint8", 0, 256), ("int8", -129, 0), ("int8", 0, 128), ("int8", 5, 5), ("uint8", 9, 3), ("int32", 0, 2**31)],
)
def test_a_range_outside_its_dtype_is_an_error(dtype: Any, qmin: int, qmax: int) -> None:
    with pytest.raises(ConfigError) as caught:
        QuantSpec(dtype, qmin, qmax)
    assert caught.value.found == f"qmin={qmin}, qmax={qmax}"


@pytest.mark.parametrize("eps", [0.0, -1.0, math.nan])
def test_eps_is_positive(eps: float) -> None:
    with pytest.raises(ConfigError, match=r"QuantSpec\.eps"):
        QuantSpec(eps=eps)


def test_spec_as_text() -> None:
    assert str(ACTIVATION) == "uint8 0..255 affine per tensor"
    assert str(WEIGHT_PER_CHANNEL) == "int8 -127..127 symmetric per channel 0"
    assert str(QuantSpec("uint8", 0, 127, dynamic=True)) == "uint8 0..127 affine per tensor dynamic"
    assert [spec.levels for spec in (ACTIVATION, WEIGHT_PER_TENSOR, INT8)] == [256, 255, 256]
    assert [spec.torch_dtype for spec in (ACTIVATION, INT8, QuantSpec("int32", -5, 5))] == [torch.uint8, torch.int8, torch.int32]


@pytest.mark.parametrize(
    ("qmin", "qmax", "dtype"),
    [
        (0, 255, "uint8"),
        (0, 127, "uint8"),
        (-1, 127, "int8"),
        (-128, 127, "int8"),
        (-1, 128, "int32"),
        (0, 256, "int32"),
        (-129, 0, "int32"),
    ],
)
def test_dtype_of_range(qmin: int, qmax: int, dtype: str) -> None:
    assert dtype_of_range(qmin, qmax) == dtype


def test_qparams_are_equal_where_the_same_integers_stand_for_the_same_reals() -> None:
    one = QParams.per_tensor(0.5, 3)
    assert one == QParams.per_tensor(0.5, 3)
    assert one == QParams.per_tensor(0.5, 3, QuantSpec(symmetric=True, dynamic=True, eps=1.0))  # how they were found is not what they mean
    others = (
        QParams.per_tensor(0.25, 3), QParams.per_tensor(0.5, 4), QParams.per_tensor(0.5, 3, QuantSpec("uint8", 0, 127)),
        QParams.per_tensor(0.5, 3, INT8), QParams(QuantSpec(axis=0), torch.tensor([0.5]), torch.tensor([3], dtype=torch.int32)),
    )  # fmt: skip
    assert [one == other for other in others] == [False] * 5
    assert one != "x"
    with pytest.raises(TypeError, match="unhashable"):
        hash(one)


def test_qparams_through_pickle() -> None:
    assert pickle.loads(pickle.dumps(PER_CHANNEL)) == PER_CHANNEL


@pytest.mark.parametrize(("scale", "finite"), [(0.5, True), (0.0, False), (-1.0, False), (math.inf, False), (math.nan, False)])
def test_is_finite(scale: float, finite: bool) -> None:
    assert QParams.per_tensor(scale, 0).is_finite is finite
    assert QParams(WEIGHT_PER_CHANNEL, torch.tensor([1.0, scale]), torch.zeros(2, dtype=torch.int32)).is_finite is finite


# --- quantize and dequantize -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("x", "q"),
    [
        (0.0, 3), (-0.0, 3), (0.5, 4), (0.6, 4), (-1.5, 0), (-1.6, 0), (-2.0, 0), (126.0, 255), (126.25, 255), (1e30, 255),
        # ties go to the even integer before the zero point is added
        (0.25, 3), (0.75, 5), (1.25, 5), (1.75, 7), (-0.25, 3), (-0.75, 1),
        (math.nan, 0), (math.inf, 255), (-math.inf, 0),
    ],
)  # fmt: skip
def test_quantize(x: float, q: int) -> None:
    found = quantize_tensor(torch.tensor(x), QParams.per_tensor(0.5, 3))
    assert found.dtype is torch.uint8 and found.shape == () and int(found) == q


@pytest.mark.parametrize(
    ("x", "q"), [(-70.0, -127), (70.0, 127), (math.nan, -127), (math.inf, 127), (-math.inf, -127), (-0.25, 0), (-0.75, -2)]
)
def test_quantize_symmetric(x: float, q: int) -> None:
    found = quantize_tensor(torch.tensor([x]), QParams.per_tensor(0.5, 0, WEIGHT_PER_TENSOR))
    assert found.dtype is torch.int8 and found.tolist() == [q]


def test_quantize_multiplies_by_the_inverse_in_float32() -> None:
    # 1/f32(0.1) = 10 and fl(f32(0.35) · 10) = 3.5, a tie; the real quotient is below 3.5 and would round to 3
    assert int(quantize_tensor(torch.tensor(0.35), QParams.per_tensor(0.1, 0))) == 4
    assert round(float(torch.tensor(0.35)) / float(torch.tensor(0.1))) == 3


def test_quantize_takes_other_float_dtypes_as_float32() -> None:
    x = torch.tensor([0.35, 0.75], dtype=torch.float64)
    assert quantize_tensor(x, QParams.per_tensor(0.1, 0)).tolist() == [4, 8]
    assert quantize_tensor(x.to(torch.float16), QParams.per_tensor(0.5, 0)).tolist() == [1, 2]


def test_quantize_per_channel() -> None:
    x = torch.tensor([[1.0, -1.0, 0.3], [1.0, -1.0, 0.3]])
    assert quantize_tensor(x, PER_CHANNEL).tolist() == [[2, -2, 1], [4, -4, 1]]
    last = QParams(QuantSpec("int8", -127, 127, symmetric=True, axis=-1), PER_CHANNEL.scale, PER_CHANNEL.zero_point)
    assert quantize_tensor(x.T.contiguous(), last).tolist() == [[2, 4], [-2, -4], [1, 1]]
    affine = QParams(QuantSpec(axis=0), torch.tensor([0.5, 0.25]), torch.tensor([10, 20], dtype=torch.int32))
    assert quantize_tensor(x, affine).tolist() == [[12, 8, 11], [24, 16, 21]]
    assert dequantize_tensor(torch.tensor([[12], [24]], dtype=torch.uint8), affine).tolist() == [[1.0], [1.0]]


def test_dequantize() -> None:
    q = torch.tensor([0, 3, 255], dtype=torch.uint8)
    found = dequantize_tensor(q, QParams.per_tensor(0.5, 3))
    assert found.dtype is torch.float32 and found.tolist() == [-1.5, 0.0, 126.0]
    assert dequantize_tensor(torch.tensor([-128, 127], dtype=torch.int8), QParams.per_tensor(1.0, 100, INT8)).tolist() == [-228.0, 27.0]


@settings(deadline=None, max_examples=100)
@given(st.floats(2.0**-23, 2.0**20, width=32), st.integers(0, 255))
def test_every_integer_comes_back(scale: float, zero_point: int) -> None:
    qparams = QParams.per_tensor(scale, zero_point)
    every = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(quantize_tensor(dequantize_tensor(every, qparams), qparams), every)


@pytest.mark.parametrize(("spec", "dtype", "zero_point"), [(ACTIVATION, torch.quint8, 117), (INT8, torch.qint8, -11)])
def test_against_torch(spec: QuantSpec, dtype: torch.dtype, zero_point: int) -> None:
    """torch computes rint(fma(x, inv, z)): the same but for exact ties."""
    x = torch.randn(1_000_000, generator=torch.Generator().manual_seed(0))
    qparams = QParams.per_tensor(0.0237, zero_point, spec)
    ours = quantize_tensor(x, qparams).to(torch.int32)
    theirs = torch.quantize_per_tensor(x, float(qparams.scale), zero_point, dtype)
    difference = (ours - theirs.int_repr().to(torch.int32)).abs()
    assert int(difference.max()) <= 1
    assert int((difference > 0).sum()) <= 20  # 2e-5 of the data
    assert torch.equal(dequantize_tensor(theirs.int_repr(), qparams), theirs.dequantize())


# --- choosing qparams ------------------------------------------------------------------------------------------------------


def chosen(low: float, high: float, spec: QuantSpec) -> tuple[float, int]:
    found = choose_qparams(torch.tensor(low), torch.tensor(high), spec)
    assert found.spec is spec
    assert (found.scale.dtype, found.zero_point.dtype, found.scale.shape, found.zero_point.shape) == (torch.float32, torch.int32, (), ())
    return float(found.scale), int(found.zero_point)


def f32(value: float) -> float:
    return float(torch.tensor(value, dtype=torch.float32))


@pytest.mark.parametrize(
    ("low", "high", "spec", "scale", "zero_point"),
    [
        (-1.0, 3.0, ACTIVATION, 4 / 255, 64),  # 63.75
        (-1.0, 1.0, ACTIVATION, 2 / 255, 127),  # 127.49999: s is rounded to f32, upwards, before it divides
        (0.0, 255.0, ACTIVATION, 1.0, 0),
        (0.5, 2.0, ACTIVATION, 2 / 255, 0),  # extended to contain 0
        (-3.0, -1.0, ACTIVATION, 3 / 255, 255),
        (0.0, 0.0, ACTIVATION, EPS, 0),
        (0.0, 1e-9, ACTIVATION, EPS, 0),
        (-1e-9, 0.0, QuantSpec(eps=QNNPACK_EPS), QNNPACK_EPS, 0),
        (-1.0, 3.0, QuantSpec("uint8", 0, 127), 4 / 127, 32),  # 31.75
        (-1.0, 3.0, INT8, 4 / 255, -64),
        (-1.0, 3.0, QuantSpec("int8", -100, 100), 4 / 200, -50),
    ],
)
def test_affine(low: float, high: float, spec: QuantSpec, scale: float, zero_point: int) -> None:
    assert chosen(low, high, spec) == (f32(scale), zero_point)


@pytest.mark.parametrize(
    ("low", "high", "spec", "scale", "zero_point"),
    [
        (-2.0, 1.0, WEIGHT_PER_TENSOR, 2 / 127, 0),
        (-2.0, 3.0, WEIGHT_PER_TENSOR, 3 / 127, 0),
        (1.0, 3.0, WEIGHT_PER_TENSOR, 3 / 127, 0),
        (-2.0, 1.0, QuantSpec("int8", -128, 127, symmetric=True), 2 / 127, 0),
        (-2.0, 1.0, QuantSpec("uint8", 0, 255, symmetric=True), 2 / 127, 128),
        (-2.0, 1.0, QuantSpec("uint8", 0, 127, symmetric=True), 2 / 63, 64),
        (0.0, 0.0, WEIGHT_PER_TENSOR, EPS, 0),
        (0.0, 0.0, QuantSpec("int8", -127, 127, symmetric=True, eps=QNNPACK_EPS), QNNPACK_EPS, 0),
    ],
)
def test_symmetric(low: float, high: float, spec: QuantSpec, scale: float, zero_point: int) -> None:
    assert chosen(low, high, spec) == (f32(scale), zero_point)


def test_per_channel_is_per_tensor_of_each_channel() -> None:
    low, high = torch.tensor([-1.0, 0.5, -3.0, 0.0]), torch.tensor([3.0, 2.0, -1.0, 0.0])
    for spec in (WEIGHT_PER_CHANNEL, QuantSpec(axis=0)):
        found = choose_qparams(low, high, spec)
        assert list(zip(found.scale.tolist(), found.zero_point.tolist(), strict=True)) == [
            chosen(float(a), float(b), spec) for a, b in zip(low, high, strict=True)
        ]


@settings(deadline=None, max_examples=200)
@given(st.floats(-1e6, 1e6, width=32), st.floats(-1e6, 1e6, width=32), st.sampled_from([ACTIVATION, INT8, WEIGHT_PER_TENSOR]))
def test_zero_is_exact_and_the_range_is_covered(one: float, other: float, spec: QuantSpec) -> None:
    low, high = sorted((one, other))
    qparams = choose_qparams(torch.tensor(low), torch.tensor(high), spec)
    assert qparams.is_finite and spec.qmin <= int(qparams.zero_point) <= spec.qmax
    ends = torch.tensor([low, high, 0.0])
    error = (dequantize_tensor(quantize_tensor(ends, qparams), qparams) - ends).abs()
    assert float(error[2]) == 0.0
    # half a step, and another half for the rounding of the zero point
    assert float(error.max()) <= float(qparams.scale) * 1.001


# --- room for the bias -----------------------------------------------------------------------------------------------------

X = QParams.per_tensor(0.5, 0)


def bias_levels(w: QParams, bias: torch.Tensor, x: QParams) -> torch.Tensor:
    """b_q before rounding, as lowering computes it in float32."""
    return bias * (1.0 / (x.scale * w.scale))


def test_scales_with_room_stay() -> None:
    assert enlarge_scales(PER_CHANNEL, torch.tensor([1e6, -1e6]), X) == PER_CHANNEL
    assert enlarge_scales(PER_CHANNEL, None, X) is PER_CHANNEL


def test_a_dead_channel_is_enlarged_and_no_other() -> None:
    w = QParams(WEIGHT_PER_CHANNEL, torch.tensor([EPS, 0.5, EPS]), torch.zeros(3, dtype=torch.int32))
    bias = torch.tensor([-1000.0, 1000.0, 1.0])
    found = enlarge_scales(w, bias, X)
    assert found.scale[1:].tolist() == w.scale[1:].tolist()
    assert float(found.scale[0]) == pytest.approx(1000 / (0.5 * 2**30), rel=2e-6)
    assert bool((bias_levels(found, bias, X).abs() < 2**30).all())


def test_a_scale_per_tensor_becomes_the_largest_needed() -> None:
    w = QParams.per_tensor(EPS, 0, WEIGHT_PER_TENSOR)
    found = enlarge_scales(w, torch.tensor([1.0, -4000.0, 3.0]), X)
    assert found.scale.shape == ()
    assert float(found.scale) == pytest.approx(4000 / (0.5 * 2**30), rel=2e-6)


@settings(deadline=None, max_examples=200)
@given(st.floats(EPS, 2.0**23, width=32), st.floats(EPS, 1.0, width=32), st.floats(EPS, 1.0, width=32))
def test_the_smallest_scale_that_fits(bias: float, s_w: float, s_x: float) -> None:
    w, x, b = QParams.per_tensor(s_w, 0, WEIGHT_PER_TENSOR), QParams.per_tensor(s_x, 0), torch.tensor([bias])
    found = enlarge_scales(w, b, x)
    assert float(found.scale) >= float(w.scale)
    assert float(bias_levels(found, b, x).abs()) < 2**30
    needed = bias / float(x.scale) / 2**30
    assert float(found.scale) <= max(float(w.scale), needed * (1 + 2**-19))

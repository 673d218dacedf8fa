"""The constants of conv and linear, against numerics.md written out in numpy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fxq.errors import ConfigError
from fxq.graph.qtypes import ACTIVATION, WEIGHT_PER_CHANNEL, WEIGHT_PER_TENSOR, QParams, QuantSpec, enlarge_scales
from fxq.graph.reasons import Reason, Why
from fxq.lowering.requantize import (
    MultiplierBits,
    Scales,
    accumulator_bound,
    integer_output,
    pack_transposed_weights,
    pack_weights,
    product_multiplier,
    quantize_bias,
    round_multiplier,
    scale_ratio,
    scale_step,
    transposed_accumulator_bound,
)
from fxq.runtime.integer.outputs import IntegerOutput

X, Y = QParams.per_tensor(0.0371, 91), QParams.per_tensor(0.0523, 128)
S8 = QuantSpec("int8", -128, 127)


def weight_qparams(channels: int, seed: int = 0) -> QParams:
    scale = torch.rand(channels, generator=torch.Generator().manual_seed(seed)) * 0.01 + 1e-4
    return QParams(WEIGHT_PER_CHANNEL, scale, torch.zeros(channels, dtype=torch.int32))


def random_weight(*shape: int) -> torch.Tensor:
    return torch.randint(-127, 128, shape, dtype=torch.int8, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("w", [weight_qparams(16), QParams.per_tensor(0.0123, 0, WEIGHT_PER_TENSOR)], ids=["per channel", "per tensor"])
@pytest.mark.parametrize("shape", [(16, 5), (16, 3, 3, 2), (16, 4, 5)])
@pytest.mark.parametrize("y", [Y, None], ids=["int8", "float"])
@pytest.mark.parametrize("x", [X, QParams.per_tensor(0.02, -128, S8)], ids=["u8", "s8"])
def test_formula(w: QParams, shape: tuple[int, ...], y: QParams | None, x: QParams) -> None:
    weight, bias = random_weight(*shape), torch.randn(16) * 3
    packed = pack_weights(weight, Scales(x, w, y), bias)
    for channel in range(16):
        s_w = w.scale.numpy().reshape(-1)[channel % w.scale.numel()]
        product = x.scale.numpy() * s_w
        assert product.dtype == np.float32
        b_q = int(np.rint(bias.numpy()[channel] * (np.float32(1) / product)))
        assert int(packed.bias[channel]) == b_q - int(x.zero_point) * int(weight[channel].long().sum())
        expected = product if y is None else product * (np.float32(1) / y.scale.numpy())
        assert packed.multiplier.numpy()[channel] == expected
    assert (packed.bias.dtype, packed.multiplier.dtype) == (torch.int32, torch.float32)
    assert torch.equal(packed.weight, weight)


def test_no_bias_is_a_zero_bias() -> None:
    weight, scales = random_weight(4, 9), Scales(X, weight_qparams(4), Y)
    without, zero = pack_weights(weight, scales), pack_weights(weight, scales, torch.zeros(4))
    assert torch.equal(without.bias, zero.bias)
    assert torch.equal(without.bias, -91 * weight.int().sum(1, dtype=torch.int32))


@pytest.mark.parametrize("groups", [1, 3])
@pytest.mark.parametrize("per_channel", [True, False])
@pytest.mark.parametrize("bits", [22, 24])
def test_transposed_formula(groups: int, per_channel: bool, bits: MultiplierBits) -> None:
    weight, bias = random_weight(6, 5, 2, 3), torch.randn(5 * groups) * 3
    w = weight_qparams(5) if per_channel else QParams.per_tensor(0.0123, 0, WEIGHT_PER_TENSOR)
    packed = pack_transposed_weights(weight, Scales(X, w, Y), bias, groups, multiplier_bits=bits)
    for channel in range(5 * groups):
        product = X.scale.numpy() * w.scale.numpy().reshape(-1)[channel % w.scale.numel() if per_channel else 0]
        assert int(packed.bias[channel]) == int(np.rint(bias.numpy()[channel] * (np.float32(1) / product)))
        multiplier = torch.tensor(product * (np.float32(1) / Y.scale.numpy()))
        assert packed.multiplier[channel] == round_multiplier(multiplier, bits)
    assert torch.equal(packed.weight, weight)
    assert torch.equal(pack_transposed_weights(weight, Scales(X, w, Y), None, groups).bias, torch.zeros(5 * groups, dtype=torch.int32))


def test_transposed_bound_adds_up_one_groups_inputs() -> None:
    scales = Scales(QParams.per_tensor(1.0, 0), QParams.per_tensor(1.0, 0, WEIGHT_PER_TENSOR))
    most = (2**31 - 1) // (255 * 127)
    full = torch.full((2 * most, 1, 1), 127, dtype=torch.int8)
    assert transposed_accumulator_bound(full, scales, None, 2, "up") is None
    reason = transposed_accumulator_bound(full, scales, torch.tensor([0.0, 2.0**30]), 2, "up")
    assert isinstance(reason, Reason)
    assert (reason.why, "channel 1" in reason.detail) == (Why.OVERFLOW, True)
    assert transposed_accumulator_bound(full, scales, None, 1, "up") is not None


def test_multiplier_bits() -> None:
    weight, scales = random_weight(64, 9), Scales(X, weight_qparams(64), Y)
    full = pack_weights(weight, scales, multiplier_bits=24).multiplier
    short = pack_weights(weight, scales, multiplier_bits=22).multiplier
    assert not torch.equal(full, short)
    assert torch.equal(short, round_multiplier(full, 22))
    floats = Scales(X, scales.w)
    assert torch.equal(pack_weights(weight, floats, multiplier_bits=22).multiplier, pack_weights(weight, floats).multiplier)


@settings(deadline=None, max_examples=200)
@given(st.floats(2.0**-100, 2.0**100, width=32), st.sampled_from([22, 24]))
def test_rounding_to_significant_bits(value: float, bits: MultiplierBits) -> None:
    mantissa, exponent = math.frexp(value)
    expected = math.ldexp(round(math.ldexp(mantissa, bits)), exponent - bits)  # Python rounds ties to even
    assert float(round_multiplier(torch.tensor([value]), bits)) == expected


@pytest.mark.parametrize(("tail", "rounded"), [(0b0010, 0b0000), (0b0110, 0b1000), (0b0011, 0b0100), (0b0001, 0b0000), (0b1010, 0b1000)])
def test_ties_of_the_multiplier_go_to_even(tail: int, rounded: int) -> None:
    assert float(round_multiplier(torch.tensor([2.0**23 + tail]), 22)) == 2.0**23 + rounded


def test_a_weight_with_a_zero_point_is_refused() -> None:
    w = QParams.per_tensor(0.1, 3, WEIGHT_PER_TENSOR)
    with pytest.raises(ConfigError, match="symmetric"):
        pack_weights(random_weight(2, 3), Scales(X, w, Y))


@pytest.mark.parametrize(("zero_point", "furthest"), [(0, 255), (255, 255), (100, 155), (200, 200)])
def test_accumulator_bound_is_sharp(zero_point: int, furthest: int) -> None:
    x = QParams.per_tensor(1.0, zero_point)
    w = QParams.per_tensor(1.0, 0, WEIGHT_PER_TENSOR)
    depth = (2**31 - 1) // (furthest * 127)
    weight = torch.zeros(3, depth + 1, dtype=torch.int8)
    weight[1, :depth] = 127
    assert accumulator_bound(weight, Scales(x, w), None, "conv") is None
    weight[1, depth] = -127
    refusal = accumulator_bound(weight, Scales(x, w), None, "conv")
    assert isinstance(refusal, Reason)
    assert (refusal.why, refusal.node) == (Why.OVERFLOW, "conv")
    assert "channel 1" in str(refusal)


def test_accumulator_bound_counts_the_bias() -> None:
    x, w = QParams.per_tensor(1.0, 0), QParams.per_tensor(1.0, 0, WEIGHT_PER_TENSOR)
    weight = torch.tensor([[1]], dtype=torch.int8)
    assert accumulator_bound(weight, Scales(x, w), torch.tensor([-(2.0**31) + 512]), "fc") is None
    assert accumulator_bound(weight, Scales(x, w), torch.tensor([-(2.0**31) + 128]), "fc") is not None
    for bias in (1e30, -1e30, math.inf, -math.inf, math.nan):
        assert accumulator_bound(weight, Scales(x, w), torch.tensor([bias]), "fc") is not None
    assert accumulator_bound(torch.zeros(0, 4, dtype=torch.int8), Scales(x, w), None, "fc") is None


def test_dead_channels_get_a_scale_that_holds_their_bias() -> None:
    w = QParams(WEIGHT_PER_CHANNEL, torch.tensor([2.0**-23, 0.01, 2.0**-23]), torch.zeros(3, dtype=torch.int32))
    bias = torch.tensor([5.0, 5.0, 0.0])
    x = QParams.per_tensor(1e-4, 0)
    grown = enlarge_scales(w, bias, x)
    assert grown.scale[1:].tolist() == w.scale[1:].tolist()
    assert grown.scale[0] > w.scale[0]
    b_q = quantize_bias(bias, x.scale * grown.scale)
    assert 0.999 * 2**30 < int(b_q[0]) < 2**30
    assert enlarge_scales(w, None, x) is w
    whole = enlarge_scales(QParams.per_tensor(2.0**-23, 0, WEIGHT_PER_TENSOR), bias, x)
    assert float(whole.scale) == float(grown.scale[0])


def test_bias_beyond_int32_wraps_with_the_accumulator() -> None:
    """b_q − z_x·Σw may leave int32 where acc does not; both are taken modulo 2^32."""
    x, w = QParams.per_tensor(1.0, 255), QParams.per_tensor(1.0, 0, WEIGHT_PER_TENSOR)
    weight = torch.full((1, 60000), 127, dtype=torch.int8)
    bias = torch.tensor([-(2.0**30)])
    packed = pack_weights(weight, Scales(x, w), bias)
    folded = -(2**30) - 255 * 127 * 60000
    assert folded < -(2**31)
    assert int(packed.bias) == folded + 2**32


def test_single_factors() -> None:
    a, b, y = (QParams.per_tensor(scale, 3) for scale in (0.0371, 0.0119, 0.0523))
    f_a, f_b, f_y = (np.float32(scale) for scale in (0.0371, 0.0119, 0.0523))
    assert scale_ratio(a, y) == float(f_a / f_y)
    assert scale_step(a, y) == float(f_a * (np.float32(1) / f_y))
    assert scale_step(a, None) == float(f_a)
    assert product_multiplier(a, b, y) == float((f_a * f_b) * (np.float32(1) / f_y))


@pytest.mark.parametrize(
    ("bounds", "expected"),
    [
        ((-math.inf, math.inf), (0, 255)),
        ((0.0, math.inf), (10, 255)),
        ((0.0, 6.0), (10, 70)),
        ((-1.0, 1.0), (0, 20)),
        ((0.0, 0.25), (10, 12)),
    ],
)
def test_activation_bounds(bounds: tuple[float, float], expected: tuple[int, int]) -> None:
    y = QParams.per_tensor(0.1, 10, ACTIVATION)
    assert integer_output(y, *bounds) == IntegerOutput("uint8", 10, *expected, inverse=float(np.float32(1) / y.scale.numpy()))

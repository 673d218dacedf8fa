"""BackendProfile.accepts: what fits, and the reason where nothing does."""

from __future__ import annotations

import pytest

from fxq.graph.profile import Accepted, BackendProfile
from fxq.graph.qtypes import ACTIVATION, WEIGHT_PER_CHANNEL, WEIGHT_PER_TENSOR, QuantSpec
from fxq.graph.reasons import Reason, Why

PROFILE = BackendProfile(
    name="toy",
    activations=(Accepted("uint8", symmetric=False), Accepted("int8", symmetric=True)),
    weights=(Accepted("int8", symmetric=True, axes=(None, 0)),),
    ops=frozenset({"conv", "relu"}),
    multiplier_bits=24,
    fixed_point_add=False,
    dynamic=frozenset({"linear"}),
)
S8 = QuantSpec("int8", -127, 127, symmetric=True)


@pytest.mark.parametrize(
    ("accepted", "spec", "fits"),
    [
        (Accepted("uint8", False), ACTIVATION, True),
        (Accepted("uint8", False), QuantSpec("uint8", 0, 127, symmetric=True), True),
        (Accepted("uint8", False), S8, False),
        (Accepted("uint8", False), QuantSpec(axis=0), False),
        (Accepted("int8", True), S8, True),
        (Accepted("int8", True), QuantSpec("int8", -128, 127), False),
        (Accepted("int8", True, (0, 1)), QuantSpec("int8", -127, 127, symmetric=True, axis=1), True),
        (Accepted("int8", True, (0, 1)), S8, False),
    ],
)
def test_fits(accepted: Accepted, spec: QuantSpec, fits: bool) -> None:
    assert accepted.fits(spec) is fits


def test_accepted_as_text() -> None:
    assert str(Accepted("uint8", False)) == "uint8 per tensor"
    assert str(Accepted("int8", True, (None, 0, 1))) == "int8 symmetric per tensor or per channel 0 or per channel 1"


@pytest.mark.parametrize("activation", [ACTIVATION, S8])
@pytest.mark.parametrize("weight", [None, WEIGHT_PER_TENSOR, WEIGHT_PER_CHANNEL])
def test_accepts(activation: QuantSpec, weight: QuantSpec | None) -> None:
    assert PROFILE.accepts("n", "conv", activation, weight) is None


@pytest.mark.parametrize(
    ("op", "activation", "weight", "detail"),
    [
        ("gelu", ACTIVATION, None, "profile toy has no integer kernel for gelu"),
        (
            "relu", QuantSpec("int8", -128, 127), None,
            "profile toy takes activations as uint8 per tensor or int8 symmetric per tensor, "
            "the qconfig asks for int8 -128..127 affine per tensor",
        ),
        (
            "conv", ACTIVATION, QuantSpec("int8", -127, 127, symmetric=True, axis=1),
            "profile toy takes weights as int8 symmetric per tensor or per channel 0, "
            "the qconfig asks for int8 -127..127 symmetric per channel 1",
        ),
    ],
)  # fmt: skip
def test_refuses(op: str, activation: QuantSpec, weight: QuantSpec | None, detail: str) -> None:
    assert PROFILE.accepts("n", op, activation, weight) == Reason(Why.PROFILE, "n", detail)


def test_refuses_to_quantize_what_arrives() -> None:
    detail = "conv is not quantized as its input arrives: that is for layers with weights"
    assert PROFILE.accepts("n", "conv", QuantSpec(dynamic=True), ACTIVATION) == Reason(Why.DYNAMIC, "n", detail)

"""The backends, as data."""

from __future__ import annotations

import pytest

from fxq.errors import ConfigError
from fxq.graph.opdef import Policy
from fxq.graph.ops import OPS
from fxq.graph.qtypes import ACTIVATION, WEIGHT_PER_CHANNEL, WEIGHT_PER_TENSOR, QuantSpec
from fxq.lowering.profiles import PROFILES, find_profile
from fxq.qconfig_mapping import get_default_qconfig

SIGNED = QuantSpec("int8", -127, 127, symmetric=True)


def test_names_are_unique_and_found() -> None:
    names = [profile.name for profile in PROFILES]
    assert names == ["x86", "qnnpack"]
    assert [find_profile(name) for name in names] == list(PROFILES)
    assert all(find_profile(profile) is profile for profile in PROFILES)


@pytest.mark.parametrize("alias", ["fbgemm", "onednn"])
def test_torch_aos_engines_for_the_same_cpus(alias: str) -> None:
    assert find_profile(alias) is find_profile("x86")


def test_an_unknown_profile_names_those_that_exist() -> None:
    with pytest.raises(ConfigError) as caught:
        find_profile("cuda")
    assert (caught.value.expected, caught.value.found) == ("one of 'x86', 'qnnpack'", "'cuda'")


@pytest.mark.parametrize("profile", PROFILES, ids=lambda profile: profile.name)
@pytest.mark.parametrize("per_channel", [None, True, False])
def test_a_profile_accepts_its_default_for_every_op_that_can_be_int8(profile: object, per_channel: bool | None) -> None:
    found = find_profile(profile)  # type: ignore[arg-type]
    qconfig = get_default_qconfig(found.name, per_channel)
    for op in OPS:
        reason = found.accepts("node", op.name, qconfig.activation.spec, qconfig.weight.spec)
        assert (reason is None) == (op.policy not in (Policy.FLOAT, Policy.METADATA))


@pytest.mark.parametrize(
    ("profile", "activation", "weight", "accepted"),
    [
        ("x86", ACTIVATION, WEIGHT_PER_CHANNEL, True),
        ("x86", ACTIVATION, WEIGHT_PER_TENSOR, True),
        ("x86", ACTIVATION, None, True),
        ("x86", SIGNED, WEIGHT_PER_TENSOR, False),
        ("x86", ACTIVATION, QuantSpec("int8", -128, 127), False),
        ("x86", ACTIVATION, QuantSpec("int8", -127, 127, symmetric=True, axis=1), False),
        ("x86", QuantSpec("uint8", 0, 255, axis=1), WEIGHT_PER_TENSOR, False),
        ("x86", QuantSpec("uint8", 0, 255, dynamic=True), WEIGHT_PER_TENSOR, True),
        ("x86", QuantSpec("uint8", 0, 127, dynamic=True, axis=1), WEIGHT_PER_TENSOR, False),
        ("qnnpack", ACTIVATION, WEIGHT_PER_TENSOR, True),
        ("qnnpack", SIGNED, WEIGHT_PER_TENSOR, True),
        ("qnnpack", QuantSpec("int8", -128, 127), WEIGHT_PER_TENSOR, False),
    ],
)
def test_specs(profile: str, activation: QuantSpec, weight: QuantSpec | None, accepted: bool) -> None:
    assert (find_profile(profile).accepts("node", "conv", activation, weight) is None) == accepted


def test_arithmetic() -> None:
    assert [(profile.multiplier_bits, profile.fixed_point_add) for profile in PROFILES] == [(22, False), (24, True)]

"""What each profile starts with."""

from __future__ import annotations

import pytest

from fxq.errors import ConfigError
from fxq.graph.qtypes import QuantSpec
from fxq.observers import HistogramObserver, MinMaxObserver, Observer, PerChannelMinMaxObserver
from fxq.qconfig_mapping import PRESETS, QConfigMapping, get_default_qconfig, get_default_qconfig_mapping
from tests.qconfig_mapping.cases import module_call

PER_TENSOR, PER_CHANNEL = MinMaxObserver, PerChannelMinMaxObserver

SHIPPED = (
    ("x86", None, 2.0**-23, PER_CHANNEL),
    ("x86", True, 2.0**-23, PER_CHANNEL),
    ("x86", False, 2.0**-23, PER_TENSOR),
    ("qnnpack", None, 2.0**-12, PER_TENSOR),
    ("qnnpack", True, 2.0**-12, PER_CHANNEL),
    ("qnnpack", False, 2.0**-12, PER_TENSOR),
)


@pytest.mark.parametrize(("profile", "per_channel", "eps", "weight"), SHIPPED)
def test_shipped_presets(profile: str, per_channel: bool | None, eps: float, weight: type[Observer]) -> None:
    qconfig = get_default_qconfig(profile, per_channel)
    assert type(qconfig.activation()) is HistogramObserver
    assert qconfig.activation().spec == QuantSpec("uint8", 0, 255, eps=eps)
    assert type(qconfig.weight()) is weight
    assert qconfig.weight().spec == QuantSpec("int8", -127, 127, symmetric=True, axis=0 if weight is PER_CHANNEL else None, eps=eps)


def test_every_preset_is_tested() -> None:
    assert {preset.profile for preset in PRESETS} == {profile for profile, *_ in SHIPPED}


@pytest.mark.parametrize("engine", ["fbgemm", "onednn"])
def test_engines_of_torch_ao_mean_x86(engine: str) -> None:
    assert get_default_qconfig(engine) == get_default_qconfig("x86") == get_default_qconfig()
    assert get_default_qconfig_mapping(engine, per_channel=False) == get_default_qconfig_mapping("x86", per_channel=False)


def test_mapping_is_the_qconfig_for_the_whole_model() -> None:
    mapping = get_default_qconfig_mapping("qnnpack", per_channel=True)
    assert mapping == QConfigMapping().set_global(get_default_qconfig("qnnpack", per_channel=True))
    assert mapping.resolve(module_call("any")).rule == "set_global"
    mapping.require_matches(())


@pytest.mark.parametrize("profile", ["x86", "qnnpack"])
def test_presets_go_through_json(profile: str) -> None:
    mapping = get_default_qconfig_mapping(profile)
    assert QConfigMapping.from_json(mapping.to_json()) == mapping


@pytest.mark.parametrize(("profile", "remedy"), [("qnpack", 'use "qnnpack"'), ("cuda", 'use "x86"')])
def test_unknown_profile(profile: str, remedy: str) -> None:
    with pytest.raises(ConfigError) as caught:
        get_default_qconfig_mapping(profile)
    assert (caught.value.where, caught.value.expected) == ("profile", "one of x86, fbgemm, onednn, qnnpack")
    assert (caught.value.found, caught.value.remedy) == (repr(profile), remedy)


def test_version_number_of_torch_ao_is_not_per_channel() -> None:
    with pytest.raises(ConfigError, match="per_channel"):
        get_default_qconfig("x86", 0)  # type: ignore[arg-type]

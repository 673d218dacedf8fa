"""torch.ao's own objects as input: the same rules and ranges as their counterparts, or an error that names the field."""

from __future__ import annotations

import functools
import subprocess
import sys
import warnings
from typing import Any

import pytest
import torch
from torch import nn

import fxq
import fxq.compat.torch_ao as compat
from fxq.compat.importer import from_torch_ao
from fxq.errors import ConfigError
from fxq.observers import (
    MinMaxObserver,
    default_weight_observer,
)
from tests.compat.test_tutorials import LinearConvSigmoid, heavy_in_int8
from tests.meta.source import REPOSITORY

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import torch.ao.quantization as theirs
    import torch.ao.quantization.quantize_fx
    from torch.ao.quantization.fx import custom_config as their_custom
    from torch.ao.quantization.quant_type import QuantType


# what torch.ao's default_qconfig asks for
SEVEN_BITS = fxq.QConfig(MinMaxObserver.with_args(quant_max=127), default_weight_observer)


class CustomFloat(nn.Linear):
    pass


class CustomObserved(nn.Linear):
    @classmethod
    def from_float(cls, module: Any) -> CustomObserved:
        return cls(module.in_features, module.out_features)


class CustomQuantized(nn.Linear):
    @classmethod
    def from_observed(cls, module: Any) -> CustomQuantized:
        return cls(module.in_features, module.out_features)


def test_torch_ao_is_not_imported() -> None:
    program = "import sys, torch, torch.fx; before = set(sys.modules); import fxq, fxq.compat.torch_ao; print(*set(sys.modules) - before)"
    ran = subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, check=True, capture_output=True, text=True)
    assert "fxq.compat.torch_ao" in ran.stdout.split()
    assert [name for name in ran.stdout.split() if name.startswith("torch.ao.quantization")] == []


def test_what_is_not_torch_aos_stays() -> None:
    qconfig = fxq.get_default_qconfig()
    for value in (None, 3, qconfig, (1, [qconfig]), {"": qconfig}):
        assert from_torch_ao(value) == value


def test_other_classes_of_torch_ao_are_an_error() -> None:
    with pytest.raises(ConfigError, match="QuantStub"):
        from_torch_ao(theirs.QuantStub())


# --- QConfigMapping ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ["x86", "fbgemm", "onednn", "qnnpack"])
def test_presets_quantize_what_ours_do(engine: str) -> None:
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 4, 3), nn.PReLU(), nn.LayerNorm(6), nn.Conv2d(4, 4, 1), nn.Sigmoid(), nn.Softmax(1), nn.Conv2d(4, 2, 1)]
    model = nn.Sequential(*layers, nn.ConvTranspose2d(2, 2, 2)).eval()
    x = torch.randn(2, 3, 8, 8)
    results = []
    for mapping in (from_torch_ao(theirs.get_default_qconfig_mapping(engine)), fxq.get_default_qconfig_mapping(engine)):
        prepared = fxq.prepare_fx(model, mapping, (x,))
        prepared(x)
        converted = fxq.convert_fx(prepared)
        assert heavy_in_int8(converted) == {"0", "3", "6", "7"}
        assert [row.kind.value for row in fxq.report(converted).rows if row.module in ("4", "5")] == ["int8", "int8"]
        results.append(converted(x))
    assert (results[0] - model(x)).abs().max() < 0.01
    assert (results[0] - results[1]).abs().max() < 0.01


def test_every_family_of_rules_is_read() -> None:
    qconfig = theirs.default_qconfig
    given = (
        theirs.QConfigMapping()
        .set_global(qconfig)
        .set_object_type(nn.Linear, None)
        .set_module_name_regex("conv.*", qconfig)
        .set_module_name("head", None)
        .set_module_name_object_type_order("body", torch.add, 1, None)
    )
    mapping = from_torch_ao(given)
    assert [str(rule) for rule in mapping.rules] == [
        "set_global", 'set_object_type("torch.nn.Linear")', 'set_module_name_regex("conv.*")', 'set_module_name("head")',
        'set_module_name_object_type_order("body", "torch.add", 1)',
    ]  # fmt: skip
    assert [rule.qconfig is None for rule in mapping.rules] == [False, True, False, True, True]
    assert mapping.global_rule.qconfig == SEVEN_BITS


def test_a_dict_of_torch_aos_qconfigs_is_read() -> None:
    document = {"": theirs.default_qconfig, "object_type": [(nn.Linear, None)]}
    mapping = fxq.QConfigMapping.from_dict(from_torch_ao(document))
    assert mapping == fxq.QConfigMapping().set_global(SEVEN_BITS).set_object_type(nn.Linear, None)


def test_an_unknown_field_is_an_error_unless_it_is_empty() -> None:
    mapping = theirs.QConfigMapping().set_global(theirs.default_qconfig)
    mapping.kernel_qconfigs = {}
    from_torch_ao(mapping)
    mapping.kernel_qconfigs = {"conv": theirs.default_qconfig}
    with pytest.raises(ConfigError, match="kernel_qconfigs"):
        from_torch_ao(mapping)


def test_a_field_that_is_missing_is_empty() -> None:
    """Objects that were pickled by an older torch lack what came later."""
    mapping, custom = theirs.QConfigMapping().set_global(theirs.default_qconfig), their_custom.PrepareCustomConfig()
    del (
        mapping.object_type_qconfigs,
        mapping.module_name_object_type_order_qconfigs,
        custom.standalone_module_classes,
        custom.preserved_attributes,
    )
    assert from_torch_ao(mapping) == fxq.QConfigMapping().set_global(SEVEN_BITS)
    assert from_torch_ao(custom) == fxq.PrepareCustomConfig()


def test_a_fixed_range_other_than_the_ops_is_an_error() -> None:
    observer = theirs.FixedQParamsObserver.with_args(scale=1 / 128, zero_point=0)
    mapping = theirs.QConfigMapping().set_object_type(nn.Sigmoid, theirs.QConfig(observer, theirs.default_weight_observer))
    with pytest.raises(ConfigError, match=r"scale 0\.00390625 and zero_point 0") as caught:
        from_torch_ao(mapping)
    assert caught.value.where == "QConfigMapping.object_type_qconfigs['Sigmoid']: QConfig.activation"


@pytest.mark.parametrize("target", [nn.Sigmoid, nn.Linear, "view", CustomFloat])
def test_an_error_names_the_object_type(target: Any) -> None:
    bad = theirs.QConfig(functools.partial(nn.Identity), theirs.default_weight_observer)
    with pytest.raises(ConfigError) as caught:
        from_torch_ao(theirs.QConfigMapping().set_object_type(target, bad))
    name = target if isinstance(target, str) else target.__name__
    assert caught.value.where == f"QConfigMapping.object_type_qconfigs[{name!r}]: QConfig.activation: observer"


def test_a_mapping_of_torch_ao_may_hold_qconfigs_of_fxq() -> None:
    given = theirs.QConfigMapping().set_global(fxq.default_qconfig).set_object_type(nn.Sigmoid, fxq.default_qconfig)
    assert from_torch_ao(given) == fxq.QConfigMapping().set_global(fxq.default_qconfig).set_object_type(nn.Sigmoid, fxq.default_qconfig)


def test_absent_object_types_are_fine_and_absent_names_are_not() -> None:
    model, x = nn.Sequential(nn.Linear(4, 4)).eval(), torch.randn(2, 4)
    mapping = theirs.QConfigMapping().set_global(theirs.default_qconfig).set_object_type(nn.Conv3d, None)
    fxq.prepare_fx(model, from_torch_ao(mapping), (x,))
    with pytest.raises(ConfigError, match='set_module_name\\("1"\\)'):
        fxq.prepare_fx(model, from_torch_ao(mapping.set_module_name("1", None)), (x,))


def test_per_channel_activations_stay_float_with_a_reason() -> None:
    model, x = nn.Sequential(nn.Linear(4, 4)).eval(), torch.randn(2, 4)
    mapping = theirs.QConfigMapping().set_global(theirs.QConfig(theirs.PerChannelMinMaxObserver, theirs.default_weight_observer))
    prepared = compat.prepare_fx(model, mapping, (x,))
    assert "takes activations as uint8 per tensor, the qconfig asks for uint8 0..255 affine per channel 0" in str(
        fxq.report(prepared).row("_0").reason
    )


def test_torch_aos_objects_go_into_prepare_fx() -> None:
    torch.manual_seed(0)
    model, x = LinearConvSigmoid(use_bn=True).eval(), torch.randn(2, 3, 10, 10)
    custom = their_custom.PrepareCustomConfig().set_non_traceable_module_names(["relu"])
    prepared = compat.prepare_fx(model, theirs.get_default_qconfig_mapping("x86"), (x,), custom)
    prepared(x)
    off = theirs.QConfigMapping().set_object_type(nn.Linear, None)
    converted = compat.convert_fx(prepared, their_custom.ConvertCustomConfig(), qconfig_mapping=off)
    assert heavy_in_int8(converted) == {"conv"}


def test_torch_aos_objects_given_to_fxq_itself_point_to_the_importer() -> None:
    model, x = nn.Sequential(nn.Linear(4, 4)).eval(), torch.randn(2, 4)
    for call in (
        lambda: fxq.prepare_fx(model, theirs.get_default_qconfig_mapping("x86"), (x,)),
        lambda: fxq.QConfigMapping().set_global(theirs.default_qconfig),
        lambda: fxq.prepare_fx(model, fxq.get_default_qconfig_mapping(), (x,), their_custom.PrepareCustomConfig()),
    ):
        with pytest.raises(ConfigError, match=r"fxq\.from_torch_ao reads torch\.ao's"):
            call()


# --- custom configs ----------------------------------------------------------------------------------------------------------


def test_prepare_custom_config() -> None:
    x = torch.randn(2, 4)
    inside = their_custom.PrepareCustomConfig().set_preserved_attributes(["tag"])
    given = (
        their_custom.PrepareCustomConfig()
        .set_standalone_module_name("block", theirs.QConfigMapping().set_global(theirs.default_qconfig), (x,), inside, None)
        .set_standalone_module_class(nn.Sequential, None, (x,), None, None)
        .set_float_to_observed_mapping(CustomFloat, CustomObserved)
        .set_non_traceable_module_names(["a"])
        .set_non_traceable_module_classes([nn.GRU])
        .set_input_quantized_indexes([0])
        .set_output_quantized_indexes([1])
        .set_preserved_attributes(["attribute"])
    )
    config = from_torch_ao(given)
    entry = config.standalone_module_names["block"]
    assert entry.qconfig_mapping.global_rule.qconfig == SEVEN_BITS
    assert entry.prepare_custom_config.preserved_attributes == ("tag",)
    assert config.standalone_module_classes[nn.Sequential].qconfig_mapping is None
    assert config.float_to_observed_mapping == {CustomFloat: CustomObserved}
    assert (config.non_traceable_module_names, config.non_traceable_module_classes) == (("a",), (nn.GRU,))
    assert (config.input_quantized_indexes, config.output_quantized_indexes) == ((0,), (1,))
    assert config.preserved_attributes == ("attribute",)


def test_other_custom_configs() -> None:
    given = their_custom.ConvertCustomConfig().set_observed_to_quantized_mapping(CustomObserved, CustomQuantized)
    config = from_torch_ao(given.set_preserved_attributes(["a"]))
    assert (config.observed_to_quantized_mapping, config.preserved_attributes) == ({CustomObserved: CustomQuantized}, ("a",))
    assert from_torch_ao(their_custom.FuseCustomConfig().set_preserved_attributes(["b"])).preserved_attributes == ("b",)


def test_dynamic_custom_modules_are_an_error() -> None:
    given = their_custom.ConvertCustomConfig()
    given.set_observed_to_quantized_mapping(CustomObserved, CustomQuantized, QuantType.DYNAMIC)
    with pytest.raises(ConfigError, match="static"):
        from_torch_ao(given)

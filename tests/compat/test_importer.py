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
from fxq.compat.observers import LEFT_OUT, OBSERVER_ROWS
from fxq.errors import ConfigError
from fxq.graph.profile import BackendProfile
from fxq.graph.qtypes import QuantSpec
from fxq.lowering.profiles import find_profile
from fxq.observers import (
    FixedQParamsObserver,
    HistogramObserver,
    MinMaxObserver,
    MovingAverageMinMaxObserver,
    ObserverFactory,
    default_weight_observer,
)
from tests.compat.test_tutorials import LinearConvSigmoid, heavy_in_int8
from tests.meta.source import REPOSITORY

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import torch.ao.quantization as theirs
    import torch.ao.quantization.backend_config as their_backends
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


def spec_of(given: Any) -> QuantSpec:
    spec: QuantSpec = from_torch_ao(given).spec
    return spec


def test_torch_ao_is_not_imported() -> None:
    program = "import sys, torch, torch.fx; before = set(sys.modules); import fxq, fxq.compat.torch_ao; print(*set(sys.modules) - before)"
    ran = subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, check=True, capture_output=True, text=True)
    assert "fxq.compat.torch_ao" in ran.stdout.split()
    assert [name for name in ran.stdout.split() if name.startswith("torch.ao.quantization")] == []


# --- observers and QConfigs --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("row", OBSERVER_ROWS, ids=lambda row: row.name)
def test_every_row_is_a_class_of_torch_ao(row: Any) -> None:
    factory = from_torch_ao(getattr(theirs, row.name))
    assert factory.kind is row.kind
    assert factory.spec.dtype == "uint8"
    assert not factory.spec.symmetric


def test_arguments_of_observers() -> None:
    observer = theirs.MovingAverageMinMaxObserver.with_args(
        averaging_constant=0.1, dtype=torch.quint8, quant_min=3, quant_max=200, eps=2**-12
    )
    factory = from_torch_ao(observer)
    assert factory.spec == QuantSpec("uint8", 3, 200, eps=2.0**-12)
    assert factory.args["averaging_constant"] == 0.1
    assert spec_of(theirs.default_per_channel_weight_observer) == QuantSpec("int8", -127, 127, symmetric=True, axis=0)
    assert spec_of(theirs.PerChannelMinMaxObserver.with_args(ch_axis=1)) == QuantSpec("uint8", 0, 255, axis=1)
    asked = theirs.MinMaxObserver.with_args(dtype=torch.qint8, qscheme=torch.per_tensor_symmetric, quant_min=-128, quant_max=127)
    assert spec_of(asked) == QuantSpec("int8", -128, 127, symmetric=True)


def test_a_plain_partial_is_read_like_with_args() -> None:
    partial = functools.partial(theirs.MinMaxObserver, dtype=torch.qint8, qscheme=torch.per_tensor_symmetric)
    qconfig = from_torch_ao(theirs.QConfig(activation=theirs.HistogramObserver, weight=partial))
    assert qconfig == fxq.QConfig(HistogramObserver, default_weight_observer)


NESTED = theirs.FakeQuantize.with_args(observer=theirs.MinMaxObserver.with_args(eps=0.5), quant_max=9)


@pytest.mark.parametrize(
    ("fake_quantize", "kind", "spec"),
    [
        (theirs.FakeQuantize, MovingAverageMinMaxObserver, QuantSpec("uint8", 0, 255)),
        (theirs.default_fused_act_fake_quant, MovingAverageMinMaxObserver, QuantSpec("uint8", 0, 255)),
        (theirs.default_weight_fake_quant, MovingAverageMinMaxObserver, QuantSpec("int8", -128, 127, symmetric=True)),
        (theirs.default_fixed_qparams_range_0to1_fake_quant, FixedQParamsObserver, QuantSpec("uint8", 0, 255)),
        (NESTED, MinMaxObserver, QuantSpec("uint8", 0, 9, eps=0.5)),
    ],
)
def test_a_fake_quantize_module_stands_for_its_observer(fake_quantize: Any, kind: type, spec: QuantSpec) -> None:
    factory = from_torch_ao(fake_quantize)
    assert (factory.kind, factory.spec) == (kind, spec)


def test_signed_affine_activations_become_unsigned() -> None:
    """The same reals, 128 integers higher."""
    qconfig = from_torch_ao(theirs.qconfig.default_symmetric_qnnpack_qconfig)
    assert qconfig.activation.spec == QuantSpec("uint8", 0, 255, eps=2.0**-12)
    fixed = theirs.FixedQParamsObserver.with_args(scale=0.5, zero_point=-128, dtype=torch.qint8, quant_min=-128, quant_max=127)
    activation = from_torch_ao(theirs.QConfig(fixed, theirs.default_weight_observer)).activation
    assert (activation.spec, activation.args["zero_point"]) == (QuantSpec("uint8", 0, 255), 0)


def test_reduce_range_is_left_out_and_a_range_is_kept() -> None:
    assert [name for name, _ in LEFT_OUT] == ["reduce_range", "upsample_rate", "factory_kwargs"]
    assert spec_of(theirs.HistogramObserver.with_args(reduce_range=True, upsample_rate=16)) == QuantSpec("uint8", 0, 255)
    assert spec_of(theirs.MinMaxObserver.with_args(quant_min=0, quant_max=127)) == QuantSpec("uint8", 0, 127)


@pytest.mark.parametrize(
    ("observer", "message"),
    [
        (theirs.MinMaxObserver.with_args(dtype=torch.float16), "dtype"),
        (theirs.MinMaxObserver.with_args(bits=4), "bits"),
        (theirs.PlaceholderObserver.with_args(dtype=torch.quint8, is_dynamic=True), "is_dynamic"),
        (theirs.ReuseInputObserver, "share the qparams of their input"),
        (theirs.default_dynamic_fake_quant, "is_dynamic"),
        (theirs.default_embedding_fake_quant, "qscheme"),
        (theirs.MinMaxObserver(), "each tensor gets an observer of its own"),
        (functools.partial(theirs.MinMaxObserver, torch.qint8), "arguments by name"),
        (lambda: theirs.MinMaxObserver(), "observer class"),
        (functools.partial(nn.Identity), "torch.nn.modules.linear.Identity"),
    ],
)
def test_observers_without_a_counterpart(observer: Any, message: str) -> None:
    qconfig = theirs.QConfig._make([observer, theirs.default_weight_observer])  # which doesn't check
    with pytest.raises(ConfigError, match=message) as caught:
        from_torch_ao(qconfig)
    assert caught.value.where.startswith("QConfig.activation")


def test_the_message_names_the_rule_and_the_field() -> None:
    bad = theirs.QConfig(activation=theirs.MinMaxObserver, weight=theirs.MinMaxObserver.with_args(dtype=torch.quint4x2))
    with pytest.raises(ConfigError) as caught:
        from_torch_ao(theirs.QConfigMapping().set_module_name("head", bad))
    assert caught.value.where == "QConfigMapping.module_name_qconfigs['head']: QConfig.weight: dtype"


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
    layers = [nn.Conv2d(3, 4, 3), nn.PReLU(), nn.LayerNorm(6), nn.Conv2d(4, 4, 1), nn.Sigmoid(), nn.Conv2d(4, 2, 1), nn.Softmax(1)]
    model = nn.Sequential(*layers, nn.ConvTranspose2d(2, 2, 2)).eval()
    x = torch.randn(2, 3, 8, 8)
    results = []
    for mapping in (from_torch_ao(theirs.get_default_qconfig_mapping(engine)), fxq.get_default_qconfig_mapping(engine)):
        prepared = fxq.prepare_fx(model, mapping, (x,))
        prepared(x)
        converted = fxq.convert_fx(prepared)
        assert heavy_in_int8(converted) == {"0", "3", "5", "7"}
        assert [row.kind.value for row in fxq.report(converted).rows if row.module in ("4", "6")] == ["int8", "int8"]
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


def test_a_fixed_range_other_than_the_ops_is_an_error() -> None:
    observer = theirs.FixedQParamsObserver.with_args(scale=1 / 128, zero_point=0)
    mapping = theirs.QConfigMapping().set_object_type(nn.Sigmoid, theirs.QConfig(observer, theirs.default_weight_observer))
    with pytest.raises(ConfigError, match=r"scale 0.00390625 and zero_point 0"):
        from_torch_ao(mapping)


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


# --- BackendConfig -----------------------------------------------------------------------------------------------------------

UINT8_INT8 = {"input_dtype": torch.quint8, "output_dtype": torch.quint8, "weight_dtype": torch.qint8, "bias_dtype": torch.float}


def backend(module: Any, *patterns: tuple[Any, dict[str, Any]]) -> Any:
    """A BackendConfig of torch.ao or of fxq.compat, by module, with one DTypeConfig per pattern."""
    config = module.BackendConfig("mine")
    for pattern, dtypes in patterns:
        config.set_backend_pattern_config(module.BackendPatternConfig(pattern).add_dtype_config(module.DTypeConfig(**dtypes)))
    return config


@pytest.mark.parametrize("module", [their_backends, compat], ids=["torch.ao", "compat"])
def test_patterns_become_the_ops_of_a_profile(module: Any) -> None:
    given = backend(module, ((nn.Linear, nn.ReLU), UINT8_INT8), (torch.add, {**UINT8_INT8, "weight_dtype": None}), ("view", UINT8_INT8))
    profile = compat._profile(given)
    assert isinstance(profile, BackendProfile)
    assert (profile.name, profile.ops) == ("mine", {"linear", "relu", "add", "reshape"})
    x86 = find_profile("x86")
    assert (profile.activations, profile.weights, profile.multiplier_bits) == (x86.activations, x86.weights, x86.multiplier_bits)


@pytest.mark.parametrize("module", [their_backends, compat], ids=["torch.ao", "compat"])
@pytest.mark.parametrize(
    "dtypes",
    [
        {**UINT8_INT8, "is_dynamic": True},
        {**UINT8_INT8, "input_dtype": torch.float16, "weight_dtype": torch.float16},
        {"input_dtype": torch.float, "output_dtype": torch.float, "weight_dtype": torch.quint8},
    ],
    ids=["dynamic", "float16", "weight only"],
)
def test_patterns_in_other_dtypes_are_left_out(module: Any, dtypes: dict[str, Any]) -> None:
    assert compat._profile(backend(module, (nn.Linear, dtypes), (nn.Conv2d, UINT8_INT8))).ops == {"conv"}
    with pytest.raises(ConfigError, match="none that the kernels take"):
        compat._profile(backend(module, (nn.Linear, dtypes)))


@pytest.mark.parametrize("module", [their_backends, compat], ids=["torch.ao", "compat"])
def test_a_pattern_of_the_users_own_op_is_an_error(module: Any) -> None:
    with pytest.raises(ConfigError, match="CustomFloat") as caught:
        compat._profile(backend(module, ((nn.Linear, CustomFloat), UINT8_INT8)))
    assert "set_float_to_observed_mapping" in caught.value.remedy


@pytest.mark.parametrize("module", [their_backends, compat], ids=["torch.ao", "compat"])
def test_two_bounds_for_one_dtype_are_an_error(module: Any) -> None:
    narrow = module.DTypeWithConstraints(dtype=torch.quint8, quant_min_lower_bound=0, quant_max_upper_bound=127)
    other = {**UINT8_INT8, "input_dtype": narrow, "output_dtype": narrow}
    with pytest.raises(ConfigError, match="the same bounds for uint8 in all patterns"):
        compat._profile(backend(module, (nn.Linear, UINT8_INT8), (nn.Conv2d, other)))


@pytest.mark.parametrize("name", ["native", "fbgemm", "onednn", "qnnpack", "executorch"])
def test_torch_aos_own_backends(name: str) -> None:
    """The ops that torch.ao quantizes and fxq knows; the built-in names of fxq.compat are whole profiles."""
    profile = from_torch_ao(getattr(their_backends, f"get_{name}_backend_config")())
    base = find_profile("qnnpack" if name == "qnnpack" else "x86")
    assert {"conv", "linear", "add", "cat", "max_pool"} <= profile.ops <= base.ops
    assert all(row in profile.activations for row in base.activations if row.dtype == "uint8")
    mine = getattr(compat, f"get_{name}_backend_config")
    assert name == "executorch" or mine() == base


@pytest.mark.parametrize("module", [their_backends, compat], ids=["torch.ao", "compat"])
def test_setters_of_the_pattern(module: Any) -> None:
    dtypes = module.DTypeConfig(**UINT8_INT8)
    pattern = module.BackendPatternConfig().set_pattern(nn.Conv2d).set_dtype_configs([dtypes, dtypes])
    config = module.BackendConfig().set_name("two").set_backend_pattern_configs([pattern, pattern])
    assert len(config.configs) == 1
    assert compat._profile(config).ops == {"conv"}


def test_what_is_no_backend_config_is_an_error() -> None:
    with pytest.raises(ConfigError, match="backend_config"):
        compat.prepare_fx(nn.Linear(2, 2), fxq.get_default_qconfig_mapping(), torch.randn(1, 2), backend_config="x86")
    with pytest.raises(ConfigError, match="_equalization_config"):
        compat.prepare_fx(nn.Linear(2, 2), fxq.get_default_qconfig_mapping(), torch.randn(1, 2), _equalization_config={"": None})


# --- ranges ------------------------------------------------------------------------------------------------------------------

OBSERVED = (
    theirs.MovingAverageMinMaxObserver.with_args(averaging_constant=0.1),
    theirs.MovingAveragePerChannelMinMaxObserver.with_args(ch_axis=1),
    theirs.PerChannelMinMaxObserver,
    theirs.MinMaxObserver.with_args(quant_min=0, quant_max=127),
    theirs.MinMaxObserver.with_args(dtype=torch.qint8, qscheme=torch.per_tensor_symmetric),
    theirs.default_weight_fake_quant,
)

# names that carry an observer, by torch.ao's name; those without qparams of their own are left out
FACTORIES = tuple(
    name
    for name in compat.__all__
    if isinstance(getattr(compat, name), ObserverFactory) and name not in ("default_placeholder_observer", "default_debug_observer")
)
QCONFIGS = tuple(name for name in compat.__all__ if isinstance(getattr(compat, name), fxq.QConfig) and name != "default_debug_qconfig")


def check_ranges(peer: Any, mine: Any, batches: list[torch.Tensor]) -> None:
    """Both represent the same interval [scale·(qmin − z), scale·(qmax − z)], to one step of the coarser one.

    Steps differ where torch.ao has seven bits or −128..127.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for batch in batches:
            peer(batch), mine(batch)
        scale, zero_point = peer.calculate_qparams()
    found = mine.qparams()
    # the range of reduced dtypes is in the observer inside
    observer = getattr(peer, "activation_post_process", peer)
    step = torch.maximum(scale, found.scale)
    for theirs_end, ours_end in ((observer.quant_min, found.spec.qmin), (observer.quant_max, found.spec.qmax)):
        difference = (scale * (theirs_end - zero_point) - found.scale * (ours_end - found.zero_point)).abs()
        assert bool((difference <= step * 1.001).all())


def uniform(count: int) -> list[torch.Tensor]:
    """Values that a histogram has no reason to clip."""
    torch.manual_seed(0)
    return [torch.rand(6, 400) * 5 - 1 for _ in range(count)]


@pytest.mark.parametrize("observer", OBSERVED, ids=[f"{index}-{each!r}"[:60] for index, each in enumerate(OBSERVED)])
def test_an_imported_observer_covers_the_range_of_torch_aos(observer: Any) -> None:
    check_ranges(observer(), from_torch_ao(observer)(), uniform(4))


@pytest.mark.parametrize("name", FACTORIES)
def test_a_default_observer_covers_the_range_of_torch_aos(name: str) -> None:
    check_ranges(getattr(theirs, name)(), getattr(compat, name)(), uniform(1))


@pytest.mark.parametrize("name", QCONFIGS)
def test_a_default_qconfig_covers_the_ranges_of_torch_aos(name: str) -> None:
    peer, mine = getattr(theirs.qconfig, name), getattr(compat, name)
    check_ranges(peer.activation(), mine.activation(), uniform(1))
    check_ranges(peer.weight(), mine.weight(), uniform(1))


@pytest.mark.parametrize("engine", ["x86", "fbgemm", "onednn", "qnnpack"])
@pytest.mark.parametrize("getter", ["get_default_qconfig", "get_default_qat_qconfig"])
def test_a_preset_covers_the_ranges_of_torch_aos(getter: str, engine: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        peer = getattr(theirs, getter)(engine)
    mine = getattr(compat, getter)(engine, 1)
    check_ranges(peer.activation(), mine.activation(), uniform(1))
    check_ranges(peer.weight(), mine.weight(), uniform(1))


def test_another_range_is_found() -> None:
    assert "default_observer" in FACTORIES and "default_qat_qconfig" in QCONFIGS
    with pytest.raises(AssertionError):
        check_ranges(theirs.MinMaxObserver(), compat.default_fixed_qparams_range_0to1_observer(), uniform(1))


def test_min_max_observers_of_the_same_range_have_the_same_qparams() -> None:
    torch.manual_seed(0)
    batch = torch.randn(64, 8)
    for peer in (theirs.MinMaxObserver, theirs.PerChannelMinMaxObserver):
        mine, other = from_torch_ao(peer)(), peer()
        mine(batch), other(batch)
        scale, zero_point = other.calculate_qparams()
        assert torch.equal(mine.qparams().zero_point, zero_point.to(torch.int32).reshape(mine.qparams().zero_point.shape))
        assert (mine.qparams().scale / scale - 1).abs().max() < 2.0**-22

"""torch.ao's observers and QConfigs as input, and their ranges beside those of fxq."""

from __future__ import annotations

import functools
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
from fxq.graph.qtypes import QuantSpec
from fxq.observers import (
    FixedQParamsObserver,
    HistogramObserver,
    MinMaxObserver,
    MovingAverageMinMaxObserver,
    ObserverFactory,
    WeightOnlyObserver,
    default_weight_observer,
)

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import torch.ao.quantization as theirs
    import torch.ao.quantization.quantize_fx


def spec_of(given: Any) -> QuantSpec:
    spec: QuantSpec = from_torch_ao(given).spec
    return spec


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
        (theirs.ReuseInputObserver, "share the qparams of their input"),
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


@pytest.mark.parametrize(
    "observer",
    [
        theirs.default_dynamic_quant_observer,
        theirs.MinMaxObserver.with_args(dtype=torch.quint8, is_dynamic=True),
        theirs.MovingAverageMinMaxObserver.with_args(averaging_constant=1, is_dynamic=True),
    ],
)
def test_dynamic_observers_observe_nothing(observer: Any) -> None:
    qconfig = from_torch_ao(theirs.QConfig(activation=observer, weight=theirs.default_weight_observer))
    assert qconfig.activation == fxq.default_dynamic_qconfig.activation


def test_the_message_names_the_rule_and_the_field() -> None:
    bad = theirs.QConfig(activation=theirs.MinMaxObserver, weight=theirs.MinMaxObserver.with_args(dtype=torch.quint4x2))
    with pytest.raises(ConfigError) as caught:
        from_torch_ao(theirs.QConfigMapping().set_module_name("head", bad))
    assert caught.value.where == "QConfigMapping.module_name_qconfigs['head']: QConfig.weight: dtype"


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
    if isinstance(found := getattr(compat, name), ObserverFactory) and name != "default_debug_observer"
    if not found.spec.dynamic and found.kind is not WeightOnlyObserver
)
QCONFIGS = tuple(name for name in compat.__all__ if isinstance(getattr(compat, name), fxq.QConfig) and name != "default_debug_qconfig")
STATIC = tuple(name for name in QCONFIGS if not getattr(compat, name).is_float_outside)


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


@pytest.mark.parametrize("name", STATIC)
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


@pytest.mark.parametrize("name", [name for name in QCONFIGS if getattr(compat, name).weight_format is not None])
def test_weights_in_few_bits_are_asked_for_in_the_same_way(name: str) -> None:
    assert from_torch_ao(getattr(theirs.qconfig, name)) == getattr(compat, name)


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

"""torch.ao's QConfigs for static quantization: the same observers in the same places."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

import fxq
import fxq.qconfig_mapping
from fxq.graph.qtypes import ACTIVATION, QNNPACK_EPS, WEIGHT_PER_CHANNEL, WEIGHT_PER_TENSOR, QuantSpec
from fxq.observers import HistogramObserver, ObserverFactory
from fxq.qconfig_mapping import QConfig, QConfigMapping, get_default_qconfig
from fxq.qconfig_mapping import defaults as ours
from tests.observers.test_defaults import NOT_MINUS_128, SEVEN_BITS, our_fields, their_fields

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from torch.ao.quantization import qconfig as theirs

Differences = Mapping[str, tuple[object, object]]

# affine both: the same reals
UNSIGNED: Differences = {"dtype": ("uint8", "int8"), "quant_min": (0, -128), "quant_max": (255, 127)}
NO_RANGE: Differences = {"quant_min": (0, None), "quant_max": (255, None)}

# name → what is different on purpose in the activation and in the weight: field → (ours, torch.ao's)
DIFFERENCES: Mapping[str, tuple[Differences, Differences]] = {
    "default_qconfig": (SEVEN_BITS, NOT_MINUS_128),
    "default_per_channel_qconfig": (SEVEN_BITS, NOT_MINUS_128),
    "default_debug_qconfig": (NO_RANGE, NOT_MINUS_128),
    "default_dynamic_qconfig": ({}, NOT_MINUS_128),
    "default_symmetric_qnnpack_qconfig": (UNSIGNED, {}),
    "default_per_channel_symmetric_qnnpack_qconfig": (UNSIGNED, {}),
}

LEFT_OUT = {
    "default_reuse_input_qconfig": "sharing is in the table of operations",
    "default_quint8_weight_qconfig": "no profile has unsigned weights",
    "default_weight_only_qconfig": "weight only, with fake-quantize modules",
    "default_activation_only_qconfig": "activation only, with fake-quantize modules",
    "default_qat_qconfig": "training",
    "default_qat_qconfig_v2": "training",
    "default_dynamic_qat_qconfig": "training",
    "default_embedding_qat_qconfig": "training",
    "default_embedding_qat_qconfig_4bit": "training",
    "default_symmetric_qnnpack_qat_qconfig": "training",
    "default_per_channel_symmetric_qnnpack_qat_qconfig": "training",
}

WITH_QNNPACK_EPS = replace(ACTIVATION, eps=QNNPACK_EPS)


def qconfig_names(module: Any) -> set[str]:
    return {name for name in vars(module) if name.startswith("default_") and "qconfig" in name}


def differences(factory: ObserverFactory, peer: Any) -> dict[str, tuple[object, object]]:
    mine, theirs_ = our_fields(factory), their_fields(peer)
    return {field: (mine[field], theirs_[field]) for field in mine if mine[field] != theirs_[field]}


@pytest.mark.parametrize("name", DIFFERENCES)
def test_the_fields_of_torch_ao_but_for_the_listed_differences(name: str) -> None:
    mine, peer = getattr(ours, name), getattr(theirs, name)
    found = differences(mine.activation, peer.activation), differences(mine.weight, peer.weight)
    assert found == DIFFERENCES[name]


def test_every_name_of_torch_ao_is_here_or_left_out_for_a_reason() -> None:
    assert qconfig_names(ours) == set(DIFFERENCES)
    assert qconfig_names(theirs) == set(DIFFERENCES) | set(LEFT_OUT)
    assert set(DIFFERENCES) <= set(fxq.qconfig_mapping.__all__)


@pytest.mark.parametrize(
    ("engine", "activation", "weight"),
    [
        ("x86", SEVEN_BITS, NOT_MINUS_128),
        ("fbgemm", SEVEN_BITS, NOT_MINUS_128),
        ("onednn", {}, NOT_MINUS_128),
        # the smallest scale of the qnnpack profile, for which torch.ao has a QConfig of its own
        ("qnnpack", {"eps": (2.0**-12, 2.0**-23)}, {**NOT_MINUS_128, "eps": (2.0**-12, 2.0**-23)}),
    ],
)
def test_get_default_qconfig_by_engine(engine: str, activation: Differences, weight: Differences) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        peer = theirs.get_default_qconfig(engine)
    mine = get_default_qconfig(engine)
    assert differences(mine.weight, peer.weight) == weight
    assert differences(mine.activation, peer.activation) == activation


@pytest.mark.parametrize(
    ("name", "activation", "weight"),
    [
        ("default_qconfig", ACTIVATION, WEIGHT_PER_TENSOR),
        ("default_per_channel_qconfig", ACTIVATION, WEIGHT_PER_CHANNEL),
        ("default_debug_qconfig", ACTIVATION, WEIGHT_PER_TENSOR),
        ("default_symmetric_qnnpack_qconfig", WITH_QNNPACK_EPS, replace(WEIGHT_PER_TENSOR, eps=QNNPACK_EPS)),
        ("default_per_channel_symmetric_qnnpack_qconfig", WITH_QNNPACK_EPS, replace(WEIGHT_PER_CHANNEL, eps=QNNPACK_EPS)),
    ],
)
def test_what_they_ask_for(name: str, activation: QuantSpec, weight: QuantSpec) -> None:
    qconfig: QConfig = getattr(ours, name)
    assert (qconfig.activation.spec, qconfig.weight.spec) == (activation, weight)
    mapping = QConfigMapping().set_global(qconfig)
    assert QConfigMapping.from_json(mapping.to_json()) == mapping


@pytest.mark.parametrize("profile", ["x86", "qnnpack"])
@pytest.mark.parametrize("name", DIFFERENCES)
def test_they_quantize_a_model(name: str, profile: str) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 5)).eval()
    x = torch.randn(4, 3, 8, 8)
    prepared = fxq.prepare_fx(model, QConfigMapping().set_global(getattr(ours, name)), (x,), profile=profile)
    with torch.no_grad():
        prepared(x)
        converted = fxq.convert_fx(prepared)
        y, expected = converted(x), model(x)
    names = ["Conv2d", "DynamicLinear"] if getattr(ours, name).activation.spec.dynamic else ["Conv", "Linear"]
    assert [type(converted.get_submodule(path)).__name__ for path in ("0", "3")] == names
    assert float(10 * torch.log10(expected.square().mean() / (y - expected).square().mean())) > 30


def test_unsigned_activations_stand_for_the_same_reals_as_signed_ones() -> None:
    x = torch.randn(1000) + 1
    unsigned = ours.default_symmetric_qnnpack_qconfig.activation()
    signed = HistogramObserver(QuantSpec("int8", -128, 127, eps=QNNPACK_EPS))
    unsigned(x)
    signed(x)
    assert torch.equal(unsigned.qparams().scale, signed.qparams().scale)
    assert int(unsigned.qparams().zero_point) - 128 == int(signed.qparams().zero_point)

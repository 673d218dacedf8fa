"""The setters of the custom configs, and torch.ao's dicts."""

from __future__ import annotations

import copy
import inspect
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.ao.quantization.fx.custom_config as peer
from torch import nn

from fxq.errors import ConfigError
from fxq.qconfig_mapping import ConvertCustomConfig, FuseCustomConfig, PrepareCustomConfig, QConfigMapping
from fxq.qconfig_mapping.custom_config import as_custom_config
from fxq.qconfig_mapping.mapping import as_mapping
from tests.passes.cases import PER_CHANNEL

X = torch.zeros(1, 3)
MAPPING = QConfigMapping().set_global(PER_CHANNEL)


class Observed(nn.Module):
    @classmethod
    def from_float(cls, module: nn.Module) -> nn.Module:
        return cls()


class Quantized(nn.Module):
    @classmethod
    def from_observed(cls, module: nn.Module) -> nn.Module:
        return cls()


def everything() -> PrepareCustomConfig:
    return (
        PrepareCustomConfig()
        .set_standalone_module_name("a", MAPPING, (X,), PrepareCustomConfig().set_preserved_attributes(["b"]), None)
        .set_standalone_module_class(nn.GRU, None, (X,))
        .set_float_to_observed_mapping(nn.LSTM, Observed)
        .set_non_traceable_module_names(["c", "d.0"])
        .set_non_traceable_module_classes([nn.Bilinear])
        .set_input_quantized_indexes([0, 2])
        .set_output_quantized_indexes([1])
        .set_preserved_attributes(["e"])
    )


def test_the_fields_are_what_was_set() -> None:
    config = everything()
    entry = config.standalone_module_names["a"]
    assert entry.qconfig_mapping == MAPPING and entry.example_inputs == (X,)
    assert entry.prepare_custom_config is not None and entry.prepare_custom_config.preserved_attributes == ("b",)
    assert config.standalone_module_classes[nn.GRU].qconfig_mapping is None
    assert config.float_to_observed_mapping == {nn.LSTM: Observed}
    assert config.non_traceable_module_names == ("c", "d.0")
    assert config.non_traceable_module_classes == (nn.Bilinear,)
    assert (config.input_quantized_indexes, config.output_quantized_indexes, config.preserved_attributes) == ((0, 2), (1,), ("e",))


def test_a_setter_replaces_lists_and_adds_to_mappings() -> None:
    config = PrepareCustomConfig().set_preserved_attributes(["a"]).set_preserved_attributes(["b"])
    assert config.preserved_attributes == ("b",)
    config.set_standalone_module_name("a", None, X).set_standalone_module_name("b", None, X).set_standalone_module_name("a", MAPPING, X)
    assert list(config.standalone_module_names) == ["a", "b"]
    assert config.standalone_module_names["a"].qconfig_mapping == MAPPING


def test_configs_do_not_share_what_they_start_with() -> None:
    PrepareCustomConfig().set_float_to_observed_mapping(nn.LSTM, Observed)
    assert PrepareCustomConfig().float_to_observed_mapping == {}


def test_copies_and_pickles() -> None:
    convert = ConvertCustomConfig().set_observed_to_quantized_mapping(Observed, Quantized)
    prepare = PrepareCustomConfig().set_float_to_observed_mapping(nn.LSTM, Observed).set_input_quantized_indexes([0])
    for config in (convert, prepare):
        assert pickle.loads(pickle.dumps(config)) == copy.deepcopy(config) == config


def test_text_has_only_what_was_set() -> None:
    assert str(PrepareCustomConfig()) == "PrepareCustomConfig()"
    assert repr(PrepareCustomConfig().set_input_quantized_indexes([0])) == "PrepareCustomConfig(input_quantized_indexes=(0,))"


# --- dicts, beside torch.ao's --------------------------------------------------------------------------------------------------


def test_dicts_have_torch_aos_layout() -> None:
    theirs = (
        peer.PrepareCustomConfig()
        .set_standalone_module_class(nn.GRU, None, (X,), None, None)
        .set_float_to_observed_mapping(nn.LSTM, Observed)
        .set_non_traceable_module_names(["c", "d.0"])
        .set_non_traceable_module_classes([nn.Bilinear])
        .set_input_quantized_indexes([0, 2])
        .set_output_quantized_indexes([1])
        .set_preserved_attributes(["e"])
    )
    ours = PrepareCustomConfig.from_dict(theirs.to_dict())
    assert ours.to_dict() == theirs.to_dict()
    assert set(everything().to_dict()) == {*theirs.to_dict(), "standalone_module_name"}


def test_dicts_of_the_other_configs() -> None:
    theirs = peer.ConvertCustomConfig().set_observed_to_quantized_mapping(Observed, Quantized).set_preserved_attributes(["a"])
    assert ConvertCustomConfig.from_dict(theirs.to_dict()).to_dict() == theirs.to_dict()
    fuse = peer.FuseCustomConfig().set_preserved_attributes(["a"])
    assert FuseCustomConfig.from_dict(fuse.to_dict()).to_dict() == fuse.to_dict()


@pytest.mark.parametrize("kind", [PrepareCustomConfig, ConvertCustomConfig, FuseCustomConfig])
def test_an_empty_config_is_an_empty_dict(kind: Any) -> None:
    assert kind().to_dict() == {}
    assert kind.from_dict({}) == kind()


def test_from_dict_is_the_inverse_of_to_dict() -> None:
    document = everything().to_dict()
    again = PrepareCustomConfig.from_dict(document).to_dict()
    assert list(again) == list(document)
    assert again["standalone_module_name"][0][1] == document["standalone_module_name"][0][1] == MAPPING.to_dict()
    assert again["standalone_module_name"][0][3] == {"preserved_attributes": ["b"]}


@pytest.mark.parametrize("kind", ["PrepareCustomConfig", "ConvertCustomConfig", "FuseCustomConfig"])
def test_setters_are_torch_aos_in_name_and_order_of_arguments(kind: str) -> None:
    ours, theirs = (
        {"PrepareCustomConfig": PrepareCustomConfig, "ConvertCustomConfig": ConvertCustomConfig}.get(kind, FuseCustomConfig),
        getattr(peer, kind),
    )
    setters = [name for name in vars(theirs) if name.startswith("set_") or name in ("from_dict", "to_dict")]
    assert len(setters) >= 3
    for name in setters:
        assert list(inspect.signature(getattr(ours, name)).parameters) == list(inspect.signature(getattr(theirs, name)).parameters)


# --- errors --------------------------------------------------------------------------------------------------------------------

PREPARE = PrepareCustomConfig


@pytest.mark.parametrize(
    ("call", "where", "found"),
    [
        (lambda: PREPARE().set_non_traceable_module_names("abc"), "set_non_traceable_module_names", "'abc'"),
        (lambda: PREPARE().set_non_traceable_module_names([1]), "set_non_traceable_module_names", "1"),
        (lambda: PREPARE().set_non_traceable_module_classes(["LSTM"]), "set_non_traceable_module_classes", "'LSTM'"),
        (lambda: PREPARE().set_input_quantized_indexes(0), "set_input_quantized_indexes", "0"),
        (lambda: PREPARE().set_input_quantized_indexes([-1]), "set_input_quantized_indexes: index", "-1"),
        (lambda: PREPARE().set_output_quantized_indexes([True]), "set_output_quantized_indexes: index", "True"),
        (lambda: PREPARE().set_standalone_module_name(1, None, X), "set_standalone_module_name", "1"),
        (lambda: PREPARE().set_standalone_module_name("a", 1, X), "set_standalone_module_name.qconfig_mapping", "builtins.int"),
        (lambda: PREPARE().set_standalone_module_name("a", None, X, None, {"a": 1}), "set_standalone_module_name", "dict"),
        (lambda: PREPARE().set_standalone_module_name("a", None, X, 3), "set_standalone_module_name.prepare_custom_config", "builtins.int"),
        (
            lambda: PREPARE().set_standalone_module_class(nn.GRU, None, X, PREPARE().set_input_quantized_indexes([0])),
            "set_standalone_module_class",
            "quantized inputs [0], results []",
        ),
        (lambda: PREPARE().set_float_to_observed_mapping(nn.LSTM, nn.GRU), "set_float_to_observed_mapping", "GRU"),
        (lambda: PREPARE().set_float_to_observed_mapping(nn.LSTM, Observed, "dynamic"), "set_float_to_observed_mapping", "'dynamic'"),
        (
            lambda: ConvertCustomConfig().set_observed_to_quantized_mapping(Observed, nn.GRU),
            "set_observed_to_quantized_mapping",
            "GRU",
        ),
        (lambda: PREPARE.from_dict({"preserved_atributes": []}), "PrepareCustomConfig.from_dict", "'preserved_atributes'"),
        (
            lambda: PREPARE.from_dict({"standalone_module_name": ["a"]}),
            "PrepareCustomConfig.from_dict['standalone_module_name']",
            "'a'",
        ),
        (lambda: ConvertCustomConfig.from_dict({"x": 1}), "ConvertCustomConfig.from_dict", "'x'"),
        (lambda: FuseCustomConfig.from_dict({"x": 1}), "FuseCustomConfig.from_dict", "'x'"),
        (lambda: as_custom_config(FuseCustomConfig, PREPARE(), "here"), "here", "fxq.qconfig_mapping.custom_config.PrepareCustomConfig"),
        (lambda: as_mapping(nn.GRU, "here"), "here", "builtins.type"),
    ],
)
def test_what_does_not_fit_is_an_error_that_names_the_setter(call: Callable[[], object], where: str, found: str) -> None:
    with pytest.raises(ConfigError) as caught:
        call()
    assert caught.value.where.startswith(where)
    assert found in caught.value.found


def test_torch_aos_quant_type_is_taken() -> None:
    from torch.ao.quantization.quant_type import QuantType

    config = PrepareCustomConfig().set_float_to_observed_mapping(nn.LSTM, Observed, QuantType.STATIC)
    assert config.float_to_observed_mapping == {nn.LSTM: Observed}


def test_dicts_and_none_stand_for_configs() -> None:
    assert as_custom_config(FuseCustomConfig, None, "") == FuseCustomConfig()
    assert as_custom_config(FuseCustomConfig, {"preserved_attributes": ["a"]}, "").preserved_attributes == ("a",)
    config = FuseCustomConfig()
    assert as_custom_config(FuseCustomConfig, config, "") is config

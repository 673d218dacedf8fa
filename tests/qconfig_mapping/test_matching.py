"""Rules that match nothing."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from fxq.errors import ConfigError
from fxq.qconfig_mapping import QConfigMapping
from tests.qconfig_mapping.cases import BLOCK, Q0, Q1, function_call, module_call

ORIGINS = (module_call("stem"), module_call("layer1.0.conv"), function_call("layer1.0", "torch.add", 0))


def test_every_rule_matches() -> None:
    mapping = (
        QConfigMapping()
        .set_global(Q0)
        .set_object_type(nn.Conv2d, None)
        .set_object_type(BLOCK, None)
        .set_module_name_regex(".*conv", Q0)
        .set_module_name("layer1", Q0)
        .set_module_name_object_type_order("layer1.0", torch.add, 0, None)
        .set_module_name_object_type_order("", nn.Conv2d, 0, None)
    )
    mapping.require_matches(iter(ORIGINS))


def test_shadowed_rules_match() -> None:
    mapping = QConfigMapping().set_object_type("torch.add", Q0).set_module_name_regex("stem", Q0).set_module_name("layer1", Q1)
    mapping.set_module_name("stem", Q1).set_module_name("layer1.0", Q1)
    assert {mapping.resolve(origin).rule for origin in ORIGINS} == {'set_module_name("stem")', 'set_module_name("layer1.0")'}
    mapping.require_matches(ORIGINS)


def test_global_rule_needs_nothing() -> None:
    QConfigMapping().set_global(Q0).require_matches(())
    QConfigMapping().require_matches(())


def test_one_unmatched_rule() -> None:
    with pytest.raises(ConfigError) as caught:
        QConfigMapping().set_module_name("layer1.0.con", None).require_matches(ORIGINS)
    assert str(caught.value) == (
        "QConfigMapping\n"
        "  expected: every rule to match at least one call of the model\n"
        "  found:    1 rule matches nothing\n"
        '    set_module_name("layer1.0.con"): the nearest module names are "layer1.0.conv", "layer1.0", "layer1"\n'
        "  do:       correct these names, or leave these rules out"
    )


def test_all_unmatched_rules_in_one_error() -> None:
    mapping = (
        QConfigMapping()
        .set_object_type(nn.Conv2d, None)
        .set_object_type(torch.nn.functional.conv2d, None)
        .set_module_name_regex("conv$", Q0)
        .set_module_name("layer1", Q0)
        .set_module_name("head", Q0)
        .set_module_name_object_type_order("layer1.0", torch.add, 1, None)
    )
    with pytest.raises(ConfigError) as caught:
        mapping.require_matches(ORIGINS)
    assert caught.value.found.split("\n    ") == [
        "4 rules match nothing",
        'set_object_type("torch.conv2d"): the nearest object types are "torch.nn.Conv2d", "torch.add"',
        'set_module_name_regex("conv$"): a path must match from its beginning: ".*conv$" matches "layer1.0.conv"',
        'set_module_name("head"): no module name is like it; the model\'s own modules are "layer1", "stem"',
        'set_module_name_object_type_order("layer1.0", "torch.add", 1): "torch.add" is called in "layer1.0" with index 0',
    ]

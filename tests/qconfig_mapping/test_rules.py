"""Each kind of rule: its key, its text, what it matches, what it advises."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from fxq.errors import ConfigError
from fxq.qconfig_mapping.presence import Presence
from fxq.qconfig_mapping.rules import (
    AnyRule,
    GlobalRule,
    ModuleNameObjectTypeOrderRule,
    ModuleNameRegexRule,
    ModuleNameRule,
    ObjectTypeRule,
    last_of_each_key,
)
from tests.qconfig_mapping.cases import BLOCK, CONV, Q0, Q1, Q2, function_call, module_call

PRESENCE = Presence(
    (module_call("layer1.0.conv", CONV), function_call("layer1.0", "torch.add", 0), function_call("layer1.0", "torch.add", 1))
)


def call_rule(module: str, kind: str, index: int) -> ModuleNameObjectTypeOrderRule:
    return ModuleNameObjectTypeOrderRule(module_name=module, object_type=kind, index=index, qconfig=None)


def type_rule(kind: object) -> ObjectTypeRule:
    return ObjectTypeRule(object_type=kind, qconfig=None)  # type: ignore[arg-type]


def regex_rule(regex: str) -> ModuleNameRegexRule:
    return ModuleNameRegexRule(module_name_regex=regex, qconfig=None)


MATCHES = (
    (GlobalRule(qconfig=None), True),
    (type_rule(CONV), True),
    (type_rule(nn.Conv2d), True),
    (type_rule(torch.add), True),
    (type_rule(BLOCK), True),
    (type_rule("add"), False),
    (type_rule(nn.Linear), False),
    (regex_rule("layer"), True),
    (regex_rule(r"layer1\.0$"), True),
    (regex_rule("layer1$"), False),
    (regex_rule("conv"), False),
    (ModuleNameRule(module_name="layer1", qconfig=None), True),
    (ModuleNameRule(module_name="layer1.0.conv", qconfig=None), True),
    (ModuleNameRule(module_name="layer", qconfig=None), False),
    (ModuleNameRule(module_name="layer1.0.conv.weight", qconfig=None), False),
    (call_rule("layer1.0", CONV, 0), True),
    (call_rule("layer1.0.conv", CONV, 0), False),
    (call_rule("layer1.0", "torch.add", 1), True),
    (call_rule("layer1.0", "torch.add", 2), False),
    (call_rule("layer1", "torch.add", 0), False),
)


@pytest.mark.parametrize(("rule", "matches"), MATCHES, ids=str)
def test_matches(rule: AnyRule, matches: bool) -> None:
    assert rule.matches(PRESENCE) is matches


ADVICE = (
    (type_rule("add"), 'the nearest object types are "torch.add"'),
    (type_rule("conv2d"), 'the nearest object types are "torch.nn.Conv2d"'),
    (type_rule("view"), 'no object type is like it; there are "models.Block", "torch.add", "torch.nn.Conv2d"'),
    (
        ModuleNameRegexRule(module_name_regex="co[uvn]", qconfig=None),
        'a path must match from its beginning: ".*co[uvn]" matches "layer1.0.conv"',
    ),
    (regex_rule("layr1"), 'the nearest module names are "layer1", "layer1.0"'),
    (ModuleNameRule(module_name="conv", qconfig=None), 'the nearest module names are "layer1.0.conv"'),
    (ModuleNameRule(module_name="layer2", qconfig=None), 'the nearest module names are "layer1", "layer1.0"'),
    (ModuleNameRule(module_name="head", qconfig=None), 'no module name is like it; the model\'s own modules are "layer1"'),
    (call_rule("layer1.0", "torch.add", 2), '"torch.add" is called in "layer1.0" with index 0, 1'),
    (call_rule("layer1.0", "add", 0), 'the nearest object types are "torch.add"'),
    (call_rule("layer2.0", "torch.add", 0), 'the nearest module names are "layer1.0", "layer1", "layer1.0.conv"'),
)


@pytest.mark.parametrize(("rule", "advice"), ADVICE, ids=lambda value: str(value))
def test_advice(rule: AnyRule, advice: str) -> None:
    assert not rule.matches(PRESENCE)
    assert rule.advice(PRESENCE) == advice


def test_advice_for_a_model_without_calls() -> None:
    nothing = Presence(())
    assert type_rule("view").advice(nothing) == "the model calls nothing"
    assert ModuleNameRule(module_name="head", qconfig=None).advice(nothing) == "the model calls no submodule"


TEXTS = (
    (GlobalRule(qconfig=None), "set_global"),
    (type_rule(torch.add), 'set_object_type("torch.add")'),
    (regex_rule(r"a\.b"), r'set_module_name_regex("a\.b")'),
    (ModuleNameRule(module_name="a.b", qconfig=None), 'set_module_name("a.b")'),
    (call_rule("a", "view", 2), 'set_module_name_object_type_order("a", "view", 2)'),
)


@pytest.mark.parametrize(("rule", "text"), TEXTS, ids=lambda value: str(value))
def test_text(rule: AnyRule, text: str) -> None:
    assert str(rule) == text


def test_rule_set_again_keeps_its_place() -> None:
    rules = [ModuleNameRule(module_name=name, qconfig=qconfig) for name, qconfig in (("a", Q0), ("b", Q1), ("a", Q2))]
    assert last_of_each_key(rules) == (rules[2], rules[1])


def test_invalid_regex() -> None:
    with pytest.raises(ConfigError) as caught:
        ModuleNameRegexRule(module_name_regex="a(b", qconfig=None)
    assert caught.value.where == "module_name_regex"
    assert caught.value.found.startswith("'a(b': missing )")


def test_empty_module_name_stands_for_nothing() -> None:
    with pytest.raises(ConfigError, match="set_global"):
        ModuleNameRule(module_name="", qconfig=None)
    assert call_rule("", "torch.add", 0).module_name == ""

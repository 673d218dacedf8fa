"""QConfigMapping: setters, questions, copies and text."""

from __future__ import annotations

import copy
import operator
import pickle

import pytest
import torch
import torch.nn.functional as F
from torch import fx, nn

from fxq.errors import ConfigError
from fxq.graph.annotation import set_origins
from fxq.qconfig_mapping import QConfigMapping, Resolution
from tests.qconfig_mapping.cases import CONV, LINEAR, Q0, Q1, Q2, function_call, module_call


def full() -> QConfigMapping:
    """A rule of every kind, and two names of different depth."""
    return (
        QConfigMapping()
        .set_global(Q0)
        .set_object_type(nn.Linear, None)
        .set_module_name_regex("layer[0-9]", Q1)
        .set_module_name("layer1", None)
        .set_module_name("layer1.0", Q2)
        .set_module_name_object_type_order("layer1", torch.add, 1, None)
    )


def test_setters_return_the_mapping_itself() -> None:
    mapping = QConfigMapping()
    assert mapping.set_global(Q0) is mapping
    assert mapping.set_object_type("view", Q0) is mapping
    assert mapping.set_module_name_regex("a", Q0) is mapping
    assert mapping.set_module_name("a", Q0) is mapping
    assert mapping.set_module_name_object_type_order("a", "view", 0, Q0) is mapping


@pytest.mark.parametrize(
    ("object_type", "name"),
    [(nn.Conv2d, CONV), (F.conv2d, "torch.conv2d"), (operator.add, "operator.add"), (F.relu, "torch.nn.functional.relu"), ("view", "view")],
)
def test_object_types_are_kept_by_name(object_type: object, name: str) -> None:
    mapping = QConfigMapping().set_object_type(object_type, Q0).set_module_name_object_type_order("a", object_type, 0, Q1)  # type: ignore[arg-type]
    assert mapping.object_type[0].object_type == name
    assert mapping.module_name_object_type_order[0].object_type == name
    assert mapping.resolve(function_call("b", name)).qconfig == Q0
    assert mapping.resolve(function_call("a", name)).qconfig == Q1


def test_set_again_replaces_and_keeps_the_place() -> None:
    mapping = QConfigMapping().set_module_name_regex("a", Q0).set_module_name_regex("a.b", Q1)
    assert mapping.resolve(module_call("a.b")).qconfig == Q0
    mapping.set_module_name_regex("a", Q2)
    assert [rule.module_name_regex for rule in mapping.module_name_regex] == ["a", "a.b"]
    assert mapping.resolve(module_call("a.b")).qconfig == Q2
    assert mapping.set_object_type(nn.Conv2d, Q0).set_object_type(CONV, Q1).object_type[0].qconfig == Q1
    assert len(mapping.object_type) == 1


def test_a_later_setting_is_seen_by_the_next_question() -> None:
    mapping = QConfigMapping().set_global(Q0)
    assert mapping.resolve(module_call("a")).qconfig == Q0
    assert mapping.set_module_name("a", None).resolve(module_call("a")).rule == 'set_module_name("a")'
    assert mapping.set_global(Q1).resolve(module_call("b")).qconfig == Q1


def test_resolve() -> None:
    mapping = full()
    assert mapping.resolve(module_call("head", LINEAR)) == Resolution(None, 'set_object_type("torch.nn.Linear")', explicit=True)
    assert mapping.resolve(module_call("stem")) == Resolution(Q0, "set_global", explicit=True, is_default=True)
    assert mapping.resolve(module_call("layer2.0.conv")) == Resolution(Q1, 'set_module_name_regex("layer[0-9]")', explicit=True)
    assert mapping.resolve(module_call("layer1.0.conv")) == Resolution(Q2, 'set_module_name("layer1.0")', explicit=True)
    assert mapping.resolve(module_call("layer1.1.conv")) == Resolution(None, 'set_module_name("layer1")', explicit=True)
    assert mapping.resolve(function_call("layer1", "torch.add", 1)) == Resolution(
        None, 'set_module_name_object_type_order("layer1", "torch.add", 1)', explicit=True
    )
    assert QConfigMapping().resolve(module_call("stem")) == Resolution(None, "no rule matches", explicit=False)


def test_explain() -> None:
    graph = fx.Graph()
    node = graph.call_module("layer1.0.conv", (graph.placeholder("x"),))
    assert full().explain(node) == Resolution(None, "not a call of the model", explicit=False)
    set_origins(node, (module_call("layer1.0.conv"), module_call("layer1.0.bn", "torch.nn.BatchNorm2d")))
    assert full().explain(node).rule == 'set_module_name("layer1.0")'


SETTER_ERRORS = (
    (lambda mapping: mapping.set_global("x86"), "set_global: QConfig", "builtins.str 'x86'"),
    (lambda mapping: mapping.set_object_type(3, None), "set_object_type: object type", "int 3"),
    (lambda mapping: mapping.set_module_name_regex("(", None), "set_module_name_regex: module_name_regex", "'(': missing )"),
    (lambda mapping: mapping.set_module_name("", None), "set_module_name: module_name", "''"),
    (lambda mapping: mapping.set_module_name(3, None), "set_module_name.module_name", "module_name: 3"),
    (
        lambda mapping: mapping.set_module_name_object_type_order("a", "add", -1, None),
        "set_module_name_object_type_order.index",
        "index: -1",
    ),
)


@pytest.mark.parametrize(("setting", "where", "found"), SETTER_ERRORS, ids=[where for _, where, _ in SETTER_ERRORS])
def test_wrong_settings(setting: object, where: str, found: str) -> None:
    mapping = full()
    with pytest.raises(ConfigError) as caught:
        setting(mapping)  # type: ignore[operator]
    assert caught.value.where == where
    assert caught.value.found.startswith(found)
    assert mapping == full()


def test_pickle_deepcopy_and_equality() -> None:
    mapping = full()
    mapping.resolve(module_call("a"))  # what is kept for speed is no part of the value
    assert mapping == full()
    assert pickle.loads(pickle.dumps(mapping)) == mapping
    twin = copy.deepcopy(mapping)
    assert twin == mapping
    twin.set_module_name("head", None)
    assert twin != mapping
    assert mapping.resolve(module_call("head", CONV)).qconfig == Q0
    assert mapping != "mapping"


def test_order_of_regexes_is_part_of_the_value() -> None:
    first = QConfigMapping().set_module_name_regex("a", Q0).set_module_name_regex("b", Q0)
    assert first != QConfigMapping().set_module_name_regex("b", Q0).set_module_name_regex("a", Q0)


def test_switched_off_globally_is_not_unset() -> None:
    assert QConfigMapping().set_global(None) != QConfigMapping()
    assert QConfigMapping().set_global(None).resolve(module_call("a")) == Resolution(None, "set_global", explicit=True, is_default=True)


def test_text() -> None:
    assert str(full()) == repr(full())
    assert str(full()).splitlines() == [
        "QConfigMapping, strongest rule first:",
        '  set_module_name_object_type_order("layer1", "torch.add", 1): keep float',
        f'  set_module_name("layer1.0"): {Q2}',
        '  set_module_name("layer1"): keep float',
        f'  set_module_name_regex("layer[0-9]"): {Q1}',
        '  set_object_type("torch.nn.Linear"): keep float',
        f"  set_global: {Q0}",
    ]
    assert str(QConfigMapping()).splitlines()[1:] == ["  no rules: everything stays float"]

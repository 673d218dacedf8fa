"""JSON and torch.ao's dict layout, in and out."""

from __future__ import annotations

import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.ao.quantization import QConfigMapping as PeerMapping

from fxq.errors import ConfigError
from fxq.observers import MinMaxObserver, NoopObserver
from fxq.qconfig_mapping import QConfig, QConfigMapping
from tests.qconfig_mapping.cases import Q0, Q1, Q2

qconfigs = st.sampled_from((None, Q0, Q1, Q2))
words = st.text("ab.é", min_size=1, max_size=4)


@st.composite
def mappings(draw: st.DrawFn) -> QConfigMapping:
    mapping = QConfigMapping()
    if draw(st.booleans()):
        mapping.set_global(draw(qconfigs))
    for word in draw(st.lists(words, max_size=3)):
        mapping.set_object_type(word, draw(qconfigs)).set_module_name(word, draw(qconfigs)).set_module_name_regex(word, draw(qconfigs))
        mapping.set_module_name_object_type_order(word, draw(words), draw(st.integers(0, 9)), draw(qconfigs))
    return mapping


@settings(deadline=None, max_examples=50)
@given(mappings())
def test_round_trips(mapping: QConfigMapping) -> None:
    assert QConfigMapping.from_json(mapping.to_json()) == mapping
    assert QConfigMapping.from_dict(mapping.to_dict()) == mapping
    assert QConfigMapping.model_validate_json(mapping.to_json()) == mapping


def test_json_text() -> None:
    qconfig = QConfig(MinMaxObserver.with_args(eps=0.5), NoopObserver)
    mapping = (
        QConfigMapping().set_global(qconfig).set_object_type(nn.Linear, None).set_module_name_object_type_order("a", torch.add, 1, None)
    )
    assert json.loads(mapping.to_json()) == {
        "global": {"qconfig": {"activation": {"observer": "MinMaxObserver", "args": {"eps": 0.5}}, "weight": {"observer": "NoopObserver"}}},
        "object_type": [{"object_type": "torch.nn.Linear", "qconfig": None}],
        "module_name_object_type_order": [{"module_name": "a", "object_type": "torch.add", "index": 1, "qconfig": None}],
    }
    assert mapping.to_json().startswith('{\n  "global": {\n    "qconfig": {\n')
    assert QConfigMapping().to_json() == "{}"


class OwnObserver(MinMaxObserver):
    """An observer that a user wrote."""


def test_observer_of_the_user_has_no_json() -> None:
    mapping = QConfigMapping().set_global(QConfig(OwnObserver, NoopObserver))
    with pytest.raises(ConfigError) as caught:
        mapping.to_json()
    assert (caught.value.where, caught.value.found) == ("QConfigMapping.to_json, set_global", f"{__name__}.OwnObserver")
    assert QConfigMapping.from_dict(mapping.to_dict()) == mapping


def test_json_set_twice_is_one_rule() -> None:
    rule = '{"module_name": "a", "qconfig": null}'
    assert QConfigMapping.from_json(f'{{"module_name": [{rule}, {rule}]}}') == QConfigMapping().set_module_name("a", None)


_MISSPELLED = '{"activation": {"observer": "HistgramObserver"}, "weight": {"observer": "NoopObserver"}}'

JSON_ERRORS = (
    ('{"global": {"qconfig": null},}', "QConfigMapping JSON, line 1 column 30", "Expecting property name enclosed in double quotes"),
    ("[]", "QConfigMapping JSON", "list []"),
    ('{"objct_type": []}', "QConfigMapping JSON", "'objct_type'"),
    ('{"global": 3}', "QConfigMapping JSON, global", "3"),
    ('{"global": {"qconfig": {}}}', "QConfigMapping JSON, global: QConfig.activation", "nothing"),
    ('{"module_name": {}}', "QConfigMapping JSON, module_name", "dict {}"),
    ('{"module_name": [{"module_name": "a"}]}', "QConfigMapping JSON, module_name[0].qconfig", "qconfig: nothing"),
    ('{"module_name": [{"module_name": 3, "qconfig": null}]}', "QConfigMapping JSON, module_name[0].module_name", "module_name: 3"),
    ('{"object_type": [{"object_type": "view", "qconfig": null, "x": 1}]}', "QConfigMapping JSON, object_type[0].x", "x: 1"),
    (
        f'{{"object_type": [{{"object_type": "view", "qconfig": {_MISSPELLED}}}]}}',
        "QConfigMapping JSON, object_type[0]: observer 'HistgramObserver'",
        "'HistgramObserver'",
    ),
    (
        '{"module_name_regex": [{"module_name_regex": "a", "qconfig": null}, {"module_name_regex": "(", "qconfig": null}]}',
        "QConfigMapping JSON, module_name_regex[1]: module_name_regex",
        "'(': missing ), unterminated subpattern at position 0",
    ),
)


@pytest.mark.parametrize(("text", "where", "found"), JSON_ERRORS, ids=[where for _, where, _ in JSON_ERRORS])
def test_malformed_json(text: str, where: str, found: str) -> None:
    with pytest.raises(ConfigError) as caught:
        QConfigMapping.from_json(text)
    assert (caught.value.where, caught.value.found) == (where, found)


def test_unknown_key_has_its_nearest_name() -> None:
    with pytest.raises(ConfigError, match="write 'object_type' for 'objct_type'"):
        QConfigMapping.from_json('{"objct_type": []}')
    with pytest.raises(ConfigError, match="remove 'zzz'"):
        QConfigMapping.from_json('{"zzz": []}')


def test_dict_has_the_layout_of_torch_ao() -> None:
    rules = {
        "": Q0,
        "object_type": [("view", Q1), ("torch.nn.Linear", None)],
        "module_name_regex": [("a.*", Q1)],
        "module_name": [("a", None)],
        "module_name_object_type_order": [("a", "torch.add", 1, Q2)],
    }
    assert QConfigMapping.from_dict(rules).to_dict() == rules == PeerMapping.from_dict(rules).to_dict()
    assert list(QConfigMapping.from_dict(rules).to_dict()) == list(rules)


def test_dict_takes_classes_and_functions() -> None:
    mapping = QConfigMapping.from_dict(
        {"object_type": [(nn.Linear, Q0), (torch.add, None)], "module_name_object_type_order": [["a", nn.Conv2d, 0, Q1]]}
    )
    assert mapping == (
        QConfigMapping()
        .set_object_type(nn.Linear, Q0)
        .set_object_type(torch.add, None)
        .set_module_name_object_type_order("a", nn.Conv2d, 0, Q1)
    )  # fmt: skip


def test_unset_global_is_left_out_of_the_dict() -> None:
    assert "" not in QConfigMapping().to_dict()
    assert QConfigMapping().set_global(None).to_dict()[""] is None


DICT_ERRORS: tuple[tuple[dict[str, object], str, str], ...] = (
    ({"object": []}, "QConfigMapping.from_dict", "'object'"),
    ({"": 3}, 'QConfigMapping.from_dict[""]: QConfig', "builtins.int 3"),
    ({"module_name": 3}, 'QConfigMapping.from_dict["module_name"]', "int 3"),
    ({"module_name": [("a", None), ("b",)]}, 'QConfigMapping.from_dict["module_name"][1]', "tuple ('b',)"),
    ({"module_name": ["ab"]}, 'QConfigMapping.from_dict["module_name"][0]', "str 'ab'"),
    ({"module_name": [("", None)]}, 'QConfigMapping.from_dict["module_name"][0]: module_name', "''"),
)


@pytest.mark.parametrize(("document", "where", "found"), DICT_ERRORS, ids=[where for _, where, _ in DICT_ERRORS])
def test_malformed_dict(document: dict[str, object], where: str, found: str) -> None:
    with pytest.raises(ConfigError) as caught:
        QConfigMapping.from_dict(document)
    assert (caught.value.where, caught.value.found) == (where, found)

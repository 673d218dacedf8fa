"""JSON text and torch.ao's dict layout ⇄ the rules of a QConfigMapping, each problem with its place."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from fxq.errors import ConfigError
from fxq.observers import OBSERVERS
from fxq.qconfig_mapping.rules import FAMILIES, AnyRule, GlobalRule, Rule
from fxq.qconfig_mapping.validation import checked

_JSON = "QConfigMapping JSON"
_DICT = "QConfigMapping.from_dict"


def read_json(text: str) -> dict[str, Any]:
    """The text that QConfigMapping.to_json writes → fields of a QConfigMapping, every rule checked."""
    document = _parse(text)
    _require_keys(_JSON, document, ("global", *FAMILIES))
    fields: dict[str, Any] = {name: _read_rules(name, document[name]) for name in FAMILIES if name in document}
    if "global" in document:
        fields["global_rule"] = checked(GlobalRule, f"{_JSON}, global", document["global"])
    return fields


def _parse(text: str) -> Mapping[str, Any]:
    try:
        document = json.loads(text)
    except json.JSONDecodeError as error:
        where = f"{_JSON}, line {error.lineno} column {error.colno}"
        raise ConfigError(where, expected="JSON text", found=error.msg, remedy="write the file with QConfigMapping.to_json()") from None
    if not isinstance(document, dict):
        raise _not_a(_JSON, "an object", document)
    return document


def _read_rules(name: str, entries: object) -> list[Rule]:
    if not isinstance(entries, list):
        raise _not_a(f"{_JSON}, {name}", "a list", entries)
    return [checked(FAMILIES[name], f"{_JSON}, {name}[{i}]", entry) for i, entry in enumerate(entries)]


def require_observers_of_fxq(rules: Iterable[AnyRule]) -> None:
    """Every observer can be named in a file. Raises ConfigError that names the rule and the class."""
    for rule in rules:
        for factory in () if rule.qconfig is None else (rule.qconfig.activation, rule.qconfig.weight):
            if factory.kind not in OBSERVERS:
                raise ConfigError(
                    f"QConfigMapping.to_json, {rule}",
                    expected="observers of fxq.observers, which a file can name",
                    found=f"{factory.kind.__module__}.{factory.kind.__qualname__}",
                    remedy="keep this mapping in Python and build it there, or use an observer of fxq",
                )


def read_dict(document: Mapping[str, Any]) -> dict[str, Any]:
    """torch.ao's dict layout → fields of a QConfigMapping, every rule checked."""
    _require_keys(_DICT, document, ("", *FAMILIES))
    fields: dict[str, Any] = {name: _read_rows(name, document[name]) for name in FAMILIES if name in document}
    if "" in document:
        fields["global_rule"] = checked(GlobalRule, f'{_DICT}[""]', {"qconfig": document[""]})
    return fields


def _read_rows(name: str, rows: object) -> list[Rule]:
    if not isinstance(rows, tuple | list):
        raise _not_a(f'{_DICT}["{name}"]', "a list", rows)
    kind = FAMILIES[name]
    columns = tuple(kind.model_fields)
    rules = []
    for i, row in enumerate(rows):
        where = f'{_DICT}["{name}"][{i}]'
        if not isinstance(row, tuple | list) or len(row) != len(columns):
            raise _not_a(where, f"({', '.join(columns)})", row)
        rules.append(checked(kind, where, dict(zip(columns, row, strict=True))))
    return rules


def rows_of(rules: Iterable[AnyRule]) -> dict[str, Any]:
    """Rules → torch.ao's dict layout."""
    document: dict[str, Any] = {name: [] for name in FAMILIES}
    family_of = {kind: name for name, kind in FAMILIES.items()}
    for rule in rules:
        if isinstance(rule, GlobalRule):
            document = {"": rule.qconfig, **document}
        else:
            document[family_of[type(rule)]].append(tuple(value for _, value in rule))
    return document


def _require_keys(where: str, document: Mapping[str, Any], known: Sequence[str]) -> None:
    unknown = [str(key) for key in document if key not in known]
    if unknown:
        near = get_close_matches(unknown[0], known, n=1)
        raise ConfigError(
            where,
            expected=f"only the keys {', '.join(repr(key) for key in known)}",
            found=", ".join(repr(key) for key in unknown),
            remedy=f"write {near[0]!r} for {unknown[0]!r}" if near else f"remove {unknown[0]!r}",
        )


def _not_a(where: str, expected: str, found: object) -> ConfigError:
    return ConfigError(
        where, expected=expected, found=f"{type(found).__name__} {found!r}"[:200], remedy="compare with what a QConfigMapping writes"
    )

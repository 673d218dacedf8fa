"""Precedence, against a second writing of it that tries every rule on every origin."""

from __future__ import annotations

import re
from itertools import product

from hypothesis import given, settings
from hypothesis import strategies as st

from fxq.graph.annotation import Origin
from fxq.qconfig_mapping.lookup import NO_RULE, Resolution, lookup_of
from fxq.qconfig_mapping.rules import (
    AnyRule,
    GlobalRule,
    ModuleNameObjectTypeOrderRule,
    ModuleNameRegexRule,
    ModuleNameRule,
    ObjectTypeRule,
)
from tests.qconfig_mapping.cases import BLOCK, CONV, Q0, Q1, Q2, Q3, function_call, module_call

PATHS = ("a", "a.b", "a.b.c", "ab", "b.a", "b.a.c")
TYPES = (CONV, BLOCK, "torch.add", "view")

paths = st.sampled_from(PATHS)
types = st.sampled_from(TYPES)
indexes = st.integers(0, 2)
qconfigs = st.sampled_from((None, Q0, Q1, Q2, Q3))
regexes = st.sampled_from(("a", "a$", "b", r".*\.c", r"a\.", "ab?", "", "c", "[ab]+$"))
rules = st.one_of(
    st.builds(GlobalRule, qconfig=qconfigs),
    st.builds(ObjectTypeRule, object_type=types, qconfig=qconfigs),
    st.builds(ModuleNameRegexRule, module_name_regex=regexes, qconfig=qconfigs),
    st.builds(ModuleNameRule, module_name=paths, qconfig=qconfigs),
    st.builds(ModuleNameObjectTypeOrderRule, module_name=paths | st.just(""), object_type=types, index=indexes, qconfig=qconfigs),
)
FUNCTION_CALLS = product(("", *PATHS), ("torch.add", "view"), range(3), (BLOCK, ""))
ORIGINS = (
    *(module_call(path, CONV, index) for path, index in product(PATHS, range(3))),
    *(function_call(scope, name, index, around) for scope, name, index, around in FUNCTION_CALLS),
)


def strength(rule: AnyRule, place: int, origin: Origin) -> tuple[int, int] | None:
    """Larger is stronger; None: no match."""
    called = bool(origin.module) and origin.module_type == origin.object_type
    scope = ".".join(origin.module.split(".")[:-1]) if called else origin.module
    match rule:
        case GlobalRule():
            return 0, 0
        case ObjectTypeRule(object_type=name) if name in (origin.object_type, origin.module_type):
            return 1, int(name == origin.module_type)
        case ModuleNameRegexRule(module_name_regex=regex) if re.match(regex, origin.module):
            return 2, -place
        case ModuleNameRule(module_name=name) if f"{origin.module}.".startswith(f"{name}."):
            return 3, len(name)
        case ModuleNameObjectTypeOrderRule(module_name=name, object_type=kind, index=index):
            return (4, 0) if (name, kind, index) == (scope, origin.object_type, origin.index) else None
    return None


def won_by(rule: AnyRule) -> Resolution:
    return Resolution(rule.qconfig, str(rule), explicit=True, is_default=isinstance(rule, GlobalRule))


def strongest(rules: list[AnyRule], origin: Origin) -> Resolution:
    matching = [(found, rule) for place, rule in enumerate(rules) if (found := strength(rule, place, origin)) is not None]
    if not matching:
        return NO_RULE
    _, rule = max(matching, key=lambda pair: pair[0])
    return won_by(rule)


@settings(deadline=None, max_examples=200)
@given(st.lists(rules, max_size=8, unique_by=lambda rule: (type(rule), rule.key)))
def test_strongest_rule_wins(chosen: list[AnyRule]) -> None:
    lookup = lookup_of(chosen)
    assert [lookup.resolve(origin) for origin in ORIGINS] == [strongest(chosen, origin) for origin in ORIGINS]


def test_one_step_at_a_time() -> None:
    """Each rule overrules all those before it."""
    origin = function_call("a.b", "torch.add", 1)
    steps: list[AnyRule] = [
        GlobalRule(qconfig=Q0),
        ObjectTypeRule(object_type="torch.add", qconfig=None),
        ObjectTypeRule(object_type=BLOCK, qconfig=Q1),
        ModuleNameRegexRule(module_name_regex=r".*\.b", qconfig=None),
        ModuleNameRule(module_name="a", qconfig=Q2),
        ModuleNameRule(module_name="a.b", qconfig=None),
        ModuleNameObjectTypeOrderRule(module_name="a.b", object_type="torch.add", index=1, qconfig=Q3),
    ]
    resolved = [lookup_of(steps[: count + 1]).resolve(origin) for count in range(len(steps))]
    assert resolved == [won_by(rule) for rule in steps]


def test_first_regex_that_matches_wins() -> None:
    rules = [ModuleNameRegexRule(module_name_regex=regex, qconfig=qconfig) for regex, qconfig in (("x", Q0), ("a.*", Q1), ("a", Q2))]
    assert lookup_of(rules).resolve(module_call("a.b")).qconfig == Q1


def test_switched_off_is_not_left_out() -> None:
    assert lookup_of([]).resolve(module_call("a")) == Resolution(None, "no rule matches", explicit=False)
    off = lookup_of([GlobalRule(qconfig=Q0), ModuleNameRule(module_name="a", qconfig=None)])
    assert off.resolve(module_call("a")) == Resolution(None, 'set_module_name("a")', explicit=True)


def test_module_call_is_counted_in_its_parent() -> None:
    rule = ModuleNameObjectTypeOrderRule(module_name="a", object_type=CONV, index=1, qconfig=Q0)
    lookup = lookup_of([rule])
    assert lookup.resolve(module_call("a.second", CONV, 1)).qconfig == Q0
    assert not lookup.resolve(module_call("a", CONV, 1)).explicit

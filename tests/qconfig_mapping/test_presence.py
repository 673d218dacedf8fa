"""Every side from which rules look at a model."""

from __future__ import annotations

from fxq.graph.annotation import Origin
from fxq.qconfig_mapping.presence import Presence, nearest, with_parents
from tests.qconfig_mapping.cases import BLOCK, CONV, function_call, module_call

PRESENCE = Presence(
    (module_call("a.b.conv"), module_call("stem"), function_call("a.b", "torch.add", 1), Origin("", "view", module_type="models.Net"))
)


def test_with_parents() -> None:
    assert list(with_parents("a.b.c")) == ["a.b.c", "a.b", "a"]
    assert list(with_parents("")) == []


def test_modules_and_paths() -> None:
    assert PRESENCE.modules == {"a.b.conv", "stem", "a.b", ""}
    assert PRESENCE.paths == {"a.b.conv", "a.b", "a", "stem"}


def test_object_types_are_those_called_and_those_around() -> None:
    assert PRESENCE.object_types == {CONV, "torch.add", BLOCK, "view", "models.Net"}
    assert Presence((Origin("a", "view"),)).object_types == {"view"}


def test_calls_are_counted_in_the_module_around() -> None:
    assert PRESENCE.calls == {("a.b", CONV, 0), ("", CONV, 0), ("a.b", "torch.add", 1), ("", "view", 0)}
    assert PRESENCE.indexes("a.b", "torch.add") == [1]
    assert PRESENCE.indexes("a", "torch.add") == []
    assert PRESENCE.types_in("") == {CONV, "view"}


def test_nearest_takes_the_same_last_part_before_what_is_spelled_alike() -> None:
    assert nearest("conv", ["a.conv", "conb", "other", "a.b.CONV"]) == ["a.b.CONV", "a.conv", "conb"]
    assert nearest("conv", ["x", ""]) == []
    assert nearest("", ["x", ""]) == []
    assert nearest("c", [f"{i}.c" for i in range(9)]) == ["0.c", "1.c", "2.c"]


def test_long_lists_are_cut() -> None:
    presence = Presence(tuple(module_call(f"{i}") for i in range(10)))
    assert presence.near_modules("head").endswith('"6", "7" and 2 more')

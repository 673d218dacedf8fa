"""Ops of the user's: rows like those of OPS that a model brings along."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from typing import Any

from fxq.errors import ConfigError
from fxq.graph.module import find_function
from fxq.graph.opdef import OpDef, Policy, Role, role_of
from fxq.graph.ops import OPS
from fxq.graph.profile import BackendProfile

# what has an integer form without a kernel of its own: a table of 256 entries, or a copy
_DERIVED = (Policy.TABLE, Policy.FIXED, Policy.MOVES)
_REMEDY = "see docs/add_an_op.md"


def profile_with(profile: BackendProfile, ops: tuple[OpDef, ...]) -> BackendProfile:
    """The profile with integer forms for these ops, too."""
    return replace(profile, ops=profile.ops | {op.name for op in ops})


def as_ops(given: Any) -> tuple[OpDef, ...]:
    """Several OpDefs as a tuple.

    Raises:
        ConfigError: for anything else, for an op without an integer form, a name or spelling that is taken, or a canonical function
            that a pickle could not name.
    """
    if not isinstance(given, list | tuple) or not all(isinstance(op, OpDef) for op in given):
        raise ConfigError("ops", expected="a list of OpDefs", found=repr(given)[:200], remedy=f"write ops=[OpDef(...)]; {_REMEDY}")
    names, targets = set(_names()), set(_targets())
    for op in given:
        found = next(_faults(op, names, targets), None)
        if found is not None:
            raise ConfigError(f"ops, {op.name!r}", expected=_EXPECTED, found=found, remedy=_REMEDY)
        names.add(op.name)
        targets.update(spelling.target for spelling in op.spellings)
    return tuple(given)


_EXPECTED = "a function of one tensor on the top level of a module, as a new op with new spellings"


def _faults(op: OpDef, names: set[str], targets: set[Any]) -> Iterator[str]:
    if op.policy not in _DERIVED:
        yield f"policy {op.policy.name}, for which fxq would have to have a kernel"
    if op.name in names:
        yield "a name that another op has"
    yield from (f"a spelling that another op has: {spelling.target}" for spelling in op.spellings if spelling.target in targets)
    if [role_of(name) for name in op.operands if role_of(name) is not Role.ATTRIBUTE] != [Role.ACTIVATION] or op.operands[0] != "input":
        yield f"operands {', '.join(op.operands)}, of which only the first is a tensor and called input"
    if not _can_be_named(op.call):
        yield f"{op.call.__qualname__}, which cannot be imported from {op.call.__module__}"


def _can_be_named(function: Any) -> bool:
    try:
        return find_function(f"{function.__module__}.{function.__qualname__}") is function
    except (AttributeError, ImportError):
        return False


@cache
def _names() -> frozenset[str]:
    return frozenset(op.name for op in OPS)


@cache
def _targets() -> frozenset[Any]:
    return frozenset(spelling.target for op in OPS for spelling in op.spellings)

"""match(pattern, node): does the graph above `node` have the pattern's form?

A pattern is anchored at its output and of fixed size, so one attempt takes constant time and a sweep over a graph is
linear in it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple

from torch.fx import Node

from fxq.graph.opdef import Call
from fxq.graph.ops import call_of, op_of
from fxq.patterns.expressions import OpPattern, Pattern, Var


class Match(NamedTuple):
    """What a pattern's names stand for.

    Attributes:
        anchor: the node that was matched with the whole pattern.
        nodes: label → node.
        values: Var name → operand, a Node or a constant.
        calls: label → what the node calls, until a rewrite changes it.
    """

    anchor: Node
    nodes: Mapping[str, Node]
    values: Mapping[str, Any]
    calls: Mapping[str, Call] = MappingProxyType({})


@dataclass(frozen=True)
class Mismatch:
    """The first place, furthest from the anchor, where graph and pattern differ."""

    node: str
    detail: str
    depth: int


class _Bound(NamedTuple):
    nodes: Mapping[str, Node]
    values: Mapping[str, Any]
    calls: Mapping[str, Call]


def match(pattern: OpPattern, node: Node) -> Match | Mismatch:
    """Matches the pattern with the graph that ends in `node`. Of several solutions the one with operands as written wins."""
    failures: list[Mismatch] = []
    for bound in _solutions(pattern, node, _Bound({}, {}, {}), failures, 0):
        return Match(node, bound.nodes, bound.values, bound.calls)
    return max(failures, key=lambda failure: failure.depth)


def all_matches(pattern: OpPattern, node: Node) -> Iterator[Match]:
    """Every solution: commutative operands in both orders."""
    for bound in _solutions(pattern, node, _Bound({}, {}, {}), [], 0):
        yield Match(node, bound.nodes, bound.values, bound.calls)


def _solutions(pattern: Pattern, value: Any, bound: _Bound, failures: list[Mismatch], depth: int) -> Iterator[_Bound]:
    if isinstance(pattern, Var):
        yield from _bind(pattern, value, bound, failures, depth)
        return
    op = op_of(value) if isinstance(value, Node) else None
    if op is None or op.name not in pattern.ops:
        found = op.name if op else str(value)
        failures.append(Mismatch(str(value), f"expected {' or '.join(sorted(pattern.ops))}, found {found}", depth))
        return
    call = call_of(value)
    assert call is not None
    operands = [call.operands[name] for name in call.op.positional][: len(pattern.operands)]
    if len(operands) < len(pattern.operands):
        failures.append(Mismatch(str(value), f"expected {len(pattern.operands)} tensor operands, found {len(operands)}", depth))
        return
    here = _Bound({**bound.nodes, pattern.label: value}, bound.values, {**bound.calls, pattern.label: call})
    for order in _orders(pattern, operands):
        yield from _all(pattern.operands, order, here, failures, depth + 1)


def _orders(pattern: OpPattern, operands: list[Any]) -> Iterator[list[Any]]:
    yield operands
    if pattern.commutative and len(operands) >= 2:
        yield [operands[1], operands[0], *operands[2:]]


def _all(patterns: tuple[Pattern, ...], values: list[Any], bound: _Bound, failures: list[Mismatch], depth: int) -> Iterator[_Bound]:
    if not patterns:
        yield bound
        return
    for first in _solutions(patterns[0], values[0], bound, failures, depth):
        yield from _all(patterns[1:], values[1:], first, failures, depth)


def _bind(var: Var, value: Any, bound: _Bound, failures: list[Mismatch], depth: int) -> Iterator[_Bound]:
    if var.name in bound.values and bound.values[var.name] is not value:
        failures.append(Mismatch(str(value), f"{var.name} is already {bound.values[var.name]}", depth))
        return
    if var.is_constant and not (isinstance(value, Node) and value.op == "get_attr"):
        failures.append(Mismatch(str(value), f"{var.name} is no constant", depth))
        return
    yield _Bound(bound.nodes, {**bound.values, var.name: value}, bound.calls)

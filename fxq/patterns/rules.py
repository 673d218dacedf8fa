"""Rule: a row of a pattern table; and rewrite(module, rules), which applies a table to a graph."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch.fx import Node

from fxq.errors import ConfigError
from fxq.graph.annotation import note_refusal
from fxq.graph.constants import remove_unread
from fxq.graph.module import FxqModule
from fxq.graph.ops import op_of
from fxq.graph.reasons import Reason
from fxq.patterns.expressions import OpPattern
from fxq.patterns.matcher import Match, all_matches

Guard = Callable[[Match], Reason | None]


@dataclass(frozen=True)
class Rule:
    """A rewrite: where the pattern matches and no guard objects, `rewrite` is applied.

    Attributes:
        name: for messages and reports.
        pattern: what to look for.
        when: guards, in order; the first Reason refuses the match, and is put on record at the anchor.
        rewrite: changes the graph and returns the node that now stands for the anchor.
    """

    name: str
    pattern: OpPattern
    when: tuple[Guard, ...]
    rewrite: Callable[[Match], Node]


def as_rules(given: Any) -> tuple[Rule, ...]:
    """Several Rules as a tuple. Raises ConfigError for anything else."""
    if isinstance(given, list | tuple) and all(isinstance(rule, Rule) for rule in given):
        return tuple(given)
    raise ConfigError("rules", expected="a list of Rules", found=repr(given)[:200], remedy="write rules=[fxq.patterns.rules.Rule(...)]")


@dataclass(frozen=True)
class Applied:
    """One rewrite that happened: the rule, and the node that came of it."""

    rule: str
    node: Node


def rewrite(module: FxqModule, rules: Sequence[Rule]) -> list[Applied]:
    """Applies the rules in one sweep in order of execution; at each node the first rule that fits, until none does.

    Linear in the graph: a node is tried only with rules whose pattern ends in its op, and a pattern has a fixed size.

    Raises:
        ConfigError: a rule matches what it has made, again and again.
    """
    calls, most = [node for node in module.graph.nodes if node.op == "call_function"], len(module.graph.nodes)
    of_op = {name: [rule for rule in rules if name in rule.pattern.ops] for name in set().union(*(rule.pattern.ops for rule in rules))}
    applied = [made for node in calls if not node._erased for made in _rewrite_at(node, of_op, most)]
    if applied:
        remove_unread(module)
    return applied


def _rewrite_at(node: Node, rules: Mapping[str, Sequence[Rule]], most: int) -> Iterator[Applied]:
    """Rewrites the graph that ends in the node, again and again.

    Args:
        rules: by the name of an op, those whose pattern ends in it.
        most: the nodes of the graph, of which every rewrite takes at least one away from its pattern.
    """
    for _ in range(most + 1):
        allowed = _first_allowed(node, rules)
        if allowed is None:
            return
        rule, found = allowed
        node = rule.rewrite(found)
        yield Applied(rule.name, node)
    raise ConfigError(
        f"rule {rule.name!r}",
        expected="a rewrite that leads away from the pattern",
        found=f"{node.name}, which it makes and matches again, {most + 1} times in a row",
        remedy="add a guard that is against what the rewrite makes, or let it make something else",
    )


def _first_allowed(node: Node, rules: Mapping[str, Sequence[Rule]]) -> tuple[Rule, Match] | None:
    op = op_of(node)
    for rule in rules.get(op.name, ()) if op is not None else ():
        objections = []
        for found in all_matches(rule.pattern, node):
            objection = _objection(rule, found)
            if objection is None:
                return rule, found
            objections.append(objection)
        for objection in objections[:1]:
            note_refusal(node, rule.name, objection)
    return None


def _objection(rule: Rule, found: Match) -> Reason | None:
    return next((reason for guard in rule.when if (reason := guard(found)) is not None), None)

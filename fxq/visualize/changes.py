"""What the passes between two stages changed, node by node."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from fxq.graph.annotation import Origin
from fxq.report.wording import describe_origin
from fxq.visualize.cards import Card


@dataclass(frozen=True)
class Removed:
    """A node that is gone: what it was, and the id of the node that has taken it in; "" where none has."""

    what: str
    into: str


@dataclass(frozen=True)
class Changes:
    """Ids of the nodes that are new and of those that are another op now or have other annotations, and what is gone."""

    added: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    removed: tuple[Removed, ...] = ()


def changes_between(before: tuple[Card, ...], after: tuple[Card, ...]) -> Changes:
    """Nodes keep their names. An operand by another name alone is no change: an observer in front of it, say."""
    old, new = ({card.id: card for card in cards} for cards in (before, after))
    taken = {origin: card.id for card in after for origin in card.origins}
    added = tuple(name for name in new if name not in old)
    changed = tuple(name for name, card in new.items() if name in old and _essence(card) != _essence(old[name]))
    removed = tuple(_removed(card, taken) for name, card in old.items() if name not in new)
    return Changes(added, changed, removed)


def _removed(card: Card, taken: Mapping[Origin, str]) -> Removed:
    origin = next(iter(card.origins), None)
    return Removed(card.what if origin is None else describe_origin(origin), "" if origin is None else taken.get(origin, ""))


def _essence(card: Card) -> tuple[object, ...]:
    """All that makes a node what it is, but for the names of its operands."""
    operands = {name.rpartition(".")[2] for name in card.reads}
    text = re.sub(r"\w+", lambda word: "·" if word[0] in operands else word[0], card.text)
    return card.kind, card.type, card.what, card.spec, card.scale, text

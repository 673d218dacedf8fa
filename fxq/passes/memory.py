"""Calls that write into memory → calls that make new values, and readers that read those."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch.fx import Node

from fxq.graph.annotation import copy_annotations, set_type, tensor_type, type_of
from fxq.graph.topology import Aliases


@dataclass(frozen=True)
class Memory:
    """What is known of a graph before any of its calls is changed.

    Attributes:
        aliases: which values may share memory.
        order: place of each node in the graph.
    """

    aliases: Aliases
    order: Mapping[Node, int]
    _written_back: dict[Node, Node] = field(default_factory=dict)

    def shown_later(self, node: Node) -> set[Node]:
        """Other values through which the memory that `node` writes to is seen later: views made before, constants of the model.

        What reads the input or makes a view of it later reads the result instead.
        """
        written = node.all_input_nodes[0]
        known = self._written_back.get(written, written)
        before = [alias for alias in self.aliases.others(known) if self._place(alias) < self._place(node)] + [known]
        held = {alias for alias in self.aliases.class_of[known] if alias.op == "get_attr"}
        standing = {self._standing(alias) for alias in before} - {written}
        return held | {alias for alias in standing if any(self._place(reader) > self._place(node) for reader in alias.users)}

    def redirect(self, value: Node, result: Node, writer: Node) -> None:
        """Whatever reads the value behind the writer reads the result."""
        set_type(result, type_of(value))  # x[index] = value has no result
        value.replace_all_uses_with(
            result, delete_user_cb=lambda reader: reader is not result and self._place(reader) > self._place(writer)
        )

    def write_back(self, node: Node) -> Node:
        """The node changes a part of a value, and is all that does: x[index] = node, behind it. Returns that call."""
        part = node.all_input_nodes[0]
        whole, index = part.args
        assert isinstance(whole, Node)
        with node.graph.inserting_after(node):
            back = node.graph.call_function(operator.setitem, (whole, index, node))
        copy_annotations(node, back)
        self._written_back[back] = self._written_back.get(whole, whole)
        self.redirect(part, node, node)
        self.redirect(whole, back, node)
        return back

    def _place(self, node: Node) -> int:
        """Of what was put into the graph since: behind the call that it belongs to."""
        return self.order[node] if node in self.order else self.order[node.args[2]]  # type: ignore[index]

    def _standing(self, alias: Node) -> Node:
        """The value that has taken the place of this one last."""
        found = [back for back, whole in self._written_back.items() if whole is alias]
        return found[-1] if found else alias


def whole_of(part: Node) -> Node | None:
    """The value that `part` is a view of by an index of numbers and slices; None where it is no such view."""
    if part.op != "call_function" or part.target is not operator.getitem or not isinstance(part.args[0], Node):
        return None
    index = part.args[1] if isinstance(part.args[1], tuple) else (part.args[1],)
    return part.args[0] if tensor_type(part.args[0]) is not None and all(map(_is_basic, index)) else None


def _is_basic(item: Any) -> bool:
    return item is None or item is Ellipsis or isinstance(item, int | slice) or (isinstance(item, Node) and type_of(item) is None)

"""Writing out one node of a graph as several."""

from __future__ import annotations

from typing import Any

import torch
from torch.fx import Node

from fxq.graph.annotation import copy_annotations, set_type, tensor_type
from fxq.graph.infer import value_type
from fxq.graph.opdef import Call
from fxq.graph.ops import call_of, ops_by_name, write_call
from fxq.graph.spellings import normal_form


class Steps:
    """Canonical calls in front of a node, which itself becomes the last of them. All have its annotations, and types of their own."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._made: list[Node] = []

    def call(self, name: str, **operands: Any) -> Node:
        """One more call, of the op of that name."""
        op = ops_by_name()[name]
        operands = normal_form(op, operands, 1)
        with self._node.graph.inserting_before(self._node):
            made = self._node.graph.create_node("call_function", op.call, name=f"{self._node.name}_{name}")
        write_call(made, Call(op, operands))
        copy_annotations(self._node, made)
        set_type(made, value_type(op.call(**{operand: _without_elements(value) for operand, value in operands.items()})))
        self._made.append(made)
        return made

    def end(self, last: Node) -> Node:
        """The node becomes `last`, the call that was made last; identity(last) where no call was needed."""
        last = last if last in self._made else self.call("identity", input=last)
        call = call_of(last)
        assert call is not None and last is self._made[-1], f"{last.name} is not the last step"
        write_call(self._node, call)
        self._node.graph.erase_node(last)
        return self._node


def _without_elements(value: Any) -> Any:
    """Tensors on the meta device for the nodes of an operand."""
    if isinstance(value, tuple):
        return tuple(map(_without_elements, value))
    found = tensor_type(value) if isinstance(value, Node) else None
    return value if found is None else torch.empty(found.shape, dtype=found.dtype, device="meta")

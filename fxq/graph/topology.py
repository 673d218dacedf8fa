"""The graph as a networkx DiGraph, and the questions that are asked of its shape."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import networkx as nx
from torch.fx import Graph, GraphModule, Node

from fxq.graph.annotation import type_of, was_seen_new, was_seen_writing
from fxq.graph.opdef import Call
from fxq.graph.ops import call_of, op_of


def dataflow(graph: Graph) -> nx.DiGraph:
    """Nodes of the graph, and an edge from every value to every reader of it. Order of insertion is order of execution."""
    digraph: nx.DiGraph = nx.DiGraph()
    digraph.add_nodes_from(graph.nodes)
    digraph.add_edges_from((operand, node) for node in graph.nodes for operand in node.all_input_nodes)
    return digraph


def classes(nodes: Iterable[Node], pairs: Iterable[tuple[Node, Node]]) -> list[set[Node]]:
    """The finest partition of the nodes in which the two of every pair are together, in order of their first node."""
    paired = {node: component for component in nx.connected_components(nx.Graph(pairs)) for node in component}
    found: list[set[Node]] = []
    placed: set[Node] = set()
    for node in nodes:
        if node not in placed:
            found.append(paired.get(node) or {node})
            placed |= found[-1]
    return found


@dataclass(frozen=True)
class Aliases:
    """Which values may be views of the same memory."""

    class_of: Mapping[Node, set[Node]]

    def others(self, node: Node) -> set[Node]:
        """Values that may share memory with the node's, without the node itself."""
        return self.class_of[node] - {node}


def find_aliases(graph: Graph, calls: Mapping[Node, Call]) -> Aliases:
    """An op that moves elements may return a view of its input; so may anything that fxq does not know and has not seen otherwise.

    An op that writes in place returns what it has written to.

    Args:
        calls: the nodes that are recognised as canonical ops.
    """
    pairs = [(operand, node) for node in graph.nodes for operand in _viewed(node, calls)]
    found = classes(graph.nodes, pairs)
    return Aliases({node: together for together in found for node in together})


def _viewed(node: Node, calls: Mapping[Node, Call]) -> list[Node]:
    """Operands whose memory the node's value may share."""
    if node.op in ("output", "placeholder", "get_attr") or type_of(node) is None:
        return []
    if node in calls and calls[node].in_place:
        return node.all_input_nodes[:1]
    may_view = calls[node].op.may_view if node in calls else not was_seen_new(node)
    return [operand for operand in node.all_input_nodes if type_of(operand) is not None] if may_view else []


def find_mutated(module: GraphModule) -> Mapping[Node, Node]:
    """Values that a node changes in place after they were made → the node that changes them.

    Only nodes that are no canonical op can do this: canonical ops return a new value.
    """
    writers = [node for node in module.graph.nodes if op_of(node) is None and _writes_input(module, node)]
    if not writers:
        return {}
    calls = {node: call for node in module.graph.nodes if (call := call_of(node)) is not None}
    aliases = find_aliases(module.graph, calls)
    return {value: writer for writer in writers for value in aliases.class_of[writer.all_input_nodes[0]]}


# x += y and the like, which are named after the operator that makes a new value: iadd, ior (of or_); not invert, not index
_IN_PLACE_OPERATORS = frozenset(
    getattr(operator, name) for name in operator.__all__ if name[0] == "i" and {name[1:], f"{name[1:]}_"} & set(operator.__all__)
) | {operator.setitem, operator.delitem}


def _writes_input(module: GraphModule, node: Node) -> bool:
    if not node.all_input_nodes:
        return False
    if was_seen_writing(node):
        return True
    if node.op == "call_module":
        return bool(getattr(module.get_submodule(str(node.target)), "inplace", False))
    if node.op not in ("call_function", "call_method"):
        return False
    name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
    if getattr(operator, name, None) is node.target:
        return node.target in _IN_PLACE_OPERATORS
    written_name = name.endswith("_") and not name.endswith("__")
    return written_name or bool(node.kwargs.get("inplace")) or node.kwargs.get("out") is not None

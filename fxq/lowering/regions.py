"""Which parts of a lowered graph become programs: maximal convex regions of nodes that have a kernel."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch.fx import Graph, Node
from torch.fx.node import map_arg

from fxq.graph.annotation import tensor_type
from fxq.graph.constants import module_of
from fxq.graph.topology import classes
from fxq.runtime.integer.outputs import STORAGE
from fxq.runtime.region import Region, Step, Value

Accepts = Callable[[Step], bool]

_BYTES = (STORAGE["uint8"], STORAGE["int8"])


@dataclass(frozen=True, eq=False)
class GraphRegion:
    """A region of a graph.

    Attributes:
        nodes: its steps, in order; without sizes that are read on the way.
        inputs: values from outside, in the order of their first reader.
        outputs: values that are read outside.
        region: the same as data.
    """

    nodes: tuple[Node, ...]
    inputs: tuple[Node, ...]
    outputs: tuple[Node, ...]
    region: Region


@dataclass(frozen=True, eq=False)
class Partition:
    """A graph cut into regions and the nodes outside, which a region's sizes may be part of too."""

    regions: tuple[GraphRegion, ...]
    outside: frozenset[Node]


def find_regions(graph: Graph, accepts: Accepts) -> Partition:
    """Disjoint regions, each with at least one integer op; no path leaves one and comes back to it. Linear in nodes and edges.

    The level of a node counts how often the way to it, at most, has changed between nodes that are accepted and others. A path that
    leaves the accepted nodes of a level only reaches higher ones, so what is connected inside one level is convex.

    Args:
        accepts: whether a step can be part of a program.
    """
    accepted: dict[Node, bool] = {}
    levels: dict[Node, int] = {}
    for node in graph.nodes:
        operands = node.all_input_nodes
        accepted[node] = _is_accepted(node, accepts) and all(_is_tensor(p) or accepted[p] for p in operands)
        levels[node] = max((levels[p] + (accepted[p] != accepted[node]) for p in operands), default=0)
    inside = [node for node in graph.nodes if accepted[node]]
    edges = ((p, node) for node in inside for p in node.all_input_nodes if accepted[p] and levels[p] == levels[node])
    order = {node: number for number, node in enumerate(graph.nodes)}
    found = [sorted(filter(_is_tensor, group), key=order.__getitem__) for group in classes(inside, edges)]
    worthwhile = [nodes for nodes in found if any(node.op == "call_module" for node in nodes)]
    sizes = {node for node in inside if not _is_tensor(node)}
    outside = _outside(graph, {node for nodes in worthwhile for node in nodes}, sizes)
    parts = [_part(nodes) for nodes in worthwhile]
    read = {node for part in parts for node in part.inputs} | {operand for node in outside for operand in node.all_input_nodes}
    return Partition(tuple(_region(f"region_{number}", part, read) for number, part in enumerate(parts)), outside)


def _outside(graph: Graph, inside: set[Node], sizes: set[Node]) -> frozenset[Node]:
    """Nodes that are in no region; of the sizes that regions can compute only those that somebody outside reads."""
    outside: set[Node] = set()
    for node in reversed(graph.nodes):
        if node not in inside and (node not in sizes or not outside.isdisjoint(node.users)):
            outside.add(node)
    return frozenset(outside)


def _is_tensor(node: Node) -> bool:
    return tensor_type(node) is not None


def _is_accepted(node: Node, accepts: Accepts) -> bool:
    if node.op not in ("call_module", "call_function") or not accepts(_step(node, node.args, node.kwargs)):
        return False
    return node.op == "call_module" or not _is_tensor(node) or _touches_bytes(node)


def _touches_bytes(node: Node) -> bool:
    """Whether integers go in or come out: moves of float values stay with the float ops around them."""
    types = [tensor_type(value) for value in (node, *node.all_input_nodes)]
    return any(found is not None and found.dtype in _BYTES for found in types)


def _step(node: Node, args: Any, kwargs: Any) -> Step:
    function = node.target if node.op == "call_function" else module_of(node).get_submodule(str(node.target))
    return Step(node.name, function, tuple(args), dict(kwargs))  # type: ignore[arg-type]


@dataclass(frozen=True, eq=False)
class _Part:
    """The nodes of a region.

    Attributes:
        steps: the nodes, and before each one the sizes that it reads: several regions may compute the same one.
        inputs: tensors that they read from outside.
    """

    nodes: tuple[Node, ...]
    steps: tuple[Node, ...]
    inputs: tuple[Node, ...]


def _part(nodes: list[Node]) -> _Part:
    steps = tuple(dict.fromkeys(step for node in nodes for step in (*_sizes_behind(node), node)))
    members = set(nodes)
    inputs = dict.fromkeys(p for step in steps for p in step.all_input_nodes if p not in members and _is_tensor(p))
    return _Part(tuple(nodes), steps, tuple(inputs))


def _region(name: str, part: _Part, read: set[Node]) -> GraphRegion:
    """Args: read: values that are read outside of any region, or by a region that they are not made in."""
    outputs = tuple(node for node in part.nodes if node in read)
    numbers = {node: number for number, node in enumerate([*part.inputs, *part.steps])}
    steps = tuple(_numbered(step, numbers) for step in part.steps)
    return GraphRegion(part.nodes, part.inputs, outputs, Region(name, len(part.inputs), steps, tuple(numbers[node] for node in outputs)))


def _sizes_behind(node: Node) -> list[Node]:
    """Sizes that the node reads, those that they are computed from first."""
    found: dict[Node, None] = {}
    for operand in node.all_input_nodes:
        if not _is_tensor(operand):
            found.update(dict.fromkeys([*_sizes_behind(operand), operand]))
    return list(found)


def _numbered(node: Node, numbers: Mapping[Node, int]) -> Step:
    def value(operand: Node) -> Any:
        return Value(numbers[operand])

    return _step(node, map_arg(node.args, value), map_arg(node.kwargs, value))

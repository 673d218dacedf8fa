"""Which parts of a lowered graph become programs: maximal convex regions of nodes that have a kernel."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

import torch
from torch.fx import Graph, Node
from torch.fx.node import map_arg

from fxq.graph import products
from fxq.graph.annotation import tensor_type
from fxq.graph.constants import constant_of, module_of
from fxq.graph.topology import classes
from fxq.runtime.integer.outputs import STORAGE
from fxq.runtime.region import Region, Step, Value

# whether a step can be part of a program, of integers or of floats
Accepts = Callable[[Step, bool], bool]

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


class _Side(Enum):
    """Which regions a node can be part of: those of integers, or of float values around dynamic ops. SIZE: of any that reads it."""

    OUTSIDE = auto()
    SIZE = auto()
    BYTES = auto()
    FLOATS = auto()


def find_regions(graph: Graph, accepts: Accepts) -> Partition:
    """Disjoint regions, each with at least one int8 layer; no path leaves one and comes back to it. Linear in nodes and edges.

    The level of a node counts how often the way to it, at most, has changed sides. A path that leaves a side on some level only
    reaches higher ones, so what is connected inside one level, on one side, is convex.

    Args:
        accepts: (step, whether it is of integers, or of sizes) → whether it can be part of a program.
    """
    sides = _sides(graph, accepts)
    idle = {node for nodes in _connected(graph, sides) if not _is_worthwhile(nodes) for node in nodes if sides[node] is _Side.FLOATS}
    sides.update(dict.fromkeys(idle, _Side.OUTSIDE))  # float ops that stay with torch are no reason to cut what is int8
    worthwhile = [nodes for nodes in _connected(graph, sides) if _is_worthwhile(nodes)]
    checks = _checks(graph, sides, worthwhile)
    outside = _outside(graph, {node for nodes in (*worthwhile, *checks) for node in nodes}, sides)
    parts = [_part(nodes, checked) for nodes, checked in zip(worthwhile, checks, strict=True)]
    read = {node for part in parts for node in part.inputs} | {operand for node in outside for operand in node.all_input_nodes}
    return Partition(tuple(_region(f"region_{number}", part, read) for number, part in enumerate(parts)), outside)


def _sides(graph: Graph, accepts: Accepts) -> dict[Node, _Side]:
    sides: dict[Node, _Side] = {}
    for node in graph.nodes:
        side = _side(node) if all(_is_tensor(p) or sides[p] is _Side.SIZE for p in node.all_input_nodes) else _Side.OUTSIDE
        can_run = node.op in ("call_module", "call_function") and side is not _Side.OUTSIDE
        sides[node] = side if can_run and accepts(_with_constants(node, lambda p: p), side is not _Side.FLOATS) else _Side.OUTSIDE
    return sides


def _side(node: Node) -> _Side:
    """By the values that go in and come out."""
    if not _is_tensor(node):
        return _Side.SIZE
    operands = node.args if node.target is products.attention else node.all_input_nodes  # its mask may be bool
    types = {found.dtype for value in (node, *operands) if (found := tensor_type(value)) is not None}
    if types == {torch.float32}:
        return _Side.FLOATS
    return _Side.BYTES if not types.isdisjoint(_BYTES) else _Side.OUTSIDE


def _connected(graph: Graph, sides: Mapping[Node, _Side]) -> list[list[Node]]:
    """Tensors that are on one side and one level, and connected; in the order of the graph."""
    needs: dict[Node, tuple[Node, ...]] = {}
    levels: dict[Node, int] = {}
    for node in graph.nodes:
        operands = node.all_input_nodes
        needs[node] = tuple(dict.fromkeys(q for p in operands for q in (needs[p] if sides[p] is _Side.SIZE else (p,))))
        levels[node] = max((levels[p] + (sides[p] is not sides[node]) for p in needs[node]), default=0)
    inside = [node for node in graph.nodes if sides[node] in (_Side.BYTES, _Side.FLOATS)]
    edges = ((p, node) for node in inside for p in needs[node] if sides[p] is sides[node] and levels[p] == levels[node])
    order = {node: number for number, node in enumerate(graph.nodes)}
    return [sorted(group, key=order.__getitem__) for group in classes(inside, edges)]


def _checks(graph: Graph, sides: Mapping[Node, _Side], regions: list[list[Node]]) -> list[list[Node]]:
    """Of each region, what is found out about sizes of its own values alone, and read by nobody: a region checks it itself."""
    homes = {node: number for number, nodes in enumerate(regions) for node in nodes}
    checks: list[list[Node]] = [[] for _ in regions]
    measured: dict[Node, set[int | None]] = {}
    for node in graph.nodes:
        if sides[node] is _Side.SIZE:
            measured[node] = set().union(*({homes.get(p)} if _is_tensor(p) else measured[p] for p in node.all_input_nodes))
            home = next(iter(measured[node]), None)
            if not node.users and len(measured[node]) == 1 and home is not None:
                checks[home].append(node)
    return checks


def _is_worthwhile(nodes: list[Node]) -> bool:
    """Whether an op of the runtime is among them, or attention: what only moves elements is none."""
    return any(node.op == "call_module" or node.target is products.attention for node in nodes)


def _outside(graph: Graph, inside: set[Node], sides: Mapping[Node, _Side]) -> frozenset[Node]:
    """Nodes that are in no region; of what regions have themselves, sizes and constants, only what somebody outside reads.

    A size that nobody reads is checked, and if no region does it, outside.
    """
    outside: set[Node] = set()
    for node in reversed(graph.nodes):
        is_optional = (sides[node] is _Side.SIZE and bool(node.users)) or _is_constant(node)
        if node not in inside and not (is_optional and outside.isdisjoint(node.users)):
            outside.add(node)
    return frozenset(outside)


def _is_tensor(node: Node) -> bool:
    return tensor_type(node) is not None


def _is_constant(node: Node) -> bool:
    """Whether it is a vector of the model, of floats or indices: what has no batch goes into a step's arguments as it is."""
    found = tensor_type(node)
    return node.op == "get_attr" and found is not None and found.dtype in (torch.float32, torch.int64) and len(found.shape) < 2


def _step(node: Node, args: Any, kwargs: Any) -> Step:
    function = node.target if node.op == "call_function" else module_of(node).get_submodule(str(node.target))
    return Step(node.name, function, tuple(args), dict(kwargs))  # type: ignore[arg-type]


@dataclass(frozen=True, eq=False)
class _Part:
    """The nodes of a region.

    Attributes:
        steps: the nodes, and before each one the sizes that it reads: several regions may compute the same one; then what is checked.
        inputs: tensors that they read from outside.
    """

    nodes: tuple[Node, ...]
    steps: tuple[Node, ...]
    inputs: tuple[Node, ...]


def _part(nodes: list[Node], checks: list[Node]) -> _Part:
    steps = tuple(dict.fromkeys(step for node in (*nodes, *checks) for step in (*_sizes_behind(node), node)))
    members = set(nodes)
    inputs = dict.fromkeys(p for step in steps for p in step.all_input_nodes if p not in members and _is_tensor(p) and not _is_constant(p))
    return _Part(tuple(nodes), steps, tuple(inputs))


def _region(name: str, part: _Part, read: set[Node]) -> GraphRegion:
    """Args: read: values that are read outside of any region, or by a region that they are not made in."""
    outputs = tuple(node for node in part.nodes if node in read)
    numbers = {node: number for number, node in enumerate([*part.inputs, *part.steps])}
    steps = tuple(_with_constants(step, lambda p: Value(numbers[p])) for step in part.steps)
    return GraphRegion(part.nodes, part.inputs, outputs, Region(name, len(part.inputs), steps, tuple(numbers[node] for node in outputs)))


def _sizes_behind(node: Node) -> list[Node]:
    """Sizes that the node reads, those that they are computed from first."""
    found: dict[Node, None] = {}
    for operand in node.all_input_nodes:
        if not _is_tensor(operand):
            found.update(dict.fromkeys([*_sizes_behind(operand), operand]))
    return list(found)


def _with_constants(node: Node, refer: Callable[[Node], Any]) -> Step:
    """The node as a step: constants in its arguments as they are, and what stands for each other node."""

    def value(operand: Node) -> Any:
        return constant_of(operand) if _is_constant(operand) else refer(operand)

    return _step(node, map_arg(node.args, value), map_arg(node.kwargs, value))

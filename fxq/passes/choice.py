"""Which of the ops that could be int8 should be: those that gain from it, and what stands between them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass

from torch.fx import Graph, Node

from fxq.graph.annotation import tensor_type
from fxq.graph.opdef import Call, Policy

Calls = Mapping[Node, Call]


def choose_int8(graph: Graph, calls: Calls, returned: Set[Node]) -> Calls:
    """Of the nodes that may be int8, those that will be.

    - Movement, arithmetic with a number, and resizing: where an int8 op reads the result.
    - Pooling and other ops that keep qparams: also where they read int8.
    - A sum, difference or product of two tensors: unless float ops make both, or one beside a constant, or float ops read it, and
      int8 ops only as one more such operand. It carries the errors of both operands on: the residual stream of a transformer, say,
      which its norms read.
    - An op that normalizes: between int8 ops, right behind one that makes 8 bits anyway; it would spread the rounding of
      anything else. What can write floats from its accumulators makes 8 bits only for other readers.
    - All other ops.

    Args:
        calls: the ops that configuration, operands and profile allow to be int8, in order of execution.
        returned: values that the caller gets as integers.
    """
    chosen: dict[Node, Call] = {}
    rounding = {node: call for node, call in calls.items() if not call.op.normalizes}
    around = Neighbours(chosen, _wanted(graph, calls, returned), _wanted(graph, rounding, returned))
    for node, call in calls.items():
        if _joins(node, call, around):
            chosen[node] = call
    for node in reversed(list(chosen)):
        if node not in returned and _is_left_alone(node, chosen):
            del chosen[node]
    return chosen


def _wanted(graph: Graph, calls: Calls, returned: Set[Node]) -> set[Node]:
    """Values that an int8 op will read as integers, or the caller: directly, or through ops that follow their readers."""
    wanted = set(returned)
    for node in reversed(graph.nodes):
        call = calls.get(node)
        if call is not None and (not call.follows_readers or node in wanted):
            wanted.update(call.activations.values())
    return wanted


@dataclass(frozen=True)
class Neighbours:
    """What is known while ops are gone through in order of execution.

    Attributes:
        chosen: ops in front that will be int8.
        wanted: values that an int8 op will read as integers.
        rounded: values that one will read which does not normalize.
    """

    chosen: Calls
    wanted: Set[Node]
    rounded: Set[Node]


def _joins(node: Node, call: Call, around: Neighbours) -> bool:
    operands = call.activations.values()
    if call.op.normalizes:
        return node in around.wanted and all(_rounds_anyway(source, around) for source in _behind_movement(operands, around.chosen))
    if call.follows_readers or call.op.keeps_qparams:
        reads_int8 = not call.follows_readers and any(operand in around.chosen for operand in operands)
        return node in around.wanted or reads_int8
    return not is_of_floats(call, around.chosen)


def is_of_floats(call: Call, chosen: Calls) -> bool:
    """Whether it is a sum, difference or product of nothing but results of float ops, and constants beside them."""
    if not call.op.is_arithmetic:
        return False
    sources = [source for source in _behind_movement(call.activations.values(), chosen) if source.op != "get_attr"]
    are_floats = all(source.op.startswith("call_") and source not in chosen for source in sources)
    return bool(sources) and are_floats


def _rounds_anyway(node: Node, around: Neighbours) -> bool:
    """Whether an int8 op writes 8 bits here whatever an op that normalizes does behind it."""
    call = around.chosen.get(node)
    if call is None or call.op.is_arithmetic:
        return False
    return not call.op.float_output or node in around.rounded


def _behind_movement(nodes: Iterable[Node], chosen: Calls) -> list[Node]:
    """The nodes whose elements these are."""
    found, seen = list(dict.fromkeys(nodes)), set(nodes)
    sources = []
    for node in found:
        if node not in chosen or chosen[node].op.policy is not Policy.MOVES:
            sources.append(node)
            continue
        moved = [operand for operand in chosen[node].activations.values() if operand not in seen]
        found += moved
        seen.update(moved)
    return sources


def _is_left_alone(node: Node, chosen: Calls) -> bool:
    """Those that were to read the node's integers stayed float, or are no reason to round it."""
    call = chosen[node]
    readers = [chosen[reader] for reader in node.users if reader in chosen]
    if call.follows_readers:
        return not readers
    if call.op.keeps_qparams:
        return not readers and not any(operand in chosen for operand in call.activations.values())
    floats = any(reader not in chosen and tensor_type(reader) is not None for reader in node.users if reader.op != "output")
    return call.op.is_arithmetic and floats and all(reader.op.is_arithmetic for reader in readers)

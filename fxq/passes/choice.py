"""Which of the ops that could be int8 should be: those that gain from it, and what stands between them."""

from __future__ import annotations

from collections.abc import Mapping, Set

from torch.fx import Graph, Node

from fxq.graph.annotation import tensor_type
from fxq.graph.opdef import Call, Policy

Calls = Mapping[Node, Call]


def choose_int8(graph: Graph, calls: Calls, returned: Set[Node]) -> Calls:
    """Of the nodes that may be int8, those that will be.

    - Movement, and arithmetic with a number: where an int8 op reads the result.
    - Pooling and other ops that keep qparams: also where they read int8.
    - A sum, difference or product of two tensors: unless float ops read it, and int8 ops only as one more such operand. It
      carries the errors of both operands on: the residual stream of a transformer, say, which its norms read.
    - An op that normalizes: between int8 ops, right behind one that makes 8 bits anyway; it would spread the rounding of
      anything else.
    - All other ops.

    Args:
        calls: the ops that configuration, operands and profile allow to be int8, in order of execution.
        returned: values that the caller gets as integers.
    """
    wanted = _wanted(graph, calls, returned)
    chosen: dict[Node, Call] = {}
    for node, call in calls.items():
        if _joins(node, call, chosen, wanted):
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


def _joins(node: Node, call: Call, chosen: Calls, wanted: set[Node]) -> bool:
    operands = call.activations.values()
    if call.op.normalizes:
        sources = [_behind_movement(operand, chosen) for operand in operands]
        return node in wanted and all(source in chosen and not chosen[source].op.is_arithmetic for source in sources)
    if call.follows_readers or call.op.keeps_qparams:
        reads_int8 = call.op.policy is Policy.SHARES and any(operand in chosen for operand in operands)
        return node in wanted or reads_int8
    return True


def _behind_movement(node: Node, chosen: Calls) -> Node:
    """The node whose elements these are."""
    while node in chosen and chosen[node].op.policy is Policy.MOVES:
        node = next(iter(chosen[node].activations.values()))
    return node


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

"""verify(module, stage): what must hold of a graph at each stage.

The checks are about our own invariants: a failed one is a bug of a pass or of a user-defined rule. The message names the
pass, the node and its neighbours.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch.fx import Node

from fxq.graph.annotation import quant_of, tensor_type, type_of
from fxq.graph.module import FxqModule
from fxq.graph.opdef import Policy
from fxq.graph.ops import call_of
from fxq.graph.stages import Stage
from fxq.graph.text import format_node

INTEGERS = (torch.uint8, torch.int8)


class VerificationError(Exception):
    """A graph is not what its stage promises."""


@dataclass(frozen=True)
class Violation:
    """One broken promise."""

    node: Node
    promise: str


Check = Callable[[FxqModule], Iterator[Violation]]


def verify(module: FxqModule, stage: Stage, made_by: str = "") -> None:
    """Checks every promise of the stage.

    Args:
        made_by: the pass that made the graph, for the message.

    Raises:
        VerificationError: names the pass, the first node that breaks a promise, and its neighbours.
    """
    module.graph.lint()
    for check in CHECKS[stage]:
        for violation in check(module):
            raise VerificationError(_describe(violation, stage, made_by))


def _describe(violation: Violation, stage: Stage, made_by: str) -> str:
    node = violation.node
    around = [*node.all_input_nodes, node, *node.users]
    lines = "\n".join(f"  {'>' if each is node else ' '} {each.name} = {format_node(each)}" for each in around if each.op != "output")
    return f"{made_by or 'the graph'} breaks a promise of stage {stage.name}: {node.name} {violation.promise}\n{lines}"


def _ops_are_typed(module: FxqModule) -> Iterator[Violation]:
    for node in module.graph.nodes:
        call = call_of(node)
        is_tensor = node.op == "get_attr" or (call is not None and call.op.policy is not Policy.METADATA)
        if is_tensor and type_of(node) is None:
            yield Violation(node, "has no shape and dtype")


def _tensors_are_read_once(module: FxqModule) -> Iterator[Violation]:
    """So that the users of a get_attr node are all who read its tensor."""
    seen: set[str] = set()
    for node in module.graph.nodes:
        if node.op == "get_attr" and str(node.target) in seen:
            yield Violation(node, f"reads {node.target} once more")
        if node.op == "get_attr":
            seen.add(str(node.target))


def _nodes_are_annotated(module: FxqModule) -> Iterator[Violation]:
    for node in module.graph.nodes:
        if node.op not in ("output", "get_attr") and quant_of(node) is None:
            yield Violation(node, "has no NodeQuant")


def _groups_have_one_spec(module: FxqModule) -> Iterator[Violation]:
    spec_of_group: dict[int, object] = {}
    for node in module.graph.nodes:
        quant = quant_of(node)
        if quant is not None and quant.group is not None and spec_of_group.setdefault(quant.group, quant.output) != quant.output:
            yield Violation(node, f"asks for {quant.output} in group {quant.group}, which has {spec_of_group[quant.group]}")


def _quantized_values_have_groups(module: FxqModule) -> Iterator[Violation]:
    for node in module.graph.nodes:
        quant = quant_of(node)
        if quant is not None and (quant.output is None) != (quant.group is None):
            yield Violation(node, "is quantized without a sharing group, or has a group without being quantized")


def _groups_have_one_observer(module: FxqModule) -> Iterator[Violation]:
    observers = defaultdict(set)
    for node in module.graph.find_nodes(op="call_module"):
        quant = quant_of(node)
        if quant is not None and quant.rule == OBSERVER_RULE:
            observers[quant.group].add(node.target)
            if len(observers[quant.group]) > 1:
                yield Violation(node, f"is a second observer of group {quant.group}")


def _no_observers(module: FxqModule) -> Iterator[Violation]:
    for node in module.graph.find_nodes(op="call_module"):
        quant = quant_of(node)
        if quant is not None and quant.rule == OBSERVER_RULE:
            yield Violation(node, "is an observer")


def _quantization_meets_its_dtype(module: FxqModule) -> Iterator[Violation]:
    """quantize reads floats, dequantize integers, and no op that computes floats reads integers."""
    for node in module.graph.nodes:
        call = call_of(node)
        if call is None:
            continue
        for name, operand in call.activations.items():
            found = tensor_type(operand)
            reads_integers = found is not None and found.dtype in INTEGERS
            may_read_integers = call.op.name == "dequantize" or call.op.policy in (Policy.METADATA, Policy.MOVES, Policy.SHARES)
            if reads_integers and not may_read_integers:
                yield Violation(node, f"reads integers ({name})")
            if not reads_integers and call.op.name == "dequantize":
                yield Violation(node, "reads floats")


def _int8_operands_are_dequantized(module: FxqModule) -> Iterator[Violation]:
    for node in module.graph.nodes:
        call, quant = call_of(node), quant_of(node)
        if call is None or quant is None or not quant.inputs:
            continue
        for name, operand in call.activations.items():
            source = call_of(operand)
            if name in quant.inputs and (source is None or source.op.name != "dequantize"):
                yield Violation(node, f"is int8, but {name} is not dequantized")


def _nothing_is_left_to_lower(module: FxqModule) -> Iterator[Violation]:
    for node in module.graph.nodes:
        call, quant = call_of(node), quant_of(node)
        reads_dequantized = call is not None and quant is not None and bool(quant.inputs) and quant.is_int8
        if reads_dequantized and call is not None and not call.op.keeps_qparams:
            yield Violation(node, "is int8 and still a float op")


# the rule of NodeQuants that belong to observers
OBSERVER_RULE = "observer"

_TYPED = (_ops_are_typed, _tensors_are_read_once)
_ANNOTATED = (*_TYPED, _nodes_are_annotated, _groups_have_one_spec)

CHECKS: dict[Stage, tuple[Check, ...]] = {
    Stage.TRACED: (),
    Stage.FUSED: _TYPED,
    Stage.ANNOTATED: _ANNOTATED,
    Stage.OBSERVED: (*_ANNOTATED, _quantized_values_have_groups, _groups_have_one_observer),
    Stage.REFERENCE: (*_TYPED, _no_observers, _quantization_meets_its_dtype, _int8_operands_are_dequantized),
    Stage.LOWERED: (*_TYPED, _no_observers, _quantization_meets_its_dtype, _nothing_is_left_to_lower),
}

"""verify(module, stage): what must hold of a graph at each stage.

The checks are about our own invariants: a failed one is a bug of a pass or of a user-defined rule. The message names the
pass, the node and its neighbours.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import nn
from torch.fx import Node

from fxq.graph.annotation import NodeQuant, quant_of, tensor_type, type_of
from fxq.graph.attributes import find
from fxq.graph.constants import module_of
from fxq.graph.module import FxqModule
from fxq.graph.opdef import Call, Policy
from fxq.graph.ops import call_of, op_of
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


@dataclass(frozen=True)
class View:
    """A graph, and what several checks read from it."""

    module: FxqModule

    @cached_property
    def nodes(self) -> Sequence[Node]:
        return list(self.module.graph.nodes)

    @cached_property
    def quantized(self) -> Mapping[Node, NodeQuant]:
        """Nodes with a NodeQuant, in order."""
        return {node: quant for node in self.nodes if (quant := quant_of(node)) is not None}

    @cached_property
    def calls(self) -> Mapping[Node, Call]:
        """Canonical nodes as calls, in order."""
        return {node: call for node in self.nodes if (call := call_of(node)) is not None}


Check = Callable[[View], Iterator[Violation]]


def verify(module: FxqModule, stage: Stage, made_by: str = "", *, annotated: bool = False) -> None:
    """Checks every promise of the stage.

    Args:
        made_by: the pass that made the graph, for the message.
        annotated: the pass has only annotated it: the promises about its form are as good as they were before.

    Raises:
        VerificationError: names the pass, the first node that breaks a promise, and its neighbours.
    """
    view = View(module)
    for check in (each for each in CHECKS[stage] if not (annotated and each in _TYPED)):
        for violation in check(view):
            raise VerificationError(_describe(violation, stage, made_by))


def _describe(violation: Violation, stage: Stage, made_by: str) -> str:
    node = violation.node
    around = [*node.all_input_nodes, node, *node.users]
    lines = "\n".join(f"  {'>' if each is node else ' '} {each.name} = {_written(each)}" for each in around if each.op != "output")
    return f"{made_by or 'the graph'} breaks a promise of stage {stage.name}: {node.name} {violation.promise}\n{lines}"


def _written(node: Node) -> str:
    """As in a printed graph, if what that shows of the model is there."""
    has_all = all(_has_target(module_of(node), each) for each in (node, *node.all_input_nodes))
    return format_node(node) if has_all else node.format_node() or node.name


def _has_target(module: FxqModule, node: Node) -> bool:
    if node.op not in ("get_attr", "call_module"):
        return True
    return _is_target(node, find(module, str(node.target)))


def _is_target(node: Node, found: Any) -> bool:
    return found is not None if node.op == "get_attr" else isinstance(found, nn.Module)


def _operands_come_first(view: View) -> Iterator[Violation]:
    seen: set[Node] = set()
    for node in view.nodes:
        operands = node.all_input_nodes
        if not seen.issuperset(operands):
            operand = next(each for each in operands if each not in seen)
            yield Violation(node, f"reads {operand.name}, which is not computed before")
        seen.add(node)


def _names_differ(view: View) -> Iterator[Violation]:
    seen: set[str] = set()
    for node in view.nodes:
        if node.name in seen:
            yield Violation(node, "has the name of another node")
        seen.add(node.name)


def _targets_exist(view: View) -> Iterator[Violation]:
    owners: dict[str, Any] = {"": view.module}
    for node in (*view.module.graph.find_nodes(op="get_attr"), *view.module.graph.find_nodes(op="call_module")):
        path, _, name = str(node.target).rpartition(".")
        if path not in owners:
            owners[path] = find(view.module, path)
        if not _is_target(node, find(owners[path], name)):
            what = "tensor" if node.op == "get_attr" else "module"
            yield Violation(node, f"refers to {node.target}, which is no {what} of the model")


def _ops_are_typed(view: View) -> Iterator[Violation]:
    for node in view.nodes:
        if type_of(node) is None and (node.op == "get_attr" or ((op := op_of(node)) is not None and op.policy is not Policy.METADATA)):
            yield Violation(node, "has no shape and dtype")


def _tensors_are_read_once(view: View) -> Iterator[Violation]:
    """So that the users of a get_attr node are all who read its tensor."""
    seen: set[str] = set()
    for node in view.module.graph.find_nodes(op="get_attr"):
        if str(node.target) in seen:
            yield Violation(node, f"reads {node.target} once more")
        seen.add(str(node.target))


def _nodes_are_annotated(view: View) -> Iterator[Violation]:
    for node in view.nodes:
        if node not in view.quantized and node.op not in ("output", "get_attr"):
            yield Violation(node, "has no NodeQuant")


def _groups_have_one_spec(view: View) -> Iterator[Violation]:
    spec_of_group: dict[int, object] = {}
    for node, quant in view.quantized.items():
        if quant.group is not None and spec_of_group.setdefault(quant.group, quant.output) != quant.output:
            yield Violation(node, f"asks for {quant.output} in group {quant.group}, which has {spec_of_group[quant.group]}")


def _quantized_values_have_groups(view: View) -> Iterator[Violation]:
    for node, quant in view.quantized.items():
        if (quant.output is None) != (quant.group is None):
            yield Violation(node, "is quantized without a sharing group, or has a group without being quantized")


def _groups_have_one_observer(view: View) -> Iterator[Violation]:
    observers = defaultdict(set)
    for node, quant in view.quantized.items():
        if quant.rule == OBSERVER_RULE and quant.group is not None:
            observers[quant.group].add(node.target)
            if len(observers[quant.group]) > 1:
                yield Violation(node, f"is a second observer of group {quant.group}")


def _no_observers(view: View) -> Iterator[Violation]:
    for node, quant in view.quantized.items():
        if quant.rule == OBSERVER_RULE:
            yield Violation(node, "is an observer")


def _quantization_meets_its_dtype(view: View) -> Iterator[Violation]:
    """quantize reads floats, dequantize integers, and no op that computes floats reads integers."""
    for node, call in view.calls.items():
        for name, operand in call.activations.items():
            found = tensor_type(operand)
            reads_integers = found is not None and found.dtype in INTEGERS
            may_read_integers = call.op.name in ("dequantize", "dequantize_groups") or call.op.policy in (
                Policy.METADATA,
                Policy.MOVES,
                Policy.SHARES,
            )
            if reads_integers and not may_read_integers:
                yield Violation(node, f"reads integers ({name})")
            if not reads_integers and call.op.name == "dequantize":
                yield Violation(node, "reads floats")


def _int8_operands_are_dequantized(view: View) -> Iterator[Violation]:
    for node, call in view.calls.items():
        quant = view.quantized.get(node)
        if quant is None or not quant.inputs:
            continue
        for name, operand in call.activations.items():
            source = view.calls.get(operand)
            wanted = "round_to_bytes" if quant.is_dynamic else "dequantize"
            if name in quant.inputs and (source is None or source.op.name != wanted):
                yield Violation(node, f"is int8, but {name} does not come from {wanted}")


def _nothing_is_left_to_lower(view: View) -> Iterator[Violation]:
    for node, call in view.calls.items():
        quant = view.quantized.get(node)
        reads_dequantized = quant is not None and quant.is_int8 and (bool(quant.inputs) or quant.is_weight_only)
        if reads_dequantized and not call.op.keeps_qparams:
            yield Violation(node, "is int8 and still a float op")


# the rule of NodeQuants that belong to observers
OBSERVER_RULE = "observer"

_FORMED = (_operands_come_first, _names_differ, _targets_exist)
_TYPED = (*_FORMED, _ops_are_typed, _tensors_are_read_once)
_ANNOTATED = (*_TYPED, _nodes_are_annotated, _groups_have_one_spec)

CHECKS: dict[Stage, tuple[Check, ...]] = {
    Stage.TRACED: _FORMED,
    Stage.FUSED: _TYPED,
    Stage.ANNOTATED: _ANNOTATED,
    Stage.OBSERVED: (*_ANNOTATED, _quantized_values_have_groups, _groups_have_one_observer),
    Stage.REFERENCE: (*_TYPED, _no_observers, _quantization_meets_its_dtype, _int8_operands_are_dequantized),
    Stage.LOWERED: (*_TYPED, _no_observers, _quantization_meets_its_dtype, _nothing_is_left_to_lower),
}

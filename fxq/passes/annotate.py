"""QConfigMapping × profile → a NodeQuant on every node: int8 with these specs, or float for this Reason."""

from __future__ import annotations

from collections.abc import Mapping, Set

from torch.fx import Graph, Node

from fxq.graph.annotation import NodeQuant, resolution_of, set_quant
from fxq.graph.module import FxqModule
from fxq.graph.opdef import Call, Policy
from fxq.graph.ops import call_of
from fxq.graph.qtypes import QuantSpec
from fxq.graph.reasons import Reason, Why
from fxq.graph.topology import find_mutated
from fxq.passes.interface import quantized_results, require_quantized
from fxq.passes.pipeline import Context
from fxq.passes.refusals import Refusals

Calls = Mapping[Node, Call]


def annotate(module: FxqModule, context: Context) -> int:
    """Decides int8 or float for every node, and which values are quantized, with which spec.

    - An op that computes is int8 unless its configuration, operands or the profile object.
    - An op that keeps qparams follows its neighbours: pooling and the like are int8 where their input is, or where an int8
      op reads them; pure movement only where an int8 op reads it.
    - A value is quantized once, for all its int8 readers. conv, linear and
      averages write float32 where no int8 op reads them.
    - A result that the model returns as a QTensor is read like an int8 op reads.

    Raises:
        ConfigError: an input or result is asked for as a QTensor, and no int8 op reads or makes it.
    """
    returned = set(quantized_results(module).values())
    refusals = Refusals(module, context.profile, find_mutated(module))
    refused = {node: reason for node in module.graph.nodes if node.op != "output" and (reason := refusals.refusal(node)) is not None}
    calls = {node: call for node in module.graph.nodes if node not in refused and (call := call_of(node)) is not None}
    chosen = _choose(module.graph, calls, returned)
    specs = _specs(chosen, returned)
    require_quantized(module, specs, refused)
    for node in module.graph.nodes:
        if node.op not in ("output", "get_attr"):
            reason = None if node in chosen else refused.get(node, _beside_float_ops(node))
            set_quant(node, _node_quant(node, chosen, specs, reason))
    return len(chosen)


def _choose(graph: Graph, calls: Calls, returned: Set[Node]) -> Calls:
    """Of the nodes that may be int8, those that will be."""
    wanted = _wanted(graph, calls, returned)
    chosen: dict[Node, Call] = {}
    for node, call in calls.items():
        reads_int8 = any(operand in chosen for operand in call.activations.values())
        follows = node in wanted or (reads_int8 and call.op.policy is Policy.SHARES)
        if follows or not call.op.keeps_qparams:
            chosen[node] = call
    for node in reversed(list(chosen)):
        if chosen[node].op.policy is Policy.MOVES and node not in returned and not any(reader in chosen for reader in node.users):
            del chosen[node]  # what wanted it stayed float
    return chosen


def _wanted(graph: Graph, calls: Calls, returned: Set[Node]) -> set[Node]:
    """Values that an int8 op will read as integers, or the caller: directly, or through ops that only move them."""
    wanted = set(returned)
    for node in reversed(graph.nodes):
        call = calls.get(node)
        if call is not None and (call.op.policy is not Policy.MOVES or node in wanted):
            wanted.update(call.activations.values())
    return wanted


def _specs(chosen: Calls, returned: Set[Node]) -> dict[Node, QuantSpec]:
    """The spec of every quantized value."""
    specs: dict[Node, QuantSpec] = {}
    for node, call in chosen.items():
        for operand in call.activations.values():
            specs.setdefault(operand, _activation_spec(operand if operand in chosen else node))
        if call.op.keeps_qparams:
            specs[node] = specs[next(iter(call.activations.values()))]
        elif not call.op.float_output or node in returned:
            specs[node] = _activation_spec(node)
    return specs


def _activation_spec(node: Node) -> QuantSpec:
    resolution = resolution_of(node)
    assert resolution is not None and resolution.qconfig is not None
    spec: QuantSpec = resolution.qconfig.activation.spec
    return spec


def _node_quant(node: Node, chosen: Calls, specs: Mapping[Node, QuantSpec], reason: Reason | None) -> NodeQuant:
    resolution = resolution_of(node)
    rule = resolution.rule if resolution is not None else ""
    inputs: dict[str, QuantSpec] = {}
    call = chosen.get(node)
    if call is not None:
        inputs = {name: specs[operand] for name, operand in call.activations.items()}
        if "weight" in call.operands:
            assert resolution is not None
            inputs["weight"] = resolution.qconfig.weight.spec
    return NodeQuant(inputs, specs.get(node), rule=rule, reason=reason)


def _beside_float_ops(node: Node) -> Reason:
    return Reason(Why.FLOAT_READERS, node.name, "computes nothing on its elements, and no int8 op reads its result")

"""QConfigMapping × profile → a NodeQuant on every node: int8 with these specs, or float for this Reason."""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import replace

from torch.fx import Node

from fxq.graph.annotation import NodeQuant, Resolution, asks_for, resolution_of, set_quant
from fxq.graph.module import FxqModule
from fxq.graph.opdef import Call
from fxq.graph.ops import call_of
from fxq.graph.qtypes import QuantSpec
from fxq.graph.reasons import Reason, Why
from fxq.graph.topology import find_mutated
from fxq.observers import ObserverFactory
from fxq.passes.choice import Calls, choose_int8, is_of_floats
from fxq.passes.interface import quantized_results, require_quantized
from fxq.passes.pipeline import Context
from fxq.passes.refusals import Refusals


def annotate(module: FxqModule, context: Context) -> int:
    """Decides int8 or float for every node, and which values are quantized, with which spec.

    - An op is int8 unless its configuration, operands or the profile object, and where that pays (`choose_int8`).
    - A value is quantized once, for all its int8 readers. conv, linear and
      averages write float32 where no int8 op reads them.
    - An op with a dynamic activation, or whose weight alone is stored in few bits, reads and writes float: its neighbours do not
      depend on it.
    - A result that the model returns as a QTensor is read like an int8 op reads.

    Raises:
        ConfigError: an input or result is asked for as a QTensor, and no int8 op reads or makes it.
    """
    returned = set(quantized_results(module).values())
    refusals = Refusals(module, context.profile, find_mutated(module))
    refused = {node: reason for node in module.graph.nodes if node.op != "output" and (reason := refusals.refusal(node)) is not None}
    allowed = [node for node in module.graph.nodes if node.op != "output" and node not in refused]
    outside = {node for node in allowed if asks_for(node, float_outside=True)}
    calls = {node: call for node in allowed if node not in outside and (call := call_of(node)) is not None}
    chosen = choose_int8(module.graph, calls, returned)
    specs = specs_of_values(chosen, returned)
    require_quantized(module, specs, refused)
    for node in module.graph.nodes:
        if node.op != "output" and (node.op != "get_attr" or node in specs):
            resolution = resolution_of(node)
            quant = NodeQuant(output=specs.get(node), rule=resolution.rule if resolution else "")
            if node not in chosen and node not in outside:
                set_quant(node, replace(quant, reason=refused.get(node, _beside_float_ops(node, chosen))))
            elif resolution is not None and resolution.qconfig is not None and resolution.qconfig.weight_format is not None:
                set_quant(node, replace(quant, format=resolution.qconfig.weight_format))
            else:
                set_quant(node, replace(quant, inputs=_inputs(node, specs)))
    return len(chosen) + len(outside)


def specs_of_values(chosen: Calls, returned: Set[Node]) -> dict[Node, QuantSpec]:
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


def weight_factory(call: Call, resolution: Resolution) -> ObserverFactory:
    """The weight observer of a qconfig, with its channel axis where this op's weight has its output channels."""
    factory: ObserverFactory = resolution.qconfig.weight
    return factory if factory.spec.axis in (None, call.op.weight_axis) else factory.with_args(ch_axis=call.op.weight_axis)


def _inputs(node: Node, specs: Mapping[Node, QuantSpec]) -> dict[str, QuantSpec]:
    """What is asked of the operands of an int8 op, or of a module that is called whole."""
    call, resolution, own = call_of(node), resolution_of(node), _activation_spec(node)
    assert resolution is not None
    if call is None:
        return {"input": own}
    inputs = {name: own if own.dynamic else specs[operand] for name, operand in call.activations.items()}
    return {**inputs, "weight": weight_factory(call, resolution).spec} if "weight" in call.operands else inputs


def _beside_float_ops(node: Node, chosen: Calls) -> Reason:
    call = call_of(node)
    if call is not None and call.op.normalizes:
        return Reason(Why.FLOAT_INPUT, node.name, "spreads rounding, and does not stand between int8 ops")
    if call is not None and not call.has_number and is_of_floats(call, chosen):
        return Reason(Why.FLOAT_INPUT, node.name, "float ops make its operands, and rounding them first would gain nothing")
    if call is not None and call.op.is_arithmetic and not call.has_number:
        return Reason(Why.FLOAT_READERS, node.name, "float ops read its result, and no int8 op gains from rounding it")
    return Reason(Why.FLOAT_READERS, node.name, f"{_does(call)}, and no int8 op reads its result")


def _does(call: Call | None) -> str:
    """What an op that follows its readers does."""
    if call is not None and call.has_number:
        return "only adds, multiplies or divides by a number"
    return "makes many elements out of few" if call is not None and call.op.enlarges else "computes nothing on its elements"

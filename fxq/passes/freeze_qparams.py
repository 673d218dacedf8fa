"""Observers → quantize and dequantize with the qparams they found; weights get theirs from their own values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch.fx import Node

from fxq.errors import CalibrationError
from fxq.graph.annotation import quant_of, resolution_of, tensor_type, update_quant
from fxq.graph.constants import constant_of
from fxq.graph.module import FxqModule
from fxq.graph.moments import Moments
from fxq.graph.opdef import Call
from fxq.graph.ops import call_of, write_call
from fxq.graph.qdq import insert_qdq, insert_rounding, integers_behind, qparams_of
from fxq.graph.qtypes import QParams, enlarge_scales
from fxq.graph.verify import OBSERVER_RULE
from fxq.observers import Observer, Weight, observe_together, search_together
from fxq.observers.moments import MomentsObserver
from fxq.passes.annotate import weight_factory
from fxq.passes.insert_observers import reads_quantized
from fxq.passes.pipeline import Context
from fxq.passes.share_qparams import fixed_qparams


def freeze_qparams(module: FxqModule, context: Context) -> int:
    """observer(x) → dequantize(quantize(x)), and the same for every quantized value and weight.

    Returns:
        the number of pairs of quantize and dequantize.

    Raises:
        CalibrationError: an observer never saw data, or found a scale that is not finite.
    """
    qparams = found_qparams(module)
    for layer, moments in remove_observers(module).items():
        update_quant(layer, moments=moments)
    quantized = [node for node in module.graph.nodes if (quant := quant_of(node)) is not None and quant.group is not None]
    for value in quantized:
        _quantize_value(value, qparams[group_of(value)])
    requantized = sum(_requantize_operands(node, qparams) for node in quantized)
    weighted = [node for node in module.graph.nodes if (quant := quant_of(node)) is not None and "weight" in quant.inputs]
    for node, of_weight in _weight_qparams(weighted).items():
        _quantize_weight(node, of_weight)
    return len(quantized) + requantized + len(weighted)


def group_of(node: Node) -> int:
    """The sharing group of a quantized value."""
    quant = quant_of(node)
    assert quant is not None and quant.group is not None
    return quant.group


# --- what the observers found ----------------------------------------------------------------------------------------------


def found_qparams(module: FxqModule) -> dict[int, QParams]:
    """Sharing group → its qparams: those of the op, of the observer, or those that a value has already.

    Raises:
        CalibrationError: an observer never saw data, or found a scale that is not finite.
    """
    return {**_fixed(module), **_observed(module), **_noted(module)}


def _noted(module: FxqModule) -> dict[int, QParams]:
    quants = [quant for node in module.graph.nodes if (quant := quant_of(node)) is not None]
    return {quant.group: quant.qparams for quant in quants if quant.group is not None and quant.qparams is not None}


def _fixed(module: FxqModule) -> dict[int, QParams]:
    found = {node: fixed_qparams(node) for node in module.graph.nodes}
    return {group_of(node): qparams for node, qparams in found.items() if qparams is not None}


def observers_of(module: FxqModule) -> dict[Node, Observer]:
    """The calls of the observers that fxq has put there; those inside custom modules are the user's."""
    calls = [node for node in module.graph.find_nodes(op="call_module") if (quant := quant_of(node)) and quant.rule == OBSERVER_RULE]
    found = {node: module.get_submodule(str(node.target)) for node in calls}
    return {node: observer for node, observer in found.items() if isinstance(observer, Observer)}


def _observed(module: FxqModule) -> dict[int, QParams]:
    observers = observers_of(module)
    by_group = {group_of(node): observer for node, observer in observers.items() if not isinstance(observer, MomentsObserver)}
    found = search_together(list(by_group.values()))
    return {group: _finite(qparams, observer.name) for (group, observer), qparams in zip(by_group.items(), found, strict=True)}


def _finite(qparams: QParams, tensor: str) -> QParams:
    if qparams.is_finite:
        return qparams
    raise CalibrationError(
        f"tensor {tensor!r}",
        expected="a finite positive scale",
        found=f"scale {qparams.scale.tolist()}",
        remedy="look for values that are not finite in this tensor, or keep the layer float with qconfig None",
    )


def remove_observers(module: FxqModule) -> dict[Node, Moments]:
    """observer(x) → x. Returns what was measured in front of layers with weights."""
    found: dict[Node, Moments] = {}
    for node, observer in observers_of(module).items():
        if isinstance(observer, MomentsObserver) and (moments := observer.moments()) is not None:
            found |= dict.fromkeys(node.users, moments)
        node.replace_all_uses_with(node.all_input_nodes[0])
        module.graph.erase_node(node)
    module.delete_all_unused_submodules()
    return found


# --- values ----------------------------------------------------------------------------------------------------------------


def _quantize_value(value: Node, qparams: QParams) -> None:
    """x → dequantize(quantize(x)) for the readers that read what quantization leaves."""
    update_quant(value, qparams=qparams)
    dq = insert_qdq(value, qparams, after=value)
    made = {*dq.all_input_nodes, dq}
    value.replace_all_uses_with(dq, delete_user_cb=lambda reader: reader not in made and reads_quantized(value, reader))


def _requantize_operands(node: Node, qparams: Mapping[int, QParams]) -> int:
    """An op that keeps qparams reads every operand with the qparams of its own group: another group's are changed before."""
    call, quant = call_of(node), quant_of(node)
    if call is None or quant is None or not quant.is_int8 or not call.op.keeps_qparams:
        return 0
    foreign = {operand for operand in call.activations.values() if group_of(_value_behind(operand)) != group_of(node)}
    for operand in foreign:
        node.replace_input_with(operand, insert_qdq(operand, qparams[group_of(node)], after=operand))
    return len(foreign)


def _value_behind(dq: Node) -> Node:
    return integers_behind(dq).all_input_nodes[0]


# --- weights ---------------------------------------------------------------------------------------------------------------


def _weight_qparams(nodes: Sequence[Node]) -> dict[Node, QParams]:
    """What training has found for the weight of each node, or else the weight observer of its qconfig."""
    trained = {node: quant.weight for node in nodes if (quant := quant_of(node)) is not None and quant.weight is not None}
    observed = {node: _observed_weight(node) for node in nodes if node not in trained}
    found = {**trained, **dict(zip(observed, observe_together(list(observed.values())), strict=True))}
    return {node: _finite(found[node], str(_weight_of(node).target)) for node in nodes}


def _observed_weight(node: Node) -> Weight:
    call, resolution, weight = call_of(node), resolution_of(node), _weight_of(node)
    values = constant_of(weight)
    assert call is not None and resolution is not None and values is not None
    return Weight(weight_factory(call, resolution), values, str(weight.target))


def _weight_of(node: Node) -> Node:
    call = call_of(node)
    assert call is not None
    weight: Node = call.operands["weight"]
    return weight


def _quantize_weight(node: Node, qparams: QParams) -> None:
    """op(x, w) → op(x, dequantize(quantize(w)))"""
    call, quant, weight = call_of(node), quant_of(node), _weight_of(node)
    assert call is not None and quant is not None
    inputs = {}
    if quant.is_dynamic:
        values = tensor_type(weight)
        assert values is not None
        inputs["input"] = insert_rounding(call.operands["input"], quant.inputs["input"], len(values.shape) - 1)
    else:
        qparams = _with_room_for_bias(qparams, call)
    dq = insert_qdq(weight, qparams, after=weight)
    write_call(node, Call(call.op, {**call.operands, **inputs, "weight": dq}))


def _with_room_for_bias(weight: QParams, call: Call) -> QParams:
    """A dead channel's tiny scale is enlarged until its bias fits 32 bits."""
    bias = call.operands["bias"]
    return enlarge_scales(weight, constant_of(bias), qparams_of(call.operands["input"])) if bias is not None else weight

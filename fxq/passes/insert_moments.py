"""conv(x, @w) → conv(moments(x), @w): what the rounding of weights has to know of the channels that they meet."""

from __future__ import annotations

from torch.fx import Node

from fxq.graph.annotation import NodeQuant, quant_of, set_quant, set_type, tensor_type, type_of
from fxq.graph.constants import free_path, put_module
from fxq.graph.module import FxqModule
from fxq.graph.opdef import Call
from fxq.graph.ops import call_of, write_call
from fxq.graph.verify import OBSERVER_RULE
from fxq.observers.moments import MomentsObserver
from fxq.passes.pipeline import Context

# it asks for no quantization, and belongs to no group
_OBSERVED = NodeQuant(rule=OBSERVER_RULE)


def insert_moments(module: FxqModule, context: Context) -> int:
    """A MomentsObserver in front of each calibrated layer with weights, where the profile balances them.

    Layers with the same weights have one together.

    Returns:
        the number of layers.
    """
    if not context.profile.balanced_weights:
        return 0
    layers = {node: call for node in module.graph.nodes if (call := call_of(node)) is not None and _is_calibrated(node, call)}
    paths: dict[tuple[str, int], str] = {}
    for node, call in layers.items():
        weight = (str(call.operands["weight"].target), call.op.weight_axis)
        if weight not in paths:
            paths[weight] = _put_observer(module, node, call)
        _insert(module, node, call, paths[weight])
    return len(layers)


def _is_calibrated(node: Node, call: Call) -> bool:
    quant = quant_of(node)
    return quant is not None and quant.is_static and "weight" in quant.inputs and quant_of(call.operands["input"]) != _OBSERVED


def _put_observer(module: FxqModule, node: Node, call: Call) -> str:
    """For weights [out, in / groups, ...], or [in, out / groups, ...] of a transposed convolution."""
    shape = tensor_type(call.operands["weight"])
    assert shape is not None
    channels = shape.shape[1] * call.operands.get("groups", 1) if call.op.weight_axis == 0 else shape.shape[0]
    observer = MomentsObserver(channels=channels, axis=1 - len(shape.shape))
    observer.name = f"input of {node.name}"
    path = free_path(module, f"{node.name}_moments")
    put_module(module, path, observer)
    return path


def _insert(module: FxqModule, node: Node, call: Call, path: str) -> None:
    value = call.operands["input"]
    with module.graph.inserting_before(node):
        observed = module.graph.call_module(path, (value,))
    set_type(observed, type_of(value))
    set_quant(observed, _OBSERVED)
    write_call(node, Call(call.op, {**call.operands, "input": observed}, call.in_place))

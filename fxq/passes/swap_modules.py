"""lstm(x) → dynamic_lstm(x), embedding_bag(i) → weight_only_embedding_bag(i)"""

from __future__ import annotations

from dataclasses import replace

from torch import nn
from torch.fx import Node

from fxq.dynamic.modules import WHOLE
from fxq.errors import ConfigError
from fxq.graph.annotation import quant_of, resolution_of, update_quant
from fxq.graph.constants import free_path, put_module
from fxq.graph.module import FxqModule
from fxq.graph.ops import call_of
from fxq.graph.reasons import Reason, Why
from fxq.passes.pipeline import Context
from fxq.qconfig_mapping import QConfig


def swap_modules(module: FxqModule, context: Context) -> int:
    """Modules that are called whole, and read and write float, become the op of the runtime that does it.

    A module that is called in several places, with one qconfig, becomes one op.

    Raises:
        ConfigError: a weight that is to be stored in few bits is not finite.
    """
    calls = module.graph.find_nodes(op="call_module")
    nodes = [node for node in calls if _is_whole(node)]
    float_readers = {str(node.target) for node in set(calls).difference(nodes)}
    floats = {str(node.target): module.get_submodule(str(node.target)) for node in nodes}
    done: dict[tuple[str, QConfig], str | Reason] = {}
    for node in nodes:
        path, qconfig = str(node.target), _qconfig(node)
        if (path, qconfig) not in done:
            is_taken = path in float_readers or path in done.values()
            place = free_path(module, path) if is_taken else path
            done[path, qconfig] = _swap(module, floats[path], qconfig, place)
        found = done[path, qconfig]
        if isinstance(found, Reason):
            update_quant(node, reason=replace(found, node=node.name), inputs={})
        else:
            node.target = found
    if nodes:
        module.delete_all_unused_submodules()
    return len(nodes)


def _is_whole(node: Node) -> bool:
    quant = quant_of(node)
    return quant is not None and (quant.is_dynamic or quant.is_weight_only) and call_of(node) is None


def _qconfig(node: Node) -> QConfig:
    resolution = resolution_of(node)
    assert resolution is not None
    found: QConfig = resolution.qconfig
    return found


def _swap(module: FxqModule, called: nn.Module, qconfig: QConfig, place: str) -> str | Reason:
    """Puts the op there; returns the place."""
    try:
        made = WHOLE[type(called)](called, qconfig)
    except ConfigError as error:
        if qconfig.weight_format is not None:
            raise
        return Reason(Why.OVERFLOW, place, f"its 32-bit accumulator can overflow: {error.found}")
    assert made is not None, f"{type(called).__name__} was not refused"
    put_module(module, place, made.eval())
    return place

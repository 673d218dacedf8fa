"""Ops with weights and batch norms → modules that train them as they will be deployed; and dropout that drops in training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor, nn
from torch.fx import Node

from fxq.graph.annotation import AttachedNorm, norm_of, origin_of, quant_of, resolution_of, set_norm, tensor_type
from fxq.graph.constants import free_path, merge_reads, module_of, put_module, read_constant, remove_unread, tensor_at
from fxq.graph.module import FxqModule
from fxq.graph.names import join_path
from fxq.graph.opdef import Call
from fxq.graph.ops import call_of
from fxq.observers import Observer
from fxq.passes.annotate import weight_factory
from fxq.passes.freeze_qparams import group_of, observers_of
from fxq.passes.insert_fake_quantizes import fake_quantizing
from fxq.passes.pipeline import Context
from fxq.patterns.trainable import ADDED, describe_norm
from fxq.qat.fake_quantize import FakeQuantize
from fxq.qat.grouped import GroupedFakeQuantize
from fxq.qat.trained import NORM_TENSORS, TrainedDropout, TrainedNorm, TrainedOp

# what draws once for several elements → the number of leading dimensions that draw on their own
_DRAWN_TOGETHER = {
    "torch.nn.Dropout1d": 2,
    "torch.nn.Dropout2d": 2,
    "torch.nn.Dropout3d": 2,
    "torchvision.ops.stochastic_depth.stochastic_depth": 1,
}


def make_trainable(module: FxqModule, context: Context) -> int:
    """conv(x, @w, @b) with its batch norm → TrainedOp(x, @w, @b, @running_mean, ...), and so on.

    All tensors stay at their paths: what is added is below `ADDED`.

    Returns:
        the number of modules added.
    """
    changed, by_group = 0, {group_of(node): observer for node, observer in observers_of(module).items()}
    for node in list(module.graph.nodes):
        call = call_of(node)
        if call is not None:
            changed += _make_trainable(node, call)
    for node in module.graph.find_nodes(op="call_module"):
        _round_input(node, by_group)
    merge_reads(module)
    remove_unread(module)
    return changed


def _make_trainable(node: Node, call: Call) -> bool:
    quant = quant_of(node)
    rounds_weight = quant is not None and (quant.is_weight_only or (quant.is_int8 and "weight" in quant.inputs))
    if norm_of(node) is not None or rounds_weight:
        _train_op(node, call)
    elif call.op.name == "batch_norm" and not call.operands["training"]:
        _train_norm(node, call)
    elif call.op.name == "dropout" and not call.operands["training"] and call.operands["p"] > 0:
        origin = origin_of(node)
        together = _DRAWN_TOGETHER.get(origin.object_type) if origin is not None else None
        _call(node, TrainedDropout(call.operands["p"], together), [call.operands["input"]])
    else:
        return False
    return True


def _train_op(node: Node, call: Call) -> None:
    operands = {name: value for name, value in call.operands.items() if isinstance(value, Node)}
    attributes = {name: value for name, value in call.operands.items() if name not in operands}
    trained, norm = TrainedOp(call.op.name, attributes, tuple(operands)), norm_of(node)
    tensors = list(operands.values())
    if norm is not None:
        trained.norm = _trained_norm(node, norm)
        tensors += _read_norm(node, norm)
        set_norm(node, None)
    _call(node, trained, tensors)
    module = module_of(node)
    trained.first_sum = float(tensor_at(module, str(operands["weight"].target)).detach().sum(dtype=torch.float64))
    trained.weight_fake_quant = _weight_fake_quant(node, call)
    if trained.weight_fake_quant is not None:
        trained.weight_fake_quant.observe(trained.fold(tuple(_value(module, each) for each in tensors)).weight)


def _round_input(node: Node, by_group: Mapping[int, Observer]) -> None:
    """An int8 op knows the module that rounds its input, since their scales are the bias's; a dynamic one has a module of its own."""
    trained, quant, resolution = module_of(node).get_submodule(str(node.target)), quant_of(node), resolution_of(node)
    if not isinstance(trained, TrainedOp) or trained.weight_fake_quant is None or (quant is not None and quant.is_weight_only):
        return
    assert quant is not None and resolution is not None
    if quant.is_dynamic:
        trained.arrival_fake_quant = fake_quantizing(resolution.qconfig.activation())
        trained.arrival_fake_quant.name = f"input of {node.name}"
        weight = tensor_type(node.all_input_nodes[trained.names.index("weight")])
        assert weight is not None
        trained.arrival_fake_quant.row_dims = len(weight.shape) - 1
    else:
        trained.input_fake_quant = (cast(FakeQuantize, by_group[group_of(node.all_input_nodes[0])]),)


def _value(module: FxqModule, node: Node) -> Tensor:
    """The tensor that a node reads; anything for one that is computed, whose values fold does not need."""
    return tensor_at(module, str(node.target)) if node.op == "get_attr" else torch.zeros(())


def _weight_fake_quant(node: Node, call: Call) -> FakeQuantize | None:
    quant, resolution = quant_of(node), resolution_of(node)
    if quant is None or not quant.is_int8 or resolution is None:
        return None
    if quant.format is not None:
        made: FakeQuantize = GroupedFakeQuantize(resolution.qconfig.weight(), quant.format)
    elif "weight" in quant.inputs:
        made = fake_quantizing(weight_factory(call, resolution)(), forgets=True)
    else:
        return None
    made.name = f"weight of {node.name}"
    return made


def _train_norm(node: Node, call: Call) -> None:
    norm = describe_norm(node)
    _call(node, _trained_norm(node, norm), [call.operands["input"], *_read_norm(node, norm)])


def _trained_norm(node: Node, norm: AttachedNorm) -> TrainedNorm:
    path = join_path(module_of(node).path, norm.path)
    made = TrainedNorm(path, tuple(name for name in NORM_TENSORS if name in norm.tensors), norm.momentum, norm.eps)
    made.synchronized = isinstance(norm.owner, nn.SyncBatchNorm)
    return made


def _read_norm(node: Node, norm: AttachedNorm) -> list[Node]:
    """Nodes that read the batch norm's tensors, which are back at their paths in the model."""
    if norm.path:
        put_module(module_of(node), norm.path, norm.owner)
    prefix = f"{norm.path}." if norm.path else ""
    return [read_constant(node, prefix + norm.tensors[name]) for name in NORM_TENSORS if name in norm.tensors]


def _call(node: Node, made: nn.Module, tensors: list[Node]) -> None:
    path = free_path(module_of(node), f"{ADDED}.{node.name}")
    put_module(module_of(node), path, made)
    node.op, node.target, node.args, node.kwargs = "call_module", path, tuple(tensors), {}

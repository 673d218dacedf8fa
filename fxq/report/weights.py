"""The tensors of the model that a node holds: bytes as they are stored, and as a float32 model stores them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor, nn
from torch.fx import Node

from fxq.graph.constants import constant_of
from fxq.graph.groups import GroupedWeights
from fxq.graph.islands import outside_of_graphs
from fxq.graph.qdq import groups_of, is_dequantize, is_dequantize_groups
from fxq.report.kinds import ROUNDED, Kind, called_module, kind_of
from fxq.runtime.integer.module import IntegerOp
from fxq.runtime.weight_only.op import WeightOnlyOp
from fxq.runtime.weight_only.recurrent import WeightOnlyRecurrent

# what names of tensors begin with that take the place of tensors of the float model; the others are of the compiler's making
_FROM_THE_MODEL = ("weight", "bias")

_FLOAT32_BYTES = 4


@dataclass(frozen=True)
class Stored:
    """One tensor.

    Attributes:
        key: the same for the same tensor, wherever it is read.
        bytes: as stored.
        bytes_float32: in the float model; 0 for a constant that it has not (a multiplier, a table, a scale).
    """

    key: int
    bytes: int
    bytes_float32: int


def stored_by(node: Node) -> tuple[Stored, ...]:
    """The tensors that belong to an op: parameters and buffers of its module, constants among its operands."""
    if kind_of(node) not in (*ROUNDED, Kind.FLOAT):
        return ()
    module = called_module(node)
    return tuple(_of_operands(node) if module is None else _of_module(module))


def _of_module(module: nn.Module) -> Iterator[Stored]:
    groups = _groups_of(module)
    yield from (stored for weights in groups for stored in _of_groups(weights))
    owned = [item for owner in outside_of_graphs(module) for item in (*owner._parameters.items(), *owner._buffers.items())]
    for name, tensor in owned:
        if tensor is None or (groups and not name.startswith("bias")):
            continue
        if not isinstance(module, IntegerOp):
            yield _as_it_was(tensor)
        else:
            yield _quantized(tensor) if name.partition("_")[0] in _FROM_THE_MODEL else _added(tensor)


def _groups_of(module: nn.Module) -> tuple[GroupedWeights, ...]:
    """Its matrices in few bits."""
    if isinstance(module, WeightOnlyRecurrent):
        return tuple(module.weights.values())
    return (module.weights,) if isinstance(module, WeightOnlyOp) else ()


def _of_operands(node: Node) -> Iterator[Stored]:
    for operand in node.all_input_nodes:
        tensor = constant_of(operand)
        if tensor is not None:
            yield _as_it_was(tensor)
        elif is_dequantize(operand):
            yield from _of_dequantize(operand)
        elif is_dequantize_groups(operand):
            yield from _of_groups(groups_of(operand))


def _of_dequantize(node: Node) -> Iterator[Stored]:
    """The integers of a weight, its scales and zero points; nothing for an activation."""
    integers, *qparams = (constant_of(operand) for operand in node.all_input_nodes)
    if integers is not None:
        yield _quantized(integers)
        yield from (_added(tensor) for tensor in qparams if tensor is not None)


def _of_groups(weights: GroupedWeights) -> Iterator[Stored]:
    yield Stored(id(weights.weight), weights.weight.nbytes, weights.outputs * weights.features * _FLOAT32_BYTES)
    yield from (_added(tensor) for tensor in (weights.scale, weights.zero) if tensor is not None)


def _as_it_was(tensor: Tensor) -> Stored:
    return Stored(id(tensor), tensor.nbytes, tensor.numel() * _FLOAT32_BYTES if tensor.is_floating_point() else tensor.nbytes)


def _quantized(tensor: Tensor) -> Stored:
    return Stored(id(tensor), tensor.nbytes, tensor.numel() * _FLOAT32_BYTES)


def _added(tensor: Tensor) -> Stored:
    return Stored(id(tensor), tensor.nbytes, 0)

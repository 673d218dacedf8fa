"""What is wrong with the arguments of an integer op. Lowering makes none of these; a file may hold anything."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

import torch
from torch import Tensor

from fxq.graph.weight_format import WeightFormat
from fxq.runtime.dynamic.cells import CELLS
from fxq.runtime.dynamic.conv import DynamicConv
from fxq.runtime.dynamic.linear import DynamicLinear
from fxq.runtime.dynamic.recurrent import DynamicRNN, DynamicRNNCell, RecurrentShape
from fxq.runtime.integer.binary import AddFixedPoint
from fxq.runtime.integer.conv import Conv
from fxq.runtime.integer.conv_transpose import ConvTranspose
from fxq.runtime.integer.elementwise import PRelu
from fxq.runtime.integer.linear import Linear
from fxq.runtime.integer.module import BYTES, IntegerOp
from fxq.runtime.integer.norm import GroupNorm, LayerNorm
from fxq.runtime.integer.pool import AdaptiveAvgPool, AdaptiveMaxPool, AvgPool, MaxPool
from fxq.runtime.integer.table import Table
from fxq.runtime.interface import QTensorEntry, QTensorExit
from fxq.runtime.weight_only.embedding import WeightOnlyEmbedding, WeightOnlyEmbeddingBag
from fxq.runtime.weight_only.linear import WeightOnlyLinear
from fxq.runtime.weight_only.recurrent import WeightOnlyRNN, WeightOnlyRNNCell

Values = Mapping[str, Any]
Tensors = Mapping[str, Tensor]

_LARGEST = 2**31
_ZERO_POINTS = range(-128, 256)


def objection_to(kind: type[IntegerOp], values: Values, tensors: Tensors) -> str | None:
    """One sentence, or None where all is as lowering makes it: shapes and dtypes of tensors, ranges of numbers.

    Raises:
        KeyError: a tensor is missing.
    """
    checks = (_numbers(values), _CHECKS[kind](values, tensors) if kind in _CHECKS else ())
    found = next((objection for check in checks for objection in check), None)
    return None if found is None else f"{kind.__name__}: {found}"


def _numbers(values: Values) -> Iterator[str]:
    """Numbers fit 32 bits, zero points 8."""
    for name, number in _numbers_in(values, ""):
        if isinstance(number, float):
            if math.isnan(number):
                yield f"{name} is no number"
        elif abs(number) >= _LARGEST or ("zero_point" in name and number not in _ZERO_POINTS):
            yield f"{name} is {number}"


def _numbers_in(value: Any, name: str) -> Iterator[tuple[str, int | float]]:
    if isinstance(value, int | float):
        yield name, value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _numbers_in(item, str(key))
    elif isinstance(value, tuple | list):
        for item in value:
            yield from _numbers_in(item, name)
    elif is_dataclass(value):
        for field in fields(value):
            yield from _numbers_in(getattr(value, field.name), field.name)


def _conv(values: Values, tensors: Tensors) -> Iterator[str]:
    yield from _kernel(values, tensors)
    yield from _per_channel(tensors, tensors["weight"].shape[0])


def _dynamic_conv(values: Values, tensors: Tensors) -> Iterator[str]:
    yield from _kernel(values, tensors)
    yield from _scales(tensors, "")


def _kernel(values: Values, tensors: Tensors) -> Iterator[str]:
    """Where it goes, and the weights in it."""
    geometry, weight = values["geometry"], tensors["weight"]
    ends = [end for pair in geometry.padding for end in pair]
    yield from _spatial(geometry.rank, geometry.padding, geometry.dilation)
    yield from _at_least(1, "stride, dilation and groups", (*geometry.stride, *geometry.dilation, geometry.groups))
    yield from _at_least(0, "padding", ends)
    yield from _tensor("weight", weight, (torch.int8,), geometry.rank + 2)
    if weight.shape[0] % geometry.groups:
        yield f"{weight.shape[0]} channels in {geometry.groups} groups"


def _conv_transpose(values: Values, tensors: Tensors) -> Iterator[str]:
    geometry, weight = values["geometry"], tensors["weight"]
    yield from _spatial(geometry.rank, geometry.padding, geometry.output_padding, geometry.dilation)
    yield from _at_least(1, "stride, dilation and groups", (*geometry.stride, *geometry.dilation, geometry.groups))
    yield from _at_least(0, "padding", (*geometry.padding, *geometry.output_padding))
    yield from _tensor("weight", weight, (torch.int8,), geometry.rank + 2)
    if weight.shape[0] % geometry.groups:
        yield f"{weight.shape[0]} channels in {geometry.groups} groups"
    yield from _per_channel(tensors, weight.shape[1] * geometry.groups)


def _linear(values: Values, tensors: Tensors) -> Iterator[str]:
    yield from _tensor("weight", tensors["weight"], (torch.int8,), 2)
    yield from _per_channel(tensors, tensors["weight"].shape[0])


def _dynamic_linear(values: Values, tensors: Tensors) -> Iterator[str]:
    yield from _row_weights(tensors, "")


def _row_weights(tensors: Tensors, end: str) -> Iterator[str]:
    """Args: end: of the names."""
    yield from _tensor(f"weight{end}", tensors[f"weight{end}"], (torch.int8,), 2)
    yield from _scales(tensors, end)


def _scales(tensors: Tensors, end: str) -> Iterator[str]:
    """And the bias, if there is one."""
    weight = tensors[f"weight{end}"]
    for name in (f"scale{end}", *([f"bias{end}"] if f"bias{end}" in tensors else [])):
        yield from _tensor(name, tensors[name], (torch.float32,), 1, weight.shape[0])


def _recurrent(values: Values, tensors: Tensors) -> Iterator[str]:
    yield from _shape(values["shape"], tensors)
    for name, size in values["shape"].matrices().items():
        yield from _row_weights(tensors, f"_{name}")
        if tuple(tensors[f"weight_{name}"].shape) != size:
            yield f"weight_{name} is not {list(size)}"


def _shape(shape: RecurrentShape, tensors: Tensors) -> Iterator[str]:
    """There is one with a weight for each of its matrices."""
    if shape.mode not in CELLS:
        yield f"there is no {shape.mode[:100]!r}"
    yield from _at_least(1, "shape", (shape.input_size, shape.hidden_size, shape.num_layers))
    if not 0 <= shape.proj_size < shape.hidden_size:
        yield f"proj_size is {shape.proj_size}"
    if shape.num_layers > len(tensors):
        yield f"{shape.num_layers} layers of {len(tensors)} tensors"
    if unknown := {f"weight_{name}" for name in shape.matrices()} ^ {name for name in tensors if name.startswith("weight_")}:
        yield f"{min(unknown)[:100]} is missing, or there is no place for it"


def _weight_only_recurrent(values: Values, tensors: Tensors) -> Iterator[str]:
    yield from _shape(values["shape"], tensors)
    for name, (outputs, features) in values["shape"].matrices().items():
        yield from _stored(_Groups(f"_{name}", values["format"], features), tensors)
        if tensors[f"weight_{name}"].shape[0] != outputs:
            yield f"weight_{name} has not {outputs} rows"


@dataclass(frozen=True)
class _Groups:
    """A matrix in few bits.

    Attributes:
        end: of the names of its tensors.
        format: how it is stored.
        features: of a row.
    """

    end: str
    format: WeightFormat
    features: int


def _grouped_weights(values: Values, tensors: Tensors) -> Iterator[str]:
    yield from _at_least(0, "features", (values["features"],))
    yield from _stored(_Groups("", values["format"], values["features"]), tensors)


def _stored(groups: _Groups, tensors: Tensors) -> Iterator[str]:
    format, features = groups.format, groups.features
    found = {kind: tensors[f"{kind}{groups.end}"] for kind in ("weight", "scale", "zero", "bias") if f"{kind}{groups.end}" in tensors}
    weight, dtype = found["weight"], {4: torch.uint8, 8: torch.int8, 16: torch.float16}[format.bits]
    yield from _tensor(f"weight{groups.end}", weight, (dtype,), 2)
    if weight.shape[1] != (-(-features // 2) if format.bits == 4 else features):
        yield f"{features} features in rows of {weight.shape[1]}"
    wanted = {"scale"} if format.bits < 16 else set()
    if unknown := wanted ^ (found.keys() & {"scale"}) or {name for name in ("zero",) if name in found and not wanted}:
        yield f"{min(unknown)}{groups.end} is missing, or there is no place for it"
    for name in [name for name in ("scale", "zero") if name in found]:
        yield from _tensor(f"{name}{groups.end}", found[name], (torch.float32,), 2, weight.shape[0])
        if found[name].shape[1] != format.groups(features):
            yield f"{name}{groups.end} has {found[name].shape[1]} groups, not {format.groups(features)}"
    if "bias" in found:
        yield from _tensor(f"bias{groups.end}", found["bias"], (torch.float32,), 1, weight.shape[0])


def _bags(values: Values, tensors: Tensors) -> Iterator[str]:
    yield from _grouped_weights(values, tensors)
    padding = values["bags"].padding_idx
    if padding is not None and not 0 <= padding < tensors["weight"].shape[0]:
        yield f"padding_idx is {padding}"


def _per_channel(tensors: Tensors, channels: int) -> Iterator[str]:
    yield from _tensor("bias", tensors["bias"], (torch.int32,), 1, channels)
    yield from _tensor("multiplier", tensors["multiplier"], (torch.float32,), 1, channels)


def _table(values: Values, tensors: Tensors) -> Iterator[str]:
    yield from _tensor("table", tensors["table"], BYTES, 1, 256)


def _prelu(values: Values, tensors: Tensors) -> Iterator[str]:
    yield from _tensor("slopes", tensors["slopes"], (torch.float32,), 1)


def _norm(values: Values, tensors: Tensors) -> Iterator[str]:
    for name, tensor in tensors.items():
        if tensor.dtype != torch.float32:
            yield f"{name} is {tensor.dtype}"
    if len({tensor.shape for tensor in tensors.values()}) > 1:
        yield "weight and bias differ in shape"
    yield from (f"scale_x is {scale}" for scale in [values["scale_x"]] if not 0 < scale < math.inf)


def _layer_norm(values: Values, tensors: Tensors) -> Iterator[str]:
    shape = values["normalized_shape"]
    yield from _norm(values, tensors)
    yield from _at_least(1, "normalized_shape", (len(shape), *shape))
    if any(tuple(tensor.shape) != shape for tensor in tensors.values()):
        yield f"weight or bias is not of shape {shape[:8]}"


def _group_norm(values: Values, tensors: Tensors) -> Iterator[str]:
    yield from _norm(values, tensors)
    yield from _at_least(1, "groups", (values["groups"],))
    yield from (f"{name} has {tensor.ndim} dimensions" for name, tensor in tensors.items() if tensor.ndim != 1)


def _pool(values: Values, tensors: Tensors) -> Iterator[str]:
    geometry = values["geometry"]
    yield from _spatial(len(geometry.kernel), geometry.stride, geometry.padding, geometry.dilation or geometry.kernel)
    yield from _at_least(1, "kernel, stride and dilation", (*geometry.kernel, *geometry.stride, *geometry.dilation))
    yield from _at_least(0, "padding", geometry.padding)
    if "divisor" in values and values["divisor"].override is not None:
        yield from _at_least(1, "divisor", (values["divisor"].override,))


def _adaptive_pool(values: Values, tensors: Tensors) -> Iterator[str]:
    sizes = values["output_size"]
    yield from _spatial(len(sizes))
    yield from _at_least(1, "output_size", [size for size in sizes if size is not None])


def _fixed_point(values: Values, tensors: Tensors) -> Iterator[str]:
    if not 1 <= values["shift"] <= 31:
        yield f"shift is {values['shift']}"


def _interface(values: Values, tensors: Tensors) -> Iterator[str]:
    yield from _tensor("scale", tensors["scale"], (torch.float32,), 0)
    yield from _tensor("zero_point", tensors["zero_point"], (torch.int32,), 0)


def _spatial(rank: int, *others: Sequence[Any]) -> Iterator[str]:
    if not 1 <= rank <= 3:
        yield f"{rank} spatial dimensions"
    if any(len(other) != rank for other in others):
        yield f"a geometry that has not {rank} numbers everywhere"


def _at_least(least: int, name: str, numbers: Iterable[int]) -> Iterator[str]:
    yield from (f"{name} has a {number}" for number in numbers if number < least)


def _tensor(name: str, tensor: Tensor, dtypes: tuple[torch.dtype, ...], rank: int, count: int | None = None) -> Iterator[str]:
    """Args: count: length of the first dimension; None: any."""
    if tensor.dtype not in dtypes or tensor.ndim != rank or (count is not None and tensor.shape[0] != count):
        length = "" if count is None else f" and {count} elements"
        yield f"{name} is {tensor.dtype} {tuple(tensor.shape)[:8]}, and not {dtypes[0]} of {rank} dimensions{length}"


_CHECKS: Mapping[type[IntegerOp], Callable[[Values, Tensors], Iterator[str]]] = {
    Conv: _conv,
    ConvTranspose: _conv_transpose,
    Linear: _linear,
    DynamicLinear: _dynamic_linear,
    DynamicConv: _dynamic_conv,
    DynamicRNN: _recurrent,
    DynamicRNNCell: _recurrent,
    WeightOnlyLinear: _grouped_weights,
    WeightOnlyEmbedding: _grouped_weights,
    WeightOnlyEmbeddingBag: _bags,
    WeightOnlyRNN: _weight_only_recurrent,
    WeightOnlyRNNCell: _weight_only_recurrent,
    Table: _table,
    PRelu: _prelu,
    LayerNorm: _layer_norm,
    GroupNorm: _group_norm,
    MaxPool: _pool,
    AvgPool: _pool,
    AdaptiveMaxPool: _adaptive_pool,
    AdaptiveAvgPool: _adaptive_pool,
    AddFixedPoint: _fixed_point,
    QTensorEntry: _interface,
    QTensorExit: _interface,
}

"""Integer ops as records: an op is the arguments of its class. Numbers among them are JSON, tensors are tensors of the file.

There is no list of fields here: names and types of the arguments are those of `__init__`, and an op has each as an attribute of its name.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from typing import Any, get_args, get_origin, get_type_hints

from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError, create_model
from pydantic_core import to_jsonable_python
from torch import Tensor

from fxq.errors import FxqError
from fxq.files.objections import objection_to
from fxq.runtime.dynamic.conv import DynamicConv
from fxq.runtime.dynamic.linear import DynamicLinear
from fxq.runtime.dynamic.recurrent import DynamicRNN, DynamicRNNCell
from fxq.runtime.integer.binary import Add, AddFixedPoint, Mul, Operand, Sub
from fxq.runtime.integer.conv import Conv
from fxq.runtime.integer.conv_transpose import ConvTranspose
from fxq.runtime.integer.elementwise import PRelu
from fxq.runtime.integer.linear import Linear
from fxq.runtime.integer.matmul import MatMul
from fxq.runtime.integer.module import IntegerOp
from fxq.runtime.integer.norm import GroupNorm, LayerNorm
from fxq.runtime.integer.pool import AdaptiveAvgPool, AdaptiveMaxPool, AvgPool, MaxPool, Mean, Sum
from fxq.runtime.integer.resize import Bilinear, Nearest
from fxq.runtime.integer.softmax import Softmax
from fxq.runtime.integer.table import Table
from fxq.runtime.interface import QTensorEntry, QTensorExit
from fxq.runtime.weight_only.embedding import WeightOnlyEmbedding, WeightOnlyEmbeddingBag
from fxq.runtime.weight_only.linear import WeightOnlyLinear
from fxq.runtime.weight_only.recurrent import WeightOnlyRNN, WeightOnlyRNNCell

INTEGER_OPS: tuple[type[IntegerOp], ...] = (
    Conv, ConvTranspose, Linear, MatMul, Add, Sub, AddFixedPoint, Mul, Table, PRelu, Softmax, LayerNorm, GroupNorm,
    MaxPool, AdaptiveMaxPool, AvgPool, AdaptiveAvgPool, Mean, Sum, Nearest, Bilinear, QTensorEntry, QTensorExit,
    DynamicLinear, DynamicConv, DynamicRNN, DynamicRNNCell, WeightOnlyLinear, WeightOnlyEmbedding, WeightOnlyEmbeddingBag,
    WeightOnlyRNN, WeightOnlyRNNCell,
)  # fmt: skip


# arguments that an op does not keep as they were given
_AS_GIVEN: Mapping[tuple[type[IntegerOp], str], Callable[[Any], Any]] = {
    (Sub, "b"): lambda op: Operand(op.b.zero_point, -op.b.ratio),
}


class Unbuildable(Exception):
    """A record is of no op. The message says why."""


@dataclass(frozen=True, eq=False)
class Arguments:
    """The arguments of an integer op.

    Attributes:
        values: those that are JSON.
        tensors: those that are tensors; argument that are several tensors have the names of these.
    """

    values: dict[str, JsonValue]
    tensors: Mapping[str, Tensor]


@dataclass(frozen=True)
class _Parameter:
    """A parameter of a class.

    Attributes:
        group: class that bundles tensors, and how they are called there; None for a tensor alone or JSON.
        tensors: names of the tensors in it; of the first one there always is one.
        values: name → type of what is JSON in it.
        is_mapping: there are several groups, each with a key, which the names of its tensors end in.
    """

    name: str
    group: type | None
    tensors: tuple[str, ...]
    values: Mapping[str, Any]
    is_mapping: bool = False

    def keys(self, tensors: Iterable[str]) -> list[str]:
        """Of a mapping: the keys that the names of tensors end in."""
        start = f"{self.tensors[0]}_"
        return [name.removeprefix(start) for name in tensors if name.startswith(start)]

    def tensor_names(self, given: Iterable[str]) -> Iterator[str]:
        """The names that tensors may have, where those that are given are there."""
        if not self.is_mapping:
            return iter(self.tensors)
        return (f"{name}_{key}" for key in self.keys(given) for name in self.tensors)


@cache
def ops_by_class_name() -> Mapping[str, type[IntegerOp]]:
    """Name of the class → row of INTEGER_OPS."""
    return {kind.__name__: kind for kind in INTEGER_OPS}


def arguments_of(op: IntegerOp) -> Arguments:
    """What the op was built from."""
    values: dict[str, JsonValue] = {}
    tensors: dict[str, Tensor] = {}
    for parameter in _parameters()[type(op)]:
        given = _given(op, parameter.name)
        if parameter.is_mapping:
            held = {f"{name}_{key}": getattr(group, name) for key, group in given.items() for name in parameter.tensors}
            tensors.update((name, tensor) for name, tensor in held.items() if tensor is not None)
            continue
        parts = vars(given) if parameter.group else {parameter.name: given}
        tensors.update((name, parts[name]) for name in parameter.tensors if parts[name] is not None)
        values.update((name, to_jsonable_python(parts[name], inf_nan_mode="strings")) for name in parameter.values)
    return Arguments(values, tensors)


def _given(op: IntegerOp, name: str) -> Any:
    as_given = _AS_GIVEN.get((type(op), name))
    return getattr(op, name) if as_given is None else as_given(op)


def build_op(name: str, given: Arguments) -> IntegerOp:
    """The op that the arguments are of.

    Raises:
        Unbuildable: there is no such op, or the arguments do not fit it or each other.
    """
    kind = ops_by_class_name().get(name)
    if kind is None:
        raise Unbuildable(f"there is no integer op {name[:100]!r}")
    try:
        values = dict(_models()[kind].model_validate(given.values))
        unknown = given.tensors.keys() - {name for parameter in _parameters()[kind] for name in parameter.tensor_names(given.tensors)}
        objection = f"{name} has no tensor {sorted(unknown)[0][:100]!r}" if unknown else objection_to(kind, values, given.tensors)
        if objection is not None:
            raise Unbuildable(objection)
        return kind(**{parameter.name: _argument(parameter, values, given.tensors) for parameter in _parameters()[kind]})
    except ValidationError as error:
        raise Unbuildable(f"{name}: {_first(error)}") from error
    except (FxqError, KeyError) as error:
        raise Unbuildable(f"{name}: {error}") from error


def _first(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False)[0]
    return f"{'.'.join(map(str, first['loc']))[:200]}: {first['msg'][:200]}"


def _argument(parameter: _Parameter, values: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Any:
    if parameter.group is None:
        return tensors[parameter.name] if parameter.tensors else values[parameter.name]
    if parameter.is_mapping:
        groups = {key: {name: tensors.get(f"{name}_{key}") for name in parameter.tensors} for key in parameter.keys(tensors)}
        return {key: parameter.group(**group) for key, group in groups.items()}
    held = {name: tensors.get(name) for name in parameter.tensors}
    return parameter.group(**held, **{name: values[name] for name in parameter.values})


@cache
def _models() -> Mapping[type[IntegerOp], type[BaseModel]]:
    """Class → a pydantic model of its arguments that are JSON."""
    return {kind: _model_of(kind) for kind in INTEGER_OPS}


def _model_of(kind: type[IntegerOp]) -> type[BaseModel]:
    defaults = {name: each.default for name, each in inspect.signature(kind).parameters.items() if each.default is not each.empty}
    given = {name: (hint, defaults.get(name, ...)) for parameter in _parameters()[kind] for name, hint in parameter.values.items()}
    return create_model(kind.__name__, __config__=ConfigDict(extra="forbid"), **given)  # type: ignore[call-overload,no-any-return]


@cache
def _parameters() -> Mapping[type[IntegerOp], tuple[_Parameter, ...]]:
    """Class → the parameters of its constructor."""
    return {kind: tuple(_parameters_of(kind)) for kind in INTEGER_OPS}


def _parameters_of(kind: type[IntegerOp]) -> Iterator[_Parameter]:
    hints = get_type_hints(kind.__init__)
    yield from (_parameter(name, hints[name]) for name in inspect.signature(kind).parameters)


def _parameter(name: str, hint: Any) -> _Parameter:
    if hint is Tensor:
        return _Parameter(name, None, (name,), {})
    if get_origin(hint) is Mapping:
        group = get_args(hint)[1]
        return _Parameter(name, group, tuple(_tensor_fields(group)), {}, is_mapping=True)
    tensors = tuple(_tensor_fields(hint))
    if not tensors:
        return _Parameter(name, None, (), {name: hint})
    hints = get_type_hints(hint)
    return _Parameter(name, hint, tensors, {each.name: hints[each.name] for each in fields(hint) if each.name not in tensors})


def _tensor_fields(hint: Any) -> Iterator[str]:
    if is_dataclass(hint):
        hints = get_type_hints(hint)
        yield from (each.name for each in fields(hint) if hints[each.name] in (Tensor, Tensor | None))

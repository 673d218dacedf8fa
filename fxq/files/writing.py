"""FxqModule → what a file holds. Everything is checked here, before a file is touched."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor, nn
from torch.fx import Node

from fxq.files.container import Contents
from fxq.files.float_modules import FLOAT_MODULES, Unrebuildable, module_arguments, state_paths
from fxq.files.functions import ATTRIBUTES, functions_by_name, methods
from fxq.files.integer_ops import INTEGER_OPS, arguments_of
from fxq.files.refusals import refuse, refuse_function, refuse_hooks, refuse_module, refuse_value
from fxq.files.schema import (
    DTYPES,
    MOST_LEVELS,
    Document,
    FloatRecord,
    GraphRecord,
    HeldRecord,
    IntegerRecord,
    MeaningRecord,
    ModelRecord,
    ModuleRecord,
    NodeKind,
    NodeRecord,
    OperandRecord,
    OriginalRecord,
    PreservedRecord,
    ProfileRecord,
    QParamsRecord,
    QuantRecord,
    RefusalRecord,
    TensorRecord,
    TupleTypeRecord,
    TypeRecord,
    ValueTypeRecord,
    first_fault,
    is_path,
)
from fxq.files.values import UnknownValue, to_json
from fxq.graph.annotation import (
    Meaning,
    NodeQuant,
    TensorType,
    ValueType,
    meaning_of,
    origins_of,
    quant_of,
    refusals_of,
    type_of,
    was_seen_writing,
    whole_reason_of,
)
from fxq.graph.constants import owner_of, tensor_at
from fxq.graph.module import FxqModule
from fxq.graph.names import join_path, qualified_name
from fxq.graph.ops import call_of
from fxq.graph.profile import BackendProfile
from fxq.graph.qtypes import QParams
from fxq.runtime.integer.module import IntegerOp

_DTYPE_NAMES = {dtype: name for name, dtype in DTYPES.items()}


@dataclass(frozen=True, eq=False)
class _Job:
    """One save.

    Attributes:
        known: functions and classes that the reader will be given, by name.
        tensors: name → tensor of the file.
    """

    known: Mapping[str, Any]
    tensors: dict[str, Tensor] = field(default_factory=dict)
    _names: dict[int, str] = field(default_factory=dict)
    _kept: list[Tensor] = field(default_factory=list)

    def store(self, name: str, tensor: Tensor) -> str:
        """The name of the tensor in the file; one that is there already keeps its own."""
        if id(tensor) in self._names:
            return self._names[id(tensor)]
        if tensor.layout is not torch.strided or tensor.is_meta or tensor.is_quantized or tensor.dtype not in _DTYPE_NAMES:
            found = f"{tensor.layout} {tensor.dtype} on {tensor.device}"
            raise refuse(f"tensor {name}", found, "a dense tensor of numbers", "make it a plain tensor, or compute it in forward")
        unique, number = name, 0
        while unique in self.tensors:
            number += 1
            unique = f"{name}~{number}"
        self._names[id(tensor)] = unique
        self._kept.append(tensor)  # so that no other tensor gets its id
        self.tensors[unique] = tensor.detach().cpu().contiguous().clone(memory_format=torch.contiguous_format)
        return unique


def contents_of(model: FxqModule, known: Mapping[str, Any], writer: str) -> Contents:
    """All of a model as records and tensors.

    Args:
        known: functions and classes that the reader will be given, by qualified name.
        writer: noted in the file.

    Raises:
        FileError: something in it has no form in a file; names it, where it is, and what to do.
    """
    job = _Job(known)
    try:
        return Contents(_document(model, job, writer), job.tensors)
    except ValidationError as error:
        remedy = "give modules shorter names and fewer levels, or save its parts one by one"
        raise refuse("the model", first_fault(error), "names and levels as files have them", remedy) from error


def _document(model: FxqModule, job: _Job, writer: str) -> Document:
    record = _model_record(model, job, "")
    tensors = tuple(TensorRecord(name=name, dtype=_DTYPE_NAMES[each.dtype], shape=tuple(each.shape)) for name, each in job.tensors.items())
    return Document(writer=writer, tensors=tensors, model=record)


def _model_record(model: FxqModule, job: _Job, path: str) -> ModelRecord:
    refuse_hooks(model, path)
    preserved = {name: getattr(model, name) for name in model.preserved}
    called: dict[str, Node | None] = {}
    for node in model.graph.find_nodes(op="call_module"):
        called.setdefault(str(node.target), node)
    for name in (name for name, value in preserved.items() if isinstance(value, nn.Module)):
        called.setdefault(name, None)
    reads = dict.fromkeys(str(node.target) for node in model.graph.find_nodes(op="get_attr"))
    reads |= dict.fromkeys(name for name, value in preserved.items() if isinstance(value, Tensor))
    return ModelRecord(
        stage=model.stage.name,
        profile=_profile_record(model.profile),
        path=model.path,
        training=model.training,
        interface=model.interface,
        nodes=tuple(_node_record(node, job, path) for node in model.graph.nodes),
        tensors=tuple(_held_by(model, name, job, path) for name in reads),
        modules=tuple(_module_record(model, node, job, path, name) for name, node in called.items()),
        preserved=tuple(_preserved_record(name, value) for name, value in preserved.items()),
        originals=tuple(_originals(model, job)),
    )


# --- nodes -----------------------------------------------------------------------------------------------------------------

_KINDS: Mapping[str, NodeKind] = {"placeholder": "input", "get_attr": "tensor", "call_module": "module", "output": "output"}


@dataclass(frozen=True)
class _Target:
    """What a node is or calls.

    Attributes:
        given: how many of its arguments the name stands for.
    """

    kind: NodeKind
    name: str
    given: int = 0


def _node_record(node: Node, job: _Job, path: str) -> NodeRecord:
    target = _target(node, job)
    quant = quant_of(node)
    try:
        args = tuple(map(to_json, (*node.args[:1], *node.args[1 + target.given :])))
        kwargs = {name: to_json(value) for name, value in node.kwargs.items()}
        meaning = _meaning_record(meaning_of(node))
    except UnknownValue as error:
        raise refuse_value(node, str(error)) from error
    return NodeRecord(
        name=node.name,
        kind=target.kind,
        target=target.name,
        args=args,
        kwargs=kwargs,
        type=_type_record(type_of(node)),
        origins=origins_of(node),
        quant=None if quant is None else _quant_record(quant, job, join_path(path, node.name)),
        meaning=meaning,
        refusals=tuple(RefusalRecord(rule=rule, reason=reason) for rule, reason in refusals_of(node)),
        whole=whole_reason_of(node),
        writes=was_seen_writing(node),
    )


def _target(node: Node, job: _Job) -> _Target:
    """Raises FileError for a function, method or attribute that is in no table."""
    call = call_of(node)
    if call is not None:
        return _Target("op", call.op.name)
    if node.op in _KINDS:
        return _Target(_KINDS[node.op], str(node.target))
    if node.op == "call_method":
        if node.target in methods():
            return _Target("method", str(node.target))
    elif node.target is getattr:
        if len(node.args) == 2 and node.args[1] in ATTRIBUTES:
            return _Target("attribute", str(node.args[1]), given=1)
    else:
        name = qualified_name(node.target)
        if name in job.known or name in functions_by_name():
            return _Target("known" if name in job.known else "function", name)
    raise refuse_function(node)


def _meaning_record(meaning: Meaning | None) -> MeaningRecord | None:
    if meaning is None:
        return None
    constants = {name: to_json(value) for name, value in meaning.constants.items()}
    return MeaningRecord(op=meaning.op, inputs=meaning.inputs, constants=constants)


def _type_record(value: ValueType) -> ValueTypeRecord:
    if isinstance(value, TensorType):
        return TypeRecord(dtype=_dtype_name(value.dtype), shape=value.shape)
    return None if value is None else TupleTypeRecord(items=tuple(map(_type_record, value)))


def _dtype_name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _quant_record(quant: NodeQuant, job: _Job, place: str) -> QuantRecord:
    return QuantRecord(
        inputs=tuple(OperandRecord(name=name, spec=spec) for name, spec in quant.inputs.items()),
        output=quant.output,
        group=quant.group,
        rule=quant.rule,
        reason=quant.reason,
        qparams=_qparams_record(quant.qparams, job, f"{place}.qparams"),
        weight=_qparams_record(quant.weight, job, f"{place}.weight"),
        format=quant.format,
    )


def _qparams_record(qparams: QParams | None, job: _Job, place: str) -> QParamsRecord | None:
    if qparams is None:
        return None
    if qparams.scale.ndim == 0:
        return QParamsRecord(spec=qparams.spec, scale=float(qparams.scale), zero_point=int(qparams.zero_point))
    scale, zero_point = (job.store(f"@{place}.{name}", getattr(qparams, name)) for name in ("scale", "zero_point"))
    return QParamsRecord(spec=qparams.spec, scale=scale, zero_point=zero_point)


# --- modules and tensors ---------------------------------------------------------------------------------------------------


def _module_record(model: FxqModule, node: Node | None, job: _Job, path: str, name: str) -> ModuleRecord:
    """Args: node: that calls it; None where it is only preserved."""
    module, place = model.get_submodule(name), join_path(path, name)
    _require_path(name, place)
    refuse_hooks(module, place)
    if isinstance(module, FxqModule):
        return GraphRecord(kind="graph", path=name, model=_model_record(module, job, place))
    if isinstance(module, IntegerOp) and type(module) in INTEGER_OPS:
        given = arguments_of(module)
        held = (_held(tensor, each, job, place) for each, tensor in given.tensors.items())
        return IntegerRecord(kind="integer", path=name, op=type(module).__name__, arguments=given.values, tensors=tuple(held))
    if type(module) in FLOAT_MODULES:
        try:
            arguments = module_arguments(module)
        except Unrebuildable as error:
            raise refuse_module(module, node, place, str(error)) from error
        tensors = tuple(_held_by(module, each, job, place) for each in state_paths(module))
        kind = qualified_name(type(module))
        return FloatRecord(kind="float", path=name, module=kind, arguments=arguments, tensors=tensors, training=module.training)
    raise refuse_module(module, node, place, "it is no module that files have a form for")


def _held_by(owner: nn.Module, name: str, job: _Job, path: str) -> HeldRecord:
    """The tensor at a path below a module, and what it is there."""
    holder, own_name = owner_of(owner, name), name.rpartition(".")[2]
    tensor = tensor_at(owner, name)
    is_parameter = own_name in holder._parameters
    flags = {"is_parameter": is_parameter, "requires_grad": is_parameter and tensor.requires_grad}
    return _held(tensor, name, job, path).model_copy(update=flags)


def _held(tensor: Tensor, name: str, job: _Job, path: str) -> HeldRecord:
    place = join_path(path, name)
    _require_path(name, place)
    return HeldRecord(path=name, tensor=job.store(place, tensor))


def _require_path(name: str, place: str) -> None:
    if not is_path(name):
        expected = f"at most {MOST_LEVELS} names of letters, digits and the like, without quotes"
        raise refuse(place[:1000], repr(name)[:1000], expected, "give the module another name, or another place")


def _preserved_record(name: str, value: Any) -> PreservedRecord:
    if isinstance(value, nn.Module | Tensor):
        return PreservedRecord(name=name, is_held=True)
    try:
        return PreservedRecord(name=name, is_held=False, value=to_json(value))
    except UnknownValue as error:
        remedy = f"leave {name} out of set_preserved_attributes"
        raise refuse(f"preserved attribute {name}", str(error), "a number, a string or a tensor", remedy) from error


def _profile_record(profile: BackendProfile | None) -> ProfileRecord | None:
    if profile is None:
        return None
    return ProfileRecord(
        name=profile.name,
        activations=profile.activations,
        weights=profile.weights,
        ops=tuple(sorted(profile.ops)),
        multiplier_bits=profile.multiplier_bits,
        fixed_point_add=profile.fixed_point_add,
        dynamic=tuple(sorted(profile.dynamic)),
        weight_only=tuple(sorted(profile.weight_only)),
        balanced_weights=profile.balanced_weights,
    )


def _originals(model: FxqModule, job: _Job) -> Iterator[OriginalRecord]:
    for layer, kept in model.original_weights_lookup.items():
        weight = job.store(f"@original.{layer}.weight", kept.weight)
        bias = None if kept.bias is None else job.store(f"@original.{layer}.bias", kept.bias)
        yield OriginalRecord(layer=layer, weight=weight, bias=bias)

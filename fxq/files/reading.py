"""What a file holds → FxqModule. Ops, functions and classes come from tables of fxq, or from the caller; a file only names them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.fx import Graph, Node

from fxq.files.container import Contents
from fxq.files.float_modules import build_module, state_paths
from fxq.files.functions import ATTRIBUTES, functions_by_name, known_function, methods
from fxq.files.integer_ops import Arguments, build_op
from fxq.files.schema import (
    FloatRecord,
    GraphRecord,
    HeldRecord,
    IntegerRecord,
    MeaningRecord,
    ModelRecord,
    ModuleRecord,
    NodeRecord,
    OriginalRecord,
    ProfileRecord,
    QParamsRecord,
    QuantRecord,
    TupleTypeRecord,
    ValueTypeRecord,
    is_identifier,
)
from fxq.files.values import TORCH_DTYPES, from_json
from fxq.graph import annotation
from fxq.graph.annotation import Meaning, NodeQuant, TensorType, ValueType
from fxq.graph.constants import owner_of, tensor_at
from fxq.graph.module import FxqModule, OriginalWeights
from fxq.graph.opdef import OpDef, operand_of
from fxq.graph.ops import ops_by_name
from fxq.graph.profile import BackendProfile
from fxq.graph.qtypes import QParams
from fxq.graph.stages import Stage
from fxq.graph.verify import verify

# what can be in a file
STAGES = (Stage.FUSED, Stage.REFERENCE, Stage.LOWERED)


class Invalid(Exception):
    """The records describe no model. The message says where and why."""


class Unknown(Exception):
    """A file names something of its writer's that its reader was not given.

    Attributes:
        name: of it.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(name)


@dataclass(frozen=True, eq=False)
class Given:
    """What the reader was given besides the file.

    Attributes:
        functions: functions and classes by qualified name.
        ops: canonical ops of the user's.
    """

    functions: Mapping[str, Any]
    ops: tuple[OpDef, ...]


def build_model(contents: Contents, given: Given) -> FxqModule:
    """The model that a file holds.

    Raises:
        Unknown: the file names something that was not given.
        FileError: it needs a library that is not installed.
        Exception: whatever else goes wrong, the file is no model.
    """
    return _Reader(contents.tensors, given).model(contents.document.model)


@dataclass(frozen=True, eq=False)
class _Reader:
    """Reads the models of one file.

    Attributes:
        tensors: name → value.
    """

    tensors: Mapping[str, Tensor]
    given: Given

    def model(self, record: ModelRecord) -> FxqModule:
        """The graph on its modules and tensors, checked like one that was just converted."""
        if record.stage not in Stage.__members__ or Stage[record.stage] not in STAGES:
            raise Invalid(f"the stage {record.stage[:40]!r}")
        root = nn.Module()
        for held in record.tensors:
            _put(root, held.path, self._tensor(held))
        for each in record.modules:
            _put(root, each.path, self._module(each))
        module = FxqModule(root, self._graph(record))
        for kept in record.preserved:
            _keep(module, kept.name, getattr(root, kept.name) if kept.is_held else from_json(kept.value, {}))
        self._describe(module, record)
        verify(module, module.stage, "the file")
        module.code  # noqa: B018, it is generated now: a graph that no code can be written for is no model
        return module

    def _describe(self, module: FxqModule, record: ModelRecord) -> None:
        module.stage, module.profile, module.path = Stage[record.stage], _profile(record.profile), record.path
        module.interface, module.ops = record.interface, self.given.ops
        module.preserved = tuple(kept.name for kept in record.preserved)
        module.training = record.training
        module.original_weights_lookup = {each.layer: self._original(each) for each in record.originals}

    def _original(self, record: OriginalRecord) -> OriginalWeights:
        return OriginalWeights(self._value(record.weight), None if record.bias is None else self._value(record.bias))

    # --- modules and tensors -----------------------------------------------------------------------------------------------

    def _value(self, name: str) -> Tensor:
        if name not in self.tensors:
            raise Invalid(f"the tensor {name[:100]!r}, which the file does not have")
        return self.tensors[name]

    def _tensor(self, held: HeldRecord) -> Tensor:
        value = self._value(held.tensor)
        return nn.Parameter(value, held.requires_grad) if held.is_parameter else value

    def _module(self, record: ModuleRecord) -> nn.Module:
        if isinstance(record, GraphRecord):
            return self.model(record.model)
        if isinstance(record, IntegerRecord):
            return build_op(record.op, Arguments(record.arguments, {held.path: self._value(held.tensor) for held in record.tensors}))
        return self._float_module(record)

    def _float_module(self, record: FloatRecord) -> nn.Module:
        module = build_module(record.module, record.arguments, len(record.tensors))
        if sorted(state_paths(module)) != sorted(held.path for held in record.tensors):
            raise Invalid(f"module {record.path}: the tensors {[held.path for held in record.tensors][:8]}")
        for held in record.tensors:
            value, before = self._tensor(held), tensor_at(module, held.path)
            if value.shape != before.shape or isinstance(value, nn.Parameter) != isinstance(before, nn.Parameter):
                raise Invalid(f"module {record.path}: {held.path} of shape {tuple(value.shape)[:8]}")
            setattr(owner_of(module, held.path), held.path.rpartition(".")[2], value)
        return module.train(record.training)

    # --- nodes -------------------------------------------------------------------------------------------------------------

    def _graph(self, record: ModelRecord) -> Graph:
        kinds = [node.kind for node in record.nodes]
        if kinds.count("output") != 1 or kinds[-1] != "output":
            raise Invalid("a graph that does not end with its only output")
        paths = {held.path for held in record.tensors} | {each.path for each in record.modules}
        graph, nodes = Graph(), dict[str, Node]()
        for each in record.nodes:
            if each.kind in ("tensor", "module") and each.target not in paths:
                raise Invalid(f"node {each.name}: {each.target[:100]!r}, which the file does not have")
            node = self._node(each, graph, nodes)
            if node.name != each.name:
                raise Invalid(f"node {each.name}: a name that is taken")
            self._annotate(node, each)
            nodes[each.name] = node
        return graph

    def _node(self, record: NodeRecord, graph: Graph, nodes: Mapping[str, Node]) -> Node:
        target = _TARGETS[record.kind](record, self.given)
        args = tuple(from_json(value, nodes) for value in record.args)
        kwargs = {name: from_json(value, nodes) for name, value in record.kwargs.items()}
        if not all(map(is_identifier, kwargs)):
            raise Invalid(f"node {record.name}: keywords that are no names")
        if record.kind == "attribute":
            args = (*args[:1], record.target)
        return graph.create_node(_OPCODES[record.kind], target, args, kwargs, name=record.name)

    def _annotate(self, node: Node, record: NodeRecord) -> None:
        annotation.set_type(node, _value_type(record.type))
        annotation.set_origins(node, record.origins)
        if record.quant is not None:
            annotation.set_quant(node, self._quant(record.quant))
        if record.meaning is not None:
            annotation.set_meaning(node, self._meaning(record, record.meaning))
        if record.whole is not None:
            annotation.set_whole_reason(node, record.whole)
        if record.writes:
            annotation.note_writing(node)
        for refusal in record.refusals:
            annotation.note_refusal(node, refusal.rule, refusal.reason)

    def _quant(self, record: QuantRecord) -> NodeQuant:
        inputs = {operand.name: operand.spec for operand in record.inputs}
        qparams, weight = self._qparams(record.qparams), self._qparams(record.weight)
        return NodeQuant(inputs, record.output, record.group, record.rule, record.reason, qparams, weight, record.format)

    def _meaning(self, node: NodeRecord, record: MeaningRecord) -> Meaning | None:
        """None for an op of the writer's own that the reader was not given: its integer form runs without."""
        op = _ops(self.given).get(record.op)
        if op is None:
            return None
        named = {operand_of(name) for name in record.inputs} | set(record.constants)
        if not named <= set(op.operands) or (node.kind == "module" and len(record.inputs) != len(node.args)):
            raise Invalid(f"node {node.name}: the operands {sorted(named)[:8]} of {op.name}")
        return Meaning(record.op, record.inputs, {name: from_json(value, {}) for name, value in record.constants.items()})

    def _qparams(self, record: QParamsRecord | None) -> QParams | None:
        if record is None:
            return None
        if isinstance(record.scale, str) or isinstance(record.zero_point, str):
            return QParams(record.spec, self._value(str(record.scale)), self._value(str(record.zero_point)))
        return QParams.per_tensor(record.scale, record.zero_point, record.spec)


def _keep(module: FxqModule, name: str, value: Any) -> None:
    """Sets an attribute, where the module has none of that name."""
    if name not in module._modules and name not in module._parameters and name not in module._buffers:
        if hasattr(module, name):
            raise Invalid(f"the preserved attribute {name}, which every model has")
        setattr(module, name, value)


def _profile(record: ProfileRecord | None) -> BackendProfile | None:
    if record is None:
        return None
    return BackendProfile(
        record.name,
        record.activations,
        record.weights,
        frozenset(record.ops),
        record.multiplier_bits,
        record.fixed_point_add,
        frozenset(record.dynamic),
        frozenset(record.weight_only),
        record.balanced_weights,
    )


def _put(root: nn.Module, path: str, value: nn.Module | Tensor) -> None:
    """Stores a tensor or module at a path where nothing is: no attribute of a module gives way."""
    *owners, name = path.split(".")
    owner = root
    for each in owners:
        if each not in owner._modules:
            owner.add_module(each, nn.Module())
        owner = owner.get_submodule(each)
    if name in owner._modules or hasattr(owner, name):
        raise Invalid(f"{path}, where there is something already")
    if isinstance(value, nn.Module):
        owner.add_module(name, value)
    elif isinstance(value, nn.Parameter):
        owner.register_parameter(name, value)
    else:
        owner.register_buffer(name, value)


def _value_type(record: ValueTypeRecord) -> ValueType:
    if isinstance(record, TupleTypeRecord):
        return tuple(map(_value_type, record.items))
    return None if record is None else TensorType(record.shape, TORCH_DTYPES[record.dtype])


# --- what a node calls -----------------------------------------------------------------------------------------------------


def _input(record: NodeRecord, given: Given) -> Any:
    if not is_identifier(record.target):
        raise Invalid(f"node {record.name}: an input {record.target[:100]!r}")
    return record.target


def _path(record: NodeRecord, given: Given) -> Any:
    return record.target


def _ops(given: Given) -> Mapping[str, OpDef]:
    """All ops by name; those of fxq have their names to themselves."""
    return {**{op.name: op for op in given.ops}, **ops_by_name()}


def _op(record: NodeRecord, given: Given) -> Any:
    op = _ops(given).get(record.target)
    if op is None:
        raise Unknown(record.target)
    op.signature.bind(*record.args, **record.kwargs)
    return op.call


def _function(record: NodeRecord, given: Given) -> Any:
    if record.target not in functions_by_name():
        raise Invalid(f"node {record.name}: the function {record.target[:100]!r}")
    return known_function(record.target)


def _known(record: NodeRecord, given: Given) -> Any:
    if record.target not in given.functions:
        raise Unknown(record.target)
    return given.functions[record.target]


def _method(record: NodeRecord, given: Given) -> Any:
    if record.target not in methods():
        raise Invalid(f"node {record.name}: the method {record.target[:100]!r}")
    return record.target


def _attribute(record: NodeRecord, given: Given) -> Any:
    if record.target not in ATTRIBUTES or len(record.args) != 1:
        raise Invalid(f"node {record.name}: the attribute {record.target[:100]!r}")
    return getattr


_TARGETS: Mapping[str, Callable[[NodeRecord, Given], Any]] = {
    "input": _input,
    "tensor": _path,
    "module": _path,
    "output": _path,
    "op": _op,
    "function": _function,
    "known": _known,
    "method": _method,
    "attribute": _attribute,
}
_OPCODES = {
    "input": "placeholder",
    "tensor": "get_attr",
    "module": "call_module",
    "output": "output",
    "op": "call_function",
    "function": "call_function",
    "known": "call_function",
    "method": "call_method",
    "attribute": "call_function",
}

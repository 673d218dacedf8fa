"""Why a node cannot be int8, asked of the node alone: its configuration, its op, its operands, the profile."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import nn
from torch.fx import Node

from fxq.graph.annotation import Resolution, TensorType, asks_for, origin_of, resolution_of, tensor_type, whole_reason_of
from fxq.graph.module import FxqModule
from fxq.graph.names import qualified_name
from fxq.graph.objections import changes_rows
from fxq.graph.opdef import Call, Policy, Role, operand_of, role_of
from fxq.graph.ops import call_of
from fxq.graph.profile import BackendProfile
from fxq.graph.reasons import Reason, Why
from fxq.graph.recognise import recognise

# docs/decisions/0013-dynamic.md: a dynamic QConfig for everything leaves these float
_DYNAMIC_WHERE_NAMED = frozenset({"conv"})


@dataclass(frozen=True)
class Refusals:
    """refusal(node): the first objection to quantizing it, or None.

    Attributes:
        module: the fused graph.
        profile: the backend to ask.
        mutated: values that are changed in place → the node that changes them.
    """

    module: FxqModule
    profile: BackendProfile
    mutated: Mapping[Node, Node]

    def refusal(self, node: Node) -> Reason | None:
        """Why the node stays float whatever its neighbours are; None where it may be int8."""
        call = call_of(node)
        if call is None:
            return self._not_canonical(node)
        if call.op.policy is Policy.METADATA:
            return Reason(Why.NO_ELEMENTS, node.name, f"{call.op.name} reads no element")
        return next(self._objections(node, call), None)

    def _not_canonical(self, node: Node) -> Reason | None:
        if node.op in ("placeholder", "get_attr"):
            return Reason(Why.NO_ELEMENTS, node.name, "is an input" if node.op == "placeholder" else "is a constant of the model")
        whole = whole_reason_of(node)
        if whole is None and tensor_type(node) is None and not any(tensor_type(operand) for operand in node.all_input_nodes):
            return Reason(Why.NO_ELEMENTS, node.name, "computes no tensor")
        if node.target is operator.getitem and tensor_type(node.all_input_nodes[0]) is None:
            return Reason(Why.NO_ELEMENTS, node.name, "picks one of several values")
        if node in self.mutated:
            return self._is_mutated(node, node)
        if whole is not None:
            resolution = resolution_of(node)
            unasked = whole.why is Why.CUSTOM and (resolution is None or resolution.qconfig is None)
            return _not_configured(node, resolution) if unasked else whole
        module = self.module.get_submodule(str(node.target)) if node.op == "call_module" else None
        if module is not None and self._takes_whole(node, module):
            return next(self._objections_to_whole(node, module), None)
        return self._under_other_qconfig(node, module) or self._unrecognised(node, module)

    def _unrecognised(self, node: Node, module: nn.Module | None) -> Reason:
        found = recognise(node, module)
        return found if isinstance(found, Reason) else Reason(Why.OPERAND, node.name, "its operands are not all tensors")

    def _takes_whole(self, node: Node, module: nn.Module) -> bool:
        """Whether the module, which is no op, has a form that reads and writes float, and is asked for that."""
        resolution = resolution_of(node)
        if resolution is None or not asks_for(node, float_outside=True):
            return False
        known = self.profile.dynamic if resolution.qconfig.weight_format is None else self.profile.weight_only
        return qualified_name(type(module)) in known

    def _under_other_qconfig(self, node: Node, module: nn.Module | None) -> Reason | None:
        """Why a module is float whose form is one for a QConfig of another kind; None where it has no form at all."""
        name, kind = qualified_name(type(module)), type(module).__name__
        forms = (
            (self.profile.dynamic, "fxq.per_channel_dynamic_qconfig"),
            (self.profile.weight_only, "fxq.float_qparams_weight_only_qconfig"),
        )
        suited = next((qconfig for known, qconfig in forms if name in known), None)
        if suited is None:
            return None
        resolution = resolution_of(node)
        if resolution is None or resolution.qconfig is None:
            return _not_configured(node, resolution)
        return Reason(
            Why.OTHER_QCONFIG, node.name, f"{kind} has no form under this QConfig; set_object_type(nn.{kind}, {suited}) gives it one"
        )

    def _objections_to_whole(self, node: Node, module: nn.Module) -> Iterator[Reason]:
        if isinstance(module, nn.EmbeddingBag):
            changes = changes_rows(node.name, {"max_norm": module.max_norm})
            yield from () if changes is None else (changes,)
            return
        if module.training and isinstance(module, nn.RNNBase) and module.dropout:
            yield Reason(Why.TRAINING, node.name, "drops values at random in training mode; call model.eval() first")
        for operand in node.all_input_nodes:
            found = tensor_type(operand)
            if found is not None and not found.dtype.is_floating_point:
                yield Reason(Why.DTYPE, node.name, f"it reads {operand.name}, which is {found.dtype}")

    def _objections(self, node: Node, call: Call) -> Iterator[Reason]:
        resolution = resolution_of(node)
        if resolution is None or resolution.qconfig is None:
            yield _not_configured(node, resolution)
            return
        is_weight_only = resolution.qconfig.weight_format is not None
        if is_weight_only and call.op.name not in self.profile.weight_only:
            yield Reason(Why.WEIGHT_ONLY, node.name, f"{call.op.name} has no form with weights in few bits")
        objection = call.op.objection(node.name, call.operands)
        if objection is not None:
            yield objection
        if call.op.policy is Policy.FLOAT and not is_weight_only:
            yield Reason(Why.FLOAT_ONLY, node.name, f"{call.op.name} has no integer form")
        yield from (self._is_mutated(node, value) for value in (node, *call.activations.values()) if value in self.mutated)
        yield from _constant_objections(node, call)
        yield from _dtype_objections(node, call, () if is_weight_only else call.op.by_role[Role.ACTIVATION])
        if is_weight_only:
            return
        if resolution.is_default and resolution.qconfig.activation.spec.dynamic and call.op.name in _DYNAMIC_WHERE_NAMED:
            yield _not_by_default(node)
        weight = resolution.qconfig.weight.spec if "weight" in call.operands else None
        refused = self.profile.accepts(node.name, call.op.name, resolution.qconfig.activation.spec, weight)
        if refused is not None:
            yield refused

    def _is_mutated(self, node: Node, value: Node) -> Reason:
        return Reason(Why.MUTATED, node.name, f"{value.name} is changed in place by {self.mutated[value].name}; use the out-of-place form")


def _not_by_default(node: Node) -> Reason:
    origin = origin_of(node)
    kind = "torch.nn.Conv2d" if origin is None else origin.object_type
    costs = "the range of its input, found as it arrives, mostly takes longer than int8 gains, so a QConfig for all leaves it float"
    return Reason(Why.OTHER_QCONFIG, node.name, f'{costs}; a rule of its own, such as set_object_type("{kind}", ...), makes it int8')


def _not_configured(node: Node, resolution: Resolution | None) -> Reason:
    if resolution is not None and resolution.explicit:
        return Reason(Why.SWITCHED_OFF, node.name, f"kept float by {resolution.rule}")
    return Reason(Why.NO_QCONFIG, node.name, "no rule of the QConfigMapping gives it a qconfig")


def _constant_objections(node: Node, call: Call) -> Iterator[Reason]:
    for name, value in call.operands.items():
        if role_of(name) not in (Role.ACTIVATION, Role.ATTRIBUTE) and isinstance(value, Node) and value.op != "get_attr":
            yield Reason(Why.NOT_CONSTANT, node.name, f"its {name} is computed by {value.name}, not a constant of the model")
    computed = {} if call.op.policy is Policy.MOVES else call.nodes(Role.ATTRIBUTE)
    for name, value in computed.items():
        if operand_of(name) not in call.op.computed:
            yield Reason(Why.NOT_CONSTANT, node.name, f"its {name} is computed by {value.name}, not a constant")


def _dtype_objections(node: Node, call: Call, rounded: Iterable[str]) -> Iterator[Reason]:
    for name in rounded:
        yield from _activation_objections(node, call, name, call.operands.get(name))
    result = tensor_type(node)
    if result is None or result.dtype != torch.float32:
        yield Reason(Why.DTYPE, node.name, f"its result is {_not_float32(call, result)}")


def _not_float32(call: Call, found: TensorType | None) -> str:
    """What it is instead, and what to do about a layer of a model in half precision."""
    if found is None:
        return "no tensor, not float32"
    is_half = found.dtype in (torch.float16, torch.bfloat16) and "weight" in call.operands
    remedy = "; a graph is quantized after model.float(), and fxq.quantize_dynamic takes layers of any precision" if is_half else ""
    return f"{found.dtype}, not float32{remedy}"


def _activation_objections(node: Node, call: Call, name: str, value: object) -> Iterator[Reason]:
    for operand in value if isinstance(value, list | tuple) else (value,):
        if operand is None:
            continue
        if isinstance(operand, Node):
            found = tensor_type(operand)
            if found is None or found.dtype != torch.float32:
                yield Reason(Why.DTYPE, node.name, f"its {name} is {_not_float32(call, found)}")
        elif not (call.op.takes_numbers and isinstance(operand, int | float)):
            yield Reason(Why.OPERAND, node.name, f"its {name} is the number {operand}")
